"""Who was lost within the horizon: labels of training rows, from what is known by now.

Lost in (T, T+H], by the first rule that says so: 1 the directory's `churned_at`, or a contract that
ended without another and 30 days have gone; 2 a cancellation's `effective_on`, not withdrawn; 3 an
intervention that ended as churned; 4 no active day all through. Rules 1 to 3 alone where the
directory knows the contracts' dates of at least 80 % of the accounts: there silence is no loss.

Evidence is flat: one entry per fact, each with the index of its account (`owner`); days are
ordinals.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.usage import Integers

Flags: TypeAlias = NDArray[np.bool_]

Definition: TypeAlias = Literal["contract", "silence"]

SETTLING_DAYS: Final = 14
"""How long after the horizon what belongs into it may still come in."""

RENEWAL_GRACE_DAYS: Final = 30
RETURN_AFTER_DAYS: Final = 30
"""Use that soon after a loss is the end of it (exports, last log-ins), not a return."""

DATED_SHARE: Final = 0.8

_DAYS = 4_000_000  # More than any ordinal: account and day make one number that sorts by both.


class Rule(IntEnum):
    """What said that an account was lost."""

    NONE = 0
    CONTRACT = 1
    CANCELLATION = 2
    OUTCOME = 3
    SILENCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """Facts of which the day is all that matters, in any order."""

    owner: Integers
    day: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Ends of contracts, and the day on which each was in the directory first; in any order."""

    owner: Integers
    known_on: Integers
    end: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellations:
    """Requests and withdrawals in the order of time; a request without a date, or a withdrawal,
    has `effective_on` 0.
    """

    owner: Integers
    day: Integers
    effective_on: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that labels are made from; `known_until` is the last complete day."""

    known_until: int
    active: Dated
    churned: Dated
    terms: Terms
    cancellations: Cancellations
    outcomes_churned: Dated
    outcomes_saved: Dated


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Of rows `(rows,)`: `lost`, by which rule, and which rows may teach.

    `usable` leaves out what is not closed yet (T+H+14 d), accounts that were lost before T
    (`gone`), and those that an intervention saved within the horizon (`treated`): whether they
    would have left is not known. `held_out` accounts stay.
    """

    definition: Definition
    lost: Flags
    rule: NDArray[np.int8]
    closed: Flags
    gone: Flags
    treated: Flags

    @property
    def usable(self) -> Flags:
        return self.closed & ~self.gone & ~self.treated


NOTHING: Final = Dated(owner=np.empty(0, np.int64), day=np.empty(0, np.int64))
NO_TERMS: Final = Terms(owner=NOTHING.owner, known_on=NOTHING.day, end=NOTHING.day)
NO_CANCELLATIONS: Final = Cancellations(
    owner=NOTHING.owner, day=NOTHING.day, effective_on=NOTHING.day
)


def dated_share(evidence: Evidence, owner: Integers) -> float:
    """The share of the rows' accounts whose contract has an end, or whose leaving a date."""
    accounts = np.unique(owner)
    if not accounts.size:
        return 0.0
    dated = np.union1d(evidence.terms.owner, evidence.churned.owner)
    return float(np.isin(accounts, dated).mean())


def definition_of(evidence: Evidence, owner: Integers) -> Definition:
    return "contract" if dated_share(evidence, owner) >= DATED_SHARE else "silence"


def label(
    evidence: Evidence,
    owner: Integers,
    day: Integers,
    *,
    horizon_days: int,
    definition: Definition,
) -> Labels:
    """The labels of rows: `owner` `(rows,)` and T `(rows,)`, the last complete day they saw."""
    losses = {
        Rule.CONTRACT: _joined(evidence.churned, _lapses(evidence.terms)),
        Rule.CANCELLATION: _effective(evidence.cancellations),
        Rule.OUTCOME: evidence.outcomes_churned,
    }
    rule = np.zeros(len(day), np.int8)
    for which, dated in losses.items():
        rule[(rule == Rule.NONE) & _any_within(dated, owner, day, horizon_days)] = which
    if definition == "silence":
        silent = ~_any_within(evidence.active, owner, day, horizon_days)
        rule[(rule == Rule.NONE) & silent] = Rule.SILENCE
    saved = _any_within(evidence.outcomes_saved, owner, day, horizon_days)
    return Labels(
        definition=definition,
        lost=rule != Rule.NONE,
        rule=rule,
        closed=day + horizon_days + SETTLING_DAYS <= evidence.known_until,
        gone=_gone(_joined(*losses.values()), evidence.active, owner, day),
        # Lost in spite of it is a loss.
        treated=saved & (rule == Rule.NONE),
    )


def _any_within(dated: Dated, owner: Integers, day: Integers, horizon_days: int) -> Flags:
    """Whether a fact of the account lies in (T, T+H]."""
    keys = np.append(np.sort(dated.owner * _DAYS + dated.day), np.iinfo(np.int64).max)
    after = keys[np.searchsorted(keys, owner * _DAYS + day, side="right")]
    within: Flags = after <= owner * _DAYS + day + horizon_days
    return within


def _lapses(terms: Terms) -> Dated:
    """The day on which a contract counts as not renewed: 30 days after its end.

    It is renewed if a later end was in the directory then, or in the two weeks that entries may
    take.
    """
    if not terms.owner.size:
        return NOTHING
    order = np.lexsort((terms.known_on, terms.owner))
    owner, known_on, end = terms.owner[order], terms.known_on[order], terms.end[order]
    latest = np.maximum.accumulate(owner * _DAYS + end) - owner * _DAYS
    lapse = end + RENEWAL_GRACE_DAYS
    known = owner * _DAYS + known_on
    last = np.searchsorted(known, owner * _DAYS + lapse + SETTLING_DAYS, side="right") - 1
    # An end that was entered long after itself is judged by what was known with it.
    last = np.maximum(last, np.arange(len(owner)))
    lapsed = latest[last] <= end
    return Dated(owner=owner[lapsed], day=lapse[lapsed])


def _effective(cancellations: Cancellations) -> Dated:
    """The days on which cancellations came into force: no other word followed until then."""
    if not cancellations.owner.size:
        return NOTHING
    order = np.lexsort((np.arange(len(cancellations.day)), cancellations.day, cancellations.owner))
    owner, day = cancellations.owner[order], cancellations.day[order]
    effective_on = cancellations.effective_on[order]
    until = owner * _DAYS + np.maximum(effective_on, day)
    last = np.searchsorted(owner * _DAYS + day, until, side="right") - 1
    stands = (effective_on > 0) & (last == np.arange(len(owner)))
    return Dated(owner=owner[stands], day=effective_on[stands])


def _gone(losses: Dated, active: Dated, owner: Integers, day: Integers) -> Flags:
    """Whether the account was lost by T and has not come back since."""
    keys = np.insert(np.sort(losses.owner * _DAYS + losses.day), 0, -1)
    at = keys[np.searchsorted(keys, owner * _DAYS + day, side="right") - 1]
    lost_on = at - owner * _DAYS
    lost_before = (at >= 0) & (lost_on >= 0)
    grace = np.where(lost_before, lost_on + RETURN_AFTER_DAYS, day)
    use = np.append(np.sort(active.owner * _DAYS + active.day), np.iinfo(np.int64).max)
    back = use[np.searchsorted(use, owner * _DAYS + grace, side="right")]
    gone: Flags = lost_before & (back > owner * _DAYS + day)
    return gone


def _joined(*parts: Dated) -> Dated:
    return Dated(
        owner=np.concatenate([part.owner for part in parts]),
        day=np.concatenate([part.day for part in parts]),
    )
