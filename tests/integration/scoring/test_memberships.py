"""Who belongs to which account: learnt in intake's transactions, whatever came before or twice."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import membership_retention
from services.scoring import memberships as learning
from services.scoring.domain.activity import user_key
from services.scoring.intake import Intake
from services.scoring.tables import (
    erased_users,
    group_calls,
    memberships,
    placing_hours,
    waiting_counts,
    waiting_events,
)
from shared import grants
from shared.log import TopicPartition
from shared.log.positions import Claim
from shared.messages import (
    DIRECTORY_CHANGES,
    USAGE_EVENTS,
    AccountFields,
    DirectoryChange,
    PlacedBy,
    UsageEvent,
)
from tests.factories import NOW, batch_of, directory_change, usage_event
from tests.integration.scoring.conftest import Time

P0 = TopicPartition(USAGE_EVENTS, 0)
P1 = TopicPartition(USAGE_EVENTS, 1)
D0 = TopicPartition(DIRECTORY_CHANGES, 0)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
ADA = user_key("u1:ada")
MORNING = datetime(2026, 6, 14, 9, 0, tzinfo=UTC)

ALL = select(memberships)

Dates = tuple[date | None, date | None, date | None, date]


class Feed:
    """The next records of some partitions, which stay with one owner."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._held: dict[TopicPartition, Claim] = {}

    async def __call__(
        self, *messages: UsageEvent | DirectoryChange, partition: TopicPartition = P0
    ) -> None:
        held = self._held.get(partition) or await self._intake.claim(partition)
        batch = batch_of(messages, first=held.next_offset, partition=partition)
        await self._intake.take_in(batch, held)
        self._held[partition] = held.after(batch)


