"""Topics on the brokers: which exist, what is wrong with them, and creating them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
)

from shared import logging as logs
from shared.errors import Misconfigured
from shared.log import LogRefused, LogUnavailable, Topic, TopicMissing
from shared.log.kafka.cluster import Cluster, ended, milliseconds
from shared.log.kafka.refusals import why_unavailable

_ANSWER_WITHIN = timedelta(seconds=2)
_CREATE_WITHIN = timedelta(seconds=20)
_SURE_AFTER_SECONDS = 1.0
_RETRY_SECONDS = 0.1
_ALREADY_EXISTS = 36
_NOT_ALLOWED = 29
_MAX_REPLICAS = 3
_MIN_IN_SYNC = "min.insync.replicas"

log = logs.get(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicState:
    """A topic as the brokers have it."""

    partitions: int
    replicas: int
    """Of the partition that has the fewest."""
    settings: Mapping[str, str]


async def partitions_of(cluster: Cluster, topics: Iterable[str]) -> Mapping[str, int]:
    """How many partitions each topic has.

    Raises TopicMissing naming every absent one after a second (a broker that has just started, or
    a topic that was just made, may need as long), LogUnavailable after two.
    """
    names = {cluster.name_of(topic): topic for topic in topics}
    started = time.monotonic()
    async with admin_client(cluster, within=_ANSWER_WITHIN) as admin:
        while True:
            found = await _existing(admin, names)
            missing = sorted(names.keys() - found.keys())
            if not missing:
                return {names[name]: count for name, count in found.items()}
            if time.monotonic() - started > _SURE_AFTER_SECONDS:
                raise TopicMissing(f"topics that do not exist: {', '.join(missing)}")
            await asyncio.sleep(_RETRY_SECONDS)


async def complaints(
    cluster: Cluster, topics: Sequence[Topic], *, replicas: int | None = None
) -> Sequence[str]:
    """What differs from how the topics must be, one sentence each; `replicas` as in `create`."""
    names = [cluster.name_of(topic.name) for topic in topics]
    async with admin_client(cluster, within=_ANSWER_WITHIN) as admin:
        states = await _states(admin, names)
    return [
        sentence
        for topic, name in zip(topics, names, strict=True)
        for sentence in _differences(topic, name, states.get(name), replicas=replicas)
    ]


async def create(cluster: Cluster, topics: Sequence[Topic], *, replicas: int | None = None) -> None:
    """Create what is missing and wait until the brokers show it.

    Without `replicas` there are three of each partition, fewer on fewer brokers: a broker that is
    away just now would make it two for good, so production says how many it wants.
    Raises Misconfigured where the brokers refuse a topic (more replicas than brokers, too),
    LogUnavailable when they do not answer.
    """
    async with admin_client(cluster, within=_CREATE_WITHIN) as admin:
        if replicas is None:
            brokers = len((await answered(admin.describe_cluster))["brokers"])
            replicas = min(_MAX_REPLICAS, brokers)
        new = [_new_topic(cluster, topic, replicas=replicas) for topic in topics]
        answer = await answered(lambda: admin.create_topics(new))
        # The client does not raise: the errors are in the answer, one row per topic.
        for name, code, *message in answer.topic_errors:
            if code == 0:
                log.info("log.topic_created", topic=name)
            elif code != _ALREADY_EXISTS:
                raise Misconfigured(f"Kafka refuses topic {name}: {message or code}")
        names = {cluster.name_of(topic.name) for topic in topics}
        while names - (await _existing(admin, names)).keys():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(_RETRY_SECONDS)


async def answered(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, asked again while the node that the client picked is not connected, or knows no
    coordinator of a group, yet.

    Safe to repeat: a topic that was created after all answers that it exists. `admin_client` limits
    how long.
    """
    while True:
        try:
            return await ask()
        except (NodeNotReadyError, GroupCoordinatorNotAvailableError):
            await asyncio.sleep(_RETRY_SECONDS)


def _new_topic(cluster: Cluster, topic: Topic, *, replicas: int) -> NewTopic:
    return NewTopic(
        cluster.name_of(topic.name),
        topic.partitions,
        replicas,
        topic_configs=_settings(topic) | {_MIN_IN_SYNC: str(_in_sync(replicas))},
    )


