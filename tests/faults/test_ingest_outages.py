"""Kafka goes away under ingest, in every way it can: true answers in time, nothing accepted lost.

Callers send all the while and note what they were told; afterwards the log is read back. A test run
takes the short ones (`tests/e2e/test_broker_outage.py` has kill -9); `make faults` takes all.
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from tests.brokers import KafkaBroker
from tests.e2e.deployments import eventually
from tests.faults.load import (
    ANSWER_SECONDS,
    IN_FULL,
    Connection,
    Ledger,
    Load,
    calling,
    new_events,
)
from tests.faults.proxy import Network
from tests.faults.site import (
    MAX_GROWTH_MIB,
    Stage,
    ingest,
    known,
    missing,
    resident_mib,
    stage,
    watching,
)

RECOVERY_SECONDS = 10.0
"""After the fault, for requests and for keys: a new one is known, and so would a revoked one be."""
QUIET_SECONDS = 2.0

Act = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    name: str
    begin: Act
    end: Act
    seconds: float
    """From its beginning to its end."""
    nodes: int = 1
    proxied: bool = False
    is_outage: bool = True
    """Nothing, or not everything, can be stored meanwhile; else ingest must go on serving."""


def switched(name: str, network: Network) -> Fault:
    async def begin(at: Stage) -> None:
        at.network.switch(network)

    async def end(at: Stage) -> None:
        at.network.switch(Network.WHOLE)

    # Short: a client that waits for the lost connection's time-out does so afterwards, and is seen.
    return Fault(name=name, begin=begin, end=end, seconds=8, proxied=True)


def slowed(seconds: float) -> Fault:
    async def begin(at: Stage) -> None:
        at.network.latency_seconds = seconds

    async def end(at: Stage) -> None:
        at.network.latency_seconds = 0

    return Fault(name="latency", begin=begin, end=end, seconds=10, proxied=True, is_outage=False)


def downed(name: str, count: int, *, nodes: int, is_outage: bool) -> Fault:
    return Fault(
        name=name,
        begin=lambda at: at.each(KafkaBroker.kill9, count),
        end=lambda at: at.each(KafkaBroker.start, count),
        seconds=15,
        nodes=nodes,
        is_outage=is_outage,
    )


def frozen(seconds: float) -> Fault:
    return Fault(
        name=f"SIGSTOP {seconds:.0f} s",
        begin=lambda at: at.each(KafkaBroker.freeze),
        end=lambda at: at.each(KafkaBroker.thaw),
        seconds=seconds,
    )


SHORT = [frozen(8)]
ALL = [
    Fault(
        name="SIGTERM",
        begin=lambda at: at.each(KafkaBroker.terminate),
        end=lambda at: at.each(KafkaBroker.start),
        seconds=10,
    ),
    downed("kill -9", 1, nodes=1, is_outage=True),
    frozen(20),
    switched("blackhole", Network.BLACKHOLE),
    switched("reset", Network.RESET),
    switched("half-closed", Network.HALF_CLOSED),
    slowed(0.3),
    downed("1 of 3 brokers", 1, nodes=3, is_outage=False),
    downed("2 of 3 brokers", 2, nodes=3, is_outage=True),
    # The controllers' quorum lives, so partitions with one replica left say NotEnoughReplicas.
    downed("2 of 5 brokers", 2, nodes=5, is_outage=True),
]


@pytest.mark.parametrize("fault", ALL if IN_FULL else SHORT, ids=lambda fault: fault.name)
async def test_an_outage_hangs_nobody_loses_nothing_and_ends_by_itself(
    fault: Fault, tmp_path: Path
) -> None:
    now, ledger = asyncio.get_running_loop().time, Ledger()
    async with (
        stage(tmp_path, nodes=fault.nodes, proxied=fault.proxied) as at,
        ingest(at.site) as (process, key),
    ):
        # Three brokers: two must have a record before it is acknowledged.
        assert await at.site.complaints(replicas=min(3, fault.nodes)) == []
        port, pid, idle = process.ports["INGEST_PORT"], process.pid, resident_mib(process)
        async with (
            watching(process) as watch,
            calling(Load(), port=port, key=key, ledger=ledger),
        ):
            await eventually(lambda: len(ledger.attempts) > 100, what="callers are at work")
            assert {one.status for one in ledger.attempts if one.ended_at} == {200}
            began = now()
            await fault.begin(at)
            await asyncio.sleep(began + fault.seconds - now())
            await fault.end(at)
            ended = now()
            await eventually(
                lambda: ledger.first_accepted_after(ended), seconds=30, what="it recovers by itself"
            )
            await eventually(lambda: now() - last_refused(ledger, ended) > QUIET_SECONDS)
            late_key = await at.site.new_key()
            keys_seconds = await known(port, late_key, ledger, name="late", seconds=60)
            if fault.is_outage:
                await eventually(lambda: watch.was_down_and_is_up(began), what="the metric")
        first = ledger.first_accepted_after(ended) or 0.0
        figures = {
            "attempts": len(ledger.attempts),
            "answers": dict(ledger.counts()),
            "accepted": len(ledger.accepted),
            "first accepted after": round(first - ended, 2),
            "all accepted after": round(last_refused(ledger, ended) - ended, 2),
            "longest": round(max(one.seconds for one in ledger.attempts), 2),
            "late key known after": round(keys_seconds, 1),
            "RSS MiB idle, peak": (round(idle), round(resident_mib(process, peak=True))),
            "slowest look": round(watch.slowest_seconds, 2),
        }
        stored = await at.site.stored()
        figures |= {
            "lost": len(missing(ledger.accepted, stored)),
            "stored": len(stored),
            "twice": stored.total() - len(stored),
        }
        sys.stderr.write(f"\n{fault.name}: {figures}\n")

        assert missing(ledger.accepted, stored) == []
        assert ledger.wrong() == []
        assert watch.unwell == {}
        assert process.pid == pid
        assert process.is_running()
        assert resident_mib(process, peak=True) - idle < MAX_GROWTH_MIB
        assert last_refused(ledger, ended) - ended < RECOVERY_SECONDS
        assert keys_seconds < RECOVERY_SECONDS
        refused = [one for one in ledger.attempts if one.status == 503]
        if fault.is_outage:
            assert refused
        else:
            # The brokers elect new leaders; then everything is as before.
            assert all(one.sent_at - began < ANSWER_SECONDS for one in refused)
        assert "never retrieved" not in process.output()
        assert "request.crashed" not in process.output()


def last_refused(ledger: Ledger, since: float) -> float:
    """When the last answer came that was not 200, for a request sent after `since`."""
    times = [
        one.ended_at
        for one in ledger.since(since)
        if one.ended_at is not None and one.status != 200
    ]
    return max(times, default=since)


@pytest.mark.long
async def test_more_callers_than_it_can_hold_are_told_so_and_memory_is_bounded(
    tmp_path: Path,
) -> None:
    """100 callers with 500 events each, at a frozen broker: 50,000 where 30,000 have room."""
    ledger = Ledger()
    async with stage(tmp_path) as at, ingest(at.site) as (process, key):
        idle = resident_mib(process)
        port = process.ports["INGEST_PORT"]
        load = Load(callers=100, sizes=(500, 500), pause_seconds=0.3)
        async with watching(process) as watch:
            await known(port, key, ledger, name="first", seconds=5)
            await at.each(KafkaBroker.freeze)
            async with calling(load, port=port, key=key, ledger=ledger):
                await asyncio.sleep(8)
            await at.each(KafkaBroker.thaw)
            await known(port, key, ledger, name="after", seconds=30)
        sys.stderr.write(
            f"\ncrowd: {dict(ledger.counts())}, RSS {idle:.0f} to"
            f" {resident_mib(process, peak=True):.0f} MiB\n"
        )
        assert ledger.counts()["503 overloaded"] > 0
        assert ledger.wrong() == []
        assert watch.unwell == {}
        assert resident_mib(process, peak=True) - idle < MAX_GROWTH_MIB
        assert missing(ledger.accepted, await at.site.stored()) == []


@pytest.mark.long
async def test_a_client_that_hangs_up_while_the_log_is_slow_cancels_no_append(
    tmp_path: Path,
) -> None:
    ledger = Ledger()
    async with stage(tmp_path, proxied=True) as at, ingest(at.site) as (process, key):
        port = process.ports["INGEST_PORT"]
        await known(port, key, ledger, name="first", seconds=5)
        at.network.latency_seconds = 1.0
        events = new_events("gone", 500, random.Random(1))
        waits = asyncio.Event()
        leaving = asyncio.create_task(
            Connection(port, key).send_and_hang_up(msgspec.json.encode(events), when=waits)
        )
        await eventually(lambda: process.metric("perennial_ingest_inflight_events") == 500)
        waits.set()
        await leaving
        await eventually(lambda: process.metric("perennial_ingest_inflight_events") == 0)
        at.network.latency_seconds = 0.0
        stored = await at.site.stored()
        assert {event["id"] for event in events} <= stored.keys()
