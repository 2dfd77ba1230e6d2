"""What came of interventions: per reason or playbook, with the number that each figure rests on.

What a system closed stands apart, and what was held out is left out: neither says anything about
how people work.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Final

from shared.messages import OutcomeKind

SAVED_HOLDS: Final = timedelta(days=180)
"""An account that leaves within so long was not saved."""
_LOST = frozenset({OutcomeKind.CHURNED, OutcomeKind.DOWNSOLD})
_WEEK = timedelta(weeks=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one episode of an intervention ended."""

    reason: str
    playbook: str
    owner: str
    outcome: OutcomeKind
    by_system: bool
    held_out: bool
    opened_at: datetime
    closed_at: datetime
    acknowledged_at: datetime | None = None
    first_action_at: datetime | None = None
    """The first step of a person, whatever it was."""
    lost_at: datetime | None = None
    """When the account left after it ended, if it did."""

    @property
    def result(self) -> OutcomeKind:
        """The outcome as it turned out."""
        lost_soon = self.lost_at is not None and self.lost_at - self.closed_at <= SAVED_HOLDS
        if self.outcome is OutcomeKind.SAVED and lost_soon:
            return OutcomeKind.CHURNED
        return self.outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`part` of `of`; the share is None of nothing."""

    part: int
    of: int

    @property
    def value(self) -> float | None:
        return self.part / self.of if self.of else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """Of one reason, one playbook, or all."""

    endings: int
    """By people."""
    by_system: int
    outcomes: Mapping[OutcomeKind, int]
    precision: Share
    """(saved + churned + downsold) of those and the false alarms: how often it was true."""
    save_rate: Share
    """saved of saved + churned + downsold."""
    to_acknowledge: timedelta | None
    """Median of those that were acknowledged."""
    to_first_action: timedelta | None
    false_alarms_per_week: float | None
    """Per person who closed one, and week of the period."""


def feedback(endings: Iterable[Ending], *, period: timedelta) -> Feedback:
    counted = [one for one in endings if not one.held_out]
    ours = [one for one in counted if not one.by_system]
    outcomes = {kind: sum(one.result is kind for one in ours) for kind in OutcomeKind}
    saved = outcomes[OutcomeKind.SAVED]
    true = saved + sum(outcomes[kind] for kind in _LOST)
    false = outcomes[OutcomeKind.FALSE_ALARM]
    people = {one.owner.lower() for one in ours}
    weeks = period / _WEEK
    return Feedback(
        endings=len(ours),
        by_system=len(counted) - len(ours),
        outcomes=outcomes,
        precision=Share(part=true, of=true + false),
        save_rate=Share(part=saved, of=true),
        to_acknowledge=_median(
            one.acknowledged_at - one.opened_at for one in ours if one.acknowledged_at
        ),
        to_first_action=_median(
            one.first_action_at - one.opened_at for one in ours if one.first_action_at
        ),
        false_alarms_per_week=false / (len(people) * weeks) if people and weeks > 0 else None,
    )


def by_reason(endings: Iterable[Ending], *, period: timedelta) -> Mapping[str, Feedback]:
    return _by([(one.reason, one) for one in endings], period=period)


def by_playbook(endings: Iterable[Ending], *, period: timedelta) -> Mapping[str, Feedback]:
    return _by([(one.playbook, one) for one in endings], period=period)


def _by(keyed: Iterable[tuple[str, Ending]], *, period: timedelta) -> Mapping[str, Feedback]:
    """The most endings first."""
    groups: dict[str, list[Ending]] = defaultdict(list)
    for key, ending in keyed:
        groups[key].append(ending)
    found = {key: feedback(ones, period=period) for key, ones in groups.items()}
    return dict(sorted(found.items(), key=lambda one: (-one[1].endings, one[0])))


def _median(spans: Iterable[timedelta]) -> timedelta | None:
    seconds = [span.total_seconds() for span in spans]
    return timedelta(seconds=median(seconds)) if seconds else None
