"""What an operator's command changed is in the audit log; where it cannot be, they are told."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner

from services.__main__ import app
from services.commands.auditing import audit
from services.notifier import audit as audits
from services.process import Backends
from services.quarantine import operator
from shared.database import STRAIGHT
from shared.log.postgres import PostgresLog
from tests.factories import NOW


async def test_a_key_that_is_made_and_ended_is_audited_by_its_id(
    engine: AsyncEngine, database_url: str
) -> None:
    environment = {"DATABASE_URL": database_url}

    async def run(*arguments: str) -> str:
        done = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment)
        assert done.exit_code == 0, done.output
        assert "not in the audit log" not in done.stderr
        return done.stdout

    secret = (await run("keys", "create", "--source", "crm", "--plain")).split()[-1]
    key_id = secret.split("_")[2]
    await run("keys", "revoke", key_id)
    async with engine.connect() as connection:
        rows = list(reversed(await audits.read(connection)))
    assert [(one.action, one.subject) for one in rows] == [
        ("key.created", key_id),
        ("key.revoked", key_id),
    ]
    assert {(one.actor, one.way) for one in rows} == {(f"cli:{operator()}", "command")}
    assert rows[0].detail == {"source": "crm", "scopes": "events:write accounts:write"}
    assert secret not in str(rows)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (None, "DATABASE_URL is not set"),
        ("postgresql://nobody@127.0.0.1:1/nothing", "the database is away"),
    ],
    ids=["no database", "away"],
)
async def test_where_nothing_can_be_written_the_command_says_so(
    url: str | None,
    why: str,
    log: PostgresLog,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    backends = Backends(log=log, database_url=url, pooling=STRAIGHT, is_embedded=False)
    assert not await audit(backends, "key.revoked", "abc", at=NOW)
    assert f"not in the audit log: {why}" in capsys.readouterr().err
