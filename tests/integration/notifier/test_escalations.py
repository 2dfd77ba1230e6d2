"""Steps of an escalation against the real queue: each is told once, and none is forgotten."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import silences
from services.notifier.domain.policy import NotifyReason
from services.notifier.domain.silences import Matchers, Silence
from services.notifier.routes import Ways
from tests.integration.notifier.queue_rig import Post
from tests.integration.notifier.rig import NOW, OWNER, Rig, account, boss, flag, open_rig

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def post() -> Post:
    return Post("slack")


@pytest.fixture
async def rig(engine: AsyncEngine, post: Post) -> AsyncIterator[Rig]:
    """One place that all share."""
    ways = Ways(slack_webhook=True)
    async with open_rig(engine, people=(), more={"slack": post}, ways=ways) as opened:
        await opened.take(account())
        yield opened


def steps(post: Post) -> int:
    return sum(one.why is NotifyReason.ESCALATED for one in post.taken)


async def test_in_a_place_that_all_share_each_step_is_told(rig: Rig, post: Post) -> None:
    await rig.take(flag())
    await rig.send_all()
    told = []
    for _ in range(4):
        await rig.pass_time(DAY)
        await rig.send_all()
        told.append(steps(post))
    # From Monday on: +1 the owner, +2 the manager, +3 the lead; then nothing more.
    assert told == [1, 2, 3, 3]


async def test_a_step_that_a_snooze_kept_back_comes_after_it(rig: Rig, post: Post) -> None:
    await rig.take(flag())
    await rig.send_all()
    await rig.pass_time(DAY)
    (row,) = await rig.interventions()
    await rig.steps.snooze(row.id, version=None, until=NOW + 2 * DAY, reason="fair", by=boss(OWNER))
    await rig.send_all()
    assert steps(post) == 0
    await rig.pass_time(DAY)  # The snooze ends on Wednesday: the owner is reminded on Thursday.
    await rig.send_all()
    assert steps(post) == 0
    await rig.pass_time(DAY)
    await rig.send_all()
    assert steps(post) == 1


async def test_a_step_that_is_silenced_before_it_is_sent_comes_after_it(
    rig: Rig, post: Post
) -> None:
    await rig.take(flag())
    await rig.send_all()
    await rig.pass_time(DAY)
    quiet = Silence(
        id=uuid4(),
        matchers=Matchers(account="acme"),
        starts_at=NOW,
        ends_at=NOW + DAY + HOUR,
        author=OWNER,
        comment="They move to another office.",
        created_at=NOW,
    )
    async with rig.engine.begin() as connection:
        assert await silences.add(connection, quiet, by=boss(OWNER), now=rig.hands.now) is None
    await rig.send_all()
    assert steps(post) == 0
    await rig.take(flag(change="updated", as_of=NOW + DAY))
    await rig.pass_time(HOUR)
    await rig.send_all()
    assert steps(post) == 1


async def test_of_an_account_that_has_left_no_step_is_told(rig: Rig, post: Post) -> None:
    await rig.take(flag())
    await rig.send_all()
    await rig.pass_time(DAY)
    await rig.take(account(status="churned"))
    await rig.send_all()
    assert steps(post) == 0
