"""What the read API answers of portfolios and forecasts; amounts as text with two places."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from services.scoring.api_sources import moment
from services.scoring.domain.cuts import Cut
from services.scoring.domain.economics import RENEWAL_TARGET, Figures, Money, Portfolio, Renewals
from services.scoring.domain.flags.money import UNKNOWN_CURRENCY
from services.scoring.domain.forecast import HORIZONS, Forecast, Horizon
from services.scoring.domain.periods import Period

View = dict[str, Any]


def portfolio(
    found: Portfolio, period: Period, as_of: int, by: Cut, without_record: int | None
) -> View:
    """`without_record`: accounts that only events know; None where filters leave them out."""
    whole = figures(found.whole)
    if without_record is not None:
        whole["accounts"]["without_record"] = without_record
    return {
        "from": period.first,
        "to": period.end,
        "as_of": moment(as_of),
        "state": state(period, as_of),
        "by": by,
        "target": RENEWAL_TARGET,
        "whole": whole,
        "parts": [
            {"key": one.key, "figures": figures(one.figures)}
            for one in found.parts
            if by is not Cut.WHOLE
        ],
        "others": found.others and {"parts": found.rest, "figures": figures(found.others)},
    }


def state(period: Period, as_of: int) -> str:
    return "final" if period.is_final(as_of) else "provisional"


def figures(found: Figures) -> View:
    return {
        "accounts": asdict(found.accounts),
        "churn": asdict(found.churn),
        "renewals": asdict(found.renewals),
        "money": [_money(one) for one in found.money],
    }


def forecast(found: Forecast, as_of: int, by: Cut) -> View:
    return {
        "as_of": moment(as_of),
        "horizons": HORIZONS,
        "whole": _horizons(found.whole),
        "parts": [
            {"key": one.key, "forecast": _horizons(one.horizons)}
            for one in found.parts
            if by is not Cut.WHOLE
        ],
        "others": found.others and {"parts": found.rest, "forecast": _horizons(found.others)},
    }


def _money(found: Money) -> View:
    lifetime = found.lifetime
    return {
        "currency": _currency(found.currency),
        "mrr_start": _amount(found.mrr_start),
        "new": _amount(found.new),
        "expansion": _amount(found.expansion),
        "contraction": _amount(found.contraction),
        "lost": _amount(found.lost),
        "mrr_end": _amount(found.mrr_end),
        "grr": found.grr,
        "nrr": found.nrr,
        "n": found.n,
        "renewals": _renewals(found.renewals),
        "ltv": {
            "average": _amount(lifetime.average),
            "months": lifetime.months,
            "of": lifetime.of,
            "n": lifetime.n,
            "basis": "margin",
        },
        "value_at_risk": _amount(found.value_at_risk),
        "ltv_at_risk": _amount(found.lifetime_at_risk),
        "value_basis": {"margin": found.by_margin, "mrr": found.by_mrr},
    }


def _renewals(found: Renewals) -> View:
    return {
        "due": _amount(found.due),
        "renewed": _amount(found.renewed),
        "lost": _amount(found.lost),
        "pending": _amount(found.pending),
        "rate": found.rate,
    }


def _horizons(found: Sequence[Horizon]) -> list[View]:
    return [
        {
            "days": one.days,
            "due": one.due,
            "without_risk": one.without_risk,
            "expected_lost": one.expected_lost,
            "expected_rate": one.expected_rate,
            "money": [
                {
                    "currency": _currency(each.currency),
                    "due": _amount(each.due),
                    "expected_lost": _amount(each.expected_lost),
                }
                for each in one.money
            ],
        }
        for one in found
    ]


def _currency(code: str | None) -> str:
    return code or UNKNOWN_CURRENCY


def _amount(cents: int | None) -> str | None:
    if cents is None:
        return None
    whole, rest = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{whole}.{rest:02d}"
