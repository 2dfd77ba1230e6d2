"""What came of interventions: per reason or playbook, with the number that each figure rests on.

What a system closed stands apart, and what was held out is left out: neither says anything about
how people work.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from statistics import median
from typing import Final

from shared.messages import OutcomeKind

SAVED_HOLDS: Final = timedelta(days=180)
"""An account that leaves within so long was not saved."""
_LOST = frozenset({OutcomeKind.CHURNED, OutcomeKind.DOWNSOLD})
_WEEK = timedelta(weeks=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endings:
    """Episodes of interventions that ended alike, `number` of them: only their times differ."""

    reason: str
    playbook: str
    owner: str
    outcome: OutcomeKind
    """As it turned out: see `SAVED_HOLDS`."""
    by_system: bool
    held_out: bool
    number: int
    to_acknowledge: Sequence[float] = ()
    """Seconds from the opening, of those that were acknowledged."""
    to_first_action: Sequence[float] = ()
    """To the first step of a person, whatever it was."""


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


def feedback(endings: Iterable[Endings], *, period: timedelta) -> Feedback:
    counted = [one for one in endings if not one.held_out]
    ours = [one for one in counted if not one.by_system]
    outcomes = dict.fromkeys(OutcomeKind, 0)
    for one in ours:
        outcomes[one.outcome] += one.number
    saved = outcomes[OutcomeKind.SAVED]
    true = saved + sum(outcomes[kind] for kind in _LOST)
    false = outcomes[OutcomeKind.FALSE_ALARM]
    people = {one.owner.lower() for one in ours}
    weeks = period / _WEEK
    return Feedback(
        endings=sum(one.number for one in ours),
        by_system=sum(one.number for one in counted if one.by_system),
        outcomes=outcomes,
        precision=Share(part=true, of=true + false),
        save_rate=Share(part=saved, of=true),
        to_acknowledge=_median(one.to_acknowledge for one in ours),
        to_first_action=_median(one.to_first_action for one in ours),
        false_alarms_per_week=false / (len(people) * weeks) if people and weeks > 0 else None,
    )


def by_reason(endings: Iterable[Endings], *, period: timedelta) -> Mapping[str, Feedback]:
    return _by([(one.reason, one) for one in endings], period=period)


def by_playbook(endings: Iterable[Endings], *, period: timedelta) -> Mapping[str, Feedback]:
    return _by([(one.playbook, one) for one in endings], period=period)


def by_owner(endings: Iterable[Endings], *, period: timedelta) -> Mapping[str, Feedback]:
    return _by([(one.owner.lower(), one) for one in endings], period=period)


def _by(keyed: Iterable[tuple[str, Endings]], *, period: timedelta) -> Mapping[str, Feedback]:
    """The most endings first."""
    groups: dict[str, list[Endings]] = defaultdict(list)
    for key, ending in keyed:
        groups[key].append(ending)
    found = {key: feedback(ones, period=period) for key, ones in groups.items()}
    return dict(sorted(found.items(), key=lambda one: (-one[1].endings, one[0])))


def _median(seconds: Iterable[Sequence[float]]) -> timedelta | None:
    found = list(chain.from_iterable(seconds))
    return timedelta(seconds=median(found)) if found else None
