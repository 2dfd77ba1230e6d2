"""The delivery queue: what is claimed when, what is sent once, what goes on to somebody else."""

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.notifier import gauges, queue, rests, trials
from services.notifier.channels import Message
from services.notifier.composing import Claimed, DeliveryKind, Planned
from services.notifier.domain.attempts import WEBHOOK_SCHEDULE, Class, OnAmbiguous, Patience
from services.notifier.domain.policy import NotifyReason, SuppressReason
from tests.integration.notifier.queue_rig import (
    NOW,
    QUICK,
    Letters,
    Post,
    Slow,
    Until,
    failing,
    queue_rig,
)

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
FOUR_HOURS_PAST = timedelta(hours=4, seconds=5)
USUAL = Patience(retry_first=timedelta(seconds=5), retry_last=timedelta(minutes=15))
HOLD = Patience(
    retry_first=QUICK.retry_first, retry_last=QUICK.retry_last, on_ambiguous=OnAmbiguous.HOLD
)


# What is queued


async def test_a_decision_is_queued_once_for_ever(engine: AsyncEngine) -> None:
    rig = queue_rig(engine)
    assert await rig.put("a")
    assert not await rig.put("a")
    await rig.send_all()
    assert not await rig.put("a")
    assert await rig.send_all() == 0
    assert rig.posts["slack"].texts == ["a"]


async def test_a_newer_decision_joins_the_one_that_waits(engine: AsyncEngine) -> None:
    rig = queue_rig(engine)
    in_a_year = NOW + timedelta(days=365)
    assert await rig.put("old", group_key="g", due_at=in_a_year, priority=5)
    assert not await rig.put("new", group_key="g", due_at=NOW, urgent=True, priority=1)
    (row,) = await rig.rows()
    assert (row.due_at, row.urgent, row.priority) == (NOW, True, 5)
    await rig.send_all()
    assert rig.posts["slack"].texts == ["new"]


async def test_a_later_and_calmer_decision_changes_neither_time_nor_urgency(
    engine: AsyncEngine,
) -> None:
    rig = queue_rig(engine)
    await rig.put("old", group_key="g", due_at=NOW, urgent=True, priority=5)
    await rig.put("new", group_key="g", due_at=NOW + HOUR, priority=1)
    (row,) = await rig.rows()
    assert (row.due_at, row.urgent, row.priority) == (NOW, True, 5)


async def test_a_group_waits_once_per_destination(engine: AsyncEngine) -> None:
    rig = queue_rig(engine)
    assert await rig.put("a", "slack:one", group_key="g")
    assert await rig.put("a", "slack:two", group_key="g")
    assert await rig.send_all() == 2


async def test_what_is_not_due_is_not_sent_yet(engine: AsyncEngine) -> None:
    rig = queue_rig(engine)
    await rig.put("later", due_at=NOW + timedelta(days=3_650))
    assert not await rig.sender.send_one()
    await rig.age(timedelta(days=3_651))
    assert await rig.send_all() == 1


async def test_a_suppression_is_stored_once_with_its_reason(engine: AsyncEngine) -> None:
    rig = queue_rig(engine)
    planned = Planned(
        kind=DeliveryKind.NOTICE,
        dedupe_key="k",
        group_key="g",
        channel="slack",
        destination="slack:one",
        recipient="anna@vendor.example",
        reason=NotifyReason.FIRST,
        due_at=NOW,
    )
    async with engine.begin() as connection:
        stored = [
            await queue.suppress(connection, planned, SuppressReason.SILENCED) for _ in range(2)
        ]
    (row,) = await rig.rows()
    assert stored == [True, False]
    assert (row.state, row.suppress_reason) == ("cancelled", "silenced")
    assert await rig.send_all() == 0


async def test_what_is_not_wanted_any_more_is_not_sent(engine: AsyncEngine) -> None:
    rig = queue_rig(engine)
    await rig.put("over")
    await rig.put("on")
    rig.letters.unwanted.add("over")
    await rig.send_all()
    assert rig.posts["slack"].texts == rig.letters.accepted_texts == ["on"]
    assert rig.letters.ends == [("over", SuppressReason.NO_LONGER_WANTED)]


# What is claimed


async def test_the_urgent_come_first_then_by_priority_then_the_oldest(engine: AsyncEngine) -> None:
    rig = queue_rig(engine)
    await rig.put("old")
    await rig.put("new")
    await rig.put("valuable", priority=9.5)
    await rig.put("urgent", urgent=True)
    await rig.send_all()
    assert rig.posts["slack"].texts == ["urgent", "valuable", "old", "new"]


