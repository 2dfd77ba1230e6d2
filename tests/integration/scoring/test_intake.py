"""Intake on real PostgreSQL: an event counts once, whatever is delivered twice or comes broken."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.domain import activity
from services.scoring.intake import Intake, Unreadable
from services.scoring.tables import (
    account_day,
    account_versions,
    accounts,
    dirty,
    log_positions,
    outbox,
)
from shared.log import TopicPartition
from shared.log.positions import Claim, Fenced
from shared.messages import (
    ACCOUNTS,
    DIRECTORY_CHANGES,
    REJECTED,
    USAGE_EVENTS,
    AccountFields,
    PlacedBy,
)
from tests.factories import NOW, batch_of, directory_change, usage_event
from tests.integration.scoring.conftest import Time

P0 = TopicPartition(USAGE_EVENTS, 0)
D0 = TopicPartition(DIRECTORY_CHANGES, 0)

Days = dict[tuple[str, date], tuple[int, int, int, tuple[int, ...], tuple[str, ...]]]


async def stored_days(engine: AsyncEngine) -> Days:
    async with engine.connect() as connection:
        rows = await connection.execute(select(account_day))
        return {
            (row.account_id, row.day): (
                row.events,
                row.milliseconds,
                row.userless,
                tuple(row.users),
                tuple(row.features),
            )
            for row in rows
        }


async def test_an_event_is_counted_in_its_own_day(intake: Intake, engine: AsyncEngine) -> None:
    late = usage_event(id="late", occurred_at=NOW - timedelta(days=20))
    held = await intake.claim(P0)
    await intake.take_in(batch_of([usage_event(), late]), held)
    key = activity.user_key("u1:0123456789abcdef0123456789abcdef")
    assert await stored_days(engine) == {
        ("acme", date(2026, 6, 14)): (1, 0, 0, (key,), ()),
        ("acme", date(2026, 5, 26)): (1, 0, 0, (key,), ()),
    }


async def test_the_same_id_counts_once_across_batches_and_within_one(
    intake: Intake, engine: AsyncEngine
) -> None:
    held = await intake.claim(P0)
    first = batch_of([usage_event(), usage_event()])
    await intake.take_in(first, held)
    await intake.take_in(batch_of([usage_event()], first=2), held.after(first))
    days = await stored_days(engine)
    assert [row[0] for row in days.values()] == [1]


async def test_another_source_or_account_is_another_event(
    intake: Intake, engine: AsyncEngine
) -> None:
    held = await intake.claim(P0)
    events = [usage_event(), usage_event(source="mobile"), usage_event(account="globex")]
    await intake.take_in(batch_of(events), held)
    days = await stored_days(engine)
    assert {account: row[0] for (account, _), row in days.items()} == {"acme": 2, "globex": 1}


async def test_an_event_that_was_placed_twice_counts_in_the_account_that_came_first(
    intake: Intake, engine: AsyncEngine
) -> None:
    """After a crash more may be known of its user than before it."""
    first = usage_event(placed_by=PlacedBy.ONLY_ACCOUNT)
    again = usage_event(account="globex", placed_by=PlacedBy.LAST_ACTIVITY)
    for partition, event in ((P0, first), (TopicPartition(USAGE_EVENTS, 1), again)):
        held = await intake.claim(partition)
        await intake.take_in(batch_of([event, event], partition=partition), held)
    days = await stored_days(engine)
    assert {account: row[0] for (account, _), row in days.items()} == {"acme": 1}


async def test_the_time_that_an_event_waited_to_be_placed_is_no_delay_of_ours(
    intake: Intake, engine: AsyncEngine, time: Time
) -> None:
    held = await intake.claim(P0)
    waited = usage_event(received_at=NOW - timedelta(hours=20), placed_by=PlacedBy.ONLY_ACCOUNT)
    time.now = NOW + timedelta(seconds=3)
    await intake.take_in(batch_of([waited]), held)  # On the topic since NOW.
    async with engine.connect() as connection:
        assert list(await connection.scalars(select(dirty.c.received_at))) == [NOW]
        since = await connection.scalars(select(account_day.c.first_received_at))
        assert list(since) == [waited.received_at]


async def test_a_retry_over_midnight_counts_once_though_its_corrected_day_moved(
    intake: Intake, engine: AsyncEngine
) -> None:
    stated = datetime(2026, 6, 14, 23, 59, 58, tzinfo=UTC)
    first = usage_event(client_at=stated, occurred_at=stated)
    retry = usage_event(client_at=stated, occurred_at=stated + timedelta(seconds=4))
    held = await intake.claim(P0)
    await intake.take_in(batch_of([first, retry]), held)
    assert sum(row[0] for row in (await stored_days(engine)).values()) == 1


async def test_a_stale_position_is_fenced_and_leaves_nothing(
    intake: Intake, engine: AsyncEngine
) -> None:
    old = await intake.claim(P0)
    await intake.claim(P0)  # another member takes the partition over
    with pytest.raises(Fenced):
        await intake.take_in(batch_of([usage_event()]), old)
    with pytest.raises(Fenced):
        await intake.take_in(batch_of([usage_event()], first=5), Claim(next_offset=5, epoch=2))
    assert await stored_days(engine) == {}


async def test_what_cannot_be_read_is_set_aside_and_the_rest_is_counted(
    intake: Intake, engine: AsyncEngine
) -> None:
    held = await intake.claim(P0)
    batch = batch_of([usage_event(), b"{nonsense", b'{"v":1}', usage_event(id="e-2")])
    await intake.take_in(batch, held)
    assert sum(row[0] for row in (await stored_days(engine)).values()) == 2
    async with engine.connect() as connection:
        rows = (await connection.execute(select(outbox.c.topic, outbox.c.value))).all()
        position = await connection.scalar(select(log_positions.c.next_offset))
    assert [(row.topic, row.value) for row in rows] == [
        (REJECTED, b"{nonsense"),
        (REJECTED, b'{"v":1}'),
    ]
    assert position == 4


async def test_a_large_batch_without_one_readable_record_stops_the_consumer(
    intake: Intake, engine: AsyncEngine
) -> None:
    held = await intake.claim(P0)
    with pytest.raises(Unreadable):
        await intake.take_in(batch_of([b"x"] * 101), held)
    async with engine.connect() as connection:
        assert await connection.scalar(select(log_positions.c.next_offset)) == 0


async def test_a_failed_payment_wakes_no_silent_account(
    intake: Intake, engine: AsyncEngine
) -> None:
    held = await intake.claim(P0)
    await intake.take_in(batch_of([usage_event(type="payment_failed")]), held)
    assert await stored_days(engine) == {}
    async with engine.connect() as connection:
        assert (await connection.execute(select(dirty.c.account_id))).scalars().all() == ["acme"]


async def test_directory_changes_merge_in_order_and_go_out_as_whole_records(
    intake: Intake, engine: AsyncEngine
) -> None:
    held = await intake.claim(D0)
    changes = [
        directory_change(),
        directory_change(fields=AccountFields(plan="pro")),
        directory_change(fields=AccountFields(), cleared=("seats",)),
        directory_change(account="globex", op="put", fields=AccountFields(name="Globex")),
    ]
    await intake.take_in(batch_of(changes, partition=D0), held)
    async with engine.connect() as connection:
        stored = (
            await connection.execute(
                select(accounts.c.account_id, accounts.c.fields).order_by(accounts.c.account_id)
            )
        ).all()
        published = (await connection.execute(select(outbox.c.topic, outbox.c.key))).all()
    assert [tuple(row) for row in stored] == [
        ("acme", {"name": "Acme", "plan": "pro"}),
        ("globex", {"name": "Globex"}),
    ]
    assert [tuple(row) for row in published] == [(ACCOUNTS, b"acme"), (ACCOUNTS, b"globex")]


async def test_a_repeated_directory_change_publishes_nothing_new(
    intake: Intake, engine: AsyncEngine
) -> None:
    held = await intake.claim(D0)
    first = batch_of([directory_change()], partition=D0)
    await intake.take_in(first, held)
    await intake.take_in(batch_of([directory_change()], first=1, partition=D0), held.after(first))
    async with engine.connect() as connection:
        assert len((await connection.execute(select(outbox.c.id))).all()) == 1


async def versions(engine: AsyncEngine) -> list[tuple[str, datetime, str | None, str | None]]:
    """Account, since, name and owner, in order."""
    known = account_versions.c
    async with engine.connect() as connection:
        rows = await connection.execute(
            select(known.account_id, known.since, known.name, known.owner).order_by(
                known.account_id, known.since
            )
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]


async def test_what_the_release_before_has_changed_is_noted_when_it_is_told_again(
    intake: Intake, engine: AsyncEngine
) -> None:
    second = timedelta(seconds=1)
    known = AccountFields(name="Acme", owner="ada")
    held = await intake.claim(D0)
    first = batch_of([directory_change(op="put", fields=known)], partition=D0)
    await intake.take_in(first, held)
    async with engine.begin() as connection:
        await connection.execute(
            update(accounts).values(fields={"name": "Acme", "owner": "bob"}, updated_at=NOW)
        )
    again = directory_change(
        op="put", received_at=NOW + second, fields=AccountFields(name="Acme", owner="bob")
    )
    twice = [again, directory_change(received_at=NOW + 2 * second, fields=AccountFields())]
    await intake.take_in(batch_of(twice, first=1, partition=D0), held.after(first))
    assert [(since, owner) for _, since, _, owner in await versions(engine)] == [
        (NOW, "ada"),
        (NOW + second, "bob"),
    ]


async def test_each_change_of_an_account_is_noted_with_when_it_came(
    intake: Intake, engine: AsyncEngine
) -> None:
    """What was known then stays known, whatever is learnt later and in whatever order."""
    second, moment = timedelta(seconds=1), timedelta(microseconds=1)
    changes = [
        directory_change(),
        directory_change(received_at=NOW + second, fields=AccountFields(owner="ada")),
        directory_change(received_at=NOW + second, fields=AccountFields(owner="bob")),
        directory_change(received_at=NOW + 2 * second, fields=AccountFields(timezone="UTC")),
        directory_change(account="globex", fields=AccountFields()),
    ]
    first = batch_of(changes, partition=D0)
    held = await intake.claim(D0)
    await intake.take_in(first, held)
    late = batch_of(
        [directory_change(received_at=NOW, fields=AccountFields(owner="cleo"))],
        first=5,
        partition=D0,
    )
    await intake.take_in(late, held.after(first))
    expected = [
        ("acme", NOW, "Acme", None),
        ("acme", NOW + second, "Acme", "bob"),
        ("acme", NOW + second + moment, "Acme", "cleo"),
        ("globex", NOW, None, None),
    ]
    assert await versions(engine) == expected

    # All of it once more, as after a loss of the position.
    await intake.take_in(
        batch_of([*changes, *(directory_change(fields=AccountFields(owner="cleo")),)], first=6,
                 partition=D0),
        held.after(late),
    )  # fmt: skip
    assert await versions(engine) == expected


async def test_an_account_that_was_erased_begins_anew(intake: Intake, engine: AsyncEngine) -> None:
    second = timedelta(seconds=1)
    erase = directory_change(op="erase", received_at=NOW + second, fields=AccountFields())
    back = directory_change(received_at=NOW + 2 * second, fields=AccountFields(name="Acme again"))
    held = await intake.claim(D0)
    first = batch_of([directory_change(), directory_change(account="globex")], partition=D0)
    await intake.take_in(first, held)
    changes = [directory_change(fields=AccountFields(owner="ada")), erase, back]
    await intake.take_in(batch_of(changes, first=2, partition=D0), held.after(first))
    assert await versions(engine) == [
        ("acme", NOW + 2 * second, "Acme again", None),
        ("globex", NOW, "Acme", None),
    ]


async def marked_by(intake: Intake, engine: AsyncEngine, **changes: Any) -> bool:
    """Whether an event that comes now marks its account."""
    held = await intake.claim(P0)
    await intake.take_in(batch_of([usage_event(**changes)], first=held.next_offset), held)
    async with engine.begin() as connection:
        found = (await connection.execute(delete(dirty).returning(dirty.c.account_id))).all()
    return bool(found)


async def test_only_what_a_look_would_see_marks_an_account(
    intake: Intake, engine: AsyncEngine, time: Time
) -> None:
    """Indicators are of complete days; of the running one only that it is an active day."""
    now = {"occurred_at": NOW, "client_at": NOW}
    assert await marked_by(intake, engine, id="first of the day", **now)
    assert not await marked_by(intake, engine, id="second", **now)
    assert not await marked_by(intake, engine, id="of nobody's use", type="identify", **now)
    assert await marked_by(intake, engine, id="another account", account="globex", **now)
    assert await marked_by(intake, engine, id="a signal", type="payment_failed", **now)
    assert await marked_by(intake, engine, id="late", occurred_at=NOW - timedelta(days=2))
    assert await marked_by(intake, engine, id="history", backfill=True, **now)

    time.now = NOW.replace(hour=23, minute=51)
    assert await marked_by(intake, engine, id="nearly midnight", **now)
    time.now = NOW + timedelta(days=1)
    tomorrow = {"occurred_at": time.now, "client_at": time.now}
    assert await marked_by(intake, engine, id="first of the next", **tomorrow)
    assert not await marked_by(intake, engine, id="second of the next", **tomorrow)
