"""Where the next page begins: opaque to callers, the last row's sort value and id to us."""

import base64
import binascii
from typing import Annotated

import msgspec
from fastapi import Query

from services.notifier.api.refusals import refused

MOST_ROWS = 500

Limit = Annotated[int, Query(ge=1, le=MOST_ROWS)]
Cursor = Annotated[str | None, Query(max_length=1_000, description="`next_cursor` of a page")]


def cursor_of(*place: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place_of(cursor: str | None, parts: int) -> tuple[str, ...] | None:
    """What `cursor_of` was given; None: the first page."""
    if cursor is None:
        return None
    try:
        content = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        place = msgspec.json.decode(content, type=tuple[str, ...])
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise invalid() from error
    if len(place) != parts:
        raise invalid()
    return place


def number_of(cursor: str | None) -> int | None:
    """The number that a cursor of a numbered list holds."""
    place = place_of(cursor, 1)
    if place is None:
        return None
    if not place[0].isdecimal() or len(place[0]) > 18 or not place[0].isascii():
        raise invalid()
    return int(place[0])


def invalid() -> Exception:
    return refused(422, "invalid_cursor", "the cursor is none that this API gave")
