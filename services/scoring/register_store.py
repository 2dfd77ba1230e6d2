"""Scoring's SQL of the register: what is stored of all accounts, or has been written since.

One transaction is one reading: what it has not seen of others' work is not older than its `xmin`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg
import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring import copied
from services.scoring.copied import Rows
from services.scoring.domain.ledger import Dimension, Stages, Today, Versions
from services.scoring.domain.posting import Entries
from services.scoring.domain.risk import BANDS
from services.scoring.domain.table import STATES
from services.scoring.domain.usage import STATUSES, Integers
from shared.database import driver

_EPOCH_MICROSECONDS: Final = 946_684_800 * 10**6  # PostgreSQL's moments count from 2000 on.
_EPOCH_DAYS: Final = 730_120  # ... and its days: the ordinal of 2000-01-01.


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far a reading has come: what was written in a transaction from `xmin` on may be new.

    `erased` changes with every erasure of an account.
    """

    xmin: int
    erased: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What COPY has brought, not yet put together; `is_whole`: all there is.

    `changed_since`: the first change to an account that was erased.
    """

    mark: Mark
    is_whole: bool
    changed_since: datetime | None
    versions: bytes
    stages: bytes
    scores: bytes
    names: Sequence[asyncpg.Record]


async def read(connection: AsyncConnection, since: Mark | None) -> Reading:
    """What has been written since the mark; all of it without one, or where something was erased.

    Runs in a transaction that sees one state of everything (REPEATABLE READ).
    """
    connected = await driver(connection)
    xmin, xmax, *erased, changed_since = await connected.fetchrow(_MARK)
    mark = Mark(xmin=xmin, erased=(erased[0], erased[1]))
    is_whole = since is None or since.erased != mark.erased or since.xmin > xmin
    where, scored = "true", "true"
    if since is not None and not is_whole:
        # What another server wrote, of which this one is a restored copy, may have higher numbers.
        where = f"written_in >= {since.xmin} AND written_in < {xmax}"
        scored = _SCORED_SINCE.format(xmin=since.xmin % 2**32)
    return Reading(
        mark=mark,
        is_whole=is_whole,
        changed_since=changed_since,
        versions=await copied.fetch(connected, _VERSIONS.format(where=where)),
        stages=await copied.fetch(connected, _STAGES.format(where=where)),
        scores=await copied.fetch(connected, _SCORES.format(where=scored)),
        names=await connected.fetch(_NAMES.format(where=where)),
    )


_MARK: Final = """
SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint, e.*
FROM pg_current_snapshot() AS s,
    (SELECT count(*), coalesce(sum(extract(epoch FROM erased_at) * 1000000), 0)::numeric(30),
        min(changed_since)
        FROM scoring.erased_accounts) AS e
"""
_HASHES: Final = ", ".join(
    f"coalesce(hashtextextended(nullif({one}, ''), 0), 0)" for one in Dimension
)


def _day(name: str) -> str:
    return f"coalesce(({name} - date '2000-01-01')::float8, 'NaN')"


def _number(name: str) -> str:
    return f"coalesce({name}::float8, 'NaN')"


_VERSIONS: Final = f"""
SELECT since, {_HASHES}, {_number("mrr")}, {_number("margin_per_month")}, {_number("seats")},
    coalesce((array_position(ARRAY{list(STATUSES)}, status) - 1)::float8, 'NaN'),
    {_day("contract_start")}, {_day("contract_end")}, {_day("churned_at")},
    {_number("notice_days")}, (billing_period IS NOT DISTINCT FROM 'month')::int::int2,
    account_id, coalesce(name, '')
FROM scoring.account_versions WHERE {{where}}
"""
_VERSION_LAYOUT: Final = copied.layout(
    since="i8",
    **dict.fromkeys(Dimension, "i8"),
    mrr="f8",
    margin="f8",
    seats="f8",
    status="f8",
    contract_start="f8",
    contract_end="f8",
    churned_at="f8",
    notice_days="f8",
    monthly="i2",
)
_STAGES: Final = "SELECT since, stage, account_id FROM scoring.account_stages WHERE {where}"
_STAGE_LAYOUT: Final = copied.layout(since="i8", stage="i2")
_SCORES: Final = f"""
SELECT (array_position(ARRAY{[str(one) for one in STATES]}, state) - 1)::int2,
    {_number("risk")}, (coalesce(array_position(ARRAY{[str(one) for one in BANDS]}, band), 0)
    - 1)::int2, {_number("value_at_risk")}, coalesce(stage, 0::int2),
    coalesce(stage_since, 'epoch'), account_id
