"""The appender where aiokafka behaves as it should never, which no broker makes it do on demand."""

import asyncio
import itertools
import tracemalloc
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace

import pytest
from aiokafka.errors import NotLeaderForPartitionError
from aiokafka.producer.message_accumulator import BatchBuilder

from shared.log import Appended, LogBusy, LogUnavailable, Record
from shared.log.kafka import KafkaLog, open_kafka_log
from shared.log.kafka import producer as kafka_producer
from tests.brokers import KafkaBroker

_LONG = timedelta(seconds=60)
_SOON = 10.0
"""Far below what a caller waits here, so that waiting the deadline out is seen."""

_MB = 1_000_000

Fate = Callable[[], "asyncio.Future[None]"]


def _stored() -> "asyncio.Future[None]":
    sent = asyncio.get_running_loop().create_future()
    sent.set_result(None)
    return sent


def _hangs() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()


def _fails_later(error: BaseException) -> Fate:
    def fate() -> "asyncio.Future[None]":
        sent = asyncio.get_running_loop().create_future()
        sent.set_exception(error)
        return sent

    return fate


def _fails_at_once(error: BaseException) -> Fate:
    def fate() -> "asyncio.Future[None]":
        raise error

    return fate


def _is_cancelled() -> "asyncio.Future[None]":
    sent = asyncio.get_running_loop().create_future()
    sent.cancel()
    return sent


class Library:
    """aiokafka's producers, as far as ours asks them, and what becomes of each batch in turn."""

    def __init__(self, *fates: Fate, partitions: int = 1) -> None:
        self.fates = deque(fates)
        self.partitions = set(range(partitions))
        self.made = 0
        self.sent: list[int] = []
        """How many records each batch had."""

    def producer(self, **_options: object) -> "LibraryProducer":
        self.made += 1
        return LibraryProducer(self)


class LibraryProducer:
    def __init__(self, library: Library) -> None:
        self._library = library
        self.client = self
        self.cluster = SimpleNamespace(partitions_for_topic=lambda _name: library.partitions)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def close(self) -> None: ...

    async def force_metadata_update(self) -> bool:
        return True

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(kafka_producer.MAX_BATCH_BYTES, 0)

    async def send_batch(
        self, builder: BatchBuilder, _name: str, *, partition: int
    ) -> "asyncio.Future[None]":
        assert partition in self._library.partitions
        self._library.sent.append(builder.record_count())
        return self._library.fates.popleft()() if self._library.fates else _stored()


