"""Ingest ends, asked to or killed: whoever waits is answered, and what was accepted is in the log.

How often: `make faults` ends it 20 times under load; a test run does so twice (FAULT_ROUNDS).
"""

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest

from tests.brokers import KafkaBroker
from tests.e2e.deployments import eventually
from tests.faults.load import (
    ANSWER_SECONDS,
    AWAY,
    IN_FULL,
    Connection,
    Ended,
    Ledger,
    Load,
    attempt,
    calling,
    new_events,
)
from tests.faults.site import Site, ingest, missing, new_site, stage

ROUNDS = range(int(os.environ.get("FAULT_ROUNDS", "20" if IN_FULL else "2")))
DRAIN_SECONDS = 0.5
LATE_SECONDS = 4.5
"""Long after the drain: longer than the server itself waits for what still runs when it ends."""
LIMIT_SECONDS = LATE_SECONDS + 5.0
"""From the end of the drain to the end of the process, where the log is there."""
LIMIT_WITHOUT_LOG_SECONDS = 20.0
"""The flush (10 s), the last replies (2 s), and clients of Kafka that must be left."""
CODES = {"shutting_down"}
PLACES = {
    "ingest.before_append": False,
    "ingest.before_ack": True,
    "ingest.before_response": True,
}
"""Where it is killed, and whether the log has the request in hand by then."""
SHORT = [("ingest.before_ack", True)]


