"""Who hears of what nobody has acknowledged, and when."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.domain.calendar import Calendar, known_zones, zone_of
from services.notifier.domain.escalation import Escalation, escalate, plan
from services.notifier.domain.flags import Kind
from services.notifier.domain.interventions import Intervention, Snooze, Status
from services.notifier.domain.playbooks import DEFAULT, EscalationStep, Playbook, Who
from services.notifier.domain.signals import Seen
from shared.messages import Band, FlagReason

known_zones()

THURSDAY = datetime(2026, 6, 4, 10, tzinfo=UTC)
DAY = timedelta(days=1)
FRIDAY, MONDAY, TUESDAY = THURSDAY + DAY, THURSDAY + 4 * DAY, THURSDAY + 5 * DAY


def opened(**changes: Any) -> Intervention:
    """Opened on Thursday at 10:00, by the plan that is usual."""
    usual = Intervention(
        id=UUID(int=1),
        account_id="acme",
        type=Kind.RENEW,
        reason=FlagReason.CHURN_RISK,
        status=Status.OPEN,
        version=1,
        episode=1,
        severity=Band.AT_RISK,
        owner="anna@vendor.example",
        due_at=TUESDAY,
        opened_at=THURSDAY,
        last_seen_at=THURSDAY,
        seen=Seen(
            flag_id="acme/churn_risk/1",
            episode=1,
            raised_at=THURSDAY,
            as_of=THURSDAY,
            change="raised",
        ),
        playbook=DEFAULT,
    )
    return replace(usual, **changes)


def snoozed(until: datetime, **changes: Any) -> Snooze:
    return Snooze(until=until, reason="holiday", by="anna", at=THURSDAY, **changes)


def at(subject: Intervention, now: datetime, *, queue: bool = False) -> Escalation:
    return escalate(subject, calendar=Calendar(), in_fallback_queue=queue, now=now)


@pytest.mark.parametrize(
    ("now", "due", "next_at"),
    [
        pytest.param(THURSDAY, [], FRIDAY, id="when it opens the owner is told anyway"),
        pytest.param(FRIDAY - timedelta(seconds=1), [], FRIDAY, id="a second before the first"),
        pytest.param(FRIDAY, [Who.OWNER], MONDAY, id="a business day later: a reminder"),
        pytest.param(FRIDAY + 2 * DAY, [Who.OWNER], MONDAY, id="on Sunday nothing more"),
        pytest.param(MONDAY, [Who.OWNER, Who.MANAGER], TUESDAY, id="two: the manager"),
        pytest.param(TUESDAY, [Who.OWNER, Who.MANAGER, Who.LEAD], None, id="three: the lead"),
    ],
)
def test_the_usual_plan(now: datetime, due: list[Who], next_at: datetime | None) -> None:
    found = at(opened(), now)
    assert [step.to for step in found.due] == due
    assert found.next_at == next_at


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"status": Status.ACKNOWLEDGED}, id="somebody has acknowledged it"),
        pytest.param({"status": Status.CLOSED}, id="it is closed"),
        pytest.param({"snooze": snoozed(TUESDAY + DAY)}, id="it is snoozed"),
        pytest.param(
            {
                "seen": Seen(
                    flag_id="1", episode=1, raised_at=THURSDAY, as_of=THURSDAY, change="cleared"
                )
            },
            id="it no longer stands",
        ),
    ],
)
def test_nothing_escalates_when(changes: dict[str, Any]) -> None:
    assert at(opened(**changes), TUESDAY) == Escalation()


def test_a_new_round_begins_the_steps_anew() -> None:
    again = opened(round=2, round_began_at=MONDAY)
    assert at(again, MONDAY).due == ()
    assert [step.to for step in at(again, TUESDAY).due] == [Who.OWNER]


def test_the_days_of_a_snooze_do_not_count() -> None:
    over = opened(snooze=snoozed(MONDAY, ended_at=MONDAY))
    assert at(over, MONDAY) == Escalation(next_at=TUESDAY)
    not_yet_noticed = opened(snooze=snoozed(MONDAY))
    assert at(not_yet_noticed, MONDAY) == Escalation(next_at=TUESDAY)


def test_what_became_critical_while_it_was_snoozed_escalates_from_then_on() -> None:
    broken = opened(snooze=snoozed(TUESDAY + 9 * DAY, broken_at=FRIDAY))
    assert at(broken, FRIDAY) == Escalation(next_at=MONDAY)
    assert [step.to for step in at(broken, MONDAY).due] == [Who.OWNER]


def test_what_is_nobody_s_escalates_at_once() -> None:
    found = at(opened(), THURSDAY, queue=True)
    assert [(step.number, step.to, step.at) for step in found.due] == [(0, Who.LEAD, THURSDAY)]
    assert found.next_at == FRIDAY


def test_a_step_at_once_and_no_steps_at_all() -> None:
    executive = Playbook(
        name="executive",
        version=1,
        title="",
        escalation=(EscalationStep(after=0, to=Who.MANAGER),),
    )
    assert [step.to for step in at(opened(playbook=executive), THURSDAY).due] == [Who.MANAGER]
    quiet = Playbook(name="quiet", version=1, title="")
    assert at(opened(playbook=quiet), TUESDAY) == Escalation()


def test_what_was_opened_before_there_were_playbooks_has_the_usual_plan() -> None:
    assert at(opened(playbook=None), MONDAY) == at(opened(), MONDAY)


@pytest.mark.parametrize(
    ("zone", "country", "opened_at", "first"),
    [
        pytest.param(
            "Asia/Riyadh",
            "SA",
            datetime(2026, 6, 4, 10, tzinfo=UTC),
            datetime(2026, 6, 7, 10, tzinfo=UTC),
            id="Thursday in Riyadh: Sunday, Friday and Saturday are the weekend",
        ),
        pytest.param(
            "Europe/Berlin",
            "DE",
            datetime(2026, 4, 2, 10, tzinfo=UTC),
            datetime(2026, 4, 7, 10, tzinfo=UTC),
            id="before Easter in Berlin: the Tuesday after",
        ),
        pytest.param(
            "Europe/Berlin",
            None,
            datetime(2026, 10, 23, 10, tzinfo=UTC),
            datetime(2026, 10, 26, 11, tzinfo=UTC),
            id="over the change of the clocks: 12:00 there stays 12:00",
        ),
        pytest.param(
            "Australia/Brisbane",
            None,
            datetime(2026, 6, 5, 19, tzinfo=UTC),
            datetime(2026, 6, 7, 19, tzinfo=UTC),
            id="Friday 19:00 UTC is Saturday 05:00 in Brisbane: Monday 05:00 there",
        ),
    ],
)
def test_the_owner_s_working_days_count(
    zone: str, country: str | None, opened_at: datetime, first: datetime
) -> None:
    calendar = Calendar(zone=zone_of(zone), country=country)
    steps = plan(opened(opened_at=opened_at), calendar=calendar, in_fallback_queue=False)
    assert steps[0].at == first


@given(hours=st.integers(0, 40 * 24), queue=st.booleans())
def test_looking_again_at_the_next_moment_finds_a_new_step(hours: int, *, queue: bool) -> None:
    now = THURSDAY + timedelta(hours=hours)
    found = at(opened(), now, queue=queue)
    if found.next_at is None:
        assert len(found.due) == (4 if queue else 3)
        return
    assert found.next_at > now
    later = at(opened(), found.next_at, queue=queue)
    assert set(found.due) < set(later.due)
