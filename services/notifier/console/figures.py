"""Figures in words, the same on every page and in the report: rates, money, months."""

from datetime import date
from decimal import Decimal
from typing import Final

import jinja2

from services.notifier.channels.wording import NO_CURRENCY
from services.notifier.console.economics_api import Figures

_SHORT: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def month_name(name: str) -> str:
    """`2026-01` as `Jan 2026`, other months without their year."""
    year, _, number = name.partition("-")
    short = _SHORT[int(number) - 1]
    return f"{short} {year}" if number == "01" else short


def rate(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.1f} %"


def amount(value: Decimal | float | None, currency: str | None) -> str:
    """Without cents."""
    if value is None:
        return "–"
    return f"{known_currency(currency)} {value:,.0f}".lstrip()


def short_amount(value: Decimal | float | None, currency: str | None) -> str:
    """For a headline: three digits, thousands or millions."""
    if value is None:
        return "–"
    size, letter = next(
        ((size, letter) for size, letter in ((1e9, "bn"), (1e6, "m"), (1e4, "k")) if
         abs(float(value)) >= size), (1.0, "")
    )  # fmt: skip
    size = 1e3 if letter == "k" else size
    scaled = float(value) / size
    digits = 0 if not letter or abs(scaled) >= 100 else 1
    text = f"{scaled:,.{digits}f}{f' {letter}' if letter else ''}"
    return f"{known_currency(currency)} {text}".lstrip()


def known_currency(code: str | None) -> str:
    """Its code; nothing where it is not known."""
    return "" if code in (None, NO_CURRENCY) else str(code)


def points_from(value: float | None, target: float) -> str:
    """How far from the target, in words."""
    if value is None:
        return ""
    gap = round((value - target) * 100, 1)
    if gap == 0:
        return "on target"
    return f"{abs(gap):.1f} points {'above' if gap > 0 else 'below'} the target"


def rate0(value: float | None) -> str:
    """A share without decimals: of what is told in round numbers."""
    return "–" if value is None else f"{value * 100:.0f} %"


def number(value: float | None) -> str:
    """A median: with one decimal, unless it is none."""
    return "" if value is None else f"{value:,.1f}".removesuffix(".0")


def long_month(name: str) -> str:
    """`2026-01` as `January 2026`."""
    return f"{date.fromisoformat(f'{name}-01'):%B %Y}"


def improved(value: float | None) -> str:
    """A share by which something is better (or, below zero, worse) than its baseline."""
    return "–" if value is None else f"{value * 100:+.1f} %"


def decided(figures: Figures) -> int:
    return figures.renewals.due - figures.renewals.pending


CHURN_OF = {"segment": "by its segment", "vendor": "by all", "mixed": "by segment, or all"}
"""Whose churn the months of a lifetime value are from."""


def install(templates: jinja2.Environment) -> None:
    """Give the templates their figures."""
    templates.globals.update(
        rate=rate,
        churn_of=CHURN_OF,
        currency=known_currency,
        money=amount,
        short_money=short_amount,
        points_from=points_from,
        decided=decided,
        improved=improved,
        rate0=rate0,
        number=number,
        long_month=long_month,
        month_name=month_name,
    )
