"""Scoring's SQL of scores: what earlier looks have found of accounts, and what this one has."""

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring import copied, usage_store
from services.scoring.domain.assessment import Assessed, Known
from services.scoring.domain.risk import BANDS, Moments, healthy
from services.scoring.domain.table import STATES, columns_hash
from services.scoring.domain.usage import Integers
from services.scoring.store import fields_from, shard_of
from services.scoring.usage_store import Scope
from shared.database import driver
from shared.messages import AccountFields

_NOBODY: Final = AccountFields()
_NEVER: Final = 2**63 - 1  # PostgreSQL's infinity.
_EPOCH_MICROSECONDS: Final = 946_684_800 * 10**6


async def read_known(connection: AsyncConnection, scope: Scope, now: datetime) -> Known:
    """What earlier looks have found of the accounts, and their records in the directory."""
    connected = await driver(connection)
    found = copied.rows(
        await usage_store.fetch(connected, scope, "scores", _STANDING), _STANDING_LAYOUT
    )
    owner, kept = scope.owners(found["key"].astype(np.int64))
    owner, found = owner[kept], found[kept]
    bands = healthy(len(scope.accounts), now)
    bands.code[owner] = found["latched"]
    bands.since[owner] = _moments(found["since"])
    for place, name in enumerate(("watch", "at_risk", "critical")):
        bands.low_since[owner, place] = _moments(found[name])
    last_risk = np.full(len(scope.accounts), np.nan)
    last_risk[owner] = found["last_risk"]
    looked_at = np.full(len(scope.accounts), np.datetime64("NaT", "us"))
    looked_at[owner] = _moments(found["as_of"])
    stage = np.zeros(len(scope.accounts), np.int64)
    stage[owner] = found["stage"]
    stage_since = np.full(len(scope.accounts), np.datetime64("NaT", "us"))
    stage_since[owner] = _moments(found["stage_since"])
    return Known(
        accounts=scope.accounts,
        fields=await read_fields(connection, scope.accounts),
        bands=bands,
        last_risk=last_risk,
        looked_at=looked_at,
        stage=stage,
        stage_since=stage_since,
    )


_STANDING: Final = (
    "d.as_of, d.latched, d.band_since, coalesce(d.watch_low_since, 'infinity'),"
    " coalesce(d.at_risk_low_since, 'infinity'), coalesce(d.critical_low_since, 'infinity'),"
    " coalesce(d.last_risk, 'NaN'), coalesce(d.stage, 0::smallint),"
    " coalesce(d.stage_since, 'infinity')"
)
_STANDING_LAYOUT: Final = copied.layout(
    key="i8",
    as_of="i8",
    latched="i2",
    since="i8",
    watch="i8",
    at_risk="i8",
    critical="i8",
    last_risk="f8",
    stage="i2",
    stage_since="i8",
)


async def read_fields(connection: AsyncConnection, names: Sequence[str]) -> list[AccountFields]:
    """The records of the directory, in order; the same empty one for all that have none."""
    records = await (await driver(connection)).fetch(
        "SELECT account_id, fields::text FROM scoring.accounts WHERE account_id = ANY($1::text[])",
        list(names),
    )
    known = {row[0]: fields_from(row[1]) for row in records}
    return [known.get(name, _NOBODY) for name in names]


