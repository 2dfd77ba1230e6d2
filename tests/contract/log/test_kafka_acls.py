"""Each user of Kafka may do what its service does and nothing else: deploy/kafka/acls.sh.

The table below is written from what the services do, not from the script; the broker's own
StandardAuthorizer judges.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError

from services import keys
from services.process import CONSOLE_SCOPES, CONSOLE_SOURCE
from shared import log as shared_log
from shared.credentials import new_key
from shared.log.kafka.cluster import ended
from shared.log.topics import TOPICS
from shared.messages import USAGE_EVENTS, USAGE_EVENTS_OVERFLOW
from tests.contract.log.test_kafka_security import opened
from tests.factories import NOW
from tests.secure_kafka import SecureKafka, password_of

PREFIX = "acl."
NAMES = tuple(topic.name for topic in TOPICS)
READS = {
    "ingest": {"sources"},
    "scoring": {
        "usage-events",
        "usage-events-overflow",
        "unplaced-events",
        "directory-changes",
        "outcomes",
        "sources",
    },
    "notifier": {"flags", "accounts", "sources"},
    "migrate": {"sources"},
    "operator": {"sources", "rejected"},
}
WRITES = {
    "ingest": {
        "usage-events", "usage-events-overflow", "unplaced-events", "directory-changes", "rejected",
    },
    "scoring": {"usage-events", "flags", "accounts", "rejected"},
    "notifier": {"outcomes", "rejected"},
    "migrate": {"sources"},
    "operator": {
        "sources", "rejected", "usage-events", "usage-events-overflow", "unplaced-events",
        "directory-changes",
    },
    "stranger": set[str](),
}  # fmt: skip
GROUPS = {"scoring": {"scoring", "scoring-placing"}, "notifier": {"notifier"}}
_SECONDS = 20


@pytest.fixture(scope="module")
def allowed(secure_kafka: SecureKafka) -> SecureKafka:
    """A broker with the rules, twice: the script may be repeated."""
    secure_kafka.allow(PREFIX)

    async def prepare() -> None:
        async with opened(secure_kafka, "migrate", {"perennial_topic_prefix": PREFIX}) as log:
            await log.create_topics(TOPICS)

    asyncio.run(prepare())
    return secure_kafka


def options(kafka: SecureKafka, principal: str) -> dict[str, Any]:
    return {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": "SASL_SSL",
        "ssl_context": ssl.create_default_context(cafile=kafka.authority),
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": principal,
        "sasl_plain_password": password_of(principal),
    }


@asynccontextmanager
async def consumer(kafka: SecureKafka, principal: str, **more: Any) -> AsyncIterator[Any]:
    made = AIOKafkaConsumer(
        **options(kafka, principal), enable_auto_commit=False, auto_offset_reset="earliest", **more
    )
    try:
        async with asyncio.timeout(_SECONDS):
            await made.start()
            yield made
    finally:
        await ended(made.stop(), within=5)


@pytest.mark.parametrize("principal", WRITES)
async def test_who_may_write_what(allowed: SecureKafka, principal: str) -> None:
    producer = AIOKafkaProducer(**options(allowed, principal), acks="all")
    written = set()
    try:
        async with asyncio.timeout(_SECONDS):
            await producer.start()
            for name in NAMES:
                try:
                    await producer.send_and_wait(PREFIX + name, b"x", key=b"k", partition=0)
                except TopicAuthorizationFailedError:
                    continue
                written.add(name)
    finally:
        await ended(producer.stop(), within=5)
    assert written == WRITES[principal]


@pytest.mark.parametrize("principal", READS)
async def test_who_may_read_what(allowed: SecureKafka, principal: str) -> None:
    admin = AIOKafkaProducer(**options(allowed, "admin"), acks="all")
    await admin.start()
    try:
        for name in NAMES:
            await admin.send_and_wait(PREFIX + name, b"x", key=b"k", partition=0)
    finally:
        await admin.stop()
    found = set()
    for name in NAMES:
        async with consumer(allowed, principal) as reading:
            reading.assign([TopicPartition(PREFIX + name, 0)])
            try:
                while not await reading.getmany(timeout_ms=500):
                    pass
            except TopicAuthorizationFailedError:
                continue
            found.add(name)
    assert found == READS[principal]


@pytest.mark.parametrize("principal", ["ingest", "scoring", "notifier", "operator"])
async def test_who_may_join_which_group(allowed: SecureKafka, principal: str) -> None:
    joined = set()
    for group in ("scoring", "scoring-placing", "notifier"):
        async with consumer(allowed, principal, group_id=group) as member:
            first = TopicPartition(PREFIX + _read_by(group), 0)
            member.assign([first])
            try:
                await member.commit({first: 0})
            except (GroupAuthorizationFailedError, TopicAuthorizationFailedError):
                continue
            joined.add(group)
    assert joined == GROUPS.get(principal, set())


@pytest.mark.parametrize("principal", ["ingest", "scoring", "notifier", "operator", "stranger"])
async def test_only_the_job_makes_topics(allowed: SecureKafka, principal: str) -> None:
    admin = AIOKafkaAdminClient(**options(allowed, principal))
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(PREFIX + "mine", 1, 1)])
        assert [row[1] for row in answer.topic_errors] == [TopicAuthorizationFailedError.errno]
    finally:
        await admin.close()


@pytest.mark.parametrize("principal", ["ingest", "scoring", "notifier", "operator"])
async def test_each_can_check_the_topics(allowed: SecureKafka, principal: str) -> None:
    async with opened(allowed, principal, {"perennial_topic_prefix": PREFIX}) as log:
        assert await log.check_topics(TOPICS) == []


async def test_scoring_may_ask_how_far_its_topics_reach_and_a_stranger_may_not(
    allowed: SecureKafka,
) -> None:
    intake = [USAGE_EVENTS, USAGE_EVENTS_OVERFLOW]
    async with opened(allowed, "scoring", {"perennial_topic_prefix": PREFIX}) as log:
        ends, begins = await log.ends(intake), await log.begins(intake)
    assert len(ends) == len(begins) == 24
    async with opened(allowed, "stranger", {"perennial_topic_prefix": PREFIX}) as log:
        with pytest.raises(shared_log.LogRefused, match="may not describe"):
            await log.ends(intake)


async def test_the_job_announces_the_consoles_key_once(allowed: SecureKafka) -> None:
    made = new_key(source=CONSOLE_SOURCE, scopes=CONSOLE_SCOPES, now=NOW)
    async with opened(allowed, "migrate", {"perennial_topic_prefix": PREFIX}) as log:
        assert await keys.announce_console(log, made.secret, now=NOW)
        assert not await keys.announce_console(log, made.secret, now=NOW)


async def test_the_operator_sees_how_many_records_wait_that_only_others_may_read(
    allowed: SecureKafka,
) -> None:
    admin = AIOKafkaProducer(**options(allowed, "admin"), acks="all")
    await admin.start()
    try:
        sent = await admin.send_and_wait(PREFIX + "flags", b"x", key=b"k", partition=0)
    finally:
        await admin.stop()
    async with opened(allowed, "operator", {"perennial_topic_prefix": PREFIX}) as log:
        found = await log.survey(["flags"], group="notifier", positions={})
    first = found[shared_log.TopicPartition("flags", 0)]
    assert (first.end, first.waiting_since) == (sent.offset + 1, None)


def _read_by(group: str) -> str:
    return {
        "scoring": "usage-events",
        "scoring-placing": "unplaced-events",
        "notifier": "flags",
    }[group]
