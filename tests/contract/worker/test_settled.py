"""A worker that reads what is settled: all of it once, and its waiting is no standstill."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

from shared.log import Log, TopicPartition
from shared.log.settled import Settled
from tests.contract.log.reading import append, new_topic, numbered, record
from tests.contract.worker.ledger import Ledger, all_once, working


def _group() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


async def test_members_that_hold_records_back_join_and_leave_and_all_is_taken_in_once(
    log: Log, ledger: Ledger
) -> None:
    topic, group = await new_topic(log, partitions=4), _group()
    sent = [record(f"account-{number}", str(number)) for number in range(900)]

    def until() -> datetime:
        return datetime.now(UTC) - timedelta(milliseconds=700)

    async with log.consume([topic], group=group) as stays:
        settled = Settled(stays, until, waited=lambda: None)
        async with working(settled, ledger) as first:
            for start in range(0, 300, 30):
                await append(log, topic, sent[start : start + 30])
            async with log.consume([topic], group=group) as comes:
                other = Settled(comes, until, waited=lambda: None)
                async with working(other, ledger) as second:
                    for start in range(300, 600, 30):
                        await append(log, topic, sent[start : start + 30])
                        await asyncio.sleep(0.1)  # a stream, so that some is always held back

                    async def shared_out() -> bool:
                        return len(stays.assignment()) == len(comes.assignment()) == 2

                    await second.until(shared_out)
                    await append(log, topic, sent[600:])
            # It left with records in its hands that it had not handed out.
            await first.until_taken(ledger, 900)
    assert all_once(await ledger.numbers(), 900)
    assert first.metric("log_gap_records_total", topic) == 0


async def test_a_batch_that_was_not_taken_in_comes_again_before_what_is_held(
    log: Log, ledger: Ledger
) -> None:
    topic = await new_topic(log)
    await append(log, topic, numbered(20))
    known: list[datetime] = []
    async with log.consume([topic], group=_group()) as consumer:
        settled = Settled(consumer, lambda: known[-1] if known else None, waited=lambda: None)
        async with working(settled, ledger) as worker:
            known.append(datetime.now(UTC) + timedelta(hours=1))
            await worker.until_taken(ledger, 10)
            await ledger.claim(TopicPartition(topic, 0))  # what comes next is fenced
            await append(log, topic, numbered(20, first=20))
            await worker.until_taken(ledger, 40)
    assert await ledger.numbers() == list(range(40))


async def test_waiting_for_what_is_too_young_is_no_standstill(log: Log, ledger: Ledger) -> None:
    topic = await new_topic(log)
    known: list[datetime] = []
    async with log.consume([topic], group=_group()) as consumer:
        waits: list[int] = []
        settled = Settled(
            consumer, lambda: known[-1] if known else None, waited=lambda: waits.append(1)
        )
        async with working(settled, ledger) as worker:
            await append(log, topic, numbered(5))

            async def has_waited() -> bool:
                return len(waits) > 2

            await worker.until(has_waited)
            assert await ledger.count() == 0
            known.append(datetime.now(UTC) + timedelta(hours=1))
            await worker.until_taken(ledger, 5)
            waits.clear()
            await append(log, topic, numbered(5, first=5))
            await worker.until_taken(ledger, 10)
            assert not waits, "what is old enough is taken, and is never what it waits for"
