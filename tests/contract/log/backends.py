"""The two logs as the contract sees them: opened as often as a test likes, broken and mended."""

import asyncio
import uuid
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import asyncpg
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from shared.embedded_postgres import embedded_postgres, immediate_stop
from shared.log import Log, TopicPartition
from shared.log.kafka import open_kafka_log
from shared.log.postgres import open_postgres_log
from tests.brokers import KafkaBroker

SESSION = timedelta(seconds=3)
# A broker that is only slow must not be asked twice: its log would then hold the records twice.
STEADY = timedelta(seconds=10)
# Where the broker dies or freezes the tests wait this out.
BREAKABLE = timedelta(seconds=2)


class LogUnderTest(Protocol):
    def open(self) -> AbstractAsyncContextManager[Log]:
        """A client of its own, as another process would have it."""
        ...

    async def break_backend(self) -> None:
        """End what stores the log as a power cut would."""
        ...

    async def mend_backend(self) -> None:
        """Start it again on the same data; does nothing where it runs."""
        ...

    async def cut(self, partition: TopicPartition, before: int) -> None:
        """Delete the records below an offset, as retention does."""
        ...


class KafkaUnderTest:
    def __init__(self, broker: KafkaBroker, *, request_timeout: timedelta = STEADY) -> None:
        self.broker = broker
        self._request_timeout = request_timeout
        self.prefix = f"contract-{uuid.uuid4().hex[:8]}."

    def open(self) -> AbstractAsyncContextManager[Log]:
        return open_kafka_log(
            self.broker.bootstrap_servers,
            topic_prefix=self.prefix,
            session_timeout=SESSION,
            rebalance_timeout=timedelta(seconds=20),
            request_timeout=self._request_timeout,
        )

    async def break_backend(self) -> None:
        await asyncio.to_thread(self.broker.kill9)

    async def mend_backend(self) -> None:
        if not self.broker.is_running():
            await asyncio.to_thread(self.broker.start)

    async def cut(self, partition: TopicPartition, before: int) -> None:
        own = KafkaPartition(self.prefix + partition.topic, partition.partition)
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.bootstrap_servers)
        await admin.start()
        try:
            await admin.delete_records({own: RecordsToDelete(before_offset=before)})
        finally:
            await admin.close()


class PostgresUnderTest:
    def __init__(self, database_url: str, folder: Path) -> None:
        self._database_url = database_url
        self._folder = folder

    def open(self) -> AbstractAsyncContextManager[Log]:
        return open_postgres_log(self._database_url, lease=SESSION)

    async def break_backend(self) -> None:
        immediate_stop(self._folder)
        while (self._folder / "data" / "postmaster.pid").exists():  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.02)

    async def mend_backend(self) -> None:
        # Whoever started the server first holds it too, so leaving here does not stop it.
        async with embedded_postgres(self._folder):
            pass

    async def cut(self, partition: TopicPartition, before: int) -> None:
        connection = await asyncpg.connect(self._database_url)
        try:
            await connection.execute(
                'DELETE FROM log.records WHERE topic = $1 AND partition = $2 AND "offset" < $3',
                *partition,
                before,
            )
        finally:
            await connection.close()
