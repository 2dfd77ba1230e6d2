"""The sets of days: what their hashes stand for, also while days change and others learn."""

import asyncio
from datetime import UTC, date, datetime

import asyncpg
import numpy as np
import pytest
from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import day_sets, usage_store
from services.scoring.day_sets import DaySets
from services.scoring.domain.usage import Members, code_of
from services.scoring.store import shard_of
from services.scoring.tables import account_day
from services.scoring.usage_store import Scope, Stored
from shared.database import driver

TODAY = date(2026, 3, 1)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B = (frozenset({code_of(name) for name in names}) for names in ("ab", "b"))


async def store(connection: AsyncConnection, account: str, *features: str) -> None:
    """One day for each of the sets, the newest last."""
    for age, names in enumerate(reversed(features)):
        await connection.execute(
            insert(account_day).values(
                shard=shard_of(account),
                day=date.fromordinal(TODAY.toordinal() - age),
                account_id=account,
                events=1,
                milliseconds=0,
                userless=1,
                users=[],
                features=list(names),
                sources=["web"],
                first_received_at=NOW,
            )
        )


async def read(connection: AsyncConnection, sets: DaySets, *accounts: str) -> Stored:
    return await usage_store.read_stored(
        await driver(connection), Scope(accounts=accounts), TODAY, sets
    )


def by_day(members: Members) -> dict[tuple[int, int], frozenset[int]]:
    """The members of each account's day, by its age."""
    found: dict[tuple[int, int], frozenset[int]] = {}
    for owner, day, code in zip(
        members.owner.tolist(), members.day.tolist(), members.code.tolist(), strict=True
    ):
        place = owner, TODAY.toordinal() - day
        found[place] = found.get(place, frozenset()) | {code}
    return found


def features_of(stored: Stored) -> dict[tuple[int, int], frozenset[int]]:
    return by_day(usage_store.usage_of(stored).features)


async def test_each_day_has_its_own_set(engine: AsyncEngine) -> None:
    sets = DaySets()
    async with engine.begin() as connection:
        await store(connection, "acme", "ab", "b", "", "ab")
        await store(connection, "globex", "b")
        first = await read(connection, sets, "acme")
        second = await read(connection, sets, "nobody", "globex")
    assert features_of(first) == {(0, 0): A, (0, 2): B, (0, 3): A}
    assert features_of(second) == {(1, 0): B}
    assert len(second.features) == 3  # Nothing was asked twice; the third is the empty one.


async def test_a_day_that_changes_between_two_statements_has_none_this_time(
    engine: AsyncEngine,
) -> None:
    async with engine.begin() as connection:
        await store(connection, "acme", "b", "ab")
        stored = await read(connection, DaySets(), "acme")
        await connection.execute(
            update(account_day).where(account_day.c.day == TODAY).values(features=["a", "b", "c"])
        )
        learned = await DaySets().learn(
            await driver(connection), "features", ["acme"], stored.owner, stored.days
        )
        hashes = stored.days["features"].astype(np.int64)
        days = stored.days["day"].astype(np.int64)
        found = learned.members(stored.owner, days, hashes)
        again = await read(connection, DaySets(), "acme")
    assert set(found.day.tolist()) == {days.min()}
    assert features_of(again)[0, 0] == A | {code_of("c")}


async def test_more_sets_than_are_remembered_are_asked_anew(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(day_sets, "MOST_SETS", 2)
    sets = DaySets()
    async with engine.begin() as connection:
        await store(connection, "acme", "a", "b", "ab")
        await store(connection, "globex", "ab", "b")
        first = await read(connection, sets, "acme")
        second = await read(connection, sets, "globex")
        third = await read(connection, sets, "acme")
    for found in (first, third):
        assert features_of(found) == {(0, 0): A, (0, 1): B, (0, 2): frozenset({code_of("a")})}
    assert features_of(second) == {(0, 0): B, (0, 1): A}
    assert (len(first.features), len(second.features)) == (3, 2)


class Held(asyncpg.Connection):  # type: ignore[misc]  # The driver is untyped.
    """A connection whose next answer is awaited until it is let go."""

    waits: asyncio.Event
    let_go: asyncio.Event

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        self.waits.set()
        await self.let_go.wait()
        rows: list[asyncpg.Record] = await super().fetch(query, *arguments)
        return rows


async def test_what_another_forgets_meanwhile_is_still_known(
    engine: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(day_sets, "MOST_SETS", 2)
    sets = DaySets()
    async with engine.begin() as connection:
        await store(connection, "acme", "a", "b")
        await store(connection, "globex", "a", "ab", "")
        await store(connection, "initech", "a")
    async with engine.begin() as connection:
        await read(connection, sets, "initech")
        stored = await read(connection, DaySets(), "acme")
        held = await asyncpg.connect(database_url, connection_class=Held)
        held.waits, held.let_go = asyncio.Event(), asyncio.Event()
        learning = asyncio.create_task(
            sets.learn(held, "features", ["acme"], stored.owner, stored.days)
        )
        await held.waits.wait()
        await read(connection, sets, "globex")  # With it there are too many.
        held.let_go.set()
        learned = await learning
        await held.close()
    _, is_known = learned.places(stored.days["features"].astype(np.int64))
    assert is_known.tolist() == [True, True]
