"""Interventions that are over, as they are counted."""

from datetime import timedelta

from sqlalchemy import select, update

from services.notifier.tables import endings, interventions
from tests.integration.notifier.rig import NOW, OWNER, Rig, account, flag


async def ended(rig: Rig, number: int, **changes: object) -> None:
    """Opened three days before it was closed, which a person did ten days ago: saved."""
    name = f"a{number}"
    await rig.take(account(account_id=name))
    await rig.take(flag(account=name, flag_id=name))
    closed = NOW - timedelta(days=10)
    given: dict[str, object] = {
        "episode": 1, "account_id": name, "reason": "churn_risk", "playbook": "", "owner": OWNER,
        "outcome": "saved", "by_system": False, "held_out": False,
        "opened_at": closed - timedelta(days=3), "closed_at": closed,
        "acknowledged_at": closed - timedelta(days=2),
        "first_action_at": closed - timedelta(days=2), **changes,
    }  # fmt: skip
    row = interventions.c
    async with rig.engine.begin() as connection:
        found = await connection.scalar(select(row.id).where(row.account_id == name))
        await connection.execute(
            update(interventions)
            .where(row.account_id == name)
            .values(
                status="closed",
                outcome=given["outcome"],
                opened_at=given["opened_at"],
                closed_at=given["closed_at"],
                closed_by="anna",
            )
        )
        await connection.execute(endings.insert().values(intervention_id=found, **given))
