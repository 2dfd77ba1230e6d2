"""What can be ranked is ranked, what cannot is not, and neither depends on what came later."""

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest

from services.scoring.domain.model import Model
from services.scoring.domain.table import COLUMNS
from services.scoring.evaluation.event_file import UnusableFile
from services.scoring.evaluation.rankings import fixed_formula
from services.scoring.evaluation.results import MODELS, Evaluation, evaluate, gate
from services.scoring.evaluation.snapshots import Snapshots, by_contract, with_labels
from services.scoring.models import read_prior
from shared.messages import AccountFields
from tests.unit.scoring.evaluation.factories import LAST, days_of, plan, snapshots


def found_in(rows: Snapshots, **changes: Any) -> Evaluation:
    values: dict[str, Any] = {
        "main": {},
        "active": days_of(rows),
        "directory": {},
        "last": LAST,
        "yearly_churn": 0.1,
        "resamples": 50,
    }
    return evaluate(rows, plan(), read_prior(), **(values | changes))


@pytest.fixture(scope="module")
def found() -> Evaluation:
    return found_in(snapshots())


def test_losses_that_follow_use_are_ranked(found: Evaluation) -> None:
    for slice_name in ("all", "users3"):
        measured = found.measured[slice_name]
        assert tuple(measured) == MODELS
        for name in ("served", "free", "prior", "histgb", "active_days_365"):
            assert (measured[name].auc or 0) > 0.75, name
        served = measured["served"]
        low, high = served.auc_low, served.auc_high
        assert low is not None
        assert high is not None
        assert low < (served.auc or 0) < high
        assert (served.ece or 1) < 0.1


def test_losses_that_are_random_by_construction_cannot_be_ranked() -> None:
    found = found_in(snapshots(use_matters=False))
    for name in ("served", "free", "histgb"):
        assert 0.45 < (found.measured["all"][name].auc or 0) < 0.55, f"a leak: {name}"
    assert not found.passed


@pytest.mark.parametrize("labels", ["shuffled", "random"])
def test_the_controls_cannot_be_ranked(labels: Any) -> None:
    rows = with_labels(snapshots(), labels)
    found = found_in(rows)
    for name in ("served", "free", "histgb"):
        assert 0.45 < (found.measured["all"][name].auc or 0) < 0.55, f"a leak: {name}"


def test_shuffling_keeps_the_number_of_losses() -> None:
    rows = snapshots()
    assert with_labels(rows, "shuffled").lost.sum() == rows.lost.sum()
    assert with_labels(rows, "true") is rows


def test_a_period_teaches_nothing_about_itself() -> None:
    rows = snapshots()
    years = np.array([date.fromordinal(day).year for day in rows.day.tolist()])
    forgot = replace(rows, lost=np.where(years >= 2018, ~rows.lost, rows.lost))
    one, other = found_in(rows).ranked, found_in(forgot).ranked
    until = np.array(
        [date.fromordinal(day).year <= 2018 for day in rows.where(one.tested).day.tolist()]
    )
    assert until.sum() > 400
    for name in ("served", "free", "histgb"):
        ours, theirs = one.rankings[name].score, other.rankings[name].score
        assert np.array_equal(ours[until], theirs[until]), name


def test_periods_and_slices_cover_what_was_tested(found: Evaluation) -> None:
    tested = found.measured["all"]["served"].rows
    assert sum(found.measured[name]["served"].rows for name in found.periods) == tested
    tenures = [name for name in found.slices if name.startswith("tenure")]
    assert sum(found.measured[name]["served"].rows for name in tenures) == tested


def test_plan_and_segment_are_slices_where_the_directory_knows_them() -> None:
    rows = snapshots()
    directory = {
        name: AccountFields(plan="pro" if number % 2 else "free", segment="all")
        for number, name in enumerate(rows.names)
    }
    found = found_in(rows, directory=directory)
    assert {"plan pro", "plan free"} <= set(found.slices)
    # One segment is no slice: it is everything.
    assert "segment all" not in found.slices


