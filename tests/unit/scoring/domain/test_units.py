"""Every number of the indicators says what it counts."""

from services.scoring.domain.features import FEATURES
from services.scoring.domain.indicators import Indicators
from services.scoring.domain.units import UNITLESS, UNITS


def test_every_indicator_has_a_unit_or_none_to_have() -> None:
    assert set(UNITS) | UNITLESS == set(Indicators.__annotations__)
    assert not set(UNITS) & UNITLESS


def test_the_reasons_speak_of_the_same_units() -> None:
    assert {feature.name: UNITS[feature.name] for feature in FEATURES} == {
        feature.name: feature.unit for feature in FEATURES
    }


def test_the_longest_name_decides() -> None:
    assert UNITS["nps_mean"] == "score, 0 to 10"
    assert UNITS["nps_answers"] == "answers"
    assert UNITS["tickets_open"] == "tickets"
    assert UNITS["tickets_28_per_10_users"] == "tickets per 10 users"
