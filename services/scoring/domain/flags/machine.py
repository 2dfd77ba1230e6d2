"""From what is remembered of an account's flags and how it is judged now to what changes.

A flag not raised waits until its condition has held unbroken for the rule's days; a raised one
likewise until the opposite has. Days are counted between UTC dates, so that a sweep some seconds
earlier than the first does not cost a day.

What a flag must compare with later stands in `FlagState.anchor`: `contract_end` (ordinal), `seats`,
`told_days` (renewal_due: the step told last), `requested_at` (days since 1970); of the flags of
goals the goals told of, by key. An anchor on a flag that is not raised says what has been told: it
is not raised again for the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import numpy as np

from services.scoring.domain.flags import promises
from services.scoring.domain.flags.catalogue import condition
from services.scoring.domain.flags.conditions import HOLDS, Conditions
from services.scoring.domain.flags.evidence import evidence
from services.scoring.domain.flags.states import (
    NEVER_RAISED,
    OPPORTUNITIES,
    REASONS,
    REPLACED_BY_SILENCE,
    STAGES,
    Decision,
    FlagState,
    Why,
    days_between,
)
from services.scoring.domain.goals import Standing
from services.scoring.domain.risk import BANDS
from services.scoring.domain.rules import Rules, RuleSet
from shared.messages import AccountFields, Band, FlagReason, Reason

RISK_FLAGS: Final = frozenset(REASONS) - OPPORTUNITIES - {FlagReason.RENEWAL_DUE}
"""With one of these up nobody offers more seats; a renewal is the best moment to."""

_OF_GOALS: Final = frozenset({FlagReason.GOAL_MISSED, FlagReason.GOAL_REACHED})
_BREAKS: Final = frozenset(
    {Why.RULE_DISABLED, Why.LOST_BEFORE_SEEN, Why.REPLACED_BY_SILENCE, Why.RISK_FLAG_UP}
)
"""Holds in which the condition's days do not run on. Stale data and a short history only delay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is told of an account at the moment of a decision.

    `risk` is None for accounts that have none (too new, lapsed); `reasons` explain it.
    """

    now: datetime
    band: Band
    risk: float | None
    fields: AccountFields
    reasons: tuple[Reason, ...] = ()


def sight_of(
    found: Conditions,
    index: int,
    fields: AccountFields,
    now: datetime,
    *,
    reasons: tuple[Reason, ...] = (),
) -> Sight:
    """The sight of one of the accounts judged: its band and risk are those of the judgement."""
    risk = float(found.seen.facts.risk[index])
    return Sight(
        now=now,
        band=BANDS[int(found.seen.facts.severity[index])],
        risk=None if np.isnan(risk) else risk,
        fields=fields,
        reasons=reasons,
    )


def decide(
    states: Mapping[FlagReason, FlagState],
    found: Conditions,
    index: int,
    sight: Sight,
    rules: Rules,
) -> tuple[Decision, ...]:
    """The flags that change now, those held back, and those of which something is to be remembered.

    `index` is the account's in `found`. Nothing for flags that stay as they are.
    """
    bits = int(found.any_wanted[index])
    if not bits and not states:
        return ()
    look = _Look(
        found=found,
        index=index,
        sight=sight,
        numbers=rules.for_segment(found.seen.facts.segment_of(index)),
        states=dict(states),
    )
    decisions = []
    for position, reason in enumerate(REASONS):
        is_wanted = bool(bits >> position & 1)
        if not is_wanted and reason not in states:
            continue
        state = states.get(reason, NEVER_RAISED)
        if state.is_raised:
            decision = _while_raised(reason, state, look)
        elif is_wanted:
            decision = _while_wanted(reason, state, look)
        else:
            decision = _while_nothing(reason, state, look)
        if decision is not None:
            look.states[reason] = decision.state
            decisions.append(decision)
    return tuple(decisions)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One account at one moment; `states` are those decided so far in this look."""

    found: Conditions
    index: int
    sight: Sight
    numbers: RuleSet
    states: dict[FlagReason, FlagState]

    def is_over(self, reason: FlagReason) -> bool:
        return bool(self.found.over[reason][self.index])

    def held(self, reason: FlagReason) -> Why | None:
        return HOLDS[int(self.found.held[reason][self.index])]

    @property
    def is_silent(self) -> bool:
        return self.states.get(FlagReason.GONE_SILENT, NEVER_RAISED).is_raised

    @property
    def has_risk_flag(self) -> bool:
        return any(
            state.is_raised and reason in RISK_FLAGS for reason, state in self.states.items()
        )

    @property
    def contract_end(self) -> float:
        return float(self.found.seen.facts.contract_end[self.index])

    @property
    def seats(self) -> float:
        return float(self.found.seen.facts.seats[self.index])

    @property
    def requested_at(self) -> float:
        """Days since 1970, up to one day late: the age is in whole days."""
        age = self.found.seen.number("cancellation_age_days", self.index)
        return self.sight.now.timestamp() / 86_400 - age

    def asks_again(self, state: FlagState) -> bool:
        """Whether the request to cancel is another one than that told.

        Both moments are up to a day late: only a whole day between them makes two requests.
        """
        return self.requested_at >= state.anchor.get("requested_at", np.nan) + 1

    @property
    def renewal_step(self) -> int:
        """The smallest of the rule's days before the end that has been reached."""
        rule = self.numbers.renewal_due
        left = self.contract_end - self.found.seen.table.as_of.toordinal()
        reached = [step for step in rule.updates_at_days if left <= step]
        return min(reached, default=rule.days_before)

    @property
    def goals(self) -> Standing:
        return self.found.seen.goals.take(np.array([self.index]))

    def evidence(self, reason: FlagReason, state: FlagState) -> tuple[Reason, ...]:
        """`state`: before the change."""
        if reason is FlagReason.CHURN_RISK:
            return self.sight.reasons
        one = self.found.seen.take(np.array([self.index]))
        if reason is FlagReason.GOAL_REACHED:
            one = one.without_goals(state.anchor.keys())
        return evidence(reason, one, 0, self.numbers)

    def why(self, reason: FlagReason, *, ends: bool) -> Why:
        """What the condition that holds is called."""
        return self.whys(reason, ends=ends)[0]

    def whys(self, reason: FlagReason, *, ends: bool) -> list[Why]:
        judged = condition(reason, self.found.seen.take(np.array([self.index])), self.numbers)
        alternatives = judged.ends if ends else judged.raises
        return [one.why for one in alternatives if one.met()[0]]

    def is_news(self, reason: FlagReason, state: FlagState) -> bool:
        """Whether there is more to tell than what the anchor of a flag not raised remembers."""
        if not state.anchor:
            return True
        match reason:
            case FlagReason.CANCELLATION_INTENT:
                return self.asks_again(state)
            case FlagReason.ONBOARDING_STALLED:
                # The first 14 days stay as slow as they were; only a milestone can be missed still.
                return Why.NO_MILESTONE in self.whys(reason, ends=False)
            case FlagReason.GOAL_REACHED:
                return promises.has_news(
                    promises.now(reason, self.goals, self.numbers), state.anchor
                )
            case _:
                return False


