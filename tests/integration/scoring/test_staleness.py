"""Outages as every replica sees them, on real PostgreSQL, with time and lag as the test says."""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import outage_store
from services.scoring.domain import rules
from services.scoring.metrics import ScoringMetrics
from services.scoring.staleness import Staleness
from services.scoring.tables import outages, source_hours
from shared.lifecycle import Frame
from shared.telemetry import CommonMetrics

RULES = rules.read_default().staleness
NOW = datetime(2026, 3, 4, 11, 5, tzinfo=UTC)
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)


class Log:
    """How far behind the log's end a replica is; None: it cannot tell."""

    def __init__(self) -> None:
        self.lag: timedelta | None = timedelta(0)

    async def __call__(self, _: datetime) -> timedelta | None:
        return self.lag


@pytest.fixture
def behind() -> Log:
    return Log()


@pytest.fixture
def staleness(engine: AsyncEngine, frame: Frame, behind: Log) -> Staleness:
    return replica(engine, frame.registry, behind)


def replica(engine: AsyncEngine, registry: CollectorRegistry, behind: Log) -> Staleness:
    return Staleness(
        engine=engine,
        metrics=ScoringMetrics(registry, CommonMetrics(CollectorRegistry())),
        rules=RULES,
        lag=behind,
    )


async def send(
    engine: AsyncEngine, *sources: str, begin: datetime, end: datetime, events: int = 100
) -> None:
    """So many events of each source in every hour from `begin` to before `end`."""
    first = begin.replace(minute=0)
    hours = [first + HOUR * n for n in range(int((end - first) / HOUR))]
    async with engine.begin() as connection:
        await connection.execute(
            insert(source_hours),
            [
                {"source": source, "hour": hour, "partition": f"{n % 2}", "events": events}
                for source in sources
                for n, hour in enumerate(hours)
            ],
        )


async def noted(engine: AsyncEngine) -> list[tuple[str, str, datetime, bool, list[date]]]:
    async with engine.connect() as connection:
        rows = await connection.execute(select(outages).order_by(outages.c.id))
        return [
            (row.source, row.why, row.began_at, row.ended_at is not None, row.missing_days)
            for row in rows
        ]


def gauge(frame: Frame, name: str, **labels: str) -> float | None:
    return frame.registry.get_sample_value(f"perennial_{name}", labels)


async def test_a_source_that_stops_is_noted_once_shown_and_trusted_again_a_day_after_it_is_back(
    engine: AsyncEngine, staleness: Staleness, frame: Frame, news: Callable[[], str]
) -> None:
    stop = NOW.replace(minute=0) - 3 * DAY - 5 * HOUR  # 1 March, 06:00
    await send(engine, "app", "crm", begin=NOW - 35 * DAY, end=stop)
    await send(engine, "crm", begin=stop, end=NOW + 4 * DAY)
    found = await staleness.look(NOW)
    assert found.out == {"app"}
    assert (found.everywhere, len(found.codes)) == (False, 1)
    missing = [date(2026, 3, day) for day in (2, 3)]
    assert await noted(engine) == [("app", "silent", stop, False, missing)]
    assert found.outages.day.tolist() == [day.toordinal() for day in missing]
    assert gauge(frame, "source_stale", source="app") == 1
    assert gauge(frame, "data_stale") == 1
    assert "staleness.began" in (said := news())
    assert "app" in said

    await staleness.look(NOW + MINUTE)
    assert "staleness.began" not in news()
    back = NOW.replace(minute=0) + HOUR
    await send(engine, "app", begin=back, end=back + 2 * DAY)
    # 12:00: nothing came yet. 13:05: 100 of 200 came in the last two hours.
    assert (await staleness.look(back + 5 * MINUTE)).out == {"app"}
    ended = back + HOUR + 5 * MINUTE
    found = await staleness.look(ended)
    assert (found.out, len(found.codes)) == (frozenset(), 1)
    assert "staleness.ended" in news()
    assert gauge(frame, "source_stale", source="app") == 0
    assert gauge(frame, "data_stale") == 1
    assert (await staleness.look(ended + DAY - MINUTE)).is_stale
    found = await staleness.look(ended + DAY)
    assert not found.is_stale
    assert gauge(frame, "data_stale") == 0
    # 4 March is no whole day without events, and the missing ones stay missing.
    assert await noted(engine) == [("app", "silent", stop, True, missing)]
    assert found.outages.day.tolist() == [day.toordinal() for day in missing]


async def test_missing_days_outlive_the_hours_that_told_of_them(
    engine: AsyncEngine, staleness: Staleness
) -> None:
    stop = NOW.replace(minute=0) - 3 * DAY
    await send(engine, "app", begin=NOW - 35 * DAY, end=stop)
    await staleness.look(NOW)
    await send(engine, "app", begin=NOW, end=NOW + 60 * DAY)
    later = NOW + 60 * DAY
    async with engine.begin() as connection:
        await outage_store.forget_hours(connection, later, RULES)
        oldest = await connection.scalar(text("SELECT min(hour) FROM scoring.source_hours"))
    assert later - oldest <= 35 * DAY
    found = await staleness.look(later)
    assert [date.fromordinal(day).day for day in found.outages.day.tolist()] == [2, 3]
    assert found.out == frozenset()


