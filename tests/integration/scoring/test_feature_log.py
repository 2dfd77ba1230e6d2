"""The log of feature rows: its rhythm, and partitions that come and go by the clock in force."""

from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import feature_log
from services.scoring.feature_log import Kind, LoggedRow, Months, Rhythm
from services.scoring.tables import feature_rows
from shared.messages import AccountFields


@pytest.mark.parametrize(
    ("rhythm", "now", "moment"),
    [
        pytest.param(Rhythm(), "2026-03-02T23:59", "2026-03-02", id="a Monday, whatever the hour"),
        pytest.param(Rhythm(), "2026-03-03T00:00", None, id="a Tuesday"),
        pytest.param(
            Rhythm(every_days=28, anchor=date(2012, 1, 1)), "2012-01-29T05:00", "2012-01-29",
            id="28 days after the anchor",
        ),
        pytest.param(
            Rhythm(every_days=28, anchor=date(2012, 1, 1)), "2012-01-22T05:00", None,
            id="21 days after the anchor",
        ),
    ],
)  # fmt: skip
def test_rows_are_of_the_days_of_the_rhythm(rhythm: Rhythm, now: str, moment: str | None) -> None:
    found = rhythm.moment(datetime.fromisoformat(now).replace(tzinfo=UTC))
    expected = moment and datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert found == expected


async def test_a_row_is_logged_once_also_by_a_clock_of_2012(engine: AsyncEngine) -> None:
    months, at = Months(engine), datetime(2012, 1, 2, tzinfo=UTC)
    await months.maintain(at)
    row = LoggedRow(
        account="acme",
        as_of=at,
        kind=Kind.WEEKLY,
        indicators=b"first",
        risk=0.1,
        band="watch",
        fields=AccountFields(),
    )
    for _ in range(2):
        async with engine.begin() as connection:
            await feature_log.log_rows(connection, [row], model_version="m")
    async with engine.connect() as connection:
        assert len((await connection.execute(select(feature_rows))).all()) == 1


async def test_months_past_the_retention_go(engine: AsyncEngine) -> None:
    months, now = Months(engine), datetime(2026, 3, 2, tzinfo=UTC)
    await months.ensure([now - timedelta(days=age) for age in (0, 365, 1_000, 1_200, 1_300)])
    # 3 x 366 days before 2 March 2026 is 28 February 2023: that month stays, two older ones go.
    assert await months.maintain(now) == 2
    async with engine.connect() as connection:
        left = await connection.scalars(
            text(
                "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
                " WHERE i.inhparent = 'scoring.feature_rows'::regclass ORDER BY c.relname"
            )
        )
        assert list(left) == [
            f"feature_rows_{month}" for month in ("202306", "202503", "202603", "202604")
        ]
