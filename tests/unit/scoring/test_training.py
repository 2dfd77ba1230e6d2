"""Training: what is learnt, measured and judged, and that nothing of tomorrow leaks into it."""

from dataclasses import replace
from datetime import date
from typing import TypeAlias

import numpy as np
import pytest

from services.scoring.domain import features
from services.scoring.domain.features import FEATURES
from services.scoring.domain.gate import Comparison, Line, judge
from services.scoring.domain.labels import Dated, Evidence, label
from services.scoring.domain.model import (
    Calibration,
    Model,
    dump,
    fingerprint,
    load,
    logit_risk,
    risk,
)
from services.scoring.domain.table import COLUMNS
from services.scoring.fitting import fit_model, fit_signed
from services.scoring.training import (
    LoggedRows,
    NotEnoughToLearnFrom,
    Report,
    Taught,
    as_table,
    months_of,
    taught_rows,
    train,
)
from services.scoring.walkforward import folds
from tests.unit.scoring.factories import NOW, model, rows
from tests.unit.scoring.vendors import END, FIRST, vendor, without_contracts

Vendor: TypeAlias = tuple[LoggedRows, Evidence]
Outcome: TypeAlias = tuple[Model, Report]


@pytest.fixture(scope="module")
def leaving_by_use() -> Vendor:
    return vendor(effect=1.0)


@pytest.fixture(scope="module")
def trained(leaving_by_use: Vendor) -> Outcome:
    return trained_on(leaving_by_use)


def trained_on(data: Vendor, **changes: object) -> Outcome:
    logged, evidence = data
    wanted = {"horizon_days": 90, "version": "own90-test", "now": NOW, "active": prior()} | changes
    return train(logged, evidence, **wanted)  # type: ignore[arg-type]


def prior() -> Model:
    return model()


def line(report: Report, name: str) -> Line:
    (found,) = [one for one in report.gate if one.name.startswith(name)]
    return found


def test_a_vendor_whose_customers_leave_by_their_use_gets_a_model_that_may_be_served(
    trained: Outcome,
) -> None:
    fitted, report = trained
    assert [one for one in report.gate if not one.passed] == []
    assert report.passed
    assert report.served.auc > 0.75
    assert load(dump(fitted)) == fitted
    heavy = {one.feature for one in fitted.weights if abs(one.weight) > 0.15}
    assert {"recency_days", "share_of_known_users"} <= heavy


def test_the_model_tells_what_it_was_made_from(trained: Outcome) -> None:
    fitted, report = trained
    assert (fitted.kind, fitted.horizon_days, fitted.created_at) == ("own", 90, NOW)
    assert fitted.label.startswith("left by the directory's dates")
    assert fitted.training.rows == report.definitions["contract"].rows
    assert fitted.training.first == date.fromordinal(FIRST)
    assert fitted.metrics["auc"] == round(report.served.auc, 4)
    assert fitted.challenger["auc"] == round(report.challenger.auc, 4)
    assert fitted.calibration.losses >= 200
    assert len(fitted.distributions) == len(FEATURES)
    assert len(fitted.golden) >= 3


def test_shuffled_outcomes_cannot_be_ranked(trained: Outcome) -> None:
    assert 0.45 < trained[1].shuffled_auc < 0.55, "a leak"


def test_losses_that_have_nothing_to_do_with_use_cannot_be_ranked_nor_served() -> None:
    _, report = trained_on(vendor(3, effect=0.0))
    assert 0.45 < report.served.auc < 0.55, "a leak"
    assert 0.45 < report.challenger.auc < 0.55, "a leak"
    assert not report.passed


def test_both_definitions_of_a_loss_are_reported(trained: Outcome) -> None:
    report = trained[1]
    assert report.definition == "contract"
    assert report.dated_share == 1.0
    contract, silence = report.definitions["contract"], report.definitions["silence"]
    assert contract.by_rule["silence"] == 0
    assert contract.by_rule["contract"] == contract.lost
    assert silence.lost >= contract.lost


def test_without_contract_dates_silence_is_the_loss(leaving_by_use: Vendor) -> None:
    logged, evidence = leaving_by_use
    _, report = trained_on((logged, without_contracts(evidence)))
    assert report.definition == "silence"
    counted = report.definitions["silence"]
    assert counted.by_rule["silence"] == counted.lost > 0


def test_fewer_than_a_hundred_lost_accounts_teach_nothing() -> None:
    logged, evidence = vendor(accounts=150)
    lost = len(evidence.churned.owner)
    assert 30 < lost < 100
    with pytest.raises(NotEnoughToLearnFrom, match=r"\d\d accounts were lost.*needs 100"):
        trained_on((logged, evidence))


