"""The embedded log: partitions, offsets and groups as tables, for one machine.

It keeps every promise of the port on the PostgreSQL that is there anyway, so that nothing else has
to run; it does not scale past that one server. With more than one machine, use Kafka.

Offsets are dense: an append locks the heads of its partitions (in one order, so that appends never
wait in a circle), takes the next offsets and commits, so the visible order is the offset order.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

from shared import logging as logs
from shared.database import is_away
from shared.log import (
    MAX_RECORD_BYTES,
    Appended,
    Consumer,
    Extent,
    LogBusy,
    LogUnavailable,
    Record,
    Topic,
    TopicMissing,
    TopicPartition,
    size_of,
)
from shared.log.background import Background
from shared.log.partitioner import partition_of
from shared.log.postgres_consumer import (
    Membership,
    PostgresConsumer,
    all_partitions,
    share_of,
)

metadata = MetaData(schema="log")

Table(
    "topics",
    metadata,
    Column("name", Text, primary_key=True),
    Column("partitions", Integer, nullable=False),
    Column("retention", Interval),
    Column("compacted", Boolean, nullable=False),
)
Table(
    "heads",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    postgresql_with={"fillfactor": 50},
)
Table(
    "records",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("key", LargeBinary, nullable=False),
    Column("value", LargeBinary),
    Column("headers", LargeBinary),
    Column("appended_at", DateTime(timezone=True), nullable=False),
)
Table(
    "groups",
    metadata,
    Column("name", Text, primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("members", ARRAY(Text), nullable=False),
)
Table(
    "members",
    metadata,
    Column("group_name", Text, primary_key=True),
    Column("member", Text, primary_key=True),
    Column("topics", ARRAY(Text), nullable=False),
    Column("lease_until", DateTime(timezone=True), nullable=False),
)
Table(
    "hints",
    metadata,
    Column("group_name", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
)

_MAX_WAITING_BYTES = 64 * 1024 * 1024
_MAX_TRANSACTION_RECORDS = 20_000
_POOL_SIZE = 6
_ANSWER_SECONDS = 4.0
_CLEAN_EVERY_SECONDS = 300.0
_DELETE_BATCH = 10_000

log = logs.get(__name__)


@dataclass(slots=True, kw_only=True)
class _Waiting:
    """One append that waits for the transaction it will be part of."""

    topic: str
    records: Sequence[Record]
    bytes: int
    done: "asyncio.Future[None]" = field(default_factory=asyncio.Future)


@asynccontextmanager
async def open_postgres_log(
    database_url: str, *, lease: timedelta = timedelta(seconds=10)
) -> AsyncIterator["PostgresLog"]:
    """The embedded log on an already migrated database; `lease` is a member's session timeout."""
    pool = asyncpg.create_pool(
        database_url,
        min_size=0,
        max_size=_POOL_SIZE,
        timeout=5,
        command_timeout=30,
        server_settings={
            "application_name": "perennial-log",
            "lock_timeout": "6000",
            "idle_in_transaction_session_timeout": "10000",
            "timezone": "UTC",
            "jit": "off",
        },
    )
    await pool
    opened = PostgresLog(pool, lease=lease)
    try:
        async with opened.running():
            yield opened
    finally:
        try:
            async with asyncio.timeout(5):
                await pool.close()
        except TimeoutError:
            pool.terminate()


