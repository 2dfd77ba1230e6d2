"""How many brokers hold a topic: as many as were asked for, or the job that creates them fails."""

import uuid
from datetime import timedelta

import pytest

from shared.errors import Misconfigured
from shared.log import Topic
from shared.log.kafka import topics
from shared.log.kafka.cluster import Cluster
from tests.brokers import KafkaBroker


@pytest.fixture
def cluster(kafka_broker: KafkaBroker) -> Cluster:
    """Of one broker."""
    return Cluster(bootstrap_servers=kafka_broker.bootstrap_servers, topic_prefix="replicas.")


@pytest.fixture
def topic() -> Topic:
    return Topic(name=uuid.uuid4().hex[:8], partitions=2, retention=timedelta(days=1))


async def test_more_replicas_than_brokers_are_refused(cluster: Cluster, topic: Topic) -> None:
    with pytest.raises(Misconfigured, match=topic.name):
        await topics.create(cluster, [topic], replicas=2)
    await topics.create(cluster, [topic], replicas=1)
    assert await topics.complaints(cluster, [topic], replicas=1) == []


async def test_fewer_replicas_than_wanted_are_named(cluster: Cluster, topic: Topic) -> None:
    await topics.create(cluster, [topic])
    assert await topics.complaints(cluster, [topic]) == []
    [sentence] = await topics.complaints(cluster, [topic], replicas=3)
    assert sentence == f"topic replicas.{topic.name} has 1 replicas, needed are 3"
