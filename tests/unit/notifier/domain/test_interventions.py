"""What flags do, row by row; people and time have their own: `test_steps`, `test_ticks`."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.domain.interventions import (
    Intervention,
    Status,
    Taken,
    proposal,
    take,
)
from services.notifier.domain.signals import of_flag
from services.notifier.domain.steps import acknowledge, close, snooze
from shared.messages import Band, Flag, FlagReason, OutcomeKind, Stage
from tests.unit.notifier.factories import (
    ASSIGNMENT,
    DAY,
    HOUR,
    ID,
    NOW,
    OTHER_ID,
    flag,
    intervention,
    next_episode,
)


def taken(
    current: Intervention | None,
    one: Flag,
    *,
    now: datetime = NOW + DAY,
    account_lost: bool = False,
) -> tuple[Taken, Intervention | None]:
    return take(
        current,
        of_flag(one),
        new_id=OTHER_ID,
        assignment=ASSIGNMENT,
        account_lost=account_lost,
        now=now,
    )


def acked(**changes: Any) -> Intervention:
    step = acknowledge(intervention(), version=1, by="anna", now=NOW + HOUR)
    assert isinstance(step, Intervention)
    return replace(step, **changes)


def closed(by: str = "anna", **changes: Any) -> Intervention:
    step = close(
        intervention(), version=1, outcome=OutcomeKind.SAVED, note="", by=by, now=NOW + HOUR
    )
    assert isinstance(step, Intervention)
    return replace(step, **changes)


LATER = {"as_of": NOW + DAY}
CLEARED: dict[str, Any] = {"change": "cleared", **LATER}
UPDATED: dict[str, Any] = {"change": "updated", **LATER}


@pytest.mark.parametrize(
    ("current", "one", "result", "status"),
    [
        pytest.param(None, flag(), Taken.OPENED, Status.OPEN, id="nothing, raised: opened"),
        pytest.param(
            None, flag(**UPDATED), Taken.OPENED, Status.OPEN, id="nothing, updated: opened"
        ),
        pytest.param(None, flag(**CLEARED), Taken.UNKNOWN, None, id="nothing, cleared: nothing"),
        pytest.param(intervention(), flag(), Taken.DUPLICATE, None, id="the same flag: nothing"),
        pytest.param(
            intervention(),
            flag(as_of=NOW - HOUR),
            Taken.DUPLICATE,
            None,
            id="an older message of the flag: nothing",
        ),
        pytest.param(
            intervention(), flag(**UPDATED), Taken.UPDATED, Status.OPEN, id="open, updated"
        ),
        pytest.param(
            intervention(), next_episode(), Taken.UPDATED, Status.OPEN, id="open, raised again"
        ),
        pytest.param(
            intervention(),
            flag(**UPDATED, band=Band.CRITICAL),
            Taken.WORSENED,
            Status.OPEN,
            id="open, worse",
        ),
        pytest.param(
            intervention(), flag(**CLEARED), Taken.CLOSED, Status.CLOSED, id="open, cleared: closed"
        ),
        pytest.param(
            acked(), flag(**CLEARED), Taken.RECOVERED, Status.ACKNOWLEDGED, id="acked, cleared"
        ),
        pytest.param(
            acked(), flag(**UPDATED), Taken.UPDATED, Status.ACKNOWLEDGED, id="acked, updated"
        ),
        pytest.param(
            closed(), flag(**UPDATED), Taken.KEPT_CLOSED, Status.CLOSED, id="closed, same: closed"
        ),
        pytest.param(
            closed(),
            flag(**UPDATED, band=Band.CRITICAL),
            Taken.REOPENED,
            Status.OPEN,
            id="closed, same flag worse: reopened",
        ),
        pytest.param(
            closed(), flag(**CLEARED), Taken.KEPT_CLOSED, Status.CLOSED, id="closed, cleared"
        ),
        pytest.param(
            closed(), next_episode(), Taken.REOPENED, Status.OPEN, id="closed, raised again soon"
        ),
    ],
)
def test_a_flag_does_what_the_table_says(
    current: Intervention | None, one: Flag, result: Taken, status: Status | None
) -> None:
    said, stored = taken(current, one)
    assert said is result
    assert (stored.status if stored else None) is status


def test_closed_by_the_system_says_no_action_needed() -> None:
    _, stored = taken(intervention(), flag(**CLEARED))
    assert stored is not None
    assert (stored.outcome, stored.closed_by) == (OutcomeKind.NO_ACTION_NEEDED, "system")


def test_cleared_because_the_account_left_is_not_called_no_action_needed() -> None:
    said, stored = taken(intervention(), flag(**CLEARED), account_lost=True)
    assert said is Taken.ACCOUNT_LOST
    assert stored is not None
    assert stored.is_open


@pytest.mark.parametrize(
    ("days", "result", "kept"),
    [
        pytest.param(14, Taken.REOPENED, True, id="within 14 days: same row"),
        pytest.param(15, Taken.OPENED, False, id="later: a new row"),
    ],
)
def test_a_new_flag_after_closing(days: int, result: Taken, *, kept: bool) -> None:
    now = NOW + HOUR + timedelta(days=days)
    said, stored = taken(closed(), next_episode(raised_at=now, as_of=now), now=now)
    assert said is result
    assert stored is not None
    assert (stored.id == ID) is kept
    assert stored.episode == (2 if kept else 1)
    assert stored.outcome is None


def test_a_flag_that_still_stands_14_days_after_closing_reopens() -> None:
    now = NOW + 16 * DAY
    said, stored = taken(closed(), flag(change="updated", as_of=now), now=now)
    assert said is Taken.REOPENED
    assert stored is not None
    assert stored.id == ID


def test_worse_is_due_sooner_and_never_later() -> None:
    sooner = replace(ASSIGNMENT, due_at=NOW + HOUR)
    later = replace(ASSIGNMENT, due_at=NOW + 30 * DAY)
    worse = flag(**UPDATED, band=Band.CRITICAL)
    for assignment, expected in ((sooner, NOW + HOUR), (later, NOW + 3 * DAY)):
        _, stored = take(
            intervention(),
            of_flag(worse),
            new_id=OTHER_ID,
            assignment=assignment,
            account_lost=False,
            now=NOW,
        )
        assert stored is not None
        assert stored.due_at == expected


def test_a_flag_without_a_band_is_at_risk_and_a_healthy_one_is_watched() -> None:
    for band, expected in ((None, Band.AT_RISK), (Band.HEALTHY, Band.WATCH)):
        _, stored = taken(None, flag(band=band))
        assert stored is not None
        assert stored.severity is expected


def test_an_opportunity_is_watched_and_puts_nothing_at_risk() -> None:
    for band in (None, Band.HEALTHY, Band.CRITICAL):
        ready = flag(reason=FlagReason.EXPANSION_READY, stage=Stage.EXPAND, band=band)
        assert ready.value_at_risk is not None
        _, stored = taken(None, ready)
        assert stored is not None
        assert (stored.severity, stored.value_at_risk) == (Band.WATCH, None)


def asleep(current: Intervention, days: int = 10) -> Intervention:
    step = snooze(
        current,
        version=None,
        until=NOW + days * DAY,
        zone=UTC,
        reason="on holiday",
        by="anna",
        now=NOW,
    )
    assert isinstance(step, Intervention)
    return step


CRITICAL: dict[str, Any] = {**UPDATED, "band": Band.CRITICAL}


def test_critical_breaks_through_a_snooze_once_and_the_snooze_goes_on() -> None:
    current = asleep(intervention())
    assert not current.breaks_through(None)
    _, broken = taken(current, flag(**CRITICAL))
    assert broken is not None
    assert broken.is_snoozed(NOW + DAY)
    assert broken.breaks_through(None)
    assert broken.breaks_through(NOW)
    # Told a moment later: not again, even when it calms down and gets critical anew.
    assert not broken.breaks_through(NOW + DAY + HOUR)
    _, calmer = taken(broken, flag(change="updated", as_of=NOW + 2 * DAY), now=NOW + 2 * DAY)
    again = flag(change="updated", as_of=NOW + 3 * DAY, band=Band.CRITICAL)
    _, worse = taken(calmer, again, now=NOW + 3 * DAY)
    assert worse is not None
    assert not worse.breaks_through(NOW + DAY + HOUR)


def test_what_was_critical_when_it_was_snoozed_breaks_nothing() -> None:
    _, critical = taken(intervention(), flag(**CRITICAL), now=NOW)
    assert critical is not None
    later = flag(change="updated", as_of=NOW + 2 * DAY, band=Band.CRITICAL)
    _, still = taken(asleep(critical), later)
    assert still is not None
    assert not still.breaks_through(None)


def test_worse_but_not_critical_breaks_nothing() -> None:
    current = asleep(intervention(severity=Band.WATCH))
    said, worse = taken(current, flag(**UPDATED))
    assert said is Taken.WORSENED
    assert worse is not None
    assert not worse.breaks_through(None)


def test_a_new_episode_begins_with_nothing_of_the_old_one() -> None:
    old = closed(round=3, acted_at=NOW, held_out=True)
    _, stored = taken(old, next_episode())
    assert stored is not None
    left = (stored.round, stored.round_began_at, stored.acted_at, stored.snooze, stored.revision)
    assert left == (1, None, None, None, 0)
    assert stored.playbook == ASSIGNMENT.playbook


@pytest.mark.parametrize(
    ("current", "lost", "outcome"),
    [
        pytest.param(intervention(), False, None, id="raised: nothing is proposed"),
        pytest.param(intervention(), True, OutcomeKind.CHURNED, id="the account left"),
        pytest.param(
            acked(recovered_at=NOW), False, OutcomeKind.SAVED, id="recovered while worked on"
        ),
        pytest.param(acked(recovered_at=NOW), True, OutcomeKind.CHURNED, id="recovered, then left"),
        pytest.param(
            intervention(recovered_at=NOW),
            False,
            OutcomeKind.NO_ACTION_NEEDED,
            id="recovered by itself",
        ),
        pytest.param(closed(), True, None, id="closed"),
    ],
)
def test_what_happened_proposes_an_outcome(
    current: Intervention, outcome: OutcomeKind | None, *, lost: bool
) -> None:
    assert proposal(current, account_lost=lost) is outcome


changes: st.SearchStrategy[Literal["raised", "updated", "cleared"]] = st.sampled_from(
    ("raised", "updated", "cleared")
)
messages = st.builds(
    lambda episode, change, minutes, band: flag(
        flag_id=f"acme/{episode}",
        episode=episode,
        change=change,
        raised_at=NOW + episode * DAY,
        as_of=NOW + episode * DAY + timedelta(minutes=minutes),
        band=band,
    ),
    st.integers(1, 3),
    changes,
    st.integers(0, 5),
    st.sampled_from([None, *Band]),
)


@given(st.lists(messages, max_size=12))
def test_replaying_what_was_taken_in_changes_nothing(history: list[Flag]) -> None:
    current: Intervention | None = None
    for one in history:
        _, stored = taken(current, one)
        current = stored or current
        if current is not None and current.is_open:
            assert current.outcome is None
        for replayed in (one, one):
            said, again = taken(current, replayed)
            assert again is None
            assert said in (Taken.DUPLICATE, Taken.UNKNOWN)
