"""What became of the events of a source that name no account, and whether its plan is to blame."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

_MOST: Final = 0.5
_FEWEST: Final = 20
"""Fewer say nothing of a tracking plan."""


class Trouble(StrEnum):
    """What is wrong with how a source names its accounts."""

    MOSTLY_LOST = "mostly_lost"
    """Most of its events without an account find none."""
    MOSTLY_GUESSED = "mostly_guessed"
    """Most find one, but no `group` call says which of a user's accounts it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fates:
    """How many events came to which end in a span of time; the names are those of the table.

    An event that has waited is among `waiting`, those that began to, and again at its end.
    """

    only_account: int = 0
    group_call: int = 0
    last_activity: int = 0
    first_stated: int = 0
    waiting: int = 0
    late: int = 0
    full: int = 0
    erased: int = 0

    @property
    def placed(self) -> int:
        return self.only_account + self.group_call + self.guessed

    @property
    def guessed(self) -> int:
        return self.last_activity + self.first_stated

    @property
    def given_up(self) -> int:
        return self.late + self.full


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePlacing:
    """A source's events that name no account: their ends, and those that wait now."""

    source: str
    day: Fates = Fates()
    """Of the last 24 hours."""
    week: Fates = Fates()
    """Of the last 7 days."""
    waiting: int = 0
    waiting_long: int = 0
    """Of these, for over an hour."""
    waiting_since: datetime | None = None
    """The oldest; None: none waits."""

    @property
    def lost(self) -> int:
        """Of a week: given up, or still without an account after an hour."""
        return self.week.given_up + self.waiting_long

    @property
    def all(self) -> int:
        """Of a week: what has come to an end, and what waits; without what was erased."""
        return self.week.placed + self.week.given_up + self.waiting


def trouble(found: SourcePlacing) -> Trouble | None:
    """What a source's tracking plan should change for; None: nothing, or too little to tell.

    A week tells, unless the last day tells that it is over: whoever has changed the plan, and let
    in again what was given up, need not hear of it for the rest of the week.
    """
    day = found.day
    if found.lost >= max(_FEWEST, _MOST * found.all):
        lost = day.given_up + found.waiting_long
        return Trouble.MOSTLY_LOST if lost >= _MOST * (lost + day.placed) else None
    if found.week.guessed >= max(_FEWEST, _MOST * found.all):
        return Trouble.MOSTLY_GUESSED if day.guessed >= _MOST * day.placed else None
    return None
