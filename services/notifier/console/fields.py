"""Fields of forms as values; None where they cannot be read."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from fastapi import Request

from services.notifier.console import rights
from services.notifier.domain.access import Viewer

_YEARS = range(2000, 2101)
"""Beyond these, zones and calendars overflow."""
_MAX_LINE = 500
_MAX_TEXT = 4_000

E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A form that was sent off."""

    viewer: Viewer
    key: str | None
    """The same where the very same form is sent again, as by a double click."""

    @property
    def by(self) -> str:
        return self.viewer.address


async def sent(request: Request) -> Sent:
    form = await request.form()
    named = uuid_of(str(form.get("key", "")))
    key = None
    if named is not None:
        # With all that was said: who goes back and says something else takes another step.
        said = repr((request.url.path, request.url.query, sorted(map(str, form.multi_items()))))
        key = f"console:{named}:{hashlib.sha256(said.encode()).hexdigest()[:24]}"
    return Sent(viewer=rights.viewer_of(request), key=key)


def uuid_of(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def choice(kind: type[E], text: str) -> E | None:
    try:
        return kind(text)
    except ValueError:
        return None


def day(text: str) -> date | None:
    try:
        found = date.fromisoformat(text.strip())
    except ValueError:
        return None
    return found if found.year in _YEARS else None


def moment(text: str) -> datetime | None:
    """UTC, as browsers send `datetime-local`."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if found.year not in _YEARS:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def time_of_day(text: str) -> time | None:
    try:
        found = time.fromisoformat(text.strip())
    except ValueError:
        return None
    return found.replace(tzinfo=None)


def line(text: str) -> str | None:
    """One line that PostgreSQL takes; None where nothing is left of it."""
    return "".join(char for char in text if char.isprintable()).strip()[:_MAX_LINE] or None


def lines(text: str) -> str:
    """As `line`, of several."""
    kept = "".join(char for char in text if char.isprintable() or char == "\n")
    return kept.strip()[:_MAX_TEXT]
