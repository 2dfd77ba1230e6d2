"""How far behind scoring is, from the age of what it takes in."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from services.scoring.delay import Delay
from shared.errors import InvalidMessage
from shared.log import Batch, Lag, LogUnavailable, StoredRecord, TopicPartition
from shared.log.positions import Claim
from shared.messages import DIRECTORY_CHANGES, USAGE_EVENTS
from tests.factories import NOW

ONE, TWO = TopicPartition(USAGE_EVENTS, 0), TopicPartition(USAGE_EVENTS, 1)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NONE = timedelta(0)


class Intake:
    """A handler that takes everything in."""

    async def positions(self) -> Mapping[TopicPartition, int]:
        raise NotImplementedError

    async def claim(self, partition: TopicPartition) -> Claim:
        raise NotImplementedError

    async def take_in(self, batch: Batch, held: Claim) -> None:
        pass

    async def set_aside(self, batch: Batch, held: Claim, error: InvalidMessage) -> None:
        raise NotImplementedError


class Consumer:
    """Says how many records wait."""

    def __init__(self) -> None:
        self.waiting: Mapping[TopicPartition, int] | None = {}

    async def lag(self) -> Mapping[TopicPartition, Lag]:
        if self.waiting is None:
            raise LogUnavailable("away")
        return {one: Lag(records=count, seconds=0) for one, count in self.waiting.items()}


class Delayed:
    """A `Delay` with its surroundings; `now` is what the clock says."""

    def __init__(self) -> None:
        self.now = NOW
        self.consumer = Consumer()
        self.delay = Delay(Intake(), self.consumer, clock=lambda: self.now)

    async def take(self, partition: TopicPartition, appended_at: datetime) -> None:
        record = StoredRecord(offset=0, key=b"", value=b"", headers=(), appended_at=appended_at)
        batch = Batch(partition=partition, records=[record], generation=1)
        await self.delay.take_in(batch, Claim(epoch=1, next_offset=0))

    async def is_behind(self) -> bool:
        return await self.delay.is_behind(timedelta(seconds=10))

    async def lag(self, **after: float) -> timedelta | None:
        self.now = NOW + timedelta(**after)
        return await self.delay.lag(self.now)


async def test_where_nothing_waits_there_is_no_lag_however_old_the_last_record() -> None:
    one = Delayed()
    await one.take(ONE, NOW - HOUR)
    one.consumer.waiting = {ONE: 0}
    assert await one.lag() == NONE


async def test_what_waits_is_about_as_old_as_what_was_taken_in_last() -> None:
    one = Delayed()
    one.consumer.waiting = {ONE: 5, TWO: 5}
    assert await one.lag() is None  # nobody has seen a record of them yet
    await one.take(ONE, NOW - 72 * HOUR)
    assert await one.lag() is None
    await one.take(TWO, NOW - HOUR)
    assert await one.lag() == 72 * HOUR
    await one.take(ONE, NOW - MINUTE)
    assert await one.lag() == HOUR


async def test_a_record_that_arrives_after_a_quiet_night_is_no_lag() -> None:
    one = Delayed()
    await one.take(ONE, NOW)
    one.consumer.waiting = {ONE: 0}
    assert await one.lag() == NONE
    one.consumer.waiting = {ONE: 1}
    assert await one.lag(hours=8) == NONE


async def test_an_intake_that_stands_still_falls_behind() -> None:
    one = Delayed()
    await one.take(ONE, NOW - MINUTE)
    one.consumer.waiting = {ONE: 3}
    assert await one.lag() == MINUTE
    assert await one.lag(minutes=20) == 21 * MINUTE
    await one.take(ONE, one.now)
    assert await one.lag(minutes=21) == NONE


async def test_changes_to_the_directory_say_nothing_of_use() -> None:
    one = Delayed()
    one.consumer.waiting = {TopicPartition(DIRECTORY_CHANGES, 0): 9}
    assert await one.lag() == NONE


async def test_a_log_that_is_away_tells_nothing() -> None:
    one = Delayed()
    one.consumer.waiting = None
    assert await one.lag() is None


async def test_a_backlog_that_was_worked_off_is_not_held_against_the_next_record() -> None:
    one = Delayed()
    await one.take(ONE, NOW - HOUR)
    one.consumer.waiting = {ONE: 0}
    assert await one.lag() == NONE
    one.consumer.waiting = {ONE: 1}
    assert await one.lag(minutes=5) == NONE


async def test_of_a_busy_log_some_records_always_wait_and_nobody_is_behind() -> None:
    one = Delayed()
    one.consumer.waiting = {ONE: 300, TWO: 0}
    assert await one.is_behind()  # none of it has been seen yet
    await one.take(ONE, NOW - timedelta(seconds=1))
    assert not await one.is_behind()
    one.now = NOW + timedelta(seconds=20)
    assert await one.is_behind()  # nothing was taken in since
    await one.take(ONE, NOW - HOUR)
    assert await one.is_behind()  # what waits is an hour old
    one.consumer.waiting = {ONE: 0, TWO: 0}
    assert not await one.is_behind()
    one.consumer.waiting = None
    assert await one.is_behind()
