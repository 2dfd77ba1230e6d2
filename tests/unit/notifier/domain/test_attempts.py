"""What follows a failed attempt: notifier.md, section 5."""

from datetime import timedelta
from typing import Any

import pytest

from services.notifier.domain.attempts import Class, Failure, Next, Patience, after

MINUTE = timedelta(minutes=1)
PATIENCE = Patience(
    retry_first=timedelta(seconds=5), retry_last=15 * MINUTE, dead_after=timedelta(hours=4)
)


def step(kind: Class, retry_after: timedelta | None = None, **changes: Any) -> Next:
    usual: dict[str, Any] = {
        "plain": False,
        "failures": 0,
        "waited": timedelta(0),
        "has_fallback": False,
        "jitter": 1.0,
    }
    failure = Failure(kind=kind, detail="x", retry_after=retry_after)
    return after(failure, PATIENCE, **(usual | changes))


@pytest.mark.parametrize(
    ("failures", "rest"),
    [
        pytest.param(0, timedelta(seconds=5), id="first: at most 5 s"),
        pytest.param(3, timedelta(seconds=40), id="fourth: 5 x 2^3"),
        pytest.param(9, 15 * MINUTE, id="tenth: the limit"),
        pytest.param(10_000, 15 * MINUTE, id="any number"),
    ],
)
def test_full_jitter_grows_to_its_limit(failures: int, rest: timedelta) -> None:
    assert step(Class.TRANSIENT, failures=failures).rest == rest
    assert step(Class.TRANSIENT, failures=min(failures, 3), jitter=0.0).rest == timedelta(0)


@pytest.mark.parametrize(
    ("failures", "rest"),
    [(3, timedelta(0)), (4, MINUTE), (5, 2 * MINUTE), (7, 8 * MINUTE), (8, 15 * MINUTE)],
)
def test_after_five_failures_there_is_one_probe_at_a_time(failures: int, rest: timedelta) -> None:
    assert step(Class.AMBIGUOUS, failures=failures, jitter=0.0).rest == rest


def test_retry_after_is_kept_in_full_and_is_30_seconds_where_absent() -> None:
    assert step(Class.PAUSE, timedelta(hours=2), jitter=0.0).rest == timedelta(hours=2)
    assert step(Class.PAUSE, timedelta(0)).rest == timedelta(0)
    assert step(Class.PAUSE).rest == timedelta(seconds=30)


def test_a_refused_message_is_sent_as_plain_text_at_once_and_then_dead() -> None:
    assert step(Class.BAD_MESSAGE) == Next(dead=False, rest=timedelta(0), plain=True)
    assert step(Class.BAD_MESSAGE, plain=True).dead


@pytest.mark.parametrize("kind", [Class.DESTINATION_BROKEN, Class.INTEGRATION_BROKEN])
def test_what_is_broken_is_probed_every_15_minutes(kind: Class) -> None:
    assert step(kind) == Next(dead=False, rest=15 * MINUTE, plain=False)


def test_a_broken_destination_with_a_fallback_is_given_up_at_once() -> None:
    assert step(Class.DESTINATION_BROKEN, has_fallback=True).dead
    assert not step(Class.INTEGRATION_BROKEN, has_fallback=True).dead


@pytest.mark.parametrize(
    "kind", [one for one in Class if one not in (Class.SENT, Class.BAD_MESSAGE)]
)
def test_nothing_is_tried_for_longer_than_its_time(kind: Class) -> None:
    assert not step(kind, waited=timedelta(hours=4)).dead
    assert step(kind, waited=timedelta(hours=4, seconds=1)).dead
