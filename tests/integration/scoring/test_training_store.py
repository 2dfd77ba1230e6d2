"""What training reads: rows as they were logged, thinned, and what is known of losses by now."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, insert, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import store, training_store
from services.scoring.domain.labels import label
from services.scoring.domain.table import COLUMNS, STATES
from services.scoring.domain.usage import SignalKind
from services.scoring.feature_log import Kind
from services.scoring.store import shard_of
from services.scoring.tables import account_day, feature_rows, outcomes, signals
from services.scoring.training_store import Logged
from shared.messages import AccountFields, AccountRecord
from tests.integration.scoring.logged import indicators, log, moment, row

MONDAY = date(2025, 1, 5).toordinal()  # A Sunday: what is known of it is logged on the Monday.
NOW = datetime(2026, 3, 2, tzinfo=UTC)


async def read(engine: AsyncEngine, now: datetime = NOW) -> Logged:
    async with engine.connect() as connection:
        return await training_store.read_logged(connection, now)


def taken(found: Logged) -> list[tuple[str, int]]:
    """Account, and days since the first Monday, of each row."""
    rows = found.rows
    return [
        (rows.names[owner], day - MONDAY)
        for owner, day in zip(rows.account.tolist(), rows.day.tolist(), strict=True)
    ]


async def test_one_row_per_account_and_28_days_teaches(engine: AsyncEngine) -> None:
    weeks = [row("acme", MONDAY + 7 * week) for week in range(10)]
    late = [row("beta", MONDAY + 7 * week) for week in range(2, 8)]
    await log(engine, [*weeks, *late])
    assert taken(await read(engine)) == [
        ("acme", 0), ("beta", 14), ("acme", 28), ("beta", 42), ("acme", 56),
    ]  # fmt: skip


async def test_only_weekly_rows_of_accounts_with_a_risk_that_had_not_left_teach(
    engine: AsyncEngine,
) -> None:
    lapsed = indicators(state=float(STATES.index("lapsed")))
    await log(
        engine,
        [
            row("acme", MONDAY),
            row("changed", MONDAY, kind=Kind.BAND_CHANGE),
            row("loaded", MONDAY, kind=Kind.RECOMPUTED),
            row("lapsed", MONDAY, indicators=lapsed),
            row("left", MONDAY, fields=AccountFields(status="churned")),
            row("dated", MONDAY, fields=AccountFields(churned_at=date.fromordinal(MONDAY))),
            row("leaves", MONDAY, fields=AccountFields(churned_at=date.fromordinal(MONDAY + 1))),
        ],
    )
    assert taken(await read(engine)) == [("acme", 0), ("leaves", 0)]


async def test_rows_of_other_columns_are_counted_and_not_read(engine: AsyncEngine) -> None:
    await log(engine, [row("acme", MONDAY), row("beta", MONDAY)])
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE scoring.feature_rows SET columns = 'old' WHERE account_id = 'beta'")
        )
    found = await read(engine)
    assert (taken(found), found.unreadable) == ([("acme", 0)], 1)


async def test_a_row_is_read_as_it_was_logged(engine: AsyncEngine) -> None:
    await log(
        engine,
        [row("acme", MONDAY, indicators=indicators(events_90=17.5), risk=0.25)],
        model_version="own28-x",
    )
    rows = (await read(engine)).rows
    assert rows.table[0, COLUMNS.index("events_90")] == 17.5
    assert np.isnan(rows.table[0, COLUMNS.index("tickets_28")])
    assert (rows.risk.tolist(), rows.version) == ([0.25], ("own28-x",))


async def test_deleting_what_came_after_a_day_changes_no_row_before_it(
    engine: AsyncEngine,
) -> None:
    await log(
        engine,
        [
            row(name, MONDAY + 7 * week, indicators=indicators(events_90=float(week)))
            for name in ("acme", "beta", "gamma")
            for week in range(30)
        ],
    )
    await _use(engine, "acme", MONDAY + 100, MONDAY + 190)
    whole = (await read(engine)).rows
    cut = MONDAY + 90
    async with engine.begin() as connection:
        await connection.execute(delete(feature_rows).where(feature_rows.c.as_of > moment(cut)))
        await connection.execute(
            delete(account_day).where(account_day.c.day > date.fromordinal(cut))
        )
    shorter = (await read(engine)).rows
    before = whole.day <= cut
    assert before.sum() == 12  # 3 accounts, days 0, 28, 56 and 84
    assert np.array_equal(whole.table[before], shorter.table, equal_nan=True)
    assert np.array_equal(whole.day[before], shorter.day)
    assert np.array_equal(whole.account[before], shorter.account)


async def _use(engine: AsyncEngine, account: str, *days: int) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            insert(account_day),
            [
                {
                    "shard": shard_of(account),
                    "day": date.fromordinal(day),
                    "account_id": account,
                    "events": 1,
                    "milliseconds": 0,
                    "userless": 1,
                    "users": [],
                    "features": [],
                    "sources": [],
                    "first_received_at": moment(day),
                }
                for day in days
            ],
        )


async def rule(engine: AsyncEngine, definition: str = "contract", **wanted: int) -> int:
    """The rule by which the one row was lost in the 90 days after the first Sunday."""
    found = await read(engine)
    labels = label(
        found.evidence,
        found.rows.account,
        found.rows.day,
        horizon_days=wanted.get("horizon_days", 90),
        definition=definition,  # type: ignore[arg-type]
    )
    return int(labels.rule[0])


async def test_the_directory_of_today_says_who_left(engine: AsyncEngine) -> None:
    await log(engine, [row("acme", MONDAY)])
    assert await rule(engine) == 0
    await _directory(engine, AccountFields(churned_at=date.fromordinal(MONDAY + 90)))
    assert await rule(engine) == 1
    await _directory(engine, AccountFields(churned_at=date.fromordinal(MONDAY + 91)))
    assert await rule(engine) == 0


async def _directory(engine: AsyncEngine, fields: AccountFields, day: int = MONDAY + 95) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("SELECT 1"))
        await store.save_accounts(
            connection, [AccountRecord(account="acme", updated_at=moment(day), fields=fields)]
        )


async def test_who_is_marked_as_left_without_a_date_left_when_it_was_known(
    engine: AsyncEngine,
) -> None:
    await log(engine, [row("acme", MONDAY)])
    await _directory(engine, AccountFields(status="churned"), day=MONDAY + 89)  # known a day later
    assert await rule(engine) == 1
    await _directory(engine, AccountFields(status="churned"), day=MONDAY + 90)
    assert await rule(engine) == 0


async def test_a_contracts_end_is_known_from_the_day_on_that_the_directory_had_it(
    engine: AsyncEngine,
) -> None:
    ends = AccountFields(contract_end=date.fromordinal(MONDAY + 50))  # Lapses on day 80.
    later = AccountFields(contract_end=date.fromordinal(MONDAY + 415))
    await log(engine, [row("acme", MONDAY, fields=ends)])
    assert await rule(engine) == 1
    # 50 + 30 + 14 = 94, and what is logged of day 93 was known on day 94.
    await log(engine, [row("acme", MONDAY + 93, fields=later)])
    assert await rule(engine) == 0


async def test_cancellations_come_from_signals(engine: AsyncEngine) -> None:
    await log(engine, [row("acme", MONDAY)])
    async with engine.begin() as connection:
        await connection.execute(
            insert(signals), [_signal(SignalKind.CANCELLATION_REQUESTED, 10, MONDAY + 60)]
        )
    assert await rule(engine) == 2
    async with engine.begin() as connection:
        await connection.execute(
            insert(signals), [_signal(SignalKind.CANCELLATION_WITHDRAWN, 60, None)]
        )
    assert await rule(engine) == 0


def _signal(kind: SignalKind, day: int, value: float | None) -> dict[str, Any]:
    return {
        "shard": shard_of("acme"),
        "account_id": "acme",
        "occurred_at": moment(MONDAY + day - 1) + timedelta(hours=9),
        "key": bytes([kind]),
        "kind": int(kind),
        "user_key": None,
        "subject": None,
        "value": value,
        "received_at": NOW,
    }


@pytest.mark.parametrize(("outcome", "expected"), [("churned", 3), ("saved", 0), ("expanded", 0)])
async def test_outcomes_come_from_interventions(
    engine: AsyncEngine, outcome: str, expected: int
) -> None:
    await log(engine, [row("acme", MONDAY)])
    async with engine.begin() as connection:
        await connection.execute(
            insert(outcomes).values(
                account_id="acme",
                intervention_id="1",
                episode=1,
                revision=1,
                reason="churn_risk",
                outcome=outcome,
                closed_by="person",
                closed_at=moment(MONDAY + 40),
            )
        )
    assert await rule(engine) == expected
    found = await read(engine)
    assert len(found.evidence.outcomes_saved.day) == (outcome == "saved")


async def test_silence_is_told_by_days_and_where_they_are_gone_by_later_rows(
    engine: AsyncEngine,
) -> None:
    await log(engine, [row("acme", MONDAY)])
    assert await rule(engine, "silence") == 4
    await _use(engine, "acme", MONDAY + 90)
    assert await rule(engine, "silence") == 0
    async with engine.begin() as connection:
        await connection.execute(delete(account_day))
    assert await rule(engine, "silence") == 4
    # A later row remembers: 91 days on, the last active day was 20 days ago, day 71.
    await log(engine, [row("acme", MONDAY + 91, indicators=indicators(recency_days=20.0))])
    assert await rule(engine, "silence") == 0
