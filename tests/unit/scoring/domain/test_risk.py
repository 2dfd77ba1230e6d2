"""Bands: up at once, down after two weeks well below, and no flapping in between."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.risk import BandRule, BandRules, BandState, next_band, severity
from shared.messages import Band
from tests.unit.scoring.factories import NOW, days_later

BASE = 0.04
# Thresholds at a base rate of 0.04: 0.06, 0.12, 0.20; released below 0.04, 0.08, 0.1333.


def run(risks: list[float], every_days: float = 1, base: float = BASE) -> list[Band]:
    """The band after each look at the risk."""
    state: BandState | None = None
    bands = []
    for index, risk in enumerate(risks):
        state = next_band(state, risk, base, days_later(index * every_days))
        bands.append(state.band)
    return bands


@pytest.mark.parametrize(
    ("risk", "band"),
    [
        (0.0, Band.HEALTHY),
        (0.0599, Band.HEALTHY),
        (0.06, Band.WATCH),
        (0.1199, Band.WATCH),
        (0.12, Band.AT_RISK),
        (0.1999, Band.AT_RISK),
        (0.20, Band.CRITICAL),
        (1.0, Band.CRITICAL),
    ],
)
def test_a_band_starts_at_its_multiple_of_the_base_rate(risk: float, band: Band) -> None:
    assert run([risk]) == [band]


@pytest.mark.parametrize(
    ("risk", "band"),
    [(0.149, Band.HEALTHY), (0.15, Band.WATCH), (0.30, Band.AT_RISK), (0.60, Band.CRITICAL)],
)
def test_no_threshold_is_higher_than_its_cap(risk: float, band: Band) -> None:
    # 1.5, 3 and 5 x 0.25 are 0.375, 0.75 and 1.25.
    assert run([risk], base=0.25) == [band]


def test_up_goes_at_once_over_several_bands() -> None:
    assert run([0.01, 0.5]) == [Band.HEALTHY, Band.CRITICAL]


def test_down_goes_after_fourteen_days_below_two_thirds() -> None:
    bands = run([0.5] + [0.01] * 16)
    # Low from day 1 on; 14 days later is day 15.
    assert bands[:15] == [Band.CRITICAL] * 15
    assert bands[15:] == [Band.HEALTHY] * 2


def test_a_risk_that_is_lower_but_not_low_enough_keeps_the_band() -> None:
    assert run([0.12] + [0.081] * 60)[-1] is Band.AT_RISK


def test_one_day_above_two_thirds_starts_the_fourteen_days_again() -> None:
    bands = run([0.12] + [0.07] * 13 + [0.09] + [0.07] * 14)
    assert set(bands) == {Band.AT_RISK}


def test_each_band_is_left_in_its_own_time() -> None:
    # Out of critical for 14 days while still at_risk, then low: at_risk needs 14 days of its own.
    bands = run([0.25] + [0.10] * 14 + [0.01] * 16)
    assert bands[14] is Band.CRITICAL
    assert bands[15] is Band.AT_RISK
    assert bands[28] is Band.AT_RISK
    assert bands[29] is Band.HEALTHY


def test_the_band_remembers_since_when() -> None:
    first = next_band(None, 0.13, BASE, NOW)
    second = next_band(first, 0.14, BASE, days_later(3))
    third = next_band(second, 0.30, BASE, days_later(5))
    assert (first.since, second.since, third.since) == (NOW, NOW, days_later(5))


def test_without_a_risk_the_band_stays() -> None:
    state = next_band(None, 0.13, BASE, NOW)
    assert next_band(state, None, BASE, days_later(100)) == state
    assert next_band(None, None, BASE, NOW).band is Band.HEALTHY


def test_rules_are_settings() -> None:
    strict = BandRules(at_risk=BandRule(times_base=2.0, at_most=0.30))
    assert next_band(None, 0.09, BASE, NOW, rules=strict).band is Band.AT_RISK


@given(
    st.lists(st.floats(-0.02, 0.02), min_size=1, max_size=200),
    st.sampled_from([0.06, 0.12, 0.20]),
    st.floats(0.01, 2),
)
def test_noise_at_a_threshold_raises_once_and_never_flaps(
    noise: list[float], threshold: float, every_days: float
) -> None:
    # 0.02 below each threshold is still at or above two thirds of it: 0.04, 0.08, 0.133.
    bands = run([threshold + one for one in noise], every_days)
    severities = [severity(band) for band in bands]
    assert severities == sorted(severities)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 20)), max_size=60), st.floats(0.005, 0.3)
)
def test_a_band_never_falls_sooner_than_fourteen_days_after_it_was_justified(
    looks: list[tuple[float, float]], base: float
) -> None:
    thresholds = list(BandRules().thresholds(base).values())
    state: BandState | None = None
    last_justified: list[datetime] = [NOW - timedelta(days=365)] * 3
    now = NOW
    for risk, days in looks:
        now += timedelta(days=days)
        state = next_band(state, risk, base, now)
        for index, threshold in enumerate(thresholds):
            if risk >= threshold:
                last_justified[index] = now
            inside = severity(state.band) > index
            assert inside or now - last_justified[index] >= timedelta(days=14)
            assert inside or risk < threshold


@given(st.lists(st.floats(0, 1), max_size=30))
def test_looking_twice_at_the_same_moment_changes_nothing(risks: list[float]) -> None:
    state: BandState | None = None
    for day, risk in enumerate(risks):
        state = next_band(state, risk, BASE, days_later(day))
        assert next_band(state, risk, BASE, days_later(day)) == state
