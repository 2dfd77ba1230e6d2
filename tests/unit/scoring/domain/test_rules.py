"""The rules file: what is shipped is what is documented, and what is wrong is refused by name."""

import re
from contextlib import suppress
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.flags.states import REASONS
from services.scoring.domain.rules import RulesRejected, load, read_default
from shared.messages import Band

SHIPPED = resources.files("services.scoring").joinpath("rules.toml").read_text()


def test_the_shipped_numbers_are_the_documented_ones() -> None:
    rules = read_default()
    silent, drop, idle = rules.gone_silent, rules.usage_drop, rules.seats_idle
    assert rules.churn_risk.band is Band.AT_RISK
    assert (silent.silent_days, silent.active_days_ever_at_least) == (28, 3)
    assert (drop.trend_at_most, drop.z_at_most, drop.for_days) == (0.5, -2, 14)
    assert (drop.clear_trend_at_least, drop.clear_for_days) == (0.7, 14)
    assert (idle.seats_at_least, idle.tenure_days_at_least, idle.share_below) == (5, 90, 0.5)
    assert (idle.for_days, idle.clear_share_at_least, idle.clear_for_days) == (14, 0.6, 14)
    lost, stalled = rules.champion_lost, rules.onboarding_stalled
    assert (lost.users_at_least, lost.successor_days_at_least, lost.ends_after_days) == (3, 8, 90)
    assert (stalled.from_day, stalled.to_day, stalled.active_days_at_least) == (14, 60, 3)
    assert (stalled.milestone_by_day, stalled.ends_on_day) == (30, 90)
    failed, strain = rules.payment_failed, rules.support_strain
    assert (failed.failures_at_least, failed.ends_after_days) == (2, 30)
    assert (strain.tickets_at_least, strain.times_own_mean) == (3, 3)
    assert (strain.severe_open_days_over, strain.clear_for_days) == (7, 14)
    renewal, expansion = rules.renewal_due, rules.expansion_ready
    assert renewal.contract_days_at_least == 365 - 1  # 1 January to 31 December is a year.
    assert (renewal.days_before, renewal.updates_at_days) == (120, (90, 30))
    assert (expansion.share_at_least, expansion.for_days) == (0.9, 14)
    assert (expansion.clear_share_below, expansion.clear_for_days) == (0.8, 28)


def test_the_shipped_bands_and_guards_are_the_documented_ones() -> None:
    rules = read_default()
    bands = rules.bands
    thresholds = [(one.times_base, one.at_most) for one in (bands.watch, bands.at_risk)]
    assert thresholds == [(1.5, 0.15), (3.0, 0.30)]
    assert (bands.critical.times_base, bands.critical.at_most) == (5.0, 0.60)
    assert (bands.release_share, bands.release_after_days) == (2 / 3, 14)
    storm, stale = rules.storm_guard, rules.staleness
    assert (storm.share_over, storm.accounts_over, storm.window_minutes) == (0.10, 20, 60)
    assert (stale.log_lag_minutes, stale.window_hours, stale.below_share) == (15, 2, 0.25)
    assert (stale.expected_events, stale.baseline_weeks) == (50, 4)
    assert (stale.quiet_hours_after, stale.account_share) == (24, 0.5)


def test_every_flag_has_a_rule_that_is_on_and_explained() -> None:
    rules = read_default()
    for reason in REASONS:
        assert rules.of(reason).enabled
        comment = re.search(rf"((?:^#.*\n)+)\[{reason.value}\]", SHIPPED, re.MULTILINE)
        assert comment is not None, f"no comment above [{reason.value}]"


def test_a_file_states_only_what_differs() -> None:
    rules = load(b"[usage_drop]\ntrend_at_most = 0.4\n")
    assert rules.usage_drop.trend_at_most == 0.4
    assert rules.usage_drop.clear_trend_at_least == 0.7
    assert rules.seats_idle == read_default().seats_idle


def test_a_segment_differs_from_the_rest_of_the_same_file() -> None:
    rules = load(
        b"[usage_drop]\nfor_days = 7\n"
        b"[segments.enterprise.usage_drop]\ntrend_at_most = 0.6\n"
        b"[segments.enterprise.bands.watch]\nat_most = 0.1\n"
        b'[segments."small & medium".churn_risk]\nenabled = false\n'
    )
    enterprise, small = rules.for_segment("enterprise"), rules.for_segment("small & medium")
    assert (enterprise.usage_drop.trend_at_most, enterprise.usage_drop.for_days) == (0.6, 7)
    assert (enterprise.bands.watch.at_most, enterprise.bands.watch.times_base) == (0.1, 1.5)
    assert not small.churn_risk.enabled
    assert small.usage_drop.trend_at_most == 0.5
    assert rules.for_segment(None) is rules.for_segment("another") is rules