async def test_a_destination_gets_one_message_at_its_pace(engine: AsyncEngine) -> None:
    rig = queue_rig(engine, posts={"slack": Post(name="slack", pace=HOUR)})
    for name in ("a", "b"):
        await rig.put(name, "slack:one")
        await rig.put(name, "slack:two")
    assert await rig.send_all() == 2
    await rig.age(HOUR - MINUTE)
    assert await rig.send_all() == 0
    await rig.age(MINUTE)
    assert await rig.send_all() == 2


async def test_many_senders_send_each_once_and_one_at_a_time_to_a_destination(
    engine: AsyncEngine,
) -> None:
    """`Post` fails where two messages are under way to one destination."""
    rig = queue_rig(engine)
    names = [f"{number:03}" for number in range(60)]
    for name in names:
        await rig.put(name, f"slack:{int(name) % 3}")
    rig.posts["slack"].will(*[Slow(seconds=0.002)] * 60)
    stop = asyncio.Event()

    async def drain() -> None:
        while not stop.is_set():
            if not await rig.sender.send_one():
                await asyncio.sleep(0.005)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(drain())
        while set((await rig.states()).values()) != {"sent"}:  # noqa: ASYNC110 - a row changes
            await asyncio.sleep(0.02)
        stop.set()
    texts = rig.posts["slack"].texts
    assert sorted(texts) == names
    for turn in range(3):  # In order, too.
        mine = [name for name in texts if int(name) % 3 == turn]
        assert mine == sorted(mine)


async def test_a_decision_that_is_not_committed_yet_does_not_stop_its_destination(
    engine: AsyncEngine,
) -> None:
    rig = queue_rig(engine)
    await rig.put("first", group_key="first")
    async with engine.begin() as connection:
        await connection.execute(
            text("SELECT 1 FROM notifier.deliveries WHERE group_key = 'first' FOR UPDATE")
        )
        await rig.put("second")
        await rig.send_all()
        assert rig.posts["slack"].texts == ["second"]
    await rig.until_quiet()
    assert rig.posts["slack"].texts == ["second", "first"]


# Leases


async def test_a_lost_lease_is_ambiguous_and_sent_again(engine: AsyncEngine) -> None:
    rig = queue_rig(engine)
    await rig.put("a")
    await _die_after_claim(engine)
    assert not await rig.sender.send_one()
    await rig.age(MINUTE)
    await rig.send_all()
    (row,) = await rig.rows()
    assert (row.state, row.ambiguous, row.attempts) == ("sent", 1, 2)
    assert rig.sender.metrics.ambiguous.labels("slack")._value.get() == 1


async def test_a_lost_lease_is_held_where_nothing_may_come_twice(engine: AsyncEngine) -> None:
    rig = queue_rig(engine, patience=HOLD)
    await rig.put("a")
    await _die_after_claim(engine)
    await rig.age(MINUTE)
    await rig.send_all()
    assert await rig.states() == {"a>slack:one": "held"}
    assert rig.posts["slack"].asked == []


async def test_a_sender_that_lost_its_lease_records_nothing(engine: AsyncEngine) -> None:
    rig = queue_rig(engine)
    slack, answered = rig.posts["slack"], asyncio.Event()
    slack.will(Until(event=answered))
    await rig.put("a")
    slow = asyncio.create_task(rig.sender.send_one())
    async with asyncio.timeout(20):
        while not slack.asked:  # noqa: ASYNC110 - a list grows
            await asyncio.sleep(0.01)
    slack.under_way.clear()
    await rig.age(MINUTE)
    assert await rig.sender.send_one()
    answered.set()
    await slow
    (row,) = await rig.rows()
    assert (row.state, row.attempts) == ("sent", 2)
    assert rig.letters.accepted_texts == ["a"]
    assert (await rig.destination()).claim is None


async def test_an_orderly_stop_gives_the_claim_back_untried(engine: AsyncEngine) -> None:
    rig = queue_rig(engine)
    await rig.put("a")
    stop = asyncio.Event()
    stop.set()
    assert not await rig.sender.send_one(stop)
    (row,) = await rig.rows()
    assert (row.state, row.attempts) == ("pending", 0)
    assert await rig.send_all() == 1


