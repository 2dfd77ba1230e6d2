"""What is told of a flag's weight: its band, its risk, and the money behind it."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from services.scoring.domain.flags.states import OPPORTUNITIES
from services.scoring.domain.risk import severity
from shared.messages import AccountFields, Band, FlagReason, ValueAtRisk

MONTHS_AT_RISK: Final = 12
UNKNOWN_CURRENCY: Final = "XXX"  # ISO 4217's code for "no currency".


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


def value_told(
    reason: FlagReason, risk: float, fields: AccountFields, **currency: str
) -> ValueAtRisk | None:
    """The money that a flag's message carries; an opportunity carries none."""
    return None if reason in OPPORTUNITIES else value_at_risk(risk, fields, **currency)


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