@pytest.fixture(params=["many", "few"])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all rows of a transaction were enough to ask first who is known, or none."""
    monkeypatch.setattr(learning, "_MANY", 1 if request.param == "many" else 1_000)


@pytest.fixture
def feed(intake: Intake) -> Feed:
    return Feed(intake)


def ada(number: int, at: datetime = MORNING, **changes: Any) -> UsageEvent:
    return usage_event(
        **{"id": f"e-{number}", "user": "u1:ada", "occurred_at": at, "client_at": at, **changes}
    )


async def known(engine: AsyncEngine) -> dict[tuple[int, str], Dates]:
    async with engine.connect() as connection:
        return {
            (row.user_key, row.account_id): (
                row.grouped_on,
                row.identified_on,
                row.active_on,
                row.last_on,
            )
            for row in await connection.execute(select(memberships))
        }


async def last_active(engine: AsyncEngine) -> dict[str, datetime | None]:
    async with engine.connect() as connection:
        rows = await connection.execute(select(memberships))
        return {row.account_id: row.last_active_at for row in rows}


async def calls(engine: AsyncEngine) -> Sequence[tuple[int, datetime, str]]:
    async with engine.connect() as connection:
        rows = await connection.execute(select(group_calls).order_by(group_calls.c.stated_at))
        return [(row[0], row[1], row[2]) for row in rows]


@pytest.mark.usefixtures("rows")
async def test_the_first_day_of_each_kind_and_the_last_of_all_are_kept(
    feed: Feed, engine: AsyncEngine, time: Time
) -> None:
    await feed(
        ada(1, MORNING - DAY, type="group"),
        ada(2, MORNING - 2 * DAY, type="identify"),
        ada(3, MORNING - 3 * DAY, type="payment_failed"),
        ada(4, MORNING, type="group", account="globex"),
    )
    await feed(ada(5, MORNING - 5 * DAY, type="group"), ada(6, MORNING + DAY, type="identify"))
    assert await known(engine) == {
        (ADA, "acme"): (
            date(2026, 6, 9),
            date(2026, 6, 12),
            date(2026, 6, 11),
            date(2026, 6, 15),
        ),
        (ADA, "globex"): (date(2026, 6, 14), None, None, date(2026, 6, 14)),
    }
    # Nobody has used the product.
    assert await last_active(engine) == {"acme": None, "globex": None}
    assert await calls(engine) == [
        (ADA, MORNING - 5 * DAY, "acme"),
        (ADA, MORNING - DAY, "acme"),
        (ADA, MORNING, "globex"),
    ]
    async with engine.connect() as connection:
        assert set(await connection.scalars(select(memberships.c.learnt_at))) == {time.now}


@pytest.mark.usefixtures("rows")
async def test_days_of_one_batch_are_one_row(feed: Feed, engine: AsyncEngine) -> None:
    await feed(
        ada(1),
        ada(2, MORNING - 3 * DAY),
        ada(3, MORNING + DAY),
        ada(4, MORNING - 5 * DAY, type="payment_failed"),
        ada(5, MORNING + 2 * DAY, type="identify"),
        ada(6, user="u1:bob"),
        ada(7, MORNING - DAY, user="u1:bob"),
    )
    assert await known(engine) == {
        # Paid on the 9th, active from the 11th to the 15th, identified on the 16th.
        (ADA, "acme"): (None, date(2026, 6, 16), date(2026, 6, 9), date(2026, 6, 16)),
        (user_key("u1:bob"), "acme"): (None, None, date(2026, 6, 13), date(2026, 6, 14)),
    }
    async with engine.connect() as connection:
        moments = {row.user_key: row.last_active_at for row in await connection.execute(ALL)}
    assert moments == {ADA: MORNING + DAY, user_key("u1:bob"): MORNING}


async def test_what_another_transaction_adds_meanwhile_is_added_to(
    feed: Feed, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "_MANY", 1)
    early = MORNING - DAY
    async with engine.begin() as other:
        await other.execute(
            insert(memberships).values(
                user_key=ADA,
                account_id="acme",
                active_on=early.date(),
                last_on=early.date(),
                last_active_at=early,
                learnt_at=NOW,
            )
        )
        feeding = asyncio.create_task(feed(ada(1), ada(2, user="u1:bob")))
        async with asyncio.timeout(20):
            while not await other.scalar(_WAITS):  # noqa: ASYNC110 - a lock tells no event
                await asyncio.sleep(0.01)
    await feeding
    assert await known(engine) == {
        (ADA, "acme"): (None, None, early.date(), MORNING.date()),
        (user_key("u1:bob"), "acme"): (None, None, MORNING.date(), MORNING.date()),
    }


_WAITS = text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
    " AND transactionid = pg_current_xact_id()::xid)"
)


async def test_when_a_user_was_first_heard_of_stays(
    feed: Feed, engine: AsyncEngine, time: Time
) -> None:
    await feed(ada(1))
    time.now += DAY
    await feed(ada(2, MORNING + DAY), ada(3, MORNING - DAY))
    async with engine.connect() as connection:
        assert list(await connection.scalars(select(memberships.c.learnt_at))) == [NOW]


async def test_what_was_placed_and_what_names_nobody_teaches_nothing(
    feed: Feed, engine: AsyncEngine
) -> None:
    placed = PlacedBy.LAST_ACTIVITY
    await feed(ada(1, placed_by=placed), ada(2, type="group", placed_by=placed), ada(3, user=None))
    assert (await known(engine), await calls(engine)) == ({}, [])


async def test_of_one_account_activity_is_written_once_in_a_quarter_of_an_hour(
    feed: Feed, engine: AsyncEngine
) -> None:
    await feed(ada(1))
    await feed(ada(2, MORNING + 14 * MINUTE))
    assert await last_active(engine) == {"acme": MORNING}
    await feed(ada(3, MORNING + 15 * MINUTE), ada(4, MORNING + 17 * MINUTE))
    assert await last_active(engine) == {"acme": MORNING + 17 * MINUTE}


async def test_a_known_pair_costs_no_statement(feed: Feed, engine: AsyncEngine) -> None:
    """Shown by a row that is deleted behind the process's back, and is not missed."""
    first = [ada(1), ada(2, type="identify"), ada(3, type="payment_failed")]
    await feed(*first)
    async with engine.begin() as connection:
        await connection.execute(delete(memberships))
    again = [ada(4, MORNING + 5 * MINUTE), ada(5, type="identify"), ada(6, type="payment_failed")]
    await feed(*again)
    assert await known(engine) == {}