class PostgresLog:
    """Implements `shared.log.Log`."""

    def __init__(self, pool: asyncpg.Pool, *, lease: timedelta) -> None:
        self._pool = pool
        self._lease = lease
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._waiting_bytes = 0
        self._partitions: dict[str, int] = {}
        self._looking_up = asyncio.Lock()
        self._appended = asyncio.Condition()
        self._background = Background()

    @property
    def max_record_bytes(self) -> int:
        return MAX_RECORD_BYTES

    @property
    def rebuilds(self) -> int:
        return 0  # The pool replaces its connections itself.

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with (
            self._background.running("log:submitter", self._submit_for_ever()),
            self._background.running("log:cleaner", self._clean_for_ever()),
        ):
            yield

    async def append(
        self, topic: str, records: Sequence[Record], *, deadline: timedelta
    ) -> Sequence[Appended]:
        sizes = [size_of(record) for record in records]
        if sizes and max(sizes) > MAX_RECORD_BYTES:
            raise ValueError(f"a record has {max(sizes)} bytes, the limit is {MAX_RECORD_BYTES}")
        if not records:
            return []
        waiting = _Waiting(topic=topic, records=records, bytes=sum(sizes))
        if self._waiting_bytes + waiting.bytes > _MAX_WAITING_BYTES:
            raise LogBusy("the embedded log is behind")
        try:
            async with asyncio.timeout(deadline.total_seconds()):
                await self._partitions_of(topic)
                self._waiting_bytes += waiting.bytes
                self._queue.put_nowait(waiting)
                # Shielded: a caller that gives up must not cancel an append under way.
                await asyncio.shield(waiting.done)
        except TimeoutError:
            return [Appended.UNKNOWN] * len(records)
        except Exception as error:
            if not is_away(error):
                raise
            # The commit may have passed before the connection broke.
            return [Appended.UNKNOWN] * len(records)
        return [Appended.DURABLE] * len(records)

    @asynccontextmanager
    async def consume(self, topics: Sequence[str], *, group: str) -> AsyncIterator[Consumer]:
        membership = Membership(
            self._pool,
            group=group,
            topics=topics,
            lease=self._lease,
            background=self._background,
        )
        consumer = PostgresConsumer(self._pool, await self._sizes_of(topics), self._appended)
        async with membership.held(consumer):
            yield consumer

    @asynccontextmanager
    async def follow(self, topic: str) -> AsyncIterator[Consumer]:
        consumer = PostgresConsumer(self._pool, await self._sizes_of([topic]), self._appended)
        consumer.assign_all()
        yield consumer

    async def check_topics(self, topics: Sequence[Topic]) -> Sequence[str]:
        rows = await self._fetch("SELECT name, partitions FROM log.topics")
        found = {row["name"]: row["partitions"] for row in rows}
        wrong = []
        for topic in topics:
            if topic.name not in found:
                wrong.append(f"topic {topic.name} does not exist: run `perennial migrate`")
            elif found[topic.name] != topic.partitions:
                wrong.append(
                    f"topic {topic.name} has {found[topic.name]} partitions, not {topic.partitions}"
                )
        return wrong

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            for topic in topics:
                await connection.execute(
                    "INSERT INTO log.topics (name, partitions, retention, compacted)"
                    " VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                    topic.name,
                    topic.partitions,
                    topic.retention,
                    topic.compacted,
                )
                await connection.execute(
                    "INSERT INTO log.heads (topic, partition, next_offset)"
                    " SELECT name, generate_series(0, partitions - 1), 0 FROM log.topics"
                    " WHERE name = $1 ON CONFLICT DO NOTHING",
                    topic.name,
                )

    async def survey(
        self, topics: Sequence[str], *, group: str, positions: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, Extent]:
        sizes = await self._sizes_of(topics)
        rows = await self._fetch(_LIVE_MEMBERS, group)
        everyone = [str(row["member"]) for row in rows]
        owners: dict[TopicPartition, str] = {}
        for member, own_topics in rows:
            every = all_partitions(await self._sizes_of(own_topics))
            owners |= dict.fromkeys(share_of(every, everyone, member), member)
        wanted = all_partitions(sizes)
        rows = await self._fetch(
            _EXTENTS,
            [partition.topic for partition in wanted],
            [partition.partition for partition in wanted],
            [positions.get(partition, 0) for partition in wanted],
        )
        return {
            (partition := TopicPartition(row["topic"], row["partition"])): Extent(
                begin=row["begin"],
                end=row["end"],
                owner=owners.get(partition),
                waiting_since=row["waiting_since"],
            )
            for row in rows
        }

    async def ends(self, topics: Sequence[str]) -> Mapping[TopicPartition, int]:
        return await self._offsets(_ENDS, topics)

    async def begins(self, topics: Sequence[str]) -> Mapping[TopicPartition, int]:
        return await self._offsets(_BEGINS, topics)

    async def ping(self) -> bool:
        try:
            async with asyncio.timeout(2):
                await self._pool.fetchval("SELECT 1")
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    def why_broken(self) -> str | None:
        return self._background.why_broken()

    def why_no_append(self) -> str | None:
        return None  # Each append takes a connection that was just tried.

    async def _offsets(self, query: str, topics: Sequence[str]) -> Mapping[TopicPartition, int]:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                rows = await self._fetch(query, list(topics))
        except TimeoutError as error:
            raise LogUnavailable("the embedded log does not answer in time") from error
        offsets = {TopicPartition(topic, number): offset for topic, number, offset in rows}
        if missing := sorted(set(topics) - {partition.topic for partition in offsets}):
            raise TopicMissing(", ".join(missing))
        return offsets

    async def _fetch(self, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
        try:
            rows: Sequence[asyncpg.Record] = await self._pool.fetch(query, *arguments)
        except Exception as error:
            if not is_away(error):
                raise
            raise LogUnavailable("the embedded log's database is away") from error
        return rows

    async def _partitions_of(self, topic: str) -> int:
        # The lock also where the answer is known: else an append would overtake those that still
        # wait for the first look-up. Free, it costs no turn of the event loop.
        async with self._looking_up:
            if topic not in self._partitions:
                rows = await self._fetch("SELECT partitions FROM log.topics WHERE name = $1", topic)
                if not rows:
                    raise TopicMissing(topic)
                self._partitions[topic] = rows[0]["partitions"]
            return self._partitions[topic]

    async def _sizes_of(self, topics: Sequence[str]) -> dict[str, int]:
        return {topic: await self._partitions_of(topic) for topic in topics}

    async def _submit_for_ever(self) -> None:
        """One transaction at a time; the next one takes all that came meanwhile."""
        while True:
            taken = [await self._queue.get()]
            count = len(taken[0].records)
            while not self._queue.empty() and count < _MAX_TRANSACTION_RECORDS:
                taken.append(self._queue.get_nowait())
                count += len(taken[-1].records)
            try:
                await self._store(taken)
            except Exception as error:  # noqa: BLE001 - each append tells its own caller
                for waiting in taken:
                    if not waiting.done.done():
                        waiting.done.set_exception(error)
                        waiting.done.exception()  # the caller may have given up on it
            else:
                for waiting in taken:
                    if not waiting.done.done():
                        waiting.done.set_result(None)
                async with self._appended:
                    self._appended.notify_all()
            finally:
                self._waiting_bytes -= sum(waiting.bytes for waiting in taken)

    async def _store(self, taken: Sequence[_Waiting]) -> None:
        placed: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
        for waiting in taken:
            partitions = self._partitions[waiting.topic]
            for record in waiting.records:
                placed[waiting.topic, partition_of(record.key, partitions)].append(record)
        now = datetime.now(UTC)
        async with self._pool.acquire() as connection, connection.transaction():
            rows: list[tuple[object, ...]] = []
            for (topic, partition), records in sorted(placed.items()):
                after = await connection.fetchval(
                    "UPDATE log.heads SET next_offset = next_offset + $3"
                    " WHERE topic = $1 AND partition = $2 RETURNING next_offset",
                    topic,
                    partition,
                    len(records),
                )
                rows.extend(
                    (
                        topic,
                        partition,
                        offset,
                        record.key,
                        record.value,
                        msgspec.msgpack.encode(record.headers) if record.headers else None,
                        now,
                    )
                    for offset, record in enumerate(records, after - len(records))
                )
            await connection.copy_records_to_table("records", schema_name="log", records=rows)

    async def _clean_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_CLEAN_EVERY_SECONDS)
            try:
                await self.clean()
            except Exception as error:  # noqa: BLE001 - what is not deleted now is deleted later
                log.warning("log.clean_later", cause=type(error).__name__)

    async def clean(self) -> None:
        """Delete what is past its retention, and on compacted topics what has been replaced."""
        partitions = await self._pool.fetch(
            "SELECT h.topic, h.partition, t.compacted, now() - t.retention AS before"
            " FROM log.heads h JOIN log.topics t ON t.name = h.topic"
        )
        for topic, partition, compacted, before in partitions:
            if compacted:
                await self._pool.execute(_DELETE_REPLACED, topic, partition)
            elif before is not None:
                while await self._delete_expired(topic, partition, before):
                    pass

    async def _delete_expired(self, topic: str, partition: int, before: datetime) -> bool:
        deleted: str = await self._pool.execute(
            _DELETE_EXPIRED, topic, partition, before, _DELETE_BATCH
        )
        return deleted == f"DELETE {_DELETE_BATCH}"


