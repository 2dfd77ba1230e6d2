"""The sweep on real PostgreSQL: scores, flags and their messages, as the clock moves."""

from datetime import timedelta
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.intake import Intake
from services.scoring.sweep import Sweep
from services.scoring.tables import account_day, account_past, flags, models, outbox, scores
from shared.log import TopicPartition
from shared.messages import (
    DIRECTORY_CHANGES,
    FLAGS,
    USAGE_EVENTS,
    AccountFields,
    FlagEvent,
    UsageEvent,
    decode,
)
from tests.factories import NOW, batch_of, directory_change, usage_event
from tests.integration.scoring.conftest import Behind, Time

P0 = TopicPartition(USAGE_EVENTS, 0)


def use(account: str, *ages: int, **changes: object) -> list[UsageEvent]:
    """One event on each day that lies so many days before NOW."""
    return [
        usage_event(
            id=f"{account}-{age}",
            account=account,
            occurred_at=NOW - timedelta(days=age),
            client_at=NOW - timedelta(days=age),
            **changes,
        )
        for age in ages
    ]


async def take_in(intake: Intake, events: list[UsageEvent]) -> None:
    await intake.take_in(batch_of(events, first=(held := await intake.claim(P0)).next_offset), held)


async def sent_flags(engine: AsyncEngine) -> list[tuple[str, str, str, int]]:
    async with engine.connect() as connection:
        values = (
            await connection.execute(
                select(outbox.c.value).where(outbox.c.topic == FLAGS).order_by(outbox.c.id)
            )
        ).scalars()
        found = [decode(FlagEvent, value).data for value in values]
    return [(flag.account, flag.reason, flag.change, flag.episode) for flag in found]


async def test_a_silent_account_is_flagged_by_the_clock_alone_and_cleared_by_use(
    intake: Intake, sweep: Sweep, engine: AsyncEngine, time: Time
) -> None:
    await take_in(intake, use("acme", *range(40)))
    await sweep.round(time.now)
    assert await sent_flags(engine) == []

    time.now = NOW + timedelta(days=28)  # the last active day is 27 complete days ago
    await sweep.round(time.now)
    assert await sent_flags(engine) == []

    time.now = NOW + timedelta(days=29)
    await sweep.round(time.now)
    assert await sent_flags(engine) == [("acme", "gone_silent", "raised", 1)]

    await take_in(
        intake,
        [usage_event(id="back", account="acme", occurred_at=time.now, client_at=time.now)],
    )
    await sweep.round(time.now + timedelta(minutes=1))
    assert await sent_flags(engine) == [
        ("acme", "gone_silent", "raised", 1),
        ("acme", "gone_silent", "cleared", 1),
    ]


async def test_a_flag_is_raised_once_per_episode(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await take_in(intake, use("acme", *range(30, 70)))
    for day in range(3):
        await sweep.round(NOW + timedelta(days=day))
    assert await sent_flags(engine) == [("acme", "gone_silent", "raised", 1)]

    back = NOW + timedelta(days=3)
    await take_in(intake, [usage_event(id="back", occurred_at=back, client_at=back)])
    await sweep.round(back)
    await sweep.round(back + timedelta(days=40))
    assert [change[2:] for change in await sent_flags(engine)] == [
        ("raised", 1),
        ("cleared", 1),
        ("raised", 2),
    ]
    async with engine.connect() as connection:
        rows = (await connection.execute(select(flags).order_by(flags.c.episode))).all()
    assert [(row.episode, row.cleared_at is None) for row in rows] == [(1, False), (2, True)]


async def test_history_that_is_being_loaded_is_not_scored_before_it_has_settled(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    sweep._settle = timedelta(hours=1)
    await take_in(intake, use("old", *range(40, 80), backfill=True))
    await take_in(intake, use("live", *range(40)))
    await sweep.round(NOW)
    async with engine.connect() as connection:
        assert (await connection.execute(select(scores.c.account_id))).scalars().all() == ["live"]
    assert await sent_flags(engine) == []

    sweep._settle = timedelta(0)
    await sweep.round(NOW)
    assert await sent_flags(engine) == [("old", "gone_silent", "raised", 1)]


async def test_history_whose_rest_waits_in_the_log_is_not_scored_however_long_it_takes(
    intake: Intake, sweep: Sweep, engine: AsyncEngine, behind: Behind
) -> None:
    behind.says = True
    await take_in(intake, use("old", *range(300, 340), backfill=True))
    assert await sweep.round(NOW) == 0
    await take_in(intake, use("old", *range(30), backfill=True))
    behind.says = False
    assert await sweep.round(NOW) == 1
    assert await sent_flags(engine) == []


async def test_a_score_carries_its_reasons_and_its_value(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await take_in(
        intake, [one for n in range(30) for one in use(f"a{n:02}", *range(0, 60, 1 + n % 6))]
    )
    held = await intake.claim(TopicPartition(DIRECTORY_CHANGES, 0))
    change = directory_change(account="a05", fields=AccountFields(mrr=Decimal(100), currency="EUR"))
    await intake.take_in(batch_of([change], partition=TopicPartition(DIRECTORY_CHANGES, 0)), held)
    assert await sweep.round(NOW) == 30
    async with engine.connect() as connection:
        row = (await connection.execute(select(scores).where(scores.c.account_id == "a05"))).one()
        surveyed = (await connection.execute(select(models.c.version, models.c.accounts))).one()
    assert row.state == "scored"
    assert row.model_version == surveyed.version
    assert surveyed.accounts == 30
    assert row.reasons[0]["text"].endswith(".")
    assert row.reasons[0]["weight"] > 0
    # Risk x 12 months x 100 EUR, rounded to cents.
    assert float(row.value_at_risk) == round(row.risk * 12 * 100, 2)
    assert (row.currency, row.value_basis) == ("EUR", "mrr")


async def test_use_past_the_retention_is_forgotten_but_not_the_age_of_the_account(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await take_in(intake, use("acme", 0, 1, 2, 399, 401, 500, backfill=True))
    await sweep.round(NOW)
    await sweep.maintain_when_due(NOW)
    async with engine.connect() as connection:
        days = (await connection.execute(select(account_day.c.day))).scalars().all()
        past = (await connection.execute(select(account_past))).one()
    today = NOW.date()
    assert sorted((today - day).days for day in days) == [0, 1, 2, 399]
    assert (today - past.first_day).days == 500
    assert (today - past.last_day).days == 401
    assert past.active_days == 2


async def test_two_sweeps_at_once_score_each_account_once(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await take_in(intake, [one for n in range(20) for one in use(f"a{n}", *range(30, 70))])
    async with engine.connect() as connection:  # another replica is at shard after shard
        for shard in range(8):
            await connection.exec_driver_sql(
                f"SELECT pg_advisory_xact_lock(hashtext('scoring.sweep'), {shard})"
            )
        assert await sweep.round(NOW) == 0
    assert await sweep.round(NOW) == 20
    assert len(await sent_flags(engine)) == 20
