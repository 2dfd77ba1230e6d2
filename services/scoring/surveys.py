"""A survey of the accounts: the features of those that have a risk, from their stored rows.

A sample says as much: whole shards, until there are enough accounts. Which shard an account is in
has nothing to do with what it does.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import asyncpg
import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import copied, score_store, sweep_store, usage_store
from services.scoring.day_sets import DaySets
from services.scoring.domain.features import FEATURES, Rows, rows
from services.scoring.domain.indicators import measure
from services.scoring.domain.table import COLUMNS, STATES, IndicatorTable, columns_hash
from services.scoring.domain.usage import Floats, SignalKind, directory_of
from services.scoring.store import SHARDS
from services.scoring.usage_store import Scope
from shared.database import driver

ENOUGH: Final = 200_000
_FEW: Final = 100
_FEW_AT_ONCE: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Accounts that have a risk: features, segments and their trends as nothing was usual yet."""

    rows: Rows
    segments: Sequence[str | None]
    trends: Floats


async def take(
    engine: AsyncEngine,
    now: datetime,
    *,
    accounts: int,
    settle: timedelta,
    progressed: Callable[[], None],
) -> Sample:
    """The features of the accounts as they were last looked at; of those never looked at, now.

    `accounts`: about how many there are. A few are read in one step.
    """
    steps = [[shard] for shard in range(SHARDS)]
    if accounts <= _FEW_AT_ONCE:
        steps = [list(range(SHARDS))]
    found, sets = _Gathering(), DaySets()
    async with engine.begin() as connection:
        await sweep_store.begin(connection, ())
        connected = await driver(connection)
        for shards in steps:
            await _add_stored(connected, shards, found, now.astimezone(UTC).date())
            if names := await _unseen(connected, shards, settle):
                await _add_unseen(connection, shards, names, found, sets, now)
            progressed()
            if found.accounts >= ENOUGH:
                break
    return found.sample()


async def has_milestones(connection: AsyncConnection) -> bool:
    """Whether onboarding milestones are reported: else their absence says nothing."""
    found = await connection.scalar(
        text(f"SELECT EXISTS (SELECT FROM scoring.signals WHERE kind = {SignalKind.MILESTONE})")
    )
    return bool(found)


class _Gathering:
    def __init__(self) -> None:
        self.accounts = 0
        self._rows: list[Rows] = [np.empty((0, len(FEATURES)))]
        self._trends: list[Floats] = [np.empty(0)]
        self._segments: list[str | None] = []

    def add(
        self, table: IndicatorTable, segments: Sequence[str | None], ratio: Floats | float
    ) -> None:
        scored = table.column("state") == STATES.index("scored")
        chosen = np.flatnonzero(scored)
        self._rows.append(rows(table.where(chosen)))
        self._trends.append((table.column("trend") * ratio)[chosen])
        self._segments += [segments[place] for place in chosen.tolist()]
        self.accounts += len(table)

    def sample(self) -> Sample:
        return Sample(
            rows=np.concatenate(self._rows),
            segments=self._segments,
            trends=np.concatenate(self._trends),
        )


async def _add_stored(
    connection: asyncpg.Connection, shards: Sequence[int], found: _Gathering, today: date
) -> None:
    numbers = ", ".join(map(str, shards))
    content = await copied.fetch(connection, _STORED.format(shards=numbers, columns=columns_hash()))
    stored = copied.rows(content, _STORED_LAYOUT)
    if not len(stored):
        return
    names = dict(await connection.fetch(_SEGMENTS, np.unique(stored["segment"]).tolist()))
    values = np.frombuffer(
        np.ascontiguousarray(stored["indicators"]).tobytes(), np.float64
    ).reshape(len(stored), len(COLUMNS))
    found.add(
        IndicatorTable(today - timedelta(days=1), values),
        [names.get(code) for code in stored["segment"].tolist()],
        stored["ratio"].astype(np.float64),
    )


# A segment travels as the hash of its name, so that all rows are equally long.
_STORED: Final = """
SELECT s.cohort_ratio, hashtextextended(coalesce(a.fields->>'segment', ''), 0), s.indicators
FROM scoring.scores AS s LEFT JOIN scoring.accounts AS a USING (account_id)
WHERE s.shard IN ({shards}) AND s.state = 'scored' AND s.columns = '{columns}'
"""
_STORED_LAYOUT: Final = np.dtype(
    [
        ("_fields", ">i2"),
        ("_ratio", ">i4"),
        ("ratio", ">f8"),
        ("_segment", ">i4"),
        ("segment", ">i8"),
        ("_indicators", ">i4"),
        ("indicators", f"V{8 * len(COLUMNS)}"),
    ]
)
_SEGMENTS: Final = """
SELECT hashtextextended(name, 0), name
FROM (SELECT DISTINCT fields->>'segment' AS name FROM scoring.accounts) AS n
WHERE name <> '' AND hashtextextended(name, 0) = ANY($1::bigint[])
"""


async def _unseen(
    connection: asyncpg.Connection, shards: Sequence[int], settle: timedelta
) -> list[str]:
    """Accounts that wait for their first score, or for one of today's columns."""
    names: list[str] = await connection.fetchval(_UNSEEN, shards, settle, columns_hash())
    return names


_UNSEEN: Final = f"""
SELECT coalesce(array_agg(account_id ORDER BY account_id), '{{}}') FROM (
    SELECT account_id FROM scoring.dirty AS d WHERE shard = ANY($1::smallint[])
        AND {sweep_store.TAKEABLE.format(table="d", settle="$2")}
        AND NOT EXISTS (SELECT FROM scoring.scores AS s
            WHERE s.shard = d.shard AND s.account_id = d.account_id)
    UNION SELECT account_id FROM scoring.scores
        WHERE shard = ANY($1::smallint[]) AND columns <> $3
) AS n
"""


async def _add_unseen(
    connection: AsyncConnection,
    shards: Sequence[int],
    names: list[str],
    found: _Gathering,
    sets: DaySets,
    now: datetime,
) -> None:
    if len(names) <= _FEW or len(shards) > 1:
        scope = Scope(accounts=names)
    else:
        hashes = await sweep_store.hashes_of(connection, names)
        # The few that share a hash are missing from the sample.
        alone = np.flatnonzero(~usage_store.apart(hashes))
        names = [names[place] for place in alone.tolist()]
        scope = Scope(accounts=names, shard=shards[0], hashes=hashes[alone])
    stored = await usage_store.read_stored(
        await driver(connection), scope, now.astimezone(UTC).date(), sets
    )
    fields = await score_store.read_fields(connection, names)
    table = await asyncio.to_thread(
        lambda: measure(usage_store.usage_of(stored), directory_of(fields), now)
    )
    found.add(table, [one.segment for one in fields], 1.0)
