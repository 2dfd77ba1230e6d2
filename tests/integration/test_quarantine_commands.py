"""`perennial quarantine` as an operator runs it, on a real log with what services left there."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from services import quarantine, sources
from services.__main__ import app
from services.quarantine import Wanted
from services.scoring.intake import Intake
from services.scoring.metrics import ScoringMetrics
from services.scoring.partitions import Partitions
from services.scoring.tables import account_day
from shared.clock import system_clock
from shared.errors import InvalidMessage
from shared.lifecycle import new_frame
from shared.log import Appended, Log, Record, StoredRecord, TopicPartition
from shared.log.kafka import open_kafka_log
from shared.log.postgres import PostgresLog
from shared.log.topics import TOPICS
from shared.messages import (
    ACCOUNTS,
    DIRECTORY_CHANGES,
    REJECTED,
    UNPLACED_EVENTS,
    USAGE_EVENTS,
    DirectoryChange,
    PlacedBy,
    Source,
    UnplacedEvent,
    UsageEvent,
    encode,
)
from shared.quarantine import rejected
from tests.brokers import KafkaBroker
from tests.factories import NOW
from tests.integration.ingest.stored import stored
from tests.unit.ingest.api import open_api
from tests.unit.ingest.native_bodies import item

_SOON = timedelta(seconds=10)
_OURS = re.compile(r"(PERENNIAL|KAFKA|DATABASE|SLACK|SMTP|INGEST)_")


class Operator:
    """A person at the command line of this deployment."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url

    @property
    def environment(self) -> dict[str, str]:
        return {"DATABASE_URL": self._database_url, "COLUMNS": "200", "NO_COLOR": "1"}

    async def run(self, *arguments: str, answer: str | None = None) -> Result:
        command = ("quarantine", *arguments)
        return await asyncio.to_thread(
            CliRunner().invoke, app, command, env=self.environment, input=answer
        )

    async def lists(self, *arguments: str) -> dict[str, str]:
        """The codes by id, as `list` has them."""
        found = json.loads((await self.run("list", "--json", *arguments)).stdout)
        assert found["count"] >= len(found["items"])
        return {one["id"]: one["code"] for one in found["items"]}


@pytest.fixture
def operator(database_url: str) -> Operator:
    return Operator(database_url)


async def reject(log: Log, *items: object, source: str = "app") -> None:
    """Let ingest reject the items."""
    async with open_api(log) as api:
        response = await api.client.post(
            "/v1/events", json=list(items), headers=api.key(source=source)
        )
    assert {result["status"] for result in response.json()["results"]} == {"rejected"}


async def append(log: Log, *records: Record, topic: str = REJECTED) -> None:
    assert set(await log.append(topic, records, deadline=_SOON)) == {Appended.DURABLE}


def of_scoring(value: bytes, *, topic: str = USAGE_EVENTS) -> Record:
    """What scoring could not take in."""
    record = StoredRecord(
        offset=3,
        key=b"acme",
        value=value,
        headers=(("traceparent", b"00-1"),),
        appended_at=system_clock(),
    )
    error = InvalidMessage("invalid_message", "no such field")
    return rejected(record, TopicPartition(topic, 1), error, stage="scoring.intake")


async def events(log: Log) -> list[UsageEvent]:
    return [event for _, event in await stored(log, USAGE_EVENTS, UsageEvent)]


async def test_what_waits_is_listed_with_the_count_of_each_kind(
    operator: Operator, log: PostgresLog
) -> None:
    empty = await operator.run("list")
    assert (empty.exit_code, empty.stdout) == (0, "Nothing is in quarantine.\n")

    await reject(log, item(id="1", account_id=None), item(id="2", type=None))
    await reject(log, item(id="3", account_id=None), source="web")
    await append(log, of_scoring(b"{"))
    shown = await operator.run("list")
    assert shown.exit_code == 0
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[0] == ["ID", "REJECTED", "STAGE", "CODE", "SOURCE", "ACCOUNT", "STATE"]
    assert ["1", "missing_account", "web", "ingest.decode"] in lines
    assert ["1", "invalid_message", "scoring.intake"] in lines

    assert len(await operator.lists()) == 4
    assert len(await operator.lists("--limit", "1")) == 1
    for arguments, codes in (
        (("--code", "missing_account"), ["missing_account"] * 2),
        (("--source", "web"), ["missing_account"]),
        (("--account", "acme"), ["invalid_message", "missing_type"]),
        (("--stage", "scoring"), ["invalid_message"]),
        (("--stage", "scoring.intake"), ["invalid_message"]),
        (("--since", "5m", "--code", "missing_type"), ["missing_type"]),
        (("--since", "2099-01-01"), []),
    ):
        assert sorted((await operator.lists(*arguments)).values()) == codes


