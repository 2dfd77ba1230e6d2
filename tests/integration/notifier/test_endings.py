"""How interventions ended, as the database keeps it; and who was held out."""

from dataclasses import replace
from datetime import date, timedelta

import msgspec
import pytest

from services.notifier import endings, erasure
from services.notifier.domain.feedback import feedback
from services.notifier.domain.holdout import Arm, HoldOut
from services.notifier.domain.interventions import Intervention
from services.notifier.intake import Intake
from shared.messages import Band, Erasure, OutcomeKind
from tests.integration.notifier.rig import NOW, OWNER, Rig, account, boss, flag
from tests.standins.slack import FakeSlack

DAY = timedelta(days=1)
EVERYBODY = HoldOut(share=1.0, key=b"k")


def holding_out(rig: Rig) -> Intake:
    staff = replace(rig.intake.staff, hold_out=EVERYBODY)
    rig.intake = replace(rig.intake, staff=staff)
    return rig.intake


async def close(rig: Rig, outcome: OutcomeKind, note: str = "") -> Intervention:
    [row] = await rig.interventions()
    closed = await rig.steps.close(
        row.id, version=row.version, outcome=outcome, note=note, by=boss(OWNER)
    )
    assert isinstance(closed, Intervention)
    return closed


async def test_a_correction_replaces_the_outcome_and_counts_once(rig: Rig) -> None:
    await rig.take(account())
    await rig.take(flag())
    rig.hands.now += timedelta(hours=3)
    closed = await close(rig, OutcomeKind.SAVED)
    await rig.steps.correct(
        closed.id,
        version=closed.version,
        outcome=OutcomeKind.FALSE_ALARM,
        note="It was a holiday.",
        by=boss(OWNER),
    )
    async with rig.engine.connect() as connection:
        [one] = await endings.between(connection, NOW, NOW + DAY)
        assert await endings.between(connection, NOW + DAY, NOW + 2 * DAY) == []
    assert (one.outcome, one.by_system) == (OutcomeKind.FALSE_ALARM, False)
    assert one.to_first_action == [3 * 3600]
    assert feedback([one], period=DAY).to_first_action == timedelta(hours=3)


async def test_each_episode_has_its_own_ending(rig: Rig) -> None:
    await rig.take(account())
    await rig.take(flag())
    await rig.take(flag(change="cleared", as_of=NOW + timedelta(minutes=1)))
    again = {"flag_id": "acme/churn_risk/2", "episode": 2}
    await rig.take(flag(**again, as_of=NOW + DAY, raised_at=NOW + DAY))
    rig.hands.now += DAY
    await close(rig, OutcomeKind.CHURNED, note="They went to a competitor.")
    async with rig.engine.connect() as connection:
        found = await endings.between(connection, NOW, NOW + 2 * DAY)
    assert {(one.outcome, one.by_system, one.number) for one in found} == {
        (OutcomeKind.NO_ACTION_NEEDED, True, 1),
        (OutcomeKind.CHURNED, False, 1),
    }


@pytest.mark.parametrize(
    ("churned_at", "outcome"),
    [
        pytest.param("2026-05-31", OutcomeKind.SAVED, id="before: they are back"),
        pytest.param("2026-06-01", OutcomeKind.CHURNED, id="on the evening of the day"),
        # Closed on 1 June at noon; 180 days later it is noon on 28 November.
        pytest.param("2026-11-27", OutcomeKind.CHURNED, id="on the 179th day"),
        pytest.param("2026-11-28", OutcomeKind.SAVED, id="by the end of the 180th day"),
    ],
)
async def test_an_account_that_leaves_soon_after_was_not_saved(
    rig: Rig, churned_at: str, outcome: OutcomeKind
) -> None:
    await rig.take(account())
    await rig.take(flag())
    await close(rig, OutcomeKind.SAVED)
    left = account(status="churned", churned_at=churned_at)
    await rig.take(msgspec.structs.replace(left, updated_at=NOW + 61 * DAY))
    async with rig.engine.connect() as connection:
        [one] = await endings.between(connection, NOW, NOW + DAY)
        assert await endings.outcomes(connection, NOW, NOW + DAY) == [(OWNER, outcome, 1)]
    assert one.outcome is outcome


async def test_what_ended_alike_is_told_together_with_the_time_each_took(rig: Rig) -> None:
    for number in range(2):
        await rig.take(account(account_id=f"acme-{number}"))
        await rig.take(flag(account=f"acme-{number}", flag_id=str(number)))
    rows = await rig.interventions()
    for row in rows:
        rig.hands.now += timedelta(hours=2)
        await rig.steps.acknowledge(row.id, version=row.version, by=boss(OWNER))
    for row in await rig.interventions():
        await rig.steps.close(
            row.id, version=row.version, outcome=OutcomeKind.SAVED, note="", by=boss(OWNER)
        )
    async with rig.engine.connect() as connection:
        [both] = await endings.between(connection, NOW, NOW + DAY)
    assert (both.number, sorted(both.to_acknowledge)) == (2, [2 * 3600, 4 * 3600])
    assert feedback([both], period=DAY).to_acknowledge == timedelta(hours=3)


async def test_who_is_held_out_is_told_nothing_until_it_is_critical(
    rig: Rig, slack: FakeSlack
) -> None:
    holding_out(rig)
    await rig.take(account())
    await rig.take(flag())
    assert await rig.send_all() == 0
    rows = await rig.deliveries()
    assert {row.suppress_reason for row in rows} == {"held_out"}

    await rig.take(flag(change="updated", band=Band.CRITICAL, as_of=NOW + timedelta(hours=1)))
    await rig.send_all()
    assert len(slack.posted) == 1


async def test_both_arms_are_counted_as_drawn_once_their_time_is_over(rig: Rig) -> None:
    drawn = NOW.date()
    async with rig.engine.begin() as connection:
        for name, held_out in (("a", True), ("b", True), ("c", False)):
            await endings.draw(connection, name, held_out=held_out, today=drawn)
        await endings.draw(connection, "a", held_out=False, today=drawn)  # The first time counts.
    for name, churned_at in (("a", "2026-11-28"), ("b", "2026-11-29")):
        # The 180th day after 1 June is 28 November.
        await rig.take(account(account_id=name, status="churned", churned_at=churned_at))
    first, until = date(2026, 1, 1), date(2027, 1, 1)
    async with rig.engine.connect() as connection:
        early = await endings.arms(connection, first, until, today=drawn + 180 * DAY)
        found = await endings.arms(connection, first, until, today=drawn + 181 * DAY)
    assert early == (Arm(accounts=0, lost=0), Arm(accounts=0, lost=0))
    assert found == (Arm(accounts=2, lost=1), Arm(accounts=1, lost=0))


async def test_an_erased_account_leaves_a_count_and_no_name(rig: Rig) -> None:
    holding_out(rig)
    await rig.take(account())
    await rig.take(flag())
    await close(rig, OutcomeKind.SAVED)
    async with rig.engine.begin() as connection:
        gone = Erasure(erased_at=NOW + DAY, flags_until=NOW + DAY)
        await erasure.erase_accounts(connection, {"acme": gone}, now=NOW + DAY)
        [one] = await endings.between(connection, NOW, NOW + DAY)
        arms = await endings.arms(
            connection, date(2026, 1, 1), date(2027, 1, 1), today=date(2027, 6, 1)
        )
        told = await endings.outcomes(connection, NOW, NOW + DAY)
    assert (one.owner, one.outcome) == ("", OutcomeKind.SAVED)
    assert told == []  # It was held out.
    assert [arm.accounts for arm in arms] == [0, 0]