_LIVE_MEMBERS = """
SELECT member, topics FROM log.members
WHERE group_name = $1 AND lease_until >= clock_timestamp() ORDER BY member
"""
_EXTENTS = """
SELECT n.topic, n.partition, heads.next_offset AS end,
    coalesce(oldest."offset", heads.next_offset) AS begin, waiting.appended_at AS waiting_since
FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS n (topic, partition, position)
JOIN log.heads ON heads.topic = n.topic AND heads.partition = n.partition
LEFT JOIN LATERAL (
    SELECT "offset" FROM log.records AS r WHERE r.topic = n.topic AND r.partition = n.partition
    ORDER BY "offset" LIMIT 1
) AS oldest ON true
LEFT JOIN LATERAL (
    SELECT appended_at FROM log.records AS r
    WHERE r.topic = n.topic AND r.partition = n.partition AND r."offset" >= n.position
    ORDER BY "offset" LIMIT 1
) AS waiting ON true
"""
_ENDS = "SELECT topic, partition, next_offset FROM log.heads WHERE topic = ANY($1)"
_BEGINS = """
SELECT heads.topic, heads.partition, coalesce(oldest."offset", heads.next_offset) FROM log.heads
LEFT JOIN LATERAL (
    SELECT "offset" FROM log.records AS r
    WHERE r.topic = heads.topic AND r.partition = heads.partition ORDER BY "offset" LIMIT 1
) AS oldest ON true
WHERE heads.topic = ANY($1)
"""
# The oldest records of one partition, through its primary key: no scan of what stays.
_DELETE_EXPIRED = """
DELETE FROM log.records WHERE (topic, partition, "offset") IN (
    SELECT topic, partition, "offset" FROM (
        SELECT topic, partition, "offset", appended_at FROM log.records
        WHERE topic = $1 AND partition = $2 ORDER BY "offset" LIMIT $4
    ) AS oldest WHERE appended_at < $3
)
"""
_DELETE_REPLACED = """
DELETE FROM log.records AS old WHERE topic = $1 AND partition = $2 AND EXISTS (
    SELECT FROM log.records AS new
    WHERE new.topic = $1 AND new.partition = $2 AND new.key = old.key
    AND new."offset" > old."offset"
)
"""
