"""One producer, kept alive: connected, watched, and replaced when it is of no use any more.

It runs without idempotence. Where that is on and the brokers are gone, sends and stops never end
(aiokafka #1101), and a batch that expired makes every later send to its partition fail (#1017).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from shared import logging as logs
from shared.log import LogRefused
from shared.log.background import Background
from shared.log.kafka.cluster import Cluster, answers, background_tasks, stopped, until
from shared.log.kafka.refusals import why_unavailable

MAX_BATCH_BYTES = 256 * 1024

_PROBE_EVERY_SECONDS = 1.0
_PROBE_WITHIN_SECONDS = 2.0
_RETRY_AFTER_SECONDS = 0.2
_REBUILD_AFTER_AWAY_SECONDS = 30.0
_FIT_AFTER_SECONDS = 60.0
_MOST_FAILED_REBUILDS = 5
_ASK_WHY_EVERY_SECONDS = 10.0

log = logs.get(__name__)


class Producer:
    """The producer of the moment and whether the brokers answer it; see `open_producer`."""

    def __init__(self, cluster: Cluster, *, request_timeout: timedelta) -> None:
        self._cluster = cluster
        self._request_timeout = request_timeout
        self._current: AIOKafkaProducer | None = None
        self.reachable = asyncio.Event()
        self._look_now = asyncio.Event()
        self._lost_a_batch = False
        self.rebuilds = 0
        self._failed_starts = 0
        self._lost_in_a_row = 0
        """Producers that lost a batch and delivered none before."""
        self.why_unfit: str | None = None
        """Why a new producer does not help although the brokers answer others."""
        self._ask_why_after = 0.0
        self.why_away: str | None = None
        """None while the brokers answer, and until the first connection is made or refused."""

    @property
    def current(self) -> AIOKafkaProducer | None:
        """The connected producer, or None while the brokers do not answer."""
        return self._current if self.reachable.is_set() else None

    async def ready(self) -> AIOKafkaProducer:
        """Wait, without a limit, until the brokers answer."""
        while True:
            await self.reachable.wait()
            if producer := self.current:
                return producer

    def suspect(self, producer: AIOKafkaProducer, *, lost_a_batch: bool = False) -> None:
        """A batch failed: look at the brokers now; replace the producer if it lost the batch."""
        if producer is self._current:
            self._lost_a_batch = self._lost_a_batch or lost_a_batch
            self._look_now.set()

    def delivered(self) -> None:
        """A batch is durable: the producer works."""
        self._lost_in_a_row, self.why_unfit = 0, None

    async def ping(self) -> bool:
        return self._current is not None and await self._probe(self._current)

    async def run(self) -> None:
        """Keep a working producer, for ever."""
        while True:
            producer = await self._connected()
            try:
                self._current, self._lost_a_batch = producer, False
                self._failed_starts = 0
                if self._lost_in_a_row < _MOST_FAILED_REBUILDS:
                    self.why_unfit = None
                self._note(None)
                await self._watch(producer)
                self.rebuilds += 1
                if self._lost_a_batch:
                    self._lost_in_a_row += 1
                    await self._judge(self._lost_in_a_row, "each lost a batch")
                log.warning("log.producer_replaced", lost_a_batch=self._lost_a_batch)
            finally:
                self.reachable.clear()
                self._current = None
                await stopped(producer)

    async def _connected(self) -> AIOKafkaProducer:
        while True:
            producer = AIOKafkaProducer(
                **self._cluster.connection(request_timeout=self._request_timeout),
                acks="all",
                enable_idempotence=False,
                compression_type="zstd",
                max_batch_size=MAX_BATCH_BYTES,
            )
            try:
                async with asyncio.timeout(self._request_timeout.total_seconds()):
                    await producer.start()
            except Exception as error:  # noqa: BLE001 - whatever it is: without a producer nothing goes
                await stopped(producer)  # a start that failed leaves a dead object
                why = await self._note_failed_start(error)
                self._failed_starts += 1
                await self._judge(self._failed_starts, why)
                await asyncio.sleep(_RETRY_AFTER_SECONDS)
            except BaseException:
                await stopped(producer)
                raise
            else:
                return producer

    async def _judge(self, failed: int, why: str) -> None:
        """An outage that all share is no fault of ours: a fresh connection tells which it is."""
        if failed < _MOST_FAILED_REBUILDS:
            return
        is_ours = await answers(self._cluster, within=_PROBE_WITHIN_SECONDS)
        if is_ours and self.why_unfit is None:
            log.error("log.producer_unfit", failed_rebuilds=failed, error=why)
        self.why_unfit = f"{failed} producers in a row: {why}" if is_ours else None

    async def _watch(self, producer: AIOKafkaProducer) -> None:
        """Return when the producer must be replaced: a task died, a batch was lost, long away."""
        tasks = background_tasks(producer)
        loop = asyncio.get_running_loop()
        connected_at = last_answer = loop.time()
        while not self._lost_a_batch and not any(task.done() for task in tasks):
            self._look_now.clear()
            if await self._probe(producer):
                last_answer = loop.time()
                if last_answer - connected_at > _FIT_AFTER_SECONDS:
                    self.delivered()  # nobody sends to who is unready: try again
                pause = _PROBE_EVERY_SECONDS
            elif loop.time() - last_answer > _REBUILD_AFTER_AWAY_SECONDS:
                return  # perhaps every broker has another address now: ask the first ones again
            else:
                pause = _RETRY_AFTER_SECONDS
            await until(self._look_now, loop.time() + pause)

    async def _probe(self, producer: AIOKafkaProducer) -> bool:
        try:
            async with asyncio.timeout(_PROBE_WITHIN_SECONDS):
                answered = bool(await producer.client.force_metadata_update())
        except TimeoutError:
            answered = False
        if producer is self._current:
            self._note(None if answered else "no answer")
        return answered

    async def _note_failed_start(self, error: Exception) -> str:
        """Ask for the cause at first and now and then: it may become another one."""
        now = asyncio.get_running_loop().time()
        why = self.why_away or repr(error)
        if isinstance(error, KafkaConnectionError) and now >= self._ask_why_after:
            self._ask_why_after = now + _ASK_WHY_EVERY_SECONDS
            cause = await why_unavailable(self._cluster, within=self._request_timeout)
            why = str(cause)
            if isinstance(cause, LogRefused):
                # Waiting does not mend it: say so again and again.
                log.error("log.refused", error=why)
        self._note(why)
        return why

    def _note(self, why_away: str | None) -> None:
        if why_away is None and not self.reachable.is_set():
            log.info("log.reachable")
            self.reachable.set()
        elif why_away is not None and self.why_away is None:
            log.warning("log.away", error=why_away)
            self.reachable.clear()
        self.why_away = why_away


@asynccontextmanager
async def open_producer(
    cluster: Cluster, background: Background, *, request_timeout: timedelta
) -> AsyncIterator[Producer]:
    """Enters at once, brokers there or not."""
    producer = Producer(cluster, request_timeout=request_timeout)
    async with background.running("kafka.producer", producer.run()):
        yield producer
