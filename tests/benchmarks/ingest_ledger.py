"""Whether the log holds what was acknowledged: every event, once, and as it was sent."""

from array import array
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from shared.credentials import hash_user
from shared.log.partitioner import partition_of
from shared.messages import UsageEvent
from tests.benchmarks.ingest_events import Stream, name_of
from tests.benchmarks.ingest_wrk import Sent

_COMPARE_EVERY = 97
"""Of the events that are compared in full; each one is counted."""
_FETCH_BYTES = 4 * 1024 * 1024
_WAIT_MS = 20_000


class _Id(msgspec.Struct):
    id: str


_id_decoder = msgspec.json.Decoder(_Id)
_event_decoder = msgspec.json.Decoder(UsageEvent)
_any_decoder = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the service makes of all events alike."""

    source: str
    user_key: bytes
    partitions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    acknowledged: int
    found: int
    missing: int
    repeated: int
    strange: int
    """Records that nobody sent, or that say something else than what was sent."""
    compared: int

    @property
    def is_exact(self) -> bool:
        return not (self.missing or self.repeated or self.strange)


@dataclass(slots=True)
class Ledger:
    """What was sent; events whose request got no answer may be in the log or not."""

    _streams: dict[int, tuple[Stream, dict[int, Sent]]] = field(default_factory=dict)

    def enter(self, stream: Stream, sent: Iterable[Sent]) -> None:
        self._streams[stream.load] = (stream, {one.thread: one for one in sent})

    async def audit(self, topic: str, rules: Rules, *, bootstrap_servers: str) -> Audit:
        """Read the whole topic and compare."""
        counts = {
            (load, thread): array("B", bytes(sent.requests * stream.batch))
            for load, (stream, threads) in self._streams.items()
            for thread, sent in threads.items()
        }
        strange = compared = found = 0
        async for record in _records(topic, rules.partitions, bootstrap_servers):
            found += 1
            name = name_of(_id_decoder.decode(record.value).id)
            seen = counts.get(name[:2]) if name else None
            if name is None or seen is None or name[2] >= len(seen):
                strange += 1
                continue
            load, thread, number = name
            seen[number] = min(2, seen[number] + 1)
            if number % _COMPARE_EVERY == 0:
                compared += 1
                sent = self._streams[load][0].event(thread, number)
                strange += not _is_same(sent, record, rules)
        acknowledged, missing, repeated = self._compare(counts)
        return Audit(
            acknowledged=acknowledged,
            found=found,
            missing=missing,
            repeated=repeated,
            strange=strange,
            compared=compared,
        )

    def _compare(self, counts: dict[tuple[int, int], "array[int]"]) -> tuple[int, int, int]:
        acknowledged = missing = repeated = 0
        for load, (stream, threads) in self._streams.items():
            for thread, sent in threads.items():
                seen = counts[load, thread]
                repeated += seen.count(2)
                acknowledged += (sent.requests - len(sent.open)) * stream.batch
                missing += seen.count(0)
                for request in sent.open:
                    first = request * stream.batch
                    missing -= seen[first : first + stream.batch].count(0)
        return acknowledged, missing, repeated


async def first_values(
    topic: str, rules: Rules, *, bootstrap_servers: str, count: int
) -> list[bytes]:
    """At most `count` values as they stand in the log."""
    values: list[bytes] = []
    async with aclosing(_records(topic, rules.partitions, bootstrap_servers)) as records:
        async for record in records:
            values.append(record.value)
            if len(values) == count:
                break
    return values


async def _records(
    topic: str, partitions: int, bootstrap_servers: str
) -> AsyncGenerator[ConsumerRecord, None]:
    """What the topic holds now, by the client library alone."""
    reader = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    await reader.start()
    try:
        assigned = [TopicPartition(topic, number) for number in range(partitions)]
        reader.assign(assigned)
        ends = await reader.end_offsets(assigned)
        left = {one for one in assigned if ends[one]}
        while left:
            fetched = await reader.getmany(timeout_ms=_WAIT_MS)
            if not fetched:
                raise TimeoutError(f"the log ends before its end: {left}")
            for one, records in fetched.items():
                for record in records:
                    yield record
                if records[-1].offset + 1 >= ends[one]:
                    left.discard(one)
                    reader.pause(one)
    finally:
        await reader.stop()


def _is_same(sent: str, record: ConsumerRecord, rules: Rules) -> bool:
    """Whether the record says what was sent, under the account's key, where the key belongs."""
    stated, stored = _any_decoder.decode(sent), _event_decoder.decode(record.value)
    moment = datetime.fromisoformat(stated["occurred_at"])
    expected = UsageEvent(
        id=stated["id"],
        source=rules.source,
        account=stated["account_id"],
        user=hash_user(rules.user_key, stated["user_id"]),
        type=stated["type"],
        occurred_at=moment,
        client_at=moment,
        received_at=stored.received_at,
        properties=stated["properties"],
    )
    key = expected.account.encode()
    place = (record.key, record.partition)
    return stored == expected and place == (key, partition_of(key, rules.partitions))
