"""The stage of an account: each rule at its edge, and which of two that hold counts."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.ledger import LifeStage
from services.scoring.domain.stages import since, stages
from services.scoring.domain.table import COLUMNS, IndicatorTable
from services.scoring.domain.usage import Directory, directory_of, microseconds
from shared.messages import AccountFields
from tests.unit.scoring.factories import AS_OF, NOW

NAN: Final = float("nan")


def ago(days: int) -> date:
    return AS_OF - timedelta(days=days)


def ahead(days: int) -> date:
    return AS_OF + timedelta(days=days)


def table(**columns: float) -> IndicatorTable:
    row = np.full(len(COLUMNS), NAN)
    for name, value in ({"tenure_days": 400, "recency_days": 0} | columns).items():
        row[COLUMNS.index(name)] = value
    return IndicatorTable(AS_OF, row[None])


def fields(**changes: Any) -> AccountFields:
    """A customer of half a year with half a year to go."""
    return AccountFields(
        **{
            "contract_start": ago(180),
            "contract_end": ahead(185),
            "billing_period": "year",
            "status": "active",
            **changes,
        }
    )


def stage_of(one: AccountFields, *, expanding: bool = False, **columns: float) -> LifeStage:
    found = stages(table(**columns), directory_of([one]), np.array([expanding]))
    return LifeStage(int(found[0]))


@pytest.mark.parametrize(
    ("one", "stage"),
    [
        pytest.param(fields(), LifeStage.ADOPT, id="nothing in particular"),
        pytest.param(fields(contract_start=ago(59)), LifeStage.LAND, id="the 60th day"),
        pytest.param(fields(contract_start=ago(60)), LifeStage.ADOPT, id="60 days old"),
        pytest.param(fields(contract_start=ahead(9)), LifeStage.LAND, id="begins soon"),
        pytest.param(fields(contract_end=ahead(120)), LifeStage.RENEW, id="ends in 120 days"),
        pytest.param(fields(contract_end=ahead(121)), LifeStage.ADOPT, id="ends in 121 days"),
        pytest.param(fields(contract_end=ago(9)), LifeStage.RENEW, id="ended, nobody knows how"),
        pytest.param(
            fields(contract_end=ahead(20), billing_period="month"), LifeStage.ADOPT, id="monthly"
        ),
        pytest.param(
            fields(contract_start=ago(59), contract_end=ahead(60)),
            LifeStage.LAND,
            id="too young to renew",
        ),
        pytest.param(fields(status="trial"), LifeStage.TRIAL, id="trial"),
        pytest.param(fields(status="churned"), LifeStage.LOST, id="churned"),
        pytest.param(
            fields(status="trial", churned_at=AS_OF), LifeStage.LOST, id="a trial that has left"
        ),
        pytest.param(fields(churned_at=ahead(1)), LifeStage.ADOPT, id="leaves tomorrow"),
        pytest.param(
            fields(churned_at=ago(30)), LifeStage.LOST, id="exports, last log-ins: no return"
        ),
        pytest.param(fields(churned_at=ago(31)), LifeStage.ADOPT, id="is back"),
    ],
)
def test_the_directory_says_where_an_account_stands(one: AccountFields, stage: LifeStage) -> None:
    assert stage_of(one) is stage


def test_a_first_milestone_ends_landing() -> None:
    young = fields(contract_start=ago(10))
    assert stage_of(young, milestones=0) is LifeStage.LAND
    assert stage_of(young, milestones=1) is LifeStage.ADOPT


def test_without_a_contract_the_first_use_is_the_beginning() -> None:
    nobody_knows = AccountFields()
    assert stage_of(nobody_knows, tenure_days=59) is LifeStage.LAND
    assert stage_of(nobody_knows, tenure_days=60) is LifeStage.ADOPT
    assert stage_of(nobody_knows, tenure_days=NAN, recency_days=NAN) is LifeStage.LAND
    # An account that used it long before it signed is as old as its contract.
    assert stage_of(fields(contract_start=ago(5)), tenure_days=300) is LifeStage.LAND


def test_who_is_ready_expands_unless_something_else_is_more_urgent() -> None:
    assert stage_of(fields(), expanding=True) is LifeStage.EXPAND
    assert stage_of(fields(contract_end=ahead(90)), expanding=True) is LifeStage.RENEW
    assert stage_of(fields(contract_start=ago(9)), expanding=True) is LifeStage.LAND


def test_who_has_left_without_use_since_stays_lost() -> None:
    gone = fields(churned_at=ago(100))
    assert stage_of(gone, recency_days=70) is LifeStage.LOST
    assert stage_of(gone, recency_days=69) is LifeStage.ADOPT
    assert stage_of(gone, recency_days=NAN) is LifeStage.LOST


def began(one: AccountFields, before: float = 0, **columns: float) -> datetime:
    directory: Directory = directory_of([one])
    seen = table(**columns)
    stage = stages(seen, directory, np.array([False]))
    at = since(stage, seen, directory, np.array([int(before)]), microseconds(NOW))
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(at[0]))


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        pytest.param(fields(contract_start=ago(9)), midnight(ago(9)), id="land"),
        pytest.param(fields(), midnight(ago(180 - 60)), id="adopt, after sixty days"),
        pytest.param(fields(contract_start=ago(365)), NOW, id="adopt, after how many renewals?"),
        pytest.param(fields(contract_end=ahead(90)), midnight(ago(30)), id="renew"),
        pytest.param(fields(churned_at=ago(3)), midnight(ago(3)), id="lost"),
        pytest.param(fields(status="churned"), NOW, id="lost, nobody knows when"),
        pytest.param(fields(contract_start=ahead(9)), NOW, id="begins soon"),
        pytest.param(AccountFields(), NOW, id="nothing known"),
    ],
)
def test_at_the_first_look_dates_say_since_when(one: AccountFields, expected: datetime) -> None:
    assert began(one) == expected
    # Later looks saw it change.
    assert began(one, before=LifeStage.TRIAL) == NOW


DATES = st.none() | st.integers(-500, 500).map(ahead)


@given(
    one=st.builds(
        AccountFields,
        contract_start=DATES,
        contract_end=DATES,
        churned_at=DATES,
        status=st.sampled_from([None, "trial", "active", "churned"]),
        billing_period=st.sampled_from([None, "month", "year"]),
    ),
    tenure=st.just(NAN) | st.integers(0, 500).map(float),
    milestones=st.just(NAN) | st.integers(0, 2).map(float),
    expanding=st.booleans(),
)
def test_every_account_has_a_stage_and_none_began_in_the_future(
    *, one: AccountFields, tenure: float, milestones: float, expanding: bool
) -> None:
    columns = {"tenure_days": tenure, "milestones": milestones, "recency_days": min(tenure, 5)}
    assert stage_of(one, expanding=expanding, **columns) in LifeStage
    assert began(one, **columns) <= NOW
