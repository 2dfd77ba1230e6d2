"""`perennial doctor` on a deployment that is well, and on one with each fault; what to do is said.

Then `lag`, `outbox` and `keys rotate`, which it points to.
"""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from services import keys
from services.__main__ import app
from services.doctor.examination import Examination
from services.doctor.findings import Area, Finding, State
from services.scoring import model_store, placing
from services.scoring.models import read_prior
from services.scoring.partitions import Partitions
from shared import grants
from shared.clock import Clock, system_clock
from shared.credentials import Scope
from shared.log import Record
from shared.log.postgres import PostgresLog
from shared.log.topics import TOPICS
from shared.messages import FLAGS, UNPLACED_EVENTS, USAGE_EVENTS
from tests.brokers import KafkaBroker
from tests.databases import as_role
from tests.standins.mail import fake_mail
from tests.standins.slack import fake_slack, refused

_SOON = timedelta(seconds=10)
_SECRET = "0123456789abcdef0123456789abcdef"


def _nothing(_at: str) -> None:
    """Progress is for a terminal."""


@dataclass(slots=True)
class Deployment:
    """What the environment of an operator names."""

    environment: dict[str, str]
    folder: Path
    keys: dict[str, str] = field(default_factory=dict)

    async def run(self, *arguments: str, **changes: str) -> Result:
        found = await asyncio.to_thread(
            CliRunner().invoke, app, arguments, env={**self.environment, **changes}
        )
        assert "Traceback" not in found.output
        return found

    async def doctor(self, **changes: str) -> "list[Finding]":
        result = await self.run("doctor", "--json", **changes)
        said = json.loads(result.stdout)
        found = [
            Finding(
                area=Area(one["area"]), state=State(one["state"]), what=one["what"], do=one["do"]
            )
            for one in said["findings"]
        ]
        assert result.exit_code == (1 if said["state"] == "failed" else 0)
        return found

    async def names(self, what: str, do: str, **changes: str) -> None:
        """It fails, and says what is wrong and what to do about it."""
        found = [one for one in await self.doctor(**changes) if one.state is State.FAILED]
        said = "\n".join(f"{one.what} -> {one.do}" for one in found)
        assert any(re.search(what, one.what) and do in one.do for one in found), said


@pytest.fixture
async def well(
    database_url: str, engine: AsyncEngine, log: PostgresLog, tmp_path: Path
) -> Deployment:
    """Everything prepared as a first run does it; no service runs."""
    now = system_clock()
    await Partitions(engine, kept=timedelta(days=60)).maintain(today=now.date())
    await keys.create(log, source="shop", scopes=[Scope.EVENTS_WRITE], now=now, valid=None)
    async with engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO scoring.backups (finished_at, kind, bytes) VALUES (now(), 'dump', 1)")
        )
    return Deployment(
        environment={
            "DATABASE_URL": database_url,
            "PERENNIAL_DATA_DIR": str(tmp_path),
            "PERENNIAL_SCORING_URL": f"http://127.0.0.1:{_closed_port()}",
            "COLUMNS": "200",
            "NO_COLOR": "1",
        },
        folder=tmp_path,
    )


def _closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


async def _do(engine: AsyncEngine, *statements: str) -> None:
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def test_nothing_is_wrong_with_a_deployment_that_is_well(well: Deployment) -> None:
    found = await well.doctor()
    assert [one for one in found if one.state is State.FAILED] == []
    # Everybody who should act is told of, though nothing is broken.
    warned = " / ".join(one.what for one in found if one.state is State.WARNING)
    assert "no process of scoring reads" in warned
    assert "no process of notifier reads" in warned
    assert "no way out is set" in warned
    assert {one.area for one in found} == set(Area)
    assert (await well.run("doctor", "--strict")).exit_code == 1


async def test_only_the_named_areas_are_shown(well: Deployment) -> None:
    result = await well.run("doctor", "--only", "database", "--only", "care", "--strict")
    assert result.exit_code == 0
    assert {line.split()[1] for line in result.stdout.splitlines()} == {"database", "care"}
    assert (await well.run("doctor", "--only", "moon")).exit_code == 2


