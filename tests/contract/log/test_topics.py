"""Creating and checking topics."""

import uuid
from dataclasses import replace
from datetime import timedelta

from shared.log import Log, Topic
from tests.contract.log.reading import append, numbered, take


def _topics() -> list[Topic]:
    unique = uuid.uuid4().hex[:8]
    return [
        Topic(name=f"events-{unique}", partitions=3, retention=timedelta(days=7)),
        Topic(name=f"accounts-{unique}", partitions=2, retention=None, compacted=True),
    ]


async def test_topics_as_they_must_be_give_no_complaints(log: Log) -> None:
    topics = _topics()
    await log.create_topics(topics)
    assert list(await log.check_topics(topics)) == []


async def test_missing_topics_are_named_one_sentence_each(log: Log) -> None:
    topics = _topics()
    await log.create_topics(topics[:1])
    [sentence] = await log.check_topics(topics)
    assert topics[1].name in sentence
    assert "does not exist" in sentence


async def test_too_few_partitions_are_named(log: Log) -> None:
    topics = _topics()
    await log.create_topics(topics)
    [sentence] = await log.check_topics([replace(topics[0], partitions=12), topics[1]])
    assert topics[0].name in sentence
    assert "3 partitions" in sentence
    assert "12" in sentence


async def test_creating_again_leaves_topics_and_records_as_they_are(log: Log) -> None:
    topics = _topics()
    await log.create_topics(topics)
    await append(log, topics[0].name, numbered(5))
    await log.create_topics([replace(topic, partitions=9) for topic in topics])
    assert list(await log.check_topics(topics)) == []
    async with log.follow(topics[0].name) as consumer:
        assert len(consumer.assignment()) in {0, 3}
        assert len(await take(consumer, 5)) == 5
        assert len(consumer.assignment()) == 3


async def test_only_what_is_missing_is_created(log: Log) -> None:
    topics = _topics()
    await log.create_topics(topics[:1])
    await log.create_topics(topics)
    assert list(await log.check_topics(topics)) == []
