"""One decision per group: when, held back why, and when it must be looked at again."""

from dataclasses import replace

import pytest

from services.notifier.domain.decisions import Hearer
from services.notifier.domain.notice import Due, Member, news_of
from services.notifier.domain.people import Mode
from services.notifier.domain.policy import NotifyReason, SuppressReason
from shared.messages import Band
from tests.unit.notifier.domain.groups import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SILENCED,
    SNOOZED,
    TIMING,
    A,
    B,
    closed,
    decision,
    member,
    notice,
    over,
    threaded,
)

R, S = NotifyReason, SuppressReason
NOTHING = notice()
TOLD = notice(member())
ASLEEP = Hearer(opens_at=NOW + 14 * HOUR)
IN_STORM = Hearer(in_storm=True)
DAILY = Hearer(mode=Mode.DAILY)


def test_a_first_message_waits_for_what_may_join_it() -> None:
    found = decision(NOTHING, member())
    assert (found.reason, found.due_at) == (R.FIRST, NOW + TIMING.wait)


def test_a_second_message_keeps_its_distance() -> None:
    just_told = notice(member(), told_at=NOW - MINUTE)
    found = decision(just_told, member(severity=Band.CRITICAL))
    # Told a minute ago, five minutes between two: in four.
    assert (found.reason, found.due_at) == (R.SEVERITY_RAISED, NOW + 4 * MINUTE)


def test_what_time_brought_waits_for_nothing() -> None:
    found = decision(TOLD, member(due=Due.SOON))
    assert (found.reason, found.due_at) == (R.DUE_SOON, NOW)


def test_a_change_is_debounced_unless_somebody_waits_for_it() -> None:
    told = threaded(member())
    wobbled = member(looks="31 %")
    assert decision(told, wobbled).update_at == NOW + TIMING.debounce
    assert decision(told, wobbled, at_once=True).update_at == NOW
    assert decision(told, wobbled).reason is None


def test_the_parent_is_kept_current_beside_a_message_in_its_thread() -> None:
    found = decision(threaded(member()), member(severity=Band.CRITICAL, looks="worse"))
    assert found.reason is R.SEVERITY_RAISED
    assert found.update_at is not None


def test_the_old_parent_is_left_where_another_conversation_begins() -> None:
    old = threaded(member(), told={}, shown={A: "old"})
    found = decision(old, member())
    assert (found.reason, found.update_at) == (R.FIRST, None)


# Snooze x clear x expire: what a snoozed member, told before, comes to.
@pytest.mark.parametrize(
    ("now", "reason", "told", "held"),
    [
        pytest.param(member(muted=SNOOZED), None, {A}, [], id="snoozed, still raised: quiet"),
        pytest.param(
            over(muted=SNOOZED),
            None,
            set(),
            [(R.RECOVERED, S.SNOOZED)],
            id="snoozed, cleared: closed quietly, recorded unsent",
        ),
        pytest.param(
            member(snooze_ended_at=NOW),
            R.SNOOZE_ENDED,
            {A},
            [],
            id="expired, still raised: one snooze_ended",
        ),
        pytest.param(
            over(snooze_ended_at=NOW),
            R.RECOVERED,
            {A},
            [],
            id="expired, cleared only then: recovered",
        ),
        pytest.param(
            member(muted=SNOOZED, severity=Band.CRITICAL),
            None,
            {A},
            [(R.SEVERITY_RAISED, S.SNOOZED)],
            id="snoozed, worse: held, with its reason",
        ),
        pytest.param(
            member(severity=Band.CRITICAL),
            R.SEVERITY_RAISED,
            {A},
            [],
            id="snoozed, critical: breaks through (no mute)",
        ),
        pytest.param(closed(muted=SNOOZED), None, set(), [], id="snoozed, closed by a person"),
    ],
)
def test_snooze_clear_expire(
    now: Member,
    reason: NotifyReason | None,
    told: set[object],
    held: list[tuple[NotifyReason, SuppressReason]],
) -> None:
    found = decision(TOLD, now)
    assert found.reason is reason
    assert set(found.notice.told) == told
    assert [(one.reason, one.against) for one in found.held] == held


# Resolve: of two that were told, how each combination of ends is told.
@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        pytest.param(member(A), member(B), None, id="stands, stands"),
        pytest.param(member(A), over(B), None, id="stands, cleared: no end yet"),
        pytest.param(member(A), closed(B), None, id="stands, closed: no end yet"),
        pytest.param(over(A), over(B), R.RECOVERED, id="cleared, cleared: recovered"),
        pytest.param(over(A), closed(B), R.RECOVERED, id="cleared, closed: recovered"),
        pytest.param(closed(A), closed(B), None, id="closed, closed: they know"),
        pytest.param(over(A), member(B, muted=SILENCED), None, id="cleared, muted: no end yet"),
        pytest.param(
            over(A), over(B, muted=SILENCED), R.RECOVERED, id="cleared, cleared in silence"
        ),
        pytest.param(
            over(A, muted=SILENCED),
            over(B, muted=SILENCED),
            None,
            id="both cleared in silence: unsent",
        ),
    ],
)
def test_resolve(one: Member, other: Member, reason: NotifyReason | None) -> None:
    found = decision(notice(member(A), member(B)), one, other)
    assert found.reason is reason


