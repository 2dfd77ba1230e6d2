"""What people want for themselves, over what the team file says of them; functions on a connection.

Every replica reads them every few seconds (`Wishes`), so that deciding asks no table for them.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.notifier import audit
from services.notifier.domain.access import Role, Viewer
from services.notifier.domain.people import Mode, Preference, Roster, preferring
from services.notifier.tables import preferences
from shared import database
from shared import logging as logs
from shared.lifecycle import stopped_within
from shared.watchdog import Loop

_EVERY_SECONDS = 3.0

log = logs.get(__name__)


async def read(connection: AsyncConnection, address: str) -> Preference:
    row = preferences.c
    said = await connection.scalar(
        select(row.wanted).where(row.address == address.lower()).with_for_update()
    )
    return Preference() if said is None else msgspec.convert(said, Preference, strict=False)


async def read_all(connection: AsyncConnection) -> Mapping[str, Preference]:
    """By address, in lower case."""
    rows = await connection.execute(select(preferences.c.address, preferences.c.wanted))
    return {row.address: msgspec.convert(row.wanted, Preference, strict=False) for row in rows}


async def save(
    connection: AsyncConnection, address: str, wanted: Preference, *, by: Viewer, at: datetime
) -> None:
    values = {"wanted": msgspec.to_builtins(wanted), "changed_by": by.address, "changed_at": at}
    await connection.execute(
        insert(preferences)
        .values(address=address.lower(), **values)
        .on_conflict_do_update(index_elements=["address"], set_=values)
    )
    await audit.write(connection, by, "preference.changed", address.lower(), at=at)


async def prefer_digest(connection: AsyncConnection, address: str, now: datetime) -> None:
    """By e-mail only the daily digest from now on: what "unsubscribe" means here."""
    known = await read(connection, address)
    wanted = msgspec.structs.replace(known, email=Mode.DAILY)
    # Whoever has the link speaks for its address, and for nothing else.
    by = Viewer(address=address, role=Role.VIEWER, way="link")
    await save(connection, address, wanted, by=by, at=now)


@dataclass(slots=True, kw_only=True)
class Wishes:
    """The roster with what its people want for themselves."""

    engine: AsyncEngine
    team: Callable[[], Roster]
    _known: Mapping[str, Preference] = field(default_factory=dict)
    _merged: tuple[Roster, Mapping[str, Preference], Roster] | None = None

    def roster(self) -> Roster:
        team = self.team()
        if self._merged is None or self._merged[0] is not team or self._merged[1] != self._known:
            self._merged = (team, self._known, preferring(team, self._known))
        return self._merged[2]

    async def refresh(self) -> None:
        async with self.engine.connect() as connection:
            self._known = await read_all(connection)

    async def run(self, stop: asyncio.Event, *, loop: Loop) -> None:
        while not stop.is_set():
            try:
                await self.refresh()
            except Exception as error:
                if not database.is_away(error) and not database.is_transient(error):
                    raise
                log.warning("preferences.away", cause=type(error).__name__)
            loop.progressed()
            await stopped_within(stop, _EVERY_SECONDS)
