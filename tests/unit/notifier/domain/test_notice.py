"""The told/now table of notifier.md, section 4, row by row, and what is recorded unsent."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from services.notifier.domain.notice import (
    Due,
    Member,
    Notice,
    days_left,
    due_state,
    heard,
    kept_current,
    news_of,
    settle,
    why_notify,
)
from services.notifier.domain.policy import NotifyReason
from shared.messages import Band
from tests.unit.notifier.domain.groups import (
    BEN,
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SILENCED,
    SNOOZED,
    TIMING,
    A,
    B,
    C,
    closed,
    member,
    notice,
    over,
    state,
    threaded,
)

R = NotifyReason
NOTHING = notice()
TOLD = notice(member())
BOTH = notice(member(A), member(B))
THREAD = threaded(member())
YESTERDAY = NOW - DAY


def case(name: str, told: Notice, now: list[Member], reason: NotifyReason | None) -> object:
    return pytest.param(told, now, reason, id=name)


@pytest.mark.parametrize(
    ("told", "now", "reason"),
    [
        # Empty.
        case("empty, nothing there: nothing", NOTHING, [], None),
        case("empty, all over: no end without a beginning", NOTHING, [over()], None),
        case("empty, closed by a person: nothing", NOTHING, [closed()], None),
        case("empty, all muted: nothing", NOTHING, [member(muted=SNOOZED)], None),
        case("empty, one visible: first", NOTHING, [member()], R.FIRST),
        case(
            "empty, one visible beside a muted one: first",
            NOTHING,
            [member(), member(B, muted=SILENCED)],
            R.FIRST,
        ),
        case(
            "empty, others were told under another owner",
            NOTHING,
            [member(is_handed_over=True)],
            R.OWNER_CHANGED,
        ),
        case(
            "empty, one handed over and one new: first",
            NOTHING,
            [member(is_handed_over=True), member(B)],
            R.FIRST,
        ),
        case("empty, somebody else's by now: nothing", NOTHING, [member(is_here=False)], None),
        # Some; all closed by people
        case("closed by a person, no parent: nothing", TOLD, [closed()], None),
        case("closed by a person: parent updated", THREAD, [closed(looks="closed")], R.UPDATED),
        case(
            "one closed by a person, one cleared: recovered",
            BOTH,
            [closed(A), over(B)],
            R.RECOVERED,
        ),
        # Some; nothing raised
        case("nothing raised: recovered", TOLD, [over()], R.RECOVERED),
        case("nothing raised, what was muted too", TOLD, [over(), over(B)], R.RECOVERED),
        case(
            "what was told is over, a muted one stands: not over",
            TOLD,
            [over(), member(B, muted=SILENCED)],
            None,
        ),
        # Some; visible beyond told
        case("one beyond what was told: new reason", TOLD, [member(), member(B)], R.NEW_REASON),
        case(
            "beyond, but known: unmuted",
            replace(TOLD, known=frozenset({A, B})),
            [member(), member(B)],
            R.UNMUTED,
        ),
        case(
            "one unmuted and one new: new reason",
            replace(TOLD, known=frozenset({A, B})),
            [member(), member(B), member(C)],
            R.NEW_REASON,
        ),
        case(
            "beyond, from another owner",
            TOLD,
            [member(), member(B, is_handed_over=True)],
            R.OWNER_CHANGED,
        ),
        case("the one beyond is muted: nothing", TOLD, [member(), member(B, muted=SNOOZED)], None),
        case(
            "beyond comes before worse",
            TOLD,
            [member(severity=Band.CRITICAL), member(B)],
            R.NEW_REASON,
        ),
        # Some; raised, all muted
        case("raised, all muted: nothing", TOLD, [member(muted=SNOOZED)], None),
        case(
            "raised, all muted, and worse: nothing",
            TOLD,
            [member(muted=SILENCED, severity=Band.CRITICAL)],
            None,
        ),
        case(
            "snoozed by a click: the parent shows it",
            THREAD,
            [member(muted=SNOOZED, looks="snoozed")],
            R.UPDATED,
        ),
        # Some; it got worse, or is due.
        case("worse: severity raised", TOLD, [member(severity=Band.CRITICAL)], R.SEVERITY_RAISED),
        case("better: nothing", TOLD, [member(severity=Band.WATCH)], None),
        case("much at risk now", TOLD, [member(is_valuable=True)], R.THRESHOLD_CROSSED),
        case(
            "as much at risk as was told: nothing",
            notice(member(is_valuable=True)),
            [member(is_valuable=True)],
            None,
        ),
        case("few days left now", TOLD, [member(days_left=30)], R.THRESHOLD_CROSSED),
        case(
            "hardly any days left now",
            notice(member(days_left=30)),
            [member(days_left=7)],
            R.THRESHOLD_CROSSED,
        ),
        case(
            "more days left than was told: nothing",
            notice(member(days_left=7)),
            [member(days_left=30)],
            None,
        ),
        case("another owner", TOLD, [member(owner=BEN)], R.OWNER_CHANGED),
        case("due soon", TOLD, [member(due=Due.SOON)], R.DUE_SOON),
        case(
            "due soon, told so: nothing", notice(member(due=Due.SOON)), [member(due=Due.SOON)], None
        ),
        case("overdue", notice(member(due=Due.SOON)), [member(due=Due.OVER)], R.OVERDUE),
        case("overdue without a word before", TOLD, [member(due=Due.OVER)], R.OVERDUE),
        case(
            "overdue, told so: nothing", notice(member(due=Due.OVER)), [member(due=Due.OVER)], None
        ),
        case(
            "another due date, and soon: due soon again",
            notice(member(due=Due.SOON)),
            [member(due=Due.SOON, due_at=NOW + 4 * DAY)],
            R.DUE_SOON,
        ),
        case("idle after an acknowledgement", TOLD, [member(idle_since=NOW)], R.ACK_REMINDER),
        case(
            "idle, reminded of it: nothing",
            notice(member(idle_since=NOW)),
            [member(idle_since=NOW)],
            None,
        ),
        case(
            "idle once more: another reminder",
            notice(member(idle_since=YESTERDAY)),
            [member(idle_since=NOW)],
            R.ACK_REMINDER,
        ),
        case("its snooze has ended", TOLD, [member(snooze_ended_at=NOW)], R.SNOOZE_ENDED),
        case(
            "its snooze ended before it was told: nothing",
            TOLD,
            [member(snooze_ended_at=YESTERDAY)],
            None,
        ),
        case(
            "worse comes before due",
            BOTH,
            [member(due=Due.OVER), member(B, severity=Band.CRITICAL)],
            R.SEVERITY_RAISED,
        ),
        case(
            "late comes before soon",
            BOTH,
            [member(due=Due.SOON), member(B, due=Due.OVER)],
            R.OVERDUE,
        ),
        # Some; fewer members, or only the looks changed
        case(
            "fewer members: parent updated",
            threaded(member(), member(B)),
            [member(), over(B, looks="x")],
            R.UPDATED,
        ),
        case("fewer members, no parent: nothing", BOTH, [member(), over(B)], None),
        case("the score wobbles: parent updated", THREAD, [member(looks="31 %")], R.UPDATED),
        case("the score wobbles, no parent: nothing", TOLD, [member(looks="31 %")], None),
        # Some; the same
        case("the same: nothing", TOLD, [member()], None),
        case("the same, time to repeat", TOLD, [member(repeat_at=NOW)], R.REPEAT),
        case("the same, too early to repeat", TOLD, [member(repeat_at=NOW + MINUTE)], None),
        case("acknowledged: no repeat", TOLD, [member(repeat_at=NOW, is_handled=True)], None),
        case("watch: only the digest repeats", TOLD, [member(repeat_at=None)], None),
        case(
            "repeated three times: only the digest repeats",
            replace(TOLD, repeats=3),
            [member(repeat_at=NOW)],
            None,
        ),
        case(
            "repeated twice: once more", replace(TOLD, repeats=2), [member(repeat_at=NOW)], R.REPEAT
        ),
        case("snoozed: no repeat", TOLD, [member(repeat_at=NOW, muted=SNOOZED)], None),
    ],
)
def test_the_reason_to_tell(told: Notice, now: list[Member], reason: NotifyReason | None) -> None:
    assert why_notify(told, now, now=NOW) is reason


@pytest.mark.parametrize(
    ("now", "left"),
    [
        pytest.param([member(A), member(B)], {A, B}, id="both stand: both stay"),
        pytest.param([closed(A), member(B)], {B}, id="closed by a person: gone at once"),
        pytest.param([closed(A), closed(B)], set(), id="all closed by people: emptied"),
        pytest.param([over(A), member(B)], {B}, id="over for long while another stands: gone"),
        pytest.param(
            [over(A, over_since=NOW - MINUTE), member(B)],
            {A, B},
            id="just over while another stands: stays, it may flap",
        ),
        pytest.param([over(A), over(B)], {A, B}, id="all over: stays until that was told"),
        pytest.param(
            [over(A), member(B, muted=SILENCED)],
            {B},
            id="over for long while a muted one stands: gone",
        ),
        pytest.param([member(A, is_here=False), member(B)], {B}, id="somebody else's now: gone"),
        pytest.param([member(B)], {B}, id="unknown by now: gone"),
        pytest.param([member(A, muted=SNOOZED), member(B)], {A, B}, id="muted: stays"),
    ],
)
def test_what_needs_no_word_is_recorded_unsent(now: list[Member], left: set[object]) -> None:
    assert set(settle(BOTH, now, interval=TIMING.interval, now=NOW).told) == left


def test_a_first_message_begins_an_episode_and_its_conversation() -> None:
    root = NOTHING.root
    first = heard(NOTHING, {A: state()}, standing={A, B}, is_repeat=False, now=NOW)
    assert (first.episode, set(first.told), set(first.known)) == (1, {A}, {A, B})
    assert first.told[A].at == NOW
    assert first.root == root  # What follows stands in the same conversation ...
    over_now = heard(first, {}, standing=set(), is_repeat=False, now=NOW + HOUR)
    assert over_now.told == {}
    assert over_now.root != root  # ... and what comes after the end in another.


def test_what_is_muted_was_told_and_stays_so() -> None:
    later = heard(BOTH, {A: state()}, standing={A, B}, is_repeat=False, now=NOW)
    assert (later.told[A].at, later.told[B].at) == (NOW, NOW - HOUR)


def test_reminders_are_counted_until_there_is_news() -> None:
    repeated = heard(TOLD, TOLD.told, standing={A}, is_repeat=True, now=NOW)
    repeated = heard(repeated, TOLD.told, standing={A}, is_repeat=True, now=NOW)
    assert repeated.repeats == 2
    assert heard(repeated, TOLD.told, standing={A}, is_repeat=False, now=NOW).repeats == 0


def test_a_message_that_is_kept_current_tells_nothing_that_is_worse_or_new() -> None:
    worse = {A: state(severity=Band.CRITICAL), B: state()}
    current = kept_current(TOLD, worse, {A: "x", B: "y"}, standing={A, B})
    assert set(current.told) == {A}
    assert current.told[A].severity is Band.AT_RISK
    assert current.shown == {A: "x", B: "y"}
    better = kept_current(TOLD, {A: state(severity=Band.WATCH)}, {}, standing={A})
    assert better.told[A].severity is Band.WATCH


def test_the_end_is_not_told_by_keeping_a_message_current() -> None:
    assert kept_current(TOLD, {}, {A: "over"}, standing=()).told == TOLD.told


def test_news_are_the_same_as_long_as_they_tell_the_same() -> None:
    news = news_of([member(), member(B)])
    assert news == news_of([member(B, looks="x"), member(), over(C)])
    assert news != news_of([member(), member(B, due=Due.SOON)])


@pytest.mark.parametrize(
    ("until", "due"),
    [
        pytest.param(DAY + MINUTE, Due.LATER, id="in more than a day"),
        pytest.param(DAY, Due.SOON, id="in a day"),
        pytest.param(MINUTE, Due.SOON, id="in a minute"),
        pytest.param(0 * DAY, Due.OVER, id="now"),
        pytest.param(-DAY, Due.OVER, id="yesterday"),
    ],
)
def test_how_near_a_due_date_is(until: timedelta, due: Due) -> None:
    assert due_state(NOW + until, now=NOW) is due


@pytest.mark.parametrize(
    ("notice_by", "left"),
    [
        pytest.param(None, None, id="not known"),
        pytest.param(date(2026, 7, 1), None, id="30 days"),
        pytest.param(date(2026, 6, 30), 30, id="29 days"),
        pytest.param(date(2026, 6, 8), 30, id="7 days"),
        pytest.param(date(2026, 6, 7), 7, id="6 days"),
        pytest.param(date(2026, 5, 1), 7, id="past"),
    ],
)
def test_the_days_left_are_known_by_the_limits_they_passed(
    notice_by: date | None, left: int | None
) -> None:
    assert days_left(notice_by, (30, 7), today=NOW.date()) == left
