"""Scoring's SQL of what ended long ago: flags, outcomes and outages are kept for some years.

`feature_rows` go by whole months (`feature_log.py`), what was used by days (`sweep_store.py`).
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

BATCH: Final = 1_000
_PAUSE_SECONDS: Final = 0.1

# By an index, or of a table that is small: each look at nothing is short.
_STATEMENTS: Final = {
    "flags": "DELETE FROM scoring.flags WHERE (account_id, reason, episode) IN"
    " (SELECT account_id, reason, episode FROM scoring.flags"
    "   WHERE raised_at < :before AND cleared_at < :before"
    "   LIMIT :batch FOR UPDATE SKIP LOCKED)",
    "outcomes": "DELETE FROM scoring.outcomes WHERE (account_id, intervention_id, episode) IN"
    " (SELECT account_id, intervention_id, episode FROM scoring.outcomes"
    "   WHERE closed_at < :before LIMIT :batch FOR UPDATE SKIP LOCKED)",
    "outages": "DELETE FROM scoring.outages WHERE id IN (SELECT id FROM scoring.outages"
    "   WHERE ended_at < :before LIMIT :batch FOR UPDATE SKIP LOCKED)",
}


async def forget(
    engine: AsyncEngine, before: datetime, *, progressed: Callable[[], None] = lambda: None
) -> Mapping[str, int]:
    """Delete what ended before the moment, some rows at a time; how many, where there were any."""
    gone: dict[str, int] = {}
    for table, statement in _STATEMENTS.items():
        while True:
            async with engine.begin() as connection:
                done = await connection.execute(text(statement), {"before": before, "batch": BATCH})
            progressed()
            if done.rowcount:
                gone[table] = gone.get(table, 0) + done.rowcount
            if done.rowcount < BATCH:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
    return gone
