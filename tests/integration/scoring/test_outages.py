"""Outages and storms through intake and sweep: the pipeline's silence is not the customer's."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import storm
from services.scoring.domain import rules
from services.scoring.intake import Intake
from services.scoring.metrics import ScoringMetrics
from services.scoring.partitions import Partitions
from services.scoring.staleness import Staleness
from services.scoring.sweep import Sweep
from services.scoring.tables import outbox
from shared.lifecycle import Frame
from shared.log import TopicPartition
from shared.messages import FLAGS, USAGE_EVENTS, FlagEvent, UsageEvent, decode
from shared.outbox import Relay
from tests.factories import NOW, batch_of, usage_event
from tests.integration.scoring.conftest import Behind, Time, make_sweep

P0 = TopicPartition(USAGE_EVENTS, 0)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
BUSY = [f"busy{n:02}" for n in range(30)]
QUIET = [f"quiet{n}" for n in range(8)]
LATER = "silent two days later"
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0, microsecond=0)


class Log:
    """How far behind the log's end scoring is."""

    def __init__(self) -> None:
        self.lag: timedelta | None = timedelta(0)

    async def __call__(self, _: datetime) -> timedelta | None:
        return self.lag


@pytest.fixture
def behind_by() -> Log:
    return Log()


@pytest.fixture
def watched(sweep: Sweep, engine: AsyncEngine, metrics: ScoringMetrics, behind_by: Log) -> Sweep:
    """The sweep with the real watch over the data."""
    sweep._watch = Staleness(
        engine=engine,
        metrics=metrics,
        rules=rules.read_default().staleness,
        lag=behind_by,
    )
    return sweep


@pytest.fixture
def another_sweep(
    engine: AsyncEngine,
    partitions: Partitions,
    metrics: ScoringMetrics,
    relay: Relay,
    frame: Frame,
    time: Time,
    behind: Behind,
) -> Sweep:
    """Another replica."""
    return make_sweep(engine, partitions, metrics, relay, frame, time, behind)


def use(accounts: Iterable[str], days: Iterable[int], **changes: object) -> list[UsageEvent]:
    """Two events of each account at noon of each day, counted from NOW, received at once."""
    return [
        usage_event(
            id=f"{account}-{day}-{n}",
            account=account,
            **{
                "occurred_at": NOW + day * DAY,
                "client_at": NOW + day * DAY,
                "received_at": NOW + day * DAY,
            }
            | changes,
        )
        for day in days
        for account in accounts
        for n in range(2)
    ]


async def take_in(intake: Intake, events: list[UsageEvent]) -> None:
    held = await intake.claim(P0)
    await intake.take_in(batch_of(events, first=held.next_offset), held)


async def history(intake: Intake) -> None:
    """Busy accounts come every day; quiet ones stopped 26 days ago, and are silent in 3 days.

    60 events a day of one source: two days expect more than 50 of it.
    """
    await take_in(intake, use(BUSY, range(-45, 0)))
    await take_in(intake, use(QUIET, range(-45, -25)))
    await take_in(intake, use([LATER], range(-45, -23)))


async def sent(engine: AsyncEngine) -> list[tuple[str, str, str]]:
    async with engine.connect() as connection:
        values = await connection.execute(
            select(outbox.c.value).where(outbox.c.topic == FLAGS).order_by(outbox.c.id)
        )
        found = [decode(FlagEvent, value).data for value in values.scalars()]
    return [(flag.account, flag.reason, flag.change) for flag in found]


def gauge(frame: Frame, name: str, **labels: str) -> float | None:
    return frame.registry.get_sample_value(f"perennial_{name}", labels)


async def look(sweep: Sweep, now: datetime) -> None:
    """Rounds until nothing is left: a shard that is busy is left to the next one."""
    while await sweep.round(now):
        pass


SILENT = [(account, "gone_silent", "raised") for account in QUIET]