def _while_nothing(reason: FlagReason, state: FlagState, look: _Look) -> Decision | None:
    if state.is_idle:
        return None
    told = reason is FlagReason.ONBOARDING_STALLED and state.anchor
    if told and Why.NO_LONGER_NEW not in look.whys(reason, ends=True):
        # Good weeks come and go, but the account has got going: for as long as it is new.
        return None
    anchor: Mapping[str, float] = {}
    if reason is FlagReason.GOAL_REACHED:
        # Each goal is told once, also where its values leave the target and come back.
        anchor = promises.known(state.anchor, look.goals)
        if anchor == state.anchor and state.wanted_since is None:
            return None
    return _remember(reason, FlagState(episode=state.episode, anchor=anchor), Why.INTERRUPTED)


def _while_wanted(reason: FlagReason, state: FlagState, look: _Look) -> Decision:
    now, rule = look.sight.now, look.numbers.of(reason)
    why = look.held(reason) or _told_or_in_the_way(reason, state, look)
    if why in _BREAKS:
        return _remember(reason, replace(state, wanted_since=None), why)
    if why is not None:
        return _remember(reason, state, why)
    since = state.wanted_since or now
    if days_between(since, now) < rule.for_days:
        waiting = state if state.wanted_since else replace(state, wanted_since=now)
        return _remember(reason, waiting, Why.NOT_LONG_ENOUGH)
    raised = FlagState(
        episode=state.episode + 1,
        raised_at=now,
        band=look.sight.band,
        anchor=_anchor(reason, state, look),
    )
    return Decision(
        reason=reason,
        stage=STAGES[reason],
        change="raised",
        why=look.why(reason, ends=False),
        state=raised,
        raised_at=now,
        evidence=look.evidence(reason, state),
    )


def _told_or_in_the_way(reason: FlagReason, state: FlagState, look: _Look) -> Why | None:
    if reason is FlagReason.EXPANSION_READY and look.has_risk_flag:
        return Why.RISK_FLAG_UP
    if reason in REPLACED_BY_SILENCE and look.is_silent:
        return Why.REPLACED_BY_SILENCE
    return None if look.is_news(reason, state) else Why.ALREADY_TOLD


def _while_raised(reason: FlagReason, state: FlagState, look: _Look) -> Decision | None:
    ended = _ended(reason, look) or _ended_by_what_it_remembers(reason, state, look)
    if ended is not None:
        return _clear(reason, state, ended, look)
    if look.is_over(reason):
        return _while_over(reason, state, look)
    if reason is FlagReason.CANCELLATION_INTENT and look.asks_again(state):
        return _remember(
            reason, replace(state, anchor=_anchor(reason, state, look)), Why.ALREADY_TOLD
        )
    updated = _updated(reason, state, look)
    if updated is None and state.over_since is not None:
        return _remember(reason, replace(state, over_since=None), Why.INTERRUPTED)
    return updated