async def test_what_may_have_been_sent_is_still_held_after_an_orderly_stop(
    engine: AsyncEngine,
) -> None:
    rig = queue_rig(engine, lease=timedelta(0), patience=HOLD)
    await rig.put("a")
    await rig.sender.announce()
    async with engine.begin() as connection:
        await queue.claim(connection, ["slack"], lease=timedelta(0))
    stop = asyncio.Event()
    stop.set()
    assert not await rig.sender.send_one(stop)
    await rig.send_all()
    (row,) = await rig.rows()
    assert (row.state, row.ambiguous) == ("held", 2)  # The lost one, and what is held for it.
    assert rig.posts["slack"].asked == []


async def test_a_database_that_goes_away_before_sending_leaves_nothing_in_doubt(
    engine: AsyncEngine,
) -> None:
    rig = queue_rig(engine, patience=HOLD)
    away = dataclasses.replace(rig.sender, composers=dict.fromkeys(DeliveryKind, Away()))
    await rig.put("a")
    with pytest.raises(ConnectionResetError):
        await away.send_one()
    (row,) = await rig.rows()
    assert (row.state, row.attempts) == ("pending", 0)
    assert await rig.send_all() == 1
    assert rig.posts["slack"].texts == ["a"]


class Away(Letters):
    """A composer whose database is away."""

    async def compose(
        self, _connection: AsyncConnection, _held: Claimed, *, now: datetime
    ) -> Message | SuppressReason:
        raise ConnectionResetError(f"at {now}")


# Failures


async def test_a_pause_is_kept_in_full_by_all_destinations_of_the_channel(
    engine: AsyncEngine,
) -> None:
    rig = queue_rig(engine)
    rig.posts["slack"].will(failing(Class.PAUSE, pause=0.8), to="one")
    for name in ("slack:one", "slack:two", "slack:three", "email:one"):
        await rig.put("a", name)
    await rig.until_quiet()
    first, *later = sorted(at for at, _ in rig.posts["slack"].asked)
    paused_at = next(at for at, to in rig.posts["slack"].asked if to == "one")
    before = [at for at, _ in rig.posts["slack"].asked if at < paused_at]
    assert [at for at in later if paused_at < at < paused_at + 0.8] == []
    assert len(before) + len([at for at in (first, *later) if at >= paused_at]) == 4
    (mail,) = rig.posts["email"].asked
    assert mail[0] < paused_at + 0.8


async def test_a_webhook_that_asks_for_a_pause_does_not_stop_the_others(
    engine: AsyncEngine,
) -> None:
    own = Patience(retry_first=QUICK.retry_first, retry_last=QUICK.retry_last, one_service=False)
    rig = queue_rig(engine, patience=own)
    rig.posts["webhook"].will(failing(Class.PAUSE, pause=3_600), to="one")
    await rig.put("a", "webhook:one")
    await rig.put("a", "webhook:two")
    assert await rig.send_all() == 2
    assert await rig.states() == {"a>webhook:one": "pending", "a>webhook:two": "sent"}


@pytest.mark.parametrize("mended", ["webhook:one", None])
async def test_neither_a_test_nor_a_restart_shortens_what_a_webhook_asked_for(
    engine: AsyncEngine, mended: str | None
) -> None:
    own = Patience(
        retry_first=QUICK.retry_first,
        retry_last=QUICK.retry_last,
        schedule=WEBHOOK_SCHEDULE,
        one_service=False,
    )
    rig = queue_rig(engine, patience=own)
    rig.posts["webhook"].will(failing(Class.PAUSE, pause=3_600), to="one")
    rig.posts["webhook"].will(failing(Class.TRANSIENT), to="two")
    await rig.put("a", "webhook:one")
    await rig.put("a", "webhook:two")
    assert await rig.send_all() == 2
    async with engine.begin() as connection:
        await rests.reopen(connection, mended)
    await rig.send_all()
    states = await rig.states()
    assert states["a>webhook:one"] == "pending"
    # What only failed is tried anew at once, if it was meant.
    assert states["a>webhook:two"] == ("sent" if mended is None else "pending")


async def test_a_trial_that_nobody_sends_rests_only_where_somebody_asked_for_it(
    engine: AsyncEngine,
) -> None:
    rig = queue_rig(engine)
    rig.posts["slack"].will(failing(Class.PAUSE, pause=3_600))
    await rig.put("a", "slack:one")
    await rig.send_all()
    async with engine.begin() as connection:
        ours = await trials.begin(connection, "slack:one", nonce=UUID(int=1), now=NOW)
        nobodys = await trials.begin(connection, "apprise:one", nonce=UUID(int=1), now=NOW)
    await rig.send_all()
    async with engine.connect() as connection:
        assert (await trials.ending(connection, ours)).resting_until is not None
        assert (await trials.ending(connection, nobodys)).resting_until is None