def test_the_prior_is_crossed_where_it_was_fitted_on_these_very_rows() -> None:
    rows = snapshots()
    prior = read_prior()

    def fitted_on(these: Snapshots) -> Model:
        learnt = replace(
            prior.training,
            rows=len(these),
            lost=int(these.lost.sum()),
            accounts=len(np.unique(these.account)),
        )
        return replace(prior, training=learnt)

    main = {name: ("a", "b")[number % 2] for number, name in enumerate(rows.names)}
    crossed = evaluate(
        rows, plan(), fitted_on(rows), main=main, active=days_of(rows), directory={}, last=LAST,
        yearly_churn=0.1, resamples=20,
    )  # fmt: skip
    assert crossed.ranked.prior_crossed
    assert not found_in(rows, main=main).ranked.prior_crossed
    # Flipping a community's own labels leaves its risks alone: they come from the other one.
    here = np.array([main[rows.names[account]] == "a" for account in rows.account.tolist()])
    flipped = replace(rows, lost=np.where(here, ~rows.lost, rows.lost))
    again = evaluate(
        flipped, plan(), fitted_on(flipped), main=main, active=days_of(rows), directory={},
        last=LAST, yearly_churn=0.1, resamples=20,
    )  # fmt: skip
    of_a = here[crossed.ranked.tested]
    ours, theirs = (one.ranked.rankings["prior"].score for one in (crossed, again))
    assert np.array_equal(ours[of_a], theirs[of_a])
    assert not np.array_equal(ours[~of_a], theirs[~of_a])


def test_the_gate_asks_of_small_slices_only_where_there_are_some(found: Evaluation) -> None:
    assert [(line.slice, line.measure) for line in found.gate] == [
        ("all", "auc"), ("all", "ap"), ("all", "lift10"), ("all", "ece"),
        ("users3", "auc"), ("users3", "ap"),
    ]  # fmt: skip
    rows = snapshots()
    rows.table[:, [name.startswith("active_users") for name in COLUMNS]] = np.nan
    alone = found_in(rows)
    assert alone.measured["users3"]["served"].rows == 0
    assert {line.slice for line in alone.gate} == {"all"}


def test_a_gate_that_cannot_be_measured_is_missed(found: Evaluation) -> None:
    served = replace(found.measured["all"]["served"], auc=None)
    lines = gate({"all": {"served": served}, "users3": {"served": served}}, plan(eligible="any"))
    assert [(line.value, line.passed) for line in lines] == [(None, False)]


@pytest.mark.parametrize("outcome", [True, False])
def test_rows_of_one_outcome_are_one_sentence(outcome: bool) -> None:  # noqa: FBT001
    rows = snapshots()
    with pytest.raises(UnusableFile, match="nothing can be tested"):
        found_in(replace(rows, lost=np.full(len(rows), outcome)))


def test_no_rows_are_one_sentence() -> None:
    rows = snapshots()
    with pytest.raises(UnusableFile, match="no account takes part"):
        found_in(rows.where(np.zeros(len(rows), np.bool_)))


def test_the_fixed_formula_is_arithmetic() -> None:
    rows = snapshots().where(np.arange(1))
    for name, value in {
        "share_of_known_users": 0.25,  # 40 x 0.75 = 30
        "recency_days": 45,  # 30 x 0.5 = 15
        "events_28": 14,
        "events_180": 180,  # 0.5 a day against 1: 30 x 0.5 = 15
    }.items():
        rows.column(name)[:] = value
    assert fixed_formula(rows).tolist() == [60]


def test_contracts_say_who_was_lost_and_who_is_gone() -> None:
    rows = snapshots(accounts=3)
    first = int(rows.day.min())
    ends = {"account-0": first + 100, "account-1": None}
    labelled = by_contract(rows, ends, 90)
    # Account 2 has no dates. Account 0 is gone from its end on.
    assert {labelled.names[one] for one in labelled.account.tolist()} == {"account-0", "account-1"}
    of_first = labelled.account == 0
    assert labelled.day[of_first].max() < first + 100
    # Within 90 days of the end: looks 28, 56 and 84 days after the first one.
    assert set((labelled.day[labelled.lost] - first).tolist()) == {28, 56, 84}
    assert not labelled.lost[~of_first].any()
