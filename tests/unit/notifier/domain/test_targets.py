"""Targets of a year: individual plans that make the department's."""

from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.notifier.domain import targets
from services.notifier.domain.targets import Makes, Measure, Plan, Why

WHO = st.sampled_from([f"p{number}@example.com" for number in range(8)])
WEIGHTS = st.dictionaries(WHO, st.integers(0, 5_000), min_size=1)


def tenths(most: int) -> st.SearchStrategy[Decimal]:
    return st.integers(0, most * 10).map(lambda number: Decimal(number) / 10)


def plan_of(measure: Measure) -> st.SearchStrategy[Decimal]:
    return st.integers(0, 9_999).map(Decimal) if measure.makes is Makes.SUM else tenths(100)


@given(st.data(), st.sampled_from(Measure), WEIGHTS)
def test_what_is_spread_makes_the_whole_again(
    data: st.DataObject, measure: Measure, weights: dict[str, int]
) -> None:
    whole = data.draw(plan_of(measure))
    parts = targets.spread(measure, whole, weights)
    assert parts.keys() == weights.keys()
    assert targets.make(measure, parts, weights) == pytest.approx(whole)
    assert targets.why_refused(Plan(measure=measure, whole=whole, parts=parts), weights) is None


@given(st.data(), st.sampled_from(Measure), WEIGHTS)
def test_what_is_left_open_is_filled_so_that_the_parts_make_the_whole(
    data: st.DataObject, measure: Measure, weights: dict[str, int]
) -> None:
    whole = data.draw(plan_of(measure))
    given_ones = {who: data.draw(st.none() | plan_of(measure), label=who) for who in weights}
    open_ones = [who for who, plan in given_ones.items() if plan is None]
    assume(open_ones)
    parts = targets.complete(measure, whole, given_ones, weights)
    assert parts.keys() == weights.keys()
    assert all(parts[who] == plan for who, plan in given_ones.items() if plan is not None)
    if measure.makes is Makes.SUM:
        assert sum(parts.values()) == whole
    elif any(weights[who] for who in open_ones):
        assert abs(targets.make(measure, parts, weights) - whole) <= measure.unit / 2


@given(st.data(), st.sampled_from(Measure), WEIGHTS)
def test_a_plan_is_taken_only_where_its_parts_make_the_whole(
    data: st.DataObject, measure: Measure, weights: dict[str, int]
) -> None:
    whole = data.draw(plan_of(measure))
    parts = {who: data.draw(plan_of(measure), label=who) for who in weights}
    refused = targets.why_refused(Plan(measure=measure, whole=whole, parts=parts), weights)
    off = abs(targets.make(measure, parts, weights) - whole)
    assert (refused is None) == (off <= (0 if measure.makes is Makes.SUM else Decimal("0.05")))


def test_a_number_is_spread_by_accounts_and_the_rest_goes_where_rounding_took_most() -> None:
    # 10 x 50/100 = 5, 10 x 27/100 = 2.7, 10 x 23/100 = 2.3: the tenth goes to the second.
    weights = {"a": 50, "b": 27, "c": 23}
    assert targets.spread(Measure.ACCOUNTS_SAVED, Decimal(10), weights) == {"a": 5, "b": 3, "c": 2}


def test_a_rate_weighs_as_many_accounts_as_somebody_has() -> None:
    # (95 x 30 + 80 x 10) / 40 = 91.25
    parts = {"a": Decimal(95), "b": Decimal(80)}
    weights = {"a": 30, "b": 10}
    assert targets.make(Measure.RENEWAL_RATE, parts, weights) == Decimal("91.25")
    # To make 92 with a at 95, b needs (92 x 40 - 95 x 30) / 10 = 83.
    filled = targets.complete(
        Measure.RENEWAL_RATE, Decimal(92), {"a": Decimal(95), "b": None}, weights
    )
    assert filled == {"a": 95, "b": 83}


@pytest.mark.parametrize(
    ("whole", "parts", "why"),
    [
        pytest.param("90", {}, None, id="the department's alone"),
        pytest.param("90", {"a": "91", "b": "89"}, None, id="they make it"),
        pytest.param("90", {"a": "91", "b": "90"}, Why.PARTS_DIFFER, id="half a point too much"),
        pytest.param("101", {}, Why.OUT_OF_RANGE, id="no rate is above 100 %"),
        pytest.param("-1", {}, Why.OUT_OF_RANGE, id="below zero"),
        pytest.param("90", {"a": "130", "b": "50"}, Why.OUT_OF_RANGE, id="nobody renews 130 %"),
        pytest.param("90.05", {}, Why.TOO_FINE, id="more digits than are stated"),
    ],
)
def test_a_renewal_target_is_refused_with_its_reason(
    whole: str, parts: dict[str, str], why: Why | None
) -> None:
    plan = Plan(
        measure=Measure.RENEWAL_RATE,
        whole=Decimal(whole),
        parts={who: Decimal(part) for who, part in parts.items()},
    )
    assert targets.why_refused(plan, {"a": 10, "b": 10}) is why


def test_the_furthest_behind_comes_first_and_the_department_begins() -> None:
    plan = Plan(
        measure=Measure.RENEWAL_RATE,
        whole=Decimal(90),
        parts={"a": Decimal(90), "b": Decimal(90), "c": Decimal(90)},
    )
    found = targets.lines(plan, (88.0, 50), {"a": (92.0, 20), "b": (81.5, 20), "d": (70.0, 10)})
    assert [(one.owner, one.gap) for one in found] == [
        ("", -2.0), ("b", -8.5), ("a", 2.0), ("c", None), ("d", None),
    ]  # fmt: skip