@pytest.mark.usefixtures("rows")
async def test_an_earlier_day_than_the_known_one_is_written(
    feed: Feed, engine: AsyncEngine
) -> None:
    await feed(ada(1))
    await feed(ada(2, MORNING - DAY))
    assert await known(engine) == {
        (ADA, "acme"): (None, None, date(2026, 6, 13), date(2026, 6, 14)),
    }
    assert await last_active(engine) == {"acme": MORNING}


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("at_once", [True, False], ids=["in one batch", "one after the other"])
async def test_of_several_accounts_the_last_activity_is_exact(
    feed: Feed, engine: AsyncEngine, *, at_once: bool
) -> None:
    first, second = ada(1), ada(2, account="globex")
    if at_once:
        await feed(first, second)
    else:
        await feed(first)
        await feed(second, partition=P1)
    await feed(ada(3, MORNING + 7 * MINUTE))
    await feed(ada(4, MORNING + 3 * MINUTE, account="globex"), partition=P1)
    assert await last_active(engine) == {
        "acme": MORNING + 7 * MINUTE,
        "globex": MORNING + 3 * MINUTE,
    }


@pytest.mark.usefixtures("rows")
async def test_a_new_owner_asks_the_tables_again(
    intake: Intake, feed: Feed, engine: AsyncEngine
) -> None:
    await feed(ada(1))
    async with engine.begin() as connection:  # An older copy of the database, say.
        await connection.execute(delete(memberships))
    held = await intake.claim(P0)
    await intake.take_in(batch_of([ada(2, MORNING + MINUTE)], first=held.next_offset), held)
    assert await known(engine) == {(ADA, "acme"): (None, None, date(2026, 6, 14), MORNING.date())}


async def test_what_is_remembered_is_bounded_and_its_loss_costs_a_statement_only(
    feed: Feed, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "_REMEMBERED", 2)
    await feed(*(ada(number, user=f"u1:{number}") for number in range(3)))
    async with engine.begin() as connection:
        await connection.execute(delete(memberships))
    await feed(*(ada(number + 3, user=f"u1:{number}") for number in range(3)))
    assert len(await known(engine)) == 3


