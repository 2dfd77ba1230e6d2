"""Makes the month's insights: shard by shard, of a random part of the accounts, once.

Of each drawn account a few numbers stay in memory, of the others nothing. What is stored holds no
account: erasing one need not, and cannot, change it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final

import asyncpg
import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring import insight_store, surveys
from services.scoring.domain import anonymity
from services.scoring.domain.insight_document import Document, Milestone
from services.scoring.domain.insights import (
    BEFORE_DAYS,
    COMPARED,
    LIFE_DAYS,
    Beginnings,
    Customers,
    Fates,
    Growth,
    InUse,
    insights_of,
)
from services.scoring.domain.table import COLUMNS
from services.scoring.domain.usage import KEPT_DAYS, Floats
from services.scoring.feature_names import OTHER
from services.scoring.insight_store import Record
from services.scoring.store import SHARDS
from shared.database import driver
from shared.errors import PerennialError

SETTLING: Final = timedelta(days=2)
"""How long after its end a month is waited for: what comes later is in no document."""

WINDOW_DAYS: Final = 28
YEAR_DAYS: Final = 365
HALF_YEAR_DAYS: Final = 182

BASIS: Final = (
    f"A random {anonymity.DRAWN_SHARE:.0%} of the accounts, drawn anew for each month; counts are"
    f" rounded to {anonymity.STEP}, nothing rests on fewer than {anonymity.K}."
)

_MILLISECONDS_PER_HOUR: Final = 3_600_000
_COMPARED: Final = [COLUMNS.index(name) for name, _ in COMPARED]


class MonthRefused(PerennialError):
    """No document can be made of this month."""


class Made(StrEnum):
    """What became of a month's document."""

    MADE = "made"
    THERE_ALREADY = "there_already"
    TOO_FEW = "too_few"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The days that a month's document is made of; `end` is the first day after the month."""

    month: date
    end: date

    @property
    def ends_at(self) -> datetime:
        return datetime.combine(self.end, time.min, UTC)

    def before(self, days: int) -> date:
        return self.end - timedelta(days=days)


def last_month(now: datetime) -> Span:
    """The last month that is over and settled."""
    end = (now - SETTLING).astimezone(UTC).date().replace(day=1)
    return Span(month=(end - timedelta(days=1)).replace(day=1), end=end)


def span_of(month: date, now: datetime) -> Span:
    """The month's days; raises `MonthRefused` unless it is settled and its days are kept."""
    end = (month.replace(day=1) + timedelta(days=31)).replace(day=1)
    span = Span(month=month.replace(day=1), end=end)
    if span.ends_at + SETTLING > now:
        raise MonthRefused(f"{month:%Y-%m} is not over, or not settled yet")
    if span.ends_at + timedelta(days=KEPT_DAYS - YEAR_DAYS) < now:
        raise MonthRefused(f"of {month:%Y-%m} not all days that are needed are kept any more")
    return span


async def make(connection: AsyncConnection, span: Span, *, now: datetime, key: bytes) -> Made:
    """Make and store the month's document, unless it is there or there is nothing to tell.

    `key` decides who is drawn: random bytes that nobody keeps.
    """
    if span.month in await insight_store.read_months(connection):
        return Made.THERE_ALREADY
    # A large vendor's shard takes longer to count than a request may.
    for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
        await connection.execute(text(f"SET LOCAL {limit} = '10min'"))
    found = _Gathering()
    milestones = await surveys.has_milestones(connection)
    connected = await driver(connection)
    for shard in range(SHARDS):
        await _gather(connected, shard, span, found, key, milestones=milestones)
    value: Milestone = "milestone" if milestones else "third_active_day"
    segments = insights_of(found.customers(value))
    if not segments:
        return Made.TOO_FEW
    document = Document(
        month=f"{span.month:%Y-%m}",
        made_at=now.astimezone(UTC).isoformat(timespec="seconds"),
        k=anonymity.K,
        basis=BASIS,
        segments=segments,
    )
    is_ours = await insight_store.save(connection, span.month, document, now)
    return Made.MADE if is_ours else Made.THERE_ALREADY