@pytest.fixture(scope="module")
def site(kafka_broker: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return new_site(kafka_broker.bootstrap_servers, tmp_path_factory.mktemp("ingest"))


@pytest.mark.parametrize("number", ROUNDS)
async def test_sigterm_under_load_leaves_no_request_unanswered(site: Site, number: int) -> None:
    now, ledger, choose = asyncio.get_running_loop().time, Ledger(), random.Random(number)
    environment = {
        "PERENNIAL_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "INGEST_BODY_STALL_SECONDS": str(2 * LATE_SECONDS),
    }
    async with ingest(site, name=f"round-{number}", **environment) as (process, key):
        port = process.ports["INGEST_PORT"]
        load = Load(callers=8, pause_seconds=0.005, seed=number)
        async with calling(load, port=port, key=key, ledger=ledger):
            await eventually(lambda: len(ledger.attempts) > 50, every=0.01)
            # One body is half sent when the signal comes; its rest comes when it likes.
            rest = asyncio.Event()
            slow = asyncio.create_task(
                attempt(
                    ledger,
                    Connection(port, key),
                    new_events(f"slow-{number}", 50, choose),
                    hold=rest,
                )
            )
            await asyncio.sleep(choose.uniform(0.05, 0.7))
            signalled = now()
            ending = asyncio.create_task(asyncio.to_thread(process.terminate))
            await asyncio.sleep(LATE_SECONDS if number % 2 else choose.uniform(0, DRAIN_SECONDS))
            rest.set()
            code = await ending
            took = now() - signalled
            answered_late = await slow
    promised_until = signalled + DRAIN_SECONDS
    lost = missing(ledger.accepted, await site.stored())
    sys.stderr.write(
        f"\nround {number}: {dict(ledger.counts())}, accepted {len(ledger.accepted)},"
        f" lost {len(lost)}, ended in {took:.2f} s\n"
    )
    assert lost == []
    assert code == 0
    assert took < DRAIN_SECONDS + LIMIT_SECONDS
    assert answered_late.status == 200
    for one in ledger.attempts:
        if one.sent_at < promised_until:
            assert one.why_wrong(CODES) is None, f"{one.sent_at - signalled:.3f} s after SIGTERM"
        elif one.answer is not None:
            assert one.why_wrong(CODES) is None
        else:
            assert one.ended in {Ended.REFUSED, Ended.CLOSED}
    assert any(one.status == 200 for one in ledger.since(signalled)), "it serves on, unready"


async def test_a_body_that_outlasts_the_flush_is_told_to_come_again(site: Site) -> None:
    now, ledger, never = asyncio.get_running_loop().time, Ledger(), asyncio.Event()
    async with ingest(
        site, name="flush", PERENNIAL_DRAIN_SECONDS="0.2", INGEST_FLUSH_SECONDS="0.5"
    ) as (process, key):
        connection = Connection(process.ports["INGEST_PORT"], key)
        events = new_events("never", 5, random.Random(1))
        slow = asyncio.create_task(attempt(ledger, connection, events, hold=never))
        # The first bytes of the body are there: the request is in flight.
        await eventually(lambda: process.metric("perennial_ingest_inflight_bytes") > 0)
        started = now()
        assert await asyncio.to_thread(process.terminate) == 0
        assert now() - started < LIMIT_WITHOUT_LOG_SECONDS
        never.set()
        answer = await slow
    assert answer.why_wrong(CODES) is None
    assert answer.code == "shutting_down"


@pytest.mark.long
async def test_sigterm_while_the_log_is_away_ends_in_time_and_answers_all(tmp_path: Path) -> None:
    now, ledger = asyncio.get_running_loop().time, Ledger()
    async with (
        stage(tmp_path) as at,
        ingest(at.site, PERENNIAL_DRAIN_SECONDS=str(DRAIN_SECONDS)) as (process, key),
    ):
        load = Load(callers=8)
        async with calling(load, port=process.ports["INGEST_PORT"], key=key, ledger=ledger):
            await eventually(lambda: len(ledger.attempts) > 50, every=0.01)
            await at.each(KafkaBroker.freeze)
            frozen = now()
            # All callers wait for the log when the signal comes.
            await eventually(lambda: sum(one.ended_at is None for one in ledger.attempts) == 8)
            signalled = now()
            code = await asyncio.to_thread(process.terminate)
            took = now() - signalled
        await at.each(KafkaBroker.thaw)
        lost = missing(ledger.accepted, await at.site.stored())
    sys.stderr.write(f"\nSIGTERM without the log: {dict(ledger.counts())}, ended in {took:.2f} s\n")
    assert lost == []
    assert code == 0
    assert took < DRAIN_SECONDS + LIMIT_WITHOUT_LOG_SECONDS
    waiting = [one for one in ledger.attempts if one.sent_at < signalled + DRAIN_SECONDS]
    assert [why for one in waiting if (why := one.why_wrong(CODES | AWAY))] == []
    assert any(one.code == "not_durable" for one in ledger.since(frozen - ANSWER_SECONDS))
    assert all(one.seconds < ANSWER_SECONDS for one in ledger.attempts)


@pytest.mark.parametrize(("place", "is_stored"), PLACES.items() if IN_FULL else SHORT)
async def test_killed_at_any_step_what_was_accepted_is_there_and_the_rest_is_sent_again(
    site: Site, place: str, *, is_stored: bool
) -> None:
    ledger = Ledger()
    async with ingest(site, name=place, PERENNIAL_FAILPOINT=f"{place}:kill9:nth=3") as (first, key):
        connection = Connection(first.ports["INGEST_PORT"], key)
        batches = [new_events(f"{place}-{n}", 20, random.Random(n)) for n in range(5)]
        answers = [await attempt(ledger, connection, batch) for batch in batches[:3]]
        assert [one.ended for one in answers] == [None, None, Ended.CLOSED]
        await eventually(lambda: not first.is_running())
        in_hand = {str(event["id"]) for event in batches[2]}
        stored = await site.stored()
        assert in_hand & stored.keys() == (in_hand if is_stored else set())
        assert missing(ledger.accepted, stored) == []
        ports = {name: str(port) for name, port in first.ports.items()}
        again = site.process(place, **ports)
        try:
            await asyncio.to_thread(again.start)
            answers = [await attempt(ledger, connection, batch) for batch in batches[2:]]
            assert [one.status for one in answers] == [200, 200, 200]
        finally:
            again.stop()
            connection.abort()
    stored = await site.stored()
    assert missing(ledger.accepted, stored) == []
    assert len(ledger.accepted) == 100
    assert {stored[one] for one in in_hand} == {2 if is_stored else 1}
