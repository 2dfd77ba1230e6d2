"""Plays the life of an intervention: what flags, people and time do to it, a day after another."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from services.notifier.domain import steps
from services.notifier.domain.calendar import Calendar
from services.notifier.domain.interventions import Intervention, Taken, come_back, take
from services.notifier.domain.refusals import Refusal
from services.notifier.domain.signals import of_flag
from services.notifier.domain.ticks import Ticked, tick
from shared.messages import Band, OutcomeKind
from tests.unit.notifier.factories import ASSIGNMENT, DAY, NOW, OTHER_ID, flag, intervention

SNOOZED_FOR = timedelta(days=20)
CALENDAR = Calendar()


@dataclass(slots=True)
class Life:
    """One intervention, opened on Monday, 1 June 2026; every event comes a day later."""

    subject: Intervention = field(default_factory=intervention)
    now: datetime = NOW
    lost: bool = False
    ticked: list[Ticked] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)

    def play(self, *events: str) -> "Life":
        for event in events:
            self.now += DAY
            getattr(self, event)()
        return self

    def acknowledge(self) -> None:
        self._step(steps.acknowledge(self.subject, version=None, by="anna", now=self.now))

    def snooze(self) -> None:
        until = self.now + SNOOZED_FOR
        self._step(
            steps.snooze(
                self.subject,
                version=None,
                until=until,
                zone=UTC,
                reason="on holiday",
                by="anna",
                now=self.now,
            )
        )

    def wake(self) -> None:
        self._step(steps.wake(self.subject, version=None, now=self.now))

    def close(self) -> None:
        self._step(
            steps.close(
                self.subject,
                version=None,
                outcome=OutcomeKind.SAVED,
                note="",
                by="anna",
                now=self.now,
            )
        )

    def end(self) -> None:
        """To the moment at which the snooze is over."""
        if self.subject.snooze is not None:
            self.now = max(self.now, self.subject.snooze.until)
        self.tick()

    def tick(self) -> None:
        while step := tick(self.subject, now=self.now, calendar=CALENDAR, account_lost=self.lost):
            ticked, self.subject = step
            self.ticked.append(ticked)

    def clear(self) -> None:
        self._flag("cleared", None)

    def still(self) -> None:
        self._flag("updated", Band.AT_RISK)

    def critical(self) -> None:
        self._flag("updated", Band.CRITICAL)

    def raise_again(self) -> None:
        """A new episode of the flag, after it was cleared."""
        self._flag("raised", Band.AT_RISK, episode=self.subject.seen.episode + 1)

    def lose(self) -> None:
        self.lost = True

    def come_back(self) -> None:
        self.lost = False
        if step := come_back(self.subject, now=self.now):
            taken, self.subject = step
            self.taken.append(taken)

    def _flag(self, change: str, band: Band | None, episode: int | None = None) -> None:
        seen = self.subject.seen
        one = flag(
            change=change,
            band=band,
            as_of=self.now,
            episode=episode or seen.episode,
            flag_id=f"acme/churn_risk/{episode or seen.episode}",
            raised_at=self.now if change == "raised" else seen.raised_at,
        )
        taken, stored = take(
            self.subject,
            of_flag(one),
            new_id=OTHER_ID,
            assignment=ASSIGNMENT,
            account_lost=self.lost,
            now=self.now,
        )
        self.taken.append(taken)
        self.subject = stored or self.subject

    def _step(self, result: Intervention | Refusal) -> None:
        assert isinstance(result, Intervention), result
        self.subject = result
