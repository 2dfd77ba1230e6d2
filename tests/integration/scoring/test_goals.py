"""Goals and stages on real PostgreSQL: from events and the directory to flags, rows and answers."""

from datetime import UTC, date, datetime, timedelta

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import flag_review, goal_store
from services.scoring.api import api
from services.scoring.domain.ledger import LifeStage
from services.scoring.domain.rules import read_default
from services.scoring.intake import Intake
from services.scoring.register import Register
from services.scoring.sweep import Sweep
from services.scoring.tables import account_stages, outbox, scores
from shared.credentials import KeyRing, Scope, new_key
from shared.log import TopicPartition
from shared.messages import (
    DIRECTORY_CHANGES,
    FLAGS,
    USAGE_EVENTS,
    AccountFields,
    FlagEvent,
    FlagReason,
    Goal,
    UsageEvent,
    decode,
)
from tests.factories import NOW, batch_of, directory_change, usage_event

TODAY = NOW.date()


def days(number: int) -> date:
    return TODAY + timedelta(days=number)


def goal(*, due: int) -> Goal:
    """Down from 12 to 10.2, which is 15 % better."""
    return Goal(metric="time to invoice", baseline=12, target=10.2, direction="down", due=days(due))


def customer(*goals: Goal, **changes: object) -> AccountFields:
    known = {
        "contract_start": days(-200),
        "contract_end": days(165),
        "billing_period": "year",
        "status": "active",
        "goals": goals or None,
    }
    return AccountFields(**{**known, **changes})  # type: ignore[arg-type]


def reported(account: str, age: int, value: float) -> UsageEvent:
    at = NOW - timedelta(days=age)
    return usage_event(
        id=f"{account}-{age}",
        account=account,
        type="goal_metric",
        occurred_at=at,
        client_at=at,
        properties={"metric": "time to invoice", "value": value},
    )


async def directory(intake: Intake, **accounts: AccountFields) -> None:
    partition = TopicPartition(DIRECTORY_CHANGES, 0)
    held = await intake.claim(partition)
    changes = [directory_change(account=name, fields=known) for name, known in accounts.items()]
    await intake.take_in(batch_of(changes, partition=partition, first=held.next_offset), held)


async def take_in(intake: Intake, *events: UsageEvent) -> None:
    held = await intake.claim(TopicPartition(USAGE_EVENTS, 0))
    await intake.take_in(batch_of(events, first=held.next_offset), held)


async def told(engine: AsyncEngine) -> list[tuple[str, str, str]]:
    """Account, what was raised, updated or cleared, and the line of it."""
    query = select(outbox.c.value).where(outbox.c.topic == FLAGS).order_by(outbox.c.id)
    async with engine.connect() as connection:
        values = (await connection.execute(query)).scalars().all()
    found = [decode(FlagEvent, value).data for value in values]
    return [(one.account, f"{one.reason} {one.change}", one.summary) for one in found]


async def way(engine: AsyncEngine, account: str) -> list[tuple[LifeStage, datetime]]:
    query = (
        select(account_stages.c.stage, account_stages.c.since)
        .where(account_stages.c.account_id == account)
        .order_by(account_stages.c.since)
    )
    async with engine.connect() as connection:
        return [(LifeStage(one.stage), one.since) for one in await connection.execute(query)]