async def test_one_is_shown_whole_and_moves_no_cursor(operator: Operator, log: PostgresLog) -> None:
    await reject(log, item(type=None, account_id="a\x1b[2J", properties={"caf\u00e9": "\x1b]0;x"}))
    await append(log, of_scoring(b"\x1b[2J\xff\n\rno json"))
    ids = await operator.lists()
    listed = await operator.run("list")
    shown = [await operator.run("show", one) for one in ids]
    for result in (listed, *shown):
        assert result.exit_code == 0
        assert "\x1b" not in result.stdout
        assert "\r" not in result.stdout
    text = "".join(result.stdout for result in shown)
    assert "\\x1b[2J" in text
    assert '"caf\u00e9"' in text  # indented JSON, in characters that people read
    assert "\\xff" in text
    assert "type is required" in text

    missing = await operator.run("show", "0-999")
    assert missing.exit_code == 1
    assert "nothing in quarantine has the id 0-999" in missing.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "first"), "'first' is no id"),
        (("replay",), "name them by ID or by a filter"),
        (("drop", "--yes"), "name them by ID or by a filter"),
        (("list", "--since", "soon"), "--since 'soon'"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    operator: Operator, arguments: Sequence[str], says: str
) -> None:
    result = await operator.run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert "Traceback" not in result.output


async def test_events_without_account_are_replayed_once_their_source_has_one(
    operator: Operator, log: PostgresLog
) -> None:
    await reject(log, item(id="1", account_id=None), item(id=None, account_id=None))
    [first, second] = await operator.lists()

    still = await operator.run("replay", "--code", "missing_account")
    assert still.exit_code == 1
    assert "2 stay: rejected again: missing_account" in still.stdout
    assert set(await operator.lists()) == {first, second}

    await sources.describe(log, Source(name="app", default_account="acme"))
    trial = await operator.run("replay", "--source", "app", "--dry-run")
    assert (trial.exit_code, trial.stdout) == (0, "2 would be replayed\n  to usage-events: 2\n")
    assert await events(log) == []

    done = await operator.run("replay", first)
    assert (done.exit_code, done.stdout) == (0, "1 replayed\n  to usage-events: 1\n")
    assert set(await operator.lists()) == {second}
    rest = await operator.run("replay", first, second, "--json")
    assert rest.exit_code == 0
    assert json.loads(rest.stdout) == {
        "done": 1,
        "to": {"usage-events": 1},
        "stay": {},
        "settled_before": [first],
        "unknown": [],
    }
    found = {event.id: event.account for event in await events(log)}
    without_id = {f"quarantine-{first}", f"quarantine-{second}"} & found.keys()
    assert found == {"1": "acme", without_id.pop(): "acme"}
    assert await operator.lists() == {}
    settled = await operator.run("list", "--all")
    assert settled.stdout.count(f"replayed by {quarantine.operator()}") == 2


async def test_a_replay_cut_before_its_marker_counts_once_when_repeated(
    operator: Operator, log: PostgresLog, engine: AsyncEngine
) -> None:
    """Killed between the append and the marker, as by a power cut."""
    bad = item(account_id=None, id=None, occurred_at="2026-03-10T09:00:00Z")
    await reject(log, bad)
    await sources.describe(log, Source(name="app", default_account="acme"))
    inherited = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
    killed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "services", "quarantine", "replay", "--source", "app"],
        env={
            **inherited,
            **operator.environment,
            "PERENNIAL_TESTING": "1",
            "PERENNIAL_FAILPOINT": "quarantine.before_marker:kill9:nth=1",
        },
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(await events(log)) == 1
    assert len(await operator.lists()) == 1

    assert (await operator.run("replay", "--source", "app")).exit_code == 0
    first, second = await events(log)
    assert first == second
    assert await operator.lists() == {}
    assert await _counted(log, engine) == {"acme": 1}


