"""What the worker tells the watchdog while nothing comes."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from shared.errors import InvalidMessage
from shared.lifecycle import Loop, new_frame
from shared.log import Batch, Lag, LogUnavailable, TopicPartition
from shared.log.positions import Claim
from shared.log.worker import Worker

_PARTITION = TopicPartition("events", 0)
_LONG_AGO = -1_000.0


class _Silent:
    """A consumer that fetches nothing, says `behind` of its lag, and stops the worker."""

    def __init__(self, behind: Lag | None, stop: asyncio.Event) -> None:
        self._behind = behind
        self._stop = stop
        self._fetches = 0

    async def fetch(self, *, max_records: int, wait: timedelta) -> Sequence[Batch]:
        del max_records, wait
        self._fetches += 1
        if self._fetches == 3:
            self._stop.set()
        await asyncio.sleep(0)
        return ()

    async def lag(self) -> Mapping[TopicPartition, Lag]:
        if self._behind is None:
            raise LogUnavailable("away")
        return {_PARTITION: self._behind}

    def is_current(self, _batch: Batch) -> bool:
        return True

    @asynccontextmanager
    async def processing(self) -> AsyncIterator[None]:
        yield

    def seek(self, _partition: TopicPartition, _offset: int) -> None: ...

    def hint(self, _partition: TopicPartition, _next_offset: int) -> None: ...

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset({_PARTITION})


class _Unused:
    async def claim(self, partition: TopicPartition) -> Claim:
        raise AssertionError(partition)

    async def take_in(self, batch: Batch, held: Claim) -> None:
        raise AssertionError((batch, held))

    async def set_aside(self, batch: Batch, held: Claim, error: InvalidMessage) -> None:
        raise AssertionError((batch, held, error))


async def _run(behind: Lag | None) -> Loop:
    frame, stop = new_frame(), asyncio.Event()
    loop = frame.loop("test", "worker", limit_seconds=60)
    loop.last_progress = _LONG_AGO
    worker = Worker(
        service="test",
        consumer=_Silent(behind, stop),
        handler=_Unused(),
        frame=frame,
        loop=loop,
    )
    await worker.run(stop)
    records = frame.registry.get_sample_value(
        "perennial_log_lag_records", {"service": "test", "topic": "events", "partition": "0"}
    )
    assert records == (behind.records if behind else None)
    return loop


async def test_an_empty_fetch_while_records_wait_is_no_progress() -> None:
    loop = await _run(Lag(records=5, seconds=1.0))
    assert loop.last_progress == _LONG_AGO
    assert "test.worker made no progress" in (loop.overdue() or "")


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param(Lag(records=0, seconds=0.0), id="nothing waits"),
        pytest.param(None, id="the log is away"),
    ],
)
async def test_an_empty_fetch_without_lag_is_progress(behind: Lag | None) -> None:
    loop = await _run(behind)
    assert loop.last_progress > 0
    assert loop.overdue() is None