async def save_scores(
    connection: AsyncConnection,
    found: Assessed,
    stage: Integers,
    stage_since: Moments,
    *,
    model_version: str,
    cohort_ratio: float,
    now: datetime,
) -> None:
    """Write what was found of all accounts, in one order; and who has come to another stage."""
    accounts = found.known.accounts
    bands = [BANDS[code] for code in found.bands.code.tolist()]
    risks = _numbers(found.risk)
    is_new = np.isnat(found.known.looked_at)
    has_moved = stage != found.known.stage
    rows = zip(
        [shard_of(name) for name in accounts],
        accounts,
        [STATES[int(code)] for code in found.table.column("state").tolist()],
        (found.table.column("short_history") > 0).tolist(),
        risks,
        _numbers(found.last_risk),
        [None if risk is None else band for risk, band in zip(risks, bands, strict=True)],
        found.bands.code.tolist(),
        _times(found.bands.since),
        *(_times(found.bands.low_since[:, place]) for place in range(3)),
        [value and value.amount for value in found.values],
        [value and value.currency for value in found.values],
        [value and value.basis for value in found.values],
        found.table.packed(),
        stage.tolist(),
        _times(stage_since),
        is_new.tolist(),
        has_moved.tolist(),
        strict=True,
    )
    connected = await driver(connection)
    # Through a table of this session: the driver takes arrays at several times the cost of rows.
    await connected.execute(_MAKE_ROOM)
    await connected.copy_records_to_table(_ROOM, schema_name="pg_temp", records=rows)
    same = (now, columns_hash(), cohort_ratio, model_version)
    if not is_new.all():
        await connected.execute(_UPDATE_SCORES, *same)
    if is_new.any():
        await connected.execute(_INSERT_SCORES, *same)
    if has_moved.any():
        await connected.execute(_INSERT_STAGES)


_FOUND: Final = (
    "state, short_history, risk, last_risk, band, latched, band_since, watch_low_since,"
    " at_risk_low_since, critical_low_since, value_at_risk, currency, value_basis, indicators,"
    " stage, stage_since"
)
_SAVED: Final = f"{_FOUND}, as_of, columns, cohort_ratio, model_version"
# A session may be another release's as well (PgBouncer): its table has other columns.
_ROOM: Final = f"scored_{zlib.crc32(_FOUND.encode()):08x}"
_MAKE_ROOM: Final = f"""
DO $$ BEGIN
    IF to_regclass('pg_temp.{_ROOM}') IS NULL THEN
        CREATE TEMPORARY TABLE {_ROOM} ON COMMIT DELETE ROWS
        AS SELECT shard, account_id, {_FOUND}, true AS is_new, true AS has_moved
        FROM scoring.scores WITH NO DATA;
    ELSE
        DELETE FROM pg_temp.{_ROOM};
    END IF;
END $$
"""
# Not one statement with ON CONFLICT: it locks each row before it changes it, and writes that down
# too. The caller holds the shards' locks: nobody else writes a first score, or erases one.
_UPDATE_SCORES: Final = f"""
UPDATE scoring.scores AS s SET ({_SAVED}) =
    ({", ".join("n." + name.strip() for name in _FOUND.split(","))}, $1, $2, $3, $4)
FROM pg_temp.{_ROOM} AS n WHERE s.shard = n.shard AND s.account_id = n.account_id AND NOT n.is_new
"""
_INSERT_SCORES: Final = f"""
INSERT INTO scoring.scores (shard, account_id, {_SAVED})
SELECT shard, account_id, {_FOUND}, $1, $2, $3, $4 FROM pg_temp.{_ROOM} WHERE is_new
"""
# Two looks may be as of one moment: the second knows better.
_INSERT_STAGES: Final = f"""
INSERT INTO scoring.account_stages (account_id, since, stage)
SELECT account_id, stage_since, stage FROM pg_temp.{_ROOM} WHERE has_moved
ON CONFLICT (account_id, since) DO UPDATE SET
    stage = EXCLUDED.stage, written_in = EXCLUDED.written_in
"""


def _moments(microseconds: NDArray[np.int64]) -> NDArray[np.datetime64]:
    """PostgreSQL's moments, which count from 2000 on."""
    own: Integers = microseconds.astype(np.int64)
    never = own == _NEVER
    own[~never] += _EPOCH_MICROSECONDS
    found = own.view("M8[us]")
    found[never] = np.datetime64("NaT", "us")
    return found


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [None if one != one else one for one in values.tolist()]  # noqa: PLR0124 - NaN


def _times(moments: NDArray[np.datetime64]) -> list[datetime | None]:
    """As the driver takes them; there are few different ones."""
    different, place = np.unique(moments, return_inverse=True)
    known = [one and one.replace(tzinfo=UTC) for one in different.tolist()]
    return [known[index] for index in place.tolist()]
