"""Reasons of stored scores: what is compared with what."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.domain.features import rows
from services.scoring.domain.peers import Cohorts, Peers, peers_of_training
from services.scoring.domain.table import IndicatorTable, columns_hash
from services.scoring.explanations import Scored, explain
from services.scoring.store import shard_of
from services.scoring.tables import account_day, feature_rows
from shared.messages import Reason
from tests.unit.scoring.factories import history, model, table_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
YEAR = 365 * DAY
RARE = range(0, 90, 10)
"""Ages of the active days: 9 in the year."""
COMPARED = table_of([history(range(0, 400, 2))])
"""Every second day: 183 of 365."""


def scored(account: str = "acme", **changes: Any) -> Scored:
    """An account that comes every tenth day."""
    row = rows(table_of([history(RARE)]))[0]
    values: dict[str, Any] = {"account": account, "as_of": NOW, "segment": None, "row": row}
    return Scored(**(values | changes))


def cohorts(**segments: Peers) -> Cohorts:
    found: dict[str | None, Peers] = {None: peers_of_training(model())}
    return found | dict(segments.items())


@pytest.fixture
async def logged(engine: AsyncEngine, owner: AsyncEngine) -> AsyncEngine:
    """The database, ready for rows of any time."""
    async with owner.begin() as connection:
        await connection.execute(
            text("CREATE TABLE scoring.feature_rows_any PARTITION OF scoring.feature_rows DEFAULT")
        )
    return engine


async def log(
    engine: AsyncEngine,
    as_of: datetime,
    table: IndicatorTable = COMPARED,
    account: str = "acme",
    columns: str | None = None,
) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            feature_rows.insert().values(
                as_of=as_of,
                account_id=account,
                kind="weekly",
                columns=columns or columns_hash(),
                indicators=table.packed()[0],
                directory={},
            )
        )


async def came_first(engine: AsyncEngine, day: date, account: str = "acme") -> None:
    async with engine.begin() as connection:
        await connection.execute(
            account_day.insert().values(
                shard=shard_of(account),
                day=day,
                account_id=account,
                events=1,
                milliseconds=0,
                userless=1,
                users=[],
                features=[],
                sources=["app"],
                first_received_at=NOW,
            )
        )


async def regularity(engine: AsyncEngine, one: Scored | None = None, **segments: Peers) -> Reason:
    """The reason about active days; the model weighs each window alike: the emptiest one speaks."""
    async with engine.connect() as connection:
        (explained,) = await explain(connection, [one or scored()], model(), cohorts(**segments))
    (found,) = [reason for reason in explained.reasons if reason.family == "regularity"]
    return found


async def test_a_year_ago_is_what_was_logged_then(logged: AsyncEngine) -> None:
    await came_first(logged, date(2024, 1, 1))
    await log(logged, NOW - YEAR - 3 * DAY)
    reason = await regularity(logged)
    assert (reason.value, reason.baseline, reason.baseline_of) == (9, 183, "own")
    assert reason.text.startswith("Active on 9 of 365 days; a year ago 183, others 365: ")
    assert reason.as_of == date(2026, 2, 28)


@pytest.mark.parametrize(
    ("ages", "found"),
    [
        pytest.param([364 * DAY], False, id="not a year old"),
        pytest.param([YEAR], True, id="a year to the moment"),
        pytest.param([YEAR + 35 * DAY], True, id="as old as may be"),
        pytest.param([YEAR + 36 * DAY], False, id="older"),
    ],
)
async def test_a_year_is_a_year_and_five_weeks_at_most(
    logged: AsyncEngine, ages: Sequence[timedelta], *, found: bool
) -> None:
    await came_first(logged, date(2024, 1, 1))
    for age in ages:
        await log(logged, NOW - age)
    assert ((await regularity(logged)).baseline_of == "own") == found


async def test_of_several_rows_the_newest_that_is_a_year_old_counts(logged: AsyncEngine) -> None:
    await came_first(logged, date(2024, 1, 1))
    await log(logged, NOW - YEAR - 10 * DAY)
    await log(logged, NOW - YEAR - DAY, table_of([history(range(0, 400, 4))]))
    await log(logged, NOW - YEAR + DAY)
    assert (await regularity(logged)).baseline == 92  # of 365, every fourth day


async def test_rows_of_other_columns_are_not_read(logged: AsyncEngine) -> None:
    await came_first(logged, date(2024, 1, 1))
    await log(logged, NOW - YEAR, columns="of another version")
    assert (await regularity(logged)).baseline_of == "segment"


async def test_a_window_that_began_before_the_first_day_is_no_year_ago(logged: AsyncEngine) -> None:
    then = (NOW - YEAR).date() - DAY  # The last complete day of the row.
    await log(logged, NOW - YEAR)
    assert (await regularity(logged)).baseline_of == "segment", "its first day is not known"
    await came_first(logged, then - 363 * DAY)
    assert (await regularity(logged)).baseline_of == "segment", "364 days are not 365"
    await came_first(logged, then - 364 * DAY)
    assert (await regularity(logged)).baseline_of == "own"


async def test_the_first_day_may_be_past_its_retention(logged: AsyncEngine) -> None:
    await log(logged, NOW - YEAR)
    await came_first(logged, date(2025, 12, 1))
    async with logged.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO scoring.account_past"
                " (shard, account_id, first_day, last_day, active_days)"
                " VALUES (:shard, 'acme', '2024-01-01', '2025-11-30', 100)"
            ),
            {"shard": shard_of("acme")},
        )
    assert (await regularity(logged)).baseline_of == "own"


async def test_everybody_is_compared_with_their_own_segment(logged: AsyncEngine) -> None:
    middle = np.full(len(model().weights), 1.0)
    small = Peers(segment="small", accounts=30, base_rate=0.1, mean=middle, median=middle * 0.4)
    one = scored(segment="small")
    reason = await regularity(logged, one, small=small)
    assert reason.peer_segment == "small"
    assert "segment 146: " in reason.text  # 0.4 of 365 days
    assert (await regularity(logged, scored(segment="large"), small=small)).peer_segment is None


async def test_many_are_explained_at_once_and_each_by_its_own(logged: AsyncEngine) -> None:
    for account in ("a", "b"):
        await came_first(logged, date(2024, 1, 1), account)
    await log(logged, NOW - YEAR, account="a")
    page = [scored("b"), scored("a"), scored("c", as_of=NOW - 2 * DAY)]
    async with logged.connect() as connection:
        found = await explain(connection, page, model(), cohorts())
        assert await explain(connection, [], model(), cohorts()) == []
    first = [one.reasons[0] for one in found]
    assert [reason.baseline_of for reason in first] == ["segment", "own", "segment"]
    assert first[2].as_of == date(2026, 2, 26)
    async with logged.connect() as connection:
        assert await explain(connection, page, model(), cohorts()) == found