async def test_1_postgresql_away(well: Deployment) -> None:
    url = f"postgresql://me:{_SECRET}@127.0.0.1:{_closed_port()}/perennial"
    await well.names("does not answer", "start PostgreSQL", DATABASE_URL=url)
    assert _SECRET not in (await well.run("doctor", DATABASE_URL=url)).output


async def test_2_a_role_that_postgresql_does_not_know(well: Deployment) -> None:
    url = well.environment["DATABASE_URL"]
    stranger = url.replace("//perennial@", "//stranger@")
    assert stranger != url
    await well.names("refuses user or password", "DATABASE_URL", DATABASE_URL=stranger)


async def test_3_a_schema_of_another_version(well: Deployment, engine: AsyncEngine) -> None:
    await _do(engine, "UPDATE alembic_version SET version_num = '0017'")
    await well.names("the schema is 0017, this program needs", "perennial migrate")
    await _do(engine, "UPDATE alembic_version SET version_num = '9999'")
    await well.names("does not know: it is older", "newer version")


async def test_4_a_clock_that_is_off(well: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in well.environment.items():
        monkeypatch.setenv(name, value)

    def later(by: timedelta) -> Clock:
        return lambda: datetime.now(UTC) + by

    for by, state in ((timedelta(minutes=5), State.FAILED), (timedelta(seconds=-9), State.WARNING)):
        found = await Examination(clock=later(by), only=list(Area), on_progress=_nothing).run()
        [skew] = [one for one in found if "clock" in one.what]
        assert (skew.state, skew.area) == (state, Area.DATABASE)
        assert str(abs(round(by.total_seconds()))) in skew.what
        assert "NTP" in skew.do


async def test_5_a_topic_that_is_missing(well: Deployment, engine: AsyncEngine) -> None:
    await _do(engine, f"DELETE FROM log.topics WHERE name = '{FLAGS}'")
    await well.names(f"topic {FLAGS} does not exist", "perennial migrate")


async def test_6_kafka_away(well: Deployment) -> None:
    where = f"127.0.0.1:{_closed_port()}"
    await well.names(f"Kafka at {where}", "start the brokers", KAFKA_BOOTSTRAP_SERVERS=where)


async def test_7_a_day_without_a_partition_for_its_ids(
    well: Deployment, engine: AsyncEngine
) -> None:
    tomorrow = system_clock().date() + timedelta(days=1)
    await _do(engine, f"DROP TABLE scoring.seen_events_{tomorrow:%Y%m%d}")
    await well.names(f"no partition for {tomorrow:%Y-%m-%d}", "PartitionMissing")


async def test_8_a_model_that_was_tampered_with(well: Deployment, engine: AsyncEngine) -> None:
    model, now = read_prior(), system_clock()
    async with engine.begin() as connection:
        await model_store.add(
            connection, model, state=model_store.State.CANDIDATE, reason="", accounts=1, now=now
        )
        await model_store.activate(connection, model.version, reason="test", now=now)
    assert any("serves" in one.what for one in await well.doctor())
    await _do(
        engine,
        "UPDATE scoring.models SET document = convert_to(replace(convert_from(document, 'UTF8'),"
        " 'intercept', 'Intercept'), 'UTF8')",
    )
    await well.names(f"model {model.version} cannot be served", "perennial models rollback")


async def test_9_a_log_that_ends_before_its_readers_position(
    well: Deployment, engine: AsyncEngine
) -> None:
    await _do(
        engine,
        "INSERT INTO scoring.log_positions (topic, partition, next_offset, epoch)"
        f" VALUES ('{USAGE_EVENTS}', 0, 5000, 1)",
    )
    await well.names(r"scoring stands beyond the end of usage-events \(1\)", "LogGap")


async def test_10_records_deleted_before_they_were_read(
    well: Deployment, engine: AsyncEngine, log: PostgresLog
) -> None:
    records = [Record(key=b"acme", value=b"{}") for _ in range(7)]
    await log.append(USAGE_EVENTS, records, deadline=_SOON)
    await well.names(r"no process of scoring reads .*; 7 records wait", "start scoring")
    await _do(engine, 'DELETE FROM log.records WHERE "offset" < 3')
    await well.names("3 records of usage-events", "count once")


async def test_11_an_outbox_that_nobody_empties(well: Deployment, engine: AsyncEngine) -> None:
    await _do(
        engine,
        "INSERT INTO scoring.outbox (topic, key, value, headers, created_at)"
        f" VALUES ('{FLAGS}', 'k', 'v', '\\x90', now() - interval '20 minutes')",
    )
    await well.names("1 messages of scoring wait in its outbox since 20 min", "perennial outbox")
    result = await well.run("outbox", "--json")
    [scoring, notifier] = json.loads(result.stdout)
    assert (scoring["messages"], scoring["topics"], scoring["relay"]) == (1, {FLAGS: 1}, None)
    assert (notifier["messages"], result.exit_code) == (0, 1)


async def test_12_a_console_key_that_nobody_knows(well: Deployment, log: PostgresLog) -> None:
    stranger = f"prn_live_{'a' * 12}_{'b' * 32}_aaaaaa"
    await well.names(
        "PERENNIAL_SCORING_KEY is refused", "perennial", PERENNIAL_SCORING_KEY=stranger
    )
    now = system_clock()
    wrong = await keys.create(log, source="other", scopes=[Scope.EVENTS_WRITE], now=now, valid=None)
    await well.names("may not read accounts", "accounts:read", PERENNIAL_SCORING_KEY=wrong.secret)


async def test_13_slack_refuses_the_token(well: Deployment) -> None:
    async with fake_slack() as slack:
        slack.script.append(refused("invalid_auth"))
        await well.names(
            "Slack does not take the bot token: .*invalid_auth",
            "SLACK_BOT_TOKEN",
            SLACK_BOT_TOKEN="xoxb-1",
            SLACK_SIGNING_SECRET=_SECRET,
            PERENNIAL_SLACK_API_URL=slack.api_url,
        )


async def test_14_the_mail_server_refuses_us(well: Deployment) -> None:
    async with fake_mail() as mail:
        # It offers no way to sign in.
        url = mail.url.replace("//", f"//me:{_SECRET}@")
        await well.names("the mail server .* does not take us", "SMTP_URL", SMTP_URL=url)
        assert _SECRET not in (await well.run("doctor", SMTP_URL=url)).output
        found = await well.doctor(SMTP_URL=mail.url)
        assert any(one.what.endswith("takes us") for one in found)
        assert mail.taken == []


async def test_15_a_webhook_into_the_private_network(well: Deployment) -> None:
    team = well.folder / "team.yaml"
    await asyncio.to_thread(
        team.write_text,
        "fallback: {owner: ada@example.com, lead: ada@example.com}\n"
        "webhooks: [{name: crm, url: https://127.0.0.1/hook}]\n",
    )
    await well.names(
        "webhook crm cannot be reached",
        "PERENNIAL_WEBHOOK_ALLOW",
        PERENNIAL_TEAM_FILE=str(team),
        PERENNIAL_WEBHOOK_SECRETS=json.dumps({"crm": f"whsec_{'MDEy' * 8}"}),
    )


async def test_16_files_and_variables_that_are_wrong(well: Deployment) -> None:
    team = well.folder / "team.yaml"
    await asyncio.to_thread(team.write_text, "people: 7\n")
    await well.names("PERENNIAL_TEAM_FILE", "correct it", PERENNIAL_TEAM_FILE=str(team))
    await well.names("INGEST_MAX_ITEMS", "correct it", INGEST_MAX_ITEMS="many")
    secret = well.folder / "notifier.key"
    await asyncio.to_thread(secret.write_text, _SECRET)
    secret.chmod(0o644)
    await well.names("others on this machine may read notifier.key", "chmod 600")


async def test_17_destinations_that_refuse_us_and_messages_given_up(
    well: Deployment, engine: AsyncEngine
) -> None:
    await _do(
        engine,
        "INSERT INTO notifier.channels (channel, broken_since, last_failure)"
        " VALUES ('slack', now(), 'token_revoked')",
        "INSERT INTO notifier.destinations (destination, channel, broken_since)"
        " VALUES ('email:ada@example.com', 'email', now())",
        "INSERT INTO notifier.deliveries (id, dedupe_key, kind, group_key, channel, destination,"
        " recipient, reason, subject, urgent, priority, state, ended_at) VALUES"
        " (gen_random_uuid(), 'd', 'k', 'g', 'email', 'email:ada@example.com', 'ada', 'first',"
        " '{}', false, 1, 'dead', now())",
    )
    await well.names("slack refuses all of us since .*token_revoked", "notify test slack:")
    await well.names("1 destinations of email refuse us", "Deliveries")
    await well.names("1 messages were given up", "notify again")
    assert "ada@example.com" not in (await well.run("doctor")).output  # people stay out of it


async def test_a_source_whose_events_find_no_account_is_told_what_to_change(
    well: Deployment, engine: AsyncEngine
) -> None:
    async def warned() -> list[Finding]:
        found = await well.doctor()
        assert not [one for one in found if one.state is State.FAILED]
        return [one for one in found if one.state is State.WARNING and "an account" in one.what]

    assert any("every event named its account" in one.what for one in await well.doctor())
    hours = (
        "INSERT INTO scoring.placing_hours (hour, source, partition, only_account, group_call,"
        ' last_activity, first_stated, late, "full") VALUES '
    )
    # 30 of 60 would be half; 29 of 59 are not, and a week ago is another matter.
    await _do(
        engine,
        hours + "(date_trunc('hour', now()), 'shop', 0, 20, 10, 0, 0, 20, 8)",
        hours + "(date_trunc('hour', now()) - interval '8 days', 'shop', 0, 0, 0, 0, 0, 900, 0)",
        "INSERT INTO scoring.waiting_events (partition, user_key, event_day, key, log_offset,"
        " waiting_since, source, value, headers) VALUES (0, 1, current_date, '1', 0,"
        " now() - interval '2 hours', 'shop', '{}', '')",
    )
    assert await warned() == []
    assert any("of 59 events" in one.what and "30 found" in one.what for one in await well.doctor())
    await _do(
        engine,
        "INSERT INTO scoring.waiting_events SELECT 1, 1, current_date, '2', 0,"
        " now() - interval '3 hours', 'shop', '{}', ''",
        hours + "(now() - interval '6 days', 'desk', 3, 9, 5, 12, 10, 1, 0)",
        hours + "(now(), 'crm', 3, 5000, 5, 12, 10, 19, 0)",
    )
    desk, shop = await warned()
    assert shop.what.startswith("shop: 30 of 60 events without an account in 7 days found none")
    assert "2 wait for over an hour, 20 waited in vain, 8 were too many" in shop.what
    assert "group(userId, groupId)" in shop.do
    assert "perennial sources set shop --default-account" in shop.do
    assert "perennial sources set shop --account-group TYPE" in shop.do
    assert "PERENNIAL_WAITING_EVENTS" in shop.do  # for the 8
    assert desk.what.startswith("desk: 22 of 37 events without an account")  # 12 + 10
    assert "a guess" in desk.what
    assert (await well.run("sources", "set", "shop", "--default-account", "acme")).exit_code == 0
    assert await warned() == [desk]  # what was said to do is done


async def test_18_topics_of_kafka_that_are_not_as_they_must_be(
    well: Deployment, kafka_broker: KafkaBroker
) -> None:
    names = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_broker.bootstrap_servers,
        "PERENNIAL_TOPIC_PREFIX": f"doctor-{well.folder.name}.",
    }
    await well.names(rf"topic doctor-.*{FLAGS} does not exist", "perennial migrate", **names)
    assert (await well.run("migrate", **names)).exit_code == 0
    found = await well.doctor(**names)
    assert any(f"{len(TOPICS)} topics are as they must be" in one.what for one in found)
    lag = await well.run("lag", "--json", **names)
    rows = json.loads(lag.stdout)
    assert {row["service"] for row in rows} == {"scoring", "notifier"}
    assert {row["trouble"] for row in rows} == {"no_reader"}
    assert lag.exit_code == 1


