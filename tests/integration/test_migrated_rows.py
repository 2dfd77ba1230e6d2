"""Migrations on a database that is in use: what was stored before is there after, in its shape."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from services.scoring.metrics import ScoringMetrics
from services.scoring.partitions import Partitions
from services.scoring.store import shard_of
from services.scoring.tables import outbox
from shared import migrations
from shared.database import open_engine
from shared.lifecycle import Frame
from shared.log.postgres import open_postgres_log
from shared.messages import FlagEvent, decode
from shared.outbox import Relay
from tests.databases import DatabaseServer
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


async def _sweep(url: str, frame: Frame, now: datetime) -> None:
    time = Time()
    time.now = now
    metrics = ScoringMetrics(frame.registry)
    async with (
        open_engine(url, application="test") as engine,
        open_postgres_log(url) as log,
    ):
        relay = Relay(engine=engine, log=log, table=outbox, loop=frame.loop("scoring", "relay"))
        partitions = Partitions(engine, kept=timedelta(days=60))
        sweep = make_sweep(engine, partitions, metrics, relay, frame, time, Behind())
        await sweep.maintain_when_due(now)
        await sweep.round(now)
