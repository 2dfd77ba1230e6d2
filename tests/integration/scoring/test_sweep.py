"""The sweep on real PostgreSQL: scores, flags and their messages, as the clock moves."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import model_store, sweep_store
from services.scoring.domain.features import rows
from services.scoring.domain.model import load, risk
from services.scoring.domain.table import columns_hash, unpack
from services.scoring.intake import Intake
from services.scoring.metrics import ScoringMetrics
from services.scoring.model_store import State
from services.scoring.models import read_prior
from services.scoring.partitions import Partitions
from services.scoring.store import SHARDS, mark_dirty, marks_at
from services.scoring.sweep import Sweep
from services.scoring.tables import (
    account_day,
    account_past,
    feature_rows,
    flags,
    models,
    outbox,
    peers,
    scores,
    shard_sweeps,
    signals,
)
from shared.lifecycle import Frame
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
from shared.outbox import Relay
from tests.factories import NOW, batch_of, directory_change, usage_event
from tests.integration.scoring.conftest import Behind, Time, make_sweep

P0 = TopicPartition(USAGE_EVENTS, 0)
PRIOR = read_prior()


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


class Ticking(Time):
    """A clock that goes on by a second whenever somebody looks."""

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


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
    intake: Intake, sweep: Sweep, engine: AsyncEngine, frame: Frame
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
    # Of "live" alone: what waits on purpose must not look like a slow pipeline.
    assert frame.registry.get_sample_value("perennial_event_to_score_seconds_count") == 1


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


async def test_a_score_carries_what_its_reasons_are_made_from_and_its_value(
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
        model = (await connection.execute(select(models.c.version, models.c.document))).one()
        survey = (await connection.execute(select(peers))).one()
    assert row.state == "scored"
    assert row.model_version == model.version == survey.model_version
    assert survey.accounts == 30
    table = unpack(NOW.date() - timedelta(days=1), [row.indicators])
    assert row.columns == columns_hash()
    # Every sixth day of the 59 before today: 6, 12 ... 54.
    assert table.row(0)["active_days_90"] == 9
    assert row.risk == risk(load(model.document), rows(table))[0]
    # Risk x 12 months x 100 EUR, rounded to cents.
    assert float(row.value_at_risk) == round(row.risk * 12 * 100, 2)
    assert (row.currency, row.value_basis) == ("EUR", "mrr")


async def test_another_day_and_another_model_make_all_accounts_due(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await take_in(intake, [one for n in range(40) for one in use(f"a{n}", *range(5))])
    assert await sweep.round(NOW) == 40
    assert await sweep.round(NOW + timedelta(minutes=1)) == 0
    assert await sweep.round(NOW + timedelta(days=1)) == 40
    again = NOW + timedelta(days=1, minutes=1)
    prior = replace(PRIOR, version="another")
    async with engine.begin() as connection:
        await model_store.add(
            connection, prior, state=State.CANDIDATE, reason="", accounts=40, now=again
        )
        await model_store.activate(connection, "another", reason="a test", now=again)
    # Without a survey under it the accounts are surveyed; a prior gets a version of its own then.
    assert await sweep.round(again) == 40
    assert await sweep.round(again) == 0
    async with engine.connect() as connection:
        versions = set((await connection.execute(select(scores.c.model_version))).scalars())
    assert len(versions) == 1


async def test_a_shard_of_many_new_accounts_and_one_of_few_come_to_the_same(
    intake: Intake, sweep: Sweep, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await take_in(intake, [one for n in range(60) for one in use(f"a{n}", *range(n % 9, 60, 3))])
    await sweep.round(NOW)
    columns = (scores.c.account_id, scores.c.indicators, scores.c.state)
    async with engine.begin() as connection:
        listed = (await connection.execute(select(*columns).order_by(scores.c.account_id))).all()
        await connection.execute(scores.delete())
        await connection.execute(shard_sweeps.delete())
    # The same accounts as new ones again, of which some shards are now said to be full.
    monkeypatch.setattr(sweep_store, "_CROWD", 1)
    async with engine.begin() as connection:
        names = [row.account_id for row in listed]
        await mark_dirty(connection, marks_at(dict.fromkeys(names, NOW)))
    assert await sweep.round(NOW) == 60
    async with engine.begin() as connection:
        whole = (await connection.execute(select(*columns).order_by(scores.c.account_id))).all()
    assert whole == listed


async def test_scored_accounts_are_logged_once_on_mondays_and_at_each_change_of_band(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    monday = datetime(2026, 3, 2, 0, 20, tzinfo=UTC)
    assert monday.weekday() == 0
    held = await intake.claim(TopicPartition(DIRECTORY_CHANGES, 0))
    change = directory_change(account="a1", fields=AccountFields(segment="smb", seats=5))
    await intake.take_in(batch_of([change], partition=TopicPartition(DIRECTORY_CHANGES, 0)), held)
    first = monday - timedelta(days=3)
    await take_in(
        intake,
        [
            usage_event(id=f"{name}-{age}", account=name, occurred_at=at, client_at=at)
            for name, ages in (
                ("a1", range(0, 40, 3)),
                ("new", range(3)),
                # They go on coming: a client's clock may run ahead.
                *((f"b{n}", range(-43, 40, 2)) for n in range(20)),
            )
            for age in ages
            for at in [first - timedelta(days=age)]
        ],
    )
    for minutes in (-3 * 1440, 0, 5, 600, 1440):
        await sweep.round(monday + timedelta(minutes=minutes))
    async with engine.connect() as connection:
        logged = (
            await connection.execute(select(feature_rows).order_by(feature_rows.c.account_id))
        ).all()
        stored = (await connection.execute(select(scores).where(scores.c.account_id == "a1"))).one()
    midnight = monday.replace(minute=0)
    assert [(row.account_id, row.as_of, row.kind) for row in logged] == [
        (name, midnight, "weekly") for name in sorted(["a1", *(f"b{n}" for n in range(20))])
    ]
    assert logged[0].directory == {"segment": "smb", "seats": 5}
    assert logged[0].columns == columns_hash()
    assert logged[0].band == stored.band
    assert logged[0].risk is not None

    async with engine.begin() as connection:
        await connection.execute(
            scores.update().where(scores.c.account_id == "a1").values(latched=0)
        )
    for day in range(2, 5):
        await sweep.round(monday + timedelta(days=day))
    async with engine.connect() as connection:
        changed = await connection.execute(
            select(feature_rows).where(feature_rows.c.kind == "band_change")
        )
        row = changed.one()
    # One in twenty that comes no more: it is back where it was at once.
    assert (row.account_id, row.as_of, row.band) == ("a1", monday + timedelta(days=2), stored.band)


async def test_an_account_with_loaded_history_gets_a_row_of_a_year_before(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await take_in(intake, use("old", *range(0, 300, 2), *range(365, 400), backfill=True))
    await take_in(intake, use("young", *range(40)))
    await sweep.round(NOW)
    await sweep.round(NOW + timedelta(hours=1))
    async with engine.connect() as connection:
        row = (
            await connection.execute(
                select(feature_rows).where(feature_rows.c.kind == "recomputed")
            )
        ).one()
    assert row.account_id == "old"
    assert row.as_of == NOW.replace(hour=0, minute=0) - timedelta(days=365)
    # A year before, the 28 complete days were days of use, all of them.
    assert unpack(row.as_of.date(), [row.indicators]).row(0)["active_days_28"] == 28


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


async def test_forgetting_much_is_no_standstill(intake: Intake, sweep: Sweep, frame: Frame) -> None:
    await take_in(intake, use("acme", 401, 402, backfill=True))
    [loop] = [one for one in frame.health.loops if one.name == "sweep"]
    loop.last_progress -= 3_600
    await sweep.maintain_when_due(NOW)
    # A watchdog hears of each step: the first after years may take long.
    assert loop.silent_seconds() < 60


async def test_signals_past_the_retention_are_forgotten(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    ages = (0, 399, 400, 402, 500)
    await take_in(intake, use("acme", *ages, type="support_ticket", backfill=True))
    await sweep.maintain_when_due(NOW)
    async with engine.connect() as connection:
        moments = (await connection.execute(select(signals.c.occurred_at))).scalars().all()
    assert sorted((NOW - moment).days for moment in moments) == [0, 399, 400]


async def test_a_request_that_a_faster_clock_dates_ahead_is_heard_at_once(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await take_in(intake, use("acme", *range(1, 60)))
    ahead = NOW + timedelta(minutes=4)
    request = usage_event(
        account="acme", type="cancellation_requested", occurred_at=ahead, client_at=ahead
    )
    await take_in(intake, [request])
    await sweep.round(NOW)
    assert ("acme", "cancellation_intent", "raised", 1) in await sent_flags(engine)


async def test_two_sweeps_at_once_score_each_account_once(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await take_in(intake, [one for n in range(20) for one in use(f"a{n}", *range(30, 70))])
    async with engine.connect() as connection:  # another replica is at shard after shard
        await connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        for shard in range(SHARDS):
            await connection.exec_driver_sql(
                f"SELECT pg_advisory_xact_lock(hashtext('scoring.sweep'), {shard})"
            )
        assert await sweep.round(NOW) == 0
    assert await sweep.round(NOW) == 20
    assert len(await sent_flags(engine)) == 20


async def test_a_round_ends_also_where_accounts_are_marked_faster_than_they_are_scored(
    intake: Intake, sweep: Sweep, owner: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await take_in(intake, [*use("acme", *range(9)), *use("globex", *range(9))])
    await sweep.round(NOW)
    monkeypatch.setattr("services.scoring.sweep.CHUNK", 1)
    async with owner.begin() as connection:
        for statement in (
            (
                "CREATE FUNCTION scoring.mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " INSERT INTO scoring.dirty (shard, account_id, backfill, received_at)"
                " VALUES (NEW.shard, NEW.account_id, false, NEW.as_of); RETURN NEW; END $$"
            ),
            (
                "CREATE TRIGGER mark AFTER UPDATE ON scoring.scores"
                " FOR EACH ROW EXECUTE FUNCTION scoring.mark()"
            ),
        ):
            await connection.execute(text(statement))
        await mark_dirty(connection, marks_at({"acme": NOW, "globex": NOW}))
    async with asyncio.timeout(20):
        assert await sweep.round(NOW) == 2
        assert await sweep.round(NOW) == 2  # and nobody is forgotten


async def test_what_comes_while_a_round_is_at_work_is_looked_at_as_of_then(
    engine: AsyncEngine,
    partitions: Partitions,
    metrics: ScoringMetrics,
    relay: Relay,
    frame: Frame,
    behind: Behind,
    intake: Intake,
) -> None:
    sweep = make_sweep(engine, partitions, metrics, relay, frame, Ticking(), behind)
    await take_in(intake, use("acme", *range(1, 60)))
    await sweep.round(NOW)
    later = NOW + timedelta(seconds=1)
    asking = usage_event(
        account="acme",
        type="cancellation_requested",
        occurred_at=later,
        client_at=later,
        received_at=later,
    )
    await take_in(intake, [asking])
    # Its mark is taken by a round that began before it: nobody would look again.
    await sweep.round(NOW)
    assert ("acme", "cancellation_intent", "raised", 1) in await sent_flags(engine)