def _in_sync(replicas: int) -> int:
    """How many must have a record before it is acknowledged.

    One replica may fail without a refused append; with fewer than three none can.
    """
    return max(1, replicas - 1)


def _settings(topic: Topic) -> dict[str, str]:
    """What a topic must be set to; `complaints` compares exactly these."""
    settings = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": "-1" if topic.retention is None else str(milliseconds(topic.retention)),
        # Arrival, as the brokers saw it: retention and lag do not depend on a producer's clock.
        "message.timestamp.type": "LogAppendTime",
        # Only closed segments are deleted or compacted: close one a day.
        "segment.ms": str(milliseconds(timedelta(days=1))),
    }
    if topic.compacted:
        settings["min.cleanable.dirty.ratio"] = "0.1"
    return settings


def _differences(
    topic: Topic, name: str, state: TopicState | None, *, replicas: int | None
) -> list[str]:
    if state is None:
        return [f"topic {name} does not exist"]
    sentences = [
        f"topic {name} has {key}={state.settings.get(key)}, needed is {wanted}"
        for key, wanted in _settings(topic).items()
        if state.settings.get(key) != wanted
    ]
    if state.partitions < topic.partitions:
        sentences.append(
            f"topic {name} has {state.partitions} partitions, needed are {topic.partitions}"
        )
    if state.replicas < (replicas or 1):
        sentences.append(f"topic {name} has {state.replicas} replicas, needed are {replicas}")
    in_sync = _in_sync(state.replicas)
    if int(state.settings.get(_MIN_IN_SYNC, in_sync)) < in_sync:
        # Else an acknowledged record may be on one broker alone, and be gone with it.
        sentences.append(
            f"topic {name} has {_MIN_IN_SYNC}={state.settings[_MIN_IN_SYNC]}"
            f" with {state.replicas} replicas, needed is {in_sync}"
        )
    return sentences


async def _states(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, TopicState]:
    layouts = await _layouts(admin, names)
    if not layouts:
        return {}
    answers = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name) for name in layouts]
    )
    _require_rights((row[3], row[0]) for answer in answers for row in answer.resources)
    # A row: error code, error text, kind of resource, its name, its settings (name, value, ...).
    settings = {
        name: {entry[0]: entry[1] for entry in entries}
        for answer in answers
        for _code, _text, _kind, name, entries in answer.resources
    }
    return {
        name: TopicState(
            partitions=len(replicas), replicas=min(replicas), settings=settings.get(name, {})
        )
        for name, replicas in layouts.items()
    }


async def _existing(admin: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, int]:
    """How many partitions each topic has, of those that exist."""
    return {name: len(replicas) for name, replicas in (await _layouts(admin, names)).items()}


async def _layouts(admin: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, list[int]]:
    """How many replicas each partition has, of the topics that exist."""
    rows = await admin.describe_topics(list(names))
    _require_rights((row["topic"], row["error_code"]) for row in rows)
    return {
        row["topic"]: [len(partition["replicas"]) for partition in row["partitions"]]
        for row in rows
        if row["error_code"] == 0
    }


def _require_rights(answers: Iterable[tuple[str, int]]) -> None:
    """Else a topic that we may not see would be called missing."""
    if hidden := sorted(name for name, code in answers if code == _NOT_ALLOWED):
        raise LogRefused(
            f"this user of Kafka may not describe {', '.join(hidden)}: see deploy/kafka/acls.sh"
        )


@asynccontextmanager
async def admin_client(
    cluster: Cluster, *, within: timedelta
) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client; every failure to get an answer in time is LogUnavailable.

    LogRefused where the brokers answer that they will not.
    """
    admin = AIOKafkaAdminClient(**cluster.connection(request_timeout=within))
    try:
        async with asyncio.timeout(within.total_seconds()):
            try:
                await admin.start()
            except KafkaConnectionError as error:
                raise await why_unavailable(cluster, within=_ANSWER_WITHIN) from error
            yield admin
    except (KafkaError, OSError, TimeoutError) as error:
        raise LogUnavailable(f"Kafka does not answer: {error!r}") from error
    finally:
        await ended(admin.close(), within=1)
