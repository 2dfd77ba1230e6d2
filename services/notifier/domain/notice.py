"""What a destination was told of an account, and whether there is something to tell now.

A group is an account at a destination; its members are the account's interventions that go there,
and those it was told of. Whether it is over is judged on all members, what is new on what was
shown; what was told is written only after a channel has accepted the message.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from services.notifier.domain.interventions import is_worse
from services.notifier.domain.policy import Mute, NotifyReason, SuppressReason
from shared.messages import Band

MAX_REPEATS: Final = 3
"""After these only the digest reminds."""
SOON: Final = timedelta(days=1)


class Due(StrEnum):
    """How near the due date is."""

    LATER = "later"
    SOON = "soon"
    OVER = "over"


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a message tells of an intervention; as JSON in the notice of whoever was told."""

    severity: Band
    owner: str
    due_at: datetime
    due: Due = Due.LATER
    is_valuable: bool = False
    days_left: int | None = None
    """The narrowest limit of days to the notice deadline that was passed."""
    idle_since: datetime | None = None
    """The idleness after an acknowledgement that it reminded of."""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One intervention of a group, as it is now."""

    id: UUID
    state: Told
    """What a message of now would tell."""
    episode: int = 1
    looks: str = ""
    """Changes with whatever a message shows of it."""
    is_raised: bool = True
    is_here: bool = True
    """Whether it (still) goes to this destination."""
    by_person: bool = False
    """Closed by a person: they know."""
    over_since: datetime | None = None
    muted: Mute | None = None
    is_handled: bool = False
    """Acknowledged: nobody is reminded of it."""
    is_handed_over: bool = False
    """Others were told of it under another owner."""
    is_urgent: bool = False
    snooze_ended_at: datetime | None = None
    repeat_at: datetime | None = None
    """When it is told again though nothing is new; None: the digest does so."""
    priority: float = 0.0
    changes_at: datetime | None = None
    """When `state` or `muted` changes by time alone."""

    @property
    def stands(self) -> bool:
        return self.is_raised and self.is_here

    @property
    def is_visible(self) -> bool:
        return self.stands and self.muted is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a destination was told of an account."""

    account_id: str
    destination: str
    episode: int = 0
    """Counts from nothing told to everything over."""
    seq: int = 0
    """Counts its deliveries that ended, however they did."""
    known: frozenset[UUID] = frozenset()
    """All that stood when it was told last, and what was muted since."""
    told: Mapping[UUID, Told] = field(default_factory=dict)
    shown: Mapping[UUID, str] = field(default_factory=dict)
    """How each looks in the message that the conversation began with."""
    told_at: datetime | None = None
    repeats: int = 0
    thread: tuple[str, str] | None = None
    gave_up: str | None = None
    """The news that could not be delivered: the same is not tried again."""
    bundled: SuppressReason | None = None
    """Why its news wait for one message together with those of other accounts."""

    @property
    def root(self) -> UUID:
        """The same for all messages of an episode, the one that is told next included."""
        episode = self.episode if self.told else self.episode + 1
        name = f"perennial:conversation:{self.account_id}\0{self.destination}\0{episode}"
        return uuid5(NAMESPACE_URL, name)


def why_notify(  # noqa: PLR0911 - a row of the table each
    notice: Notice, members: Sequence[Member], *, now: datetime
) -> NotifyReason | None:
    """The reason to tell this destination now, or None."""
    visible = [member for member in members if member.is_visible]
    if not notice.told:
        if not visible:
            return _why_update(notice, members)
        handed_over = all(member.is_handed_over for member in visible)
        return NotifyReason.OWNER_CHANGED if handed_over else NotifyReason.FIRST
    if not any(member.stands for member in members):
        if all(member.by_person for member in members if member.id in notice.told):
            return _why_update(notice, members)
        return NotifyReason.RECOVERED
    beyond = [member for member in visible if member.id not in notice.told]
    if beyond:
        return _why_beyond(notice, beyond)
    if not visible:
        return _why_update(notice, members)
    news = [_news(notice.told[member.id], member) for member in visible]
    found = [reason for reason in news if reason is not None]
    if found:
        return min(found, key=_RANK.index)
    if _is_to_be_repeated(notice, visible, now=now):
        return NotifyReason.REPEAT
    return _why_update(notice, members)


def why_member(notice: Notice, member: Member) -> NotifyReason | None:
    """What there would be to tell of a muted member if it were not muted."""
    told = notice.told.get(member.id)
    if told is not None:
        return _news(told, member)
    return NotifyReason.NEW_REASON if notice.told else NotifyReason.FIRST


def has_news(notice: Notice, members: Sequence[Member]) -> bool:
    """Whether a message of now would say more than what was told."""
    return any(why_member(notice, one) is not None for one in members if one.is_visible)


def is_outdated(notice: Notice, members: Sequence[Member]) -> bool:
    """Whether the message that the conversation began with shows what is not so any more."""
    if notice.thread is None:
        return False
    return any(
        notice.shown[member.id] != member.looks
        if member.id in notice.shown
        else member.is_visible and bool(notice.told)
        for member in members
    )


