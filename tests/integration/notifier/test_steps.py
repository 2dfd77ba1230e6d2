"""What people do, each step one transaction: once, in the timeline, and told to scoring."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import tasks as task_rows
from services.notifier.domain.interventions import Intervention
from services.notifier.domain.people import Person
from services.notifier.domain.refusals import Refusal
from services.notifier.domain.tasks import Task
from services.notifier.stepping import Changed, NotTaken
from services.notifier.steps import Steps, Wall
from services.notifier.tables import metadata, outbox, requests, timeline
from shared.messages import OutcomeEvent, OutcomeKind, decode
from tests.integration.notifier.rig import FALLBACK, NOW, OWNER, Rig, account, boss, flag, open_rig

BEN = "ben@vendor.example"
DAY = timedelta(days=1)
TOMORROW = NOW + DAY

Step = Callable[[Steps, UUID, str | None], Awaitable[Changed]]


@pytest.fixture
async def rig(engine: AsyncEngine) -> AsyncIterator[Rig]:
    """Nobody is told anything here."""
    async with open_rig(engine) as opened:
        yield opened


@pytest.fixture
async def paris(engine: AsyncEngine) -> AsyncIterator[Rig]:
    """Where Anna lives in Paris."""
    people = (Person(address=OWNER, zone="Europe/Paris"),)
    async with open_rig(engine, people=people) as opened:
        yield opened


async def open_one(rig: Rig) -> UUID:
    await rig.take(account())
    await rig.take(flag())
    (row,) = await rig.interventions()
    return UUID(str(row.id))


def done(changed: Changed) -> Intervention:
    assert isinstance(changed, Intervention), changed
    return changed


async def kinds(rig: Rig) -> list[str]:
    """The timeline, without who was told of it or not."""
    async with rig.engine.connect() as connection:
        statement = select(timeline.c.kind).order_by(timeline.c.id)
        found = await connection.scalars(statement.where(timeline.c.kind != "suppressed"))
        return list(found)


async def outcomes_of(rig: Rig) -> list[OutcomeEvent]:
    async with rig.engine.connect() as connection:
        statement = select(outbox.c.value).where(outbox.c.topic == "outcomes").order_by(outbox.c.id)
        return [decode(OutcomeEvent, value) for value in await connection.scalars(statement)]


async def tasks_of(rig: Rig, one: UUID) -> Sequence[Task]:
    async with rig.engine.connect() as connection:
        return await task_rows.of_interventions(connection, [one])


async def everything(rig: Rig) -> list[str]:
    """All rows of all tables, as text: what a step that changes nothing must leave alone."""
    found = []
    async with rig.engine.connect() as connection:
        for table in metadata.tables:
            rows = await connection.execute(text(f"SELECT t::text FROM {table} AS t"))
            found += [f"{table}: {row[0]}" for row in rows]
    return sorted(found)


def acknowledge(steps: Steps, one: UUID, key: str | None) -> Awaitable[Changed]:
    return steps.acknowledge(one, version=None, by=boss("anna"), key=key)


def snooze(steps: Steps, one: UUID, key: str | None) -> Awaitable[Changed]:
    return steps.snooze(
        one, version=None, until=NOW + 5 * DAY, reason="on holiday", by=boss("anna"), key=key
    )


def reassign(steps: Steps, one: UUID, key: str | None) -> Awaitable[Changed]:
    return steps.reassign(one, version=None, owner=BEN, by=boss("anna"), key=key)


def do_task(steps: Steps, one: UUID, key: str | None) -> Awaitable[Changed]:
    return steps.mark_task(one, 1, done=True, by=boss("anna"), key=key)


def close(steps: Steps, one: UUID, key: str | None) -> Awaitable[Changed]:
    return steps.close(
        one, version=None, outcome=OutcomeKind.SAVED, note="Trained", by=boss("anna"), key=key
    )


STEPS = [
    pytest.param(acknowledge, id="acknowledge"),
    pytest.param(snooze, id="snooze"),
    pytest.param(reassign, id="reassign"),
    pytest.param(do_task, id="task"),
    pytest.param(close, id="close"),
]


async def test_a_life_from_the_first_step_to_the_corrected_outcome(rig: Rig) -> None:
    one = await open_one(rig)
    seen = done(await rig.steps.acknowledge(one, version=1, by=boss("anna")))
    until = Wall(day=TOMORROW.date(), at=time(9))
    seen = done(
        await rig.steps.snooze(
            one, version=seen.version, until=until, reason="ill", by=boss("anna")
        )
    )
    seen = done(await rig.steps.wake(one, version=seen.version, by=boss("anna")))
    seen = done(await rig.steps.reassign(one, version=seen.version, owner=BEN, by=boss("anna")))
    seen = done(await rig.steps.mark_task(one, 1, done=True, by=boss(BEN)))
    seen = done(await rig.steps.mark_task(one, 1, done=False, by=boss(BEN)))
    seen = done(
        await rig.steps.close(
            one,
            version=seen.version,
            outcome=OutcomeKind.SAVED,
            note="\0Trained\r\nthem",
            by=boss(BEN),
        )
    )
    seen = done(
        await rig.steps.correct(
            one,
            version=seen.version,
            outcome=OutcomeKind.CHURNED,
            note="Left in May",
            by=boss("anna"),
        )
    )
    assert (seen.version, seen.revision, seen.note) == (9, 2, "Left in May")
    assert await kinds(rig) == [
        "opened",
        "acknowledged",
        "snoozed",
        "woken",
        "owner_changed",
        "task_done",
        "task_undone",
        "closed",
        "corrected",
    ]
    told = [event.data for event in await outcomes_of(rig)]
    assert [(one.outcome, one.revision, one.by) for one in told] == [
        ("saved", 1, "person"),
        ("churned", 2, "person"),
    ]
    assert {(one.playbook, one.held_out, one.risk_at_open) for one in told} == {
        ("default", False, 0.31)
    }
    assert rig.metrics.outcomes.labels("churned", "churn_risk")._value.get() == 1
    (row,) = await rig.interventions()
    assert row.note == "Left in May"


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_with_the_same_key_is_taken_once(rig: Rig, step: Step) -> None:
    one = await open_one(rig)
    first = done(await step(rig.steps, one, "click-1"))
    before = await everything(rig)
    again = done(await step(rig.steps, one, "click-1"))
    assert again == first
    assert await everything(rig) == before


@pytest.mark.parametrize("step", STEPS)
async def test_two_replicas_with_one_key_take_one_step(rig: Rig, step: Step) -> None:
    one = await open_one(rig)
    entries = len(await kinds(rig))
    both = await asyncio.gather(*(step(rig.steps, one, "click-1") for _ in range(2)))
    assert {done(changed).version for changed in both} == {2}
    # A task that is done is an acknowledgement too.
    assert len(await kinds(rig)) == entries + (2 if step is do_task else 1)


async def test_two_people_who_saw_the_same_page_do_not_both_close_it(rig: Rig) -> None:
    one = await open_one(rig)

    def closing(outcome: OutcomeKind) -> Awaitable[Changed]:
        return rig.steps.close(one, version=1, outcome=outcome, note="x", by=boss("anna"))

    both = await asyncio.gather(closing(OutcomeKind.SAVED), closing(OutcomeKind.CHURNED))
    refused = [changed.refusal for changed in both if isinstance(changed, NotTaken)]
    assert refused == [Refusal.CLOSED]
    assert len(await outcomes_of(rig)) == 1


async def test_people_and_flags_at_once_leave_whole_versions(rig: Rig) -> None:
    one = await open_one(rig)
    flags = [flag(change="updated", as_of=NOW + timedelta(minutes=n)) for n in range(1, 6)]
    people = [
        rig.steps.reassign(one, version=None, owner=f"p{n}@x.example", by=boss("a"))
        for n in range(5)
    ]
    await asyncio.gather(rig.take(*flags), *people)
    (row,) = await rig.interventions()
    # Opened, five updates, five new owners.
    assert row.version == 11


async def test_a_key_belongs_to_one_step(rig: Rig) -> None:
    one = await open_one(rig)
    done(await acknowledge(rig.steps, one, "click-1"))
    refused = await close(rig.steps, one, "click-1")
    assert isinstance(refused, NotTaken)
    assert refused.refusal is Refusal.KEY_REUSED
    assert refused.intervention is not None
    assert refused.intervention.is_open


async def test_what_is_refused_writes_nothing_and_may_be_tried_again(rig: Rig) -> None:
    one = await open_one(rig)
    before = await everything(rig)
    refused = await rig.steps.close(
        one, version=1, outcome=OutcomeKind.CHURNED, note=" \n", by=boss("anna"), key="form-1"
    )
    assert refused == NotTaken(
        refusal=Refusal.NOTE_MISSING, intervention=getattr(refused, "intervention", None)
    )
    assert await everything(rig) == before
    again = await rig.steps.close(
        one, version=1, outcome=OutcomeKind.CHURNED, note="Left", by=boss("anna"), key="form-1"
    )
    assert done(again).outcome is OutcomeKind.CHURNED


async def test_nobody_acts_on_what_does_not_exist(rig: Rig) -> None:
    for step in (acknowledge, snooze, reassign, do_task, close):
        assert await step(rig.steps, uuid4(), "k") == NotTaken(refusal=Refusal.UNKNOWN)


@pytest.mark.parametrize(
    ("day", "at", "expected"),
    [
        pytest.param(
            date(2026, 3, 30), None, datetime(2026, 3, 30, 7, tzinfo=UTC), id="as work begins"
        ),
        pytest.param(
            date(2026, 3, 28),
            time(2, 30),
            datetime(2026, 3, 28, 1, 30, tzinfo=UTC),
            id="the night before the clocks change",
        ),
        pytest.param(
            date(2026, 3, 29),
            time(2, 30),
            datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
            id="a time that the clocks skip: 03:30",
        ),
        pytest.param(
            date(2026, 3, 29),
            time(9),
            datetime(2026, 3, 29, 7, tzinfo=UTC),
            id="by the zone, not by its offset of today",
        ),
    ],
)
async def test_a_snooze_ends_at_wall_time_of_the_owner(
    paris: Rig, day: date, at: time | None, expected: datetime
) -> None:
    paris.hands.now = datetime(2026, 3, 20, 12, tzinfo=UTC)
    one = await open_one(paris)
    seen = done(
        await paris.steps.snooze(
            one, version=1, until=Wall(day=day, at=at), reason="ill", by=boss("anna")
        )
    )
    assert seen.snooze is not None
    assert seen.snooze.until == expected


async def test_tasks_come_with_the_playbook_and_go_with_the_owner(rig: Rig) -> None:
    one = await open_one(rig)
    first, second = await tasks_of(rig, one)
    assert {first.owner, second.owner} == {OWNER}
    seen = done(await rig.steps.mark_task(one, 1, done=True, by=boss("anna")))
    assert (seen.status, seen.acknowledged_by) == ("acknowledged", "anna")
    assert rig.metrics.ack_seconds._sum.get() == 0
    again = await rig.steps.mark_task(one, 1, done=True, by=boss("ben"))
    assert isinstance(again, NotTaken)
    assert again.refusal is Refusal.UNCHANGED
    done(await reassign(rig.steps, one, None))
    first, second = await tasks_of(rig, one)
    assert (first.owner, first.done_by, second.owner) == (OWNER, "anna", BEN)
    nothing = await rig.steps.mark_task(one, 3, done=True, by=boss("anna"))
    assert isinstance(nothing, NotTaken)
    assert nothing.refusal is Refusal.UNKNOWN


async def test_each_episode_has_its_own_tasks(rig: Rig) -> None:
    one = await open_one(rig)
    done(await do_task(rig.steps, one, None))
    done(await close(rig.steps, one, None))
    again = NOW + timedelta(hours=2)
    await rig.take(flag(flag_id="acme/2", episode=2, raised_at=again, as_of=again))
    found = await tasks_of(rig, one)
    assert Counter((task.episode, task.is_done) for task in found) == {
        (1, True): 1,
        (1, False): 1,
        (2, False): 2,
    }
    seen = done(await do_task(rig.steps, one, None))
    assert seen.episode == 2
    assert sum(task.is_done for task in await tasks_of(rig, one)) == 2


async def test_only_an_address_can_be_given_work(rig: Rig) -> None:
    one = await open_one(rig)
    for owner in ("", "Anna", "a@b\r\nBcc: c@d"):
        refused = await rig.steps.reassign(one, version=1, owner=owner, by=boss("anna"))
        assert isinstance(refused, NotTaken)
        assert refused.refusal is Refusal.OWNER_MISSING


async def test_whom_a_person_gave_it_to_stays_its_owner(rig: Rig) -> None:
    one = await open_one(rig)
    done(await reassign(rig.steps, one, None))
    await rig.take(account(seats=12))
    assert (await rig.interventions())[0].owner == BEN
    await rig.take(account(owner=FALLBACK))
    assert (await rig.interventions())[0].owner == FALLBACK
    assert {task.owner for task in await tasks_of(rig, one)} == {FALLBACK}


async def test_keys_that_nobody_repeats_any_more_are_forgotten(rig: Rig) -> None:
    one = await open_one(rig)
    done(await acknowledge(rig.steps, one, "old"))
    rig.hands.now += 8 * DAY
    done(await reassign(rig.steps, one, "new"))
    async with rig.engine.connect() as connection:
        assert list(await connection.scalars(select(requests.c.key))) == ["new"]
