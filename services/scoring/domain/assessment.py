"""One look at many accounts: from what is stored of them to risk, band, value and flags.

The sweep reads, calls `assess` and then `changes` for the few accounts that rules point at, and
writes what was found; nothing in between does I/O.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from math import isnan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.features import Rows, rows
from services.scoring.domain.flags.conditions import Conditions, conditions
from services.scoring.domain.flags.facts import Bools, facts_of
from services.scoring.domain.flags.machine import decide, sight_of
from services.scoring.domain.flags.money import band_told, risk_told, value_at_risk, value_told
from services.scoring.domain.flags.states import Decision, FlagState
from services.scoring.domain.flags.summary import summary
from services.scoring.domain.goals import standing
from services.scoring.domain.indicators import measure
from services.scoring.domain.model import Model, risk
from services.scoring.domain.peers import Cohorts
from services.scoring.domain.renewal import renewal_date
from services.scoring.domain.risk import RAISED, Bands, Limits, Moments, limits, next_bands
from services.scoring.domain.rules import Rules
from services.scoring.domain.stages import since, stages
from services.scoring.domain.table import STATES, IndicatorTable
from services.scoring.domain.usage import (
    NO_OUTAGES,
    Directory,
    Floats,
    Integers,
    Outages,
    Usage,
    directory_of,
    microseconds,
)
from shared.messages import AccountFields, Band, FlagReason, Reason, ValueAtRisk

_AT_RISK: Final = RAISED.index(Band.AT_RISK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """What accounts are judged by: the model, whom they are compared with, and the rules.

    `cohort_ratio` is what the accounts' trends usually are at the moment (holidays).
    `milestones_used`: the vendor reports onboarding milestones.
    """

    model: Model
    cohorts: Cohorts
    cohort_ratio: float = 1.0
    rules: Rules
    milestones_used: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What was stored of some accounts before the look; `last_risk` `(accounts,)`, NaN: none.

    `looked_at`: when last; NaT: never. `stage`: a `LifeStage`, 0: none yet.
    """

    accounts: Sequence[str]
    fields: Sequence[AccountFields]
    bands: Bands
    last_risk: Floats
    looked_at: Moments
    stage: Integers
    stage_since: Moments


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessed:
    """What the look found, of the same accounts; `risk` `(accounts,)`, NaN: too new or lapsed."""

    known: Known
    directory: Directory
    table: IndicatorTable
    features: Rows
    risk: Floats
    last_risk: Floats
    bands: Bands
    limits: Limits
    values: Sequence[ValueAtRisk | None]
    conditions: Conditions


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagChange:
    """A decision with what its message says; `decision.change` None: nothing is said."""

    decision: Decision
    band: Band
    value: ValueAtRisk | None
    renewal: date | None
    summary: str


def assess(
    usage: Usage,
    known: Known,
    standard: Standard,
    now: datetime,
    *,
    outages: Outages = NO_OUTAGES,
    stale: Bools | None = None,
) -> Assessed:
    """Look at all accounts at once; `usage` is of those that are `known`, in their order.

    `stale`: accounts `(accounts,)` whose sources cannot be trusted now.
    """
    directory = directory_of(known.fields)
    table = measure(usage, directory, now, cohort_ratio=standard.cohort_ratio, outages=outages)
    features = rows(table)
    scored = table.column("state") == STATES.index("scored")
    risks = np.where(scored, risk(standard.model, features), np.nan)
    segments = [one.segment for one in known.fields]
    bounds = limits(
        standard.rules, segments, base_rates(standard.model, standard.cohorts, segments)
    )
    bands = next_bands(known.bands, risks, bounds, now)
    facts = facts_of(
        known.fields,
        table.as_of,
        severity=bands.code,
        risk=risks,
        stale=stale,
        goals=standing(known.fields, usage.signals, as_of=table.as_of, now=microseconds(now)),
        milestones_used=standard.milestones_used,
    )
    return Assessed(
        known=known,
        directory=directory,
        table=table,
        features=features,
        risk=risks,
        last_risk=np.where(scored, risks, known.last_risk),
        bands=bands,
        limits=bounds,
        values=_values(risks, known.fields),
        conditions=conditions(table, facts, standard.rules),
    )


def changes(
    assessed: Assessed,
    index: int,
    states: Mapping[FlagReason, FlagState],
    reasons: tuple[Reason, ...],
    rules: Rules,
    now: datetime,
) -> tuple[FlagChange, ...]:
    """What becomes of one account's flags; `reasons` explain its risk, where it has one."""
    fields = assessed.known.fields[index]
    sight = sight_of(assessed.conditions, index, fields, now, reasons=reasons)
    decisions = decide(states, assessed.conditions, index, sight, rules)
    if not decisions:
        return ()
    last = float(assessed.known.last_risk[index])
    at_risk = float(assessed.limits.begin[index, _AT_RISK])
    renewal = renewal_date(fields, assessed.table.as_of)
    found = []
    for decision in decisions:
        told = risk_told(decision.reason, sight.risk, None if np.isnan(last) else last, at_risk)
        value = value_told(decision.reason, told, fields)
        found.append(
            FlagChange(
                decision=decision,
                band=band_told(decision.reason, sight.band),
                value=value,
                renewal=renewal,
                summary=""
                if decision.change is None
                else summary(decision, sight, value=value, renewal=renewal),
            )
        )
    return tuple(found)


def staged(
    assessed: Assessed, expanding: NDArray[np.bool_], now: datetime
) -> tuple[Integers, Moments]:
    """Each account's stage after the look, and since when; `expanding`: `expansion_ready` is up."""
    known, table, directory = assessed.known, assessed.table, assessed.directory
    stage = stages(table, directory, expanding)
    began = since(stage, table, directory, known.stage, microseconds(now)).view("M8[us]")
    return stage, np.where(stage == known.stage, known.stage_since, began)


def base_rates(model: Model, cohorts: Cohorts, segments: Sequence[str | None]) -> Floats:
    """The mean risk that each account's bands are relative to."""
    own = {name: one.base_rate for name, one in cohorts.items() if name is not None}
    everyone = model.base_rate
    if not own:
        return np.full(len(segments), everyone)
    return np.array([own.get(one, everyone) if one else everyone for one in segments], np.float64)


def _values(risks: Floats, fields: Sequence[AccountFields]) -> list[ValueAtRisk | None]:
    return [
        None if isnan(its_risk) else value_at_risk(its_risk, one)
        for its_risk, one in zip(risks.tolist(), fields, strict=True)
    ]
