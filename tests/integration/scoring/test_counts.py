"""Truth: of each partition, the records passed are the sum of what became of them."""

from datetime import timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.intake import Intake
from services.scoring.tables import log_positions
from shared.errors import InvalidMessage
from shared.lifecycle import Frame
from shared.log import TopicPartition
from shared.log.positions import Fenced, mismatch
from shared.messages import DIRECTORY_CHANGES, OUTCOMES, USAGE_EVENTS
from tests.factories import NOW, batch_of, directory_change, usage_event

P0 = TopicPartition(USAGE_EVENTS, 0)
_CHANGES = TopicPartition(DIRECTORY_CHANGES, 0)
_OUTCOMES = TopicPartition(OUTCOMES, 0)


async def _off(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return await mismatch(connection, log_positions)


async def _counts(engine: AsyncEngine, partition: TopicPartition) -> tuple[int, ...]:
    """Passed, counted, duplicate, erased, quarantined."""
    at = log_positions.c
    async with engine.connect() as connection:
        row = await connection.execute(
            select(at.passed, at.counted, at.duplicate, at.erased, at.quarantined).where(
                at.topic == partition.topic, at.partition == partition.partition
            )
        )
        return tuple(row.one())


async def test_each_event_passed_has_one_result(intake: Intake, engine: AsyncEngine) -> None:
    held = await intake.claim(P0)
    first = batch_of(
        [
            usage_event(id="e-1"),
            usage_event(id="e-1"),
            b"{nonsense",
            usage_event(id="e-2", type="payment_failed"),  # no activity, and an event all the same
            usage_event(id="e-3"),
        ]
    )
    await intake.take_in(first, held)
    # 3 ids, one of them twice, one record that is none
    assert await _counts(engine, P0) == (5, 3, 1, 0, 1)
    again = batch_of([usage_event(id="e-3"), usage_event(id="e-4")], first=5)
    await intake.take_in(again, held.after(first))
    assert await _counts(engine, P0) == (7, 4, 2, 0, 1)
    assert await _off(engine) == 0


async def test_what_was_received_before_an_erasure_is_passed_as_erased(
    intake: Intake, engine: AsyncEngine
) -> None:
    erase = directory_change(op="erase", received_at=NOW)
    changes = batch_of([directory_change(), erase, b"{"], partition=_CHANGES)
    await intake.take_in(changes, await intake.claim(_CHANGES))
    old = usage_event(received_at=NOW - timedelta(hours=1))
    new = usage_event(id="e-2", received_at=NOW + timedelta(hours=1))
    await intake.take_in(batch_of([old, new]), await intake.claim(P0))
    assert await _counts(engine, P0) == (2, 1, 0, 1, 0)
    assert await _counts(engine, _CHANGES) == (3, 2, 0, 0, 1)
    assert await _off(engine) == 0


async def test_a_record_set_aside_is_passed_as_quarantined(
    intake: Intake, engine: AsyncEngine, frame: Frame
) -> None:
    held = await intake.claim(P0)
    await intake.set_aside(batch_of([b"\x00"]), held, InvalidMessage("not_storable", "DataError"))
    await intake.take_in(batch_of([b"{"], partition=_OUTCOMES), await intake.claim(_OUTCOMES))
    assert await _counts(engine, P0) == (1, 0, 0, 0, 1)
    assert await _counts(engine, _OUTCOMES) == (1, 0, 0, 0, 1)
    assert await _off(engine) == 0
    counted = frame.registry.get_sample_value(
        "perennial_quarantined_total",
        {"service": "scoring", "topic": OUTCOMES, "reason": "invalid_message"},
    )
    assert counted == 1


async def test_a_transaction_that_is_fenced_counts_nothing(
    intake: Intake, engine: AsyncEngine
) -> None:
    held = await intake.claim(P0)
    await intake.claim(P0)
    with pytest.raises(Fenced):
        await intake.take_in(batch_of([usage_event()]), held)
    assert await _counts(engine, P0) == (0, 0, 0, 0, 0)


async def test_an_intake_that_counts_an_event_twice_is_seen(
    intake: Intake, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await intake.claim(P0)
    first = batch_of([usage_event(id="e-1"), usage_event(id="e-2")])
    await intake.take_in(first, held)
    assert await _off(engine) == 0
    monkeypatch.setenv("PERENNIAL_TESTING", "1")
    monkeypatch.setenv("PERENNIAL_SWITCHED_OFF", "dedupe")
    # Both are duplicates, and both are added to the buckets all the same.
    await intake.take_in(batch_of([usage_event(id="e-1"), usage_event(id="e-2")], first=2),
                         held.after(first))  # fmt: skip
    assert await _off(engine) == 2


async def test_a_result_that_is_lost_is_seen(intake: Intake, engine: AsyncEngine) -> None:
    await intake.take_in(batch_of([usage_event(), usage_event(id="e-2")]), await intake.claim(P0))
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE scoring.log_positions SET counted = counted - 1"))
    assert await _off(engine) == 1


async def test_the_release_before_counts_on_neither_side(
    intake: Intake, engine: AsyncEngine
) -> None:
    held = await intake.claim(P0)
    first = batch_of([usage_event()])
    await intake.take_in(first, held)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE scoring.log_positions SET next_offset = 9"))
    assert await _off(engine) == 0
