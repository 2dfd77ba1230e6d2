"""Passwords by scrypt: slow and hungry on purpose, so never on the event loop and few at once.

32 MiB and three rounds are one of the settings that OWASP's password storage sheet calls equal to
128 MiB once; the stored text says with which it was made, so that they can be raised.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FEWEST: Final = 12
LONGEST: Final = 1_000
_SALT_BYTES = 16
_HASH_BYTES = 32
_AT_ONCE = 2

# What is longer than `FEWEST` and yet the first that anybody tries; compared without case, and
# without the digits and signs at the end.
_COMMON: Final = frozenset(
    {
        "password", "passwordpassword", "passwort", "passwortpasswort", "passw0rd", "p@ssw0rd",
        "p@ssword", "motdepasse", "contraseña", "contrasena", "wachtwoord", "qwerty", "qwertyuiop",
        "qwertyuiopasdf", "qwertyqwerty", "qwertzuiop", "qwertzuiopü", "azertyuiop", "asdfghjkl",
        "asdfghjklqwertyuiop", "zxcvbnm", "1q2w3e4r5t6y", "1qaz2wsx3edc", "1qaz2wsx3edc4rfv",
        "iloveyou", "iloveyouiloveyou", "administrator", "admin", "adminadmin", "adminadminadmin",
        "welcome", "welcomewelcome", "letmein", "letmeinletmein", "changeme", "changemechangeme",
        "changethis", "default", "secret", "secretsecret", "topsecret", "perennial",
        "perennialperennial", "customersuccess", "correcthorsebatterystaple",
        "correct horse battery staple", "trustno", "superman", "sunshine", "princess", "football",
        "baseball", "monkey", "dragon", "abcdefghijkl", "abcdefghijklm", "abcdefghijklmnop",
        "abcdefghijklmnopqrstuvwxyz", "abc", "abcabcabcabc", "testtesttest", "test", "temporary",
        "summer", "winter", "spring", "autumn",
    }
)  # fmt: skip
_ROW: Final = "0123456789" * 20


class Weak(StrEnum):
    """Why a password cannot be chosen."""

    SHORT = "short"
    LONG = "long"
    COMMON = "common"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cost:
    log2_n: int
    r: int
    p: int

    def derive(self, password: str, salt: bytes) -> bytes:
        n = 1 << self.log2_n
        return hashlib.scrypt(
            _bytes(password),
            salt=salt,
            n=n,
            r=self.r,
            p=self.p,
            maxmem=128 * self.r * (2 * n + self.p + 2),
            dklen=_HASH_BYTES,
        )


_COST: Final = _Cost(log2_n=15, r=8, p=3)


class Passwords:
    """Makes and checks them, `_AT_ONCE` in threads; the others wait their turn."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._nobodys = _text(_COST, secrets.token_bytes(_SALT_BYTES), bytes(_HASH_BYTES))

    async def make(self, password: str) -> str:
        salt = secrets.token_bytes(_SALT_BYTES)
        async with self._turn:
            return _text(_COST, salt, await asyncio.to_thread(_COST.derive, password, salt))

    async def is_right(self, password: str, stored: str | None) -> bool:
        """As slow where there is none to compare with: the time tells nobody who has one."""
        cost, salt, wanted = _read(stored or self._nobodys)
        # Counted as `why_weak` counts it: composed, else a long one could be chosen and never used.
        typed = unicodedata.normalize("NFKC", password)[:LONGEST]
        async with self._turn:
            found = await asyncio.to_thread(cost.derive, typed, salt)
        return hmac.compare_digest(found, wanted) and stored is not None


def is_outdated(stored: str) -> bool:
    """Whether it was made with other settings than those of today."""
    return _read(stored)[0] != _COST


def why_weak(password: str, *, address: str) -> Weak | None:
    plain = unicodedata.normalize("NFKC", password)
    if len(plain) < FEWEST:
        return Weak.SHORT
    if len(plain) > LONGEST:
        return Weak.LONG
    known = plain.casefold()
    stem = known.rstrip("0123456789!?.,;:*#$%&-_+= ")
    is_row = known in _ROW or known in _ROW[::-1]
    if stem in _COMMON or is_row or len(set(known)) <= 2 or known == address.casefold():
        return Weak.COMMON
    return None


def _bytes(password: str) -> bytes:
    """The same however a keyboard composes its letters."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


def _text(cost: _Cost, salt: bytes, found: bytes) -> str:
    parts = (base64.b64encode(one).decode() for one in (salt, found))
    return "$".join(("scrypt", f"{cost.log2_n},{cost.r},{cost.p}", *parts))


def _read(stored: str) -> tuple[_Cost, bytes, bytes]:
    """Raises ValueError where it is not one of ours."""
    try:
        kind, cost, salt, found = stored.split("$")
        log2_n, r, p = map(int, cost.split(","))
        decoded = base64.b64decode(salt, validate=True), base64.b64decode(found, validate=True)
    except (ValueError, binascii.Error) as error:
        raise ValueError("a stored password cannot be read") from error
    if kind != "scrypt":
        raise ValueError("a stored password is of a kind that this version does not know")
    return _Cost(log2_n=log2_n, r=r, p=p), *decoded
