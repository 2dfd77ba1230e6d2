"""When a flag is raised, updated or cleared: facts about one account, each with its reason why.

Two flags are decided here. `churn_risk` (stage renew) follows the band. `gone_silent` (stage
adopt) follows the days since the last active day: raised from 28 on for an account that had at
least 3 active days ever, cleared by an active day.

A pipeline's silence is not the customer's: with `data_stale` nothing is raised; clearing goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Final, Literal, TypeAlias

from services.scoring.domain.indicators import Indicators, State
from services.scoring.domain.risk import severity
from shared.messages import AccountFields, Band, FlagReason, Reason, Stage, ValueAtRisk

SILENT_DAYS: Final = 28
SILENT_MIN_ACTIVE_DAYS: Final = 3
MONTHS_AT_RISK: Final = 12
UNKNOWN_CURRENCY: Final = "XXX"  # ISO 4217's code for "no currency".

Change: TypeAlias = Literal["raised", "updated", "cleared"]

STAGES: Final[Mapping[FlagReason, Stage]] = {
    FlagReason.CHURN_RISK: Stage.RENEW,
    FlagReason.GONE_SILENT: Stage.ADOPT,
}


class Why(StrEnum):
    """Why a flag changed, or why one that would have been raised was not."""

    ENTERED_BAND = "entered_band"
    BAND_CHANGED = "band_changed"
    LEFT_BAND = "left_band"
    SILENT = "silent"
    ACTIVE_AGAIN = "active_again"
    CHURNED = "churned"
    LOST_BEFORE_SEEN = "lost_before_seen"
    DATA_STALE = "data_stale"
    SHORT_HISTORY = "short_history"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagState:
    """What is remembered of one flag of an account: its episodes are counted from 1.

    `band` is the one last told; None where the flag is not raised or has no band.
    """

    episode: int = 0
    raised_at: datetime | None = None
    band: Band | None = None

    @property
    def is_raised(self) -> bool:
        return self.raised_at is not None


NEVER_RAISED: Final = FlagState()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One flag's change and what to remember; `change` None: it was held back, `why` says why.

    `raised_at` is when the episode began, on its end too (`state` has forgotten it by then).
    """

    reason: FlagReason
    stage: Stage
    change: Change | None
    why: Why
    state: FlagState
    raised_at: datetime | None
    evidence: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is known of an account at the moment of a decision.

    `risk` is None for accounts that have none (too new, lapsed); `reasons` explain it.
    """

    indicators: Indicators
    band: Band
    risk: float | None
    fields: AccountFields
    now: datetime
    reasons: tuple[Reason, ...] = ()
    data_stale: bool = False


def decide(previous: Mapping[FlagReason, FlagState], sight: Sight) -> tuple[Decision, ...]:
    """The flags that change now, and those held back; nothing for flags that stay as they are."""
    decisions = (
        _churn_risk(previous.get(FlagReason.CHURN_RISK, NEVER_RAISED), sight),
        _gone_silent(previous.get(FlagReason.GONE_SILENT, NEVER_RAISED), sight),
    )
    return tuple(decision for decision in decisions if decision is not None)


def value_at_risk(
    risk: float, fields: AccountFields, *, default_currency: str = UNKNOWN_CURRENCY
) -> ValueAtRisk | None:
    """Risk x 12 months of margin, else of price, and which of them; None if neither is known."""
    if fields.margin_per_month is None and fields.mrr is None:
        return None
    monthly = fields.mrr if fields.margin_per_month is None else fields.margin_per_month
    # Through str: Decimal(0.1) would carry the float's binary tail into money.
    amount = Decimal(str(risk)) * MONTHS_AT_RISK * (monthly or 0)
    return ValueAtRisk(
        amount=amount.quantize(Decimal("0.01"), ROUND_HALF_UP),
        currency=fields.currency or default_currency,
        basis="mrr" if fields.margin_per_month is None else "margin",
    )


def band_told(reason: FlagReason, band: Band) -> Band:
    """The band that a flag's message carries: silence is never less than at_risk.

    The model learns slowly of a silence (long windows carry it), and slowest of large accounts; of
    those silent for 28 days, 38 % stayed silent for 90 (scoring.md, section 5).
    """
    if reason is FlagReason.GONE_SILENT and severity(band) < severity(Band.AT_RISK):
        return Band.AT_RISK
    return band


def risk_told(
    reason: FlagReason, risk: float | None, last_risk: float | None, at_risk_threshold: float
) -> float:
    """The risk behind a flag's money: the current one, else the last known one, else where at_risk
    begins; for silence never less than that.
    """
    known = risk if risk is not None else last_risk
    if known is None:
        return at_risk_threshold
    return max(known, at_risk_threshold) if reason is FlagReason.GONE_SILENT else known


def summary(
    decision: Decision,
    sight: Sight,
    *,
    value: ValueAtRisk | None = None,
    renewal: date | None = None,
) -> str:
    """The one line that a CSM reads first."""
    parts = [_headline(decision, sight)]
    if decision.change != "cleared":
        parts += [reason.text for reason in decision.evidence if reason.weight > 0][:1]
        if value is not None:
            parts.append(f"{_money(value)} at risk.")
    if renewal is not None:
        parts.append(_renewal(renewal, sight.now.astimezone(UTC).date()))
    return " ".join(parts)


def _churn_risk(state: FlagState, sight: Sight) -> Decision | None:
    reason = FlagReason.CHURN_RISK
    is_wanted = severity(sight.band) >= severity(Band.AT_RISK)
    if sight.fields.status == "churned":
        return _clear(reason, state, Why.CHURNED) if state.is_raised else None
    if not state.is_raised:
        return _new_churn_risk(state, sight) if is_wanted else None
    if not is_wanted:
        return _clear(reason, state, Why.LEFT_BAND, sight.reasons)
    if sight.band is state.band:
        return None
    return Decision(
        reason=reason,
        stage=STAGES[reason],
        change="updated",
        why=Why.BAND_CHANGED,
        state=replace(state, band=sight.band),
        raised_at=state.raised_at,
        evidence=sight.reasons,
    )


def _new_churn_risk(state: FlagState, sight: Sight) -> Decision | None:
    reason = FlagReason.CHURN_RISK
    # Without a risk the band is an old one: it keeps a flag up, but raises none.
    if sight.risk is None:
        return None
    if sight.indicators.short_history:
        # Windows longer than the account is old count the days before it came as silence:
        # measured, the calibration error is 0.14 there and 0.016 elsewhere.
        return _hold(reason, state, Why.SHORT_HISTORY)
    return _raise(reason, state, sight, Why.ENTERED_BAND, sight.reasons)


def _gone_silent(state: FlagState, sight: Sight) -> Decision | None:
    reason, seen = FlagReason.GONE_SILENT, sight.indicators
    recency = seen.recency_days
    is_silent = recency is not None and recency >= SILENT_DAYS
    if sight.fields.status == "churned":
        return _clear(reason, state, Why.CHURNED) if state.is_raised else None
    if state.is_raised:
        return None if is_silent else _clear(reason, state, Why.ACTIVE_AGAIN)
    if recency is None or not is_silent or seen.active_days_ever < SILENT_MIN_ACTIVE_DAYS:
        return None
    if seen.state is State.LAPSED and not _is_under_contract(sight.fields, seen.as_of):
        # Loading years of history must not ring for customers lost years ago.
        return _hold(reason, state, Why.LOST_BEFORE_SEEN)
    return _raise(reason, state, sight, Why.SILENT, (_silence(seen, recency),))


def _is_under_contract(fields: AccountFields, as_of: date) -> bool:
    if fields.status in {"trial", "active"}:
        return True
    return fields.contract_end is not None and fields.contract_end > as_of


def _raise(
    reason: FlagReason,
    state: FlagState,
    sight: Sight,
    why: Why,
    evidence: tuple[Reason, ...],
) -> Decision:
    if sight.data_stale:
        return _hold(reason, state, Why.DATA_STALE)
    raised = FlagState(episode=state.episode + 1, raised_at=sight.now, band=sight.band)
    return Decision(
        reason=reason,
        stage=STAGES[reason],
        change="raised",
        why=why,
        state=raised,
        raised_at=raised.raised_at,
        evidence=evidence,
    )


def _clear(
    reason: FlagReason, state: FlagState, why: Why, evidence: tuple[Reason, ...] = ()
) -> Decision:
    return Decision(
        reason=reason,
        stage=STAGES[reason],
        change="cleared",
        why=why,
        state=FlagState(episode=state.episode),
        raised_at=state.raised_at,
        evidence=evidence,
    )


def _hold(reason: FlagReason, state: FlagState, why: Why) -> Decision:
    return Decision(
        reason=reason, stage=STAGES[reason], change=None, why=why, state=state, raised_at=None
    )


def _silence(seen: Indicators, recency: int) -> Reason:
    usual = seen.mean_gap_days
    rhythm = "" if usual is None else f"; usually every {_days(usual)}"
    return Reason(
        family="recency",
        indicator="recency_days",
        text=f"No use for {_days(recency)}{rhythm}.",
        value=float(recency),
        unit="days",
        baseline=usual,
        baseline_of=None if usual is None else "own",
        change=(recency - usual) / usual if usual else None,
        window_days=None,
        weight=0.0,  # A rule, not a part of the model's log-odds.
        as_of=seen.as_of,
    )


def _days(days: float) -> str:
    rounded = f"{days:.1f}".removesuffix(".0") if days < 10 else str(round(days))
    return f"{rounded} day" if rounded == "1" else f"{rounded} days"


def _headline(decision: Decision, sight: Sight) -> str:
    risk = "" if sight.risk is None else f" {_percent(sight.risk)}"
    state = f"{risk} ({sight.band.replace('_', ' ')})."
    match decision.reason, decision.change, decision.why:
        case FlagReason.CHURN_RISK, "cleared", Why.CHURNED:
            return "Churn risk ends: the account has churned."
        case FlagReason.GONE_SILENT, "cleared", Why.CHURNED:
            return "Silence ends: the account has churned."
        case FlagReason.CHURN_RISK, "cleared", _:
            return f"Churn risk is over:{state}"
        case FlagReason.GONE_SILENT, "cleared", _:
            return "Active again."
        case FlagReason.CHURN_RISK, _, _:
            return f"Churn risk{state}"
        case _:
            return " ".join(reason.text for reason in decision.evidence)


def _percent(risk: float) -> str:
    return f"{risk * 100:.0f} %" if risk >= 0.1 else f"{risk * 100:.1f} %"


def _money(value: ValueAtRisk) -> str:
    currency = "" if value.currency == UNKNOWN_CURRENCY else f"{value.currency} "
    return f"{currency}{value.amount:,.0f}"


def _renewal(renewal: date, today: date) -> str:
    days = (renewal - today).days
    if days < 0:
        return f"Renewal overdue since {renewal.isoformat()}."
    return f"Renews in {_days(days)} ({renewal.isoformat()})."
