"""Scoring's SQL of the sweep: what is due, who is taken, and what has been swept."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring import usage_store
from services.scoring.domain.table import columns_hash
from services.scoring.domain.usage import Integers
from services.scoring.store import SHARDS
from services.scoring.usage_store import Scope
from shared import traceparent
from shared.database import driver
from shared.traceparent import Traceparent


class Cause(NamedTuple):
    """The first unscored event of an account: when it arrived, and of which trace it is."""

    received_at: datetime
    traceparent: Traceparent | None
    backfill: bool
    """Whether history was loaded: it has waited on purpose."""


Marks: TypeAlias = Mapping[str, Cause]
"""Accounts to be scored, and since when."""
Part: TypeAlias = tuple[int, int]
"""The accounts of a shard whose hash lies between these, both included."""

ALL: Final[Part] = (-(2**63), 2**63 - 1)
_NO_END: Final = 2**63 - 1
_CROWD: Final = 100
_CROWD_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSweep:
    """What all scores of a shard were made with at least, and when; `accounts`: how many."""

    swept_at: datetime
    model_version: str
    columns: str
    accounts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What there is to do: `marked` are shards with accounts to be scored again.

    `history_loaded`: accounts whose history has just been loaded wait. `waiting`: how many of
    each shard wait for their first score. `model_version`: of the one in service.
    """

    marked: Collection[int]
    history_loaded: bool
    waiting: Mapping[int, int]
    model_version: str | None
    sweeps: Mapping[int, ShardSweep]

    @property
    def accounts(self) -> int:
        """With a score, and waiting for one."""
        return sum(map(self.accounts_of, range(SHARDS)))

    def accounts_of(self, shard: int) -> int:
        scored = self.sweeps[shard].accounts if shard in self.sweeps else 0
        return scored + self.waiting.get(shard, 0)

    def due(self, now: datetime, model_version: str | None) -> list[int]:
        """The shards whose scores are of another day, of another model or of other columns.

        A silent account sends nothing: after midnight UTC its indicators change by themselves.
        And those that are `crowded`.
        """
        today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        old = {
            shard
            for shard, sweep in self.sweeps.items()
            if sweep.swept_at < today
            or sweep.model_version != model_version
            or sweep.columns != columns_hash()
        }
        return sorted(old | self.crowded)

    @property
    def crowded(self) -> set[int]:
        """The shards with so many new accounts that all of it is read at once."""
        return {
            shard
            for shard, waiting in self.waiting.items()
            if waiting > max(_CROWD, self.accounts_of(shard) * _CROWD_SHARE)
        }


# History is being loaded while backfilled events keep coming in. Asked inside the statements that
# take accounts: asked before them, the first events of a backfill could come in between.
_LOADING: Final = (
    "EXISTS (SELECT FROM scoring.dirty WHERE backfill"
    " AND marked_at > clock_timestamp() - {settle}::interval)"
)
_HELD: Final = (
    "EXISTS (SELECT FROM scoring.dirty AS b WHERE b.account_id = {table}.account_id AND b.backfill)"
)
TAKEABLE: Final = f"(NOT {_LOADING} OR (NOT backfill AND NOT {_HELD}))"
"""Whether a mark in `dirty` may be taken: formatted with the table's alias and the settle time."""

_HASH: Final = "hashtextextended({table}.account_id, 0)"


async def look(connection: AsyncConnection, *, settle: timedelta) -> Work:
    connected = await driver(connection)
    row = await connected.fetchrow(_LOOK, settle)
    waiting = await connected.fetch(_WAITING, settle) if row[0] else []
    sweeps = await connected.fetch("SELECT * FROM scoring.shard_sweeps")
    return Work(
        marked=row[0],
        history_loaded=row[1],
        waiting=dict(waiting),
        model_version=row[2],
        sweeps={
            one["shard"]: ShardSweep(
                swept_at=one["swept_at"],
                model_version=one["model_version"],
                columns=one["columns"],
                accounts=one["accounts"],
            )
            for one in sweeps
        },
    )