async def test_a_lagging_log_makes_all_sources_stale_and_none_silent(
    engine: AsyncEngine, staleness: Staleness, behind: Log, frame: Frame
) -> None:
    """Scoring was away for three days; ingest was not, and what it took waits in the log."""
    stop = NOW.replace(minute=0) - 3 * DAY
    await send(engine, "app", begin=NOW - 35 * DAY, end=stop)
    behind.lag = 3 * DAY
    found = await staleness.look(NOW)
    assert found.everywhere
    assert gauge(frame, "source_stale", source="all") == 1
    assert [row[:4] for row in await noted(engine)] == [("", "lag", NOW - 3 * DAY, False)]
    assert len(found.outages.everywhere) == 2

    await send(engine, "app", begin=stop, end=NOW + 2 * DAY)  # the backlog has been read
    behind.lag = timedelta(0)
    assert (await staleness.look(NOW + MINUTE)).out == {""}  # another replica may lag still
    found = await staleness.look(NOW + 3 * MINUTE)
    assert (found.out, found.everywhere) == (frozenset(), True)
    # Nothing is missing any more: recency is what it is.
    assert found.outages.everywhere.tolist() == []
    assert not (await staleness.look(NOW + 3 * MINUTE + DAY)).is_stale
    assert len(await noted(engine)) == 1


async def test_14_minutes_of_lag_are_none(
    staleness: Staleness, behind: Log, engine: AsyncEngine
) -> None:
    behind.lag = 15 * MINUTE
    assert not (await staleness.look(NOW)).is_stale
    behind.lag = 15 * MINUTE + timedelta(seconds=1)
    assert (await staleness.look(NOW + MINUTE)).everywhere
    assert len(await noted(engine)) == 1


async def test_until_the_lag_is_known_nothing_is_trusted_and_after_a_quarter_of_an_hour_it_is_noted(
    staleness: Staleness, behind: Log, engine: AsyncEngine
) -> None:
    behind.lag = None
    assert (await staleness.look(NOW)).everywhere
    assert await noted(engine) == []
    behind.lag = timedelta(0)
    assert not (await staleness.look(NOW + timedelta(seconds=1))).is_stale
    behind.lag = None
    await staleness.look(NOW + MINUTE)
    assert (await staleness.look(NOW + 17 * MINUTE)).everywhere
    assert [row[:3] for row in await noted(engine)] == [("", "lag", NOW + MINUTE)]


async def test_one_replica_that_lags_is_seen_by_all(
    engine: AsyncEngine, staleness: Staleness, behind: Log
) -> None:
    other = replica(engine, CollectorRegistry(), Log())
    behind.lag = HOUR
    await staleness.look(NOW)
    for minutes in range(1, 6):
        await staleness.look(NOW + minutes * MINUTE)
        assert (await other.look(NOW + minutes * MINUTE)).out == {""}
    behind.lag = timedelta(0)
    assert (await other.look(NOW + 8 * MINUTE)).out == set()
    assert len(await noted(engine)) == 1


async def test_scoring_that_was_not_at_work_is_an_outage_of_all_even_of_quiet_sources(
    engine: AsyncEngine, staleness: Staleness, news: Callable[[], str]
) -> None:
    await send(engine, "app", begin=NOW - 20 * DAY, end=NOW, events=1)
    await staleness.beat(NOW)
    await staleness.beat(NOW + 10 * MINUTE)
    assert not (await staleness.look(NOW + 10 * MINUTE)).is_stale
    back = NOW + 3 * DAY
    after = replica(engine, CollectorRegistry(), Log())
    await after.beat(back)
    assert "staleness.was_down" in news()
    found = await after.look(back)
    assert found.everywhere
    assert [date.fromordinal(day).day for day in found.outages.everywhere.tolist()] == [5, 6]
    down = ("", "down", NOW + 10 * MINUTE, True, [date(2026, 3, 5), date(2026, 3, 6)])
    assert down in await noted(engine)
    await send(engine, "app", begin=back, end=back + 3 * DAY, events=1)
    await after.beat(back + MINUTE)
    assert [row[1] for row in await noted(engine)].count("down") == 1
    assert not (await after.look(back + 3 * DAY)).everywhere


async def test_replicas_that_look_at_once_note_one_outage(
    engine: AsyncEngine, news: Callable[[], str]
) -> None:
    await send(engine, "app", begin=NOW - 35 * DAY, end=NOW - DAY)
    replicas = [replica(engine, CollectorRegistry(), Log()) for _ in range(4)]
    await asyncio.gather(*(one.look(NOW) for one in replicas))
    assert len(await noted(engine)) == 1
    assert "staleness.began" in news()
    for one in replicas:
        assert (await one.look(NOW + MINUTE)).out == {"app"}


async def test_a_look_costs_nothing_within_30_seconds(
    engine: AsyncEngine, owner: AsyncEngine, staleness: Staleness
) -> None:
    await staleness.look(NOW)
    await send(engine, "app", begin=NOW - 35 * DAY, end=NOW - DAY)
    async with owner.begin() as connection:
        await connection.execute(text("ALTER TABLE scoring.outages RENAME TO gone"))
    await staleness.look(NOW + timedelta(seconds=29))


async def test_hundreds_of_sources_are_a_hundred_labels(frame: Frame) -> None:
    metrics = ScoringMetrics(frame.registry, frame.metrics)
    metrics.show_stale({f"s{n:03}" for n in range(300)}, is_stale=True)
    assert gauge(frame, "source_stale", source="s000") == 1
    assert gauge(frame, "source_stale", source="s299") is None
    assert gauge(frame, "source_stale", source="others") == 1
    metrics.show_stale(set(), is_stale=False)
    assert gauge(frame, "source_stale", source="others") == 0
