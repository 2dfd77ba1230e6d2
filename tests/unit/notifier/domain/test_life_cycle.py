"""Flags, people and time in any order, against a plain model of what they do."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.notifier.domain import steps
from services.notifier.domain.calendar import Calendar
from services.notifier.domain.interventions import Intervention, Status, Taken, come_back, take
from services.notifier.domain.signals import of_flag
from services.notifier.domain.ticks import tick
from shared.messages import Band, Flag, FlagReason, OutcomeKind, Stage
from tests.unit.notifier.factories import ASSIGNMENT, NOW, flag

KINDS = ((FlagReason.CHURN_RISK, Stage.RENEW), (FlagReason.GONE_SILENT, Stage.ADOPT))
BANDS = st.sampled_from([Band.WATCH, Band.AT_RISK, Band.CRITICAL])
WHICH = st.integers(0, len(KINDS) - 1)
CALENDAR = Calendar()
OWNERS = ("anna@vendor.example", "ben@vendor.example")


@dataclass
class Model:
    """What a person would say of one kind of work: no versions, no snapshots, no flags' ids."""

    state: str = "none"
    band: Band = Band.WATCH
    is_raised: bool = False
    episode: int = 0
    outcomes: int = 0
    asleep_until: datetime | None = None
    idle_since: datetime = NOW
    closed_at: datetime = NOW
    same_flag: bool = False
    """It was closed while the flag stood, and the flag still does."""

    def is_asleep(self, now: datetime) -> bool:
        return self.asleep_until is not None and now < self.asleep_until

    def begin(self, band: Band, now: datetime, *, anew: bool) -> None:
        self.state, self.band = "open", band
        self.is_raised, self.same_flag = True, False
        self.episode = 1 if anew else self.episode + 1
        self.outcomes, self.asleep_until, self.idle_since = 0, None, now

    def end(self, now: datetime) -> None:
        self.state, self.closed_at, self.asleep_until = "closed", now, None
        self.same_flag = self.is_raised
        self.outcomes += 1

    def hear(self, band: Band, now: datetime, *, is_new: bool) -> None:
        """A flag stands: `is_new` where it had been cleared before."""
        if self.state in ("open", "acked"):
            self.band, self.is_raised = band, True
            if is_new:
                self.idle_since = now
            return
        recent = now - self.closed_at <= timedelta(days=14)
        if self.state == "none":
            self.begin(band, now, anew=True)
        elif self.same_flag and recent and list(Band).index(band) <= list(Band).index(self.band):
            pass
        else:
            self.begin(band, now, anew=not self.same_flag and not recent)

    def clear(self, now: datetime, *, lost: bool) -> None:
        if not self.is_raised and self.state != "closed":
            return
        self.is_raised = self.same_flag = False
        if self.state == "open" and not lost and not self.is_asleep(now):
            self.end(now)
            self.same_flag = False

    def pass_time(self, now: datetime, *, lost: bool) -> None:
        if self.state not in ("open", "acked"):
            return
        if self.asleep_until is not None and now >= self.asleep_until:
            self.idle_since, self.asleep_until = now, None
            if self.state == "open" and not self.is_raised and not lost:
                self.end(now)
                return
        idle = now >= CALENDAR.add_business_days(self.idle_since, 7)
        watched = self.state == "acked" and self.is_raised and not self.is_asleep(now)
        if watched and idle and not lost:
            self.state = "open"


