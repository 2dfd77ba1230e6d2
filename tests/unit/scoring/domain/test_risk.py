"""Bands: up at once, down after two weeks well below, and no flapping in between."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.risk import (
    BANDS,
    Bands,
    healthy,
    limits,
    moment,
    next_bands,
    severity,
)
from services.scoring.domain.rules import Rules, load, read_default
from shared.messages import Band
from tests.unit.scoring.factories import NOW, days_later

BASE = 0.04
# Thresholds at a base rate of 0.04: 0.06, 0.12, 0.20; released below 0.04, 0.08, 0.1333.
RULES = read_default()


def look(
    state: Bands | None, risk: float | None, base: float, now: datetime, rules: Rules = RULES
) -> Bands:
    """The band of one account after a look at its risk."""
    risks = np.array([np.nan if risk is None else risk])
    bounds = limits(rules, [None], np.array([base]))
    return next_bands(state or healthy(1, now), risks, bounds, now)


def band_of(state: Bands) -> Band:
    return BANDS[int(state.code[0])]


def same(one: Bands, other: Bands) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name != "code")
        for name in ("code", "since", "low_since")
    )


def run(risks: list[float], every_days: float = 1, base: float = BASE) -> list[Band]:
    """The band after each look at the risk."""
    state: Bands | None = None
    bands = []
    for index, risk in enumerate(risks):
        state = look(state, risk, base, days_later(index * every_days))
        bands.append(band_of(state))
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
    first = look(None, 0.13, BASE, NOW)
    second = look(first, 0.14, BASE, days_later(3))
    third = look(second, 0.30, BASE, days_later(5))
    since = [state.since[0] for state in (first, second, third)]
    assert since == [moment(NOW), moment(NOW), moment(days_later(5))]


def test_without_a_risk_the_band_stays() -> None:
    state = look(None, 0.13, BASE, NOW)
    assert same(look(state, None, BASE, days_later(100)), state)
    assert band_of(look(None, None, BASE, NOW)) is Band.HEALTHY


def test_a_segment_may_have_numbers_of_its_own() -> None:
    rules = load(b"[segments.smb.bands.at_risk]\ntimes_base = 2.0\n")
    bounds = limits(rules, [None, "smb", "enterprise"], np.array([0.04, 0.04, 0.04]))
    # 0.09 is 2.25 x 0.04: watch from 1.5 on, at_risk from 3, of this segment from 2 on.
    found = next_bands(healthy(3, NOW), np.full(3, 0.09), bounds, NOW)
    assert [BANDS[code] for code in found.code] == [Band.WATCH, Band.AT_RISK, Band.WATCH]


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
    thresholds = limits(RULES, [None], np.array([base])).begin[0].tolist()
    state: Bands | None = None
    last_justified: list[datetime] = [NOW - timedelta(days=365)] * 3
    now = NOW
    for risk, days in looks:
        now += timedelta(days=days)
        state = look(state, risk, base, now)
        for index, threshold in enumerate(thresholds):
            if risk >= threshold:
                last_justified[index] = now
            inside = severity(band_of(state)) > index
            assert inside or now - last_justified[index] >= timedelta(days=14)
            assert inside or risk < threshold


@given(st.lists(st.floats(0, 1), max_size=30))
def test_looking_twice_at_the_same_moment_changes_nothing(risks: list[float]) -> None:
    state: Bands | None = None
    for day, risk in enumerate(risks):
        state = look(state, risk, BASE, days_later(day))
        assert same(look(state, risk, BASE, days_later(day)), state)


@dataclass(frozen=True)
class Latches:
    """One account's band as the rule reads, one latch after the other."""

    band: int = 0
    since: datetime = NOW
    low_since: tuple[datetime | None, ...] = (None, None, None)

    def after(self, risk: float | None, base: float, now: datetime) -> "Latches":
        if risk is None:
            return self
        band = 0
        low_since: list[datetime | None] = []
        for index, (times, at_most) in enumerate([(1.5, 0.15), (3.0, 0.30), (5.0, 0.60)]):
            threshold = min(times * base, at_most)
            low = None if risk >= 2 / 3 * threshold else (self.low_since[index] or now)
            held = index < self.band and (low is None or now - low < timedelta(days=14))
            is_closed = held or risk >= threshold
            low_since.append(low if is_closed else None)
            band = index + 1 if is_closed else band
        since = self.since if band == self.band else now
        return replace(self, band=band, since=since, low_since=tuple(low_since))


@given(
    st.lists(
        st.tuples(
            st.lists(st.none() | st.floats(0, 1), min_size=3, max_size=3), st.floats(0.01, 20)
        ),
        max_size=30,
    ),
    st.lists(st.floats(0.005, 0.3), min_size=3, max_size=3),
)
def test_many_accounts_at_once_go_as_each_would_alone(
    looks: list[tuple[list[float | None], float]], bases: list[float]
) -> None:
    together, alone, now = healthy(3, NOW), [Latches()] * 3, NOW
    for risks, days in looks:
        now += timedelta(days=days)
        values = np.array([np.nan if risk is None else risk for risk in risks])
        bounds = limits(RULES, [None] * 3, np.array(bases))
        together = next_bands(together, values, bounds, now)
        alone = [
            one.after(risk, base, now) for one, risk, base in zip(alone, risks, bases, strict=True)
        ]
        assert together.code.tolist() == [one.band for one in alone]
        assert together.since.tolist() == [one.since.replace(tzinfo=None) for one in alone]
        assert together.low_since.tolist() == [
            [moment_ and moment_.replace(tzinfo=None) for moment_ in one.low_since] for one in alone
        ]
