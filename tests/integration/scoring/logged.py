"""Rows as the sweep would have logged them, and accounts as the directory has them."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import store
from services.scoring.domain.labels import Evidence
from services.scoring.domain.table import COLUMNS, STATES, columns_hash
from services.scoring.domain.usage import Floats
from services.scoring.feature_log import Kind, LoggedRow, Months, log_rows
from services.scoring.store import shard_of
from services.scoring.tables import scores
from services.scoring.training import LoggedRows
from shared.messages import AccountFields, AccountRecord


def moment(day: int) -> datetime:
    """When the sweep logged what it knew of the complete day `day`, an ordinal."""
    return datetime.combine(date.fromordinal(day), datetime.min.time(), UTC) + timedelta(days=1)


def indicators(**columns: float) -> bytes:
    """A stored row of a scored account; what is not said is not known."""
    values = np.full(len(COLUMNS), np.nan)
    for name, value in ({"state": STATES.index("scored"), "recency_days": 1.0} | columns).items():
        values[COLUMNS.index(name)] = value
    return values.tobytes()


async def log(
    engine: AsyncEngine,
    rows: Sequence[LoggedRow],
    *,
    model_version: str = "prior-test",
) -> None:
    await Months(engine).ensure([row.as_of for row in rows])
    async with engine.begin() as connection:
        await log_rows(connection, rows, model_version=model_version)


def row(account: str, day: int, **changes: object) -> LoggedRow:
    wanted: dict[str, object] = {
        "account": account,
        "as_of": moment(day),
        "kind": Kind.WEEKLY,
        "indicators": indicators(),
        "risk": 0.1,
        "band": "healthy",
        "fields": AccountFields(),
    }
    return LoggedRow(**(wanted | changes))  # type: ignore[arg-type]


async def log_vendor(engine: AsyncEngine, logged: LoggedRows, evidence: Evidence) -> None:
    """A simulated vendor's rows, and the directory as it stands at the end."""
    end = AccountFields(contract_end=date.fromordinal(int(evidence.terms.end[0])))
    await log(
        engine,
        [
            row(logged.names[owner], day, indicators=values.tobytes(), fields=end)
            for owner, day, values in zip(
                logged.account.tolist(), logged.day.tolist(), logged.table, strict=True
            )
        ],
    )
    left = dict(zip(evidence.churned.owner.tolist(), evidence.churned.day.tolist(), strict=True))
    records = [
        AccountRecord(
            account=name,
            updated_at=moment(evidence.known_until),
            fields=AccountFields(
                contract_end=end.contract_end,
                churned_at=date.fromordinal(left[number]) if number in left else None,
            ),
        )
        for number, name in enumerate(logged.names)
    ]
    async with engine.begin() as connection:
        await connection.execute(text("SELECT 1"))
        await store.save_accounts(connection, records)


async def put_scores(engine: AsyncEngine, names: Sequence[str], table: Floats) -> None:
    """The accounts as their last look found them."""
    async with engine.begin() as connection:
        await connection.execute(
            scores.insert(),
            [
                {
                    "shard": shard_of(name),
                    "account_id": name,
                    "as_of": moment(date(2024, 1, 1).toordinal()),
                    "state": "scored",
                    "short_history": False,
                    "latched": 0,
                    "band_since": moment(date(2024, 1, 1).toordinal()),
                    "columns": columns_hash(),
                    "indicators": values.tobytes(),
                    "cohort_ratio": 1.0,
                }
                for name, values in zip(names, table, strict=True)
            ],
        )