class LifeCycle(RuleBasedStateMachine):
    """One account; the rows are what a database would hold."""

    @initialize()
    def begin(self) -> None:
        self.now = NOW
        self.lost = False
        self.rows: dict[UUID, Intervention] = {}
        self.models = [Model() for _ in KINDS]
        self.flags: list[list[Flag]] = [[] for _ in KINDS]

    def newest(self, which: int) -> Intervention | None:
        mine = [one for one in self.rows.values() if one.reason is KINDS[which][0]]
        return max(mine, key=lambda one: (one.is_open, one.opened_at), default=None)

    def store(self, before: Intervention | None, after: Intervention) -> None:
        if before is None or after.id != before.id:
            assert after.version == 1
            assert after.id not in self.rows
        else:
            assert after.version == before.version + 1
        self.rows[after.id] = after

    def send(self, which: int, one: Flag) -> Taken:
        current = self.newest(which)
        taken, stored = take(
            current,
            of_flag(one),
            new_id=UUID(int=len(self.rows) + 1),
            assignment=ASSIGNMENT,
            account_lost=self.lost,
            now=self.now,
        )
        if stored is not None:
            self.store(current, stored)
        return taken

    def step(self, result: steps.Result) -> Intervention | None:
        if not isinstance(result, Intervention):
            return None
        self.store(self.rows[result.id], result)
        return result

    @rule(hours=st.sampled_from([1, 20, 24 * 4, 24 * 9, 24 * 20]))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)
        for one in list(self.rows.values()):
            current = one
            while step := tick(current, now=self.now, calendar=CALENDAR, account_lost=self.lost):
                self.store(current, step[1])
                current = step[1]
        for model in self.models:
            model.pass_time(self.now, lost=self.lost)

    @rule(which=WHICH, band=BANDS)
    def flag_stands(self, which: int, band: Band) -> None:
        self.now += timedelta(minutes=1)
        reason, stage = KINDS[which]
        last = self.flags[which][-1] if self.flags[which] else None
        is_new = last is None or last.change == "cleared"
        episode = (last.episode if last else 0) + is_new
        one = flag(
            reason=reason,
            stage=stage,
            flag_id=f"acme/{reason}/{episode}",
            episode=episode,
            change="raised" if is_new else "updated",
            raised_at=self.now if last is None or is_new else last.raised_at,
            as_of=self.now,
            band=band,
        )
        self.flags[which].append(one)
        self.send(which, one)
        self.models[which].hear(band, self.now, is_new=is_new)

    @rule(which=WHICH)
    def flag_clears(self, which: int) -> None:
        if not self.flags[which] or self.flags[which][-1].change == "cleared":
            return
        self.now += timedelta(minutes=1)
        last = self.flags[which][-1]
        one = flag(
            reason=last.reason,
            stage=last.stage,
            flag_id=last.flag_id,
            episode=last.episode,
            change="cleared",
            raised_at=last.raised_at,
            as_of=self.now,
            band=None,
        )
        self.flags[which].append(one)
        self.send(which, one)
        self.models[which].clear(self.now, lost=self.lost)

    @rule(which=WHICH, share=st.floats(0, 1))
    def flags_come_again(self, which: int, share: float) -> None:
        """Any prefix of what came, in its order."""
        before = dict(self.rows)
        for one in self.flags[which][: round(share * len(self.flags[which]))]:
            assert self.send(which, one) in (Taken.DUPLICATE, Taken.UNKNOWN)
        assert self.rows == before

    @precondition(lambda self: self.rows)
    @rule(which=WHICH)
    def acknowledged(self, which: int) -> None:
        if (current := self.newest(which)) is None:
            return
        result = steps.acknowledge(current, version=current.version, by="anna", now=self.now)
        model = self.models[which]
        assert (self.step(result) is not None) is (model.state == "open")
        if model.state == "open":
            model.state, model.idle_since = "acked", self.now

    @precondition(lambda self: self.rows)
    @rule(which=WHICH, days=st.integers(1, 60))
    def snoozed(self, which: int, days: int) -> None:
        if (current := self.newest(which)) is None:
            return
        until = self.now + timedelta(days=days)
        result = steps.snooze(
            current,
            version=current.version,
            until=until,
            zone=UTC,
            reason="on holiday",
            by="anna",
            now=self.now,
        )
        model = self.models[which]
        assert (self.step(result) is not None) is (model.state in ("open", "acked"))
        if model.state in ("open", "acked"):
            model.asleep_until, model.idle_since = until, self.now

    @precondition(lambda self: self.rows)
    @rule(which=WHICH, outcome=st.sampled_from(OutcomeKind), by=st.sampled_from(OWNERS))
    def closed_or_corrected(self, which: int, outcome: OutcomeKind, by: str) -> None:
        if (current := self.newest(which)) is None:
            return
        model = self.models[which]
        how = steps.close if current.is_open else steps.correct
        result = how(
            current, version=current.version, outcome=outcome, note="why", by=by, now=self.now
        )
        changed = self.step(result)
        if model.state in ("open", "acked"):
            assert changed is not None
            model.end(self.now)
        elif changed is not None:
            model.outcomes += 1

    @precondition(lambda self: self.rows)
    @rule(which=WHICH, owner=st.sampled_from(OWNERS))
    def passed_on(self, which: int, owner: str) -> None:
        if (current := self.newest(which)) is None:
            return
        result = steps.reassign(current, version=current.version, owner=owner, now=self.now)
        if self.step(result) is not None:
            self.models[which].idle_since = self.now

    @precondition(lambda self: self.rows)
    @rule(which=WHICH, behind=st.integers(1, 3))
    def a_stale_page(self, which: int, behind: int) -> None:
        """Whoever saw an older version changes nothing."""
        if (current := self.newest(which)) is None:
            return
        old = current.version - behind
        for result in (
            steps.acknowledge(current, version=old, by="b", now=self.now),
            steps.close(
                current, version=old, outcome=OutcomeKind.SAVED, note="", by="b", now=self.now
            ),
            steps.reassign(current, version=old, owner="x@y.example", now=self.now),
            steps.wake(current, version=old, now=self.now),
        ):
            assert not isinstance(result, Intervention)

    @rule()
    def leaves_or_returns(self) -> None:
        self.lost = not self.lost
        if self.lost:
            return
        for one in list(self.rows.values()):
            if step := come_back(one, now=self.now):
                self.store(one, step[1])
        for model in self.models:
            if model.state == "open" and not model.is_raised and not model.is_asleep(self.now):
                model.end(self.now)
                model.same_flag = False

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        for which, model in enumerate(self.models):
            current = self.newest(which)
            states = {Status.OPEN: "open", Status.ACKNOWLEDGED: "acked", Status.CLOSED: "closed"}
            assert (states[current.status] if current else "none") == model.state
            if current is None:
                continue
            assert (current.episode, current.revision) == (model.episode, model.outcomes)
            assert current.is_snoozed(self.now) is model.is_asleep(self.now)
            if current.is_open:
                assert (current.is_raised, current.severity) == (
                    model.is_raised,
                    model.band if model.is_raised else current.severity,
                )

    @invariant()
    def every_row_is_whole(self) -> None:
        for which in range(len(KINDS)):
            mine = [one for one in self.rows.values() if one.reason is KINDS[which][0]]
            assert sum(one.is_open for one in mine) <= 1
        for one in self.rows.values():
            assert (one.status is Status.CLOSED) is (one.outcome is not None)
            assert (one.status is Status.CLOSED) is (one.closed_at is not None)
            assert (one.status is Status.ACKNOWLEDGED) <= (one.acknowledged_by is not None)
            assert one.owner
            assert one.due_at is not None
            assert one.snooze is None or one.is_open
            assert one.outcome is None or one.revision > 0


LifeCycle.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLifeCycle = LifeCycle.TestCase