async def test_a_delivery_is_given_up_after_its_time_and_goes_on(engine: AsyncEngine) -> None:
    rig = queue_rig(engine, chain=["slack:anna", "email:lead"], patience=USUAL)
    rig.posts["slack"].will(*[failing(Class.TRANSIENT)] * 4)
    await rig.put("a")
    await rig.send_all()
    await rig.age(FOUR_HOURS_PAST)
    await rig.send_all()
    assert await rig.states() == {"a>slack:one": "dead", "a>slack:anna": "pending"}
    await rig.age(FOUR_HOURS_PAST)
    await rig.send_all()
    assert (await rig.states())["a>slack:anna"] == "dead"
    assert rig.posts["email"].texts == ["a"]
    last = (await rig.rows())[-1]
    assert (last.reason, last.tried) == ("undelivered", ["slack:one", "slack:anna"])
    assert rig.sender.metrics.dead.labels("slack")._value.get() == 2
    assert [why for _, why in rig.letters.ends] == [Class.TRANSIENT, Class.TRANSIENT]


async def test_the_last_of_the_chain_is_tried_for_three_days(engine: AsyncEngine) -> None:
    rig = queue_rig(engine, patience=USUAL)
    rig.posts["slack"].will(*[failing(Class.TRANSIENT)] * 9)
    await rig.put("a")
    for _ in range(3):
        await rig.send_all()
        await rig.age(timedelta(hours=23))  # 69 h
    await rig.send_all()
    assert set((await rig.states()).values()) == {"pending"}
    await rig.age(timedelta(hours=3, seconds=5))
    await rig.send_all()
    assert set((await rig.states()).values()) == {"dead"}


async def test_what_waits_behind_a_dead_channel_goes_on_in_time_though_nobody_tries_it(
    engine: AsyncEngine,
) -> None:
    rig = queue_rig(engine, chain=["email:lead"])
    rig.posts["slack"].will(*[failing(Class.INTEGRATION_BROKEN)] * 9)
    for name in ("a", "b", "c"):
        await rig.put(name, f"slack:{name}")
    await rig.put("hasty", "slack:a", urgent=True)
    await rig.send_all()
    await rig.age(timedelta(minutes=31))
    heard: list[None] = []
    assert await rig.sender.give_up_overdue(lambda: heard.append(None))
    assert heard, "a watchdog would take it for a standstill"
    states = await rig.states()
    assert [name for name in states if states[name] == "dead"] == ["hasty>slack:a"]
    await rig.age(timedelta(hours=4))
    await rig.sender.give_up_overdue()
    await rig.send_all()
    told = [message.text for message in rig.posts["email"].taken if message.to == "lead"]
    assert sorted(told) == ["a", "b", "c", "hasty"]
    assert not await rig.sender.give_up_overdue()


async def test_a_long_queue_alone_is_no_reason_to_tell_somebody_else(engine: AsyncEngine) -> None:
    rig = queue_rig(engine, chain=["email:lead"])
    await rig.put("a")
    await rig.put("b")
    await rig.sender.send_one()
    await rig.age(timedelta(days=2))
    assert not await rig.sender.give_up_overdue()
    await rig.send_all()
    assert rig.posts["slack"].texts == ["a", "b"]


async def test_a_broken_destination_is_left_at_once_told_of_and_tried_now_and_then(
    engine: AsyncEngine,
) -> None:
    rig = queue_rig(engine, chain=["email:lead"])
    slack = rig.posts["slack"]
    slack.will(*[failing(Class.DESTINATION_BROKEN)] * 2)
    await rig.put("a")
    await rig.put("b")
    await rig.send_all()
    assert len(slack.asked) == 1
    assert [row.destination for row in await rig.rows()][2:] == [
        "email:lead",
        "email:admin",
        "email:lead",
    ]
    assert (await rig.destination()).broken_since is not None
    await rig.age(timedelta(minutes=16))
    await rig.put("c")
    await rig.put("d")
    await rig.send_all()
    assert len(slack.asked) == 2  # One probe, and no second word to the admin.
    assert [row.kind for row in await rig.rows()].count("outage") == 1
    await rig.age(timedelta(minutes=16))
    await rig.put("e")
    await rig.put("f")
    await rig.send_all()
    assert slack.texts == ["e", "f"]
    assert (await rig.destination()).broken_since is None


