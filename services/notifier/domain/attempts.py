"""How an attempt to deliver ended, and what follows from it."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

_BREAKER_AFTER = 5
_BREAKER_FIRST = timedelta(minutes=1)
_LONGEST_REST = timedelta(minutes=15)
_DEFAULT_PAUSE = timedelta(seconds=30)
# "Retry-After: 0", said to every attempt, must not become a loop.
_LEAST_PAUSE = timedelta(seconds=1)
_MOST_DOUBLINGS = 20
_NOTHING = timedelta(0)
# Of an endpoint's own schedule: later, never earlier, so that all of them do not come at once.
_SCHEDULE_JITTER = 0.1


class Class(StrEnum):
    """How an attempt ended."""

    SENT = "sent"
    PAUSE = "pause"
    TRANSIENT = "transient"
    BAD_MESSAGE = "bad_message"
    DESTINATION_BROKEN = "destination_broken"
    INTEGRATION_BROKEN = "integration_broken"
    AMBIGUOUS = "ambiguous"
    THREAD_LOST = "thread_lost"
    """The message that was to be edited, or answered to, is gone: a new one must begin."""


class OnAmbiguous(StrEnum):
    """What becomes of a message of which nobody knows whether it was taken."""

    RETRY = "retry"
    """It is sent again: it may arrive twice."""
    HOLD = "hold"
    """It waits for a person: it may not have arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How an attempt failed; `detail` holds no secret and no payload."""

    kind: Class
    detail: str
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a channel's deliveries are tried, and how often."""

    retry_first: timedelta
    retry_last: timedelta
    dead_after: timedelta = timedelta(hours=4)
    dead_after_urgent: timedelta = timedelta(minutes=30)
    dead_after_last: timedelta = timedelta(hours=72)
    """Where nobody else can be told."""
    schedule: tuple[timedelta, ...] = ()
    """Rests after each failure in a row instead; the destination is switched off at their end."""
    on_ambiguous: OnAmbiguous = OnAmbiguous.RETRY
    one_service: bool = True
    """Whether all destinations are one company's: what one is told about our pace holds for all."""

    def longest(self, *, urgent: bool, is_last: bool) -> timedelta:
        if is_last:
            return self.dead_after_last
        return self.dead_after_urgent if urgent else self.dead_after


WEBHOOK_SCHEDULE = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
)


