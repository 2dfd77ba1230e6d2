"""Who is held out, and what is said of it."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.domain.flags import OwnReason, WorkReason
from services.notifier.domain.holdout import (
    NOBODY,
    Arm,
    HoldOut,
    hold_out_of,
    quarter_of,
    uplift,
)
from shared.messages import Band, FlagReason

DAY = date(2026, 5, 14)
TENTH = hold_out_of("a secret of at least 32 characters", 0.1)


def drawn(
    account: str,
    *,
    by: HoldOut = TENTH,
    reason: WorkReason = FlagReason.USAGE_DROP,
    severity: Band = Band.AT_RISK,
    today: date = DAY,
) -> bool | None:
    return by.draw(account, reason=reason, severity=severity, today=today)


def test_a_tenth_is_a_tenth_and_the_same_each_time() -> None:
    accounts = [f"account-{number}" for number in range(10_000)]
    held = [drawn(one) for one in accounts]
    # Binomial: 1,000 with a standard deviation of 30; the draw is fixed, so this cannot flicker.
    assert 900 < sum(map(bool, held)) < 1_100
    assert held == [drawn(one) for one in accounts]


def test_all_of_a_quarter_is_drawn_alike_and_each_quarter_anew() -> None:
    accounts = [f"account-{number}" for number in range(1_000)]
    first = [drawn(one, today=date(2026, 4, 1)) for one in accounts]
    assert first == [drawn(one, today=date(2026, 6, 30)) for one in accounts]
    assert first != [drawn(one, today=date(2026, 7, 1)) for one in accounts]


def test_another_secret_draws_others() -> None:
    other = hold_out_of("another secret of 32 characters!", 0.1)
    accounts = [f"account-{number}" for number in range(1_000)]
    assert [drawn(one) for one in accounts] != [drawn(one, by=other) for one in accounts]
    assert "secret" not in repr(TENTH)


@pytest.mark.parametrize(
    ("reason", "severity"),
    [
        pytest.param(FlagReason.CHURN_RISK, Band.CRITICAL, id="critical"),
        pytest.param(FlagReason.CANCELLATION_INTENT, Band.AT_RISK, id="the customer says they go"),
        pytest.param(FlagReason.PAYMENT_FAILED, Band.AT_RISK, id="a payment that failed"),
        pytest.param(FlagReason.UNHAPPY_FEEDBACK, Band.AT_RISK, id="the customer is unhappy"),
        pytest.param(FlagReason.EXPANSION_READY, Band.WATCH, id="an opportunity"),
        pytest.param(OwnReason.SENTIMENT, Band.AT_RISK, id="one of ours says so"),
        pytest.param(OwnReason.ACCOUNT_LOST, Band.AT_RISK, id="they have left"),
    ],
)
@given(account=st.text(max_size=20))
def test_what_cannot_wait_is_never_drawn(account: str, reason: WorkReason, severity: Band) -> None:
    assert drawn(account, reason=reason, severity=severity) is None


@given(account=st.text(max_size=20))
def test_by_default_nobody_is_drawn(account: str) -> None:
    assert drawn(account, by=NOBODY) is None


@pytest.mark.parametrize(
    ("day", "quarter"),
    [
        (date(2026, 1, 1), "2026Q1"),
        (date(2026, 3, 31), "2026Q1"),
        (date(2026, 4, 1), "2026Q2"),
        (date(2026, 12, 31), "2026Q4"),
    ],
)
def test_quarters(day: date, quarter: str) -> None:
    assert quarter_of(day) == quarter


def test_the_uplift_is_a_difference_of_shares_with_its_interval() -> None:
    # Newcombe 1998, table II, method 10: 56/70 against 48/80 is 0.2 (0.0524 to 0.3339).
    found = uplift(Arm(accounts=70, lost=56), Arm(accounts=80, lost=48))
    assert found is not None
    assert found.difference == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0524, abs=5e-5)
    assert found.high == pytest.approx(0.3339, abs=5e-5)


def test_of_fewer_than_thirty_in_an_arm_nothing_is_said() -> None:
    assert uplift(Arm(accounts=29, lost=3), Arm(accounts=500, lost=20)) is None
    assert uplift(Arm(accounts=30, lost=3), Arm(accounts=29, lost=2)) is None
    assert uplift(Arm(accounts=30, lost=3), Arm(accounts=30, lost=2)) is not None


@given(st.integers(30, 400), st.integers(30, 400), st.data())
def test_the_interval_holds_the_difference(held: int, treated: int, data: st.DataObject) -> None:
    one = Arm(accounts=held, lost=data.draw(st.integers(0, held)))
    other = Arm(accounts=treated, lost=data.draw(st.integers(0, treated)))
    found = uplift(one, other)
    assert found is not None
    assert -1 - 1e-9 <= found.low <= found.difference + 1e-9
    assert found.difference - 1e-9 <= found.high <= 1 + 1e-9
