"""Events that name a user alone: placed at once, after a while, or given up; each counts once."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import make_url, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.ingest.events import placed
from services.scoring import standings
from services.scoring.domain.activity import user_key
from services.scoring.intake import Intake
from services.scoring.metrics import ScoringMetrics
from services.scoring.placing import Placing
from services.scoring.standings import read_standings
from services.scoring.tables import (
    account_day,
    erased_users,
    log_positions,
    outbox,
    placing_hours,
    waiting_events,
)
from services.scoring.waiting import Waiting
from shared.database import driver, open_engine
from shared.errors import InvalidMessage
from shared.lifecycle import Frame
from shared.log import Batch, StoredRecord, TopicPartition
from shared.log.positions import Fenced, mismatch
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
        self.mine = frozenset({P0})
        self.loop = frame.loop("scoring", "waiting")
        self._log, self._metrics = log, metrics
        self.waiting = self.looking_through(engine)

    def looking_through(self, engine: AsyncEngine) -> Waiting:
        return Waiting(
            engine=engine,
            log=self._log,
            metrics=self._metrics,
            clock=self.time,
            loop=self.loop,
            assigned=self,
            until=lambda: self.until,
            room=lambda: self.room,
            wait=DAY,
        )

    def assignment(self) -> frozenset[TopicPartition]:
        return self.mine

    async def learn(self, *events: UsageEvent, at: datetime = NOW - SECOND) -> None:
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


async def test_a_clock_that_was_ahead_leaves_nobody_unknown_for_longer(site: Site) -> None:
    await site.learn(call(1, "acme", MORNING), at=NOW + 365 * DAY)
    await site.place(track(1))
    await site.look()
    assert await site.waits() == ["t-1"]
    await site.learn(call(1, "acme", MORNING), call(2, "acme", MORNING), at=NOW - SECOND)
    await site.look()
    assert await site.placed() == [("t-1", "acme", PlacedBy.ONLY_ACCOUNT)]


async def test_what_cannot_be_read_goes_to_quarantine_alone(site: Site) -> None:
    nowhere = track(2, occurred_at=MORNING.replace(tzinfo=None))
    await site.place(b"no json", track(1), encode(usage_event(user=None)), nowhere)
    assert await site.waits() == ["t-1"]
    async with site.engine.connect() as connection:
        assert len((await connection.execute(select(outbox))).all()) == 3


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


async def test_a_long_rest_after_a_long_look_is_no_standstill(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.scoring.waiting._SHARE", 1e-9)
    monkeypatch.setattr("services.scoring.waiting._LEAST_SECONDS", 0.05)
    monkeypatch.setattr("services.scoring.waiting._REST_SECONDS", 0.05)
    site.loop.limit_seconds = 1.0
    await site.place(track(1))
    stop = asyncio.Event()
    running = asyncio.create_task(site.waiting.run(stop))
    # It has looked, and rests for a minute.
    _, still = await asyncio.wait({running}, timeout=1.5)
    overdue = site.loop.overdue()
    stop.set()
    await running
    assert (still, overdue) == ({running}, None)


async def test_of_calls_that_say_the_same_one_after_the_other_one_is_read(
    site: Site, engine: AsyncEngine
) -> None:
    said = ["acme", "acme", "globex", "globex", "globex", "acme", "acme"]
    calls = [call(number, name, MORNING + number * HOUR) for number, name in enumerate(said)]
    await site.learn(*calls)
    span = (MORNING - HOUR, MORNING + 6 * HOUR)
    async with engine.connect() as connection:
        found = (await read_standings(connection, {user_key(ADA): span}))[user_key(ADA)]
    assert found.group_calls == [
        (MORNING, "acme"),
        (MORNING + 2 * HOUR, "globex"),
        (MORNING + 5 * HOUR, "acme"),
    ]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110 - tables send no events
        await asyncio.sleep(0.01)


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first the next full look is ten minutes away."""
    monkeypatch.setattr("services.scoring.waiting._SHARE", 1e-9)
    monkeypatch.setattr("services.scoring.waiting._MOST_SECONDS", 0.05)


@pytest.mark.usefixtures("seldom")
async def test_who_became_known_since_the_last_look_is_found_without_asking_of_everybody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.scoring.waiting._USERS_AT_ONCE", 1)
    await site.place(track(1), track(2, BOB), track(3, "u1:cleo"))
    await site.look()
    await site.learn(call(1, "acme", MORNING))
    # In time order, and 59 seconds before the last look: its transaction took so long.
    await site.learn(call(2, "globex", MORNING, BOB), at=NOW - 59 * SECOND)
    await site.look()
    assert [name for name, *_ in await site.placed()] == ["t-1", "t-2"]
    await site.learn(call(3, "acme", MORNING, "u1:cleo"), at=NOW + SECOND)
    await site.look()
    assert await site.waits() == ["t-3"]
    site.until = NOW + MINUTE
    await site.look()
    assert await site.waits() == []