async def test_19_an_erasure_that_is_not_done_and_backups_that_ended(
    well: Deployment, engine: AsyncEngine
) -> None:
    await _do(
        engine,
        "INSERT INTO scoring.erased_accounts (account_id, erased_at, done_at)"
        " VALUES ('acme', now() - interval '5 hours', NULL)",
        "UPDATE scoring.backups SET finished_at = now() - interval '3 days'",
    )
    await well.names("1 erasures are not done, the oldest since 5 h", "perennial erase list")
    [old] = [one for one in await well.doctor() if "newest backup" in one.what]
    assert (old.state, old.what) == (State.WARNING, "the newest backup is 72 h old")


async def test_20_a_restored_database_whose_messages_wait(
    well: Deployment, engine: AsyncEngine
) -> None:
    await _do(engine, "INSERT INTO notifier.restores (restored_at) VALUES (now())")
    await well.names("nothing is sent since the database was restored", "release-restored")


async def test_lag_tells_records_seconds_and_reader_of_each_partition(
    well: Deployment, log: PostgresLog
) -> None:
    await log.append(FLAGS, [Record(key=b"acme", value=b"{}")] * 2, deadline=_SOON)
    async with _reading(log):
        result = await well.run("lag", "--json")
        rows = {(one["topic"], one["partition"]): one for one in json.loads(result.stdout)}
        [behind] = [one for one in rows.values() if one["records"]]
        assert (behind["topic"], behind["records"], behind["position"]) == (FLAGS, 2, 0)
        assert 0 < behind["seconds"] < 600
        assert all(one["reader"] for one in rows.values() if one["service"] == "notifier")
        shown = (await well.run("lag")).stdout
        assert re.search(r"notifier +flags +\d +2 ", shown)


