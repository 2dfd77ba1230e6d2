"""All accounts judged by all rules at once, and which of them need a closer look."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.flags.catalogue import condition
from services.scoring.domain.flags.clauses import Alternative, Seen
from services.scoring.domain.flags.facts import Bools, Facts
from services.scoring.domain.flags.states import REASONS, REPLACED_BY_SILENCE, USAGE_FLAGS, Why
from services.scoring.domain.rules import Rules, RuleSet
from services.scoring.domain.table import STATES, IndicatorTable
from services.scoring.domain.usage import Integers
from shared.messages import FlagReason

HOLDS: Final = (
    None,
    Why.RULE_DISABLED,
    Why.SHORT_HISTORY,
    Why.LOST_BEFORE_SEEN,
    Why.REPLACED_BY_SILENCE,
    Why.DATA_STALE,
)
"""What `Conditions.held` is an index into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How the rules judge some accounts; a vector `(accounts,)` per flag.

    `wanted`: the condition to raise holds; `over`: that to clear; neither: in between, or not
    known. `held`: why a wanted flag must not be raised, an index into `HOLDS`; 0: it may.
    """

    seen: Seen
    wanted: Mapping[FlagReason, Bools]
    over: Mapping[FlagReason, Bools]
    held: Mapping[FlagReason, NDArray[np.uint8]]
    any_wanted: NDArray[np.uint16]
    """The wanted flags as bits, in the order of `REASONS`; held ones too."""
    any_free: Bools
    """Some flag is wanted that nothing holds."""

    def __len__(self) -> int:
        return len(self.any_free)

    def held_count(self, reason: FlagReason) -> dict[Why, int]:
        """How many accounts' flags are held back, raised ones included, by why."""
        counts = np.bincount(self.held[reason], minlength=len(HOLDS)).tolist()
        return {why: n for why, n in zip(HOLDS, counts, strict=True) if why is not None and n}


def conditions(table: IndicatorTable, facts: Facts, rules: Rules) -> Conditions:
    """Judge all accounts of the table, each by the numbers of its segment."""
    seen = Seen(table, facts)
    shape = (len(REASONS), len(table))
    wanted, over = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    held = np.zeros(shape, np.uint8)
    for rows, numbers in _groups(facts, rules):
        part = seen if rows is None else seen.take(rows)
        chosen = slice(None) if rows is None else rows
        wanted[:, chosen], over[:, chosen], held[:, chosen] = _judge(part, numbers)
    bits = np.zeros(len(table), np.uint16)
    for index, row in enumerate(wanted):
        bits |= row.astype(np.uint16) << np.uint16(index)
    return Conditions(
        seen=seen,
        wanted=dict(zip(REASONS, wanted, strict=True)),
        over=dict(zip(REASONS, over, strict=True)),
        held=dict(zip(REASONS, held, strict=True)),
        any_wanted=bits,
        any_free=(wanted & (held == 0)).any(axis=0),
    )


def candidates(found: Conditions, has_state: Bools) -> Integers:
    """The accounts that `decide` has to look at, ascending.

    Those with a flag that may be raised now, and those with a state that is not idle
    (`has_state` `(accounts,)`). For all others `decide` would change nothing.
    """
    return np.flatnonzero(found.any_free | has_state)


def _groups(facts: Facts, rules: Rules) -> Iterator[tuple[Integers | None, RuleSet]]:
    own = [code for code, name in enumerate(facts.segments) if name in rules.segments]
    if not own:
        yield None, rules
        return
    yield np.flatnonzero(~np.isin(facts.segment, own)), rules
    for code in own:
        yield np.flatnonzero(facts.segment == code), rules.for_segment(facts.segments[code])


def _judge(seen: Seen, numbers: RuleSet) -> tuple[NDArray[np.bool_], Bools, NDArray[np.uint8]]:
    """Wanted, over and held of each flag, `(flags, accounts)`."""
    state = seen.table.column("state")
    in_state = {name: state == code for code, name in enumerate(STATES)}
    present = ~seen.facts.churned
    wanted, over = [], []
    for reason in REASONS:
        judged = condition(reason, seen, numbers)
        allowed = np.zeros(len(seen.table), np.bool_)
        for name in numbers.of(reason).accounts:
            allowed |= in_state[name]
        wanted.append(_any(judged.raises) & allowed & present)
        over.append(_any(judged.ends))
    raised = np.array(wanted)
    return raised, np.array(over), _held(raised, seen, numbers)


def _any(alternatives: tuple[Alternative, ...]) -> Bools:
    return reduce(np.logical_or, (one.met() for one in alternatives))


def _held(wanted: NDArray[np.bool_], seen: Seen, numbers: RuleSet) -> NDArray[np.uint8]:
    """Why each wanted flag must not be raised; of several reasons the first in `HOLDS`."""
    lapsed = seen.table.column("state") == STATES.index("lapsed")
    lost_before_seen = lapsed & ~seen.facts.under_contract
    short = (seen.table.column("short_history") > 0) & numbers.churn_risk.hold_short_history
    silent = wanted[REASONS.index(FlagReason.GONE_SILENT)] & numbers.gone_silent.enabled
    nobody = np.zeros(len(seen.table), np.bool_)
    held = np.zeros(wanted.shape, np.uint8)
    for index, reason in enumerate(REASONS):
        masks = (
            nobody if numbers.of(reason).enabled else ~nobody,
            short if reason is FlagReason.CHURN_RISK else nobody,
            lost_before_seen if reason is FlagReason.GONE_SILENT else nobody,
            silent if reason in REPLACED_BY_SILENCE else nobody,
            seen.facts.stale if reason in USAGE_FLAGS else nobody,
        )
        for code in range(len(masks), 0, -1):
            held[index][wanted[index] & masks[code - 1]] = code
    return held
