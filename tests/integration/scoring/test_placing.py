"""Events that name a user alone: placed at once, after a while, or given up; each counts once."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.domain.activity import user_key
from services.scoring.intake import Intake
from services.scoring.metrics import ScoringMetrics
from services.scoring.placing import Placing
from services.scoring.tables import (
    erased_users,
    log_positions,
    outbox,
    placing_hours,
    waiting_events,
)
from services.scoring.waiting import Waiting
from shared.lifecycle import Frame
from shared.log import Batch, StoredRecord, TopicPartition
from shared.log.positions import mismatch
from shared.log.postgres import PostgresLog
from shared.messages import (
    REJECTED,
    UNPLACED_EVENTS,
    USAGE_EVENTS,
    PlacedBy,
    UnplacedEvent,
    UsageEvent,
    decode,
    encode,
)
from tests.factories import NOW, batch_of, usage_event
from tests.integration.scoring.conftest import Time

P0 = TopicPartition(UNPLACED_EVENTS, 0)
SECOND, MINUTE, HOUR, DAY = (
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)
ADA, BOB = "u1:ada", "u1:bob"
MORNING = NOW - DAY
NEVER = asyncio.Event()


def track(number: int, user: str = ADA, **changes: Any) -> UnplacedEvent:
    event = UnplacedEvent(
        id=f"t-{number}",
        source="app",
        user=user,
        type="report_opened",
        occurred_at=MORNING,
        client_at=MORNING,
        received_at=NOW,
        properties={"feature": "reports"},
    )
    return msgspec.structs.replace(event, **changes)


class Site:
    """Intake, placing and waiting as one replica has them, driven by hand; partition 0 is its."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        log: PostgresLog,
        metrics: ScoringMetrics,
        intake: Intake,
        time: Time,
        frame: Frame,
    ) -> None:
        self.until: datetime | None = NOW
        self.room = 1_000
        self.engine = engine
        self.time = time
        self._intake = intake
        self._offsets = {P0: 0, TopicPartition(USAGE_EVENTS, 0): 0}
        self.placing = Placing(
            engine=engine,
            log=log,
            metrics=metrics,
            clock=time,
            until=lambda: self.until,
            room=lambda: self.room,
        )
        self.waiting = Waiting(
            engine=engine,
            log=log,
            metrics=metrics,
            clock=time,
            loop=frame.loop("scoring", "waiting"),
            assigned=self,
            until=lambda: self.until,
            room=lambda: self.room,
            wait=DAY,
        )

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset({P0})

    async def learn(self, *events: UsageEvent, at: datetime = NOW - HOUR) -> None:
        """Intake takes in what names user and account; first heard of at that moment."""
        now, self.time.now = self.time.now, at
        partition = TopicPartition(USAGE_EVENTS, 0)
        held = await self._intake.claim(partition)
        await self._intake.take_in(
            batch_of(events, first=held.next_offset, partition=partition), held
        )
        self.time.now = now

    async def place(self, *events: UnplacedEvent | bytes, since: datetime = NOW) -> None:
        held = await self.placing.claim(P0)
        values = [one if isinstance(one, bytes) else encode(one) for one in events]
        records = [
            StoredRecord(
                offset=offset, key=b"k", value=value, headers=(("h", b"1"),), appended_at=since
            )
            for offset, value in enumerate(values, held.next_offset)
        ]
        await self.placing.take_in(Batch(partition=P0, records=records, generation=1), held)

    async def look(self) -> None:
        await self.waiting.look(NEVER)

    async def placed(self) -> list[tuple[str, str, PlacedBy | None]]:
        """Id, account and how it was found, of what went on to usage-events, in its order."""
        async with self.engine.connect() as connection:
            rows = await connection.execute(
                text(
                    "SELECT value FROM log.records WHERE topic = :topic"
                    ' ORDER BY partition, "offset"'
                ),
                {"topic": USAGE_EVENTS},
            )
            events = [decode(UsageEvent, row[0]) for row in rows]
        return [(one.id, one.account, one.placed_by) for one in events]

    async def waits(self) -> list[str]:
        """Ids, in the order of the topic."""
        async with self.engine.connect() as connection:
            rows = await connection.execute(
                select(waiting_events.c.value).order_by(waiting_events.c.log_offset)
            )
            found = [decode(UnplacedEvent, row[0]).id for row in rows]
            counted = await connection.scalar(
                text("SELECT coalesce(sum(events), 0) FROM scoring.waiting_counts")
            )
            assert counted == len(found)
            assert await mismatch(connection, log_positions) == 0
        return found

    async def given_up(self) -> list[tuple[str, dict[str, bytes]]]:
        """Id and headers of what leaves to quarantine."""
        async with self.engine.connect() as connection:
            rows = await connection.execute(select(outbox).order_by(outbox.c.id))
            return [
                (
                    decode(UnplacedEvent, row.value).id,
                    dict(msgspec.msgpack.decode(row.headers)),
                )
                for row in rows
                if row.topic == REJECTED
            ]

    async def hours(self) -> dict[str, int]:
        async with self.engine.connect() as connection:
            rows = (await connection.execute(select(placing_hours))).mappings().all()
        names = set(placing_hours.c.keys()) - {"hour", "source", "partition"}
        return {name: total for name in names if (total := sum(row[name] for row in rows))}


