"""Whatever comes in which order, who dies when: no event is lost, none counts twice, none for an
account that it does not belong to.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared import failpoints
from shared.messages import UnplacedEvent, UsageEvent, decode
from tests.factories import NOW, usage_event
from tests.integration.scoring.conftest import Time
from tests.integration.scoring.placing_world import PLACES, UNPLACED, USAGE, World

QUARTER = timedelta(minutes=15)
MORNING = NOW - timedelta(days=2)
CONSULTANT, CLERK, GUEST, NOBODY = "u1:consultant", "u1:clerk", "u1:guest", "u1:nobody"
ACCOUNTS = ("acme", "globex", "initech")

Sent: TypeAlias = UsageEvent | UnplacedEvent
Step: TypeAlias = tuple[str, int]


def said(number: int, kind: str, user: str, account: str) -> UsageEvent:
    at = MORNING + number * QUARTER
    return usage_event(
        id=f"s-{number}", type=kind, user=user, account=account, occurred_at=at, client_at=at
    )


def track(number: int, user: str) -> UnplacedEvent:
    at = MORNING + number * QUARTER
    return UnplacedEvent(
        id=f"t-{number}",
        source="app",
        user=user,
        type="report_opened",
        occurred_at=at,
        client_at=at,
        received_at=NOW,
    )


def story() -> list[Sent]:
    """Two days: a consultant of three accounts, a clerk of one, a guest whom no call ever names,
    and somebody who is never heard of.
    """
    told: list[Sent] = [track(0, CONSULTANT), track(1, GUEST), track(2, CLERK)]
    for turn in range(4):
        first = 10 + 10 * turn
        told += [
            said(first, "group", CONSULTANT, ACCOUNTS[turn % 3]),
            track(first + 1, CONSULTANT),
            said(first + 2, "login", CONSULTANT, ACCOUNTS[(turn + 1) % 3]),
            track(first + 3, CONSULTANT),
            track(first + 4, (CLERK, GUEST, NOBODY)[turn % 3]),
            said(first + 5, "login", GUEST, ACCOUNTS[turn % 2]),
            track(first + 6, GUEST),
        ]
    return [*told, said(60, "group", CLERK, "acme"), track(61, CLERK)]


STORY = story()
_STEPS = st.one_of(
    st.tuples(st.just("accept"), st.integers(1, 8)),
    st.tuples(st.just("take in"), st.integers(1, 12)),
    st.tuples(st.just("place"), st.integers(1, 12)),
    st.tuples(st.just("place as another does"), st.integers(1, 12)),
    st.tuples(st.sampled_from(["look", "look twice"]), st.just(0)),
    st.tuples(st.just("die"), st.integers(0, len(PLACES) - 1)),
    st.tuples(st.sampled_from(["away", "silent"]), st.just(0)),
    st.tuples(st.just("seconds pass"), st.sampled_from([1, 5, 11, 30])),
    st.tuples(st.just("seconds pass"), st.just(90_000)),
)


@st.composite
def arrivals(draw: st.DrawFn) -> Sequence[Sent]:
    """In any order, some twice."""
    order = draw(st.permutations(STORY))
    return [*order, *draw(st.lists(st.sampled_from(STORY), max_size=8))]


async def do(world: World, step: Step, coming: list[Sent]) -> None:
    what, number = step
    match what:
        case "accept":
            for _ in range(min(number, len(coming))):
                world.accept(coming.pop())
        case "take in":
            for partition in USAGE:
                await world.take_in(partition, number)
        case "place" | "place as another does":
            await world.horizon.look()
            for partition in UNPLACED:
                await world.place(partition, number, twice=what != "place")
        case "look" | "look twice":
            await world.horizon.look()
            await world.look(twice=what != "look")
        case "die":
            world.dies_at = PLACES[number]
        case "away" | "silent":
            world.log.fails = what
        case _:
            world.time.now += timedelta(seconds=number)


@given(arrivals(), st.lists(_STEPS, min_size=10, max_size=40))
@settings(
    max_examples=8,
    deadline=None,
    # Every example cleans up after the one before it, in the same database.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_each_event_counts_once_where_it_belongs_or_waits_or_is_in_quarantine(
    engine: AsyncEngine,
    owner: AsyncEngine,
    time: Time,
    arriving: Sequence[Sent],
    steps: Sequence[Step],
) -> None:
    await forget_all(owner)
    world, coming = World(engine, time), list(arriving)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failpoints, "reach", world.reach)
        for step in steps:
            await do(world, step, coming)
        for one in coming:
            world.accept(one)
        await world.settle_down()
        await check(world)
        # Nobody comes for the others: a day later they go.
        left = await world.waits()
        world.time.now += timedelta(hours=25)
        await world.settle_down()
        assert await world.waits() == []
        await check(world)
        # And from there they come again, when everybody is known.
        gone = set(await world.given_up())
        assert gone >= set(left)
        for number, user in enumerate((CONSULTANT, CLERK, GUEST, NOBODY), 70):
            world.accept(said(number, "group", user, "acme"))
        for name in gone:
            world.accept(world.sent[name][0])
        await world.settle_down()
        await world.settle_down()
    assert {name for name in world.sent if name not in world.counted} == set()
    assert await world.waits() == []
    await check(world)


@pytest.mark.parametrize("waits", [False, True])
async def test_an_event_that_was_appended_under_two_accounts_counts_for_the_first(
    engine: AsyncEngine, time: Time, monkeypatch: pytest.MonkeyPatch, *, waits: bool
) -> None:
    """More was known of its user the second time: too rare a chain of events for chance."""
    world = World(engine, time)
    monkeypatch.setattr(failpoints, "reach", world.reach)
    first, event = said(10, "group", CONSULTANT, "acme"), track(13, CONSULTANT)
    if waits:
        world.accept(event)
        await work(world)
    world.accept(first)
    if not waits:
        world.accept(event)
    world.dies_at = "waiting.before_delete" if waits else "placing.before_commit"
    await work(world)
    assert world.dies_at is None
    world.accept(said(12, "group", CONSULTANT, "globex"))
    await work(world)
    placed = [
        one.account
        for partition in USAGE
        for one in (decode(UsageEvent, record.value) for record in world.log.records[partition])
        if one.placed_by is not None
    ]
    assert sorted(placed) == ["acme", "globex"]
    await world.settle_down()
    await check(world)
    assert sum((await world.buckets()).values()) == 1


async def work(world: World) -> None:
    """Everybody does once what there is to do half a minute later."""
    for partition in USAGE:
        await world.take_in(partition, 100)
    world.time.now += timedelta(seconds=30)
    await world.horizon.look()
    for partition in UNPLACED:
        await world.place(partition, 100)
    await world.look()


async def check(world: World) -> None:
    days = Counter(
        (one.account, f"{one.occurred_at.date()}")
        for one in world.counted.values()
        if one.type != "group"
    )
    assert await world.buckets() == days
    waiting, gone = await world.waits(), set(await world.given_up())
    known = {one.user for one in await world.told()}
    assert len(set(waiting)) == len(waiting)
    for name, (event, _) in world.sent.items():
        assert name in gone or (name in world.counted) is (event.user in known)
        assert (name in waiting) <= (event.user not in known)
        assert name in gone or name in waiting or name in world.counted


async def forget_all(owner: AsyncEngine) -> None:
    async with owner.begin() as connection:
        await connection.execute(
            text(
                "TRUNCATE scoring.account_day, scoring.seen_events, scoring.signals,"
                " scoring.source_hours, scoring.log_positions, scoring.memberships,"
                " scoring.group_calls, scoring.waiting_events, scoring.waiting_counts,"
                " scoring.placing_hours, scoring.outbox, scoring.dirty, scoring.taken_in"
            )
        )
