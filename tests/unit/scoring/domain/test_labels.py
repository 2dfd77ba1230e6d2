"""Who was lost, by each rule, with the dates beside; T is day 1000 and the horizon 90 days."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.labels import (
    NO_CANCELLATIONS,
    NO_TERMS,
    NOTHING,
    Cancellations,
    Dated,
    Definition,
    Evidence,
    Labels,
    Rule,
    Terms,
    dated_share,
    definition_of,
    label,
)

T = 1000
HORIZON = 90


def dated(*days: int, owner: int = 0) -> Dated:
    return Dated(owner=np.full(len(days), owner), day=np.array(days, np.int64))


def terms(*facts: tuple[int, int], owner: int = 0) -> Terms:
    """Day on which it was known, and the end."""
    known_on, end = np.array(facts, np.int64).reshape(-1, 2).T
    return Terms(owner=np.full(len(facts), owner), known_on=known_on, end=end)


def cancellations(*facts: tuple[int, int], owner: int = 0) -> Cancellations:
    """Day, and when it comes into force; 0 is a withdrawal."""
    day, effective_on = np.array(facts, np.int64).reshape(-1, 2).T
    return Cancellations(owner=np.full(len(facts), owner), day=day, effective_on=effective_on)


USED = dated(*range(900, 1200, 7))
EVIDENCE = Evidence(
    known_until=2000,
    active=USED,
    churned=NOTHING,
    terms=NO_TERMS,
    cancellations=NO_CANCELLATIONS,
    outcomes_churned=NOTHING,
    outcomes_saved=NOTHING,
)


def labels(
    evidence: Evidence, days: Iterable[int] = (T,), definition: Definition = "contract"
) -> Labels:
    day = np.array(list(days), np.int64)
    return label(
        evidence, np.zeros(len(day), np.int64), day, horizon_days=HORIZON, definition=definition
    )


def rule(evidence: Evidence, day: int = T, definition: Definition = "contract") -> Rule:
    return Rule(int(labels(evidence, [day], definition).rule[0]))


@pytest.mark.parametrize(
    ("churned_at", "expected"),
    [
        (T, Rule.NONE),  # On T itself: it was lost already.
        (T + 1, Rule.CONTRACT),
        (T + 90, Rule.CONTRACT),
        (T + 91, Rule.NONE),
    ],
)
def test_churned_at_counts_within_the_horizon(churned_at: int, expected: Rule) -> None:
    assert rule(replace(EVIDENCE, churned=dated(churned_at))) == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        # The contract ends on day 1060; 30 days later is T + 90.
        pytest.param([(500, 1060)], Rule.CONTRACT, id="not renewed"),
        pytest.param([(500, 1061)], Rule.NONE, id="a day too late for this horizon"),
        pytest.param([(500, 970)], Rule.NONE, id="30 days after its end is T itself"),
        pytest.param([(500, 971)], Rule.CONTRACT, id="30 days after its end is T + 1"),
        pytest.param([(500, 1060), (1050, 1425)], Rule.NONE, id="renewed in time"),
        # 1060 + 30 + 14 = 1104
        pytest.param([(500, 1060), (1104, 1425)], Rule.NONE, id="renewed, entered late"),
        pytest.param([(500, 1060), (1105, 1425)], Rule.CONTRACT, id="came back too late"),
        pytest.param([(500, 1060), (1050, 1030)], Rule.CONTRACT, id="shortened"),
        pytest.param([(500, 1060), (400, 1425)], Rule.NONE, id="a longer one was known before"),
    ],
)
def test_a_contract_counts_30_days_after_an_end_that_nothing_followed(
    facts: list[tuple[int, int]], expected: Rule
) -> None:
    assert rule(replace(EVIDENCE, terms=terms(*facts))) == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param([(990, 1090)], Rule.CANCELLATION, id="comes into force on T + 90"),
        pytest.param([(990, 1091)], Rule.NONE, id="on T + 91"),
        pytest.param([(990, 1050), (1040, 0)], Rule.NONE, id="withdrawn"),
        pytest.param([(990, 1050), (1050, 0)], Rule.NONE, id="withdrawn on the last day"),
        pytest.param([(990, 1050), (1051, 0)], Rule.CANCELLATION, id="withdrawn too late"),
        pytest.param([(990, 1050), (1020, 1200)], Rule.NONE, id="put off"),
        pytest.param([(990, 1200), (1020, 1050)], Rule.CANCELLATION, id="brought forward"),
        pytest.param([(990, 0)], Rule.NONE, id="no date was stated"),
        pytest.param([(1080, 1050)], Rule.CANCELLATION, id="for a day that had passed"),
    ],
)
def test_a_cancellation_counts_on_the_day_it_comes_into_force(
    facts: list[tuple[int, int]], expected: Rule
) -> None:
    assert rule(replace(EVIDENCE, cancellations=cancellations(*facts))) == expected


def test_an_outcome_churned_counts_on_the_day_it_was_closed() -> None:
    assert rule(replace(EVIDENCE, outcomes_churned=dated(T + 90))) == Rule.OUTCOME
    assert rule(replace(EVIDENCE, outcomes_churned=dated(T + 91))) == Rule.NONE


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([T], Rule.SILENCE),  # T itself is no use afterwards.
        ([T + 1], Rule.NONE),
        ([T + 90], Rule.NONE),
        ([T + 91], Rule.SILENCE),
        ([], Rule.SILENCE),
    ],
)
def test_silence_all_through_is_a_loss_where_contracts_have_no_dates(
    days: list[int], expected: Rule
) -> None:
    evidence = replace(EVIDENCE, active=dated(*days))
    assert rule(evidence, definition="silence") == expected
    assert rule(evidence, definition="contract") == Rule.NONE


def test_the_first_rule_that_says_so_is_named() -> None:
    evidence = replace(
        EVIDENCE,
        active=NOTHING,
        churned=dated(T + 80),
        cancellations=cancellations((990, T + 10)),
        outcomes_churned=dated(T + 5),
    )
    assert rule(evidence, definition="silence") == Rule.CONTRACT
    assert rule(replace(evidence, churned=NOTHING)) == Rule.CANCELLATION


def test_a_row_closes_two_weeks_after_its_horizon() -> None:
    # T + 90 + 14 = 1104
    assert labels(replace(EVIDENCE, known_until=1104)).closed.tolist() == [True]
    assert labels(replace(EVIDENCE, known_until=1103)).closed.tolist() == [False]


def test_saved_accounts_are_left_out_unless_they_were_lost_nonetheless() -> None:
    saved = replace(EVIDENCE, outcomes_saved=dated(T + 20))
    found = labels(saved)
    assert (found.treated.tolist(), found.usable.tolist()) == ([True], [False])
    lost = labels(replace(saved, churned=dated(T + 80)))
    assert (lost.treated.tolist(), lost.usable.tolist()) == ([False], [True])
    assert labels(replace(EVIDENCE, outcomes_saved=dated(T))).usable.tolist() == [True]


def test_who_was_lost_is_no_row_until_it_comes_back() -> None:
    # Lost on day 1000; use until 1030 is the end of it; from 1200 on it is a customer again.
    evidence = replace(EVIDENCE, churned=dated(1000), active=dated(1010, 1030, 1200, 1201))
    found = labels(evidence, [999, 1000, 1100, 1199, 1200, 1300])
    assert found.gone.tolist() == [False, True, True, True, False, False]


def test_facts_belong_to_their_account_alone() -> None:
    evidence = replace(
        EVIDENCE,
        active=NOTHING,
        churned=dated(T + 5, owner=1),
        terms=terms((500, 1060), owner=2),
        cancellations=cancellations((990, 1050), owner=3),
        outcomes_churned=dated(T + 5, owner=4),
    )
    owner = np.arange(6)
    found = label(evidence, owner, np.full(6, T), horizon_days=HORIZON, definition="contract")
    assert found.rule.tolist() == [0, 1, 1, 2, 3, 0]


def test_contracts_tell_where_80_percent_of_accounts_have_dates() -> None:
    owner = np.repeat(np.arange(10), 3)
    for dates, expected in ((8, "contract"), (7, "silence")):
        evidence = replace(
            EVIDENCE,
            terms=Terms(
                owner=np.arange(dates - 1),
                known_on=np.zeros(dates - 1, np.int64),
                end=np.full(dates - 1, 1500),
            ),
            churned=dated(T, owner=dates - 1),
        )
        assert dated_share(evidence, owner) == dates / 10
        assert definition_of(evidence, owner) == expected


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(900, 1300)), max_size=30),
    st.lists(st.tuples(st.integers(0, 3), st.integers(900, 1300)), min_size=1, max_size=20),
)
def test_silence_is_as_one_would_count_it(
    use: list[tuple[int, int]], rows: list[tuple[int, int]]
) -> None:
    active = np.array(use, np.int64).reshape(-1, 2).T
    owner, day = np.array(rows, np.int64).T
    found = label(
        replace(EVIDENCE, active=Dated(owner=active[0], day=active[1])),
        owner,
        day,
        horizon_days=HORIZON,
        definition="silence",
    )
    expected = [
        not any(who == one and at < when <= at + HORIZON for who, when in use) for one, at in rows
    ]
    assert found.lost.tolist() == expected