async def test_goals_that_are_missed_and_reached_are_told_in_plain_words(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await directory(
        intake,
        late=customer(goal(due=-8), contract_end=None),
        there=customer(goal(due=60), contract_end=None),
        none=customer(),
        unreported=customer(goal(due=-8)),
    )
    await take_in(
        intake,
        *(reported("late", age, value) for age, value in ((90, 12), (9, 10.56))),
        *(reported("there", age, value) for age, value in ((90, 12), (30, 10))),
        *(reported("none", age, 99) for age in (90, 9)),
    )
    await sweep.round(NOW)
    due = f"{days(-8).day} {days(-8):%B} {days(-8).year}"
    # (12 - 10.56) / 12 = 12 %; (12 - 10) / 12 = 16.7 %.
    assert sorted(line for line in await told(engine) if "goal" in line[1]) == [
        (
            "late",
            "goal_missed raised",
            f"Time to invoice is down 12 % of the 15 % promised; it was due {due}.",
        ),
        (
            "there",
            "goal_reached raised",
            "Time to invoice is down 17 % of the 15 % promised: the goal is reached.",
        ),
    ]
    await take_in(intake, reported("late", 0, 10.2))
    await sweep.round(NOW + timedelta(minutes=1))
    assert [line for line in await told(engine) if line[1] == "goal_missed cleared"] == [
        (
            "late",
            "goal_missed cleared",
            "Goal off track: over, as no goal is behind or overdue any more.",
        )
    ]


async def test_explaining_and_previewing_know_the_goals(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await directory(intake, late=customer(goal(due=-8)), none=customer())
    await take_in(intake, reported("late", 90, 12), reported("none", 90, 12))
    await sweep.round(NOW)
    rules = read_default()
    async with engine.connect() as connection:
        review = await flag_review.review_account(connection, "late", rules)
        found = await flag_review.preview(connection, rules)
    assert review is not None
    (missed,) = [one for one in review.rules if one.reason is FlagReason.GOAL_MISSED]
    assert missed.stands == "raised"
    assert [one.met for one in missed.raises] == [True, False]
    tally = found.flags[FlagReason.GOAL_MISSED]
    assert (tally.raised_now, tally.would_raise, tally.would_clear) == (1, 0, 0)


async def test_a_stage_is_written_where_it_changes_and_nowhere_else(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    young = customer(contract_start=days(-58), contract_end=days(307))
    gone = customer(status="churned", churned_at=days(-3))
    await directory(intake, young=young, gone=gone)
    await take_in(
        intake,
        *(usage_event(id=name, account=name) for name in ("young", "gone", "stranger")),
    )
    midnight = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC)
    await sweep.round(NOW)
    landed = midnight - timedelta(days=58)
    assert await way(engine, "young") == [(LifeStage.LAND, landed)]
    assert await way(engine, "gone") == [(LifeStage.LOST, midnight - timedelta(days=3))]
    assert await way(engine, "stranger") == [(LifeStage.LAND, NOW)]
    # A is day 59 after the start on the second day from here, and day 60 on the third.
    for later in (1, 2):
        await sweep.round(NOW + timedelta(days=later))
    assert await way(engine, "young") == [(LifeStage.LAND, landed)]
    adopted = NOW + timedelta(days=3)
    await sweep.round(adopted)
    await sweep.round(adopted + timedelta(days=1))
    assert await way(engine, "young") == [(LifeStage.LAND, landed), (LifeStage.ADOPT, adopted)]
    async with engine.connect() as connection:
        columns = (scores.c.account_id, scores.c.stage, scores.c.stage_since)
        stored = {one[0]: one[1:] for one in await connection.execute(select(*columns))}
    assert stored["young"] == (LifeStage.ADOPT, adopted)
    assert stored["gone"][0] == LifeStage.LOST
    # In one transaction with the score: what is read of both agrees.
    await directory(intake, young=customer(status="trial"))
    await sweep.round(adopted + timedelta(days=2))
    assert (await way(engine, "young"))[-1][0] is LifeStage.TRIAL


async def test_goals_read_part_by_part_are_those_that_are_read_at_once(
    intake: Intake, engine: AsyncEngine
) -> None:
    known = {name: customer(goal(due=60)) for name in ("a", "b", "c")}
    await directory(intake, **known, none=customer())
    await take_in(intake, reported("a", 9, 12), reported("c", 9, 11), reported("c", 5, 10))
    async with engine.connect() as connection:
        whole, parts = [
            await goal_store.read_agreed(connection, at_once=at_once) for at_once in (100, 2)
        ]
    assert (parts.accounts, parts.fields) == (whole.accounts, whole.fields)
    for found in (whole, parts):
        values = zip(found.values.owner.tolist(), found.values.value.tolist(), strict=True)
        assert sorted(values) == [(0, 12), (2, 10), (2, 11)]


async def test_goals_are_told_by_cut_filter_and_day(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await directory(
        intake,
        a=customer(goal(due=60), owner="ada", segment="small"),
        b=customer(goal(due=-8), goal(due=90), owner="ada", segment="large"),
        c=customer(goal(due=60), segment="small"),
        d=customer(owner="ada"),
    )
    await take_in(
        intake,
        *(reported("a", age, value) for age, value in ((90, 12), (9, 10.2))),
        *(reported("b", age, value) for age, value in ((90, 12), (9, 11.4))),
    )
    await sweep.round(NOW)
    key, keys = new_key(source="t", scopes=[Scope.ACCOUNTS_READ], now=NOW), KeyRing()
    keys.put(key.record)
    register = Register(engine=engine, clock=lambda: NOW, max_age=timedelta())
    app = api(engine=engine, keys=keys, clock=lambda: NOW, rules=read_default(), register=register)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://scoring",
        headers={"Authorization": f"Bearer {key.secret}"},
    ) as client:
        whole = (await client.get("/v1/goals", params={"by": "owner"})).json()
        small = (await client.get("/v1/goals", params={"segment": "small"})).json()["whole"]
        past = (await client.get("/v1/goals", params={"to": str(TODAY)})).json()["whole"]
        wrong = await client.get("/v1/goals", params={"from": str(TODAY), "to": str(TODAY)})
        own = (await client.get("/v1/accounts/b/goals")).json()["goals"]
        nobody = await client.get("/v1/accounts/nobody/goals")
        journey = (await client.get("/v1/journey", params={"owner": "ada"})).json()["stages"]
        of_b = (await client.get("/v1/accounts/b/journey")).json()["stages"]
    # a 15 %; b 5 %, twice.
    assert whole["whole"]["mean_improvement"] == pytest.approx((0.15 + 0.05 + 0.05) / 3)
    assert whole["whole"]["top_improvement"] == pytest.approx(0.15)
    parts = {one["key"]: one["goals"] for one in whole["parts"]}
    assert list(parts) == ["ada", None]
    assert (parts["ada"]["accounts"], parts["ada"]["goals"]) == (2, 3)
    assert (parts["ada"]["reached"], parts["ada"]["missed"]) == (1, 1)
    assert parts[None]["no_values"] == 1
    assert (small["goals"], small["reached"], small["no_values"]) == (2, 1, 1)
    assert (past["goals"], past["missed"]) == (1, 1)
    assert wrong.status_code == 422
    assert [one["state"] for one in own] == ["missed", "on_track"]
    assert own[0]["improvement"] == pytest.approx(0.05)
    assert own[0]["attained"] == pytest.approx(1 / 3)
    assert own[0]["values"] == [
        {"day": str(days(-90)), "value": 12.0},
        {"day": str(days(-9)), "value": 11.4},
    ]
    assert nobody.json() == {"goals": []}
    assert {one["stage"]: one["accounts"] for one in journey}["adopt"] == 3
    assert [(one["stage"], one["until"]) for one in of_b] == [("adopt", None)]