@pytest.mark.usefixtures("rows")
async def test_a_batch_that_fails_leaves_nothing_and_nothing_remembered(
    intake: Intake, feed: Feed, engine: AsyncEngine, owner: AsyncEngine
) -> None:
    await feed(ada(1, account="globex"))
    held, batch = Claim(next_offset=1, epoch=1), batch_of([ada(2)], first=1)
    async with owner.begin() as connection:  # What comes after the memberships cannot be written.
        await connection.execute(text(f"REVOKE INSERT ON scoring.dirty FROM {grants.SCORING}"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await intake.take_in(batch, held)
    assert list(await known(engine)) == [(ADA, "globex")]
    async with owner.begin() as connection:
        await connection.execute(text(f"GRANT INSERT ON scoring.dirty TO {grants.SCORING}"))
    await intake.take_in(batch, held)
    assert set(await known(engine)) == {(ADA, "globex"), (ADA, "acme")}


async def test_an_erased_account_is_learnt_again_from_what_comes_later_only(
    feed: Feed, engine: AsyncEngine
) -> None:
    """Though this process remembers that it has stored them."""
    old = NOW - timedelta(seconds=1)
    await feed(ada(1, received_at=old), ada(2, type="group", received_at=old))
    await feed(directory_change(op="erase", received_at=NOW, fields=AccountFields()), partition=D0)
    assert (await known(engine), await calls(engine)) == ({}, [])
    await feed(ada(3, MORNING - DAY, received_at=old))
    assert await known(engine) == {}
    await feed(ada(4, MORNING + MINUTE, received_at=NOW + timedelta(seconds=1)))
    assert await known(engine) == {(ADA, "acme"): (None, None, MORNING.date(), MORNING.date())}


@pytest.mark.parametrize(("account", "kept"), [("acme", {"globex"}), ("", set[str]())])
async def test_an_erased_person_is_not_learnt_again(
    feed: Feed, engine: AsyncEngine, account: str, kept: set[str]
) -> None:
    def both(first: int, **changes: Any) -> list[UsageEvent]:
        return [
            ada(first + number, account=name, type=kind, **changes)
            for number, (name, kind) in enumerate(
                (name, kind) for name in ("acme", "globex") for kind in ("login", "group")
            )
        ]

    await feed(*both(1))
    erase = directory_change(account=account, op="erase", user="u1:ada", fields=AccountFields())
    await feed(erase, partition=D0)
    for first, later in ((1, NOW), (10, NOW + DAY)):
        await feed(*both(first, received_at=later))
        assert {name for _, name in await known(engine)} == kept
        assert {name for _, _, name in await calls(engine)} == kept


_WAITING = """
INSERT INTO scoring.waiting_events
    (partition, user_key, event_day, key, log_offset, waiting_since, source, value, headers)
SELECT 3, :user, '2026-06-14', CAST(n::text AS bytea), n, :at, 'app', '', ''
FROM generate_series(1, 2) AS n
"""


@pytest.mark.parametrize(("account", "left"), [("acme", 4), ("", 2)], ids=["in one", "in all"])
async def test_of_a_person_erased_everywhere_nothing_waits_any_more(
    feed: Feed, engine: AsyncEngine, time: Time, account: str, left: int
) -> None:
    """In one account only, the others may still be known: it may be theirs."""
    async with engine.begin() as connection:
        for user in (ADA, 7):
            await connection.execute(text(_WAITING), {"user": user, "at": NOW})
        await connection.execute(
            text("INSERT INTO scoring.waiting_counts (partition, events) VALUES (3, 4), (5, 9)")
        )
    await feed(
        directory_change(account=account, op="erase", user="u1:ada", fields=AccountFields()),
        partition=D0,
    )
    async with engine.connect() as connection:
        waiting = list(await connection.scalars(select(waiting_events.c.user_key)))
        rows = await connection.execute(select(waiting_counts))
        counts = {row.partition: row.events for row in rows}
        rows = await connection.execute(select(placing_hours))
        hours = [(row.hour, row.source, row.partition, row.erased) for row in rows]
        told = await connection.scalar(select(erased_users.c.counts))
    assert (len(waiting), counts) == (left, {3: left, 5: 9})
    gone = 4 - left
    assert waiting.count(7) == 2
    assert hours == ([(time.now, "app", 3, gone)] if gone else [])
    assert told == ({"waiting_events": gone} if gone else {})


async def test_what_was_long_ago_is_forgotten_but_each_users_last_group_call(
    feed: Feed, engine: AsyncEngine
) -> None:
    bob = {"user": "u1:bob", "account": "globex"}
    await feed(
        ada(1, NOW - 500 * DAY, type="group", account="left long ago"),
        ada(2, NOW - 70 * DAY, type="group"),
        ada(3, NOW - 65 * DAY, type="group", account="globex"),
        ada(4, NOW - 5 * DAY, type="group"),
        ada(5, NOW - 70 * DAY, type="group", **bob),
        ada(6, NOW - 400 * DAY, account="a year ago"),
    )
    async with engine.begin() as connection:
        for ago in (91, 89):
            await connection.execute(
                insert(placing_hours).values(hour=NOW - ago * DAY, source="app", partition=1)
            )

    async def forget() -> Mapping[str, int]:
        return await membership_retention.forget(
            engine, NOW, activity=400 * DAY, group_calls=60 * DAY
        )

    # Of Ada: the account of 500 days ago has gone with its call by the time of the second walk.
    assert await forget() == {"group_calls": 2, "memberships": 1, "placing_hours": 1}
    assert [(at, account) for _, at, account in await calls(engine)] == [
        (NOW - 70 * DAY, "globex"),
        (NOW - 65 * DAY, "globex"),
        (NOW - 5 * DAY, "acme"),
    ]
    assert {name for _, name in await known(engine)} == {"acme", "globex", "a year ago"}
    assert await forget() == {}


async def test_the_only_group_call_goes_with_its_membership(
    feed: Feed, engine: AsyncEngine
) -> None:
    await feed(ada(1, NOW - 401 * DAY, type="group"))
    await membership_retention.forget(engine, NOW, activity=None, group_calls=60 * DAY)
    assert len(await calls(engine)) == 1
    await membership_retention.forget(engine, NOW, activity=400 * DAY, group_calls=60 * DAY)
    assert (await known(engine), await calls(engine)) == ({}, [])


async def test_the_walk_comes_to_every_user(
    feed: Feed, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership_retention, "STEP", 3)
    old = [
        ada(number, NOW - 401 * DAY, user=f"u1:{number // 2}", account=f"a{number}")
        for number in range(20)
    ]
    await feed(*old, ada(20))
    steps: list[None] = []
    gone = await membership_retention.forget(
        engine, NOW, activity=400 * DAY, group_calls=60 * DAY, progressed=lambda: steps.append(None)
    )
    assert gone == {"memberships": 20}
    assert list(await known(engine)) == [(ADA, "acme")]
    assert len(steps) > 20 / 4
