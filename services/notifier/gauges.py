"""What is counted in the database rather than as it happens."""

import asyncio

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier.domain.interventions import Status
from services.notifier.metrics import NotifierMetrics
from services.notifier.routes import CHANNELS
from services.notifier.tables import channels, deliveries, destinations, interventions, outbox
from shared import database
from shared import logging as logs
from shared.clock import Clock
from shared.lifecycle import stopped_within
from shared.outbox import Waiting
from shared.watchdog import Loop

_EVERY_SECONDS = 10.0

log = logs.get(__name__)


async def measure(
    engine: AsyncEngine, metrics: NotifierMetrics, loop: Loop, stop: asyncio.Event, clock: Clock
) -> None:
    """Until `stop`: set the gauges every ten seconds."""
    waiting = Waiting(service="notifier", metrics=metrics.common, clock=clock)
    with waiting.told():
        while not stop.is_set():
            try:
                async with engine.connect() as connection:
                    await waiting.count(connection, outbox)
                await measure_once(engine, metrics, clock)
            except Exception as error:
                if not database.is_away(error) and not database.is_transient(error):
                    raise
                log.warning("gauges.away", cause=type(error).__name__)
            loop.progressed()
            await stopped_within(stop, _EVERY_SECONDS)


async def measure_once(engine: AsyncEngine, metrics: NotifierMetrics, clock: Clock) -> None:
    open_ones = interventions.c.status != Status.CLOSED.value
    waits = deliveries.c.state.in_(("pending", "sending"))
    async with engine.connect() as connection:
        severities = await connection.execute(
            select(interventions.c.severity, func.count().label("n"))
            .where(open_ones)
            .group_by(interventions.c.severity)
        )
        metrics.set_open({row.severity: row.n for row in severities})
        overdue = await connection.scalar(
            select(func.count())
            .select_from(interventions)
            .where(open_ones, interventions.c.due_at < clock())
        )
        metrics.overdue.set(overdue or 0)
        waiting = await connection.execute(
            select(
                deliveries.c.channel,
                func.count().label("n"),
                # What is planned for later is not late.
                func.min(deliveries.c.due_at)
                .filter(deliveries.c.due_at <= func.now())
                .label("oldest"),
            )
            .where(waits)
            .group_by(deliveries.c.channel)
        )
        by_channel = {row.channel: row for row in waiting}
        broken = await connection.execute(
            select(destinations.c.channel, func.count().label("n"))
            .where(destinations.c.broken_since.is_not(None))
            .group_by(destinations.c.channel)
        )
        refusing = {row.channel: row.n for row in broken}
        dead_channels = await connection.scalars(
            select(channels.c.channel).where(channels.c.broken_since.is_not(None))
        )
        refused = set(dead_channels)
    for channel in CHANNELS:
        found = by_channel.get(channel)
        metrics.pending.labels(channel).set(0 if found is None else found.n)
        metrics.broken.labels(channel).set(refusing.get(channel, 0))
        metrics.integration_broken.labels(channel).set(channel in refused)
    due = (row.oldest for row in by_channel.values() if row.oldest is not None)
    oldest = min(due, default=None)
    metrics.set_oldest_due(oldest, clock)
