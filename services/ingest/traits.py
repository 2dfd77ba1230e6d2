"""How callers may write each field of the directory: one reader per field, one rule per reader.

A reader returns the value, None where the caller clears the field, or raises ValueError with the
rule that was broken; it never names the value.
"""

import re
import zoneinfo
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import TypeAlias

from services.ingest.codes import COUNTRIES, CURRENCIES
from services.ingest.repair import is_storable
from shared.messages import Goal

MAX_TEXT = 200
MAX_GOALS = 20

Reader: TypeAlias = Callable[[object], object]

_MAX_SEATS = 1_000_000_000
_MAX_NOTICE_DAYS = 3_650
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_DECIMAL = re.compile(r"-?\d{1,12}(\.\d{1,400})?", re.ASCII)
"""The smallest float takes 324 decimals."""
_CENTS = Decimal("0.0001")
_EMAIL = re.compile(r"[^@\s<>,;:\"]{1,64}@[^@\s<>,;:\"]+\.[^@\s<>,;:\".]+")
_REGION = re.compile(r"([A-Z]{2})(-[A-Z0-9]{1,3})?", re.ASCII)
_FIRST_DATE = date(1970, 1, 1)
_LAST_DATE = date(2199, 12, 31)


def text(value: object) -> str | None:
    if type(value) is int:
        return str(value)
    if type(value) is not str:
        raise ValueError("must be text")
    plain = value.strip()
    if len(plain) > MAX_TEXT:
        raise ValueError(f"must have at most {MAX_TEXT} characters")
    if not is_storable(plain):
        raise ValueError("holds NUL or half a character")
    return plain or None


def whole_number(limit: int) -> Reader:
    def read(value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not 0 <= value <= limit:
            raise ValueError(f"must be a whole number from 0 to {limit}")
        return value

    return read


def price(value: object) -> Decimal:
    amount = money(value)
    if amount < 0:
        raise ValueError("must be 0 or more")
    return amount


def money(value: object) -> Decimal:
    """A decimal as a number or as text with a point; four places are kept."""
    if type(value) in (int, float):
        # A float's own shortest text is what the caller wrote.
        value = format(Decimal(repr(value)), "f")
    if type(value) is not str or _DECIMAL.fullmatch(value) is None:
        raise ValueError('must be a decimal number, as 1200.5 or "1200.50", below 1e12')
    amount = Decimal(value)
    return amount if amount.as_tuple().exponent in (0, -1, -2, -3, -4) else amount.quantize(_CENTS)


def day(value: object) -> date:
    if type(value) is str and _DATE.fullmatch(value):
        try:
            parsed = date.fromisoformat(value)
        except ValueError as error:
            raise ValueError("must be a date of the calendar, as 2026-03-31") from error
        if _FIRST_DATE <= parsed <= _LAST_DATE:
            return parsed
        raise ValueError(f"must lie between {_FIRST_DATE} and {_LAST_DATE}")
    raise ValueError("must be a date, as 2026-03-31")


def one_of(*words: str) -> Reader:
    def read(value: object) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return word

    return read


def currency(value: object) -> str:
    code = value.strip().upper() if isinstance(value, str) else ""
    if code not in CURRENCIES:
        raise ValueError("must be a currency code of ISO 4217, as EUR")
    return code


def region(value: object) -> str:
    match = _REGION.fullmatch(value.strip().upper()) if isinstance(value, str) else None
    if match is None or match[1] not in COUNTRIES:
        raise ValueError("must be a code of ISO 3166, as FR or FR-BRE")
    return match[0]


def timezone(value: object) -> str:
    zones = known_zones()
    # A machine without time zones still has to take what others wrote.
    if isinstance(value, str) and (value in zones or (not zones and 0 < len(value) <= 64)):
        return value
    raise ValueError("must be an IANA time zone, as Europe/Paris")


def email(value: object) -> str:
    plain = value.strip() if isinstance(value, str) else ""
    if len(plain) > MAX_TEXT or not is_storable(plain) or _EMAIL.fullmatch(plain) is None:
        raise ValueError("must be an e-mail address")
    return plain


def goals(value: object) -> tuple[Goal, ...]:
    if not isinstance(value, list) or len(value) > MAX_GOALS:
        raise ValueError(f"must be a list of at most {MAX_GOALS} goals")
    return tuple(_goal(part, number) for number, part in enumerate(value))


FIELDS: Mapping[str, Reader] = {
    "name": text,
    "plan": text,
    "segment": text,
    "reseller": text,
    "seats": whole_number(_MAX_SEATS),
    "mrr": price,
    "margin_per_month": money,
    "currency": currency,
    "region": region,
    "timezone": timezone,
    "owner": email,
    "contract_start": day,
    "contract_end": day,
    "renewal_date": day,
    "notice_days": whole_number(_MAX_NOTICE_DAYS),
    "billing_period": one_of("month", "quarter", "half_year", "year", "multi_year"),
    "status": one_of("trial", "active", "churned"),
    "churned_at": day,
    "goals": goals,
}


def _goal(value: object, number: int) -> Goal:
    if not isinstance(value, dict):
        raise ValueError(f"goal {number} must be an object")  # noqa: TRY004 - one kind of error
    try:
        return Goal(
            metric=_metric(value.get("metric")),
            baseline=_figure(value.get("baseline")),
            target=_figure(value.get("target")),
            direction="down" if _direction(value.get("direction", "up")) == "down" else "up",
            due=None if value.get("due") is None else day(value["due"]),
        )
    except ValueError as error:
        raise ValueError(f"goal {number}: {error}") from error


_direction = one_of("up", "down")


def _metric(value: object) -> str:
    metric = None if value is None else text(value)
    if metric is None:
        raise ValueError("metric is required")
    return metric


def _figure(value: object) -> float:
    if type(value) is float or type(value) is int:
        return float(money(value))
    raise ValueError("baseline and target must be numbers")


@lru_cache(maxsize=1)
def known_zones() -> frozenset[str]:
    """All time zones of this machine; reads files the first time."""
    return frozenset(zoneinfo.available_timezones())