async def _counted(log: Log, engine: AsyncEngine) -> dict[str, int]:
    """What scoring counts of all that is in the log, by account."""
    frame = new_frame()
    intake = Intake(
        engine=engine,
        partitions=Partitions(engine, kept=timedelta(days=60)),
        metrics=ScoringMetrics(frame.registry, frame.metrics),
        clock=system_clock,
    )
    async with log.follow(USAGE_EVENTS) as consumer:
        while batches := await consumer.fetch(max_records=1_000, wait=timedelta(milliseconds=200)):
            for batch in batches:
                await intake.take_in(batch, await intake.claim(batch.partition))
    async with engine.connect() as connection:
        rows = await connection.execute(select(account_day.c.account_id, account_day.c.events))
        return {row.account_id: row.events for row in rows}


async def test_accounts_come_back_too(operator: Operator, log: PostgresLog) -> None:
    async with open_api(log) as api:
        body = [{"id": "acme", "status": "churned", "seats": 5}]
        await api.client.post("/v1/accounts:batch", json=body, headers=api.key(source="crm"))
        [rejected_id] = await operator.lists("--source", "crm", "--account", "acme")
    result = await operator.run("replay", rejected_id)
    assert result.exit_code == 1
    assert f"{rejected_id}: invalid_field: status: churned needs churned_at" in result.stdout
    assert await stored(log, DIRECTORY_CHANGES, DirectoryChange) == []


async def test_what_scoring_could_not_read_goes_back_to_its_topic(
    operator: Operator, log: PostgresLog
) -> None:
    """As it was: by now scoring may be able to."""
    value = b'{"from":"a newer version"}'
    await append(
        log, of_scoring(value), of_scoring(b"x" * 300_000), of_scoring(b"{}", topic=ACCOUNTS)
    )
    result = await operator.run("replay", "--stage", "scoring")
    assert result.exit_code == 1
    assert "1 replayed\n  to usage-events: 1\n2 stay: not replayable\n" in result.stdout
    assert "accounts keeps the last record of each key" in result.stdout
    async with log.follow(USAGE_EVENTS) as consumer:
        [batch] = await consumer.fetch(max_records=10, wait=_SOON)
    [record] = batch.records
    assert (record.key, record.value) == (b"acme", value)
    assert record.headers == (("traceparent", b"00-1"),)


def of_placing(user: str) -> Record:
    """An event of a user of whom nobody said an account in time."""
    event = UnplacedEvent(
        id=f"{user}-1",
        source="app",
        user=user,
        type="login",
        occurred_at=NOW,
        received_at=NOW,
        properties={"n": 1},
    )
    record = StoredRecord(
        offset=3,
        key=user.encode(),
        value=encode(event),
        headers=(("traceparent", b"00-1"),),
        appended_at=system_clock(),
    )
    error = InvalidMessage("missing_account", "of no account until now")
    at = TopicPartition(UNPLACED_EVENTS, 1)
    return rejected(record, at, error, stage="scoring.placing")


async def test_an_event_whose_account_was_not_found_goes_back_to_wait_anew(
    operator: Operator, log: PostgresLog
) -> None:
    await append(log, of_placing("u1:a"))
    shown = json.loads((await operator.run("list", "--json")).stdout)["items"]
    assert [(one["source"], one["account"]) for one in shown] == [("app", None)]
    assert await operator.lists("--account", "u1:a") == {}

    result = await operator.run("replay", "--code", "missing_account")
    assert (result.exit_code, result.stdout) == (0, "1 replayed\n  to unplaced-events: 1\n")
    async with log.follow(UNPLACED_EVENTS) as consumer:
        [batch] = await consumer.fetch(max_records=10, wait=_SOON)
    [record] = batch.records
    was = of_placing("u1:a")
    assert (record.key, record.value) == (was.key, was.value)
    assert record.headers == (("traceparent", b"00-1"),)
    assert await operator.lists() == {}


