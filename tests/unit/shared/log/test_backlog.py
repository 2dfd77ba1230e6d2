"""What waits for a worker, told at scrape, and what the watchdog makes of it."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import InvalidMessage
from shared.lifecycle import Frame
from shared.log import Batch, Lag, LogUnavailable, StoredRecord, TopicPartition
from shared.log.backlog import Backlog
from shared.log.positions import Claim
from shared.log.worker import Worker
from shared.telemetry import Dependency
from shared.watchdog import Loop

_PARTITION = TopicPartition("events", 0)
_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
_LONG_AGO = -1_000.0


class _Member:
    """A member of a group that hands out one batch; what waits beside it is for a test to say."""

    def __init__(self, batches: Sequence[Batch] = ()) -> None:
        self.waiting: int | None = 0
        self.assigned = frozenset({_PARTITION})
        self.rebalances = 1
        self._batches = list(batches)

    async def fetch(
        self, *, max_records: int, wait: timedelta, but: Collection[TopicPartition] = ()
    ) -> Sequence[Batch]:
        del max_records, wait, but
        await asyncio.sleep(0.001)
        return [self._batches.pop()] if self._batches else []

    async def lag(self) -> Mapping[TopicPartition, Lag]:
        if self.waiting is None:
            raise LogUnavailable("away")
        return dict.fromkeys(self.assigned, Lag(records=self.waiting, seconds=0.0))

    def is_current(self, _batch: Batch) -> bool:
        return True

    @asynccontextmanager
    async def processing(self) -> AsyncIterator[None]:
        yield

    def seek(self, _partition: TopicPartition, _offset: int) -> None: ...

    def hint(self, _partition: TopicPartition, _next_offset: int) -> None: ...

    def assignment(self) -> frozenset[TopicPartition]:
        return self.assigned

    def partitions(self) -> Mapping[str, int]:
        return {_PARTITION.topic: 12}


class _Stuck:
    """A handler that takes nothing in."""

    def __init__(self) -> None:
        self.began = asyncio.Event()

    async def positions(self) -> Mapping[TopicPartition, int]:
        return {}

    async def claim(self, _partition: TopicPartition) -> Claim:
        return Claim(next_offset=0, epoch=1)

    async def take_in(self, _batch: Batch, _held: Claim) -> None:
        self.began.set()
        await asyncio.Event().wait()

    async def set_aside(self, batch: Batch, held: Claim, error: InvalidMessage) -> None:
        raise AssertionError((batch, held, error))


def _batch(records: int, *, appended_at: datetime) -> Batch:
    return Batch(
        partition=_PARTITION,
        records=[
            StoredRecord(offset=number, key=b"", value=b"", headers=(), appended_at=appended_at)
            for number in range(records)
        ],
        generation=1,
    )


class _Time:
    def __init__(self) -> None:
        self.now = _NOON

    def __call__(self) -> datetime:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def time() -> _Time:
    return _Time()


@pytest.fixture
def loop(frame: Frame) -> Loop:
    made = frame.loop(
        "scoring", "intake", limit_seconds=60, needs=(Dependency.LOG, Dependency.DATABASE)
    )
    made.last_progress = _LONG_AGO
    return made


def _backlog(frame: Frame, member: _Member, loop: Loop, time: _Time) -> Backlog:
    return Backlog(service="scoring", consumer=member, loop=loop, metrics=frame.metrics, clock=time)


def _read(frame: Frame, name: str, **labels: str) -> float | None:
    return frame.registry.get_sample_value(
        f"perennial_log_{name}", {"service": "scoring", "topic": "events", **labels}
    )


async def test_what_is_in_hand_waits_and_grows_old_until_it_is_done(
    frame: Frame, loop: Loop, time: _Time
) -> None:
    member = _Member()
    backlog = _backlog(frame, member, loop, time)
    with backlog.told():
        await backlog.look()
        time.passes(30)
        assert _read(frame, "lag_seconds", partition="0") == 0  # nothing waits: nothing grows old
        batch = _batch(3, appended_at=time.now)
        backlog.take_up([batch])
        time.passes(40)
        # 3 in hand; up to noon, 70 s ago, all was known to be done.
        assert _read(frame, "lag_records", partition="0") == 3
        assert _read(frame, "lag_seconds", partition="0") == 70
        backlog.done(batch)
        member.waiting = 2
        await backlog.look()
        time.passes(5)
        # The last record done was appended 45 s ago; two wait in the log.
        assert _read(frame, "lag_records", partition="0") == 2
        assert _read(frame, "lag_seconds", partition="0") == 45


async def test_a_partition_that_went_to_another_member_leaves_no_number(
    frame: Frame, loop: Loop, time: _Time
) -> None:
    member = _Member()
    member.waiting = 5
    backlog = _backlog(frame, member, loop, time)
    with backlog.told():
        await backlog.look()
        assert _read(frame, "lag_records", partition="0") == 5
        assert _read(frame, "partitions_assigned") == 1
        member.assigned = frozenset()
        assert _read(frame, "lag_records", partition="0") is None
        assert _read(frame, "partitions_assigned") == 0
        assert _read(frame, "topic_partitions") == 12
    assert _read(frame, "topic_partitions") is None


async def test_a_partition_that_comes_back_is_as_old_as_its_return(
    frame: Frame, loop: Loop, time: _Time
) -> None:
    member = _Member()
    backlog = _backlog(frame, member, loop, time)
    with backlog.told():
        await backlog.look()
        member.assigned, member.rebalances = frozenset(), 2
        await backlog.look()
        time.passes(3_600)
        member.assigned, member.rebalances = frozenset({_PARTITION}), 3
        member.waiting = 5
        await backlog.look()
        time.passes(7)
        # Another member has read it for an hour: what waits came since.
        assert _read(frame, "lag_seconds", partition="0") == 7


async def test_rebalances_are_counted_and_restart_the_timer(
    frame: Frame, loop: Loop, time: _Time
) -> None:
    member = _Member()
    member.waiting = 5
    backlog = _backlog(frame, member, loop, time)
    await backlog.look()
    assert loop.overdue() is None
    loop.last_progress = _LONG_AGO
    await backlog.look()
    assert loop.overdue() is not None
    member.rebalances = 3
    await backlog.look()
    assert loop.overdue() is None
    total = frame.registry.get_sample_value(
        "perennial_log_rebalances_total", {"service": "scoring"}
    )
    assert total == 3


async def test_two_workers_of_one_service_tell_each_its_own_topic(
    frame: Frame, loop: Loop, time: _Time
) -> None:
    one, other = _Member(), _Member()
    at = TopicPartition("unplaced", 0)
    one.waiting, other.waiting, other.assigned = 5, 7, frozenset({at})
    first, second = (_backlog(frame, member, loop, time) for member in (one, other))
    with first.told(), second.told():
        await first.look()
        await second.look()
        time.passes(20)
        assert _read(frame, "lag_records", partition="0") == 5
        assert _read(frame, "lag_records", topic="unplaced", partition="0") == 7
        assert _read(frame, "lag_seconds", topic="unplaced", partition="0") == 20
        total = frame.registry.get_sample_value(
            "perennial_log_rebalances_total", {"service": "scoring"}
        )
        assert total == 2
    assert _read(frame, "lag_records", partition="0") is None


@pytest.mark.parametrize(
    ("waiting", "is_overdue"),
    [
        pytest.param(5, True, id="records wait"),
        pytest.param(0, False, id="nothing waits"),
        pytest.param(None, True, id="nobody knows, as the client does not connect"),
    ],
)
async def test_silence_counts_unless_nothing_waits(
    frame: Frame, loop: Loop, time: _Time, waiting: int | None, *, is_overdue: bool
) -> None:
    member = _Member()
    member.rebalances, member.waiting = 0, waiting
    await _backlog(frame, member, loop, time).look()
    assert (loop.overdue() is not None) is is_overdue


@pytest.mark.parametrize("dependency", [Dependency.LOG, Dependency.DATABASE])
def test_a_known_outage_pauses_the_timer_and_its_end_restarts_it(
    frame: Frame, loop: Loop, dependency: Dependency
) -> None:
    assert loop.overdue() is not None
    frame.outages.note("scoring", dependency, is_up=False)
    assert loop.overdue() is None
    loop.last_progress = _LONG_AGO
    frame.outages.note("notifier", dependency, is_up=True)  # another service's view
    assert loop.overdue() is None
    frame.outages.note("scoring", dependency, is_up=True)
    assert loop.overdue() is None  # it has its whole limit again
    loop.last_progress = _LONG_AGO
    assert "scoring.intake made no progress" in (loop.overdue() or "")


async def test_a_worker_that_stands_still_is_seen_by_scrapes_and_by_the_watchdog(
    frame: Frame, loop: Loop
) -> None:
    appended_at = datetime.now(UTC) - timedelta(minutes=5)
    handler, stop = _Stuck(), asyncio.Event()
    worker = Worker(
        service="scoring",
        consumer=_Member([_batch(2, appended_at=appended_at)]),
        handler=handler,
        frame=frame,
        loop=loop,
    )
    running = asyncio.create_task(worker.run(stop))
    async with asyncio.timeout(10):
        await handler.began.wait()
    loop.last_progress = _LONG_AGO
    await asyncio.sleep(0)
    assert _read(frame, "lag_records", partition="0") == 2
    assert loop.overdue() is not None
    running.cancel()
    await asyncio.wait({running})
    assert _read(frame, "lag_records", partition="0") is None
