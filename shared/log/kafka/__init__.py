"""The log on Apache Kafka: the only package that imports aiokafka.

`producer.py` keeps a producer alive, `appender.py` appends through it, `consumer.py` consumes,
`topics.py` knows the topics, `offsets.py` how far they reach, `survey.py` looks from outside,
`cluster.py` knows how to reach the brokers. Opening never fails because they are away: appends say
so, and everything recovers by itself when they are back.
"""

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta

from shared.log import (
    MAX_RECORD_BYTES,
    Appended,
    Consumer,
    Extent,
    Record,
    Topic,
    TopicPartition,
)
from shared.log.background import Background
from shared.log.kafka import topics as kafka_topics
from shared.log.kafka.appender import Appender, open_appender
from shared.log.kafka.cluster import Cluster, SignIn
from shared.log.kafka.consumer import Timing, open_follower, open_member
from shared.log.kafka.offsets import Offsets, open_offsets
from shared.log.kafka.producer import Producer, open_producer
from shared.log.kafka.survey import surveyed


@asynccontextmanager
async def open_kafka_log(
    bootstrap_servers: str,
    *,
    topic_prefix: str = "perennial.",
    session_timeout: timedelta = timedelta(seconds=30),
    rebalance_timeout: timedelta = timedelta(seconds=60),
    request_timeout: timedelta = timedelta(seconds=5),
    max_in_flight_bytes: int = 64 * 1024 * 1024,
    max_in_flight_records: int = 30_000,
    replicas: int | None = None,
    tls: ssl.SSLContext | None = None,
    sign_in: SignIn | None = None,
) -> AsyncIterator["KafkaLog"]:
    """The log on the brokers `host:port[,host:port]`; enters at once, brokers there or not.

    `request_timeout` bounds how long an append may stay undecided; keep it near the callers' own
    deadline. `replicas` of each topic: see `topics.create`.
    """
    background = Background()
    cluster = Cluster(
        bootstrap_servers=bootstrap_servers,
        topic_prefix=topic_prefix,
        tls=tls,
        sign_in=sign_in,
    )
    timing = Timing(session_timeout=session_timeout, rebalance_timeout=rebalance_timeout)
    async with (
        open_producer(cluster, background, request_timeout=request_timeout) as producer,
        open_appender(
            cluster,
            producer,
            request_timeout=request_timeout,
            max_in_flight_bytes=max_in_flight_bytes,
            max_in_flight_records=max_in_flight_records,
        ) as appender,
        open_offsets(cluster) as offsets,
    ):
        yield KafkaLog(cluster, producer, appender, offsets, timing, background, replicas=replicas)


class KafkaLog:
    """`shared.log.Log` on Kafka."""

    def __init__(
        self,
        cluster: Cluster,
        producer: Producer,
        appender: Appender,
        offsets: Offsets,
        timing: Timing,
        background: Background,
        *,
        replicas: int | None = None,
    ) -> None:
        self._cluster = cluster
        self._producer = producer
        self._appender = appender
        self._offsets = offsets
        self._timing = timing
        self._background = background
        self._replicas = replicas

    @property
    def max_record_bytes(self) -> int:
        return MAX_RECORD_BYTES

    @property
    def rebuilds(self) -> int:
        return self._producer.rebuilds

    async def append(
        self, topic: str, records: Sequence[Record], *, deadline: timedelta
    ) -> Sequence[Appended]:
        return await self._appender.append(topic, records, deadline=deadline)

    def consume(
        self, topics: Sequence[str], *, group: str
    ) -> AbstractAsyncContextManager[Consumer]:
        return open_member(
            self._cluster, topics, self._background, group=group, timing=self._timing
        )

    def follow(self, topic: str) -> AbstractAsyncContextManager[Consumer]:
        return open_follower(self._cluster, topic, self._background, timing=self._timing)

    async def check_topics(self, topics: Sequence[Topic]) -> Sequence[str]:
        return await kafka_topics.complaints(self._cluster, topics, replicas=self._replicas)

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        await kafka_topics.create(self._cluster, topics, replicas=self._replicas)

    async def survey(
        self, topics: Sequence[str], *, group: str, positions: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, Extent]:
        return await surveyed(self._cluster, topics, group=group, positions=positions)

    async def ends(self, topics: Sequence[str]) -> Mapping[TopicPartition, int]:
        return await self._offsets.ends(topics)

    async def begins(self, topics: Sequence[str]) -> Mapping[TopicPartition, int]:
        return await self._offsets.begins(topics)

    async def ping(self) -> bool:
        return await self._producer.ping()

    def why_broken(self) -> str | None:
        return self._background.why_broken()

    def why_no_append(self) -> str | None:
        return self._producer.why_unfit
