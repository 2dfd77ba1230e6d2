"""Links by which a person asks for fewer e-mails, without signing in.

A token is bound to one person and one wish, ends after a year, and shows neither: whoever reads it
in the log of a proxy learns no address. Made as RFC 5297 does it, with HMAC-SHA256 for both
halves: the tag of the plain text is the start of the key stream, so the same wish is the same
token, and a changed token opens to nothing.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import IntEnum

VALID_FOR = timedelta(days=366)
_VERSION = b"\x01"
_TAG_BYTES = 16
_EPOCH = date(2020, 1, 1)
_MOST_CHARACTERS = 400


class Wish(IntEnum):
    """What is asked for."""

    DIGEST = 1
    """No single messages: all in the daily digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    address: str
    wish: Wish


@dataclass(frozen=True, slots=True)
class Key:
    """Derived from a secret of the vendor's; open it with `key_of`."""

    tag: bytes
    hide: bytes

    def __repr__(self) -> str:
        return "Key(...)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Makes the addresses that stand in e-mails."""

    key: Key
    console_url: str

    def digest(self, address: str, *, now: datetime) -> str:
        asked = Asked(address=address, wish=Wish.DIGEST)
        return f"{self.console_url}/unsubscribe/{token(self.key, asked, on=now.date())}"


def key_of(secret: str) -> Key:
    """Other uses of the same secret learn nothing of it."""
    tag, hide = (
        hmac.digest(secret.encode(), b"perennial unsubscribe " + part, hashlib.sha256)
        for part in (b"tag", b"hide")
    )
    return Key(tag, hide)


def token(key: Key, asked: Asked, *, on: date) -> str:
    days = (on - _EPOCH).days
    plain = days.to_bytes(2, "big") + asked.wish.to_bytes(1, "big") + asked.address.encode()
    tag = _tag(key, plain)
    sealed = base64.urlsafe_b64encode(_VERSION + tag + _hidden(key, tag, plain)).decode()
    return sealed.rstrip("=")


def read(key: Key, text: str, *, today: date) -> Asked | None:
    """What was asked for; None where the token is not one of ours, or too old."""
    if len(text) > _MOST_CHARACTERS:
        return None
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    version, tag, hidden = raw[:1], raw[1 : 1 + _TAG_BYTES], raw[1 + _TAG_BYTES :]
    plain = _hidden(key, tag, hidden)
    if version != _VERSION or not hmac.compare_digest(tag, _tag(key, plain)):
        return None
    made = _EPOCH + timedelta(days=int.from_bytes(plain[:2], "big"))
    if today - made > VALID_FOR:
        return None
    return Asked(address=plain[3:].decode(), wish=Wish(plain[2]))


def _tag(key: Key, plain: bytes) -> bytes:
    return hmac.digest(key.tag, _VERSION + plain, hashlib.sha256)[:_TAG_BYTES]


def _hidden(key: Key, tag: bytes, text: bytes) -> bytes:
    """`text` with the key stream that begins at `tag`; twice is the text again."""
    blocks = -(-len(text) // hashlib.sha256().digest_size)
    stream = b"".join(
        hmac.digest(key.hide, tag + number.to_bytes(2, "big"), hashlib.sha256)
        for number in range(blocks)
    )
    return bytes(one ^ other for one, other in zip(text, stream, strict=False))
