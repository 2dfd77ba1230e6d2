"""How an attempt to deliver ended, and what follows from it."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

_BREAKER_AFTER = 5
_BREAKER_FIRST = timedelta(minutes=1)
_LONGEST_REST = timedelta(minutes=15)
_DEFAULT_PAUSE = timedelta(seconds=30)
_MOST_DOUBLINGS = 20


class Class(StrEnum):
    """How an attempt ended."""

    SENT = "sent"
    PAUSE = "pause"
    TRANSIENT = "transient"
    BAD_MESSAGE = "bad_message"
    DESTINATION_BROKEN = "destination_broken"
    INTEGRATION_BROKEN = "integration_broken"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How an attempt failed; `detail` holds no secret and no payload."""

    kind: Class
    detail: str
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a delivery is tried, and how often."""

    retry_first: timedelta
    retry_last: timedelta
    dead_after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What follows a failure: the end, or another try after the destination has rested."""

    dead: bool
    rest: timedelta
    plain: bool


def after(
    failure: Failure,
    patience: Patience,
    *,
    plain: bool,
    failures: int,
    waited: timedelta,
    has_fallback: bool,
    jitter: float,
) -> Next:
    """What follows.

    `failures`: of the destination in a row before this one; `waited`: since the delivery was due;
    `plain`: whether it was sent as bare text; `jitter`: 0 to 1.
    """
    if failure.kind is Class.BAD_MESSAGE:
        # Once more as bare text: it may be our form that was refused.
        return Next(dead=plain, rest=timedelta(0), plain=True)
    if failure.kind is Class.PAUSE:
        # In full, however long: sending on may cost the vendor the whole integration.
        return Next(
            dead=waited > patience.dead_after,
            rest=_DEFAULT_PAUSE if failure.retry_after is None else failure.retry_after,
            plain=plain,
        )
    if failure.kind is Class.DESTINATION_BROKEN and has_fallback:
        return Next(dead=True, rest=timedelta(0), plain=plain)
    dead = waited > patience.dead_after
    if failure.kind in (Class.DESTINATION_BROKEN, Class.INTEGRATION_BROKEN):
        return Next(dead=dead, rest=_LONGEST_REST, plain=plain)
    return Next(dead=dead, rest=_backoff(patience, failures=failures, jitter=jitter), plain=plain)


def _backoff(patience: Patience, *, failures: int, jitter: float) -> timedelta:
    """Full jitter; after five failures in a row one probe a minute at most, then ever fewer."""
    doublings = min(failures, _MOST_DOUBLINGS)
    rest = jitter * min(patience.retry_last, patience.retry_first * float(2**doublings))
    if failures + 1 < _BREAKER_AFTER:
        return rest
    closed = min(_BREAKER_FIRST * float(2 ** (doublings + 1 - _BREAKER_AFTER)), _LONGEST_REST)
    return max(rest, min(closed, patience.retry_last))