@dataclass(slots=True, kw_only=True)
class _Gathering:
    """The drawn accounts' numbers, row by row as the shards bring them."""

    segments: dict[str, int] = field(default_factory=dict)
    features: dict[str, int] = field(default_factory=dict)
    in_use: list[tuple[float, ...]] = field(default_factory=list)
    born: list[tuple[float, ...]] = field(default_factory=list)
    uses: list[np.ndarray[tuple[int, ...], np.dtype[np.int32]]] = field(default_factory=list)
    growth: list[tuple[float, ...]] = field(default_factory=list)
    fates: list[tuple[float, ...]] = field(default_factory=list)
    indicators: list[bytes] = field(default_factory=list)

    def group(self, record: Record | None) -> int:
        if record is None or record.segment is None:
            return -1
        return self.segments.setdefault(record.segment, len(self.segments))

    def customers(self, value: Milestone) -> Customers:
        group, users, days, hours = _columns(self.in_use, 4)
        born, value_days = _columns(self.born, 2)
        user, feature, day = np.concatenate([np.empty((0, 3), np.int32), *self.uses]).T
        grown, users_before, users_after, before, after = _columns(self.growth, 5)
        fates, left = _columns(self.fates, 2)
        rows = np.frombuffer(b"".join(self.indicators), np.float64).reshape(-1, len(COLUMNS))
        return Customers(
            segments=list(self.segments),
            in_use=InUse(group=group.astype(np.int64), users=users, days=days, hours=hours),
            beginnings=Beginnings(
                group=born.astype(np.int64),
                value_days=value_days,
                value=value,
                features=list(self.features),
                user=user.astype(np.int64),
                feature=feature.astype(np.int64),
                day=day.astype(np.int64),
            ),
            growth=Growth(
                group=grown.astype(np.int64),
                users_before=users_before,
                users_after=users_after,
                features_before=before,
                features_after=after,
            ),
            fates=Fates(
                group=fates.astype(np.int64),
                left=left.astype(np.bool_),
                indicators=rows[:, _COMPARED],
            ),
        )


async def _gather(
    connected: asyncpg.Connection,
    shard: int,
    span: Span,
    found: _Gathering,
    key: bytes,
    *,
    milestones: bool,
) -> None:
    first_days = await insight_store.read_first_days(connected, shard, span.end)
    names = list(first_days)
    chosen = anonymity.drawn(names, key)
    drawn = [name for name, is_drawn in zip(names, chosen.tolist(), strict=True) if is_drawn]
    records = await insight_store.read_records(connected, drawn, span.ends_at)
    # Trials are no customers.
    drawn = [name for name in drawn if name not in records or not records[name].is_trial]
    await _add_use(connected, shard, span, found, records, drawn)
    starts = {}
    for name in drawn:
        began = records[name].contract_start if name in records else None
        start = min(first_days[name], began or first_days[name])
        if span.before(YEAR_DAYS) <= start <= span.before(LIFE_DAYS):
            starts[name] = start
    await _add_beginnings(connected, shard, span, found, records, starts, milestones=milestones)
    await _add_fates(connected, span, found, records)


async def _add_use(
    connected: asyncpg.Connection,
    shard: int,
    span: Span,
    found: _Gathering,
    records: dict[str, Record],
    drawn: Sequence[str],
) -> None:
    now = await insight_store.read_use(connected, shard, span.before(WINDOW_DAYS), span.end)
    then = await insight_store.read_use(
        connected,
        shard,
        span.before(HALF_YEAR_DAYS + WINDOW_DAYS),
        span.before(HALF_YEAR_DAYS),
    )
    for name in drawn:
        use, record = now.get(name), records.get(name)
        is_lost = record is not None and record.lost_on is not None and record.lost_on < span.end
        if use is None or is_lost:
            continue
        group = found.group(record)
        weeks = use.users * (WINDOW_DAYS // 7)
        hours = use.milliseconds / _MILLISECONDS_PER_HOUR
        found.in_use.append(
            (
                group,
                use.users or np.nan,
                use.days,
                hours / weeks if weeks and use.milliseconds else np.nan,
            )
        )
        past = then.get(name)
        if past is not None and past.users and use.users:
            found.growth.append((group, past.users, use.users, past.features, use.features))


async def _add_beginnings(
    connected: asyncpg.Connection,
    shard: int,
    span: Span,
    found: _Gathering,
    records: dict[str, Record],
    starts: dict[str, date],
    *,
    milestones: bool,
) -> None:
    if milestones:
        valued = await insight_store.read_milestones(connected, shard, span.ends_at)
    else:
        valued = await insight_store.read_third_days(connected, shard, starts, span.end)
    places = {}
    for name, start in starts.items():
        places[name] = len(found.born)
        days = max((valued[name] - start).days, 0) if name in valued else np.inf
        found.born.append((found.group(records.get(name)), days))
    uses = [
        (places[name], found.features.setdefault(feature, len(found.features)), day)
        for name, feature, day in await insight_store.read_first_uses(
            connected, shard, starts, LIFE_DAYS
        )
        if feature != OTHER
    ]
    found.uses.append(np.array(uses, np.int32).reshape(-1, 3))


async def _add_fates(
    connected: asyncpg.Connection, span: Span, found: _Gathering, records: dict[str, Record]
) -> None:
    moments = {}
    for name, record in records.items():
        until = span.end if record.lost_on is None else min(record.lost_on, span.end)
        if not record.is_trial and until >= span.before(YEAR_DAYS):
            moments[name] = until - timedelta(days=BEFORE_DAYS)
    for name, indicators in (await insight_store.read_indicators(connected, moments)).items():
        record = records[name]
        is_lost = record.lost_on is not None and record.lost_on < span.end
        found.fates.append((found.group(record), is_lost))
        found.indicators.append(indicators)


def _columns(rows: Sequence[tuple[float, ...]], width: int) -> list[Floats]:
    return list(np.array(rows, np.float64).reshape(-1, width).T)
