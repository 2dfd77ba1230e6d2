"""From a flag on its topic to a decision stored, and from when a message is due to Slack's "ok".

The notifier runs in a process of its own, as in production, beside its PostgreSQL; a stand-in for
Slack's Web API answers each request after `answer_seconds` and never asks to wait. Each flag is
about another account and urgent, so that no working hours hold it back; each owner has a
destination of their own, as Slack allows one message a second to each. An open loop: latency counts
from when a flag was to be appended.
"""

import asyncio
import itertools
import os
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import asyncpg
import msgspec
from sqlalchemy import make_url

from shared.embedded_postgres import embedded_postgres
from shared.log import Appended, Log, Record
from shared.log.postgres import open_postgres_log
from shared.messages import (
    ACCOUNTS,
    FLAGS,
    AccountFields,
    AccountRecord,
    Band,
    ValueAtRisk,
    encode,
)
from tests.benchmarks.ingest_figures import cpu_seconds
from tests.databases import DatabaseServer, temporary_folder
from tests.integration.notifier.rig import flag, value_of
from tests.standins.slack import TOKEN, FakeSlack, Slow, fake_slack

_SLOT_SECONDS = 0.1
_CHUNK = 500
_LOOK_SECONDS = 0.02
_DEADLINE = timedelta(seconds=30)
_KNOWN = "SELECT count(*) FROM notifier.accounts"
# Numbers are given before the commit: those of the last second may still come.
_NEW = "SELECT number, account_id FROM notifier.deliveries WHERE number > $1 - 500"
_SENT = """
    SELECT extract(epoch FROM ended_at - due_at)::float AS waited
    FROM notifier.deliveries WHERE state = 'sent' AND kind = 'notice'
"""
_LEFT = "SELECT count(*) FROM notifier.deliveries WHERE state IN ('pending', 'sending')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    rate: int
    seconds: int
    owners: int
    senders: int
    wait_seconds: float
    answer_seconds: float

    @property
    def flags(self) -> int:
        return self.rate * self.seconds


@dataclass(slots=True)
class Decisions:
    """When the first delivery about each account could be read, as others saw it."""

    seen: dict[str, float] = field(default_factory=dict)
    last: int = 0

    async def watch(self, url: str, stop: asyncio.Event) -> None:
        connection = await asyncpg.connect(url)
        try:
            while not stop.is_set():
                rows = await connection.fetch(_NEW, self.last)
                now = time.time()
                for row in rows:
                    self.seen.setdefault(row["account_id"], now)
                    self.last = max(self.last, row["number"])
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            await connection.close()


async def measure_latency(pace: Pace) -> dict[str, object]:
    with temporary_folder() as folder:
        async with (
            embedded_postgres(folder / "postgres") as server_url,
            fake_slack() as slack,
        ):
            server = DatabaseServer(server_url)
            await server.prepare_template()
            async with server.copy_of_template() as url, open_postgres_log(url) as log:
                team = folder / "team.yaml"
                await asyncio.to_thread(team.write_text, _team(pace.owners))
                slack.script.clear()
                slack.scripts["chat.postMessage"].extend(
                    itertools.repeat(Slow(seconds=pace.answer_seconds), 2 * pace.flags)
                )
                plain = make_url(url).set(drivername="postgresql")
                dsn = plain.render_as_string(hide_password=False)
                async with _notifier(url, slack, team, pace) as child:
                    return await _run(log, dsn, slack, child, pace)


async def _run(
    log: Log, dsn: str, slack: FakeSlack, child: Process, pace: Pace
) -> dict[str, object]:
    names = [f"account-{number:05}" for number in range(pace.flags)]
    records = [_account(name, number % pace.owners) for number, name in enumerate(names)]
    for first in range(0, len(records), _CHUNK):
        await _append(log, ACCOUNTS, records[first : first + _CHUNK])
    connection = await asyncpg.connect(dsn)
    await _until(connection, _KNOWN, pace.flags, seconds=600)
    decisions, stop = Decisions(), asyncio.Event()
    watch = asyncio.create_task(decisions.watch(dsn, stop))
    cpu, ours = cpu_seconds(child.pid), cpu_seconds(os.getpid())
    due = await _append_flags(log, names, pace)
    await _until(connection, _LEFT, 0, seconds=600, after=lambda: len(decisions.seen) == len(names))
    used, ours = cpu_seconds(child.pid) - cpu, cpu_seconds(os.getpid()) - ours
    stop.set()
    await watch
    waited = [row["waited"] for row in await connection.fetch(_SENT)]
    await connection.close()
    decided = [decisions.seen[name] - due[name] for name in names]
    return {
        "flags": pace.flags,
        "flags_per_second": pace.rate,
        "owners": pace.owners,
        "senders": pace.senders,
        "slack_answers_after_seconds": pace.answer_seconds,
        "group_wait_seconds": pace.wait_seconds,
        "messages_sent": len(waited),
        "messages_slack_has": len(slack.parents),
        "flag_to_decision_stored_seconds": _percentiles(decided),
        "due_to_accepted_seconds": _percentiles(waited),
        "cpu_ms_per_flag_notifier": round(used / pace.flags * 1_000, 1),
        # The producer, the watch and the stand-in together: far from a core, or they are measured.
        "cpu_ms_per_flag_benchmark": round(ours / pace.flags * 1_000, 1),
    }


