"""Any order, any batches, any repetition, any owner: the tables end as plain Python counts."""

import asyncio
from datetime import timedelta

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import store
from services.scoring.domain.activity import DayDelta
from services.scoring.intake import Intake
from services.scoring.partitions import Partitions
from services.scoring.seen_events import SeenEvents
from shared.log import TopicPartition
from shared.messages import USAGE_EVENTS, USAGE_EVENTS_OVERFLOW, PlacedBy, UsageEvent
from tests.factories import NOW, batch_of, usage_event
from tests.recount import Stored, read_stored, recounted

EVENTS = 20
TODAY = NOW.date()
A_QUARTER = timedelta(minutes=15)
P0 = TopicPartition(USAGE_EVENTS, 0)
OVERFLOW = TopicPartition(USAGE_EVENTS_OVERFLOW, 0)
_TYPES = (
    "login",
    "session_end",
    "feature_used",
    "payment_failed",
    "support_ticket",
    "feedback",
    "group",
    "identify",
)


def event(number: int) -> UsageEvent:
    """Of two accounts, on four days; a fifth has no user, a seventh was placed."""
    kind = _TYPES[number % 8]
    properties: dict[str, dict[str, object]] = {
        "session_end": {"duration_seconds": 60.5 * number},
        "feature_used": {"feature": f"f{number % 4}"},
        "support_ticket": {"ticket_id": number, "severity": "high"},
        "feedback": {"scale": "nps", "score": number % 11},
    }
    return usage_event(
        id=f"e-{number}",
        source=("app", "web")[number % 3 == 0],
        account=("acme", "globex")[number % 2],
        user=None if number % 5 == 0 else f"u1:{number % 3:032x}",
        type=kind,
        occurred_at=NOW - timedelta(days=number % 4, minutes=7 * number),
        client_at=NOW - timedelta(days=number % 4),
        received_at=NOW + timedelta(minutes=7 * number),
        properties=properties.get(kind, {}),
        placed_by=PlacedBy.LAST_ACTIVITY if number % 7 == 3 else None,
    )


@st.composite
def deliveries(draw: st.DrawFn) -> list[tuple[TopicPartition, bool, list[int]]]:
    """Which events come in which batch, from where, and whether to a new owner."""
    order = draw(st.permutations(list(range(EVENTS))))
    repeated = draw(st.lists(st.sampled_from(range(EVENTS)), max_size=8))
    mixed = draw(st.permutations([*order, *repeated]))
    cuts = sorted(draw(st.sets(st.integers(1, len(mixed) - 1), max_size=5)))
    return [
        (draw(st.sampled_from([P0, OVERFLOW])), draw(st.booleans()), mixed[start:end])
        for start, end in zip([0, *cuts], [*cuts, len(mixed)], strict=True)
    ]


@given(deliveries())
@settings(
    max_examples=25,
    deadline=None,
    # Every example cleans up after the one before it, in the same database.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_arrival_order_batches_and_duplicates_change_nothing(
    intake: Intake,
    owner: AsyncEngine,
    database_url: str,
    batches: list[tuple[TopicPartition, bool, list[int]]],
) -> None:
    async with owner.begin() as connection:
        await connection.execute(
            text(
                "TRUNCATE scoring.account_day, scoring.seen_events, scoring.signals,"
                " scoring.source_hours, scoring.log_positions, scoring.memberships,"
                " scoring.group_calls"
            )
        )
    held = {partition: await intake.claim(partition) for partition in (P0, OVERFLOW)}
    for partition, is_new_owner, numbers in batches:
        if is_new_owner:
            held[partition] = await intake.claim(partition)
        batch = batch_of(
            [event(number) for number in numbers],
            first=held[partition].next_offset,
            partition=partition,
        )
        await intake.take_in(batch, held[partition])
        held[partition] = held[partition].after(batch)
    stored, expected = await tables(database_url), recounted(map(event, range(EVENTS)))
    assert stored == expected
    assert all(timedelta(0) <= late < A_QUARTER for late in stored.behind(expected))


async def test_transactions_that_share_rows_do_not_wait_in_a_circle(engine: AsyncEngine) -> None:
    """An account's events may overflow into another topic: two partitions then share its rows."""
    names = [f"account-{number:04}" for number in range(2_000)]
    mine = {(TODAY.toordinal(), name): {name.encode()[-16:].rjust(16)} for name in names}
    days = {(name, TODAY): DayDelta(events=1, users={1}) for name in names}
    await Partitions(engine, kept=timedelta(days=60)).ensure([TODAY], today=TODAY)

    async def write(order: list[str]) -> None:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT 1"))
            groups = {(TODAY.toordinal(), name): mine[TODAY.toordinal(), name] for name in order}
            await SeenEvents().keep_new(connection, groups)
            await store.add_activity(
                connection,
                {(name, TODAY): days[name, TODAY] for name in order},
                running_day=TODAY,
            )

    for _ in range(3):
        await asyncio.gather(write(names), write(names[::-1]), write(names[1_000:] + names[:1_000]))
    async with engine.connect() as connection:
        counted = await connection.scalar(text("SELECT sum(events) FROM scoring.account_day"))
    assert counted == 9 * 2_000


async def tables(url: str) -> Stored:
    connection = await asyncpg.connect(url)
    try:
        return await read_stored(connection)
    finally:
        await connection.close()
