"""Goals in memory: read again behind the answer's back, and nobody is told of a past too far."""

import asyncio
from datetime import date, datetime, timedelta

import numpy as np
import pytest

from services.scoring.domain.usage import History, usage_of
from services.scoring.goal_store import Agreed
from services.scoring.promises import Promises
from shared.messages import AccountFields, Goal
from tests.unit.scoring.factories import NOW

GOAL = Goal(metric="m", baseline=1, target=2, due=date(2026, 12, 31))


class Database:
    """One account more at each reading; away if a test says so."""

    def __init__(self) -> None:
        self.readings = 0
        self.is_away = False

    async def read(self) -> Agreed:
        await asyncio.sleep(0)
        if self.is_away:
            raise ConnectionError
        self.readings += 1
        names = [f"a{number}" for number in range(self.readings)]
        return Agreed(
            accounts=names,
            fields=[AccountFields(goals=(GOAL,))] * len(names),
            values=usage_of([History()] * len(names)).signals,
        )


class Time:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def passes(self, **span: float) -> None:
        self.now += timedelta(**span)


async def read(promises: Promises) -> int:
    """How many accounts are known; whatever it has begun is over."""
    found = len((await promises.current()).accounts)
    begun = {one for one in asyncio.all_tasks() if one is not asyncio.current_task()}
    if begun:
        await asyncio.wait(begun, timeout=5)
    return found


async def test_an_old_answer_is_given_at_once_and_the_next_one_is_new() -> None:
    database, time = Database(), Time()
    promises = Promises(database.read, time)
    assert await read(promises) == 1
    time.passes(seconds=30)
    assert await read(promises) == 1
    assert database.readings == 1
    time.passes(seconds=1)
    assert await read(promises) == 1
    assert database.readings == 2
    assert await read(promises) == 2
    # Ten minutes are too long.
    time.passes(minutes=10)
    assert await read(promises) == 3


async def test_many_questions_at_once_are_one_reading() -> None:
    database = Database()
    promises = Promises(database.read, Time())
    found = await asyncio.gather(*[promises.current() for _ in range(5)])
    assert {id(one) for one in found} == {id(found[0])}
    assert database.readings == 1


async def test_who_asks_after_a_reading_that_failed_is_told_or_does_better() -> None:
    database, time = Database(), Time()
    promises = Promises(database.read, time)
    await read(promises)
    database.is_away = True
    time.passes(minutes=1)
    assert await read(promises) == 1
    with pytest.raises(ConnectionError):
        await promises.current()
    database.is_away = False
    assert await read(promises) == 2


async def test_each_account_is_found_among_all_or_nowhere() -> None:
    promises = Promises(Database().read, Time())
    await read(promises)
    known = await promises.current()
    assert promises.places(known, ("z",)).tolist() == [-1]
    assert promises.places(known, ("0", "a0")).tolist() == [1]
    assert np.array_equal(promises.places(known, ("0", "a0")), [1])
