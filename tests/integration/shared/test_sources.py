"""Keys travel over the log: known within a second, refused within a second."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from services import keys, sources
from services.keys import TooManyKeys, UnknownKey
from shared.credentials import KeyRing, NewKey, Refusal, Scope, new_key
from shared.lifecycle import new_frame
from shared.log import Consumer, Log, LogUnavailable, Record, TopicMissing
from shared.log.patience import enter_when_reachable
from shared.log.postgres import PostgresLog
from shared.messages import SOURCES, Source, WriteKey, encode
from shared.sources import follow_keys, key_of

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
_SOON = timedelta(seconds=5)


async def test_a_new_key_is_known_within_a_second_and_a_revoked_one_refused(
    log: PostgresLog,
) -> None:
    async with _following(log) as ring:
        made = await _create(log, "app")
        await _within_a_second(lambda: ring.check(made.secret, now=NOW) == made.record)
        await keys.revoke(log, key_id=made.record.key_id, now=NOW)
        await _within_a_second(lambda: ring.check(made.secret, now=NOW) is Refusal.REVOKED)


async def test_what_is_said_of_a_source_is_known_within_a_second(log: PostgresLog) -> None:
    said = Source(name="app", type_map={"trial_started": "onboarding_milestone"})
    async with _following(log) as ring:
        assert ring.source("app") == Source(name="app")
        await sources.describe(log, said)
        await _within_a_second(lambda: ring.source("app") == said)
        await _create(log, "web")
        # A source is listed as soon as it has a key; the two kinds of records are told apart.
        assert await sources.read_all(log) == [said, Source(name="web")]
        assert [key.source for key in await keys.read_all(log)] == ["web"]

        gone = Record(key=key_of("app"), value=None)
        await log.append(SOURCES, [gone], deadline=_SOON)
        await _within_a_second(lambda: ring.source("app") == Source(name="app"))


async def test_loaded_means_that_every_key_has_been_read(log: PostgresLog) -> None:
    made = [new_key(source="app", scopes=[Scope.BACKFILL], now=NOW) for _ in range(2_500)]
    records = [Record(key=m.record.key_id.encode(), value=encode(m.record)) for m in made]
    await log.append(SOURCES, records, deadline=_SOON)
    async with _following(log) as ring:
        assert len(ring.records()) == len(made)


async def test_a_broken_record_is_passed_over_and_the_others_count(log: PostgresLog) -> None:
    before, after = (new_key(source="app", scopes=[], now=NOW) for _ in range(2))
    broken = [b"", b"{", b"[]", b'{"key_id":1}', b"\xff\x00"]
    await _append(log, before.record)
    await log.append(SOURCES, [Record(key=b"x", value=value) for value in broken], deadline=_SOON)
    await _append(log, after.record)
    async with _following(log) as ring:
        assert ring.check(before.secret, now=NOW) == before.record
        assert ring.check(after.secret, now=NOW) == after.record


async def test_a_key_that_was_deleted_is_unknown(log: PostgresLog) -> None:
    async with _following(log) as ring:
        made = await _create(log, "app")
        await _within_a_second(lambda: ring.check(made.secret, now=NOW) == made.record)
        gone = Record(key=made.record.key_id.encode(), value=None)
        await log.append(SOURCES, [gone], deadline=_SOON)
        await _within_a_second(lambda: ring.check(made.secret, now=NOW) is Refusal.UNKNOWN)


async def test_the_list_holds_every_key_with_its_state_the_oldest_first(log: PostgresLog) -> None:
    assert await keys.read_all(log) == []
    first = await _create(log, "app")
    second = await _create(log, "crm", now=NOW + timedelta(seconds=1))
    ended = await keys.revoke(log, key_id=first.record.key_id, now=NOW + timedelta(days=1))
    assert ended.revoked_at == NOW + timedelta(days=1)
    assert await keys.read_all(log) == [ended, second.record]


async def test_revoking_again_keeps_the_first_time(log: PostgresLog) -> None:
    made = await _create(log, "app")
    await keys.revoke(log, key_id=made.record.key_id, now=NOW)
    again = await keys.revoke(log, key_id=made.record.key_id, now=NOW + timedelta(days=9))
    assert again == msgspec.structs.replace(made.record, revoked_at=NOW)


async def test_revoking_a_key_that_nobody_has_says_so(log: PostgresLog) -> None:
    with pytest.raises(UnknownKey, match="nobodyhasit0"):
        await keys.revoke(log, key_id="nobodyhasit0", now=NOW)


async def test_a_source_has_two_live_keys_at_most(log: PostgresLog) -> None:
    first = await _create(log, "app")
    await _create(log, "app")
    with pytest.raises(TooManyKeys, match=first.record.key_id):
        await _create(log, "app")
    await _create(log, "crm")  # another source has its own two
    await keys.revoke(log, key_id=first.record.key_id, now=NOW)
    assert (await _create(log, "app")).record.source == "app"


async def test_an_expired_key_does_not_count(log: PostgresLog) -> None:
    for _ in range(2):
        await _create(log, "app", valid=timedelta(days=1))
    later = NOW + timedelta(days=1)
    made = await _create(log, "app", now=later, valid=timedelta(days=1))
    assert made.record.expires_at == later + timedelta(days=1)


async def test_a_log_that_is_away_at_the_start_is_waited_for(log: PostgresLog) -> None:
    waited, away = [], [True, True]

    def join() -> AbstractAsyncContextManager[Consumer]:
        if away:
            away.pop()
            raise LogUnavailable("away")
        return log.follow(SOURCES)

    async with AsyncExitStack() as stack, asyncio.timeout(10):
        consumer = await enter_when_reachable(
            stack, join, asyncio.Event(), progressed=lambda: waited.append(True)
        )
    assert consumer is not None
    assert len(waited) == 2


async def test_waiting_for_the_log_ends_with_stop() -> None:
    stop = asyncio.Event()

    def join() -> AbstractAsyncContextManager[Consumer]:
        stop.set()
        raise LogUnavailable("away")

    async with AsyncExitStack() as stack, asyncio.timeout(5):
        assert await enter_when_reachable(stack, join, stop) is None


async def test_a_missing_topic_is_not_waited_for(log: PostgresLog) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(5):
        with pytest.raises(TopicMissing):
            await enter_when_reachable(stack, lambda: log.follow("no-such"), asyncio.Event())


@asynccontextmanager
async def _following(log: Log) -> AsyncIterator[KeyRing]:
    ring, stop, loaded = KeyRing(), asyncio.Event(), asyncio.Event()
    loop = new_frame().loop("test", "keys")
    task = asyncio.create_task(follow_keys(log, ring, loop, stop, loaded=loaded))
    try:
        async with asyncio.timeout(10):
            await loaded.wait()
        yield ring
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await task


async def _create(
    log: Log, source: str, *, now: datetime = NOW, valid: timedelta | None = None
) -> NewKey:
    return await keys.create(log, source=source, scopes=[Scope.EVENTS_WRITE], now=now, valid=valid)


async def _append(log: Log, key: WriteKey) -> None:
    record = Record(key=key.key_id.encode(), value=encode(key))
    await log.append(SOURCES, [record], deadline=_SOON)


async def _within_a_second(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 1.0
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