async def _append_flags(log: Log, names: Sequence[str], pace: Pace) -> dict[str, float]:
    """When each was to be appended."""
    due: dict[str, float] = {}
    per_slot = max(1, round(pace.rate * _SLOT_SECONDS))
    begun = time.time() + _SLOT_SECONDS
    async with asyncio.TaskGroup() as group:
        for slot, first in enumerate(range(0, len(names), per_slot)):
            at = begun + slot * per_slot / pace.rate
            await asyncio.sleep(max(0.0, at - time.time()))
            now = datetime.now(UTC)
            mine = names[first : first + per_slot]
            due.update(dict.fromkeys(mine, at))
            group.create_task(_append(log, FLAGS, [_flag(name, now) for name in mine]))
    return due


async def _append(log: Log, topic: str, records: Sequence[Record]) -> None:
    appended = await log.append(topic, records, deadline=_DEADLINE)
    if set(appended) != {Appended.DURABLE}:
        raise RuntimeError("the log did not take it")


def _flag(name: str, now: datetime) -> Record:
    value = ValueAtRisk(amount=Decimal(50_000), currency="EUR", basis="margin")
    raised = flag(
        account=name,
        flag_id=f"{name}/churn_risk",
        as_of=now,
        raised_at=now,
        band=Band.CRITICAL,
        risk=0.8,
        value_at_risk=value,
    )
    return Record(key=name.encode(), value=value_of(raised))


def _account(name: str, owner: int) -> Record:
    fields = AccountFields(
        name=f"Account {name}",
        owner=f"csm{owner}@vendor.example",
        contract_end=date.today() + timedelta(days=40),  # noqa: DTZ011 - a day more or less
        notice_days=20,
    )
    record = AccountRecord(account=name, updated_at=datetime.now(UTC), fields=fields)
    return Record(key=name.encode(), value=encode(record))


def _team(owners: int) -> str:
    people = [
        {"address": f"csm{number}@vendor.example", "slack": f"U{number:06}"}
        for number in range(owners)
    ]
    team = {"fallback": {"owner": "lead@vendor.example"}, "people": people}
    return msgspec.json.encode(team).decode()  # JSON is YAML.


@asynccontextmanager
async def _notifier(url: str, slack: FakeSlack, team: Path, pace: Pace) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.notifier.process",
        env=os.environ
        | {
            "DATABASE_URL": url,
            "SLACK_BOT_TOKEN": TOKEN,
            "SLACK_SIGNING_SECRET": "benchmark-secret-of-thirty-two-ch",
            "PERENNIAL_SLACK_API_URL": slack.api_url,
            "PERENNIAL_TEAM_FILE": str(team),
            "PERENNIAL_DELIVERY_SENDERS": str(pace.senders),
            "PERENNIAL_GROUP_WAIT_SECONDS": str(pace.wait_seconds),
            "PERENNIAL_STORM_INTERVENTIONS": "1000000",
            "NOTIFIER_PORT": "0",
            "PERENNIAL_LOG_LEVEL": "warning",
        },
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


async def _until(
    connection: "asyncpg.Connection[asyncpg.Record]",
    query: str,
    wanted: int,
    *,
    seconds: float,
    after: Callable[[], bool] = lambda: True,
) -> None:
    async with asyncio.timeout(seconds):
        while not after() or await connection.fetchval(query) != wanted:  # noqa: ASYNC110 - rows
            await asyncio.sleep(0.2)


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    last = len(ordered) - 1
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {
        name: round(ordered[min(last, int(share * len(ordered)))], 3)
        for name, share in shares.items()
    }
