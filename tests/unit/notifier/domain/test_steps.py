"""What people do: each step taken once, by whoever saw the intervention as it is."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.notifier.domain import steps
from services.notifier.domain.interventions import Intervention, Status
from services.notifier.domain.refusals import Refusal
from shared.messages import OutcomeKind
from tests.unit.notifier.factories import ASSIGNMENT, DAY, HOUR, NOW, intervention

LATER = NOW + HOUR


def done(result: steps.Result) -> Intervention:
    assert isinstance(result, Intervention), result
    return result


def acked() -> Intervention:
    return done(steps.acknowledge(intervention(), version=1, by="anna", now=LATER))


def closed(outcome: OutcomeKind = OutcomeKind.SAVED, note: str = "") -> Intervention:
    return done(
        steps.close(intervention(), version=1, outcome=outcome, note=note, by="anna", now=LATER)
    )


def asleep(current: Intervention, until: datetime = NOW + 10 * DAY) -> Intervention:
    return done(
        steps.snooze(
            current, version=None, until=until, zone=UTC, reason="ill", by="anna", now=LATER
        )
    )


@pytest.mark.parametrize(
    ("current", "version", "refusal"),
    [
        pytest.param(intervention(), 2, Refusal.STALE, id="stale page"),
        pytest.param(acked(), 2, Refusal.ACKNOWLEDGED, id="twice"),
        pytest.param(acked(), None, Refusal.ACKNOWLEDGED, id="twice, whatever the version"),
        pytest.param(closed(), 2, Refusal.CLOSED, id="closed"),
    ],
)
def test_an_acknowledgement_is_refused(
    current: Intervention, version: int | None, refusal: Refusal
) -> None:
    assert steps.acknowledge(current, version=version, by="anna", now=NOW) is refusal


def test_without_a_version_it_is_taken_on_as_it_is_now() -> None:
    current = intervention(version=7)
    taken = done(steps.acknowledge(current, version=None, by="anna", now=LATER))
    assert (taken.version, taken.status, taken.acted_at) == (8, Status.ACKNOWLEDGED, LATER)


@pytest.mark.parametrize("outcome", list(OutcomeKind))
def test_some_outcomes_need_a_note(outcome: OutcomeKind) -> None:
    needs = outcome in {OutcomeKind.FALSE_ALARM, OutcomeKind.CHURNED, OutcomeKind.DOWNSOLD}
    bare = steps.close(intervention(), version=1, outcome=outcome, note="", by="anna", now=NOW)
    assert (bare is Refusal.NOTE_MISSING) is needs
    noted = closed(outcome, "why")
    assert (noted.outcome, noted.revision, noted.version) == (outcome, 1, 2)
    later = steps.correct(
        closed(OutcomeKind.SAVED, "x"), version=2, outcome=outcome, note="", by="b", now=NOW
    )
    assert (later is Refusal.NOTE_MISSING) is needs


def test_a_stale_page_closes_nothing() -> None:
    step = steps.close(acked(), version=1, outcome=OutcomeKind.SAVED, note="", by="b", now=NOW)
    assert step is Refusal.STALE


def test_closing_ends_a_snooze() -> None:
    current = asleep(intervention())
    closing = steps.close(
        current, version=2, outcome=OutcomeKind.SAVED, note="", by="anna", now=LATER
    )
    assert done(closing).snooze is None


def test_a_corrected_outcome_is_the_next_revision_and_closed_when_it_was() -> None:
    first = closed()
    second = done(
        steps.correct(
            first, version=2, outcome=OutcomeKind.CHURNED, note="left", by="ben", now=NOW + DAY
        )
    )
    assert (second.outcome, second.note, second.closed_by) == (OutcomeKind.CHURNED, "left", "ben")
    assert (second.revision, second.version, second.closed_at) == (2, 3, first.closed_at)


@pytest.mark.parametrize(
    ("current", "version", "outcome", "refusal"),
    [
        pytest.param(intervention(), 1, OutcomeKind.SAVED, Refusal.NOT_CLOSED, id="open"),
        pytest.param(closed(), 1, OutcomeKind.EXPANDED, Refusal.STALE, id="stale page"),
        pytest.param(closed(), 2, OutcomeKind.SAVED, Refusal.UNCHANGED, id="the same again"),
    ],
)
def test_a_correction_is_refused(
    current: Intervention, version: int, outcome: OutcomeKind, refusal: Refusal
) -> None:
    step = steps.correct(current, version=version, outcome=outcome, note="", by="b", now=NOW)
    assert step is refusal


NOTICE = date(2026, 6, 21)
PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("until", "reason", "notice_by", "refusal"),
    [
        pytest.param(NOW + DAY, "ill", None, None, id="tomorrow"),
        pytest.param(NOW + 60 * DAY, "ill", None, None, id="60 days"),
        pytest.param(NOW + 60 * DAY + HOUR, "ill", None, Refusal.TOO_LONG, id="more than 60 days"),
        pytest.param(NOW, "ill", None, Refusal.PAST, id="now"),
        pytest.param(NOW - DAY, "ill", None, Refusal.PAST, id="yesterday"),
        pytest.param(NOW + DAY, "", None, Refusal.REASON_MISSING, id="without a reason"),
        pytest.param(
            datetime(2026, 6, 20, 21, 59, tzinfo=UTC),
            "ill",
            NOTICE,
            None,
            id="the day before notice, 23:59 in Paris",
        ),
        pytest.param(
            datetime(2026, 6, 20, 22, tzinfo=UTC),
            "ill",
            NOTICE,
            Refusal.AFTER_NOTICE,
            id="the day of notice, 00:00 in Paris",
        ),
        pytest.param(
            NOW + 30 * DAY, "ill", NOTICE, Refusal.AFTER_NOTICE, id="after the day of notice"
        ),
        pytest.param(NOW + DAY, "ill", NOW.date(), Refusal.AFTER_NOTICE, id="notice is today"),
        pytest.param(
            NOW + DAY, "ill", NOW.date() - timedelta(days=1), None, id="notice was yesterday"
        ),
    ],
)
def test_a_snooze_ends_in_time(
    until: datetime, reason: str, notice_by: date | None, refusal: Refusal | None
) -> None:
    current = intervention(notice_by=notice_by)
    step = steps.snooze(
        current, version=1, until=until, zone=PARIS, reason=reason, by="anna", now=NOW
    )
    if refusal is not None:
        assert step is refusal
        return
    taken = done(step)
    assert taken.snooze is not None
    assert (taken.snooze.until, taken.status, taken.version) == (until, Status.OPEN, 2)
    assert taken.is_snoozed(until - HOUR)
    assert not taken.is_snoozed(until)


def test_closed_or_changed_work_is_not_snoozed() -> None:
    for current, refusal in ((closed(), Refusal.CLOSED), (acked(), Refusal.STALE)):
        step = steps.snooze(
            current, version=1, until=NOW + DAY, zone=UTC, reason="x", by="b", now=NOW
        )
        assert step is refusal


def test_whoever_wakes_it_ends_the_snooze_and_no_other() -> None:
    awake = done(steps.wake(asleep(intervention()), version=2, now=LATER))
    assert (awake.snooze, awake.version) == (None, 3)
    assert steps.wake(awake, version=3, now=LATER) is Refusal.NOT_SNOOZED
    over = asleep(intervention(), until=NOW + 2 * HOUR)
    assert steps.wake(over, version=2, now=NOW + 2 * HOUR) is Refusal.NOT_SNOOZED


@pytest.mark.parametrize(
    ("current", "owner", "refusal"),
    [
        pytest.param(intervention(), ASSIGNMENT.owner, Refusal.UNCHANGED, id="theirs already"),
        pytest.param(intervention(), "", Refusal.OWNER_MISSING, id="nobody's"),
        pytest.param(closed(), "ben@vendor.example", Refusal.CLOSED, id="closed"),
    ],
)
def test_passing_on_is_refused(current: Intervention, owner: str, refusal: Refusal) -> None:
    assert steps.reassign(current, version=current.version, owner=owner, now=NOW) is refusal


def test_passed_on_it_stays_acknowledged_snoozed_and_due() -> None:
    current = asleep(acked())
    moved = done(steps.reassign(current, version=3, owner="ben@vendor.example", now=LATER))
    assert moved == replace(current, owner="ben@vendor.example", version=4, acted_at=LATER)


def test_only_a_new_owner_of_open_work_is_a_change() -> None:
    assert steps.hand_over(intervention(), owner=ASSIGNMENT.owner) is None
    assert steps.hand_over(closed(), owner="ben@vendor.example") is None
    moved = steps.hand_over(intervention(), owner="ben@vendor.example")
    assert moved is not None
    assert (moved.owner, moved.version, moved.acted_at) == ("ben@vendor.example", 2, None)


def test_whoever_does_a_task_has_taken_it_on() -> None:
    taken = done(steps.work(intervention(), done=True, by="ben", now=LATER))
    assert (taken.status, taken.acknowledged_by) == (Status.ACKNOWLEDGED, "ben")
    unticked = done(steps.work(intervention(), done=False, by="ben", now=LATER))
    assert unticked.status is Status.OPEN
    again = done(steps.work(acked(), done=True, by="ben", now=LATER + HOUR))
    assert (again.acknowledged_by, again.acted_at) == ("anna", LATER + HOUR)
    assert steps.work(closed(), done=True, by="ben", now=LATER) is Refusal.CLOSED
