"""Scoring's SQL of training: the rows that were logged, and what is known of losses by now.

Rows are read as they were logged, never computed again: what came late stays unknown to them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import asyncpg
import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.domain.labels import Cancellations, Dated, Evidence, Terms
from services.scoring.domain.table import COLUMNS, STATES, columns_hash
from services.scoring.domain.usage import Floats, Integers, SignalKind
from services.scoring.store import SHARDS
from services.scoring.training import LoggedRows
from shared.database import driver
from shared.messages import OutcomeKind

EVERY_DAYS: Final = 28
"""One row per account and so many days may teach: those between say the same again."""

MAX_ROWS: Final = 1_000_000
"""Of more than that a sample of accounts teaches as well, and fits into memory."""

_WEEKS = EVERY_DAYS // 7
_STATE, _RECENCY = COLUMNS.index("state"), COLUMNS.index("recency_days")
_SCORED = STATES.index("scored")
_ONE_DAY = timedelta(days=1)
_BUCKETS = 1_000
_SECONDS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """What was read: rows that may teach, evidence, and rows of columns that are no more."""

    rows: LoggedRows
    evidence: Evidence
    unreadable: int


@dataclass(slots=True)
class _Gathering:
    """What grows as days are read."""

    codes: dict[str, int] = field(default_factory=dict)
    taken_on: dict[int, int] = field(default_factory=dict)
    tables: list[Floats] = field(default_factory=list)
    owners: list[Integers] = field(default_factory=list)
    days: list[Integers] = field(default_factory=list)
    risks: list[Floats] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    used_by: list[Integers] = field(default_factory=list)
    used_on: list[Integers] = field(default_factory=list)
    ends: dict[tuple[int, int], int] = field(default_factory=dict)
    left: set[tuple[int, int]] = field(default_factory=set)
    left_undated: dict[int, int] = field(default_factory=dict)

    def code(self, name: str) -> int:
        return self.codes.setdefault(name, len(self.codes))

    def directory(
        self, owner: int, known_on: int, end: str | None, churned_at: str | None, status: str | None
    ) -> None:
        """What a record of the directory said on a day; the first day of each end counts."""
        if end is not None:
            key = (owner, date.fromisoformat(end).toordinal())
            self.ends[key] = min(self.ends.get(key, known_on), known_on)
        if churned_at is not None:
            self.left.add((owner, date.fromisoformat(churned_at).toordinal()))
        elif status == "churned":
            self.left_undated[owner] = min(self.left_undated.get(owner, known_on), known_on)


async def read_logged(
    connection: AsyncConnection, now: datetime, *, every_days: int = EVERY_DAYS
) -> Logged:
    """The weekly rows, one per account and `every_days` days, and the evidence as of `now`."""
    # Years of rows of many accounts: the limits of a service's short statements do not fit.
    for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
        await connection.execute(text(f"SET LOCAL {name} = '{_SECONDS}s'"))
    connected = await driver(connection)
    found = _Gathering()
    logged = await connected.fetch(_LOGGED_DAYS, timeout=_SECONDS)
    stored = sum(row["rows"] for row in logged)
    share = min(1.0, MAX_ROWS * _WEEKS / stored) if stored else 1.0
    for row in logged:
        start = datetime.combine(row["day"], time(), UTC)
        rows = await connected.fetch(
            _ROWS, start, start + _ONE_DAY, columns_hash(), int(share * _BUCKETS), timeout=_SECONDS
        )
        _gather(found, rows, row["day"].toordinal() - 1, every_days)
    names = tuple(found.codes)
    unreadable = await connected.fetchval(_UNREADABLE, columns_hash(), timeout=_SECONDS)
    evidence = await _read_evidence(connected, found, now)
    return Logged(
        rows=LoggedRows(
            names=names,
            account=_joined(found.owners),
            day=_joined(found.days),
            table=np.concatenate([np.empty((0, len(COLUMNS))), *found.tables]),
            risk=np.concatenate([np.empty(0), *found.risks]),
            version=tuple(found.versions),
        ),
        evidence=evidence,
        unreadable=unreadable,
    )


_LOGGED_DAYS = """
SELECT (as_of AT TIME ZONE 'UTC')::date AS day, count(*) AS rows
FROM scoring.feature_rows WHERE kind = 'weekly' GROUP BY 1 ORDER BY 1
"""
_UNREADABLE = """
SELECT count(*) FROM scoring.feature_rows WHERE kind = 'weekly' AND columns <> $1
"""
_ROWS = f"""
SELECT account_id, indicators, risk, model_version, directory->>'contract_end' AS contract_end,
    directory->>'churned_at' AS churned_at, directory->>'status' AS status
FROM scoring.feature_rows
WHERE as_of >= $1 AND as_of < $2 AND kind = 'weekly' AND columns = $3
    AND abs(hashtext(account_id) % {_BUCKETS}) < $4