_LOOK: Final = f"""
SELECT ARRAY(SELECT s FROM generate_series(0, {SHARDS - 1}) AS s WHERE EXISTS (
        SELECT FROM scoring.dirty AS d WHERE shard = s
        AND {TAKEABLE.format(table="d", settle="$1")})),
    EXISTS (SELECT FROM scoring.dirty WHERE backfill) AND NOT {_LOADING.format(settle="$1")},
    (SELECT version FROM scoring.models WHERE state = 'active')
"""
_WAITING: Final = f"""
SELECT shard, count(*) FROM (SELECT DISTINCT shard, account_id FROM scoring.dirty AS d
    WHERE {TAKEABLE.format(table="d", settle="$1")}) AS m
WHERE NOT EXISTS (SELECT FROM scoring.scores AS s
    WHERE s.shard = m.shard AND s.account_id = m.account_id)
GROUP BY shard
"""


async def begin(connection: AsyncConnection, shards: Collection[int]) -> list[int]:
    """Those of the shards that this transaction may sweep; another replica may be at the others.

    The limits of a transaction are set to what the sweep of a whole shard needs.
    """
    await connection.execute(
        text(
            "SELECT set_config('idle_in_transaction_session_timeout', '60s', true),"
            " set_config('statement_timeout', '120s', true), set_config('work_mem', '64MB', true)"
        )
    )
    locked = await connection.scalars(
        text(
            "SELECT s FROM unnest(CAST(:shards AS int[])) AS s"
            " WHERE pg_try_advisory_xact_lock(hashtext('scoring.sweep'), s)"
        ),
        {"shards": sorted(shards)},
    )
    return list(locked)


async def take_marks(
    connection: AsyncConnection,
    shards: Collection[int],
    *,
    settle: timedelta,
    limit: int | None = None,
    part: Part = ALL,
    until: int = _NO_END,
) -> Marks:
    """The accounts of the shards that are to be scored again, and which no longer are now.

    An account whose history is being loaded waits until the backfill has settled: half a history
    looks like silence. `until` leaves out those that were marked first after that mark.
    """
    marks = await (await driver(connection)).fetch(
        _TAKE_MARKS, list(shards), settle, limit, *part, until
    )
    causes: dict[str, Cause] = {}
    for account, received_at, trace, backfill in marks:
        known = causes.get(account)
        loaded = backfill or (known is not None and known.backfill)
        if known is None or received_at < known.received_at:
            causes[account] = Cause(received_at, traceparent.parse(trace), loaded)
        else:
            causes[account] = known._replace(backfill=loaded)
    return causes


_TAKE_MARKS: Final = f"""
WITH wanted AS (
    SELECT DISTINCT shard, account_id FROM scoring.dirty AS d
    WHERE shard = ANY($1::smallint[])
        AND {TAKEABLE.format(table="d", settle="$2")}
        AND {_HASH.format(table="d")} BETWEEN $4 AND $5
        AND d.id <= $6
    LIMIT $3
)
DELETE FROM scoring.dirty AS d USING wanted AS w
WHERE d.shard = w.shard AND d.account_id = w.account_id
RETURNING d.account_id, d.received_at, d.traceparent, d.backfill
"""


async def last_mark(connection: AsyncConnection) -> int:
    """The newest mark there is."""
    found = await (await driver(connection)).fetchval("SELECT max(id) FROM scoring.dirty")
    return int(found or 0)


async def whole_shard(
    connection: AsyncConnection, shard: int, marks: Marks, part: Part
) -> tuple[Scope, Scope]:
    """All accounts of a shard that may be scored now; apart, the few that share their hash.

    Those of which history is being loaded are left out, but a hash is shared with them too.
    """
    connected = await driver(connection)
    scored = await connected.fetchval(_SCORED, shard, *part)
    held = set(await connected.fetchval(_LOADED, shard, *part)) - marks.keys()
    names = sorted({*scored, *marks} - held)
    hashes = await hashes_of(connection, [*names, *held])
    shared = usage_store.apart(hashes)[: len(names)]
    alone, together = np.flatnonzero(~shared), np.flatnonzero(shared)
    return (
        Scope(
            accounts=[names[place] for place in alone.tolist()],
            shard=shard,
            hashes=hashes[alone],
            part=None if part == ALL else part,
        ),
        Scope(accounts=[names[place] for place in together.tolist()]),
    )


