"""How a restored database is released: with all that a notifier decides by, but nobody to send."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import rehearsal, reloading, restored
from services.notifier.channels import Channel
from services.notifier.composers import composers
from services.notifier.delivery import Sender
from services.notifier.fallbacks import Chain
from services.notifier.metrics import NotifierMetrics
from services.notifier.restored import Silent, Waiting
from services.notifier.routes import CHANNELS
from services.notifier.settings import NotifierSettings
from services.notifier.situations import Desk
from services.notifier.taking import Staff
from shared.clock import Clock
from shared.lifecycle import new_frame


async def release(
    engine: AsyncEngine, settings: NotifierSettings, *, as_told: bool, clock: Clock
) -> Waiting | None:
    """What waited; None: nothing is held. `as_told`: nothing of it is sent, by anybody."""
    async with engine.connect() as connection:
        found = await restored.waiting(connection)
    if found is None:
        return None
    async with engine.begin() as connection:
        await restored.requeue(connection)
        if not as_told:
            await restored.release(connection, now=clock())
            return found
    sender = _silent(engine, settings, await _desk(settings), clock)
    while await sender.send_one():
        pass
    async with engine.begin() as connection:
        await restored.mark_untold(connection)
        await restored.release(connection, now=clock())
    return found


async def _desk(settings: NotifierSettings) -> Desk:
    team = await asyncio.to_thread(
        reloading.open_team,
        settings.perennial_team_file,
        fallback_owner=settings.perennial_fallback_owner,
    )
    books = await asyncio.to_thread(reloading.open_playbooks, settings.perennial_playbooks)
    staff = Staff(roster=team.get, playbooks=books.get)
    return await asyncio.to_thread(rehearsal.desk_of, settings, staff)


def _silent(engine: AsyncEngine, settings: NotifierSettings, desk: Desk, clock: Clock) -> Sender:
    frame = new_frame()
    channels: dict[str, Channel] = {name: Silent(name) for name in CHANNELS}
    return Sender(
        engine=engine,
        channels=channels,
        composers=composers(desk),
        fallbacks=Chain(roster=desk.staff.roster, ways=desk.ways),
        patience=settings.patience,
        lease=settings.lease,
        metrics=NotifierMetrics(frame.registry, frame.metrics),
        clock=clock,
        despite_hold=True,
    )
