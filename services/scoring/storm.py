"""The storm guard: when many accounts fall at once, it is rather the data that fell.

Usage flags that a sweep raises wait (`flag_store`). At the end of a round all that wait leave, or
all are held: the flags of the last hour are counted over every replica, by the clock in force.
What is held leaves when an admin says so, or ends unheard when its condition does.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring import flag_store
from services.scoring.domain.flags.states import USAGE_FLAGS
from services.scoring.domain.rules import StormGuard
from services.scoring.flag_events import without_hold
from shared import logging as logs
from shared import traceparent
from shared.database import driver
from shared.messages import FlagEvent, FlagReason, decode

_CHUNK: Final = 2_000
_WAVE: Final = timedelta(minutes=10)
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('scoring.storm'))"

log = logs.get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What left now, by reason, and how many flags were put on hold now."""

    sent: Mapping[FlagReason, int] = field(default_factory=dict)
    held: int = 0


async def release(connection: AsyncConnection, now: datetime, rules: StormGuard) -> Verdict:
    """Let what waits leave with the caller's transaction, or hold it."""
    connected = await driver(connection)
    if not await connection.scalar(text(f"SELECT EXISTS ({_PENDING})")):
        return Verdict()
    # Of a million accounts a quarter may be held in one step.
    await connection.execute(text("SELECT set_config('statement_timeout', '120s', true)"))
    await connection.execute(text(_LOCK))
    row = await connected.fetchrow(
        _COUNT, now - timedelta(minutes=rules.window_minutes), sorted(USAGE_FLAGS)
    )
    if row["flags"] > rules.accounts_over:
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        is_fresh = row["oldest"] is not None and now - row["oldest"] < _WAVE
        if is_fresh and await connected.fetchval(_OTHERS_ARE_DUE, midnight):
            # The wave is not over: another replica has accounts of this moment left to look at.
            return Verdict()
        accounts = await connected.fetchval("SELECT sum(accounts) FROM scoring.shard_sweeps")
        if row["flags"] > rules.share_over * accounts:
            return await _hold(connected, now, flags=row["flags"], accounts=accounts)
    return Verdict(sent=await _let_out(connection, _PENDING, (), now, by=None))


async def release_held(
    connection: AsyncConnection,
    now: datetime,
    *,
    by: str,
    reason: FlagReason | None = None,
    drop: bool = False,
) -> Mapping[FlagReason, int]:
    """Let out what is held, or drop it: then nobody hears of these episodes.

    The guard counts these flags no more. Returns how many there were, by reason.
    """
    await connection.execute(text(_LOCK))
    where = _HELD if reason is None else f"{_HELD} AND reason = $1"
    values = () if reason is None else (reason,)
    return await _let_out(connection, where, values, now, by=by, drop=drop)


async def count_held(connection: AsyncConnection) -> Mapping[FlagReason, int]:
    rows = await (await driver(connection)).fetch(
        f"SELECT reason, count(*) FROM ({_HELD}) AS h GROUP BY reason ORDER BY reason"
    )
    return {FlagReason(row[0]): row[1] for row in rows}


# An admin's release says that the batch is sound: it makes no later flag a storm.
_COUNT = """
SELECT count(*) AS flags, min(raised_at) FILTER (WHERE message IS NOT NULL AND held_at IS NULL)
    AS oldest
FROM scoring.flags
WHERE raised_at > $1 AND reason = ANY($2::text[]) AND released_at IS NULL
"""
_COLUMNS = "account_id, reason, episode, message, traceparent, held_at"
_PENDING = f"SELECT {_COLUMNS} FROM scoring.flags WHERE message IS NOT NULL AND held_at IS NULL"
_HELD = f"SELECT {_COLUMNS} FROM scoring.flags WHERE message IS NOT NULL AND held_at IS NOT NULL"
# Shards that wait for their daily look, or for one with the newest model.
_OTHERS_ARE_DUE = """
SELECT coalesce(min(swept_at) < $1 OR count(DISTINCT model_version) > 1, false)
FROM scoring.shard_sweeps
"""


# Locked in the order of all who lock flags.
_PUT_ON_HOLD = f"""
WITH picked AS ({_PENDING} ORDER BY account_id, reason FOR UPDATE)
UPDATE scoring.flags AS f SET held_at = $1 FROM picked AS p
WHERE f.account_id = p.account_id AND f.reason = p.reason AND f.episode = p.episode
"""


async def _hold(
    connected: asyncpg.Connection, now: datetime, *, flags: int, accounts: int
) -> Verdict:
    is_new = not await connected.fetchval(f"SELECT EXISTS ({_HELD})")
    result = await connected.execute(_PUT_ON_HOLD, now)
    held = int(result.split()[-1])
    if is_new:
        log.warning("storm.began", held=held, flags_of_the_hour=flags, accounts=accounts)
    return Verdict(held=held)


async def _let_out(
    connection: AsyncConnection,
    picked: str,
    values: Sequence[object],
    now: datetime,
    *,
    by: str | None,
    drop: bool = False,
) -> Mapping[FlagReason, int]:
    """What was told leaves the index that `picked` reads, so each step takes the next ones."""
    connected = await driver(connection)
    done: Counter[FlagReason] = Counter()
    while rows := await connected.fetch(
        f"{picked} ORDER BY account_id, reason LIMIT {_CHUNK} FOR UPDATE", *values
    ):
        if not drop:
            events = [(_told(row, now), traceparent.parse(row["traceparent"])) for row in rows]
            await flag_store.put(connection, events)
        await connected.execute(
            _TOLD,
            [row["account_id"] for row in rows],
            [row["reason"] for row in rows],
            [row["episode"] for row in rows],
            now,
            by,
            drop,
        )
        done.update(FlagReason(row["reason"]) for row in rows)
    return done


def _told(row: asyncpg.Record, now: datetime) -> FlagEvent:
    event = decode(FlagEvent, row["message"])
    return event if row["held_at"] is None else without_hold(event, now - row["held_at"])


_TOLD = """
UPDATE scoring.flags AS f SET message = NULL,
    told_at = CASE WHEN NOT $6::boolean THEN $4::timestamptz END,
    released_at = CASE WHEN $5::text IS NOT NULL THEN $4::timestamptz END, released_by = $5::text
FROM unnest($1::text[], $2::text[], $3::int[]) AS n (account_id, reason, episode)
WHERE f.account_id = n.account_id AND f.reason = n.reason AND f.episode = n.episode
"""
