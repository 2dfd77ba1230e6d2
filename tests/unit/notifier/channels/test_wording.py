"""The sentences that every channel shares."""

from decimal import Decimal

import pytest

from services.notifier.channels import wording
from shared.messages import Band, FlagReason, ValueAtRisk
from tests.unit.notifier.factories import message, reason


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("churn_risk", "Churn risk"),
        ("expansion_ready", "Ready to expand"),
        pytest.param("goal_missed", "Goal missed", id="one of a newer version"),
    ],
)
def test_a_reason_has_its_title(name: str, title: str) -> None:
    assert wording.name_of(name) == title


def test_an_opportunity_is_not_called_a_risk_whatever_it_comes_with() -> None:
    value = ValueAtRisk(amount=Decimal(100), currency="EUR", basis="mrr")
    told = message(
        reason=FlagReason.EXPANSION_READY,
        severity=Band.WATCH,
        value_at_risk=value,
        reasons=(reason("19 of 20 seats are in use.", weight=0.0),),
    )
    assert wording.headline(told) == "Opportunity"
    assert wording.why(told) == "Ready to expand: 19 of 20 seats are in use."


def test_the_risk_is_said_of_churn_risk_only() -> None:
    idle = (reason("3 of 20 seats are in use.", weight=0.0),)
    told = message(reason=FlagReason.SEATS_IDLE, risk=0.12, reasons=idle)
    assert wording.why(told) == "Seats idle: 3 of 20 seats are in use."
    assert wording.why(message(risk=0.31)).startswith("Churn risk 31 %: ")