async def test_an_event_whose_account_was_not_found_takes_the_one_its_source_has_by_now(
    operator: Operator, log: PostgresLog
) -> None:
    await append(log, of_placing("u1:a"), of_scoring(b"{", topic=UNPLACED_EVENTS))
    await sources.describe(log, Source(name="app", default_account="acme"))
    result = await operator.run("replay", "--stage", "scoring", "--json")
    assert json.loads(result.stdout)["to"] == {"usage-events": 1, "unplaced-events": 1}
    [(key, event)] = await stored(log, USAGE_EVENTS, UsageEvent)
    assert (key, event.account, event.user, event.id) == (b"acme", "acme", "u1:a", "u1:a-1")
    assert (event.occurred_at, event.properties) == (NOW, {"n": 1})
    assert event.placed_by is PlacedBy.ONLY_ACCOUNT


async def test_a_topic_that_is_gone_is_in_the_way_of_nothing_else(
    operator: Operator, log: PostgresLog
) -> None:
    await append(log, of_scoring(b"{}", topic="gone"), of_scoring(b"{}"))
    result = await operator.run("replay", "--stage", "scoring")
    assert result.exit_code == 1
    assert "1 replayed" in result.stdout
    assert "topic gone does not exist" in result.stdout
    assert len(await operator.lists()) == 1


async def test_to_drop_is_to_be_asked_and_remembered(operator: Operator, log: PostgresLog) -> None:
    await reject(log, item(id="1", account_id=None), item(id="2", type=None))
    before = await operator.lists()

    for answer in ("n\n", ""):
        refused = await operator.run("drop", "--code", "missing_type", answer=answer)
        assert refused.exit_code == 1
        assert await operator.lists() == before

    asked = await operator.run("drop", "--code", "missing_type", answer="y\n")
    assert "Drop 1 for good?" in asked.stderr
    assert asked.exit_code == 0
    assert asked.stdout.endswith("1 dropped\n")  # after the answer, which the runner echoes
    [left] = await operator.lists()
    assert before[left] == "missing_account"
    assert (await operator.run("drop", left, "--yes")).exit_code == 0
    assert await operator.lists() == {}
    found = json.loads((await operator.run("list", "--all", "--json")).stdout)["items"]
    assert {(one["state"], one["by"]) for one in found} == {("dropped", quarantine.operator())}
    assert (await operator.run("replay", left)).stdout == f"0 replayed\n{left} was dropped before\n"

    unknown = await operator.run("drop", "2-999", "--yes")
    assert unknown.exit_code == 1
    assert "nothing in quarantine has the id 2-999" in unknown.stderr


@asynccontextmanager
async def on_kafka(broker: KafkaBroker) -> AsyncIterator[Log]:
    async with open_kafka_log(
        broker.bootstrap_servers, topic_prefix=f"quarantine-{uuid.uuid4().hex[:8]}."
    ) as opened:
        await opened.create_topics(TOPICS)
        yield opened


async def test_on_kafka_it_is_the_same(kafka_broker: KafkaBroker) -> None:
    def quiet(_count: int) -> None:
        pass

    async with on_kafka(kafka_broker) as log:
        await reject(log, *(item(id=str(n), account_id=None) for n in range(450)))
        await append(log, of_scoring(b'{"id":7}'))
        await sources.describe(log, Source(name="app", default_account="acme"))
        found = await quarantine.survey(
            log, Wanted(), limit=500, with_settled=False, on_progress=quiet
        )
        assert sorted(found.counts.values()) == [1, 450]
        newest = [entry.rejected.rejected_at for entry in found.entries]
        assert newest == sorted(newest, reverse=True)

        for done in (450, 0):
            outcome = await quarantine.replay(
                log,
                Wanted(code="missing_account"),
                by="ada",
                now=system_clock(),
                dry_run=False,
                on_progress=quiet,
            )
            assert (outcome.done.total(), outcome.exit_code) == (done, 0)
        assert {event.id for event in await events(log)} == {str(n) for n in range(450)}
        assert len(await events(log)) == 450
        outcome = await quarantine.drop(
            log, Wanted(stage="scoring"), by="ada", now=system_clock(), on_progress=quiet
        )
        assert outcome.done == {"dropped": 1}
        found = await quarantine.survey(
            log, Wanted(), limit=1, with_settled=False, on_progress=quiet
        )
        assert found.counts.total() == 0