@pytest.fixture
def site(
    engine: AsyncEngine,
    log: PostgresLog,
    metrics: ScoringMetrics,
    intake: Intake,
    time: Time,
    frame: Frame,
) -> Site:
    return Site(engine=engine, log=log, metrics=metrics, intake=intake, time=time, frame=frame)


def call(number: int, account: str, at: datetime, user: str = ADA) -> UsageEvent:
    return usage_event(
        id=f"g-{number}", type="group", account=account, user=user, occurred_at=at, client_at=at
    )


async def test_an_event_of_a_user_of_one_account_goes_there(site: Site) -> None:
    await site.learn(call(1, "acme", MORNING + HOUR))
    await site.place(track(1), track(2))
    assert await site.placed() == [
        ("t-1", "acme", PlacedBy.ONLY_ACCOUNT),
        ("t-2", "acme", PlacedBy.ONLY_ACCOUNT),
    ]
    assert await site.waits() == []
    assert await site.hours() == {"only_account": 2}


async def test_a_placed_event_is_as_it_was_sent_with_its_account(
    site: Site, engine: AsyncEngine
) -> None:
    await site.learn(call(1, "acme", MORNING))
    sent = track(1, format="segment", backfill=True)
    await site.place(sent)
    async with engine.connect() as connection:
        row = (
            await connection.execute(
                text("SELECT key, value, headers FROM log.records WHERE topic = 'usage-events'")
            )
        ).one()
    event = decode(UsageEvent, row.value)
    assert row.key == b"acme"
    assert msgspec.msgpack.decode(row.headers) == [["h", b"1"]]
    stated = {name: getattr(event, name) for name in UnplacedEvent.__struct_fields__}
    assert stated == {name: getattr(sent, name) for name in UnplacedEvent.__struct_fields__}


async def test_of_several_accounts_the_latest_group_call_before_the_event_decides(
    site: Site,
) -> None:
    calls = [
        call(1, "acme", MORNING),
        call(2, "globex", MORNING + HOUR),
        call(3, "acme", MORNING + 2 * HOUR),
        call(4, "initech", MORNING + 3 * HOUR),
    ]
    await site.learn(*calls)
    times = [MORNING + HOUR * step / 2 for step in range(-1, 8)]
    await site.place(
        *(track(number, occurred_at=at, client_at=at) for number, at in enumerate(times))
    )
    found = {name: account for name, account, _ in await site.placed()}
    # At -30 minutes nothing was said yet and nobody was active: the first that was.
    assert [found[f"t-{number}"] for number in range(9)] == [
        "acme",
        "acme",
        "acme",
        "globex",
        "globex",
        "acme",
        "acme",
        "initech",
        "initech",
    ]


async def test_without_a_group_call_the_account_of_the_last_activity_counts(site: Site) -> None:
    await site.learn(
        usage_event(id="a", account="acme", user=ADA, occurred_at=MORNING - DAY),
        usage_event(id="b", account="globex", user=ADA, occurred_at=MORNING - HOUR),
    )
    await site.place(track(1))
    assert await site.placed() == [("t-1", "globex", PlacedBy.LAST_ACTIVITY)]


async def test_an_event_of_nobody_known_waits_and_is_placed_once_the_user_is(site: Site) -> None:
    await site.place(track(1), track(2, BOB), track(3))
    await site.look()
    assert await site.waits() == ["t-1", "t-2", "t-3"]
    await site.learn(call(1, "acme", MORNING))
    await site.look()
    assert await site.placed() == [
        ("t-1", "acme", PlacedBy.ONLY_ACCOUNT),
        ("t-3", "acme", PlacedBy.ONLY_ACCOUNT),
    ]
    assert await site.waits() == ["t-2"]
    assert await site.hours() == {"waiting": 3, "only_account": 2}


async def test_who_was_heard_of_just_now_is_not_known_before_the_rest_is(site: Site) -> None:
    await site.learn(call(1, "acme", MORNING), at=NOW + SECOND)
    await site.place(track(1))
    await site.look()
    assert (await site.placed(), await site.waits()) == ([], ["t-1"])
    # What came to light meanwhile decides.
    await site.learn(call(2, "globex", MORNING - HOUR), at=NOW + 5 * SECOND)
    site.until = NOW + SECOND
    await site.look()
    assert await site.placed() == [("t-1", "acme", PlacedBy.GROUP_CALL)]


@pytest.mark.parametrize("known", [False, True])
async def test_nothing_moves_while_it_is_not_known_what_was_taken_in(
    site: Site, *, known: bool
) -> None:
    await site.place(track(1))
    if known:
        await site.learn(call(1, "acme", MORNING))
    site.until = None
    site.time.now = NOW + 30 * DAY
    await site.look()
    await site.place(track(2))
    assert (await site.waits(), await site.placed(), await site.given_up()) == (
        ["t-1", "t-2"],
        [],
        [],
    )