ORDER BY account_id
"""


def _gather(found: _Gathering, rows: Sequence[asyncpg.Record], day: int, every_days: int) -> None:
    """Take in the rows of one day; `day` is the last complete one that they saw."""
    if not rows:
        return
    values = np.frombuffer(b"".join(row["indicators"] for row in rows), np.float64)
    table = values.reshape(len(rows), len(COLUMNS))
    owner = np.array([found.code(row["account_id"]) for row in rows], np.int64)
    used = ~np.isnan(table[:, _RECENCY])
    found.used_by.append(owner[used])
    found.used_on.append(day - table[used, _RECENCY].astype(np.int64))
    taken = np.zeros(len(rows), np.bool_)
    for index, row in enumerate(rows):
        code = int(owner[index])
        found.directory(code, day + 1, row["contract_end"], row["churned_at"], row["status"])
        has_left = row["status"] == "churned" or (
            row["churned_at"] is not None
            and date.fromisoformat(row["churned_at"]).toordinal() <= day
        )
        due = day - found.taken_on.get(code, -every_days) >= every_days
        if due and not has_left and table[index, _STATE] == _SCORED:
            taken[index] = True
            found.taken_on[code] = day
    risks = [np.nan if row["risk"] is None else row["risk"] for row in rows]
    found.tables.append(table[taken])
    found.owners.append(owner[taken])
    found.days.append(np.full(int(taken.sum()), day, np.int64))
    found.risks.append(np.array(risks, np.float64)[taken])
    found.versions.extend(
        row["model_version"] or "" for row, wanted in zip(rows, taken, strict=True) if wanted
    )


async def _read_evidence(
    connected: asyncpg.Connection, found: _Gathering, now: datetime
) -> Evidence:
    names = list(found.codes)
    for row in await connected.fetch(_DIRECTORY, names):
        found.directory(
            found.codes[row["account_id"]],
            row["updated_at"].astimezone(UTC).toordinal(),
            row["contract_end"],
            row["churned_at"],
            row["status"],
        )
    dated = {owner for owner, _ in found.left}
    left = found.left | {one for one in found.left_undated.items() if one[0] not in dated}
    used = await _read_days(connected, found.codes)
    ends = [(owner, known_on, end) for (owner, end), known_on in found.ends.items()]
    owner, known_on, end = _columns(ends, 3)
    return Evidence(
        known_until=now.astimezone(UTC).toordinal() - 1,
        active=Dated(
            owner=_joined([*found.used_by, used.owner]), day=_joined([*found.used_on, used.day])
        ),
        churned=_dated(left),
        terms=Terms(owner=owner, known_on=known_on, end=end),
        cancellations=await _read_cancellations(connected, found.codes),
        outcomes_churned=await _read_outcomes(connected, found.codes, OutcomeKind.CHURNED),
        outcomes_saved=await _read_outcomes(connected, found.codes, OutcomeKind.SAVED),
    )


_DIRECTORY = """
SELECT account_id, updated_at, fields->>'contract_end' AS contract_end,
    fields->>'churned_at' AS churned_at, fields->>'status' AS status
FROM scoring.accounts WHERE account_id = ANY($1::text[])
"""


async def _read_days(connected: asyncpg.Connection, codes: dict[str, int]) -> Dated:
    """Days with activity, as far back as they are kept; older ones are told by the rows."""
    owners, days = [], []
    for shard in range(SHARDS):
        rows = await connected.fetch(_DAYS, shard, timeout=_SECONDS)
        known = [(codes[row[0]], row[1]) for row in rows if row[0] in codes]
        owner, day = _columns(known, 2)
        owners.append(owner)
        days.append(day)
    last = [
        (codes[row[0]], row[1].toordinal()) for row in await connected.fetch(_PAST, list(codes))
    ]
    owner, day = _columns(last, 2)
    return Dated(owner=_joined([*owners, owner]), day=_joined([*days, day]))


_DAYS = "SELECT account_id, day - date '0001-01-01' + 1 FROM scoring.account_day WHERE shard = $1"
_PAST = "SELECT account_id, last_day FROM scoring.account_past WHERE account_id = ANY($1::text[])"


async def _read_cancellations(
    connected: asyncpg.Connection, codes: dict[str, int]
) -> Cancellations:
    rows = await connected.fetch(
        _CANCELLATIONS,
        [int(SignalKind.CANCELLATION_REQUESTED), int(SignalKind.CANCELLATION_WITHDRAWN)],
        list(codes),
    )
    facts = [
        (
            codes[row["account_id"]],
            row["occurred_at"].astimezone(UTC).toordinal(),
            _stated(row["kind"], row["value"]),
        )
        for row in rows
    ]
    owner, day, effective_on = _columns(facts, 3)
    return Cancellations(owner=owner, day=day, effective_on=effective_on)


_CANCELLATIONS = """
SELECT account_id, occurred_at, kind, value FROM scoring.signals
WHERE kind = ANY($1::smallint[]) AND account_id = ANY($2::text[])
ORDER BY occurred_at, key
"""


def _stated(kind: int, value: float | None) -> int:
    if kind != SignalKind.CANCELLATION_REQUESTED or value is None or np.isnan(value):
        return 0
    return int(value)


async def _read_outcomes(
    connected: asyncpg.Connection, codes: dict[str, int], kind: OutcomeKind
) -> Dated:
    rows = await connected.fetch(
        "SELECT account_id, closed_at FROM scoring.outcomes"
        " WHERE outcome = $1 AND account_id = ANY($2::text[])",
        kind.value,
        list(codes),
    )
    return _dated((codes[row[0]], row[1].astimezone(UTC).toordinal()) for row in rows)


def _dated(facts: Iterable[tuple[int, int]]) -> Dated:
    owner, day = _columns(sorted(facts), 2)
    return Dated(owner=owner, day=day)


def _columns(facts: Sequence[tuple[int, ...]], width: int) -> list[Integers]:
    return list(np.array(facts, np.int64).reshape(-1, width).T)


def _joined(parts: Sequence[Integers]) -> Integers:
    return np.concatenate([np.empty(0, np.int64), *parts])
