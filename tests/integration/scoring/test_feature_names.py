"""At most 500 names of features per account: exact up to there, bounded beyond."""

from collections.abc import Sequence

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.feature_names import LIMIT, OTHER
from services.scoring.intake import Intake
from services.scoring.tables import account_day
from shared.log import TopicPartition
from shared.messages import USAGE_EVENTS, UsageEvent
from tests.factories import batch_of, usage_event

P0 = TopicPartition(USAGE_EVENTS, 0)


def using(names: Sequence[str], account: str = "acme") -> list[UsageEvent]:
    return [
        usage_event(id=name, account=account, type="feature_used", properties={"feature": name})
        for name in names
    ]


async def take(intake: Intake, *batches: Sequence[UsageEvent]) -> None:
    """By a new owner of the partition, who knows nothing of what was before."""
    held = await intake.claim(P0)
    for events in batches:
        batch = batch_of(events, first=held.next_offset)
        await intake.take_in(batch, held)
        held = held.after(batch)


async def stored(engine: AsyncEngine, account: str = "acme") -> set[str]:
    async with engine.connect() as connection:
        rows = await connection.scalars(
            select(account_day.c.features).where(account_day.c.account_id == account)
        )
        return {name for names in rows for name in names}


@pytest.mark.parametrize("in_batches_of", [1_000, 170])
async def test_five_hundred_names_are_kept_and_more_count_as_one(
    intake: Intake, engine: AsyncEngine, in_batches_of: int
) -> None:
    names = [f"feature-{number:03}" for number in range(LIMIT + 200)]
    events = using(names)
    batches = [
        events[start : start + in_batches_of] for start in range(0, len(events), in_batches_of)
    ]
    await take(intake, *batches, using(names[-1:], "globex"))
    assert await stored(engine) == {*names[:LIMIT], OTHER}
    assert await stored(engine, "globex") == {names[-1]}


async def test_an_account_at_the_limit_loses_no_name(intake: Intake, engine: AsyncEngine) -> None:
    names = [f"feature-{number:03}" for number in range(LIMIT)]
    events = using(names)
    await take(intake, events[300:], events[:120])
    await take(intake, events[120:300], events)
    assert await stored(engine) == set(names)


async def test_a_new_owner_of_the_partition_goes_on_counting(
    intake: Intake, engine: AsyncEngine
) -> None:
    old = [f"old-{number:03}" for number in range(LIMIT - 10)]
    new = [f"new-{number:03}" for number in range(200)]
    await take(intake, using(old))
    await take(intake, using(new), using(old[:3]))
    # 490 are there: of the new ones the first ten are kept.
    assert await stored(engine) == {*old, *new[:10], OTHER}