def test_what_was_received_after_a_day_changes_no_row_nor_fold_before_it(
    leaving_by_use: Vendor,
) -> None:
    logged, evidence = leaving_by_use
    cut = END - 400
    # By then the outcomes of rows until cut - 104 days were known.
    known = logged.day <= cut
    shorter = LoggedRows(
        names=logged.names,
        account=logged.account[known],
        day=logged.day[known],
        table=logged.table[known],
        risk=logged.risk[known],
        version=tuple(np.array(logged.version)[known]),
    )
    before = replace(
        evidence,
        known_until=cut,
        active=_until(evidence.active, cut),
        churned=_until(evidence.churned, cut),
    )
    then = _taught(shorter, before)
    now = _taught(logged, evidence)
    closed = now.day + 90 + 14 <= cut
    assert np.array_equal(then.rows, now.rows[closed], equal_nan=True)
    assert np.array_equal(then.lost, now.lost[closed])
    first = date(2022, 7, 1)
    ours = folds(then.day, then.lost, horizon_days=90, first=first)
    theirs = folds(now.day[closed], now.lost[closed], horizon_days=90, first=first)
    assert len(ours) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.train, other.train)
        assert np.array_equal(one.test, other.test)


def _until(dated: Dated, day: int) -> Dated:
    known = dated.day <= day
    return Dated(owner=dated.owner[known], day=dated.day[known])


def _taught(logged: LoggedRows, evidence: Evidence) -> Taught:
    labels = label(evidence, logged.account, logged.day, horizon_days=90, definition="contract")
    return taught_rows(logged, labels)


def test_saved_accounts_are_left_out_and_counted(leaving_by_use: Vendor) -> None:
    logged, evidence = leaving_by_use
    day = FIRST + 20 * 28
    stayed = np.setdiff1d(logged.account[logged.day == day], evidence.churned.owner)[:7]
    saved = replace(evidence, outcomes_saved=Dated(owner=stayed, day=np.full(len(stayed), day + 1)))
    _, report = trained_on((logged, saved))
    # Looks at day, and 28, 56 and 84 days before it have day + 1 within 90 days.
    before = [np.isin(stayed, logged.account[logged.day == day - 28 * ago]) for ago in range(4)]
    assert report.definitions["contract"].treated == int(np.sum(before))


def test_a_model_that_ranks_worse_than_the_one_in_service_does_not_pass(
    leaving_by_use: Vendor, trained: Outcome
) -> None:
    # What it learnt from was wrong until lately; the one in service was fitted on what was right.
    logged, evidence = leaving_by_use
    wrong = np.flatnonzero(logged.day < date(2023, 12, 1).toordinal())
    generator, table = np.random.default_rng(0), logged.table.copy()
    for name in ("recency_days", "share_of_known_users"):
        place = COLUMNS.index(name)
        table[wrong, place] = generator.permutation(table[wrong, place])
    training = replace(trained[0].training, last=date(2023, 12, 1))
    serving = replace(trained[0], training=training)
    _, report = trained_on((replace(logged, table=table), evidence), active=serving)
    assert report.comparison is not None
    assert not line(report, "AUC beside").passed
    assert not report.passed


def test_an_own_model_is_compared_on_rows_it_was_not_fitted_on_alone(
    leaving_by_use: Vendor, trained: Outcome
) -> None:
    seen_all = trained[0]
    _, report = trained_on(leaving_by_use, active=seen_all)
    assert report.comparison is None
    assert line(report, "AUC beside").note.startswith("fewer than 30 losses")
    until = date(2023, 9, 30)
    older = replace(seen_all, training=replace(seen_all.training, last=until))
    _, report = trained_on(leaving_by_use, active=older)
    assert report.comparison is not None
    assert report.comparison.candidate.rows < report.served.rows


def test_a_gate_line_fails_where_its_limit_is_passed(trained: Outcome) -> None:
    report = trained[1]
    served, best = report.served, max(report.indicators.values())
    passes = {"indicators": report.indicators, "comparison": None}

    def failing(**changes: object) -> list[str]:
        lines = judge(replace(served, **changes), **passes)  # type: ignore[arg-type]
        return [one.name for one in lines if not one.passed]

    assert failing() == []
    assert failing(average_precision=best + 0.0099) == [
        "average precision above the best single indicator"
    ]
    assert failing(ece=0.0301) == ["calibration error"]
    assert failing(mean_risk=served.base * 1.21) == ["mean risk off the share that was lost"]
    ours, theirs = replace(served, auc=0.80), replace(served, auc=0.806)
    lines = judge(served, report.indicators, Comparison(version="x", candidate=ours, active=theirs))
    assert [one.name for one in lines if not one.passed] == ["AUC beside the model in service"]


