"""How much waits, as gauges tell it."""

from datetime import timedelta

from prometheus_client import CollectorRegistry
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.metrics import ScoringMetrics
from services.scoring.placing_figures import read_waiting
from services.scoring.tables import waiting_counts, waiting_events
from shared.telemetry import CommonMetrics
from tests.factories import NOW

HOUR = timedelta(hours=1)


async def test_what_waits_is_counted_over_all_partitions_and_the_oldest_is_found(
    engine: AsyncEngine,
) -> None:
    async with engine.begin() as connection:
        assert await read_waiting(connection) == (0, None)
        await connection.execute(
            insert(waiting_counts),
            [
                {"partition": number, "events": events}
                for number, events in ((0, 2), (1, 1), (2, 0))
            ],
        )
        ages = [(0, 1 * HOUR), (0, 5 * HOUR), (1, 3 * HOUR)]
        await connection.execute(
            insert(waiting_events),
            [
                {
                    "partition": partition, "user_key": 1, "event_day": NOW.date(),
                    "key": bytes([number]), "log_offset": number, "waiting_since": NOW - age,
                    "source": "shop", "value": b"{}", "headers": b"",
                }
                for number, (partition, age) in enumerate(ages)
            ],
        )  # fmt: skip
        assert await read_waiting(connection) == (3, NOW - 5 * HOUR)


def test_the_oldest_grows_older_at_each_scrape_and_is_0_where_none_waits() -> None:
    registry, now = CollectorRegistry(), NOW
    metrics = ScoringMetrics(registry, CommonMetrics(registry), lambda: now)

    def shown() -> float | None:
        return registry.get_sample_value("perennial_events_waiting_oldest_seconds")

    assert shown() == 0
    metrics.waiting_oldest_since = NOW - HOUR
    assert shown() == 3600
    now += HOUR
    assert shown() == 7200
