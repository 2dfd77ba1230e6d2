"""From flags and steps, over the clock, to what each destination is told of an account."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import agenda
from services.notifier.domain.decisions import Timing
from services.notifier.domain.people import Mode, Person
from services.notifier.domain.policy import NotifyReason, Storm
from services.notifier.routes import Ways
from services.notifier.tables import agenda as agenda_table
from services.notifier.tables import notices
from shared.messages import Band, FlagReason, OutcomeKind, Stage
from tests.integration.notifier.queue_rig import Meanwhile, Post
from tests.integration.notifier.rig import (
    AT_ONCE,
    FALLBACK,
    NOW,
    OWNER,
    Rig,
    account,
    boss,
    flag,
    open_rig,
)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BEN = Person(address="ben@vendor.example", slack="UBEN")
ANNA = Person(address=OWNER, zone="Europe/Paris", slack="UANNA")
SILENT = {"flag_id": "acme/s", "reason": FlagReason.GONE_SILENT, "stage": Stage.ADOPT}


@pytest.fixture
def post() -> Post:
    return Post("slack")


@pytest.fixture
async def rig(engine: AsyncEngine, post: Post) -> AsyncIterator[Rig]:
    """Slack by bot alone: direct messages that can be changed."""
    ways = Ways(slack_bot=True)
    async with open_rig(
        engine, people=(ANNA, BEN), more={"slack": post}, ways=ways, storm=Storm(limit=3)
    ) as opened:
        await opened.take(account())
        yield opened


def heard(post: Post) -> list[tuple[str, str, int, bool]]:
    """To whom, why, how many items, and whether a message was changed."""
    return [(one.to, one.why.value, len(one.items), one.edit) for one in post.taken]


async def test_an_account_is_one_conversation(rig: Rig, post: Post) -> None:
    await rig.take(flag(), flag(**SILENT))
    await rig.send_all()
    await rig.take(flag(change="updated", band=Band.CRITICAL, as_of=NOW + HOUR))
    await rig.send_all()
    # One message about both, the news in its thread, and the first one kept current.
    assert sorted(heard(post)) == [
        ("UANNA", "first", 2, False),
        ("UANNA", "severity_raised", 2, False),
        ("UANNA", "updated", 2, True),
    ]
    first, *later = post.taken
    assert first.thread is None
    assert {one.thread.ts for one in later if one.thread} == {"1.0"}
    assert {one.root for one in post.taken} == {first.root}


async def test_what_is_over_while_its_first_message_is_under_way_is_told_to_be_over(
    engine: AsyncEngine,
) -> None:
    post = Meanwhile("slack")
    ways = Ways(slack_bot=True)
    async with open_rig(engine, people=(ANNA,), more={"slack": post}, ways=ways) as rig:
        await rig.take(account())
        await rig.take(flag())

        async def clear() -> None:
            await rig.take(flag(change="cleared", as_of=NOW + HOUR))

        post.deed = clear
        await rig.send_all()
        await rig.send_all()
    assert [one[1] for one in heard(post) if not one[3]] == ["first", "recovered"]


async def test_a_person_sees_at_once_what_they_did_and_hears_nothing(rig: Rig, post: Post) -> None:
    await rig.take(flag())
    await rig.send_all()
    (row,) = await rig.interventions()
    await rig.steps.acknowledge(row.id, version=row.version, by=boss(OWNER))
    await rig.send_all()
    await rig.steps.close(row.id, version=None, outcome=OutcomeKind.SAVED, note="", by=boss(OWNER))
    await rig.send_all()
    assert [one.why for one in post.taken] == [
        NotifyReason.FIRST,
        NotifyReason.UPDATED,
        NotifyReason.UPDATED,
    ]
    assert post.taken[-1].items[0].outcome is OutcomeKind.SAVED
    assert await rig.send_all() == 0


async def test_a_snoozed_intervention_is_told_once_when_the_snooze_ends(
    rig: Rig, post: Post
) -> None:
    await rig.take(flag())
    await rig.send_all()
    (row,) = await rig.interventions()
    await rig.steps.snooze(row.id, version=None, until=NOW + 2 * DAY, reason="fair", by=boss(OWNER))
    await rig.send_all()
    await rig.pass_time(DAY)
    await rig.take(flag(change="updated", as_of=NOW + DAY))
    await rig.send_all()
    assert {one.why for one in post.taken[1:]} == {NotifyReason.UPDATED}
    await rig.pass_time(DAY)
    await rig.send_all()
    told = [one.why for one in post.taken if not one.edit]
    assert told == [NotifyReason.FIRST, NotifyReason.SNOOZE_ENDED]


async def test_what_clears_in_a_snooze_is_closed_quietly(rig: Rig, post: Post) -> None:
    await rig.take(flag())
    await rig.send_all()
    (row,) = await rig.interventions()
    await rig.steps.snooze(row.id, version=None, until=NOW + 2 * DAY, reason="fair", by=boss(OWNER))
    await rig.take(flag(change="cleared", as_of=NOW + HOUR))
    await rig.pass_time(2 * DAY)
    await rig.send_all()
    (row,) = await rig.interventions()
    assert (row.status, row.outcome) == ("closed", "no_action_needed")
    assert [one.why for one in post.taken if not one.edit] == [NotifyReason.FIRST]


async def test_at_night_all_waits_for_one_message_at_the_opening(rig: Rig, post: Post) -> None:
    rig.hands.now = NOW + 8 * HOUR  # Monday, 22:00 in Paris; open again at 09:00 = 07:00 UTC.
    await rig.take(account(account_id="b"))
    await rig.take(flag(), flag(account="b", flag_id="b/1"))
    rows = await rig.deliveries()
    held = [row.suppress_reason for row in rows if row.state == "cancelled"]
    assert held == ["quiet_hours", "quiet_hours"]
    (bundle,) = [row for row in rows if row.kind == "summary"]
    assert bundle.due_at == NOW + 19 * HOUR
    await rig.pass_time(11 * HOUR)
    await rig.send_all()
    assert heard(post) == [("UANNA", "summary", 2, False)]
    await rig.pass_time(HOUR)
    assert await rig.send_all() == 0  # It counts as told.


async def test_a_storm_is_one_message(rig: Rig, post: Post) -> None:
    await rig.take(*[account(account_id=f"a{n}") for n in range(5)])
    await rig.take(*[flag(account=f"a{n}", flag_id=f"a{n}") for n in range(5)])
    await rig.send_all()
    assert heard(post) == [("UANNA", "summary", 5, False)]
    assert rig.metrics.suppressed.labels("storm")._value.get() == 5


async def test_whoever_wants_a_digest_is_not_told(engine: AsyncEngine, post: Post) -> None:
    daily = Person(address=OWNER, slack="UANNA", mode=Mode.DAILY)
    ways = Ways(slack_bot=True)
    async with open_rig(engine, people=(daily,), more={"slack": post}, ways=ways) as rig:
        await rig.take(account())
        await rig.take(flag())
        await rig.take(flag(change="updated", as_of=NOW + HOUR))
        await rig.send_all()
        assert post.taken == []
        (row,) = await rig.deliveries()
        assert (row.state, row.suppress_reason) == ("cancelled", "preference")


async def test_nobody_acknowledges_so_the_manager_hears_of_it(
    engine: AsyncEngine, post: Post
) -> None:
    anna = Person(address=OWNER, slack="UANNA", manager=BEN.address)
    ways = Ways(slack_bot=True)
    async with open_rig(engine, people=(anna, BEN), more={"slack": post}, ways=ways) as rig:
        await rig.take(account())
        await rig.take(flag())
        await rig.send_all()
        for _ in range(2):
            await rig.pass_time(DAY)
            await rig.send_all()
    told = [(one.to, one.why.value) for one in post.taken if not one.edit]
    # +1 business day the owner is reminded, +2 their manager hears of it.
    assert told[:2] == [("UANNA", "first"), ("UANNA", "escalated")]
    assert ("UBEN", "escalated") in told


async def test_a_new_owner_is_told_and_the_work_goes_on_there(rig: Rig, post: Post) -> None:
    await rig.take(flag())
    await rig.send_all()
    await rig.take(account(owner=BEN.address))
    await rig.send_all()
    assert ("UBEN", "owner_changed", 1, False) in heard(post)
    await rig.take(flag(change="cleared", as_of=NOW + HOUR))
    await rig.send_all()
    ends = [one.to for one in post.taken if one.why is NotifyReason.RECOVERED]
    assert ends == ["UBEN"]


async def test_two_clocks_are_as_one(engine: AsyncEngine, post: Post) -> None:
    ways = Ways(slack_bot=True)
    timing = Timing(wait=timedelta(0), interval=timedelta(0), debounce=timedelta(0))
    async with open_rig(
        engine, people=(ANNA,), more={"slack": post}, ways=ways, timing=timing
    ) as rig:
        await rig.take(account())
        await rig.take(flag())
        await rig.send_all()
        rig.hands.now = NOW + 3 * DAY  # Due that day at 18:00 in Paris.
        async with engine.begin() as one, engine.begin() as other:
            first = await agenda.take_due(one, now=rig.hands.now, limit=10)
            second = await agenda.take_due(other, now=rig.hands.now, limit=10)
        assert (list(first), list(second)) == (["acme"], [])


async def test_what_is_told_is_stored_after_acceptance_only(rig: Rig, post: Post) -> None:
    await rig.take(flag())
    async with rig.engine.connect() as connection:
        assert (await connection.execute(select(notices))).all() == []
    await rig.send_all()
    async with rig.engine.connect() as connection:
        (row,) = (await connection.execute(select(notices))).all()
        look_at = await connection.scalar(select(agenda_table.c.look_at))
    (subject,) = await rig.interventions()
    assert set(row.told) == {str(subject.id)}
    assert (row.thread_channel, row.thread_ts) == ("C1", "1.0")
    # Next: a reminder a business day after it began.
    assert look_at == NOW + DAY
    assert FALLBACK not in {one.to for one in post.taken}
    assert rig.desk.timing == AT_ONCE


async def test_nobody_hears_at_night_that_it_is_over(rig: Rig, post: Post) -> None:
    await rig.take(flag())
    await rig.send_all()
    rig.hands.now = NOW + 8 * HOUR  # Monday, 22:00 in Paris; open again at 09:00 = 07:00 UTC.
    await rig.take(flag(change="cleared", as_of=NOW + 8 * HOUR))
    await rig.send_all()
    assert [one.why for one in post.taken if not one.edit] == [NotifyReason.FIRST]
    await rig.pass_time(11 * HOUR)
    await rig.send_all()
    told = [one.why for one in post.taken if not one.edit]
    assert told == [NotifyReason.FIRST, NotifyReason.RECOVERED]


async def test_a_summary_leaves_a_conversation_where_it_is(rig: Rig, post: Post) -> None:
    await rig.take(flag())
    await rig.send_all()
    rig.hands.now = NOW + 8 * HOUR
    await rig.take(account(account_id="b"))
    worse = flag(change="updated", band=Band.CRITICAL, as_of=NOW + 8 * HOUR)
    await rig.take(worse, flag(account="b", flag_id="b/1"))
    await rig.pass_time(11 * HOUR)
    await rig.send_all()
    assert ("UANNA", "summary", 2, False) in heard(post)
    last = [one for one in post.taken if one.edit][-1]
    assert [one.severity for one in last.items] == [Band.CRITICAL]
    async with rig.engine.connect() as connection:
        rows = (await connection.execute(select(notices).order_by(notices.c.account_id))).all()
    assert [(row.account_id, row.thread_ts) for row in rows] == [("acme", "1.0"), ("b", None)]