async def test_silence_is_flagged_by_the_clock_alone_while_the_source_goes_on(
    intake: Intake, watched: Sweep, engine: AsyncEngine
) -> None:
    await history(intake)
    for day in range(4):
        assert await sent(engine) == []
        await take_in(intake, use(BUSY, [day]))
        await look(watched, NOW + day * DAY + HOUR)
    # On day 3 the last complete day is day 2, and the last active one 28 days before it.
    assert sorted(await sent(engine)) == SILENT


async def test_without_the_watch_an_outage_would_raise_flags(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await history(intake)
    await look(sweep, NOW + 3 * DAY)
    assert sorted(await sent(engine)) == SILENT


async def test_events_that_stop_for_three_days_raise_a_signal_and_no_flag_and_do_not_add_to_silence(
    intake: Intake,
    watched: Sweep,
    engine: AsyncEngine,
    frame: Frame,
    news: Callable[[], str],
) -> None:
    """Ingest is away from NOW on; scoring goes on looking."""
    await history(intake)
    await take_in(intake, use(BUSY, [0]))
    for hour in range(0, 72, 6):
        await look(watched, NOW + hour * HOUR + MINUTE)
    assert await sent(engine) == []
    assert "staleness.began" in news()
    assert gauge(frame, "data_stale") == 1
    assert gauge(frame, "source_stale", source="app") == 1
    await look(watched, NOW + 3 * DAY)
    assert await sent(engine) == []

    # The source is back on day 4 at noon; for a day nothing is trusted yet.
    await take_in(intake, use(BUSY, [4]))
    back = NOW + 4 * DAY + HOUR
    await look(watched, back)
    assert "staleness.ended" in news()
    assert gauge(frame, "source_stale", source="app") == 0
    assert gauge(frame, "data_stale") == 1
    assert await sent(engine) == []
    await take_in(intake, use(BUSY, [5]))
    await look(watched, back + DAY - MINUTE)
    assert await sent(engine) == []
    await look(watched, back + DAY)
    assert gauge(frame, "data_stale") == 0
    # The next daily look, on day 6: 31 days since the last active day (-26 to 5), but days 2 and 3
    # are missing as a whole (noon of day 1 was missing first). Of the other it is 29 less 2 days.
    await look(watched, MIDNIGHT + 6 * DAY)
    assert sorted(await sent(engine)) == SILENT
    await take_in(intake, use(BUSY, [6]))
    await look(watched, MIDNIGHT + 7 * DAY)
    assert sorted(await sent(engine)) == [*SILENT, (LATER, "gone_silent", "raised")]


async def test_everything_stopped_for_three_days_and_back_without_a_backlog_flags_nobody(
    intake: Intake, watched: Sweep, engine: AsyncEngine, frame: Frame
) -> None:
    await history(intake)
    await take_in(intake, use(BUSY, [0]))
    await look(watched, NOW + HOUR)
    await look(watched, NOW + 3 * DAY + HOUR)  # the first look after the restart
    assert await sent(engine) == []
    assert gauge(frame, "data_stale") == 1
    await take_in(intake, use(BUSY, [4]))
    await look(watched, NOW + 4 * DAY + HOUR)
    await take_in(intake, use(BUSY, [5]))
    await look(watched, NOW + 5 * DAY)
    assert await sent(engine) == []
    assert gauge(frame, "data_stale") == 1
    await look(watched, MIDNIGHT + 6 * DAY)
    assert gauge(frame, "data_stale") == 0
    assert sorted(await sent(engine)) == SILENT


async def test_scoring_that_comes_back_to_a_backlog_of_three_days_flags_nobody_until_a_day_later(
    intake: Intake, watched: Sweep, engine: AsyncEngine, frame: Frame, behind_by: Log
) -> None:
    await history(intake)
    await take_in(intake, use(BUSY, [0]))
    await look(watched, NOW + HOUR)
    back = NOW + 3 * DAY + HOUR
    behind_by.lag = 3 * DAY
    await look(watched, back)
    assert await sent(engine) == []
    assert gauge(frame, "source_stale", source="all") == 1
    await take_in(intake, use([*BUSY, QUIET[0]], [1, 2, 3]))
    await look(watched, back + MINUTE)
    behind_by.lag = timedelta(0)
    recovered = back + 4 * MINUTE
    await look(watched, recovered)
    assert gauge(frame, "source_stale", source="all") == 0
    await look(watched, MIDNIGHT + 4 * DAY)
    assert gauge(frame, "flags_suppressed_total", reason="data_stale") == len(QUIET) - 1
    await take_in(intake, use(BUSY, [4]))
    await look(watched, recovered + DAY - MINUTE)
    assert await sent(engine) == []
    # What one of them did meanwhile was in the backlog: it was never silent. And since nothing is
    # missing any more, days count again as they are.
    await look(watched, MIDNIGHT + 5 * DAY)
    assert sorted(await sent(engine)) == [*SILENT[1:], (LATER, "gone_silent", "raised")]


async def test_what_is_no_silence_is_told_during_an_outage(
    intake: Intake, watched: Sweep, engine: AsyncEngine, behind_by: Log
) -> None:
    await history(intake)
    await look(watched, NOW)
    behind_by.lag = HOUR
    await take_in(intake, [cancellation("busy00", NOW + 3 * DAY)])
    await look(watched, NOW + 3 * DAY)
    assert await sent(engine) == [("busy00", "cancellation_intent", "raised")]


def cancellation(account: str, at: datetime) -> UsageEvent:
    return usage_event(
        id=f"{account}-leaves",
        account=account,
        type="cancellation_requested",
        occurred_at=at,
        client_at=at,
        received_at=at,
    )


async def fall_silent(intake: Intake, sweep: Sweep, *, accounts: int, silent: int) -> list[str]:
    """So many accounts in use, of which so many are silent at midnight before NOW + 1 day."""
    names = [f"a{n:03}" for n in range(accounts)]
    await take_in(intake, use(names, range(-40, -28)))
    await take_in(intake, use(names[silent:], range(-28, 1)))
    await take_in(intake, use(names[:silent], [-28]))
    await look(sweep, NOW + HOUR)
    return names[:silent]


async def test_when_30_of_100_fall_silent_at_once_all_are_held_and_one_signal_is_given(
    intake: Intake,
    sweep: Sweep,
    engine: AsyncEngine,
    news: Callable[[], str],
) -> None:
    names = await fall_silent(intake, sweep, accounts=100, silent=30)
    assert await sent(engine) == []
    midnight = NOW.replace(hour=0, minute=0) + DAY
    await look(sweep, midnight)
    assert await sent(engine) == []
    assert "storm.began" in news()
    async with engine.connect() as connection:
        assert sum((await storm.count_held(connection)).values()) == 30

    # A cancellation is no silence, and one who is back is heard of neither before nor after.
    await take_in(intake, [cancellation("a050", midnight + MINUTE)])
    back = use([names[0]], [1], occurred_at=midnight, received_at=midnight)
    await take_in(intake, back)
    await look(sweep, midnight + MINUTE)
    assert await sent(engine) == [("a050", "cancellation_intent", "raised")]
    assert "storm.began" not in news()

    async with engine.begin() as connection:
        await storm.release_held(connection, midnight + HOUR, by="ann")
    await look(sweep, midnight + HOUR)
    await look(sweep, midnight + 2 * HOUR)
    released = [one for one in await sent(engine) if one[1] == "gone_silent"]
    assert sorted(released) == [(name, "gone_silent", "raised") for name in names[1:]]


async def test_two_replicas_that_meet_a_storm_together_hold_all_of_it(
    intake: Intake, sweep: Sweep, engine: AsyncEngine, another_sweep: Sweep
) -> None:
    await fall_silent(intake, sweep, accounts=200, silent=60)
    midnight = NOW.replace(hour=0, minute=0) + DAY
    await asyncio.gather(look(sweep, midnight), look(another_sweep, midnight))
    async with engine.connect() as connection:
        assert sum((await storm.count_held(connection)).values()) == 60
    assert await sent(engine) == []
