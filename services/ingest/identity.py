"""Who and what an event is about: ids, accounts, users and types as callers write them."""

from functools import lru_cache

from services.ingest.repair import is_storable
from services.ingest.results import Code
from shared.errors import InvalidMessage

MAX_ID_LENGTH = 200
MAX_TYPE_LENGTH = 100

PLACEHOLDERS = frozenset(
    {"null", "undefined", "none", "nil", "nan", "n/a", "[object object]", "(null)", "<nil>"}
)
USER_PLACEHOLDERS = PLACEHOLDERS | {
    "",
    "0",
    "-1",
    "anonymous",
    "guest",
    "unknown",
    "not_authenticated",
    "true",
    "false",
    "00000000-0000-0000-0000-000000000000",
}
_TO_UNDERSCORE = str.maketrans(" -", "__")


def account_of(value: object, field: str = "account_id") -> str:
    """The account's id; integers become text."""
    if type(value) is str:
        return _account(value, field)
    if value is None:
        raise InvalidMessage(Code.MISSING_ACCOUNT, f"{field} is required")
    if type(value) is int:
        return _account(str(value), field)
    raise InvalidMessage(Code.INVALID_ACCOUNT, f"{field}: must be text or an integer")


def event_id_of(value: object) -> str:
    text = str(value) if type(value) is int else value
    if type(text) is not str or not 0 < len(text) <= MAX_ID_LENGTH:
        raise InvalidMessage(
            Code.INVALID_ID, f"id: must be text of 1 to {MAX_ID_LENGTH} characters"
        )
    return text


def user_of(value: object) -> str | None:
    """The user's id, or None where it is a placeholder."""
    text = str(value) if type(value) is int else value
    if type(text) is not str:
        raise InvalidMessage(Code.INVALID_FIELD, "user_id: must be text or an integer")
    return text if is_user(text) else None


def type_of(value: object) -> str:
    """The type in lower case, with `_` for blank and `-`."""
    if type(value) is str:
        if len(value) > 2 * MAX_TYPE_LENGTH:  # Before the cache: blanks around it cost memory too.
            raise _type_too_long()
        return _type(value)
    if value is None:
        raise InvalidMessage(Code.MISSING_TYPE, "type is required")
    raise InvalidMessage(Code.INVALID_TYPE, "type: must be text")


# The same accounts and types come again and again: each is looked at once. A value that is refused
# raises, and so is never remembered.


@lru_cache(maxsize=32_768)
def _account(text: str, field: str) -> str:
    plain = text.strip().lower()
    if not plain:
        raise InvalidMessage(Code.MISSING_ACCOUNT, f"{field} is empty")
    if not is_storable(text):
        raise InvalidMessage(Code.INVALID_TEXT, f"{field}: holds NUL or half a character")
    if len(text) > MAX_ID_LENGTH:
        raise InvalidMessage(
            Code.INVALID_ACCOUNT, f"{field}: must have at most {MAX_ID_LENGTH} characters"
        )
    if plain in PLACEHOLDERS:
        raise InvalidMessage(Code.INVALID_ACCOUNT, f"{field}: is a placeholder, not an account")
    return text


def is_user(text: str) -> bool:
    """False for a placeholder; raises InvalidMessage where it can be no id at all."""
    if not is_storable(text):
        raise InvalidMessage(Code.INVALID_TEXT, "user_id: holds NUL or half a character")
    if len(text) > MAX_ID_LENGTH:
        raise InvalidMessage(
            Code.INVALID_FIELD, f"user_id: must have at most {MAX_ID_LENGTH} characters"
        )
    return text.strip().lower() not in USER_PLACEHOLDERS


@lru_cache(maxsize=4096)
def _type(text: str) -> str:
    normal = text.strip().lower().translate(_TO_UNDERSCORE)
    if not normal:
        raise InvalidMessage(Code.MISSING_TYPE, "type is empty")
    if not is_storable(normal):
        raise InvalidMessage(Code.INVALID_TEXT, "type: holds NUL or half a character")
    if len(normal) > MAX_TYPE_LENGTH:
        raise _type_too_long()
    return normal


def _type_too_long() -> InvalidMessage:
    return InvalidMessage(
        Code.INVALID_TYPE, f"type: must have at most {MAX_TYPE_LENGTH} characters"
    )
