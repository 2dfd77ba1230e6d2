"""When somebody gets a digest, and of whose work."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from services.notifier.domain.calendar import Calendar
from services.notifier.domain.people import Mode, Person, Roster, is_same


class DigestKind(StrEnum):
    DAILY = "daily"
    """Of one's own work, on each working day."""
    WEEKLY = "weekly"
    """The same, on the first working day of the week."""
    TEAM = "team"
    """Of the work of one's people, weekly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A digest that is due. There is one of each kind per local date, however late it is."""

    kind: DigestKind
    local_date: date
    at: datetime
    """When it was to be sent."""


def slots(
    person: Person, calendar: Calendar, *, mode: Mode, leads: bool, now: datetime
) -> Iterator[Slot]:
    """What is due now. A daily one that the day has ended over is not: the next one says it all.

    `mode`: how often they want to be told where the digest goes; `leads`: others' work is theirs.
    """
    today = calendar.day_of(now)
    if mode is Mode.NEVER:
        return
    if mode is not Mode.WEEKLY and calendar.is_working_day(today):
        at = calendar.at(today, person.digest_at)
        if at <= now:
            yield Slot(kind=DigestKind.DAILY, local_date=today, at=at)
    first = _first_working_day(today, calendar)
    if first is None:
        return
    at = calendar.at(first, person.digest_at)
    if at <= now:
        if mode is Mode.WEEKLY:
            yield Slot(kind=DigestKind.WEEKLY, local_date=first, at=at)
        if leads:
            yield Slot(kind=DigestKind.TEAM, local_date=first, at=at)


def reports_of(address: str, roster: Roster) -> frozenset[str]:
    """Whose work is theirs to see, in lower case: as a manager, or a lead of a team or fallback."""
    found = {one.address for one in roster.people if one.manager and is_same(one.manager, address)}
    for team in roster.teams:
        if is_same(team.lead, address):
            found.update(team.members)
    if is_same(roster.fallback_lead, address):
        found.add(roster.fallback_owner)
    return frozenset(one.lower() for one in found) - {address.lower()}


def leads_of(roster: Roster) -> frozenset[str]:
    """Everybody who gets a digest of others' work, in lower case."""
    managers = {one.manager for one in roster.people if one.manager}
    leads = {team.lead for team in roster.teams}
    return frozenset(one.lower() for one in managers | leads | {roster.fallback_lead})


def _first_working_day(today: date, calendar: Calendar) -> date | None:
    """Of the week that `today` is in, Monday to Sunday; None: the whole week is off."""
    monday = today - timedelta(days=today.weekday())
    days = (monday + timedelta(days=number) for number in range(7))
    return next((day for day in days if calendar.is_working_day(day)), None)
