"""Through PgBouncer in transaction mode: sessions are shared, statements and limits are kept."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner

from services.__main__ import app
from shared import grants
from shared.database import Pooling, driver, is_transient, open_engine, without_transaction
from tests.e2e.deployments import FAST, Deployment, bearer, eventually
from tests.e2e.test_main_job import SCOPES, daily_use, send
from tests.integration.deploy.pgbouncer import SERVERS, running_pgbouncer
from tests.integration.deploy.production import Production
from tests.processes import PerennialProcess, free_port
from tests.standins.slack import fake_slack


@dataclass(frozen=True, slots=True, kw_only=True)
class Bouncer:
    production: Production
    port: int

    def url(self, role: str) -> str:
        return f"postgresql://{role}@127.0.0.1:{self.port}/{self.production.name}"

    @asynccontextmanager
    async def engine(
        self, role: str = grants.SCORING, **options: Any
    ) -> AsyncIterator[AsyncEngine]:
        pooling = Pooling(is_pgbouncer=True, direct_url=self.production.url(role))
        async with open_engine(
            self.url(role), application="test", pooling=pooling, **options
        ) as opened:
            yield opened


@pytest.fixture
async def bouncer(production: Production) -> AsyncIterator[Bouncer]:
    with running_pgbouncer(production.server) as port:
        yield Bouncer(production=production, port=port)


async def test_many_at_once_share_a_few_sessions_and_each_has_its_own_statement(
    bouncer: Bouncer,
) -> None:
    async def ask(engine: AsyncEngine, number: int) -> set[int]:
        """The same connection again and again, now of SQLAlchemy's, now of the driver's."""
        sessions = set()
        for turn in range(10):
            value = number * 1000 + turn
            async with engine.begin() as connection:
                found = await connection.execute(
                    text(f"SELECT CAST(:one AS integer) AS c{number}, pg_backend_pid()"),
                    {"one": value},
                )
                one, session = found.one()
                raw = await driver(connection)
                two = await raw.fetchval("SELECT $1::text || $2::text", str(number), str(turn))
                assert (one, two) == (value, f"{number}{turn}")
            sessions.add(int(session))
        return sessions

    async with bouncer.engine(pool_size=10) as engine:
        found = await asyncio.gather(*(ask(engine, number) for number in range(10)))
    assert len(set.union(*found)) <= SERVERS
    assert max(map(len, found)) > 1, "sessions were never shared: this shows nothing"


async def test_each_transaction_has_our_limits_whoever_had_the_session_before(
    bouncer: Bouncer,
) -> None:
    asked = text(
        "SELECT name, setting FROM pg_settings WHERE name IN ('lock_timeout', 'jit', 'TimeZone',"
        " 'statement_timeout', 'idle_in_transaction_session_timeout', 'application_name')"
    )
    async with (
        bouncer.engine() as batches,
        bouncer.engine(statement_seconds=5) as readers,
    ):
        for engine, seconds in [(batches, 30), (readers, 5)] * 3:
            async with engine.connect() as connection:
                found = {row[0]: row[1] for row in await connection.execute(asked)}
            assert found == {
                "application_name": "test",
                "idle_in_transaction_session_timeout": "4000",
                "jit": "off",
                "lock_timeout": "6000",
                "statement_timeout": str(seconds * 1000),
                "TimeZone": "UTC",
            }
        async with readers.begin() as connection:
            await connection.execute(text("SET LOCAL statement_timeout = 50"))
            with pytest.raises(DBAPIError) as refused:
                await connection.execute(text("SELECT pg_sleep(60)"))
        assert is_transient(refused.value)


async def test_reads_without_a_transaction_get_one(bouncer: Bouncer) -> None:
    async with bouncer.engine() as engine, without_transaction(engine).connect() as connection:
        first = await connection.scalar(text("SELECT pg_current_xact_id()::text"))
        assert first == await connection.scalar(text("SELECT pg_current_xact_id()::text"))


@pytest.mark.parametrize("command", ["lag", "outbox", "doctor"])
async def test_operators_look_through_it(command: str, bouncer: Bouncer, tmp_path: Path) -> None:
    environment = {
        "DATABASE_URL": bouncer.url(grants.OWNER),
        "DATABASE_PGBOUNCER": "true",
        "DATABASE_DIRECT_URL": bouncer.production.url(),
        "PERENNIAL_PREPARE": "false",
        "PERENNIAL_DATA_DIR": str(tmp_path),
    }
    migrated = {
        **environment,
        "DATABASE_URL": bouncer.production.url(),
        "PERENNIAL_PREPARE": "true",
    }
    await asyncio.to_thread(CliRunner().invoke, app, ["keys", "list"], env=migrated)
    found = await asyncio.to_thread(CliRunner().invoke, app, [command, "--json"], env=environment)
    assert found.stderr == ""
    said = json.loads(found.stdout)
    if command == "doctor":
        wrong = [one for one in said["findings"] if one["state"] == "failed"]
        assert [one["what"] for one in wrong if one["area"] != "scoring"] == []
    else:
        assert {one["service"] for one in said} == {"scoring", "notifier"}


async def test_an_event_comes_through_two_replicas_to_slack(
    bouncer: Bouncer, tmp_path: Path
) -> None:
    """Ingest, two of scoring, two of the notifier; roles, PgBouncer, the log on the direct way."""
    production = bouncer.production
    settled = {**FAST, "INGEST_PORT": str(free_port()), "SCORING_PORT": str(free_port())}

    def process(service: str, role: str, number: int = 0, **environment: str) -> PerennialProcess:
        return PerennialProcess(
            tmp_path / f"{service}-{number}",
            "--service",
            service,
            **{
                **settled,
                "DATABASE_URL": bouncer.url(role),
                "DATABASE_PGBOUNCER": "true",
                "DATABASE_DIRECT_URL": production.url(role),
                "DATABASE_POOL_SIZE": "12",
                "PERENNIAL_PREPARE": "false",
                "PERENNIAL_DATA_DIR": str(tmp_path / "data"),
                **environment,
            },
        )

    async with AsyncExitStack() as stack:
        slack = await stack.enter_async_context(fake_slack())
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=10))
        processes = [
            process("ingest", grants.SCORING),
            process("scoring", grants.SCORING),
            process("scoring", grants.SCORING, 1, SCORING_PORT=str(free_port())),
            *(
                process("notifier", grants.NOTIFIER, number, SLACK_WEBHOOK_URL=slack.url)
                for number in range(2)
            ),
        ]
        owner = {"DATABASE_URL": production.url(), "DATABASE_PGBOUNCER": "false"}
        migrate = process("ingest", grants.OWNER, 9, **owner)
        await asyncio.to_thread(migrate.run, "migrate")
        for one in processes:
            stack.callback(one.stop)
            await asyncio.to_thread(one.start, wait=False)
        for one in processes:
            await asyncio.to_thread(one.wait_until_ready)
        named = {"ingest": processes[0], "scoring": processes[1], "notifier": processes[3]}
        deployment = Deployment(processes=named)
        key = await asyncio.to_thread(deployment.new_key, *SCOPES)
        await eventually(lambda: _put(client, deployment, key), what="the key works")
        for account in ("globex", "initech"):
            await send(client, deployment, key, daily_use(account, first=60, last=0))
        await send(client, deployment, key, daily_use("acme", first=90, last=35))
        await eventually(lambda: slack.posted, seconds=60, what="Slack hears of it")

        owned = await production.connect()
        try:
            # 56 days of acme, 61 of each of the others, each once.
            events = "SELECT coalesce(sum(events), 0) FROM scoring.account_day"
            assert await owned.fetchval(events) == 56 + 2 * 61
            # Relays hold their locks in sessions of their own, one for each outbox.
            locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            await eventually(lambda: owned.fetchval(f"{locks} HAVING count(*) >= 2"))
        finally:
            await owned.close()
        assert all(one.is_running() for one in processes)
        assert len(slack.posted) == 1


async def _put(client: httpx.AsyncClient, deployment: Deployment, key: str) -> bool:
    renewal = (datetime.now(UTC) + timedelta(days=60)).date().isoformat()
    answer = await client.put(
        f"{deployment.ingest.url('ingest')}/v1/accounts/acme",
        headers=bearer(key),
        json={"name": "Acme", "mrr": "900", "currency": "EUR", "contract_end": renewal},
    )
    return answer.status_code == 200
