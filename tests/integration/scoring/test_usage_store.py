"""Stored use as vectors: however it is read, it is what was taken in."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import sweep_store, usage_store
from services.scoring.day_sets import DaySets
from services.scoring.domain.indicators import measure
from services.scoring.domain.table import IndicatorTable
from services.scoring.domain.usage import (
    History,
    Signal,
    SignalKind,
    Usage,
    code_of,
    directory_of,
    usage_of,
)
from services.scoring.store import shard_of
from services.scoring.tables import account_day, account_past, dirty, signals
from services.scoring.usage_store import Scope
from shared.database import driver
from shared.messages import AccountFields

TODAY = date(2026, 3, 1)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOURCES: tuple[list[str], ...] = (["web"], ["mobile", "web"], [])


def in_shard(shard: int, count: int) -> list[str]:
    names = (f"account {number}" for number in range(10_000))
    return [name for name in names if shard_of(name) == shard][:count]


def history(number: int) -> History:
    """Days at steps of `number`; the third one's users are not known."""
    ages = [age for age in range(0, 600, number + 1) if age % 7]
    days = [TODAY.toordinal() - age for age in reversed(ages)]
    kept = [day for day in days if day >= TODAY.toordinal() - 400]
    old = [day for day in days if day < TODAY.toordinal() - 400]
    return History(
        days=kept,
        events=[1 + day % 5 for day in kept],
        milliseconds=[day % 3 * 1_500 for day in kept],
        users=[[] if number == 2 else [day % 3, -(2**60) + day % 2] for day in kept],
        features=[[f"f{day % 4}", f"f{day % 9}"][: 1 + day % 2] for day in kept],
        sources=[SOURCES[day % 3] for day in kept],
        signals=[
            Signal(at=NOW - timedelta(days=3), kind=SignalKind.TICKET_OPENED, subject=7, value=3.0),
            Signal(at=NOW - timedelta(days=2), kind=SignalKind.FEEDBACK_NPS, user=9, value=4.0),
        ][: number % 3],
        first_deleted=min(old) if old else None,
        last_deleted=max(old) if old else None,
        deleted_days=len(old),
    )


async def store(connection: AsyncConnection, histories: dict[str, History]) -> None:
    """As intake and retention leave it: of days past it some are still there, some are counted."""
    for name, one in histories.items():
        shard = shard_of(name)
        for place, day in enumerate(one.days):
            await connection.execute(
                insert(account_day).values(
                    shard=shard,
                    day=date.fromordinal(day),
                    account_id=name,
                    events=one.events[place],
                    milliseconds=one.milliseconds[place],
                    userless=0,
                    users=sorted(one.users[place]),
                    features=sorted(set(one.features[place])),
                    sources=one.sources[place],
                    first_received_at=NOW,
                )
            )
        for number, signal in enumerate(one.signals):
            await connection.execute(
                insert(signals).values(
                    shard=shard,
                    account_id=name,
                    occurred_at=signal.at,
                    key=bytes([number] * 16),
                    kind=signal.kind,
                    user_key=signal.user or None,
                    subject=signal.subject or None,
                    value=signal.value,
                    received_at=NOW,
                )
            )
        if one.deleted_days:
            first, last = one.first_deleted, one.last_deleted
            assert first is not None
            assert last is not None
            await connection.execute(
                insert(account_past).values(
                    shard=shard,
                    account_id=name,
                    first_day=date.fromordinal(first),
                    last_day=date.fromordinal(last - 1),
                    active_days=one.deleted_days - 1,
                )
            )
            await connection.execute(
                insert(account_day).values(
                    shard=shard,
                    day=date.fromordinal(last),
                    account_id=name,
                    events=1,
                    milliseconds=0,
                    userless=1,
                    users=[],
                    features=["never counted"],
                    sources=["web"],
                    first_received_at=NOW,
                )
            )


async def read(connection: AsyncConnection, scope: Scope) -> Usage:
    stored = await usage_store.read_stored(await driver(connection), scope, TODAY, DaySets())
    return usage_store.usage_of(stored)


def measured(usage: Usage) -> IndicatorTable:
    return measure(usage, directory_of([AccountFields()] * usage.accounts), NOW)


def triples(usage: Usage) -> list[tuple[int, int, int]]:
    members = usage.sources
    return sorted(zip(members.owner.tolist(), members.day.tolist(), members.code.tolist()))  # noqa: B905


async def test_a_whole_shard_and_a_list_of_its_accounts_are_what_was_stored(
    engine: AsyncEngine,
) -> None:
    names = in_shard(3, 6)
    histories = {name: history(number) for number, name in enumerate(names)}
    async with engine.begin() as connection:
        await store(connection, histories)
        # Somebody else's, in the same shard and in another: not to be seen.
        await store(connection, {in_shard(3, 7)[-1]: history(0), in_shard(4, 1)[0]: history(1)})
        asked = [names[4], names[1], "never seen", names[0], names[2]]
        hashes = await sweep_store.hashes_of(connection, asked)
        listed = await read(connection, Scope(accounts=asked))
        whole = await read(connection, Scope(accounts=asked, shard=3, hashes=hashes))
    expected = usage_of([histories.get(name, History()) for name in asked])
    for found in (listed, whole):
        assert np.array_equal(measured(found).values, measured(expected).values, equal_nan=True)
        assert triples(found) == triples(expected)
        for column in ("owner", "day", "events", "milliseconds"):
            assert np.array_equal(getattr(found.days, column), getattr(expected.days, column))
    assert {code for _, _, code in triples(whole)} == {code_of("web"), code_of("mobile")}


async def test_the_parts_of_a_shard_are_the_whole(engine: AsyncEngine) -> None:
    names = in_shard(5, 12)
    async with engine.begin() as connection:
        await store(connection, {name: history(1) for name in names})
        await connection.execute(
            insert(dirty),
            [
                {"shard": 5, "account_id": name, "backfill": False, "received_at": NOW}
                for name in names
            ],
        )
        seen: list[str] = []
        settle, days = timedelta(0), 0
        for part in ((-(2**63), -1), (0, 2**63 - 1)):
            marks = await sweep_store.take_marks(connection, [5], settle=settle, part=part)
            scope, apart = await sweep_store.whole_shard(connection, 5, marks, part)
            assert list(apart.accounts) == []
            assert sorted(marks) == list(scope.accounts)
            seen += scope.accounts
            days += len((await read(connection, scope)).days.day)
    assert sorted(seen) == sorted(names)
    assert days == 12 * len(history(1).days)


async def test_accounts_that_share_a_hash_are_read_apart(engine: AsyncEngine) -> None:
    assert usage_store.apart(np.array([5, 7, 5, 9])).tolist() == [True, False, True, False]
    names = in_shard(6, 3)
    async with engine.begin() as connection:
        await store(connection, {name: history(number) for number, name in enumerate(names)})
        hashes = await sweep_store.hashes_of(connection, names)
        # As if the second had the first one's: it is left out, and asked for by name.
        whole = await read(connection, Scope(accounts=names[2:], shard=6, hashes=hashes[2:]))
        apart = await read(connection, Scope(accounts=names[:2]))
    values = np.concatenate([measured(apart).values, measured(whole).values])
    expected = measured(usage_of([history(number) for number in range(3)]))
    assert np.array_equal(values, expected.values, equal_nan=True)