async def test_a_broken_integration_stops_its_whole_channel_but_for_one_probe(
    engine: AsyncEngine,
) -> None:
    rig = queue_rig(engine)
    slack = rig.posts["slack"]
    slack.will(*[failing(Class.INTEGRATION_BROKEN)] * 2)
    for number in range(4):
        await rig.put(str(number), f"slack:{number}")
    await rig.send_all()
    assert len(slack.asked) == 1
    await rig.age(MINUTE)
    slack.will(Slow(seconds=0.2))
    await asyncio.gather(*[rig.sender.send_one() for _ in range(4)])
    assert len(slack.asked) == 2
    way = await rig.channel()
    assert way is not None
    assert way.failures == 2
    await rig.age(MINUTE)  # Two minutes are asked for: 1 min x 2.
    assert not await rig.sender.send_one()
    await rig.age(MINUTE)
    probes = [asyncio.create_task(rig.sender.send_one()) for _ in range(4)]
    await asyncio.gather(*probes)
    assert len(slack.asked) == 3
    await rig.send_all()
    assert len(slack.taken) == 4
    told = [row for row in await rig.rows() if row.kind == "outage"]
    assert [row.subject["broken"] for row in told] == ["slack"]


async def test_five_failures_open_the_breaker_of_one_destination(engine: AsyncEngine) -> None:
    rig = queue_rig(engine, patience=USUAL)
    rig.posts["slack"].will(*[failing(Class.TRANSIENT)] * 6, to="one")
    await rig.put("a")
    for rest in (5, 10, 20, 40):  # s: 5 x 2^n, the jitter being 1
        assert await rig.send_all() == 1
        await rig.age(timedelta(seconds=rest))
    assert await rig.send_all() == 1
    await rig.put("b")
    await rig.put("c", "slack:two")
    assert await rig.send_all() == 1
    await rig.age(timedelta(seconds=59))
    assert await rig.send_all() == 0
    await rig.age(timedelta(seconds=21))  # Full jitter of the fifth: 5 x 2^4 = 80 s.
    assert await rig.send_all() == 1
    assert (await rig.destination()).failures == 6


async def test_an_ambiguous_message_is_sent_again_by_default(engine: AsyncEngine) -> None:
    rig = queue_rig(engine)
    rig.posts["slack"].will(failing(Class.AMBIGUOUS))
    await rig.put("a")
    await rig.until_quiet()
    (row,) = await rig.rows()
    assert (row.state, row.ambiguous) == ("sent", 1)


async def test_an_ambiguous_message_is_held_on_demand_until_it_is_sent_again(
    engine: AsyncEngine,
) -> None:
    rig = queue_rig(engine, patience=HOLD, chain=["email:lead"])
    rig.posts["slack"].will(failing(Class.AMBIGUOUS))
    await rig.put("a")
    await rig.put("b")
    await rig.until_quiet()
    assert await rig.states() == {"a>slack:one": "held", "b>slack:one": "sent"}
    assert rig.letters.ends == [("a", Class.AMBIGUOUS)]
    (row, _) = await rig.rows()
    async with engine.begin() as connection:
        assert await queue.again(connection, row.id)
        assert not await queue.again(connection, row.id)
    await rig.until_quiet()
    assert rig.posts["slack"].texts == ["b", "a"]


async def test_an_edit_is_never_held_and_never_goes_elsewhere(engine: AsyncEngine) -> None:
    rig = queue_rig(engine, patience=HOLD, chain=["email:lead"])
    rig.posts["slack"].will(failing(Class.AMBIGUOUS), failing(Class.DESTINATION_BROKEN))
    await rig.put("a", kind=DeliveryKind.UPDATE)
    await rig.until_quiet()
    assert (await rig.states())["a>slack:one"] == "dead"
    assert [message.to for message in rig.posts["email"].taken] == ["admin"]


async def test_a_lost_thread_means_the_same_message_in_a_new_one(engine: AsyncEngine) -> None:
    rig = queue_rig(engine)
    rig.posts["slack"].will(failing(Class.THREAD_LOST))
    await rig.put("a", kind=DeliveryKind.UPDATE)
    await rig.send_all()
    (message,) = rig.posts["slack"].taken
    assert (message.text, message.thread, message.edit) == ("a", None, False)


