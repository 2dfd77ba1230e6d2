"""The sources that send us events: their keys, and what became of events that name no account.

Keys are known here; of events scoring tells, and without it the page still shows the keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec
from fastapi import FastAPI
from fastapi.responses import Response

from services.notifier.console.pages import Pages
from services.notifier.console.portfolio import is_missing
from services.notifier.console.scoring import Missing
from shared.credentials import KeyRing
from shared.messages import Source, WriteKey

SOON: Final = timedelta(days=30)
"""An end that is nearer is worth a look."""


class Standing(StrEnum):
    LIVE = "live"
    ENDS_SOON = "ends_soon"
    EXPIRED = "expired"
    REVOKED = "revoked"


STANDINGS: Final = {
    Standing.LIVE: ("Live", "good"),
    Standing.ENDS_SOON: ("Ends soon", "accent"),
    Standing.EXPIRED: ("Expired", "bad"),
    Standing.REVOKED: ("Revoked", ""),
}
_ORDER: Final = tuple(STANDINGS)


class Fates(msgspec.Struct, frozen=True, kw_only=True):
    """What became of events that name no account, in a span of time."""

    placed: Mapping[str, int]
    """By how their account was found."""
    began_to_wait: int
    late: int
    full: int

    @property
    def given_up(self) -> int:
        return self.late + self.full

    def found_by(self, *ways: str) -> int:
        return sum(self.placed.get(way, 0) for way in ways)

    @property
    def found(self) -> int:
        return sum(self.placed.values())


class SourcePlacing(msgspec.Struct, frozen=True, kw_only=True):
    """A source's events that name no account; `trouble` as scoring names it, or none."""

    source: str
    day: Fates
    week: Fates
    waiting: int
    waiting_over_an_hour: int = 0
    waiting_since: datetime | None = None
    trouble: str | None = None


class Placing(msgspec.Struct, frozen=True):
    sources: tuple[SourcePlacing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A source with its keys, those that hold first."""

    source: Source
    keys: Sequence[tuple[WriteKey, Standing]]

    @property
    def is_live(self) -> bool:
        return any(how in (Standing.LIVE, Standing.ENDS_SOON) for _, how in self.keys)


def add_sources(app: FastAPI, pages: Pages) -> None:
    @app.get("/sources")
    async def page() -> Response:
        now = pages.clock()
        placing = await pages.scoring.ask(Placing, "/v1/sources/placing")
        known = () if isinstance(placing, Missing) else placing.sources
        return pages.page(
            "sources.html",
            sources=shown(pages.keys, now=now),
            is_complete=pages.keys.is_complete,
            placing=placing,
            unplaced={one.source: one for one in known},
            is_missing=is_missing,
            standings=STANDINGS,
            now=now,
        )


def shown(ring: KeyRing, *, now: datetime) -> list[Shown]:
    """Every source that has settings or a key; which of them still send comes first."""
    records = ring.records()
    names = {one.source for one in records} | {one.name for one in ring.sources()}
    found = []
    for name in names:
        keys = [(one, standing(one, now=now)) for one in records if one.source == name]
        keys.sort(key=lambda each: (_ORDER.index(each[1]), -each[0].created_at.timestamp()))
        found.append(Shown(source=ring.source(name), keys=keys))
    return sorted(found, key=lambda one: (not one.is_live, one.source.name))


def standing(key: WriteKey, *, now: datetime) -> Standing:
    if key.revoked_at is not None:
        return Standing.REVOKED
    if key.expires_at is None:
        return Standing.LIVE
    if key.expires_at <= now:
        return Standing.EXPIRED
    return Standing.ENDS_SOON if key.expires_at - now <= SOON else Standing.LIVE
