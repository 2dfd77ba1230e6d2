"""`perennial playbooks preview`: what playbooks would do to what is open today."""

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from services.__main__ import app
from services.notifier import store
from services.notifier.domain.flags import Kind
from services.notifier.domain.interventions import Status
from services.notifier.tables import interventions
from shared.messages import (
    AccountFields,
    AccountRecord,
    Band,
    FlagReason,
    OutcomeKind,
    ValueAtRisk,
)
from tests.unit.notifier.factories import NOW, intervention

MINE = """\
playbooks:
- {name: mine, title: Mine, match: {reasons: churn_risk}}
- {name: rest, title: The rest}
"""


def worth(amount: int) -> ValueAtRisk:
    return ValueAtRisk(amount=Decimal(amount), currency="EUR", basis="margin")


@pytest.fixture
async def engine_with_work(engine: AsyncEngine) -> AsyncEngine:
    """A critical account worth much, one of a reseller, one that is silent, and one closed."""
    risk = intervention()
    adopt = replace(risk, type=Kind.ADOPT, reason=FlagReason.GONE_SILENT, value_at_risk=None)
    rows = [
        replace(risk, account_id="large", severity=Band.CRITICAL, value_at_risk=worth(90_000)),
        replace(risk, account_id="partner", value_at_risk=worth(500)),
        replace(adopt, account_id="silent"),
        replace(
            adopt, account_id="done", status=Status.CLOSED, outcome=OutcomeKind.SAVED, closed_at=NOW
        ),
    ]
    partner = AccountRecord(
        account="partner", updated_at=NOW, fields=AccountFields(reseller="Nordwind")
    )
    async with engine.begin() as connection:
        await store.save_accounts(connection, [partner])
        for number, row in enumerate(rows, 1):
            assert await store.add(connection, replace(row, id=UUID(int=number)))
    return engine


async def run(database_url: str, *arguments: str) -> Result:
    environment = {"DATABASE_URL": database_url, "COLUMNS": "200", "NO_COLOR": "1"}
    result = await asyncio.to_thread(
        CliRunner().invoke, app, ("playbooks", "preview", *arguments), env=environment
    )
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.mark.usefixtures("engine_with_work")
async def test_each_open_intervention_is_shown_with_its_playbook(database_url: str) -> None:
    said = await run(database_url, "--json")
    found = json.loads(said.stdout)
    assert [(one["account"], one["playbook"]) for one in found["interventions"]] == [
        ("large", "executive_attention"),
        ("partner", "churn_risk_review_reseller"),
        ("silent", "silent_account"),
    ]
    assert found["changes"] == []
    assert "3 open interventions:" in (await run(database_url)).stdout


async def test_another_folder_is_tried_and_nothing_is_changed(
    engine_with_work: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    await asyncio.to_thread((tmp_path / "mine.yaml").write_text, MINE)
    async with engine_with_work.connect() as connection:
        before = (await connection.execute(select(interventions))).all()
    said = await run(database_url, str(tmp_path), "--limit", "2")
    lines = said.stdout.splitlines()
    assert "mine                               0     2" in lines
    assert "rest                               0     1" in lines
    assert "executive_attention                1     0" in lines
    assert "large    churn_risk           critical  executive_attention -> mine" in lines
    assert "Only 2 are shown: --limit shows more." in lines
    assert "  mine: new" in lines
    assert "  business_review: gone" in lines
    assert lines[-1] == "Nothing was changed."
    async with engine_with_work.connect() as connection:
        assert (await connection.execute(select(interventions))).all() == before


async def test_nothing_open_is_said(database_url: str) -> None:
    said = await run(database_url)
    assert said.stdout.splitlines() == ["No intervention is open.", "Nothing was changed."]
