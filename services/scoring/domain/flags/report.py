"""Why each flag of an account is up, waits, or is not raised, in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np

from services.scoring.domain.flags.catalogue import condition
from services.scoring.domain.flags.clauses import Alternative, Clause
from services.scoring.domain.flags.conditions import Conditions
from services.scoring.domain.flags.machine import Sight, decide
from services.scoring.domain.flags.states import (
    NEVER_RAISED,
    REASONS,
    FlagState,
    Why,
    days_between,
)
from services.scoring.domain.rules import Rules
from shared.messages import FlagReason


@dataclass(frozen=True, slots=True, kw_only=True)
class ClauseReport:
    """One comparison; `met` None: the value is not known."""

    text: str
    value: float | None
    met: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlternativeReport:
    """One way in which a condition holds: if all its clauses are met."""

    why: Why
    met: bool
    clauses: tuple[ClauseReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleReport:
    """A rule's flag on one account, as it stands before the change that `why` announces.

    `since`: raised since, or waiting since; `days_left`: until it would be raised, or cleared, if
    nothing changes; None: nothing waits. `why`: what would happen now, or holds it back; None:
    nothing. `raises` and `ends` are the rule's two conditions.
    """

    reason: FlagReason
    enabled: bool
    stands: Literal["raised", "pending", "not_raised"]
    episode: int
    since: datetime | None
    days_left: int | None
    why: Why | None
    raises: tuple[AlternativeReport, ...]
    ends: tuple[AlternativeReport, ...]


def explain_flags(
    states: Mapping[FlagReason, FlagState],
    found: Conditions,
    index: int,
    sight: Sight,
    rules: Rules,
) -> tuple[RuleReport, ...]:
    """Every rule, in the order of `REASONS`; the parameters are those of `decide`."""
    decisions = {one.reason: one for one in decide(states, found, index, sight, rules)}
    numbers = rules.for_segment(found.seen.facts.segment_of(index))
    one = found.seen.take(np.array([index]))
    reports = []
    for reason in REASONS:
        state = states.get(reason, NEVER_RAISED)
        decision = decisions.get(reason)
        then = state if decision is None or decision.change else decision.state
        rule, judged = numbers.of(reason), condition(reason, one, numbers)
        waits_since = then.over_since if state.is_raised else then.wanted_since
        waits = rule.clear_for_days if state.is_raised else rule.for_days
        reports.append(
            RuleReport(
                reason=reason,
                enabled=rule.enabled,
                stands=_stands(state, then),
                episode=state.episode,
                since=state.raised_at or then.wanted_since,
                days_left=None
                if waits_since is None
                else max(waits - days_between(waits_since, sight.now), 0),
                why=None if decision is None else decision.why,
                raises=tuple(map(_alternative, judged.raises)),
                ends=tuple(map(_alternative, judged.ends)),
            )
        )
    return tuple(reports)


def _stands(state: FlagState, then: FlagState) -> Literal["raised", "pending", "not_raised"]:
    if state.is_raised:
        return "raised"
    return "not_raised" if then.wanted_since is None else "pending"


def _alternative(one: Alternative) -> AlternativeReport:
    return AlternativeReport(
        why=one.why, met=bool(one.met()[0]), clauses=tuple(map(_clause, one.clauses))
    )


def _clause(one: Clause) -> ClauseReport:
    value = float(one.values[0])
    is_known = not np.isnan(value)
    shown = f"{_figure(value)}{_unit(one.unit)}" if is_known else "not known"
    wanted: str = one.test
    if one.test not in {"known", "unknown"}:
        limit = float(np.broadcast_to(np.asarray(one.limit, np.float64), one.values.shape)[0])
        wanted = f"{one.test} {_figure(limit)}{_unit(one.unit)}"
    asks_whether_known = one.test in {"known", "unknown"}
    return ClauseReport(
        text=f"{one.what}: {shown} (wanted: {wanted})",
        value=value if is_known else None,
        met=bool(one.met()[0]) if is_known or asks_whether_known else None,
    )


def _figure(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _unit(unit: str) -> str:
    return f" {unit}" if unit == "days" else ""