def settle(
    notice: Notice, members: Sequence[Member], *, interval: timedelta, now: datetime
) -> Notice:
    """The notice without what needs no word: its end was a person's deed, or is one of several.

    What is over while others stand stays for `interval`, so that flapping is quiet; what is over
    altogether stays until somebody was told so.
    """
    by_id = {member.id: member for member in members}
    something_stands = any(member.stands for member in members)

    def stays(told: UUID) -> bool:
        member = by_id.get(told)
        if member is None or not member.is_here or member.by_person:
            return False
        if member.is_raised or not something_stands or member.over_since is None:
            return True
        return now < member.over_since + interval

    told = {one: state for one, state in notice.told.items() if stays(one)}
    return notice if len(told) == len(notice.told) else replace(notice, told=told)


def unsent(notice: Notice) -> Notice:
    """The end is recorded although nobody wanted to hear of it: what comes next is new."""
    return replace(notice, told={})


def heard(
    notice: Notice,
    told: Mapping[UUID, Told],
    *,
    standing: Collection[UUID],
    is_repeat: bool,
    now: datetime,
) -> Notice:
    """After a message that told this; `standing`: all that stood, muted or not."""
    begins = bool(told) and not notice.told
    still = {one: state for one, state in notice.told.items() if one in standing}
    new = {one: msgspec.structs.replace(state, at=now) for one, state in told.items()}
    return replace(
        notice,
        episode=notice.episode + begins,
        known=frozenset(standing),
        # What is muted was not told now, but it was told: it goes on from there.
        told=still | new,
        told_at=now,
        repeats=notice.repeats + 1 if is_repeat else 0,
        gave_up=None,
        bundled=None,
    )


def kept_current(
    notice: Notice,
    told: Mapping[UUID, Told],
    shown: Mapping[UUID, str],
    *,
    standing: Collection[UUID],
) -> Notice:
    """After the message that is there was changed to show this; what is worse is still to be told.

    `told`: of the visible ones.
    """
    kept = {
        one: _calmer(state, told[one]) if one in told else state
        for one, state in notice.told.items()
        if one in standing
    }
    # Where nothing stands any more, that is still to be told.
    return replace(notice, told=kept if standing else notice.told, shown=shown)


def news_of(members: Sequence[Member]) -> str:
    """A digest of what a message of now would tell."""
    states = sorted((str(one.id), repr(one.state)) for one in members if one.is_visible)
    return hashlib.sha256(repr(states).encode()).hexdigest()[:24]


def due_state(due_at: datetime, *, now: datetime) -> Due:
    if now >= due_at:
        return Due.OVER
    return Due.SOON if now >= due_at - SOON else Due.LATER


def days_left(notice_by: date | None, limits: Sequence[int], *, today: date) -> int | None:
    """The narrowest of `limits` that the days to the notice deadline have passed."""
    if notice_by is None:
        return None
    left = (notice_by - today).days
    return min((limit for limit in limits if left < limit), default=None)


# Of several the first is the headline: what got worse before what got late.
_RANK = (
    NotifyReason.SEVERITY_RAISED,
    NotifyReason.THRESHOLD_CROSSED,
    NotifyReason.OWNER_CHANGED,
    NotifyReason.SNOOZE_ENDED,
    NotifyReason.OVERDUE,
    NotifyReason.DUE_SOON,
    NotifyReason.ACK_REMINDER,
)


def _why_update(notice: Notice, members: Sequence[Member]) -> NotifyReason | None:
    return NotifyReason.UPDATED if is_outdated(notice, members) else None


def _why_beyond(notice: Notice, beyond: Sequence[Member]) -> NotifyReason:
    if all(member.id in notice.known for member in beyond):
        return NotifyReason.UNMUTED
    if all(member.is_handed_over for member in beyond):
        return NotifyReason.OWNER_CHANGED
    return NotifyReason.NEW_REASON


def _news(told: Told, member: Member) -> NotifyReason | None:  # noqa: PLR0911 - one each
    state = member.state
    if is_worse(state.severity, told.severity):
        return NotifyReason.SEVERITY_RAISED
    if (state.is_valuable and not told.is_valuable) or _is_less(state.days_left, told.days_left):
        return NotifyReason.THRESHOLD_CROSSED
    if state.owner != told.owner:
        return NotifyReason.OWNER_CHANGED
    ended = member.snooze_ended_at
    if ended is not None and (told.at is None or told.at < ended):
        return NotifyReason.SNOOZE_ENDED
    # Of a due date that was moved nothing was told yet.
    known = told.due if told.due_at == state.due_at else Due.LATER
    if state.due is Due.OVER and known is not Due.OVER:
        return NotifyReason.OVERDUE
    if state.due is Due.SOON and known is Due.LATER:
        return NotifyReason.DUE_SOON
    if state.idle_since is not None and state.idle_since != told.idle_since:
        return NotifyReason.ACK_REMINDER
    return None


def _is_to_be_repeated(notice: Notice, visible: Sequence[Member], *, now: datetime) -> bool:
    return notice.repeats < MAX_REPEATS and any(
        member.repeat_at is not None and now >= member.repeat_at
        for member in visible
        if not member.is_handled
    )


def _is_less(left: int | None, told: int | None) -> bool:
    return left is not None and (told is None or left < told)


def _calmer(told: Told, state: Told) -> Told:
    """What was told, without what is better now."""
    return msgspec.structs.replace(
        told,
        severity=state.severity if is_worse(told.severity, state.severity) else told.severity,
        is_valuable=told.is_valuable and state.is_valuable,
    )
