"""Gauges that a query fills, every few seconds: a scrape must not wait for PostgreSQL."""

import asyncio

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import storm
from services.scoring.metrics import ScoringMetrics
from services.scoring.tables import dirty, scores
from shared import database
from shared.lifecycle import stopped_within
from shared.messages import Band
from shared.telemetry import CommonMetrics

_SECONDS = 10


async def keep(
    engine: AsyncEngine, metrics: ScoringMetrics, common: CommonMetrics, stop: asyncio.Event
) -> None:
    """Count until `stop`; while PostgreSQL is away only `dependency_up` tells."""
    up = common.dependency_up.labels("scoring", "database")
    while True:
        try:
            async with engine.connect() as connection:
                waiting = await connection.scalar(select(func.count()).select_from(dirty))
                counts = await connection.execute(
                    select(scores.c.band, func.count())
                    .where(scores.c.band.is_not(None))
                    .group_by(scores.c.band)
                )
                held = await storm.count_held(connection)
                by_band = {band: count for band, count in counts}  # noqa: C416 - a Row is no pair
        except Exception as error:
            if not database.is_away(error) and not database.is_transient(error):
                raise
            up.set(0)
        else:
            up.set(1)
            metrics.dirty.set(waiting or 0)
            metrics.show_held(sum(held.values()))
            for band in Band:
                metrics.accounts.labels(band).set(by_band.get(band, 0))
        if await stopped_within(stop, _SECONDS):
            return
