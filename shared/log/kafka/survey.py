"""Looking at partitions and groups from outside: what is there, and who reads it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from shared.log import Extent, LogUnavailable, TopicPartition
from shared.log.kafka.cluster import Cluster, stopped
from shared.log.kafka.topics import admin_client, answered, partitions_of

_ANSWER_WITHIN = timedelta(seconds=10)
_READ_SECONDS = 5.0


async def surveyed(
    cluster: Cluster,
    topics: Sequence[str],
    *,
    group: str,
    positions: Mapping[TopicPartition, int],
) -> Mapping[TopicPartition, Extent]:
    """See `shared.log.Log.survey`."""
    sizes = await partitions_of(cluster, topics)
    wanted = {
        TopicPartition(topic, number): KafkaPartition(cluster.name_of(topic), number)
        for topic, count in sizes.items()
        for number in range(count)
    }
    async with admin_client(cluster, within=_ANSWER_WITHIN) as admin:
        owners = await _owners(admin, group)
    async with _reader(cluster) as reader:
        begins = await reader.beginning_offsets(list(wanted.values()))
        ends = await reader.end_offsets(list(wanted.values()))
        starts = {
            own: start
            for partition, own in wanted.items()
            if (start := max(positions.get(partition, 0), begins[own])) < ends[own]
        }
        moments = await _first_moments(reader, starts)
    return {
        partition: Extent(
            begin=begins[own],
            end=ends[own],
            owner=owners.get(own),
            waiting_since=moments.get(own),
        )
        for partition, own in wanted.items()
    }


async def _owners(admin: AIOKafkaAdminClient, group: str) -> dict[KafkaPartition, str]:
    answers = await answered(lambda: admin.describe_consumer_groups([group]))
    owners = {}
    for answer in answers:
        for _code, _group, _state, _type, _protocol, members, *_ in answer.groups:
            for _member, client, host, _metadata, assignment in members:
                if not assignment:
                    continue  # the group is being rebalanced
                decoded = ConsumerProtocolMemberAssignment.decode(assignment)
                for topic, numbers in decoded.assignment:
                    for number in numbers:
                        owners[KafkaPartition(topic, number)] = f"{client}@{host.lstrip('/')}"
    return owners


async def _first_moments(
    reader: AIOKafkaConsumer, starts: Mapping[KafkaPartition, int]
) -> dict[KafkaPartition, datetime]:
    """When the first record from each offset on was appended, of what is read in time."""
    moments: dict[KafkaPartition, datetime] = {}
    reader.assign(list(starts))
    for own, offset in starts.items():
        reader.seek(own, offset)
    # Compaction may have left nothing between an offset and the end: not every wait ends.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_READ_SECONDS):
            for own in starts:
                try:
                    record = await reader.getone(own)
                except TopicAuthorizationFailedError:
                    continue  # who may not read what waits may still know how much it is
                moments[own] = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    return moments


@asynccontextmanager
async def _reader(cluster: Cluster) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group; every failure to get an answer in time is LogUnavailable."""
    options = cluster.connection(request_timeout=_ANSWER_WITHIN)
    reader = AIOKafkaConsumer(**options, enable_auto_commit=False)
    try:
        async with asyncio.timeout(_ANSWER_WITHIN.total_seconds() + _READ_SECONDS):
            await reader.start()
            yield reader
    except (KafkaError, OSError, TimeoutError) as error:
        raise LogUnavailable(f"Kafka does not answer: {error!r}") from error
    finally:
        await stopped(reader)
