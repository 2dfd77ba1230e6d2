"""How far partitions reach: asked again and again, through one connection that joins no group.

Not through the producer's: what waits there for its replicas would hold the answer up.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from aiokafka import TopicPartition as KafkaPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    BrokerResponseError,
    KafkaConnectionError,
    KafkaError,
    LeaderNotAvailableError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy

from shared.log import LogUnavailable, TopicPartition
from shared.log.kafka.cluster import Cluster, ended
from shared.log.kafka.topics import partitions_of

_ANSWER_WITHIN = timedelta(seconds=4)
_RETRY_SECONDS = 0.1
_CLOSE_SECONDS = 1.0
_OF_NO_REPLICA = -1
_WHATEVER_IS_STORED = 0
"""Nobody appends in Kafka's transactions."""


class Offsets:
    """The first and the next offsets of partitions; see `open_offsets`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._client: AIOKafkaClient | None = None
        self._asking = asyncio.Lock()

    async def ends(self, topics: Sequence[str]) -> Mapping[TopicPartition, int]:
        """As `shared.log.Log.ends`."""
        return await self._answered(topics, OffsetResetStrategy.LATEST)

    async def begins(self, topics: Sequence[str]) -> Mapping[TopicPartition, int]:
        """As `shared.log.Log.begins`."""
        return await self._answered(topics, OffsetResetStrategy.EARLIEST)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await ended(client.close(), within=_CLOSE_SECONDS)

    async def _answered(self, topics: Sequence[str], wanted: int) -> Mapping[TopicPartition, int]:
        names = [self._cluster.name_of(topic) for topic in topics]
        why: KafkaError | None = None
        try:
            async with asyncio.timeout(_ANSWER_WITHIN.total_seconds()), self._asking:
                while True:
                    try:
                        found = await self._ask(names, wanted)
                        break
                    except BrokerResponseError as error:
                        if not error.invalid_metadata:
                            raise
                        why = error
                    # A partition is new, or changes its leader: others may be asked in a moment.
                    await asyncio.sleep(_RETRY_SECONDS)
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            raise LogUnavailable(f"Kafka does not tell the offsets: {why or error!r}") from error
        return {
            TopicPartition(self._cluster.topic_of(name), number): offset
            for (name, number), offset in found.items()
        }

    async def _ask(self, names: Sequence[str], wanted: int) -> dict[KafkaPartition, int]:
        client = await self._connected()
        await client.set_topics(names)
        # Each time: partitions that a topic was given since must count at once.
        if not await client.force_metadata_update():
            raise KafkaConnectionError("nobody tells where the partitions are")
        known = {name: client.cluster.partitions_for_topic(name) for name in names}
        if unknown := [name for name, numbers in known.items() if not numbers]:
            # Says which is missing, or that we may not see it.
            await partitions_of(self._cluster, map(self._cluster.topic_of, unknown))
            raise UnknownTopicOrPartitionError(", ".join(unknown))
        return await _offsets(client, known, wanted)

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            client = AIOKafkaClient(**self._cluster.connection(request_timeout=_ANSWER_WITHIN))
            try:
                await client.bootstrap()
            except BaseException:
                await ended(client.close(), within=_CLOSE_SECONDS)
                raise
            self._client = client
        return self._client


@asynccontextmanager
async def open_offsets(cluster: Cluster) -> AsyncIterator[Offsets]:
    """Enters at once; connects when it is first asked."""
    offsets = Offsets(cluster)
    try:
        yield offsets
    finally:
        await offsets.close()


async def _offsets(
    client: AIOKafkaClient, partitions: Mapping[str, set[int]], wanted: int
) -> dict[KafkaPartition, int]:
    """One question to each broker that leads any of the partitions."""
    by_leader: defaultdict[int, dict[str, list[tuple[int, int]]]] = defaultdict(dict)
    for name, numbers in partitions.items():
        for number in numbers:
            leader = client.cluster.leader_for_partition(KafkaPartition(name, number))
            if leader is None or leader < 0:
                raise LeaderNotAvailableError(f"{name}/{number}")
            by_leader[leader].setdefault(name, []).append((number, wanted))
    answers = await asyncio.gather(
        *(
            client.send(
                leader, OffsetRequest(_OF_NO_REPLICA, _WHATEVER_IS_STORED, list(asked.items()))
            )
            for leader, asked in by_leader.items()
        )
    )
    found = {}
    for answer in answers:
        for name, rows in answer.topics:
            for number, code, _moment, offset in rows:
                if code:
                    raise for_code(code)(f"{name}/{number}")
                found[KafkaPartition(name, number)] = offset
    return found