def test_an_end_that_nobody_wants_is_recorded_so_that_the_next_beginning_is_told() -> None:
    found = decision(TOLD, over(muted=SILENCED))
    assert (found.reason, found.notice.told) == (None, {})
    assert decision(found.notice, member()).reason is R.FIRST


def test_what_is_muted_is_known_and_told_as_unmuted() -> None:
    found = decision(TOLD, member(), member(B, muted=SILENCED))
    assert [(one.about, one.against) for one in found.held] == [(B, S.SILENCED)]
    assert decision(found.notice, member(), member(B)).reason is R.UNMUTED


def test_the_same_suppression_has_the_same_cause_until_it_is_something_else() -> None:
    first, again = (decision(NOTHING, member(muted=SNOOZED)).held[0] for _ in range(2))
    worse = decision(NOTHING, member(muted=SNOOZED, severity=Band.CRITICAL)).held[0]
    assert first == again
    assert worse.cause != first.cause


def test_quiet_hours_hold_until_the_opening_and_bundle() -> None:
    found = decision(NOTHING, member(), hearer=ASLEEP)
    assert (found.reason, found.bundle_at, found.next_at) == (
        None,
        ASLEEP.opens_at,
        ASLEEP.opens_at,
    )
    assert (found.notice.bundled, found.notice.told) == (S.QUIET_HOURS, {})
    assert [one.against for one in found.held] == [S.QUIET_HOURS]


def test_what_is_bundled_is_told_once_by_the_bundle() -> None:
    held = decision(NOTHING, member(), hearer=ASLEEP).notice
    at_opening = decision(held, member(), now=NOW + 14 * HOUR)
    assert at_opening.reason is None
    assert at_opening.bundle_at is not None


def test_what_clears_in_quiet_hours_leaves_the_bundle() -> None:
    held = decision(NOTHING, member(), hearer=ASLEEP).notice
    assert decision(held, over(), hearer=ASLEEP).notice.bundled is None


def test_an_end_in_quiet_hours_waits_for_the_opening_by_itself() -> None:
    found = decision(TOLD, over(), hearer=ASLEEP)
    assert (found.reason, found.bundle_at, found.next_at) == (None, None, ASLEEP.opens_at)
    assert found.notice.told
    assert decision(found.notice, over()).reason is R.RECOVERED


def test_urgent_work_breaks_into_quiet_hours_and_out_of_the_bundle() -> None:
    assert decision(NOTHING, member(is_urgent=True), hearer=ASLEEP).reason is R.FIRST
    held = decision(NOTHING, member(), hearer=ASLEEP).notice
    assert decision(held, member(is_urgent=True), hearer=ASLEEP).reason is R.FIRST


def test_a_storm_is_one_summary() -> None:
    found = decision(NOTHING, member(), hearer=IN_STORM)
    assert (found.reason, found.bundle_at) == (None, NOW + TIMING.interval)
    assert found.notice.bundled is S.STORM


def test_whoever_wants_a_digest_is_not_told_and_nothing_counts_as_told() -> None:
    found = decision(NOTHING, member(), hearer=DAILY)
    assert (found.reason, found.bundle_at, found.notice.told) == (None, None, {})
    assert [one.against for one in found.held] == [S.PREFERENCE]
    ended = decision(TOLD, over(), hearer=DAILY)
    assert (ended.reason, ended.notice.told) == (None, {})


def test_what_could_not_be_delivered_is_tried_again_only_when_there_is_more_to_tell() -> None:
    gave_up = replace(NOTHING, gave_up=news_of([member()]))
    assert decision(gave_up, member()).reason is None
    assert decision(gave_up, member(due=Due.SOON)).reason is R.FIRST


def test_it_is_looked_at_again_when_the_first_thing_can_change() -> None:
    told = notice(member(), member(B))
    found = decision(
        told,
        member(changes_at=NOW + 3 * DAY, repeat_at=NOW + 2 * DAY),
        member(B, changes_at=NOW + DAY),
    )
    assert found.next_at == NOW + DAY
    flapping = decision(told, member(), over(B, over_since=NOW - MINUTE))
    assert flapping.next_at == NOW + 4 * MINUTE
    assert decision(TOLD, member(repeat_at=NOW + DAY, is_handled=True)).next_at is None
    assert decision(replace(TOLD, repeats=3), member(repeat_at=NOW + DAY)).next_at is None
