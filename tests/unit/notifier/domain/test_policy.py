"""What speaks against telling: the suppressions of notifier.md, section 4, in their order."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest

from services.notifier.domain.flags import OwnReason
from services.notifier.domain.interventions import Intervention, Snooze
from services.notifier.domain.people import Mode
from services.notifier.domain.policy import (
    Mute,
    NotifyReason,
    SuppressReason,
    Surroundings,
    is_urgent,
    why_held_back,
    why_muted,
)
from shared.messages import Band, FlagReason, ValueAtRisk
from tests.unit.notifier.factories import DAY, HOUR, NOW, intervention

S = SuppressReason
CALM = Surroundings()
WORK = intervention(reason=FlagReason.USAGE_DROP)
ASLEEP = Snooze(until=NOW + 7 * DAY, reason="holiday", by="anna", at=NOW)
OUTAGE = Surroundings(outage_since=NOW - HOUR)
EVERYTHING = Surroundings(
    account_lost=True, outage_since=NOW - HOUR, is_restored=True, is_mass=True
)
WORST = replace(WORK, held_out=True, snooze=ASLEEP)


def muted(
    subject: Intervention,
    around: Surroundings = CALM,
    *,
    told_at: datetime | None = None,
    silenced_until: datetime | None = None,
    now: datetime = NOW,
) -> Mute | None:
    return why_muted(subject, around, told_at=told_at, silenced_until=silenced_until, now=now)


@pytest.mark.parametrize(
    ("subject", "around", "silenced_until", "against"),
    [
        pytest.param(WORK, CALM, None, None, id="nothing speaks against it"),
        pytest.param(WORK, OUTAGE, None, S.DATA_STALE, id="raised in an outage: data_stale"),
        pytest.param(
            intervention(reason=FlagReason.CANCELLATION_INTENT),
            OUTAGE,
            None,
            None,
            id="an outage makes no cancellations",
        ),
        pytest.param(
            WORK,
            Surroundings(outage_since=NOW + HOUR),
            None,
            None,
            id="raised before the outage",
        ),
        pytest.param(WORK, Surroundings(is_restored=True), None, S.RESTORED, id="restored"),
        pytest.param(WORK, Surroundings(is_mass=True), None, S.MASS_FLAGS, id="mass_flags"),
        pytest.param(WORK, Surroundings(account_lost=True), None, S.INHIBITED, id="inhibited"),
        pytest.param(
            intervention(reason=OwnReason.ACCOUNT_LOST),
            Surroundings(account_lost=True),
            None,
            None,
            id="that the account is lost is told",
        ),
        pytest.param(
            intervention(reason=OwnReason.SENTIMENT),
            Surroundings(account_lost=True),
            None,
            S.INHIBITED,
            id="its sentiment is not",
        ),
        pytest.param(replace(WORK, held_out=True), CALM, None, S.HELD_OUT, id="held_out"),
        pytest.param(WORK, CALM, NOW + HOUR, S.SILENCED, id="silenced"),
        pytest.param(WORK, CALM, NOW, None, id="a silence that is over"),
        pytest.param(replace(WORK, snooze=ASLEEP), CALM, None, S.SNOOZED, id="snoozed"),
    ],
)
def test_what_mutes_an_intervention(
    subject: Intervention,
    around: Surroundings,
    silenced_until: datetime | None,
    against: SuppressReason | None,
) -> None:
    found = muted(subject, around, silenced_until=silenced_until)
    assert (found.against if found else None) is against


def test_the_first_that_holds_is_the_reason() -> None:
    around, subject, silenced = EVERYTHING, WORST, NOW + HOUR
    order = []
    for end in (
        {"outage_since": None},
        {"is_restored": False},
        {"is_mass": False},
        {"account_lost": False},
    ):
        order.append(muted(subject, around, silenced_until=silenced))
        around = replace(around, **end)
    order.append(muted(subject, around, silenced_until=silenced))
    subject = replace(subject, held_out=False)
    order.append(muted(subject, around, silenced_until=silenced))
    order.append(muted(subject, around))
    subject = replace(subject, snooze=None)
    assert muted(subject, around) is None
    assert [one.against for one in order if one] == [
        S.DATA_STALE,
        S.RESTORED,
        S.MASS_FLAGS,
        S.INHIBITED,
        S.HELD_OUT,
        S.SILENCED,
        S.SNOOZED,
    ]


def test_a_mute_knows_its_end() -> None:
    assert muted(WORK, silenced_until=NOW + HOUR) == Mute(against=S.SILENCED, until=NOW + HOUR)
    asleep = replace(WORK, snooze=ASLEEP)
    assert muted(asleep) == Mute(against=S.SNOOZED, until=ASLEEP.until)
    assert muted(asleep, now=ASLEEP.until) is None


def test_what_becomes_critical_breaks_through_its_snooze_once() -> None:
    broken = replace(ASLEEP, broken_at=NOW)
    subject = replace(WORK, severity=Band.CRITICAL, snooze=broken)
    assert muted(subject, told_at=NOW - HOUR) is None
    assert muted(subject, told_at=None) is None
    again = muted(subject, told_at=NOW + HOUR)
    assert again is not None
    assert again.against is S.SNOOZED


@pytest.mark.parametrize(
    ("reason", "changes", "against"),
    [
        pytest.param("first", {}, None, id="at work: told"),
        pytest.param("first", {"mode": Mode.DAILY}, S.PREFERENCE, id="daily: to the digest"),
        pytest.param("first", {"mode": Mode.WEEKLY}, S.PREFERENCE, id="weekly: to the digest"),
        pytest.param("first", {"mode": Mode.NEVER}, S.PREFERENCE, id="never"),
        pytest.param("first", {"in_storm": True}, S.STORM, id="storm: to the summary"),
        pytest.param("new_reason", {"in_storm": True}, S.STORM, id="storm: another reason too"),
        pytest.param("severity_raised", {"in_storm": True}, None, id="storm: worse is told"),
        pytest.param("overdue", {"in_storm": True}, None, id="storm: late is told"),
        pytest.param("first", {"opens_at": NOW + HOUR}, S.QUIET_HOURS, id="quiet hours"),
        pytest.param("recovered", {"opens_at": NOW + HOUR}, S.QUIET_HOURS, id="good news wait too"),
        pytest.param("updated", {"opens_at": NOW + HOUR}, None, id="a change bothers nobody"),
        pytest.param("updated", {"mode": Mode.DAILY}, None, id="whatever they prefer"),
        pytest.param(
            "first",
            {"mode": Mode.DAILY, "in_storm": True, "opens_at": NOW + HOUR},
            S.PREFERENCE,
            id="preference before storm",
        ),
        pytest.param(
            "first",
            {"in_storm": True, "opens_at": NOW + HOUR},
            S.STORM,
            id="storm before quiet hours",
        ),
        *(
            pytest.param(
                "first", {"is_urgent": True, name: value}, None, id=f"urgent passes {name}"
            )
            for name, value in (
                ("mode", Mode.NEVER),
                ("in_storm", True),
                ("opens_at", NOW + HOUR),
            )
        ),
    ],
)
def test_what_holds_a_recipient_back(
    reason: str, changes: dict[str, object], against: SuppressReason | None
) -> None:
    usual: dict[str, object] = {
        "is_urgent": False,
        "mode": Mode.REAL_TIME,
        "in_storm": False,
        "opens_at": None,
    }
    found = why_held_back(NotifyReason(reason), **(usual | changes))  # type: ignore[arg-type]
    assert (found.against if found else None) is against


SOON_GONE = replace(
    WORK,
    severity=Band.CRITICAL,
    notice_by=date(2026, 6, 30),
    value_at_risk=ValueAtRisk(amount=Decimal(50_000), currency="EUR", basis="margin"),
)


@pytest.mark.parametrize(
    ("changes", "urgent"),
    [
        pytest.param({}, True, id="critical, 29 days, 50,000"),
        pytest.param({"severity": Band.AT_RISK}, False, id="not critical"),
        pytest.param({"notice_by": NOW.date() + timedelta(days=30)}, False, id="30 days"),
        pytest.param({"notice_by": None}, False, id="no deadline known"),
        pytest.param({"value_at_risk": None}, False, id="no value known"),
        pytest.param(
            {"value_at_risk": ValueAtRisk(amount=Decimal(24_999), currency="EUR", basis="margin")},
            False,
            id="24,999",
        ),
    ],
)
def test_what_is_urgent(changes: dict[str, object], urgent: bool) -> None:  # noqa: FBT001
    subject = replace(SOON_GONE, **changes)  # type: ignore[arg-type]
    assert is_urgent(subject, value_from=Decimal(25_000), now=NOW) is urgent