_SCORED: Final = f"""
SELECT coalesce(array_agg(account_id), '{{}}') FROM scoring.scores AS s
WHERE shard = $1 AND {_HASH.format(table="s")} BETWEEN $2 AND $3
"""
_LOADED: Final = f"""
SELECT coalesce(array_agg(DISTINCT account_id), '{{}}') FROM scoring.dirty AS d
WHERE shard = $1 AND backfill AND {_HASH.format(table="d")} BETWEEN $2 AND $3
"""


async def hashes_of(connection: AsyncConnection, names: Sequence[str]) -> Integers:
    """What a whole shard's rows have in place of the accounts' names, `(accounts,)`."""
    return np.array(await (await driver(connection)).fetchval(_HASHES, names), np.int64)


_HASHES: Final = """
SELECT coalesce(array_agg(hashtextextended(name, 0) ORDER BY place), '{}')
FROM unnest($1::text[]) WITH ORDINALITY AS n (name, place)
"""


async def all_accounts(
    connection: AsyncConnection, shards: Collection[int], marks: Marks
) -> list[str]:
    """All accounts of the shards that may be scored now, in order."""
    rows = await (await driver(connection)).fetch(_ALL_ACCOUNTS, list(shards))
    held = {row[0] for row in rows if row[1]} - marks.keys()
    return sorted({*(row[0] for row in rows), *marks} - held)


_ALL_ACCOUNTS: Final = """
SELECT account_id, false FROM scoring.scores WHERE shard = ANY($1::smallint[])
UNION ALL
SELECT DISTINCT account_id, true FROM scoring.dirty WHERE shard = ANY($1::smallint[]) AND backfill
"""


async def count_new(
    connection: AsyncConnection, new: Mapping[int, int], *, model_version: str, now: datetime
) -> None:
    """Note how many accounts of each shard have got their first score."""
    await (await driver(connection)).execute(
        "INSERT INTO scoring.shard_sweeps AS s (shard, swept_at, model_version, columns, accounts)"
        " SELECT shard, $3, $4, $5, n FROM unnest($1::smallint[], $2::int[]) AS new (shard, n)"
        " ON CONFLICT (shard) DO UPDATE SET accounts = s.accounts + EXCLUDED.accounts",
        list(new),
        list(new.values()),
        now,
        model_version,
        columns_hash(),
    )


async def mark_swept(
    connection: AsyncConnection, accounts: Mapping[int, int], *, model_version: str, now: datetime
) -> None:
    """Note that all accounts of these shards, so many each, have been looked at."""
    await (await driver(connection)).execute(
        "UPDATE scoring.shard_sweeps AS s SET swept_at = $3, model_version = $4, columns = $5,"
        " accounts = n.accounts FROM unnest($1::smallint[], $2::int[]) AS n (shard, accounts)"
        " WHERE s.shard = n.shard",
        list(accounts.keys()),
        list(accounts.values()),
        now,
        model_version,
        columns_hash(),
    )


async def forget_old_days(connection: AsyncConnection, before: date) -> bool:
    """Delete the oldest day of use past the retention; whether there was one.

    What it said of the accounts' age stays in `account_past`.
    """
    result = await connection.execute(text(_FORGET_DAY), {"before": before})
    return bool(result.rowcount)


async def forget_old_signals(connection: AsyncConnection, before: date) -> int:
    """Delete signals past the retention; says how many."""
    result = await connection.execute(
        text("DELETE FROM scoring.signals WHERE occurred_at < :before"), {"before": before}
    )
    return int(result.rowcount)


# The shards stand first in the key: without them older servers read the whole of it.
_FORGET_DAY: Final = f"""
WITH gone AS (
    DELETE FROM scoring.account_day
    WHERE shard = ANY(ARRAY(SELECT s::smallint FROM generate_series(0, {SHARDS - 1}) AS s))
    AND day = (
        SELECT min(first) FROM generate_series(0, {SHARDS - 1}) AS shards (number), LATERAL (
            SELECT min(day) AS first FROM scoring.account_day WHERE shard = number AND day < :before
        ) AS days)
    RETURNING shard, account_id, day
)
INSERT INTO scoring.account_past AS p (shard, account_id, first_day, last_day, active_days)
SELECT shard, account_id, day, day, 1 FROM gone ORDER BY shard, account_id
ON CONFLICT (shard, account_id) DO UPDATE SET
    first_day = least(p.first_day, EXCLUDED.first_day),
    last_day = greatest(p.last_day, EXCLUDED.last_day),
    active_days = p.active_days + 1
"""
