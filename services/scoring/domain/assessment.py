"""One look at some accounts: from what is stored of them to risk, band, reasons and flags.

The sweep reads subjects, calls `assess`, and writes assessments; nothing in between does I/O.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from services.scoring.domain import flags
from services.scoring.domain.features import FEATURES, Row, Rows, rows
from services.scoring.domain.flags import Decision, FlagState, Sight
from services.scoring.domain.indicators import History, Indicators, State, extract
from services.scoring.domain.model import Model, risk
from services.scoring.domain.reasons import explain
from services.scoring.domain.renewal import renewal_date
from services.scoring.domain.risk import DEFAULT_RULES, BandRules, BandState, next_band
from shared.messages import AccountFields, Band, FlagReason, Reason, ValueAtRisk

YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is stored of one account before it is looked at."""

    account: str
    fields: AccountFields
    history: History
    band: BandState | None
    last_risk: float | None
    flags: Mapping[FlagReason, FlagState]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagChange:
    """A decision with what its message says; `decision.change` None: held back."""

    decision: Decision
    band: Band
    value: ValueAtRisk | None
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What the look found; `risk` None: too new or lapsed."""

    account: str
    fields: AccountFields
    indicators: Indicators
    risk: float | None
    last_risk: float | None
    band: BandState
    value: ValueAtRisk | None
    reasons: tuple[Reason, ...]
    flags: tuple[FlagChange, ...]


def assess(
    subjects: Sequence[Subject],
    model: Model,
    now: datetime,
    *,
    kept_days: int | None,
    rules: BandRules = DEFAULT_RULES,
) -> list[Assessment]:
    """Assess the subjects, in order; `kept_days`: how far back their histories are complete."""
    indicators = extract([one.history for one in subjects], [one.fields for one in subjects], now)
    features = rows(indicators)
    year_ago = _rows_a_year_ago(subjects, now, kept_days=kept_days)
    risks = risk(model, features).tolist() if subjects else []
    return [
        _assess_one(
            subject,
            seen,
            model,
            now,
            risk=its_risk if seen.state is State.SCORED else None,
            row=row,
            year_ago=before,
            rules=rules,
        )
        for subject, seen, its_risk, row, before in zip(
            subjects, indicators, risks, features, year_ago, strict=True
        )
    ]


def _assess_one(
    subject: Subject,
    seen: Indicators,
    model: Model,
    now: datetime,
    *,
    risk: float | None,
    row: Row,
    year_ago: Row,
    rules: BandRules,
) -> Assessment:
    band = next_band(subject.band, risk, model.base_rate, now, rules=rules)
    reasons = () if risk is None else explain(model, row, seen, year_ago=year_ago).reasons
    sight = Sight(
        indicators=seen,
        band=band.band,
        risk=risk,
        fields=subject.fields,
        now=now,
        reasons=reasons,
    )
    threshold = rules.thresholds(model.base_rate)[Band.AT_RISK]
    return Assessment(
        account=subject.account,
        fields=subject.fields,
        indicators=seen,
        risk=risk,
        last_risk=subject.last_risk if risk is None else risk,
        band=band,
        value=None if risk is None else flags.value_at_risk(risk, subject.fields),
        reasons=reasons,
        flags=tuple(
            _flag_change(decision, sight, subject.last_risk, threshold)
            for decision in flags.decide(subject.flags, sight)
        ),
    )


def _flag_change(
    decision: Decision, sight: Sight, last_risk: float | None, threshold: float
) -> FlagChange:
    told = flags.risk_told(decision.reason, sight.risk, last_risk, threshold)
    value = flags.value_at_risk(told, sight.fields)
    renewal = renewal_date(sight.fields, sight.indicators.as_of)
    return FlagChange(
        decision=decision,
        band=flags.band_told(decision.reason, sight.band),
        value=value,
        summary=flags.summary(decision, sight, value=value, renewal=renewal),
    )


def _rows_a_year_ago(subjects: Sequence[Subject], now: datetime, *, kept_days: int | None) -> Rows:
    """Each account's own features of a year before, `(accounts, features)`.

    NaN where the stored days do not reach back far enough to know: the feature's window would be
    cut short and look like a rise since. Windowless features are never known that far back.
    """
    before = now - YEAR
    histories = [replace(one.history, last_active=None) for one in subjects]
    features = rows(extract(histories, [AccountFields()] * len(subjects), before))
    reach = np.inf if kept_days is None else kept_days - YEAR.days
    unknown = [feature.window_days is None or feature.window_days > reach for feature in FEATURES]
    features[:, unknown] = np.nan
    first = np.array([_first_day(one.history) for one in subjects])
    windows = np.array([feature.window_days or 0 for feature in FEATURES])
    # An account that was not there for the whole window has no "a year ago".
    features[first[:, None] > before.toordinal() - windows[None, :]] = np.nan
    return features


def _first_day(history: History) -> float:
    if history.first_active is not None:
        return history.first_active
    return history.days[0] if history.days else np.inf
