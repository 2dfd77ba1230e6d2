"""Flags: each raises, holds at the edge, clears, and begins its next episode."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.flags import (
    Decision,
    FlagState,
    Sight,
    Why,
    band_told,
    decide,
    risk_told,
    summary,
    value_at_risk,
)
from services.scoring.domain.indicators import State
from shared.messages import AccountFields, Band, FlagReason, Reason, Stage, ValueAtRisk
from tests.unit.scoring.factories import AS_OF, NOW, days_later, indicators, sight

RISK, SILENT = FlagReason.CHURN_RISK, FlagReason.GONE_SILENT
WHY_AT_RISK = Reason(
    family="regularity",
    indicator="active_days_90",
    text="Active on 9 of 90 days; a year ago 38, others 41: +0.8.",
    value=9,
    unit="days",
    baseline=38,
    baseline_of="own",
    change=-0.76,
    window_days=90,
    weight=0.8,
    as_of=AS_OF,
)
UP = FlagState(episode=1, raised_at=NOW, band=Band.AT_RISK)


def at_risk(**changes: object) -> Sight:
    return sight(**({"band": Band.AT_RISK, "risk": 0.2, "reasons": (WHY_AT_RISK,)} | changes))


def silent(days: int = 28, **changes: object) -> Sight:
    state = State.LAPSED if days >= 90 else State.SCORED
    seen = indicators(recency_days=days, state=state, mean_gap_days=2.0)
    return sight(indicators=seen, risk=None if days >= 90 else 0.02, **changes)


def only(previous: dict[FlagReason, FlagState], seen: Sight) -> Decision:
    (decision,) = decide(previous, seen)
    return decision


def test_a_healthy_account_has_no_flag() -> None:
    assert decide({}, sight()) == ()


def test_entering_at_risk_raises_with_evidence() -> None:
    decision = only({}, at_risk())
    assert (decision.reason, decision.stage) == (RISK, Stage.RENEW)
    assert (decision.change, decision.why) == ("raised", Why.ENTERED_BAND)
    assert decision.evidence == (WHY_AT_RISK,)
    assert decision.state == FlagState(episode=1, raised_at=NOW, band=Band.AT_RISK)


def test_watch_is_no_flag() -> None:
    assert decide({}, sight(band=Band.WATCH, risk=0.1)) == ()


def test_a_raised_flag_stays_quiet_while_nothing_changes() -> None:
    assert decide({RISK: UP}, at_risk(now=days_later(3), risk=0.25)) == ()


@pytest.mark.parametrize(
    ("told", "band"),
    [
        pytest.param(Band.AT_RISK, Band.CRITICAL, id="to critical"),
        pytest.param(Band.CRITICAL, Band.AT_RISK, id="and back"),
    ],
)
def test_another_band_updates_the_flag_in_the_same_episode(told: Band, band: Band) -> None:
    decision = only({RISK: replace(UP, band=told)}, at_risk(band=band, now=days_later(1)))
    assert (decision.change, decision.why) == ("updated", Why.BAND_CHANGED)
    assert decision.state == FlagState(episode=1, raised_at=NOW, band=band)
    assert decision.raised_at == NOW


def test_below_at_risk_clears_and_the_next_rise_is_the_next_episode() -> None:
    cleared = only({RISK: UP}, sight(band=Band.WATCH, now=days_later(20)))
    assert (cleared.change, cleared.why, cleared.raised_at) == ("cleared", Why.LEFT_BAND, NOW)
    assert not cleared.state.is_raised
    again = only({RISK: cleared.state}, at_risk(now=days_later(30)))
    assert (again.change, again.state.episode) == ("raised", 2)


def test_a_lapsed_account_keeps_its_churn_risk_and_gets_no_new_one() -> None:
    lapsed = silent(200, band=Band.AT_RISK)
    quiet = {SILENT: replace(UP, band=None)}
    assert decide({RISK: UP} | quiet, lapsed) == ()
    assert decide(quiet, lapsed) == ()


@pytest.mark.parametrize(("days", "raised"), [(27, False), (28, True), (89, True)])
def test_twenty_eight_days_without_use_are_silence(days: int, raised: bool) -> None:  # noqa: FBT001
    assert bool(decide({}, silent(days))) is raised


def test_gone_silent_says_since_when_and_what_was_usual() -> None:
    decision = only({}, silent(28))
    assert (decision.reason, decision.stage) == (SILENT, Stage.ADOPT)
    assert (decision.change, decision.why) == ("raised", Why.SILENT)
    (evidence,) = decision.evidence
    assert evidence.text == "No use for 28 days; usually every 2 days."
    assert (evidence.value, evidence.baseline, evidence.change) == (28, 2, 13)  # (28 - 2) / 2


def test_whoever_hardly_ever_came_cannot_fall_silent() -> None:
    seen = silent(40)
    tried = replace(seen, indicators=replace(seen.indicators, active_days_ever=2))
    assert decide({}, tried) == ()
    came = replace(seen, indicators=replace(seen.indicators, active_days_ever=3))
    assert only({}, came).change == "raised"


def test_an_account_that_never_came_is_not_silent() -> None:
    never = indicators(recency_days=None, active_days_ever=0, state=State.TOO_NEW)
    assert decide({}, sight(indicators=never, risk=None)) == ()


def test_an_active_day_clears_silence() -> None:
    decision = only({SILENT: UP}, sight(now=days_later(2)))
    assert (decision.reason, decision.change) == (SILENT, "cleared")
    assert decision.why is Why.ACTIVE_AGAIN


def test_a_late_event_that_leaves_the_account_silent_does_not_clear() -> None:
    assert decide({SILENT: UP}, silent(30)) == ()


def test_silence_that_goes_on_rings_once() -> None:
    assert decide({SILENT: UP}, silent(89)) == ()
    assert decide({SILENT: UP}, silent(400)) == ()


def test_customers_lost_years_ago_do_not_ring_when_history_is_loaded() -> None:
    decision = only({}, silent(90, fields=AccountFields()))
    assert (decision.change, decision.why) == (None, Why.LOST_BEFORE_SEEN)
    assert decision.state == FlagState()


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(AccountFields(status="active"), id="active"),
        pytest.param(AccountFields(status="trial"), id="trial"),
        pytest.param(AccountFields(contract_end=AS_OF + timedelta(days=1)), id="contract runs"),
    ],
)
def test_a_customer_under_contract_rings_even_after_a_long_silence(fields: AccountFields) -> None:
    assert only({}, silent(400, fields=fields)).change == "raised"


def test_a_contract_that_has_ended_is_no_contract() -> None:
    ended = AccountFields(contract_end=AS_OF)
    assert only({}, silent(400, fields=ended)).why is Why.LOST_BEFORE_SEEN


def test_a_churned_account_raises_nothing_and_clears_what_is_raised() -> None:
    fields = AccountFields(status="churned", churned_at=AS_OF)
    assert decide({}, at_risk(fields=fields)) == ()
    assert decide({}, silent(40, fields=fields)) == ()
    decisions = decide({RISK: UP, SILENT: UP}, at_risk(fields=fields))
    assert [(d.reason, d.change, d.why) for d in decisions] == [
        (RISK, "cleared", Why.CHURNED),
        (SILENT, "cleared", Why.CHURNED),
    ]


def test_stale_data_raises_nothing_but_clearing_goes_on() -> None:
    held = only({}, at_risk(data_stale=True))
    assert (held.change, held.why, held.state) == (None, Why.DATA_STALE, FlagState())
    assert only({}, silent(40, data_stale=True)).why is Why.DATA_STALE
    assert only({SILENT: UP}, sight(data_stale=True)).change == "cleared"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Band)),
            st.integers(0, 200),
            st.sampled_from(["active", "churned"]),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_each_episode_is_raised_once_and_cleared_at_most_once(
    looks: list[tuple[Band, int, str, bool]],
) -> None:
    states: dict[FlagReason, FlagState] = {}
    history: dict[FlagReason, list[tuple[str, int]]] = {RISK: [], SILENT: []}
    for number, (band, days, status, stale) in enumerate(looks):
        seen = silent(
            days,
            band=band,
            fields=AccountFields(status="churned" if status == "churned" else "active"),
            now=days_later(number),
            data_stale=stale,
        )
        for decision in decide(states, seen):
            states[decision.reason] = decision.state
            if decision.change in {"raised", "cleared"}:
                history[decision.reason].append((str(decision.change), decision.state.episode))
        # A second look at the same moment finds nothing more to say.
        assert all(decision.change is None for decision in decide(states, seen))
    for told in history.values():
        expected = [(c, e) for e in range(1, len(told) + 1) for c in ("raised", "cleared")]
        assert told == expected[: len(told)]


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        pytest.param(AccountFields(), None, id="neither is known"),
        pytest.param(
            AccountFields(mrr=Decimal("99.90"), currency="EUR"),
            # 0.25 x 12 x 99.90
            ValueAtRisk(amount=Decimal("299.70"), currency="EUR", basis="mrr"),
            id="price",
        ),
        pytest.param(
            AccountFields(mrr=Decimal(100), margin_per_month=Decimal(2), currency="EUR"),
            # 0.25 x 12 x 2
            ValueAtRisk(amount=Decimal("6.00"), currency="EUR", basis="margin"),
            id="margin goes before price",
        ),
        pytest.param(
            AccountFields(margin_per_month=Decimal(0)),
            ValueAtRisk(amount=Decimal("0.00"), currency="XXX", basis="margin"),
            id="a margin of nothing is known",
        ),
    ],
)
def test_the_value_at_risk_is_twelve_months_of(
    fields: AccountFields, value: ValueAtRisk | None
) -> None:
    assert value_at_risk(0.25, fields) == value


def test_money_is_rounded_to_cents_half_up() -> None:
    # 0.1 x 12 x 0.0375 = 0.045
    found = value_at_risk(0.1, AccountFields(mrr=Decimal("0.0375")))
    assert found is not None
    assert found.amount == Decimal("0.05")


def test_a_silent_account_without_a_risk_counts_its_last_one_or_the_threshold() -> None:
    assert risk_told(RISK, 0.2, 0.4, 0.08) == 0.2
    assert risk_told(RISK, None, 0.4, 0.08) == 0.4
    assert risk_told(RISK, None, 0.0, 0.08) == 0.0
    assert risk_told(RISK, None, None, 0.08) == 0.08


def test_silence_counts_at_least_as_at_risk_though_the_model_is_slow_to_see_it() -> None:
    assert risk_told(SILENT, 0.001, None, 0.08) == 0.08
    assert risk_told(SILENT, 0.2, None, 0.08) == 0.2
    assert band_told(SILENT, Band.HEALTHY) is Band.AT_RISK
    assert band_told(SILENT, Band.CRITICAL) is Band.CRITICAL
    assert band_told(RISK, Band.HEALTHY) is Band.HEALTHY


def test_churn_risk_waits_until_the_history_is_long_enough_to_tell() -> None:
    young = at_risk(risk=0.4, indicators=indicators(short_history=True))
    decision = only({}, young)
    assert (decision.change, decision.why) == (None, Why.SHORT_HISTORY)


def test_a_summary_tells_risk_reason_money_and_renewal_in_one_line() -> None:
    seen = at_risk(risk=0.34)
    value = ValueAtRisk(amount=Decimal("12480.00"), currency="EUR", basis="mrr")
    assert summary(only({}, seen), seen, value=value, renewal=date(2026, 4, 14)) == (
        "Churn risk 34 % (at risk). "
        "Active on 9 of 90 days; a year ago 38, others 41: +0.8. "
        "EUR 12,480 at risk. Renews in 44 days (2026-04-14)."
    )


def test_a_summary_of_silence_says_for_how_long() -> None:
    seen = silent(31)
    line = summary(only({}, seen), seen, renewal=date(2026, 2, 1))
    assert line == "No use for 31 days; usually every 2 days. Renewal overdue since 2026-02-01."


@pytest.mark.parametrize(
    ("reason", "seen", "line"),
    [
        (RISK, sight(risk=0.052, band=Band.WATCH), "Churn risk is over: 5.2 % (watch)."),
        (SILENT, sight(), "Active again."),
        (
            RISK,
            sight(fields=AccountFields(status="churned")),
            "Churn risk ends: the account has churned.",
        ),
        (
            SILENT,
            sight(fields=AccountFields(status="churned")),
            "Silence ends: the account has churned.",
        ),
    ],
)
def test_a_summary_of_the_end_is_short(reason: FlagReason, seen: Sight, line: str) -> None:
    assert summary(only({reason: UP}, seen), seen) == line
