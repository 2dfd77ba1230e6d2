"""Snooze x clear x expire, row by row; idle work, and what was said until a day."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from services.notifier.domain import ticks
from services.notifier.domain.interventions import Status, Taken, take
from services.notifier.domain.sentiments import Mood, Sentiment
from services.notifier.domain.signals import of_sentiment
from services.notifier.domain.ticks import Ticked
from shared.messages import AccountFields, OutcomeKind
from tests.unit.notifier.domain.lives import CALENDAR, Life
from tests.unit.notifier.factories import ASSIGNMENT, DAY, HOUR, ID, NOW, intervention

OPEN, ACKED, CLOSED = Status.OPEN, Status.ACKNOWLEDGED, Status.CLOSED


@pytest.mark.parametrize(
    ("events", "status", "recovered", "snoozed", "to_tell"),
    [
        pytest.param("clear", CLOSED, False, False, False, id="open, cleared: closed"),
        pytest.param("snooze", OPEN, False, True, False, id="snoozed: open, and quiet"),
        pytest.param("snooze still tick", OPEN, False, True, False, id="snoozed, still raised"),
        pytest.param(
            "snooze still end", OPEN, False, False, True, id="snoozed, still raised, over: told"
        ),
        pytest.param(
            "snooze clear", OPEN, True, True, False, id="snoozed, cleared: waits for the end"
        ),
        pytest.param(
            "snooze clear tick", OPEN, True, True, False, id="snoozed, cleared, not over yet"
        ),
        pytest.param(
            "snooze clear end", CLOSED, True, False, False, id="snoozed, cleared, over: closed"
        ),
        pytest.param(
            "snooze clear raise_again",
            OPEN,
            False,
            True,
            False,
            id="snoozed, cleared, raised again: quiet",
        ),
        pytest.param(
            "snooze clear raise_again end",
            OPEN,
            False,
            False,
            True,
            id="snoozed, cleared, raised again, over: told",
        ),
        pytest.param(
            "snooze end clear", CLOSED, False, False, False, id="snoozed, over, cleared: closed"
        ),
        pytest.param("snooze wake clear", CLOSED, False, False, False, id="woken, cleared: closed"),
        pytest.param("snooze wake end", OPEN, False, False, False, id="woken: nothing ends"),
        pytest.param(
            "acknowledge clear", ACKED, True, False, False, id="acked, cleared: recovered"
        ),
        pytest.param(
            "acknowledge snooze still end", ACKED, False, False, True, id="acked, snoozed, over"
        ),
        pytest.param(
            "acknowledge snooze clear", ACKED, True, True, False, id="acked, snoozed, cleared"
        ),
        pytest.param(
            "acknowledge snooze clear end",
            ACKED,
            True,
            False,
            False,
            id="acked, snoozed, cleared, over: they say how it ended",
        ),
        pytest.param(
            "acknowledge snooze clear end raise_again tick",
            ACKED,
            False,
            False,
            False,
            id="acked, over while cleared, raised again: theirs still, and no end to tell",
        ),
        pytest.param(
            "snooze acknowledge clear end",
            ACKED,
            True,
            False,
            False,
            id="snoozed, acked, cleared, over: they say how it ended",
        ),
        pytest.param("snooze close end", CLOSED, False, False, False, id="snoozed, closed by hand"),
        pytest.param(
            "snooze lose clear end",
            OPEN,
            False,
            False,
            False,
            id="snoozed, lost, cleared, over: nobody calls it fine",
        ),
        pytest.param(
            "snooze clear lose end",
            OPEN,
            True,
            False,
            False,
            id="snoozed, cleared, lost, over: nobody calls it fine",
        ),
        pytest.param(
            "snooze clear lose end come_back", CLOSED, True, False, False, id="lost, over, back"
        ),
        pytest.param("lose clear come_back", CLOSED, False, False, False, id="lost, cleared, back"),
        pytest.param(
            "acknowledge lose clear come_back", ACKED, True, False, False, id="acked, lost, back"
        ),
        pytest.param("lose come_back", OPEN, False, False, False, id="lost, back, still raised"),
        pytest.param(
            "snooze critical end", OPEN, False, False, True, id="snoozed, critical, over: told"
        ),
    ],
)
def test_snooze_clear_and_expire(
    events: str, status: Status, *, recovered: bool, snoozed: bool, to_tell: bool
) -> None:
    life = Life().play(*events.split())
    subject = life.subject
    assert subject.status is status
    assert (subject.recovered_at is not None) is recovered
    assert subject.is_snoozed(life.now) is snoozed
    assert subject.snooze_ended_after(NOW) is to_tell
    # Told once: whoever was told since is not told again.
    assert not subject.snooze_ended_after(life.now + HOUR)
    if status is CLOSED and "close" not in events:
        assert (subject.outcome, subject.closed_by) == (OutcomeKind.NO_ACTION_NEEDED, "system")
    assert (subject.outcome is None) is (status is not CLOSED)


def test_a_tick_that_comes_late_or_twice_does_the_same() -> None:
    late = Life().play("snooze", "clear")
    late.now += 300 * DAY
    late.tick()
    late.tick()
    assert late.ticked == [Ticked.CLOSED]
    told = Life().play("snooze", "end", "tick", "tick")
    assert told.ticked == [Ticked.SNOOZE_ENDED]


def test_a_new_snooze_is_told_when_it_ends_too() -> None:
    life = Life().play("snooze", "end")
    first_end = life.now
    life.play("snooze", "end")
    assert life.ticked == [Ticked.SNOOZE_ENDED] * 2
    assert life.subject.snooze_ended_after(first_end)


# Monday 12:00 -> five working days later is Monday, 8 June; two more: Wednesday, 10 June.
REMIND = datetime(2026, 6, 8, 12, tzinfo=UTC)
GIVE_UP = datetime(2026, 6, 10, 12, tzinfo=UTC)


def test_idle_work_is_open_again_after_a_reminder() -> None:
    current = intervention(
        status=ACKED, acknowledged_at=NOW, acknowledged_by="anna", acted_at=NOW, version=2
    )
    assert ticks.remind_at(current, CALENDAR) == REMIND
    assert ticks.give_up_at(current, CALENDAR) == GIVE_UP
    for now, following in ((NOW, REMIND), (REMIND, GIVE_UP)):
        assert ticks.tick(current, now=now, calendar=CALENDAR, account_lost=False) is None
        assert ticks.next_tick(current, now=now, calendar=CALENDAR) == min(following, now + DAY)
    step = ticks.tick(current, now=GIVE_UP, calendar=CALENDAR, account_lost=False)
    assert step is not None
    ticked, again = step
    assert ticked is Ticked.UNACKNOWLEDGED
    assert again == replace(
        current,
        status=OPEN,
        version=3,
        round=2,
        round_began_at=GIVE_UP,
        acknowledged_at=None,
        acknowledged_by=None,
    )
    assert ticks.tick(again, now=GIVE_UP + DAY, calendar=CALENDAR, account_lost=False) is None


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        pytest.param({"acted_at": NOW + DAY}, False, id="somebody did something"),
        pytest.param({"recovered_at": NOW, "seen": "cleared"}, False, id="it has recovered"),
        pytest.param({}, True, id="the account has left"),
        pytest.param({"status": OPEN}, False, id="nobody had it"),
    ],
)
def test_work_that_is_not_idle_stays_as_it_is(changes: dict[str, object], *, lost: bool) -> None:
    usual: dict[str, object] = {"status": ACKED, "acknowledged_at": NOW, "acted_at": NOW}
    current = intervention()
    if changes.get("seen"):
        changes = changes | {"seen": replace(current.seen, change="cleared")}
    current = intervention(**(usual | changes))
    assert ticks.tick(current, now=GIVE_UP, calendar=CALENDAR, account_lost=lost) is None


def test_the_days_of_a_snooze_are_not_idle() -> None:
    life = Life().play("acknowledge", "snooze", "end")
    assert life.ticked == [Ticked.SNOOZE_ENDED]
    ended = life.now
    assert ticks.idle_since(life.subject) == ended
    life.now = CALENDAR.add_business_days(ended, 7)
    life.tick()
    assert life.ticked == [Ticked.SNOOZE_ENDED, Ticked.UNACKNOWLEDGED]


def sentiment(mood: Mood, at: datetime, days: int = 30) -> Sentiment:
    return Sentiment(
        id=UUID(int=at.toordinal()),
        account_id="acme",
        mood=mood,
        note="They are angry.",
        by="anna",
        at=at,
        expires_at=at + timedelta(days=days),
    )


def said(life: Life | None, mood: Mood, at: datetime = NOW) -> Life:
    signal = of_sentiment(sentiment(mood, at), AccountFields(contract_end=date(2026, 12, 31)))
    taken, subject = take(
        life.subject if life else None,
        signal,
        new_id=ID,
        assignment=ASSIGNMENT,
        account_lost=False,
        now=at,
    )
    assert subject is not None
    return Life(subject=subject, now=at, taken=[taken])


def test_a_bad_sentiment_is_work_until_it_expires() -> None:
    life = said(None, Mood.BAD)
    assert (life.subject.type, life.subject.reason) == ("adopt", "sentiment")
    assert life.subject.renewal_date == date(2026, 12, 31)
    life.now = NOW + 30 * DAY - HOUR
    life.tick()
    assert life.subject.status is OPEN
    life.now += HOUR
    life.tick()
    assert (life.subject.status, life.ticked) == (CLOSED, [Ticked.CLOSED])


def test_an_expired_sentiment_that_somebody_works_on_is_theirs_to_close() -> None:
    life = said(None, Mood.BAD)
    life.play("acknowledge")
    life.now = NOW + 30 * DAY
    life.subject = replace(life.subject, acted_at=life.now)
    life.tick()
    assert (life.subject.status, life.ticked) == (ACKED, [Ticked.EXPIRED])
    assert life.subject.recovered_at == life.now
    life.tick()
    assert life.ticked == [Ticked.EXPIRED]


@pytest.mark.parametrize("mood", [Mood.GOOD, Mood.NEUTRAL])
def test_a_better_sentiment_ends_it_if_nobody_acted(mood: Mood) -> None:
    ended = said(said(None, Mood.BAD), mood, NOW + DAY)
    assert (ended.taken, ended.subject.status) == ([Taken.CLOSED], CLOSED)
    worked_on = said(said(None, Mood.BAD).play("acknowledge"), mood, NOW + 2 * DAY)
    assert (worked_on.taken, worked_on.subject.status) == ([Taken.RECOVERED], ACKED)


def test_a_bad_sentiment_said_again_goes_on_and_later_opens_anew() -> None:
    again = said(said(None, Mood.BAD), Mood.BAD, NOW + DAY)
    assert again.taken == [Taken.UPDATED]
    assert again.subject.ends_at == NOW + 31 * DAY
    ended = said(again, Mood.GOOD, NOW + 2 * DAY)
    assert said(ended, Mood.BAD, NOW + 3 * DAY).taken == [Taken.REOPENED]
    assert said(ended, Mood.BAD, NOW + 30 * DAY).taken == [Taken.OPENED]


def test_nothing_is_awaited_of_what_is_closed_and_a_day_at_most_of_the_rest() -> None:
    closed = Life().play("clear").subject
    assert ticks.next_tick(closed, now=NOW, calendar=CALENDAR) is None
    # The nearness of its renewal, and with it its priority, is another one then.
    assert ticks.next_tick(intervention(), now=NOW, calendar=CALENDAR) == NOW + DAY
    asleep = Life().play("snooze")
    almost = asleep.now + timedelta(days=19, hours=12)
    assert asleep.subject.snooze is not None
    following = ticks.next_tick(asleep.subject, now=almost, calendar=CALENDAR)
    assert following == asleep.subject.snooze.until
