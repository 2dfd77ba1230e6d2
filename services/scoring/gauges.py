"""Gauges that a query fills, every few seconds: a scrape must not wait for PostgreSQL."""

import asyncio
from datetime import datetime
from typing import Final

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import erasure_store, partitions, placing_figures, storm
from services.scoring.metrics import ScoringMetrics
from services.scoring.tables import backups, dirty, log_positions, outbox, scores
from shared import database
from shared.clock import Clock
from shared.lifecycle import stopped_within
from shared.log.positions import mismatch
from shared.messages import Band
from shared.outbox import Waiting
from shared.telemetry import CommonMetrics
from shared.watchdog import Loop

_SECONDS: Final = 10
_SELDOM: Final = 6
"""Rounds between two looks at what changes slowly and costs more."""


async def keep(
    engine: AsyncEngine,
    metrics: ScoringMetrics,
    common: CommonMetrics,
    loop: Loop,
    stop: asyncio.Event,
    clock: Clock,
) -> None:
    """Count until `stop`; while PostgreSQL is away the last numbers stand, and ages go on."""
    waiting = Waiting(service=loop.service, metrics=common, clock=clock)
    rounds = 0
    with waiting.told():
        while True:
            try:
                async with engine.connect() as connection:
                    await waiting.count(connection, outbox)
                    await _count(connection, metrics)
                    if rounds % _SELDOM == 0:
                        await _look(connection, metrics, clock())
                rounds += 1
            except Exception as error:
                if not database.is_away(error) and not database.is_transient(error):
                    raise
            loop.progressed()
            if await stopped_within(stop, _SECONDS):
                return


async def _count(connection: AsyncConnection, metrics: ScoringMetrics) -> None:
    metrics.dirty.set(await connection.scalar(select(func.count()).select_from(dirty)) or 0)
    counts = await connection.execute(
        select(scores.c.band, func.count())
        .where(scores.c.band.is_not(None))
        .group_by(scores.c.band)
    )
    by_band = {band: count for band, count in counts}  # noqa: C416 - a Row is no pair
    for band in Band:
        metrics.accounts.labels(band).set(by_band.get(band, 0))
    held = await storm.count_held(connection)
    metrics.show_held(sum(held.values()))
    pending, oldest = await erasure_store.pending(connection)
    metrics.erasures_pending.set(pending)
    metrics.erasure_oldest_since = oldest
    waiting, oldest = await placing_figures.read_waiting(connection)
    metrics.events_waiting.set(waiting)
    metrics.waiting_oldest_since = oldest
    metrics.count_mismatch.set(await mismatch(connection, log_positions))


async def _look(connection: AsyncConnection, metrics: ScoringMetrics, now: datetime) -> None:
    metrics.event_id_days_ahead.set(await partitions.days_ahead(connection, now))
    backed_up = await connection.scalar(select(func.max(backups.c.finished_at)))
    metrics.backup_success.set(0 if backed_up is None else backed_up.timestamp())
    size = await connection.scalar(text("SELECT pg_database_size(current_database())"))
    metrics.database_size.set(size or 0)
