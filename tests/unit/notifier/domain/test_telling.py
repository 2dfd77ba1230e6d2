"""Whatever happens, and however long a channel is away: what one destination hears makes sense.

The decisions are played against a plain world: interventions that are raised, cleared, closed,
muted and worsened, a clock, a channel that accepts or does not, and somebody who sleeps.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import methodcaller
from typing import Any, TypeAlias
from uuid import UUID

import hypothesis.strategies as st
from hypothesis import given, settings

from services.notifier.domain.decisions import Hearer, decide
from services.notifier.domain.notice import Member, Notice, has_news, heard, news_of
from services.notifier.domain.policy import Mute, NotifyReason, SuppressReason
from shared.messages import Band
from tests.unit.notifier.domain.groups import DAY, MINUTE, NOW, TIMING, A, B, C, member

ONES = st.sampled_from([A, B, C])
Step: TypeAlias = Callable[["Telling"], None]
PATIENCE = TIMING.wait + TIMING.interval
BANDS = [Band.WATCH, Band.AT_RISK, Band.CRITICAL]
# What may be said again although nothing is new.
AGAIN = (NotifyReason.REPEAT, NotifyReason.SNOOZE_ENDED)


@dataclass(slots=True)
class Work:
    """The truth about one intervention."""

    raised: bool = False
    by_person: bool = False
    over_since: datetime | None = None
    severity: Band = Band.AT_RISK
    muted_until: datetime | None = None
    snoozed: bool = False
    was_muted: bool = False
    handled: bool = False
    snooze_ended_at: datetime | None = None
    seen_since: datetime | None = None
    """Raised and unmuted without a break since then."""
    exists: bool = False
    closed_after: int = 0
    """How many messages there had been when a person closed it last."""


@dataclass(frozen=True, slots=True)
class Heard:
    at: datetime
    reason: NotifyReason
    listed: frozenset[UUID]
    news: str


@dataclass(slots=True)
class World:
    now: datetime = NOW
    works: dict[UUID, Work] = field(default_factory=lambda: {one: Work() for one in (A, B, C)})
    notice: Notice = field(default_factory=lambda: Notice(account_id="acme", destination="x:y"))
    pending: datetime | None = None
    bundle: datetime | None = None
    look_at: datetime | None = None
    down_until: datetime | None = None
    well_since: datetime = NOW
    """The channel accepts, and the hearer is awake, without a break since then."""
    asleep_until: datetime | None = None
    messages: list[Heard] = field(default_factory=list)
    touched: bool = False
    """Whether anything happened to any work since the last message."""

    def visible(self) -> set[UUID]:
        return {
            one
            for one, work in self.works.items()
            if work.raised and (work.muted_until is None or work.muted_until <= self.now)
        }

    def members(self) -> list[Member]:
        found = []
        for one, work in self.works.items():
            if not work.exists:
                continue
            mute = None
            if work.muted_until is not None and work.muted_until > self.now:
                against = SuppressReason.SNOOZED if work.snoozed else SuppressReason.SILENCED
                mute = Mute(against=against, until=work.muted_until)
            told_at = self.notice.told_at
            found.append(
                member(
                    one,
                    severity=work.severity,
                    is_raised=work.raised,
                    by_person=work.by_person,
                    over_since=work.over_since,
                    muted=mute,
                    is_handled=work.handled,
                    snooze_ended_at=work.snooze_ended_at,
                    repeat_at=told_at + DAY if told_at else None,
                    changes_at=mute.until if mute else None,
                )
            )
        return found

    def hearer(self) -> Hearer:
        asleep = self.asleep_until is not None and self.asleep_until > self.now
        return Hearer(opens_at=self.asleep_until if asleep else None)

    @property
    def up(self) -> bool:
        return self.down_until is None

    def wake(self) -> None:
        """Whoever was away for so long is there again."""
        if self.asleep_until is not None and self.asleep_until <= self.now:
            self.asleep_until, self.well_since = None, self.now
        if self.down_until is not None and self.down_until <= self.now:
            self.down_until, self.well_since = None, self.now

    def look(self) -> None:
        for work in self.works.values():
            if work.snoozed and work.muted_until is not None and work.muted_until <= self.now:
                work.snoozed, work.snooze_ended_at = False, self.now
        found = decide(self.notice, self.members(), self.hearer(), timing=TIMING, now=self.now)
        self.notice, self.look_at = found.notice, found.next_at
        if found.due_at is not None:
            self.pending = min(self.pending or found.due_at, found.due_at)
        if found.bundle_at is not None:
            self.bundle = min(self.bundle or found.bundle_at, found.bundle_at)
        seen = self.visible()
        for one, work in self.works.items():
            if one not in seen:
                work.seen_since = None
            elif work.seen_since is None:
                work.seen_since = self.now

    def send(self) -> None:
        members = self.members()
        if self.bundle is not None and self.bundle <= self.now and self.up:
            self.bundle = None
            if self.notice.bundled is None or not self.visible():
                self.notice = replace(self.notice, bundled=None)
            else:
                again = not has_news(self.notice, members)
                self.hear(NotifyReason.REPEAT if again else NotifyReason.SUMMARY, members)
            self.look()
        if self.pending is not None and self.pending <= self.now and self.up:
            self.pending = None
            found = decide(self.notice, members, self.hearer(), timing=TIMING, now=self.now)
            if found.reason is not None:
                self.hear(found.reason, members)
            self.look()

    def hear(self, reason: NotifyReason, members: list[Member]) -> None:
        told = {one.id: one.state for one in members if one.is_visible}
        if reason is NotifyReason.RECOVERED:
            told = {}
        before = self.messages[-1] if self.messages else None
        news = news_of(members)
        said = Heard(self.now, reason, frozenset(told), news)
        # Never an end without a beginning, nor an end while something stands.
        if reason is NotifyReason.RECOVERED:
            assert before is not None
            assert before.listed
            assert not any(work.raised for work in self.works.values())
        else:
            assert said.listed == self.visible() != set()  # What is suppressed is not told.
            same = before is not None and before.news == news and not self.touched
            assert not same or reason in AGAIN
        self.messages.append(said)
        self.touched = False
        self.notice = heard(
            self.notice,
            told,
            standing=[one.id for one in members if one.stands],
            is_repeat=reason is NotifyReason.REPEAT,
            now=self.now,
        )

    def pass_until(self, end: datetime) -> None:
        for _ in range(200):
            moments = [self.look_at, self.asleep_until, self.down_until]
            if self.up:
                moments += [self.pending, self.bundle]
            coming = [one for one in moments if one is not None and one <= end]
            if not coming:
                break
            self.now = max(self.now, min(coming))
            self.wake()
            self.look()
            self.send()
        else:
            raise AssertionError("time stands still")
        self.now = end
        self.look()
        self.send()


@dataclass(slots=True)
class Telling:
    world: World = field(default_factory=World)

    def _happens(self) -> None:
        self.world.touched = True
        self.world.look()

    def a_flag_is_raised(self, one: UUID, band: Band) -> None:
        work = self.world.works[one]
        if work.by_person:
            work.handled = False
        work.raised, work.by_person, work.over_since, work.exists = True, False, None, True
        work.severity = band
        self._happens()

    def it_is_cleared(self, one: UUID) -> None:
        work = self.world.works[one]
        if work.raised:
            work.raised, work.over_since, work.handled = False, self.world.now, False
            self._happens()

    def a_person_closes_it(self, one: UUID) -> None:
        work = self.world.works[one]
        if work.raised:
            work.raised, work.by_person, work.over_since = False, True, self.world.now
            work.snoozed, work.muted_until = False, None
            work.closed_after = len(self.world.messages)
            self._happens()

    def a_person_acknowledges_it(self, one: UUID) -> None:
        self.world.works[one].handled = self.world.works[one].raised
        self._happens()

    def it_is_muted(self, one: UUID, minutes: int, *, snoozed: bool) -> None:
        work = self.world.works[one]
        if work.exists:
            work.muted_until = self.world.now + minutes * MINUTE
            work.snoozed = snoozed and work.raised
            work.was_muted = True
            self._happens()

    def the_hearer_sleeps(self, hours: int) -> None:
        self.world.asleep_until = self.world.now + timedelta(hours=hours)
        self.world.look()

    def the_channel_is_away(self, hours: int) -> None:
        self.world.down_until = self.world.now + timedelta(hours=hours)

    def time_passes(self, seconds: int) -> None:
        self.world.pass_until(self.world.now + timedelta(seconds=seconds))

    def what_is_said_is_true_in_time(self) -> None:
        """What stands was told, and that all is over was told, once there was time enough."""
        world = self.world
        if not world.up or world.hearer().opens_at is not None:
            return
        for one, work in world.works.items():
            self._what_ended_counts_no_more(work)
            if work.seen_since is None:
                continue
            if world.now < max(work.seen_since, world.well_since) + PATIENCE:
                continue
            assert any(one in said.listed for said in world.messages[work.closed_after :])
        self._an_end_was_told()

    def _what_ended_counts_no_more(self, work: Work) -> None:
        """What was said before an end that everybody could hear of."""
        world = self.world
        if work.over_since is None:
            return
        if world.now >= max(work.over_since, world.well_since) + 2 * PATIENCE:
            work.closed_after = len(world.messages)

    def _an_end_was_told(self) -> None:
        world = self.world
        works = world.works.values()
        if not world.messages or any(work.raised or work.was_muted for work in works):
            return
        over_since = max(work.over_since for work in works if work.over_since)
        last = {one for one, work in world.works.items() if work.over_since == over_since}
        listed = world.messages[-1].listed
        for one in last:
            work = world.works[one]
            if work.by_person or one not in listed or work.closed_after == len(world.messages):
                return  # They know, or were not told of it.
        assert world.now < max(over_since, world.well_since) + PATIENCE


def _step(name: str, **given_by: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.fixed_dictionaries(given_by).map(lambda values: methodcaller(name, **values))


EVENTS = st.one_of(
    _step("a_flag_is_raised", one=ONES, band=st.sampled_from(BANDS)),
    _step("it_is_cleared", one=ONES),
    _step("a_person_closes_it", one=ONES),
    _step("a_person_acknowledges_it", one=ONES),
    _step("it_is_muted", one=ONES, minutes=st.sampled_from([4, 60, 600]), snoozed=st.booleans()),
    _step("the_hearer_sleeps", hours=st.integers(1, 14)),
    _step("the_channel_is_away", hours=st.integers(1, 14)),
)
PAUSES = st.sampled_from([5, 31, 61, 301, 400, 3_600, 36_000, 180_000])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(EVENTS, PAUSES), min_size=6, max_size=25))
def test_what_one_destination_hears_makes_sense(steps: list[tuple[Step, int]]) -> None:
    telling = Telling()
    for one in (A, B):
        telling.a_flag_is_raised(one, Band.AT_RISK)
    telling.time_passes(31)
    for step, seconds in steps:
        step(telling)
        telling.time_passes(seconds)
        telling.what_is_said_is_true_in_time()
