"""Keys of sources and of people: how write keys look, are stored, and are checked; hashed users.

A key is `prn_live_<id 12>_<secret 32>_<crc32 6>` in base62, so that secret scanners find it and a
typing error is told from a revoked key. Only the SHA-256 of the secret is stored: the secret is
random, so a slow hash would protect nothing and cost every request.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, NewType

from shared.messages import Source, WriteKey

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PATTERN = re.compile(r"prn_live_([0-9A-Za-z]{12})_([0-9A-Za-z]{32})_([0-9A-Za-z]{6})")

_MOST_FOUND = 10_000

Secret = NewType("Secret", str)
HashedUser = NewType("HashedUser", str)


class Scope(StrEnum):
    """What a key may do."""

    EVENTS_WRITE = "events:write"
    ACCOUNTS_WRITE = "accounts:write"
    ACCOUNTS_READ = "accounts:read"
    BACKFILL = "backfill"
    ERASE = "erase"
    INTERVENTIONS_READ = "interventions:read"
    INTERVENTIONS_WRITE = "interventions:write"
    SETTINGS_READ = "settings:read"
    SETTINGS_WRITE = "settings:write"


class Refusal(StrEnum):
    """Why a key was not accepted; callers learn only "unknown, expired or revoked".

    `UNREAD`: not all keys are known yet; the same key may be good in a moment.
    """

    MISSING = "missing"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    UNREAD = "unread"
    REVOKED = "revoked"
    EXPIRED = "expired"


class NewKey(NamedTuple):
    secret: Secret
    record: WriteKey


def new_key(
    *, source: str, scopes: Iterable[Scope], now: datetime, expires_at: datetime | None = None
) -> NewKey:
    """A fresh key: the secret is shown once, the record is what is kept."""
    key_id, secret = _random(12), _random(32)
    whole = Secret(f"prn_live_{key_id}_{secret}_{_checksum(key_id, secret)}")
    record = record_of(whole, source=source, scopes=scopes, now=now, expires_at=expires_at)
    return NewKey(whole, record)


def record_of(
    whole: Secret,
    *,
    source: str,
    scopes: Iterable[Scope],
    now: datetime,
    expires_at: datetime | None = None,
) -> WriteKey:
    """What is kept of a key; raises ValueError where `whole` is none."""
    match = _PATTERN.fullmatch(whole)
    if match is None or _checksum(match[1], match[2]) != match[3]:
        raise ValueError("not a key of Perennial")
    return WriteKey(
        key_id=match[1],
        secret_sha256=hashlib.sha256(match[2].encode()).hexdigest(),
        source=source,
        scopes=tuple(sorted(set(scopes))),
        created_at=now,
        expires_at=expires_at,
    )


class KeyRing:
    """All keys of the deployment and their sources in memory, as the `sources` topic tells them."""

    def __init__(self, *, is_complete: bool = True) -> None:
        self.is_complete = is_complete
        self._keys: dict[str, WriteKey] = {}
        self._sources: dict[str, Source] = {}
        self._found: dict[bytes, WriteKey] = {}

    def put(self, record: WriteKey) -> None:
        self._keys[record.key_id] = record

    def remove(self, key_id: str) -> None:
        self._keys.pop(key_id, None)

    def put_source(self, source: Source) -> None:
        self._sources[source.name] = source

    def remove_source(self, name: str) -> None:
        self._sources.pop(name, None)

    def source(self, name: str) -> Source:
        """What is said of a source; one of which nothing is said has no settings."""
        return self._sources.get(name) or Source(name=name)

    def sources(self) -> list[Source]:
        return sorted(self._sources.values(), key=lambda source: source.name)

    def records(self) -> list[WriteKey]:
        return sorted(self._keys.values(), key=lambda key: (key.created_at, key.key_id))

    def check(self, presented: str | None, *, now: datetime) -> WriteKey | Refusal:
        """The key's record, or why it is refused; takes the same time for unknown ids."""
        if not presented:
            return Refusal.MISSING
        # The digest of a key that was found good leads to its record again, without its checks.
        digest = hashlib.sha256(presented.encode("utf-8", "surrogatepass")).digest()
        record = self._found.get(digest)
        if record is None or self._keys.get(record.key_id) is not record:
            found = self._find(presented)
            if isinstance(found, Refusal):
                return found
            if len(self._found) >= _MOST_FOUND:
                self._found.clear()
            record = self._found[digest] = found
        if record.revoked_at is not None:  # Whenever that was: clocks differ.
            return Refusal.REVOKED
        if record.expires_at is not None and record.expires_at <= now:
            return Refusal.EXPIRED
        return record

    def _find(self, presented: str) -> WriteKey | Refusal:
        match = _PATTERN.fullmatch(presented)
        if match is None or _checksum(match[1], match[2]) != match[3]:
            return Refusal.MALFORMED
        record = self._keys.get(match[1])
        expected = record.secret_sha256 if record else _DUMMY
        same = hmac.compare_digest(hashlib.sha256(match[2].encode()).hexdigest(), expected)
        if record is not None and same:
            return record
        return Refusal.UNKNOWN if self.is_complete else Refusal.UNREAD


def bearer(authorization: str | None) -> str | None:
    """The token of an `Authorization: Bearer` header."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def hash_user(deployment_key: bytes, user_id: str) -> HashedUser:
    """A user's name on the log; see `user_hasher`."""
    return user_hasher(deployment_key)(user_id)


def user_hasher(deployment_key: bytes) -> Callable[[str], HashedUser]:
    """Names users on the log: HMAC-SHA256 under the deployment's key, the same in every account.

    128 bits in hex: short in every record, and no two users of a deployment will ever share one.
    The key's two states (RFC 2104) are prepared once: a third of the cost of `hmac.digest`.
    """
    size = hashlib.sha256().block_size
    if len(deployment_key) > size:
        deployment_key = hashlib.sha256(deployment_key).digest()
    padded = deployment_key.ljust(size, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def named(user_id: str) -> HashedUser:
        hashed, whole = inner.copy(), outer.copy()
        hashed.update(user_id.encode("utf-8", "surrogatepass"))
        whole.update(hashed.digest())
        return HashedUser(f"u1:{whole.digest()[:16].hex()}")

    return named


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(key_id: str, secret: str) -> str:
    value = zlib.crc32(f"{key_id}{secret}".encode())
    digits = ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = _ALPHABET[digit] + digits
    return digits


_DUMMY = hashlib.sha256(b"no such key").hexdigest()
