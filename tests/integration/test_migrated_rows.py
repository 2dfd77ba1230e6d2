"""Migrations on a database that is in use: what was stored before is there after, in its shape."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import asyncpg
import pytest

from services.notifier import agenda, gauges, notice_rows
from services.notifier.domain.notice import Told
from services.notifier.routes import Ways
from services.scoring.domain.history import VERSIONED, Version
from services.scoring.metrics import ScoringMetrics
from services.scoring.partitions import Partitions
from services.scoring.store import read_newest_versions, save_accounts, shard_of
from services.scoring.tables import outbox
from shared import migrations
from shared.database import open_engine
from shared.lifecycle import Frame
from shared.log.postgres import open_postgres_log
from shared.messages import AccountFields, AccountRecord, Band, FlagEvent, decode
from shared.outbox import Relay
from tests.databases import DatabaseServer
from tests.integration.notifier.queue_rig import Post
from tests.integration.notifier.rig import OWNER, open_rig
from tests.integration.scoring.conftest import Behind, Time, make_sweep

ACCOUNTS = ["acme", "globex", "initech", "umbrella", "Zürich & Söhne"]
MOMENT = datetime(2026, 6, 1, 10, tzinfo=UTC)


@pytest.fixture
async def before_shards(database_server: DatabaseServer) -> AsyncIterator[str]:
    """A database as version 0005 left it."""
    name = f"old_{uuid.uuid4().hex}"
    await database_server.execute(f"CREATE DATABASE {name}")
    url = database_server.database_url(name)
    try:
        await migrations.upgrade(url, to="0005")
        yield url
    finally:
        await database_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_stored_days_marks_and_scores_move_to_their_shards(before_shards: str) -> None:
    connection = await asyncpg.connect(before_shards)
    try:
        for number, account in enumerate(ACCOUNTS):
            await connection.execute(
                "INSERT INTO scoring.account_day (day, account_id, events, milliseconds, userless,"
                " users, features, first_received_at)"
                " SELECT $1::date + d, $2, $3, 1500, 1, '{-7,9}', '{export,search}', $4"
                " FROM generate_series(0, 1) AS d",
                date(2026, 6, 1),
                account,
                number + 1,
                MOMENT,
            )
            await connection.execute(
                "INSERT INTO scoring.dirty (shard, account_id, backfill, received_at)"
                " VALUES (99, $1, false, $2)",
                account,
                MOMENT,
            )
        await connection.execute(
            "INSERT INTO scoring.scores (account_id, shard, as_of, next_due_at, state,"
            " short_history, indicators, reasons)"
            " VALUES ('never active', 99, $1, $1, 'too_new', false, '{}', '[]')",
            MOMENT,
        )
        await migrations.upgrade(before_shards)
        days = await connection.fetch("SELECT * FROM scoring.account_day ORDER BY account_id, day")
        marks = await connection.fetch("SELECT account_id, shard FROM scoring.dirty")
        scores = await connection.fetch("SELECT account_id, shard FROM scoring.scores")
        partitions = await connection.fetchval(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'scoring.account_day'::regclass"
        )
    finally:
        await connection.close()
    assert [tuple(row.values()) for row in days] == [
        (
            shard_of(name),
            date(2026, 6, 1 + d),
            name,
            ACCOUNTS.index(name) + 1,
            *(1500, 1, [-7, 9], ["export", "search"], [], MOMENT),
        )
        for name in sorted(ACCOUNTS)
        for d in range(2)
    ]
    assert {row[0]: row[1] for row in marks} == {name: shard_of(name) for name in ACCOUNTS}
    assert [tuple(row) for row in scores] == [("never active", shard_of("never active"))]
    assert partitions == 32


async def test_the_service_goes_on_with_scores_and_flags_of_before(
    before_shards: str, frame: Frame
) -> None:
    connection = await asyncpg.connect(before_shards)
    try:
        await connection.execute(
            "INSERT INTO scoring.account_day (day, account_id, events, milliseconds, userless,"
            " users, features, first_received_at)"
            " SELECT $1::date - d, name, 3, 0, 0, '{7}', '{}', $2"
            " FROM generate_series(0, 60) AS d, unnest($3::text[]) AS name"
            " WHERE name = 'acme' OR d > 40",
            MOMENT.date(),
            MOMENT,
            ["acme", "globex"],
        )
        await connection.execute(
            "INSERT INTO scoring.scores (account_id, shard, as_of, next_due_at, state,"
            " short_history, risk, last_risk, band, band_state, indicators, reasons, model_version)"
            " SELECT name, 1, $1, $1, 'scored', true, 0.4, 0.4, 'at_risk',"
            " jsonb_build_object('band', 'at_risk', 'since', $1::timestamptz),"
            " '{}', '[]', 'prior-0'"
            " FROM unnest($2::text[]) AS name",
            MOMENT,
            ["acme", "globex"],
        )
        await connection.execute(
            "INSERT INTO scoring.models (version, document, accounts, created_at, active)"
            " VALUES ('prior-0', '{}', 2, $1, true)",
            MOMENT,
        )
        await connection.execute(
            "INSERT INTO scoring.flags (account_id, reason, episode, flag_id, stage, raised_at,"
            " updated_at, band, risk, summary)"
            " SELECT name, reason, 2, name || reason, 'renew', $1, $1, 'at_risk', 0.4, ''"
            " FROM unnest($2::text[]) AS name, unnest($3::text[]) AS reason",
            MOMENT,
            ["acme", "globex"],
            ["churn_risk", "gone_silent"],
        )
        await migrations.upgrade(before_shards)
        await _sweep(before_shards, frame, MOMENT + timedelta(days=1))
        open_ = await connection.fetch(
            "SELECT account_id, reason, episode FROM scoring.flags WHERE cleared_at IS NULL"
            " ORDER BY account_id, reason"
        )
        told = await connection.fetch("SELECT value FROM scoring.outbox ORDER BY id")
        scored = await connection.fetch("SELECT account_id, columns <> '' FROM scoring.scores")
    finally:
        await connection.close()
    changes = [decode(FlagEvent, row["value"]).data for row in told]
    # Who is active is silent no more; nothing is told twice of who is still silent.
    assert ("acme", "gone_silent", "cleared", 2) in [
        (one.account, one.reason, one.change, one.episode) for one in changes
    ]
    assert not any(one.change == "raised" for one in changes)
    assert ("globex", "gone_silent", 2) in [tuple(row) for row in open_]
    assert sorted(map(tuple, scored)) == [("acme", True), ("globex", True)]


async def test_what_each_destination_was_told_is_known_by_account(
    before_shards: str,
) -> None:
    await migrations.upgrade(before_shards, to="0009")
    connection = await asyncpg.connect(before_shards)
    ids = [uuid.UUID(int=number) for number in (1, 2, 3)]
    try:
        for one, reason, status in zip(
            ids,
            ("churn_risk", "gone_silent", "usage_drop"),
            ("open", "acknowledged", "closed"),
            strict=True,
        ):
            await connection.execute(
                "INSERT INTO notifier.interventions (id, account_id, type, reason, status, version,"
                " episode, severity, owner, due_at, opened_at, last_seen_at, flag_id, flag_episode,"
                " flag_raised_at, flag_as_of, flag_change, summary, reasons, note, revision,"
                " outcome)"
                " VALUES ($1, 'acme', 'renew', $2, $3, 1, 1, 'at_risk', 'anna@vendor.example', $4,"
                " $4, $4, $2, 1, $4, $4, 'raised', '', '[]', '', 0,"
                " CASE $3 WHEN 'closed' THEN 'saved' END)",
                one,
                reason,
                status,
                MOMENT,
            )
            await connection.execute(
                "INSERT INTO notifier.notices (intervention_id, destination, flag_id,"
                " flag_episode, severity, owner, told_at)"
                " VALUES ($1, 'slack:webhook', $2, 1, 'watch', 'anna@vendor.example', $3)",
                one,
                reason,
                MOMENT,
            )
    finally:
        await connection.close()
    await migrations.upgrade(before_shards)
    async with (
        open_engine(before_shards, application="test") as engine,
        engine.connect() as known,
    ):
        (notice,) = await notice_rows.of_accounts(known, ["acme"])
        due = await agenda.take_due(known, now=datetime.now(UTC), limit=10)
    assert (notice.destination, notice.episode, notice.told_at) == ("slack:webhook", 1, MOMENT)
    assert set(notice.told) == notice.known == set(ids[:2])  # Of the closed one all is said.
    assert notice.told[ids[0]] == Told(
        severity=Band.WATCH, owner="anna@vendor.example", due_at=MOMENT
    )
    assert list(due) == ["acme"]


async def test_the_first_version_of_an_account_is_its_record_of_before(
    before_shards: str,
) -> None:
    """One with every field that is kept, and one of which nothing is known."""
    await migrations.upgrade(before_shards, to="0014")
    fields = AccountFields(
        name="Acme",
        owner="ada",
        segment="small",
        plan="pro",
        region="eu",
        reseller="Initech",
        seats=12,
        currency="EUR",
        mrr=Decimal("100.50"),
        margin_per_month=Decimal(80),
        status="active",
        contract_start=date(2025, 2, 1),
        contract_end=date(2027, 1, 31),
        churned_at=date(2026, 1, 1),
        notice_days=30,
        billing_period="year",
        timezone="UTC",
    )
    async with open_engine(before_shards, application="test") as engine:
        async with engine.begin() as connection:
            await save_accounts(
                connection,
                [
                    AccountRecord(account="acme", updated_at=MOMENT, fields=fields),
                    AccountRecord(account="globex", updated_at=MOMENT, fields=AccountFields()),
                ],
            )
        await migrations.upgrade(before_shards)
        async with engine.begin() as connection:
            found = await read_newest_versions(connection, ["acme", "globex"])
    expected = {"acme": fields, "globex": AccountFields()}
    assert found == {
        name: Version(since=MOMENT, values=tuple(getattr(known, field) for field in VERSIONED))
        for name, known in expected.items()
    }


@pytest.fixture
async def before_notices(database_server: DatabaseServer) -> AsyncIterator[str]:
    """A database as version 0009 left it."""
    name = f"old_{uuid.uuid4().hex}"
    await database_server.execute(f"CREATE DATABASE {name}")
    url = database_server.database_url(name)
    try:
        await migrations.upgrade(url, to="0009")
        yield url
    finally:
        await database_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_the_notifier_goes_on_with_interventions_and_deliveries_of_before(
    before_notices: str,
) -> None:
    """Told of churn_risk; usage_drop waits twice over, once half sent; two are over."""
    post = Post("slack")
    ids = {name: uuid.UUID(int=number) for number, name in enumerate(_OLD, 1)}
    connection = await asyncpg.connect(before_notices)
    try:
        await connection.execute(
            "INSERT INTO notifier.accounts (account_id, name, owner, fields, updated_at)"
            " VALUES ('acme', 'Acme Ltd', $1, $2, $3)",
            OWNER,
            f'{{"name": "Acme Ltd", "owner": "{OWNER}"}}',
            MOMENT,
        )
        for name, (account, reason, status, owner, closed_by) in _OLD.items():
            await connection.execute(
                "INSERT INTO notifier.interventions (id, account_id, type, reason, status, version,"
                " episode, severity, owner, due_at, opened_at, last_seen_at, flag_id, flag_episode,"
                " flag_raised_at, flag_as_of, flag_change, summary, reasons, note, revision,"
                " acknowledged_at, acknowledged_by, closed_at, closed_by, outcome)"
                " VALUES ($1, $2, $3, $4, $5, 3, 2, 'at_risk', $6, $7, $8, $8, $9, 1, $8, $8,"
                " 'raised', 'Less used.', '[]', '', 0, $10, $11, $12, $13, $14)",
                ids[name],
                account,
                "renew" if reason == "churn_risk" else "adopt",
                reason,
                status,
                owner,
                MOMENT + timedelta(days=3),
                MOMENT,
                f"{account}/{reason}/1",
                MOMENT if status == "acknowledged" else None,
                OWNER if status == "acknowledged" else None,
                MOMENT if closed_by else None,
                closed_by,
                "no_action_needed" if closed_by else None,
            )
        for name in ("told", "closed"):
            await connection.execute(
                "INSERT INTO notifier.notices (intervention_id, destination, flag_id, flag_episode,"
                " severity, owner, told_at) VALUES ($1, 'slack:webhook', 'f', 1, 'at_risk', $2,"
                " $3)",
                ids[name],
                OWNER,
                MOMENT,
            )
        await connection.execute(
            "INSERT INTO notifier.destinations (destination, channel, claim, lease_until)"
            " VALUES ('slack:webhook', 'slack', $1, now() - interval '1 second')",
            uuid.UUID(int=99),
        )
        for number, (name, state) in enumerate(_OLD_DELIVERIES):
            await connection.execute(
                "INSERT INTO notifier.deliveries (id, dedupe_key, intervention_id, account_id,"
                " channel, destination, reason, state, claim, suppress_reason)"
                " VALUES ($1, $2, $3, 'acme', 'slack', 'slack:webhook', 'first', $4, $5, $6)",
                uuid.UUID(int=1000 + number),
                f"notice:{name}:{number}",
                ids[name],
                state,
                uuid.UUID(int=99) if state == "sending" else None,
                "acknowledged" if state == "cancelled" else None,
            )
        await migrations.upgrade(before_notices)
        async with (
            open_engine(before_notices, application="test") as engine,
            open_rig(engine, more={"slack": post}, ways=Ways(slack_webhook=True)) as rig,
        ):
            rig.hands.now = MOMENT + timedelta(hours=1)
            await rig.pass_time(timedelta(0))
            await rig.send_all()
            await rig.pass_time(timedelta(hours=1))
            await rig.send_all()
            await gauges.measure_once(engine, rig.metrics, rig.hands)
        states = await connection.fetch(
            "SELECT dedupe_key, state FROM notifier.deliveries WHERE number <= 5"
        )
        endings = await connection.fetch(
            "SELECT account_id, by_system FROM notifier.endings ORDER BY account_id"
        )
    finally:
        await connection.close()
    # What was told is not told again; what waited is, once.
    notices = [one for one in post.taken if not one.edit]
    assert [[str(item.reason) for item in one.items if item.is_news] for one in notices] == [
        ["usage_drop", "seats_idle"]
    ]
    assert not [row for row in states if row["state"] in ("pending", "sending")]
    assert [tuple(row) for row in endings] == [("", True), ("acme", False)]


_OLD = {
    # account, reason, status, owner, closed by
    "told": ("acme", "churn_risk", "acknowledged", OWNER, None),
    "half": ("acme", "usage_drop", "open", OWNER, None),
    "waits": ("acme", "seats_idle", "open", OWNER, None),
    "closed": ("acme", "support_strain", "closed", OWNER, OWNER),
    "erased": ("gone", "churn_risk", "closed", "", "system"),
}
_OLD_DELIVERIES = [
    ("told", "sent"),
    ("half", "sending"),
    ("waits", "pending"),
    ("closed", "pending"),
    ("told", "cancelled"),
]


async def _sweep(url: str, frame: Frame, now: datetime) -> None:
    time = Time()
    time.now = now
    metrics = ScoringMetrics(frame.registry, frame.metrics)
    async with (
        open_engine(url, application="test") as engine,
        open_postgres_log(url) as log,
    ):
        relay = Relay(engine=engine, log=log, table=outbox, loop=frame.loop("scoring", "relay"))
        partitions = Partitions(engine, kept=timedelta(days=60))
        sweep = make_sweep(engine, partitions, metrics, relay, frame, time, Behind())
        await sweep.maintain_when_due(now)
        await sweep.round(now)
