"""The first page: what of somebody's work, or of everybody's, is for today."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import Response

from services.notifier.console import queries, work
from services.notifier.console.account import zones_of
from services.notifier.console.pages import Pages
from services.notifier.console.rights import viewer_of
from services.notifier.console.work import Pile, Wanted
from services.notifier.domain.access import Right, Viewer
from services.notifier.domain.calendar import calendar_of
from services.notifier.domain.people import Roster, is_same
from services.notifier.intervention_rows import AnyRow

EVERYBODY: Final = "everybody"
PILES: Final = {
    Pile.OVERDUE: "Overdue",
    Pile.DUE: "Due today",
    Pile.WAKING: "Snoozes ending today",
    Pile.RECOVERED: "Recovered, to close",
    Pile.NEW: "New since yesterday",
    Pile.NEXT: "Next, by priority",
}
_MOST: Final = 8
_TASKS: Final = 12
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Today, as the clock of whoever looks has it."""

    now: datetime
    ends: datetime
    new_since: datetime
    """When yesterday began."""


def day_of(address: str, roster: Roster, now: datetime) -> Day:
    calendar = calendar_of(roster.person(address))
    today = calendar.day_of(now)
    return Day(
        now=now,
        ends=calendar.at(today + _DAY, time()),
        new_since=calendar.at(today - _DAY, time()),
    )


def owner_of(asked: str, viewer: Viewer) -> str | None:
    """Whose work a list begins with: a CSM's own; who leads, or only reads, sees everybody's."""
    if asked:
        return None if asked == EVERYBODY else asked
    is_own = viewer.may(Right.ACT) and not viewer.may(Right.LEAD)
    return viewer.address if is_own else None


def wanted_of(owner: str | None, team: Iterable[AnyRow]) -> Wanted:
    """The work of that owner, however their address is written in it; None: everybody's."""
    if owner is None:
        return Wanted()
    known = tuple(one.owner for one in team if is_same(one.owner, owner))
    return Wanted(owner=known[0] if known else owner, spellings=known)


def add_today(app: FastAPI, pages: Pages) -> None:
    @app.get("/")
    async def today(request: Request, owner: str = "") -> Response:
        viewer = viewer_of(request)
        roster = pages.steps.stepping.staff.roster()
        day = day_of(viewer.address, roster, pages.clock())
        by = work.pile_of(now=day.now, today_ends=day.ends, new_since=day.new_since)
        async with pages.engine.connect() as connection:
            team = await work.owners(connection, now=day.now, today_ends=day.ends)
            wanted = wanted_of(owner_of(owner.replace("\0", ""), viewer), team)
            heaps = await work.heaps(connection, wanted, by, most=_MOST)
            totals = await work.totals(connection, wanted)
            whose = wanted if wanted.owner else wanted_of(viewer.address, team)
            tasks = await work.tasks_due(
                connection,
                {whose.owner or viewer.address, *whose.spellings},
                before=day.ends,
                most=_TASKS,
            )
            trouble = {
                "dead": await queries.count_given_up(connection, since=day.now - _DAY),
                "destinations": len(await queries.troubled_destinations(connection)),
                "channels": len(await queries.troubled_channels(connection)),
            }
        return pages.page(
            "today.html",
            viewer=viewer,
            heaps=[(pile, title, heaps.get(pile, work.Heap())) for pile, title in PILES.items()],
            resting=heaps.get(Pile.RESTING, work.Heap()).total,
            totals=totals,
            team=team,
            tasks=tasks,
            wanted=wanted,
            everybody=EVERYBODY,
            zones=zones_of(roster),
            fallback_owner=roster.fallback_owner,
            now=day.now,
            today=day.now.astimezone(UTC).date(),
            trouble=trouble,
        )