async def test_a_retry_of_an_event_that_waits_is_a_duplicate(
    site: Site, engine: AsyncEngine
) -> None:
    await site.place(track(1), track(1))
    await site.place(track(1), track(2))
    assert await site.waits() == ["t-1", "t-2"]
    async with engine.connect() as connection:
        row = (await connection.execute(select(log_positions))).mappings().one()
    assert {name: row[name] for name in ("passed", "counted", "duplicate")} == {
        "passed": 4,
        "counted": 2,
        "duplicate": 2,
    }


async def test_a_day_later_it_is_given_up_and_can_be_replayed(site: Site) -> None:
    await site.place(track(1), since=NOW)
    await site.place(track(2), since=NOW + SECOND)
    site.until = NOW + DAY + SECOND
    await site.look()
    assert await site.waits() == ["t-2"]
    ((name, headers),) = await site.given_up()
    assert name == "t-1"
    assert {key.removeprefix("__connect.errors."): value for key, value in headers.items()} | {
        "exception.message": b""
    } == {
        "h": b"1",
        "topic": b"unplaced-events",
        "partition": b"0",
        "offset": b"0",
        "stage": b"scoring.placing",
        "class.name": b"InvalidMessage",
        "exception.message": b"",
        "perennial.code": b"missing_account",
    }
    assert await site.hours() == {"waiting": 2, "late": 1}


async def test_who_is_known_is_never_given_up(site: Site) -> None:
    await site.place(track(1), since=NOW - 2 * DAY)
    await site.learn(call(1, "acme", MORNING), at=NOW + SECOND)
    await site.look()
    assert (await site.given_up(), await site.waits()) == ([], ["t-1"])


async def test_beyond_the_bound_the_oldest_go(site: Site) -> None:
    site.room = 3
    await site.place(*(track(number) for number in range(2)), since=NOW)
    await site.place(*(track(number) for number in range(2, 6)), since=NOW + SECOND)
    assert await site.waits() == ["t-3", "t-4", "t-5"]
    assert [name for name, _ in await site.given_up()] == ["t-0", "t-1", "t-2"]
    site.room = 1
    await site.look()
    assert await site.waits() == ["t-5"]
    assert await site.hours() == {"waiting": 6, "full": 5}


@pytest.mark.parametrize("account", ["", "acme"])
async def test_of_an_erased_person_no_copy_goes_to_quarantine(site: Site, account: str) -> None:
    await site.place(track(1), track(2, BOB))
    async with site.engine.begin() as connection:
        await connection.execute(
            erased_users.insert().values(
                account_id=account, user_key=user_key(ADA), erased_at=NOW, done_at=NOW
            )
        )
    site.until = NOW + 2 * DAY
    await site.look()
    assert [name for name, _ in await site.given_up()] == ["t-2"]
    assert await site.waits() == []
    assert await site.hours() == {"waiting": 2, "late": 1, "erased": 1}


async def test_who_is_erased_everywhere_neither_waits_nor_is_placed(site: Site) -> None:
    await site.learn(call(1, "acme", MORNING))
    async with site.engine.begin() as connection:
        for name in (ADA, BOB):
            await connection.execute(
                erased_users.insert().values(
                    account_id="", user_key=user_key(name), erased_at=NOW, done_at=NOW
                )
            )
    await site.place(track(1), track(2, BOB), track(3, "u1:cleo"))
    assert (await site.placed(), await site.waits()) == ([], ["t-3"])


async def test_what_cannot_be_read_goes_to_quarantine_alone(site: Site) -> None:
    await site.place(b"no json", track(1), encode(usage_event(user=None)))
    assert await site.waits() == ["t-1"]
    async with site.engine.connect() as connection:
        assert len((await connection.execute(select(outbox))).all()) == 2


@pytest.mark.parametrize(
    ("events", "size"), [(3, 1 << 24), (1_000, 1_000)], ids=["by number", "by size"]
)
async def test_many_events_are_placed_in_steps(
    site: Site, monkeypatch: pytest.MonkeyPatch, events: int, size: int
) -> None:
    monkeypatch.setattr("services.scoring.waiting._EVENTS_AT_ONCE", events)
    monkeypatch.setattr("services.scoring.waiting_store.BYTES_AT_ONCE", size)
    monkeypatch.setattr("services.scoring.unplaced.BYTES_AT_ONCE", size // 2)
    monkeypatch.setattr("services.scoring.waiting._USERS_AT_ONCE", 2)
    monkeypatch.setattr("services.scoring.waiting._USERS_LOOKED_AT", 2)
    users = [f"u1:{number}" for number in range(5)]
    sent = [track(number, users[number % 5]) for number in range(35)]
    await site.place(*sent)
    known = [call(number, "acme", MORNING, user) for number, user in enumerate(users[:4])]
    await site.learn(*known)
    await site.look()
    assert {name for name, _, _ in await site.placed()} == {
        one.id for one in sent if one.user != users[4]
    }
    assert await site.waits() == [one.id for one in sent if one.user == users[4]]