class State(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    HELD = "held"
    """Nobody knows whether it was taken, and a person decides."""
    RESTORED = "restored"
    """It waited when the backup was made that is the database now: it may have been sent since."""
    DEAD = "dead"
    CANCELLED = "cancelled"
    """Not wanted any more, or never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What counts for what follows; `waited`: since the delivery was due."""

    waited: timedelta = _NOTHING
    failures: int = 0
    """Of the destination, in a row before this one."""
    channel_failures: int = 0
    """Refusals of the whole channel, in a row before this one."""
    has_fallback: bool = False
    urgent: bool = False
    plain: bool = False
    """It was sent as bare text."""
    threadless: bool = False
    """It began a new conversation."""
    is_edit: bool = False
    """It changes a message that is there: twice is as good as once, and never is no loss."""
    is_test: bool = False
    """Somebody waits for how one attempt ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What follows a failure."""

    state: State
    """PENDING (again), HELD or DEAD."""
    rest: timedelta
    """Of the destination; of the whole channel where `rests_channel`."""
    rests_channel: bool = False
    breaks_destination: bool = False
    switches_off: bool = False
    """The destination is not even tried now and then, until a person asks for it."""
    breaks_channel: bool = False
    counts: bool = False
    """Against the destination; five in a row open its breaker."""
    plain: bool = False
    threadless: bool = False

    @property
    def dead(self) -> bool:
        return self.state is State.DEAD


def after(failure: Failure, patience: Patience, attempt: Attempt, *, jitter: float) -> Next:
    """What follows; `jitter`: 0 to 1."""
    over = _is_over(failure.kind, patience, attempt)
    state = State.DEAD if over or attempt.is_test else State.PENDING
    plain, threadless = attempt.plain, attempt.threadless
    gone = over and bool(patience.schedule)
    match failure.kind:
        case Class.BAD_MESSAGE:
            # Once more as bare text: it may be our form that was refused.
            return Next(state=state, rest=_NOTHING, plain=True, threadless=threadless)
        case Class.THREAD_LOST:
            return Next(state=state, rest=_NOTHING, plain=plain, threadless=True)
        case Class.PAUSE:
            rest = _DEFAULT_PAUSE if failure.retry_after is None else failure.retry_after
            # In full, however long: sending on may cost the vendor the whole integration.
            return Next(
                state=state,
                rest=max(rest, _LEAST_PAUSE, _scheduled(patience, attempt, jitter)),
                rests_channel=patience.one_service,
                breaks_destination=gone,
                switches_off=gone,
                counts=bool(patience.schedule),
                plain=plain,
                threadless=threadless,
            )
        case Class.DESTINATION_BROKEN:
            return Next(
                state=state,
                # The next message goes on to its fallback at once.
                rest=_NOTHING if _is_left_at_once(patience, attempt) else _LONGEST_REST,
                breaks_destination=True,
                switches_off=bool(patience.schedule),
                plain=plain,
                threadless=threadless,
            )
        case Class.INTEGRATION_BROKEN:
            return Next(
                state=state,
                rest=min(_doubled(_BREAKER_FIRST, attempt.channel_failures), _LONGEST_REST),
                rests_channel=patience.one_service,
                breaks_channel=patience.one_service,
                breaks_destination=not patience.one_service,
                plain=plain,
                threadless=threadless,
            )
        case _:
            held = failure.kind is Class.AMBIGUOUS and holds(patience, attempt)
            rest = _scheduled(patience, attempt, jitter) or _backoff(
                patience, failures=attempt.failures, jitter=jitter
            )
            return Next(
                state=State.HELD if held else state,
                rest=rest,
                breaks_destination=gone,
                switches_off=gone,
                counts=True,
                plain=plain,
                threadless=threadless,
            )


def holds(patience: Patience, attempt: Attempt) -> bool:
    """Whether a person decides about a message of which nobody knows the end."""
    return patience.on_ambiguous is OnAmbiguous.HOLD and not attempt.is_edit and not attempt.is_test


def is_breaker_open(failures: int) -> bool:
    """Whether a destination rests so long that each message is a probe."""
    return failures >= _BREAKER_AFTER


def _is_over(kind: Class, patience: Patience, attempt: Attempt) -> bool:
    """Whether the delivery is given up here."""
    match kind:
        case Class.BAD_MESSAGE:
            return attempt.plain
        case Class.THREAD_LOST:
            return attempt.threadless
        case Class.DESTINATION_BROKEN if _is_left_at_once(patience, attempt):
            return True
    if patience.schedule:
        return attempt.failures >= len(patience.schedule)
    is_last = not attempt.has_fallback and not attempt.is_edit
    return attempt.waited > patience.longest(urgent=attempt.urgent, is_last=is_last)


def _is_left_at_once(patience: Patience, attempt: Attempt) -> bool:
    return attempt.has_fallback or attempt.is_edit or bool(patience.schedule)


def _scheduled(patience: Patience, attempt: Attempt, jitter: float) -> timedelta:
    """The rest that the channel's own schedule asks for; nothing at its end, or without one."""
    if attempt.failures >= len(patience.schedule):
        return _NOTHING
    return patience.schedule[attempt.failures] * (1 + _SCHEDULE_JITTER * jitter)


def _backoff(patience: Patience, *, failures: int, jitter: float) -> timedelta:
    """Full jitter; after five failures in a row one probe a minute at most, then ever fewer."""
    rest = jitter * min(patience.retry_last, _doubled(patience.retry_first, failures))
    if not is_breaker_open(failures + 1):
        return rest
    closed = min(_doubled(_BREAKER_FIRST, failures + 1 - _BREAKER_AFTER), _LONGEST_REST)
    return max(rest, min(closed, patience.retry_last))


def _doubled(first: timedelta, times: int) -> timedelta:
    return first * float(2 ** min(times, _MOST_DOUBLINGS))