async def test_lag_tells_who_reads_events_without_an_account(
    well: Deployment, log: PostgresLog
) -> None:
    await log.append(UNPLACED_EVENTS, [Record(key=b"u", value=b"{}")] * 3, deadline=_SOON)
    async with log.consume(placing.TOPICS, group=placing.GROUP) as consumer:
        while len(consumer.assignment()) < 12:
            await consumer.fetch(max_records=1, wait=timedelta(milliseconds=100))
        rows = json.loads((await well.run("lag", "--json")).stdout)
    own = [one for one in rows if one["topic"] == UNPLACED_EVENTS]
    assert [one["records"] for one in own if one["records"]] == [3]
    assert all(one["service"] == "scoring" and one["reader"] for one in own)
    assert all(one["reader"] is None for one in rows if one["topic"] == USAGE_EVENTS)


@asynccontextmanager
async def _reading(log: PostgresLog) -> AsyncIterator[None]:
    """A member of the notifier's group that takes nothing in."""
    from services.notifier.intake import TOPICS as READ  # noqa: PLC0415 - a name that is taken

    async with log.consume(READ, group="notifier") as consumer:
        while len(consumer.assignment()) < 12:
            await consumer.fetch(max_records=1, wait=timedelta(milliseconds=100))
        yield


async def test_a_rotated_key_has_a_week_to_be_replaced_in(
    well: Deployment, log: PostgresLog
) -> None:
    [old] = await keys.read_all(log)
    now = system_clock()
    said = json.loads((await well.run("keys", "rotate", old.key_id, "--json")).stdout)
    ring = await keys.read_ring(log)
    new = ring.check(said["key"], now=now)
    assert getattr(new, "source", None) == "shop"
    assert getattr(new, "scopes", None) == old.scopes
    ends = {key.key_id: key.expires_at for key in ring.records()}
    week = ends[old.key_id]
    assert week is not None
    assert timedelta(days=6, hours=23) < week - now < timedelta(days=7, minutes=1)
    assert said["replaces"]["key_id"] == old.key_id
    # A source has two live keys at most: a third would be one that nobody remembers.
    again = await well.run("keys", "rotate", said["key_id"])
    assert (again.exit_code, "has two live keys" in again.stderr) == (1, True)
    await well.run("keys", "revoke", old.key_id, "--json")
    last = await well.run("keys", "rotate", said["key_id"], "--overlap-days", "0", "--plain")
    assert last.exit_code == 0
    assert (await well.run("keys", "rotate", old.key_id)).exit_code == 1


async def test_a_user_of_one_service_hears_that_it_may_not_look(
    well: Deployment, database_url: str
) -> None:
    own = {"DATABASE_URL": as_role(database_url, grants.NOTIFIER), "PERENNIAL_PREPARE": "false"}
    for command in ("lag", "outbox"):
        result = await well.run(command, **own)
        assert result.exit_code == 1
        assert "PostgreSQL refuses the user" in result.stderr
        assert "should not have happened" not in result.stderr
    found = await well.doctor(**own)
    assert [one.what for one in found if "check itself" in one.what] == []
    hidden = {one.area for one in found if "may not look there" in one.what}
    assert {Area.INTAKE, Area.SCORING, Area.CARE} <= hidden