def _while_over(reason: FlagReason, state: FlagState, look: _Look) -> Decision | None:
    since = state.over_since or look.sight.now
    if days_between(since, look.sight.now) >= look.numbers.of(reason).clear_for_days:
        return _clear(reason, state, look.why(reason, ends=True), look)
    if state.over_since is not None:
        return None
    return _remember(reason, replace(state, over_since=since), Why.NOT_LONG_ENOUGH)


def _ended(reason: FlagReason, look: _Look) -> Why | None:
    """What ends a flag at once, whatever its condition says."""
    if look.found.seen.facts.churned[look.index]:
        return Why.CHURNED
    if not look.numbers.of(reason).enabled:
        return Why.RULE_DISABLED
    if reason in REPLACED_BY_SILENCE and look.is_silent:
        return Why.REPLACED_BY_SILENCE
    if reason is FlagReason.EXPANSION_READY and look.has_risk_flag:
        return Why.RISK_FLAG_RAISED
    return None


def _ended_by_what_it_remembers(reason: FlagReason, state: FlagState, look: _Look) -> Why | None:
    match reason:
        case FlagReason.CHAMPION_LOST:
            up = days_between(state.raised_at or look.sight.now, look.sight.now)
            return Why.TIME_OVER if up >= look.numbers.champion_lost.ends_after_days else None
        case FlagReason.GOAL_REACHED:
            up = days_between(state.raised_at or look.sight.now, look.sight.now)
            return Why.TIME_OVER if up >= look.numbers.goal_reached.ends_after_days else None
        case FlagReason.CANCELLATION_INTENT:
            # Later only: who writes the day of leaving into the contract has not kept anybody.
            moved = look.contract_end > state.anchor.get("contract_end", np.nan)
            return Why.CONTRACT_END_MOVED if moved and not look.asks_again(state) else None
        case FlagReason.EXPANSION_READY:
            return Why.SEATS_ADDED if look.seats > state.anchor.get("seats", np.nan) else None
        case _:
            return None


def _updated(reason: FlagReason, state: FlagState, look: _Look) -> Decision | None:
    anchor, why = state.anchor, Why.BAND_CHANGED
    if reason is FlagReason.CHURN_RISK:
        if look.sight.band is state.band:
            return None
    elif reason is FlagReason.RENEWAL_DUE:
        anchor = _anchor(reason, state, look)
        moved = anchor["contract_end"] != state.anchor.get("contract_end")
        if not moved and anchor["told_days"] >= state.anchor.get("told_days", np.inf):
            return None
        why = Why.CONTRACT_END_MOVED if moved else Why.END_COMES_CLOSER
    elif reason in _OF_GOALS:
        if not promises.has_news(promises.now(reason, look.goals, look.numbers), state.anchor):
            return None
        anchor, why = _anchor(reason, state, look), Why.ANOTHER_GOAL
    else:
        return None
    return Decision(
        reason=reason,
        stage=STAGES[reason],
        change="updated",
        why=why,
        state=replace(state, band=look.sight.band, over_since=None, anchor=anchor),
        raised_at=state.raised_at,
        evidence=look.evidence(reason, state),
    )


def _anchor(reason: FlagReason, state: FlagState, look: _Look) -> dict[str, float]:
    """What to compare with later; numbers that are not known are left out."""
    match reason:
        case FlagReason.RENEWAL_DUE:
            return {"contract_end": look.contract_end, "told_days": float(look.renewal_step)}
        case FlagReason.CANCELLATION_INTENT:
            anchor = {"contract_end": look.contract_end, "requested_at": look.requested_at}
        case FlagReason.EXPANSION_READY:
            anchor = {"seats": look.seats}
        case FlagReason.GOAL_MISSED | FlagReason.GOAL_REACHED:
            return promises.known(state.anchor, look.goals) | promises.now(
                reason, look.goals, look.numbers
            )
        case _:
            return {}
    return {name: number for name, number in anchor.items() if not np.isnan(number)}


def _clear(reason: FlagReason, state: FlagState, why: Why, look: _Look) -> Decision:
    anchor: Mapping[str, float] = {}
    if reason is FlagReason.CANCELLATION_INTENT and why is Why.CONTRACT_END_MOVED:
        anchor = state.anchor  # The request still stands; it has been answered.
    elif reason is FlagReason.GOAL_REACHED:
        anchor = state.anchor
    elif why in {Why.TIME_OVER, Why.GOT_GOING}:
        anchor = {"told": 1.0}
    return Decision(
        reason=reason,
        stage=STAGES[reason],
        change="cleared",
        why=why,
        state=FlagState(episode=state.episode, anchor=anchor),
        raised_at=state.raised_at,
        evidence=look.sight.reasons if why is Why.LEFT_BAND else (),
    )


def _remember(reason: FlagReason, state: FlagState, why: Why) -> Decision:
    return Decision(
        reason=reason,
        stage=STAGES[reason],
        change=None,
        why=why,
        state=state,
        raised_at=state.raised_at,
    )