FROM scoring.scores WHERE {{where}}
"""
# A column that says in which transaction a score was written would need an index to be of use, and
# each look of the sweep would have to keep it: the row's own number of it costs a pass over rows.
_SCORED_SINCE: Final = "age(xmin) <= age('{xmin}'::xid)"
_SCORE_LAYOUT: Final = copied.layout(
    state="i2", risk="f8", band="i2", value_at_risk="f8", stage="i2", stage_since="i8"
)
# One pass for all: `which` has a bit for each column, 0 for the one that the row is of.
_NAMES: Final = f"""
SELECT d.*, hashtextextended(d.name, 0) AS hash FROM (
    SELECT grouping({", ".join(Dimension)}) AS which, coalesce({", ".join(Dimension)}) AS name
    FROM scoring.account_versions WHERE {{where}}
    GROUP BY GROUPING SETS ({", ".join(f"({one})" for one in Dimension)})
) AS d WHERE d.name <> ''
"""


def entries_of(reading: Reading, at: int) -> Entries:
    """What was read at `at` (epoch microseconds), as columns."""
    versions, (of_version, titles) = copied.rows_with_texts(reading.versions, _VERSION_LAYOUT, 2)
    stages, (of_stage,) = copied.rows_with_texts(reading.stages, _STAGE_LAYOUT, 1)
    scores, (of_score,) = copied.rows_with_texts(reading.scores, _SCORE_LAYOUT, 1)
    # The scores' first: all but a few accounts have one.
    places = {
        name: place for place, name in enumerate(dict.fromkeys([*of_score, *of_version, *of_stage]))
    }
    return Entries(
        at=at,
        erased_since=_microseconds(reading.changed_since),
        accounts=list(places),
        versions=Versions(
            account=_places(places, of_version),
            since=_moments(versions, "since"),
            **{str(one): _integers(versions, one) for one in Dimension},
            mrr=_floats(versions, "mrr"),
            margin=_floats(versions, "margin"),
            seats=_floats(versions, "seats"),
            status=_floats(versions, "status"),
            contract_start=_floats(versions, "contract_start") + _EPOCH_DAYS,
            contract_end=_floats(versions, "contract_end") + _EPOCH_DAYS,
            churned_at=_floats(versions, "churned_at") + _EPOCH_DAYS,
            notice_days=_floats(versions, "notice_days"),
            monthly=versions["monthly"] != 0,
        ),
        titles=titles,
        stages=Stages(
            account=_places(places, of_stage),
            since=_moments(stages, "since"),
            stage=_integers(stages, "stage"),
        ),
        looked_at=_places(places, of_score),
        today=Today(
            state=_integers(scores, "state"),
            risk=_floats(scores, "risk"),
            band=_integers(scores, "band"),
            value_at_risk=_floats(scores, "value_at_risk"),
            stage=_integers(scores, "stage"),
            stage_since=_moments(scores, "stage_since"),
        ),
        names=_names(reading.names),
    )


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 10**6)


def _names(rows: Sequence[asyncpg.Record]) -> dict[Dimension, dict[int, str]]:
    found: dict[Dimension, dict[int, str]] = {dimension: {} for dimension in Dimension}
    whole = (1 << len(Dimension)) - 1
    which = {whole ^ 1 << place: one for place, one in enumerate(reversed(Dimension))}
    for row in rows:
        found[which[row["which"]]][row["hash"]] = row["name"]
    return found


def _places(places: dict[str, int], names: Sequence[str]) -> Integers:
    return np.fromiter((places[name] for name in names), np.int64, len(names))


def _integers(rows: Rows, name: str) -> Integers:
    return rows[name].astype(np.int64)


def _floats(rows: Rows, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return rows[name].astype(np.float64)


def _moments(rows: Rows, name: str) -> Integers:
    return _integers(rows, name) + _EPOCH_MICROSECONDS
