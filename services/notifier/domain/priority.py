"""How urgent an intervention is: severity x value at risk x nearness of the renewal.

Amounts are taken as they are: nobody tells us rates, so currencies are **not** converted, and a
list of several currencies is sorted within each only. A value that is not known counts as 1: it
stands behind all that is known to be worth more than one unit, and there by severity and nearness.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

from services.notifier.domain.interventions import Intervention
from shared.messages import AccountFields, Band

_SEVERITY: Final = {Band.HEALTHY: 1.0, Band.WATCH: 1.0, Band.AT_RISK: 1.5, Band.CRITICAL: 2.0}
_UNKNOWN_VALUE = 1.0
_HORIZON_DAYS = 180
_NEARNESS = 2.0
_UNKNOWN_NEARNESS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """What a priority is the product of, for whoever wants to check it."""

    severity: float
    value: float
    currency: str | None
    """None: the value is not known."""
    nearness: float
    """1 (180 days or more) to 3 (today, or past)."""
    days: int | None
    """Until the last day for notice, else the end of the contract; None: neither is known."""

    @property
    def priority(self) -> float:
        return self.severity * self.value * self.nearness


def factors(subject: Intervention, *, today: date) -> Factors:
    value = subject.value_at_risk
    until = subject.notice_by or subject.renewal_date
    days = None if until is None else (until - today).days
    return Factors(
        severity=_SEVERITY[subject.severity],
        value=_UNKNOWN_VALUE if value is None else max(0.0, float(value.amount)),
        currency=None if value is None else value.currency,
        nearness=_UNKNOWN_NEARNESS if days is None else _nearness(days),
        days=days,
    )


def prioritised(subject: Intervention, *, today: date) -> Intervention:
    """The intervention with its priority as of `today` (UTC); its version stays."""
    return replace(subject, priority=factors(subject, today=today).priority)


def _nearness(days: int) -> float:
    return 1.0 + _NEARNESS * min(1.0, max(0.0, 1.0 - days / _HORIZON_DAYS))


def notice_by(fields: AccountFields) -> date | None:
    """The last day on which the customer can give notice; None where the contract says none."""
    if fields.contract_end is None or fields.notice_days is None:
        return None
    return fields.contract_end - timedelta(days=fields.notice_days)