async def test_a_refused_form_is_sent_as_plain_text_then_goes_on(engine: AsyncEngine) -> None:
    rig = queue_rig(engine, chain=["email:lead"])
    rig.posts["slack"].will(*[failing(Class.BAD_MESSAGE)] * 2)
    await rig.put("a")
    await rig.put("b")
    await rig.send_all()
    assert rig.posts["slack"].texts == ["b"]
    assert [message.text for message in rig.posts["email"].taken] == ["a"]


async def test_a_webhook_is_switched_off_at_the_end_of_its_schedule(engine: AsyncEngine) -> None:
    own = Patience(
        retry_first=QUICK.retry_first,
        retry_last=QUICK.retry_last,
        schedule=(timedelta(seconds=10), timedelta(hours=9)),
        one_service=False,
    )
    rig = queue_rig(engine, patience=own)
    rig.posts["webhook"].will(*[failing(Class.TRANSIENT)] * 3)
    await rig.put("a", "webhook:one")
    assert await rig.send_all() == 1
    await rig.age(timedelta(seconds=10))
    assert await rig.send_all() == 0  # 10 s and a tenth.
    await rig.age(timedelta(seconds=1))
    assert await rig.send_all() == 1
    await rig.age(timedelta(hours=9.9))
    await rig.send_all()
    assert await rig.states() == {"a>webhook:one": "dead", "None>email:admin": "sent"}
    await rig.age(timedelta(days=30))
    await rig.put("b", "webhook:one")
    await rig.send_all()
    assert (await rig.states())["b>webhook:one"] == "dead"
    assert len(rig.posts["webhook"].asked) == 3
    async with engine.begin() as connection:
        await rests.reopen(connection, "webhook:one")
    await rig.put("c", "webhook:one")
    await rig.send_all()
    assert rig.posts["webhook"].texts == ["c"]


async def test_a_newer_message_of_the_group_is_enough(engine: AsyncEngine) -> None:
    """What was given up is not sent again beside one that says all of it."""
    rig = queue_rig(engine, patience=HOLD)
    rig.posts["slack"].will(failing(Class.AMBIGUOUS))
    await rig.put("a", group_key="g")
    await rig.send_all()
    await rig.put("b", group_key="g", due_at=NOW + timedelta(days=3_650))
    (held, _) = await rig.rows()
    async with engine.begin() as connection:
        assert not await queue.again(connection, held.id)


async def _die_after_claim(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await queue.announce(connection)
        held = await queue.claim(connection, ["slack"], lease=timedelta(seconds=30))
    assert held is not None


# What operators see


async def test_gauges_tell_what_waits_what_is_late_and_what_is_broken(engine: AsyncEngine) -> None:
    rig = queue_rig(engine)
    rig.posts["slack"].will(failing(Class.INTEGRATION_BROKEN))
    rig.posts["email"].will(failing(Class.DESTINATION_BROKEN))
    await rig.put("a", "slack:one")
    await rig.put("b", "email:one")
    await rig.put("later", "webhook:one", due_at=NOW + timedelta(days=3_650))
    await rig.sender.send_one()
    await rig.sender.send_one()
    await gauges.measure_once(engine, rig.sender.metrics, lambda: NOW + 2 * MINUTE)
    metrics = rig.sender.metrics
    waiting = {name: metrics.pending.labels(name)._value.get() for name in ("slack", "webhook")}
    assert waiting == {"slack": 1, "webhook": 1}
    assert metrics.integration_broken.labels("slack")._value.get() == 1
    assert metrics.integration_broken.labels("email")._value.get() == 0
    assert metrics.broken.labels("email")._value.get() == 1
    (late,) = [one for family in metrics.oldest_due.collect() for one in family.samples]
    assert late.value == 120  # Two minutes after what is due; what is planned is not late.


# How long it took


async def test_a_message_took_as_long_as_since_the_arrival_of_its_cause(
    engine: AsyncEngine,
) -> None:
    rig = queue_rig(engine)
    received_at = datetime.now(UTC) - timedelta(seconds=20)
    await rig.put("a", due_at=datetime.now(UTC), received_at=received_at)
    await rig.put("b", due_at=datetime.now(UTC))  # nobody knows what caused it
    await rig.send_all()
    registry = rig.sender.metrics.common.registry
    name, labels = "perennial_event_to_delivery_seconds", {"channel": "slack"}
    assert registry.get_sample_value(f"{name}_count", labels) == 1
    took = registry.get_sample_value(f"{name}_sum", labels)
    assert took is not None
    assert 20 <= took < 60
