"""What follows a failed attempt: every class in every channel, and the limits of patience."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.domain.attempts import (
    WEBHOOK_SCHEDULE,
    Attempt,
    Class,
    Failure,
    Next,
    OnAmbiguous,
    Patience,
    State,
    after,
    is_breaker_open,
)

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
NOTHING = timedelta(0)
USUAL = Patience(retry_first=5 * SECOND, retry_last=15 * MINUTE)
HOLD = replace(USUAL, on_ambiguous=OnAmbiguous.HOLD)
PATIENCE: Mapping[str, Patience] = {
    "slack": USUAL,
    "email": USUAL,
    "webhook": replace(USUAL, schedule=WEBHOOK_SCHEDULE, one_service=False),
    "apprise": replace(USUAL, one_service=False),
}
AGAIN, DEAD, HELD = State.PENDING, State.DEAD, State.HELD


def step(
    kind: Class,
    patience: Patience = USUAL,
    *,
    retry_after: timedelta | None = None,
    jitter: float = 1.0,
    **changes: Any,
) -> Next:
    failure = Failure(kind=kind, detail="x", retry_after=retry_after)
    return after(failure, patience, Attempt(**changes), jitter=jitter)


# A first failure at full jitter. What is not named is as in `Next`: nothing breaks or counts.
@pytest.mark.parametrize(
    ("channel", "kind", "wanted"),
    [
        pytest.param(
            "slack",
            Class.PAUSE,
            Next(state=AGAIN, rest=30 * SECOND, rests_channel=True),
            id="slack pause: the whole channel, 30 s where none is said",
        ),
        pytest.param(
            "email",
            Class.PAUSE,
            Next(state=AGAIN, rest=30 * SECOND, rests_channel=True),
            id="email pause: the server asks, so all recipients wait",
        ),
        pytest.param(
            "webhook",
            Class.PAUSE,
            Next(state=AGAIN, rest=30 * SECOND, counts=True),
            id="webhook pause: its endpoint alone, never less than its own schedule",
        ),
        pytest.param(
            "apprise",
            Class.PAUSE,
            Next(state=AGAIN, rest=30 * SECOND),
            id="apprise pause: one service of many",
        ),
        pytest.param(
            "slack",
            Class.TRANSIENT,
            Next(state=AGAIN, rest=5 * SECOND, counts=True),
            id="slack transient: again",
        ),
        pytest.param(
            "email",
            Class.TRANSIENT,
            Next(state=AGAIN, rest=5 * SECOND, counts=True),
            id="email transient: greylisting, again",
        ),
        pytest.param(
            "webhook",
            Class.TRANSIENT,
            Next(state=AGAIN, rest=5.5 * SECOND, counts=True),
            id="webhook transient: 5 s and a tenth of jitter",
        ),
        pytest.param(
            "apprise",
            Class.TRANSIENT,
            Next(state=AGAIN, rest=5 * SECOND, counts=True),
            id="apprise transient: again",
        ),
        *[
            pytest.param(
                channel,
                Class.BAD_MESSAGE,
                Next(state=AGAIN, rest=NOTHING, plain=True),
                id=f"{channel} bad message: at once as bare text",
            )
            for channel in PATIENCE
        ],
        *[
            pytest.param(
                channel,
                Class.THREAD_LOST,
                Next(state=AGAIN, rest=NOTHING, threadless=True),
                id=f"{channel} thread lost: at once in a new one",
            )
            for channel in PATIENCE
        ],
        *[
            pytest.param(
                channel,
                Class.DESTINATION_BROKEN,
                Next(state=AGAIN, rest=15 * MINUTE, breaks_destination=True),
                id=f"{channel} destination broken, nobody else: a probe each 15 min",
            )
            for channel in ("slack", "email", "apprise")
        ],
        pytest.param(
            "webhook",
            Class.DESTINATION_BROKEN,
            Next(state=DEAD, rest=NOTHING, breaks_destination=True, switches_off=True),
            id="webhook destination broken: 410 switches it off",
        ),
        pytest.param(
            "slack",
            Class.INTEGRATION_BROKEN,
            Next(state=AGAIN, rest=MINUTE, rests_channel=True, breaks_channel=True),
            id="slack integration broken: the whole channel rests",
        ),
        pytest.param(
            "email",
            Class.INTEGRATION_BROKEN,
            Next(state=AGAIN, rest=MINUTE, rests_channel=True, breaks_channel=True),
            id="email integration broken: the sign-in is refused for all",
        ),
        pytest.param(
            "webhook",
            Class.INTEGRATION_BROKEN,
            Next(state=AGAIN, rest=MINUTE, breaks_destination=True),
            id="webhook integration broken: its endpoint alone",
        ),
        pytest.param(
            "apprise",
            Class.INTEGRATION_BROKEN,
            Next(state=AGAIN, rest=MINUTE, breaks_destination=True),
            id="apprise integration broken: one service of many",
        ),
        *[
            pytest.param(
                channel,
                Class.AMBIGUOUS,
                Next(state=AGAIN, rest=rest * SECOND, counts=True),
                id=f"{channel} ambiguous: again, by default",
            )
            for channel, rest in (("slack", 5), ("email", 5), ("webhook", 5.5), ("apprise", 5))
        ],
    ],
)
def test_each_class_in_each_channel(channel: str, kind: Class, wanted: Next) -> None:
    assert step(kind, PATIENCE[channel]) == wanted


@pytest.mark.parametrize(
    ("failures", "rest"),
    [
        pytest.param(0, 5 * SECOND, id="first: at most 5 s"),
        pytest.param(3, 40 * SECOND, id="fourth: 5 x 2^3"),
        pytest.param(9, 15 * MINUTE, id="tenth: the limit"),
        pytest.param(10_000, 15 * MINUTE, id="any number"),
    ],
)
def test_full_jitter_grows_to_its_limit(failures: int, rest: timedelta) -> None:
    assert step(Class.TRANSIENT, failures=failures).rest == rest
    assert step(Class.TRANSIENT, failures=min(failures, 3), jitter=0.0).rest == NOTHING


@pytest.mark.parametrize(
    ("failures", "rest"),
    [(3, NOTHING), (4, MINUTE), (5, 2 * MINUTE), (7, 8 * MINUTE), (8, 15 * MINUTE)],
)
def test_after_five_failures_there_is_one_probe_at_a_time(failures: int, rest: timedelta) -> None:
    assert step(Class.AMBIGUOUS, failures=failures, jitter=0.0).rest == rest
    assert is_breaker_open(failures + 1) == (rest > NOTHING)


@pytest.mark.parametrize(
    ("failures", "rest"), [(0, MINUTE), (1, 2 * MINUTE), (3, 8 * MINUTE), (4, 15 * MINUTE)]
)
def test_a_refused_sign_in_is_tried_ever_more_rarely(failures: int, rest: timedelta) -> None:
    assert step(Class.INTEGRATION_BROKEN, channel_failures=failures).rest == rest


@pytest.mark.parametrize(
    ("channel", "asked", "rest"),
    [
        pytest.param("slack", 2 * HOUR, 2 * HOUR, id="in full"),
        pytest.param("slack", NOTHING, SECOND, id="none at all: not in a loop without a rest"),
        pytest.param("slack", None, 30 * SECOND, id="not said"),
        pytest.param("webhook", 2 * HOUR, 2 * HOUR, id="longer than the schedule"),
        pytest.param("webhook", SECOND, 5 * SECOND, id="shorter than the schedule"),
    ],
)
def test_retry_after_is_kept_in_full(
    channel: str, asked: timedelta | None, rest: timedelta
) -> None:
    assert step(Class.PAUSE, PATIENCE[channel], retry_after=asked, jitter=0.0).rest == rest


@pytest.mark.parametrize(
    ("failures", "rest"),
    [
        pytest.param(1, 5 * MINUTE, id="second"),
        pytest.param(2, 30 * MINUTE, id="third"),
        pytest.param(3, 2 * HOUR, id="fourth"),
        pytest.param(8, 24 * HOUR, id="ninth, the last"),
    ],
)
def test_a_webhook_has_its_own_schedule(failures: int, rest: timedelta) -> None:
    late = step(Class.TRANSIENT, PATIENCE["webhook"], failures=failures, waited=50 * HOUR)
    early = step(Class.TRANSIENT, PATIENCE["webhook"], failures=failures, jitter=0.0)
    assert (early.state, early.rest) == (AGAIN, rest)
    assert (late.state, late.rest) == (AGAIN, rest * 1.1)


@pytest.mark.parametrize("kind", [Class.TRANSIENT, Class.AMBIGUOUS, Class.PAUSE])
def test_a_webhook_is_switched_off_after_its_schedule(kind: Class) -> None:
    """The tenth attempt: 5 s + 5 m + 30 m + 2 + 5 + 10 + 14 + 20 + 24 h after the first."""
    last = step(kind, PATIENCE["webhook"], failures=9)
    assert (last.state, last.breaks_destination, last.switches_off) == (DEAD, True, True)


@pytest.mark.parametrize(
    ("attempt", "limit"),
    [
        pytest.param({"has_fallback": True}, 4 * HOUR, id="somebody else can be told: 4 h"),
        pytest.param({"has_fallback": True, "urgent": True}, 30 * MINUTE, id="urgent: 30 min"),
        pytest.param({}, 72 * HOUR, id="nobody else can: three days"),
        pytest.param({"urgent": True}, 72 * HOUR, id="urgent, but nobody else can: three days"),
        pytest.param({"is_edit": True}, 4 * HOUR, id="an edit is not worth three days"),
    ],
)
@pytest.mark.parametrize(
    "kind", [Class.PAUSE, Class.TRANSIENT, Class.INTEGRATION_BROKEN, Class.AMBIGUOUS]
)
def test_nothing_is_tried_for_longer_than_its_time(
    kind: Class, attempt: dict[str, Any], limit: timedelta
) -> None:
    assert step(kind, waited=limit, **attempt).state is AGAIN
    assert step(kind, waited=limit + SECOND, **attempt).state is DEAD


@pytest.mark.parametrize(
    ("kind", "attempt"),
    [
        pytest.param(Class.BAD_MESSAGE, {"plain": True}, id="bare text was refused too"),
        pytest.param(Class.THREAD_LOST, {"threadless": True}, id="there is no thread to lose"),
        pytest.param(
            Class.DESTINATION_BROKEN, {"has_fallback": True}, id="somebody else is told at once"
        ),
        pytest.param(Class.DESTINATION_BROKEN, {"is_edit": True}, id="the message is out of reach"),
    ],
)
def test_what_cannot_get_better_is_given_up_at_once(kind: Class, attempt: dict[str, Any]) -> None:
    given_up = step(kind, **attempt)
    assert (given_up.state, given_up.rest) == (DEAD, NOTHING)


@pytest.mark.parametrize(
    ("attempt", "state"),
    [
        pytest.param({}, HELD, id="a message"),
        pytest.param({"waited": 100 * HOUR}, HELD, id="an old one too: it may have arrived"),
        pytest.param({"is_edit": True}, AGAIN, id="an edit: twice is as good as once"),
        pytest.param({"is_test": True}, DEAD, id="a test: whoever waits is told"),
    ],
)
def test_where_nothing_may_come_twice_a_lost_answer_is_for_a_person(
    attempt: dict[str, Any], state: State
) -> None:
    assert step(Class.AMBIGUOUS, HOLD, **attempt).state is state


@pytest.mark.parametrize("kind", [one for one in Class if one is not Class.SENT])
def test_a_test_is_tried_once(kind: Class) -> None:
    assert step(kind, is_test=True).state is DEAD


@given(
    kind=st.sampled_from([one for one in Class if one is not Class.SENT]),
    channel=st.sampled_from(sorted(PATIENCE)),
    waited=st.timedeltas(NOTHING, timedelta(days=30)),
    failures=st.integers(0, 10**6),
    asked=st.none() | st.timedeltas(NOTHING, timedelta(days=2)),
    flags=st.fixed_dictionaries(
        {
            name: st.booleans()
            for name in ("has_fallback", "urgent", "plain", "threadless", "is_edit", "is_test")
        }
    ),
    jitter=st.floats(0, 1),
)
def test_every_failure_has_one_end(
    kind: Class,
    channel: str,
    waited: timedelta,
    failures: int,
    asked: timedelta | None,
    flags: dict[str, bool],
    jitter: float,
) -> None:
    """It never rests less than asked, nor for ever, and what ended three days ago has ended."""
    patience = PATIENCE[channel]
    attempt = Attempt(waited=waited, failures=failures, channel_failures=failures, **flags)
    failure = Failure(kind=kind, detail="x", retry_after=asked)
    found = after(failure, patience, attempt, jitter=jitter)
    assert NOTHING <= found.rest <= timedelta(days=2)
    if kind is Class.PAUSE and asked is not None:
        assert found.rest >= asked
    timed = kind in (Class.PAUSE, Class.TRANSIENT, Class.AMBIGUOUS)
    if timed and waited > timedelta(hours=72) and not patience.schedule:
        assert found.state is DEAD
    assert found.plain >= flags["plain"]
    assert found.threadless >= flags["threadless"]
