"""What the model and the clock alone see: the risk of leaving, and silence."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.flags.states import Decision, FlagState, Why
from services.scoring.domain.table import STATES
from shared.messages import AccountFields, Band, FlagReason, Reason, Stage
from tests.unit.scoring.domain.flags.factories import Account
from tests.unit.scoring.factories import AS_OF, NOW, days_later

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


def at_risk(**changes: Any) -> Account:
    return Account(band=Band.AT_RISK, risk=0.2, reasons=(WHY_AT_RISK,)).but(**changes)


def silent(days: int = 28, **changes: Any) -> Account:
    columns = {
        "recency_days": days,
        "active_days_28": max(28 - days, 0),
        "state": STATES.index("lapsed" if days >= 90 else "scored"),
    }
    return Account(columns=columns, risk=None if days >= 90 else 0.02).but(**changes)


def only(previous: dict[FlagReason, FlagState], seen: Account) -> Decision:
    (decision,) = seen.decide(previous)
    return decision


def test_a_healthy_account_has_no_flag() -> None:
    assert Account().decide() == ()


def test_entering_at_risk_raises_with_evidence() -> None:
    decision = only({}, at_risk())
    assert (decision.reason, decision.stage) == (RISK, Stage.RENEW)
    assert (decision.change, decision.why) == ("raised", Why.ENTERED_BAND)
    assert decision.evidence == (WHY_AT_RISK,)
    assert decision.state == FlagState(episode=1, raised_at=NOW, band=Band.AT_RISK)


def test_watch_is_no_flag() -> None:
    assert Account(band=Band.WATCH, risk=0.1).decide() == ()


def test_a_raised_flag_stays_quiet_while_nothing_changes() -> None:
    assert at_risk(now=days_later(3), risk=0.25).decide({RISK: UP}) == ()


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
    cleared = only({RISK: UP}, Account(band=Band.WATCH, now=days_later(20)))
    assert (cleared.change, cleared.why, cleared.raised_at) == ("cleared", Why.LEFT_BAND, NOW)
    assert not cleared.state.is_raised
    again = only({RISK: cleared.state}, at_risk(now=days_later(30)))
    assert (again.change, again.state.episode) == ("raised", 2)


def test_a_lapsed_account_keeps_its_churn_risk_and_gets_no_new_one() -> None:
    lapsed = silent(200, band=Band.AT_RISK)
    quiet = {SILENT: replace(UP, band=None)}
    assert lapsed.decide({RISK: UP} | quiet) == ()
    assert lapsed.decide(quiet) == ()


@pytest.mark.parametrize(("days", "raised"), [(27, False), (28, True), (89, True)])
def test_twenty_eight_days_without_use_are_silence(days: int, raised: bool) -> None:  # noqa: FBT001
    assert bool(silent(days).decide()) is raised


def test_gone_silent_says_since_when_and_what_was_usual() -> None:
    decision = only({}, silent(28))
    assert (decision.reason, decision.stage) == (SILENT, Stage.ADOPT)
    assert (decision.change, decision.why) == ("raised", Why.SILENT)
    (evidence,) = decision.evidence
    assert evidence.text == "No use for 28 days; usually every 2 days."
    assert (evidence.value, evidence.baseline, evidence.change) == (28, 2, 13)  # (28 - 2) / 2


def test_whoever_hardly_ever_came_cannot_fall_silent() -> None:
    seen = silent(40)
    tried = seen.but(columns={"active_days_ever": 2})
    assert tried.decide() == ()
    came = seen.but(columns={"active_days_ever": 3})
    assert only({}, came).change == "raised"


def test_an_account_that_never_came_is_not_silent() -> None:
    never = {"recency_days": np.nan, "active_days_ever": 0, "state": STATES.index("too_new")}
    assert Account(columns=never, risk=None).decide() == ()


def test_an_active_day_clears_silence() -> None:
    decision = only({SILENT: UP}, Account(now=days_later(2)))
    assert (decision.reason, decision.change) == (SILENT, "cleared")
    assert decision.why is Why.ACTIVE_AGAIN


def test_a_late_event_that_leaves_the_account_silent_does_not_clear() -> None:
    assert silent(30).decide({SILENT: UP}) == ()


def test_silence_that_goes_on_rings_once() -> None:
    assert silent(89).decide({SILENT: UP}) == ()
    assert silent(400).decide({SILENT: UP}) == ()


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
    assert at_risk(fields=fields).decide() == ()
    assert silent(40, fields=fields).decide() == ()
    decisions = at_risk(fields=fields).decide({RISK: UP, SILENT: UP})
    assert [(d.reason, d.change, d.why) for d in decisions] == [
        (RISK, "cleared", Why.CHURNED),
        (SILENT, "cleared", Why.CHURNED),
    ]


def test_stale_data_raises_nothing_but_clearing_goes_on() -> None:
    held = only({}, at_risk(stale=True))
    assert (held.change, held.why, held.state) == (None, Why.DATA_STALE, FlagState())
    assert only({}, silent(40, stale=True)).why is Why.DATA_STALE
    assert only({SILENT: UP}, Account(stale=True)).change == "cleared"


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
            stale=stale,
        )
        for decision in seen.decide(states):
            states[decision.reason] = decision.state
            if decision.change in {"raised", "cleared"}:
                history[decision.reason].append((str(decision.change), decision.state.episode))
        # A second look at the same moment finds nothing more to say.
        assert all(decision.change is None for decision in seen.decide(states))
    for told in history.values():
        expected = [(c, e) for e in range(1, len(told) + 1) for c in ("raised", "cleared")]
        assert told == expected[: len(told)]


def test_churn_risk_waits_until_the_history_is_long_enough_to_tell() -> None:
    young = at_risk(risk=0.4, columns={"short_history": 1})
    decision = only({}, young)
    assert (decision.change, decision.why) == (None, Why.SHORT_HISTORY)