Open = Callable[..., AbstractAsyncContextManager[KafkaLog]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens our log on a `Library`; leaving it raises what a lane died of."""

    @asynccontextmanager
    async def opening(library: Library, **limits: int) -> AsyncIterator[KafkaLog]:
        monkeypatch.setattr(kafka_producer, "AIOKafkaProducer", library.producer)
        async with open_kafka_log("nowhere:1", **limits) as log:  # type: ignore[arg-type]
            yield log

    return opening


@pytest.mark.parametrize(
    ("fate", "is_replaced"),
    [
        pytest.param(_fails_at_once(AssertionError("Unrecognized partition")), True, id="assert"),
        pytest.param(_fails_at_once(asyncio.CancelledError()), True, id="cancelled at once"),
        pytest.param(_is_cancelled, True, id="cancelled later"),
        pytest.param(_fails_later(RuntimeError("a bug")), True, id="a bug later"),
        pytest.param(_fails_later(NotLeaderForPartitionError()), False, id="as it should"),
    ],
)
async def test_a_partition_outlives_whatever_the_library_does_to_a_batch(
    opened: Open, fate: Fate, *, is_replaced: bool
) -> None:
    library = Library(fate, fate)
    async with opened(library, max_in_flight_records=2) as log, asyncio.timeout(_SOON):
        for expected in (Appended.UNKNOWN, Appended.UNKNOWN, Appended.DURABLE):
            # As many as there is room for: of the batch before, none is left.
            assert await _append(log, _records(2)) == (expected, expected)
        assert library.sent == [2, 2, 2]
        assert library.made == (3 if is_replaced else 1)


async def test_producers_that_lose_each_batch_are_unfit_where_a_broker_answers_others(
    kafka_broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    losing = _fails_later(RuntimeError("a bug"))
    library = Library(*[losing] * 5)
    monkeypatch.setattr(kafka_producer, "AIOKafkaProducer", library.producer)
    async with open_kafka_log(kafka_broker.bootstrap_servers) as log, asyncio.timeout(30):
        for _ in range(4):
            assert await _append(log, _records(1)) == (Appended.UNKNOWN,)
        assert log.why_no_append() is None
        assert await _append(log, _records(1)) == (Appended.UNKNOWN,)
        await _until(lambda: log.why_no_append() is not None)
        assert log.why_no_append() == "5 producers in a row: each lost a batch"
        assert await _append(log, _records(1)) == (Appended.DURABLE,)
        assert log.why_no_append() is None


async def test_an_outage_that_all_share_makes_no_producer_unfit(opened: Open) -> None:
    losing = _fails_later(RuntimeError("a bug"))
    library = Library(*[losing] * 6)
    async with opened(library) as log, asyncio.timeout(30):  # nobody listens there
        for _ in range(6):
            assert await _append(log, _records(1)) == (Appended.UNKNOWN,)
        assert await _append(log, _records(1)) == (Appended.DURABLE,)
        assert log.why_no_append() is None


async def test_what_waits_behind_a_batch_that_failed_is_sent(opened: Open) -> None:
    hanging = asyncio.get_running_loop().create_future()
    library = Library(lambda: hanging)
    async with opened(library) as log, asyncio.timeout(_SOON):
        first = asyncio.create_task(_append(log, _records(1)))
        await _until(lambda: library.sent == [1])
        behind = asyncio.create_task(_append(log, _records(2)))
        await asyncio.sleep(0)
        hanging.cancel()
        assert await first == (Appended.UNKNOWN,)
        assert await behind == (Appended.DURABLE, Appended.DURABLE)
        assert library.sent == [1, 2]


async def test_a_record_that_the_library_refuses_stops_nothing_behind_it(opened: Open) -> None:
    library = Library()
    wrong = Record(key=b"k", value="text")  # type: ignore[arg-type]
    async with opened(library, max_in_flight_records=2) as log, asyncio.timeout(_SOON):
        assert await _append(log, [wrong, wrong]) == (Appended.UNKNOWN, Appended.UNKNOWN)
        assert await _append(log, _records(2)) == (Appended.DURABLE, Appended.DURABLE)
        assert (library.sent, library.made) == ([2], 1)


async def test_closing_ends_a_lane_whose_batch_hangs(opened: Open) -> None:
    before, library = asyncio.all_tasks(), Library(_hangs)
    async with asyncio.timeout(_SOON) as limit:
        async with opened(library) as log:
            call = asyncio.create_task(_append(log, _records(1)))
            await _until(lambda: library.sent == [1])
        assert await call == (Appended.UNKNOWN,)
        await asyncio.sleep(0)
    assert not limit.expired()  # Who waits for a task's end may swallow the error.
    assert asyncio.all_tasks() <= before


async def test_what_callers_gave_up_holds_no_memory(opened: Open) -> None:
    hanging = asyncio.get_running_loop().create_future()
    library = Library(_stored, lambda: hanging)
    async with opened(library, max_in_flight_bytes=_MB) as log:
        await _append(log, _records(1))
        tracemalloc.start()
        try:
            # The first of the first call is on its way; all the others wait, and are given up.
            for call in range(10):
                records = _records(4, size=180_000)
                if call:
                    with pytest.raises(LogUnavailable, match="in time"):
                        await _append(log, records, within=timedelta(milliseconds=20))
                else:
                    outcomes = await _append(log, records, within=timedelta(milliseconds=20))
                    assert set(outcomes) == {Appended.UNKNOWN}
                del records
            held, _peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < _MB
        assert library.sent == [1, 1]

        with pytest.raises(LogBusy):
            await _append(log, _records(5, size=180_000))
        hanging.set_result(None)
        async with asyncio.timeout(_SOON):
            await _until(lambda: log._appender._free_bytes == _MB)
            assert set(await _append(log, _records(5, size=180_000))) == {Appended.DURABLE}
        assert sum(library.sent) == 1 + 1 + 5


async def test_room_is_back_in_whatever_order_callers_give_up(opened: Open) -> None:
    hanging = asyncio.get_running_loop().create_future()
    library = Library(lambda: hanging)
    async with opened(library, max_in_flight_records=20) as log, asyncio.timeout(_SOON):
        first = asyncio.create_task(_append(log, _records(2)))
        await _until(lambda: library.sent == [2])
        calls = [asyncio.create_task(_append(log, _records(2))) for _ in range(9)]
        await asyncio.sleep(0)
        with pytest.raises(LogBusy):
            await _append(log, _records(1))
        for number in (5, 0, 8, 1):
            calls[number].cancel()
            await asyncio.wait({calls[number]})
        with pytest.raises(LogUnavailable, match="in time"):
            await _append(log, _records(8), within=timedelta(milliseconds=1))
        hanging.set_result(None)
        rest = await asyncio.gather(first, *(calls[number] for number in (2, 3, 4, 6, 7)))
        assert rest == [(Appended.DURABLE,) * 2] * 6
        assert set(await _append(log, _records(20))) == {Appended.DURABLE}
        # The first call, the five that stayed, and the last.
        assert library.sent == [2, 10, 20]


async def _append(
    log: KafkaLog, records: list[Record], *, within: timedelta = _LONG
) -> tuple[Appended, ...]:
    return tuple(await log.append("usage-events", records, deadline=within))


def _records(count: int, *, size: int = 1) -> list[Record]:
    """Of one key; each with bytes of its own."""
    numbers = itertools.islice(itertools.cycle(range(256)), count)
    return [Record(key=b"k", value=bytes([number]) * size) for number in numbers]


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - the log announces nothing
        await asyncio.sleep(0.001)