def test_the_digest_is_of_the_meaning() -> None:
    shipped = read_default().digest
    assert load(b"# nothing\n").digest == shipped
    assert load(SHIPPED.encode()).digest == shipped
    assert load(b"[usage_drop]\nfor_days = 14\n").digest == shipped
    assert load(b"[usage_drop]\nfor_days = 13\n").digest != shipped
    assert load(b"[segments.big.usage_drop]\nfor_days = 13\n").digest != shipped


@pytest.mark.parametrize(
    ("content", "path", "problem"),
    [
        (b"usage_dorp = 1", "usage_dorp", "unknown; known here: .*usage_drop"),
        (b"[usage_drop]\ntrend = 1", "usage_drop.trend", "unknown; known here: .*trend_at_most"),
        (b"[bands.watch]\nat = 1", "bands.watch.at", "unknown; known here: at_most, times_base"),
        (b"usage_drop = 1", "usage_drop", "a table"),
        (b"[usage_drop]\nfor_days = '14'", "usage_drop.for_days", "`int`, got `str`"),
        (b"[usage_drop]\nfor_days = 1.5", "usage_drop.for_days", "`int`, got `float`"),
        (b"[usage_drop]\nfor_days = true", "usage_drop.for_days", "`int`, got `bool`"),
        (b"[usage_drop]\nenabled = 0", "usage_drop.enabled", "`bool`, got `int`"),
        (b"[usage_drop]\nfor_days = -1", "usage_drop.for_days", ">= 0"),
        (b"[usage_drop]\ntrend_at_most = 0", "usage_drop.trend_at_most", "> 0"),
        (b"[usage_drop]\ntrend_at_most = nan", "usage_drop.trend_at_most", "> 0"),
        (b"[usage_drop]\ntrend_at_most = inf", "usage_drop.trend_at_most", "<= 1"),
        (b"[seats_idle]\nshare_below = 1.2", "seats_idle.share_below", "<= 1"),
        (b"[churn_risk]\nfrom_band = 'bad'", "churn_risk.from_band", "[Ii]nvalid enum"),
        (b"[churn_risk]\naccounts = ['old']", "churn_risk.accounts[0]", "[Ii]nvalid enum"),
        (b"[support_strain]\nclear_for_days = 0", "support_strain.clear_for_days", ">= 1"),
        (b"segments = 1", "segments", "tables"),
        (b"[segments]\nbig = 1", "segments.big", "tables"),
        (b"[segments.big]\nusage = {}", "segments.big.usage", "unknown; known here: bands"),
        (b"[segments.big.staleness]\nwindow_hours = 1", "segments.big.staleness", "unknown"),
        (b"[segments.big.usage_drop]\nfor_days = 'x'", "segments.big.usage_drop.for_days", "int"),
        (b"\xff", "", "UTF-8"),
        (b"[usage_drop", "", "TOML"),
    ],
)
def test_what_is_wrong_is_refused_with_its_path_and_what_is_allowed(
    content: bytes, path: str, problem: str
) -> None:
    with pytest.raises(RulesRejected, match=problem) as refused:
        load(content)
    assert refused.value.path == path


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (b"[usage_drop]\nclear_trend_at_least = 0.5", "usage_drop"),
        (b"[usage_drop]\nclear_trend_at_least = 0.54", "usage_drop"),
        (b"[seats_idle]\nclear_share_at_least = 0.4", "seats_idle"),
        (b"[expansion_ready]\nclear_share_below = 0.9", "expansion_ready"),
        # Sound alone, but not together with the segment's.
        (b"[segments.big.seats_idle]\nshare_below = 0.58", "segments.big.seats_idle"),
    ],
)
def test_a_rule_without_hysteresis_is_refused(content: bytes, path: str) -> None:
    with pytest.raises(RulesRejected, match=r"must be at least 0\.05 above") as refused:
        load(content)
    assert refused.value.path == path


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[bands.critical]\ntimes_base = 2.9", "must rise"),
        (b"[bands.watch]\nat_most = 0.3", "must rise"),
        (b"[onboarding_stalled]\nends_on_day = 60", "to_day < ends_on_day"),
        (b"[renewal_due]\nupdates_at_days = [30, 90]", "must fall"),
        (b"[renewal_due]\ndays_before = 90", "must fall"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(content: bytes, problem: str) -> None:
    with pytest.raises(RulesRejected, match=problem):
        load(content)


def test_a_hysteresis_of_exactly_the_least_is_accepted() -> None:
    assert load(b"[usage_drop]\nclear_trend_at_least = 0.55").usage_drop.for_days == 14


@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused_and_nothing_else(content: bytes) -> None:
    with suppress(RulesRejected):
        load(content)