def test_two_clear_wins_of_the_challenger_ask_for_interactions() -> None:
    logged, evidence = _in_the_middle()
    once = train(logged, evidence, horizon_days=90, version="own90-1", now=NOW)
    assert "should the next training say so too" in once[1].advice
    twice = train(logged, evidence, horizon_days=90, version="own90-2", now=NOW, previous=once[0])
    assert twice[1].advice.endswith("add interactions")


def _in_the_middle() -> Vendor:
    """Accounts leave where an indicator is neither high nor low: no single weight can say so."""
    logged, evidence = vendor(5, effect=0.0)
    lost = label(evidence, logged.account, logged.day, horizon_days=90, definition="contract").lost
    generator = np.random.default_rng(1)
    table = logged.table.copy()
    anywhere, middle = generator.uniform(0, 1, len(lost)), generator.uniform(0.4, 0.6, len(lost))
    table[:, COLUMNS.index("stickiness")] = np.where(lost, middle, anywhere)
    return replace(logged, table=table), evidence


def test_further_columns_are_reported_and_not_served(trained: Outcome) -> None:
    fitted, report = trained
    assert set(report.blocks) == {"contract"}  # No durations, no tickets.
    assert report.blocks["contract"].known == 1.0
    assert abs(report.blocks["contract"].auc_with - report.blocks["contract"].auc) < 0.02
    assert len(fitted.weights) == len(FEATURES)


def test_a_calibration_is_folded_into_the_weights(leaving_by_use: Vendor) -> None:
    taught = _taught(*leaving_by_use)

    def fitted(calibration: Calibration | None) -> Model:
        return fit_model(
            taught.rows,
            taught.lost,
            taught.day,
            taught.account,
            version="test",
            kind="own",
            label="test",
            horizon_days=90,
            created_at=NOW,
            calibration=calibration,
        )

    plain = logit_risk(fitted(None), taught.rows)
    folded = logit_risk(fitted(Calibration(slope=0.5, intercept=-0.2, losses=200)), taught.rows)
    assert np.allclose(folded, 0.5 * plain - 0.2, atol=1e-12)


def test_the_fingerprint_is_that_of_the_rows_and_their_outcomes(leaving_by_use: Vendor) -> None:
    taught = _taught(*leaving_by_use)
    whole = fingerprint(taught.rows, taught.lost, taught.day)
    assert whole == fingerprint(taught.rows.copy(), taught.lost, taught.day)
    other = taught.lost.copy()
    other[0] = not other[0]
    assert whole != fingerprint(taught.rows, other, taught.day)
    assert whole != fingerprint(taught.rows[::-1], taught.lost, taught.day)


def test_a_fit_keeps_the_declared_directions(leaving_by_use: Vendor) -> None:
    taught = _taught(*leaving_by_use)
    # Turned round: use as such now *raises* the risk, which the fit must not learn.
    fit = fit_signed(-taught.rows, taught.lost)
    for feature, weight in zip(FEATURES, fit.weights, strict=True):
        assert weight.weight * feature.direction >= 0
    recency = next(one for one in fit.weights if one.feature == "recency_days")
    assert recency.weight == 0


@pytest.mark.parametrize("lost", [True, False])
def test_a_fit_needs_both_outcomes(lost: bool) -> None:  # noqa: FBT001
    with pytest.raises(ValueError, match="lost"):
        fit_signed(np.ones((5, len(FEATURES))), np.full(5, lost))


def test_months_add_up_expected_and_observed_losses() -> None:
    day = np.array([date(2026, 1, 31), date(2026, 2, 1), date(2026, 2, 28)], dtype="O")
    ordinals = np.array([one.toordinal() for one in day])
    found = months_of(ordinals, np.array([0.5, 0.25, 0.5]), np.array([True, False, True]))
    assert [(one.month, one.rows, one.expected, one.observed) for one in found] == [
        ("2026-01", 1, 0.5, 1),
        ("2026-02", 2, 0.75, 1),
    ]


def test_a_model_ranks_rows_it_has_not_seen(trained: Outcome) -> None:
    logged, evidence = vendor(17)
    taught = _taught(logged, evidence)
    risks = risk(trained[0], taught.rows)
    assert risks[taught.lost].mean() > 1.5 * risks[~taught.lost].mean()
    assert features.rows(as_table(logged.table)).shape == (len(logged.day), len(FEATURES))
    assert rows(3).shape == (3, len(FEATURES))
