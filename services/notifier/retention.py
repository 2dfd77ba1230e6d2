"""What the notifier forgets by itself: hourly, some rows at a time with a pause between.

Work and what was done about it is history for as long as the vendor says (three years); what is
open is never old. What signing in leaves goes as soon as it is of no more use.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.notifier.domain.throttle import FORGOTTEN
from services.notifier.sign_ins import IDLE
from shared import database
from shared import logging as logs
from shared.clock import Clock
from shared.lifecycle import stopped_within
from shared.watchdog import Loop

BATCH: Final = 500
_EVERY: Final = timedelta(hours=1)
# Their types are not always to be told from what they are compared with.
_BEFORE: Final = "CAST(:before AS timestamptz)"
_BATCH: Final = "CAST(:batch AS bigint)"
_LOOK_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.2
_AWAY_SECONDS: Final = 5.0

log = logs.get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """Deletes at most `:batch` rows of what ended `:before`; the statement returns one a row."""

    table: str
    statement: str
    after: timedelta | None = None
    """How long after; None: as long as history is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Every replica runs one; none waits for the rows that another one deletes."""

    engine: AsyncEngine
    clock: Clock
    history: timedelta

    async def run(self, stop: asyncio.Event, *, loop: Loop) -> None:
        done_at: datetime | None = None
        while not stop.is_set():
            now, seconds = self.clock(), _LOOK_SECONDS
            if done_at is None or now - done_at >= _EVERY:
                try:
                    await self.forget(now, stop)
                    done_at = now
                except Exception as error:
                    if not database.is_away(error) and not database.is_transient(error):
                        raise
                    log.warning("retention.away", cause=type(error).__name__)
                    seconds = _AWAY_SECONDS
            loop.progressed()
            await stopped_within(stop, seconds)

    async def forget(self, now: datetime, stop: asyncio.Event | None = None) -> Counter[str]:
        """Delete all that is past its time; how many rows of which table."""
        gone: Counter[str] = Counter()
        for rule in _RULES:
            before = now - (self.history if rule.after is None else rule.after)
            while True:
                async with self.engine.begin() as connection:
                    count = await _forget_some(connection, rule, before)
                gone[rule.table] += count
                if count < BATCH or (stop is not None and stop.is_set()):
                    break
                await asyncio.sleep(_PAUSE_SECONDS)
        gone = +gone
        if gone:
            log.info("retention.forgot", **gone)
        return gone


async def _forget_some(connection: AsyncConnection, rule: _Rule, before: datetime) -> int:
    rows = await connection.execute(text(rule.statement), {"before": before, "batch": BATCH})
    return len(rows.all())


def _oldest(table: str, key: str, ended: str, *, where: str = "true") -> _Rule:
    """In the order of a key that rises with time: where the oldest are young, the look is short."""
    return _Rule(
        table=table,
        statement=f"""
DELETE FROM notifier.{table} WHERE {key} IN (SELECT {key} FROM (
    SELECT {key}, {ended} AS ended, ({where}) AS may_go FROM notifier.{table} AS t
    ORDER BY {key} LIMIT 10 * {_BATCH}) AS first
    WHERE first.ended < {_BEFORE} AND first.may_go LIMIT {_BATCH}) RETURNING 1""",
    )


def _small(table: str, keys: Sequence[str], ended: str, after: timedelta | None = None) -> _Rule:
    """Of a table that is read as a whole, or by an index on the moment."""
    key = ", ".join(keys)
    return _Rule(
        table=table,
        after=after,
        statement=f"""
DELETE FROM notifier.{table} WHERE ({key}) IN (SELECT {key} FROM notifier.{table}
    WHERE {ended} < {_BEFORE} LIMIT {_BATCH} FOR UPDATE SKIP LOCKED) RETURNING 1""",
    )


_IDLE: Final = f"interval '{int(IDLE.total_seconds())} s'"
_OPEN_WORK: Final = (
    "EXISTS (SELECT FROM notifier.interventions AS i WHERE i.id = t.intervention_id"
    f" AND (i.status <> 'closed' OR i.closed_at >= {_BEFORE}))"
)
_OLD_WORK: Final = f"""(SELECT id FROM notifier.interventions
    WHERE opened_at < {_BEFORE} AND status = 'closed' AND closed_at < {_BEFORE}
    ORDER BY opened_at LIMIT {_BATCH} FOR UPDATE SKIP LOCKED)"""
# What points to it goes with it.
_FORGET_WORK: Final = f"""
WITH old AS MATERIALIZED {_OLD_WORK},
d AS (DELETE FROM notifier.deliveries WHERE intervention_id IN (SELECT id FROM old)),
l AS (DELETE FROM notifier.timeline WHERE intervention_id IN (SELECT id FROM old)),
t AS (DELETE FROM notifier.tasks WHERE intervention_id IN (SELECT id FROM old)),
e AS (DELETE FROM notifier.endings WHERE intervention_id IN (SELECT id FROM old))
DELETE FROM notifier.interventions WHERE id IN (SELECT id FROM old) RETURNING 1"""

_RULES: Final = (
    _oldest("deliveries", "number", "ended_at"),
    _oldest("timeline", "id", "at", where=f"NOT {_OPEN_WORK}"),
    _Rule(table="interventions", statement=_FORGET_WORK),
    _oldest("audit", "id", "at"),
    _small("silences", ("id",), "ends_at"),
    _small("sentiments", ("id",), "expires_at"),
    _small("digests", ("recipient", "kind", "local_date"), "at"),
    _small("draws", ("account_id", "quarter"), "drawn_on"),
    _small("invitations", ("token_sha256",), "expires_at", timedelta()),
    _small("sign_ins", ("token_sha256",), f"least(ends_at, seen_at + {_IDLE})", timedelta()),
    _small("sign_in_attempts", ("key",), "next_at", FORGOTTEN),
)
