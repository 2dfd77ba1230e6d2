"""Severity x value at risk x nearness of the renewal, with the arithmetic beside."""

from datetime import date
from decimal import Decimal

import pytest

from services.notifier.domain.priority import factors, notice_by, prioritised
from shared.messages import AccountFields, Band, ValueAtRisk
from tests.unit.notifier.factories import intervention

TODAY = date(2026, 6, 1)


def value(amount: int, currency: str = "EUR") -> ValueAtRisk:
    return ValueAtRisk(amount=Decimal(amount), currency=currency, basis="margin")


@pytest.mark.parametrize(
    ("severity", "amount", "notice", "renewal", "priority"),
    [
        # 1.5 x 10,000 x (1 + 2 x (1 - 90/180)) = 15,000 x 2
        pytest.param(
            Band.AT_RISK, 10_000, date(2026, 8, 30), date(2026, 12, 1), 30_000, id="90 days"
        ),
        # 1 x 10,000 x (1 + 0): 180 days and more are far away
        pytest.param(Band.WATCH, 10_000, date(2026, 11, 28), None, 10_000, id="180 days"),
        pytest.param(Band.WATCH, 10_000, date(2028, 1, 1), None, 10_000, id="far away"),
        # 2 x 10,000 x (1 + 2)
        pytest.param(Band.CRITICAL, 10_000, TODAY, None, 60_000, id="today"),
        pytest.param(Band.CRITICAL, 10_000, date(2026, 5, 1), None, 60_000, id="past"),
        # Without a day for notice the contract's end counts: 1.5 x 10,000 x 2
        pytest.param(
            Band.AT_RISK, 10_000, None, date(2026, 8, 30), 30_000, id="only the contract's end"
        ),
        # Neither is known: 1.5 x 10,000 x 2
        pytest.param(Band.AT_RISK, 10_000, None, None, 30_000, id="no date"),
        # The value is not known: 1.5 x 1 x 2
        pytest.param(Band.AT_RISK, None, None, None, 3, id="no value"),
        pytest.param(Band.AT_RISK, 0, None, None, 0, id="nothing at risk"),
    ],
)
def test_the_priority_is_the_product_of_its_factors(
    severity: Band,
    amount: int | None,
    notice: date | None,
    renewal: date | None,
    priority: float,
) -> None:
    subject = intervention(
        severity=severity,
        value_at_risk=None if amount is None else value(amount),
        notice_by=notice,
        renewal_date=renewal,
    )
    found = factors(subject, today=TODAY)
    assert found.priority == pytest.approx(priority)
    assert found.severity * found.value * found.nearness == found.priority
    stored = prioritised(subject, today=TODAY)
    assert (stored.priority, stored.version) == (found.priority, subject.version)


def test_currencies_are_not_converted_and_shown() -> None:
    yen = factors(intervention(value_at_risk=value(100, "JPY")), today=TODAY)
    euro = factors(intervention(value_at_risk=value(100, "EUR")), today=TODAY)
    assert (yen.priority, yen.currency, euro.currency) == (euro.priority, "JPY", "EUR")


def test_what_is_not_known_stands_behind_what_is_and_is_sorted_too() -> None:
    known = intervention(value_at_risk=value(10), severity=Band.WATCH)
    unknown = [
        intervention(value_at_risk=None, severity=band)
        for band in (Band.CRITICAL, Band.AT_RISK, Band.WATCH)
    ]
    found = [factors(one, today=TODAY).priority for one in (known, *unknown)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 4


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"contract_end": date(2026, 12, 31), "notice_days": 90}, date(2026, 10, 2)),
        ({"contract_end": date(2026, 12, 31), "notice_days": 0}, date(2026, 12, 31)),
        ({"contract_end": date(2026, 12, 31)}, None),
        ({"notice_days": 90}, None),
    ],
)
def test_the_last_day_for_notice_is_so_many_days_before_the_contracts_end(
    fields: dict[str, object], expected: date | None
) -> None:
    # 31 December - 90 days: 31 + 30 + 29 of October.
    assert notice_by(AccountFields(**fields)) == expected  # type: ignore[arg-type]