@pytest.mark.usefixtures("seldom")
@pytest.mark.parametrize("cause", ["start", "time", "rebalance"])
async def test_whom_a_wrong_clock_hides_the_full_look_finds(
    site: Site, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cause == "time":
        monkeypatch.setattr("services.scoring.waiting._FULL_SECONDS", 0.0)
    await site.place(track(1))
    await site.look()
    await site.learn(call(1, "acme", MORNING), at=NOW - HOUR)
    match cause:
        case "start":
            site.waiting = site.looking_through(site.engine)
        case "rebalance":
            await site.look()
            assert await site.waits() == ["t-1"]
            site.mine = frozenset()
            await site.look()
            site.mine = frozenset({P0})
    await site.look()
    assert await site.waits() == []


@pytest.mark.usefixtures("seldom")
async def test_where_too_many_are_learnt_at_once_everybody_is_asked_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.scoring.waiting._LEARNT_AT_ONCE", 2)
    users = [f"u1:{number}" for number in range(5)]
    await site.place(*(track(number, user) for number, user in enumerate(users)))
    await site.look()
    await site.learn(*(call(number, "acme", MORNING, user) for number, user in enumerate(users)))
    await site.look()
    assert await site.waits() == []


@pytest.mark.usefixtures("seldom")
async def test_while_the_database_is_away_it_waits_and_then_looks_at_everybody(
    site: Site,
    database_url: str,
    owner: AsyncEngine,
    news: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.scoring.waiting._AWAY_SECONDS", 0.05)
    url = make_url(database_url)
    way = tmp_path / "socket"
    around = url.update_query_dict({"host": str(way)}).render_as_string(hide_password=False)
    await site.place(track(1))
    stop = asyncio.Event()

    async def is_told() -> bool:
        return "waiting.away" in news()

    async def is_placed() -> bool:
        return not await site.waits()

    async with open_engine(around, application="away") as engine, asyncio.timeout(30):
        await site.learn(call(1, "acme", MORNING), at=NOW - HOUR)
        running = asyncio.create_task(site.looking_through(engine).run(stop))
        await until(is_told)
        way.symlink_to(str(url.query["host"]))
        await until(is_placed)
        # And once more, in the midst of its work: nothing but a full look would find her.
        way.unlink()
        async with owner.begin() as connection:
            await connection.execute(text(_END_AWAY))
        await until(is_told)
        await site.place(track(2, BOB))
        await site.learn(call(2, "acme", MORNING, BOB), at=NOW - HOUR)
        way.symlink_to(str(url.query["host"]))
        await until(is_placed)
        assert not running.done()
        stop.set()
        await running


async def test_a_record_that_nobody_can_take_in_is_set_aside_as_it_was_sent(
    site: Site, engine: AsyncEngine, frame: Frame
) -> None:
    held = await site.placing.claim(P0)
    batch = batch_of([track(1)], partition=P0)
    await site.placing.set_aside(batch, held, InvalidMessage("not_storable", "DataError"))
    ((name, headers),) = await site.given_up()
    assert (name, headers["__connect.errors.class.name"]) == ("t-1", b"InvalidMessage")
    assert headers["perennial.code"] == b"not_storable"
    # It is passed: the next goes on after it, and it neither waits nor counts as placed.
    assert (await site.waits(), await site.placed(), await site.hours()) == ([], [], {})
    assert (await site.placing.positions())[P0] == held.next_offset + 1
    async with engine.connect() as connection:
        row = (await connection.execute(select(log_positions))).mappings().one()
    assert (row["passed"], row["quarantined"], row["counted"]) == (1, 1, 0)
    counted = frame.registry.get_sample_value(
        "perennial_unplaced_events_total", {"result": "quarantined"}
    )
    assert counted == 1


async def test_who_lost_the_partition_sets_nothing_aside(site: Site) -> None:
    held = await site.placing.claim(P0)
    await site.placing.claim(P0)
    with pytest.raises(Fenced):
        await site.placing.set_aside(
            batch_of([track(1)], partition=P0), held, InvalidMessage("not_storable", "DataError")
        )
    assert await site.given_up() == []


_END_AWAY = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = 'away' AND datname = current_database()"
)


async def test_a_replay_to_the_account_of_its_source_counts_no_event_twice(
    site: Site, engine: AsyncEngine
) -> None:
    """It was given up in the very moment in which it was placed."""
    await site.learn(
        msgspec.structs.replace(placed(track(1), "acme"), placed_by=PlacedBy.GROUP_CALL)
    )
    await site.learn(placed(track(1), "globex"))
    async with engine.connect() as connection:
        rows = (await connection.execute(select(account_day))).all()
    assert [(row.account_id, row.events) for row in rows] == [("acme", 1)]


async def test_each_group_call_finds_its_membership_however_many_its_user_has(
    owner: AsyncEngine,
) -> None:
    """Most users have two accounts. A plan for these, of a user with 10,000 of them and 100,000
    calls, compares each with each: a statement without an end.
    """
    member = "'a' || number, date '2026-01-01', timestamptz '2026-01-01'"
    called = "'a' || number, timestamptz '2026-01-01' + number * interval '1 second'"
    tables = {"memberships": ("last_on, learnt_at", member), "group_calls": ("stated_at", called)}
    async with owner.begin() as connection:
        for table, (columns, row) in tables.items():
            await connection.execute(
                text(
                    f"INSERT INTO scoring.{table} (user_key, account_id, {columns})"
                    f" SELECT number / 2, {row} FROM generate_series(1, 20000) AS number"
                )
            )
            await connection.execute(text(f"ANALYZE scoring.{table}"))
        connected = await driver(connection)
        plan = await connected.fetch(f"EXPLAIN {standings._GROUP_CALLS}", "{1}", "{0}", "{1}")
    assert [row[0] for row in plan if "Join Filter" in row[0] or "Seq Scan" in row[0]] == []
