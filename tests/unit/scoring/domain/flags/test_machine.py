"""The state machine: waiting, holding back, ending, remembering; for all flags alike."""

from datetime import UTC, datetime, timedelta
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.flags.conditions import candidates
from services.scoring.domain.flags.machine import decide
from services.scoring.domain.flags.states import (
    REASONS,
    USAGE_FLAGS,
    Decision,
    FlagState,
    Why,
)
from services.scoring.domain.risk import BANDS, healthy, limits, next_bands
from services.scoring.domain.rules import load, read_default
from services.scoring.domain.table import COLUMNS, STATES
from shared.messages import AccountFields, Band, FlagReason
from tests.unit.scoring.domain.flags.factories import HEALTHY, Account, of_seats, together
from tests.unit.scoring.domain.flags.test_catalogue import (
    DROP,
    GONE,
    IDLE,
    LIVES,
    account,
    contract,
    look,
    seats,
)
from tests.unit.scoring.factories import AS_OF, NOW, days_later

States = dict[FlagReason, FlagState]

SILENT = account(recency_days=28, active_days_28=0)
FULL = account(seats(10), **of_seats(10, 10))


def up(reason: FlagReason, *, over_since: datetime | None = None) -> States:
    return {reason: FlagState(episode=1, raised_at=NOW, over_since=over_since)}


def only(one: Account, states: States | None = None) -> Decision:
    (decision,) = one.decide(states)
    return decision


class TestWaiting:
    def test_the_days_count_from_the_first_look_at_which_the_condition_held(self) -> None:
        states: States = {}
        assert look(states, DROP, 0) == []
        assert states[FlagReason.USAGE_DROP] == FlagState(wanted_since=NOW)
        assert look(states, DROP, 13) == []
        assert look(states, DROP, 14) == [("usage_drop", "raised")]
        assert states[FlagReason.USAGE_DROP] == FlagState(
            episode=1, raised_at=days_later(14), band=Band.HEALTHY
        )

    def test_a_look_some_seconds_earlier_in_the_day_does_not_cost_a_day(self) -> None:
        states: States = {}
        first, last = datetime(2026, 3, 1, 0, 0, 30, tzinfo=UTC), datetime(2026, 3, 15, tzinfo=UTC)
        states.update({one.reason: one.state for one in DROP.but(now=first).decide(states)})
        assert DROP.but(now=last).changes(states) == [("usage_drop", "raised")]

    def test_one_day_without_the_condition_begins_the_count_anew(self) -> None:
        states: States = {}
        look(states, DROP, 0)
        look(states, account(trend=0.55, trend_z=-3), 10)
        assert states[FlagReason.USAGE_DROP] == FlagState()
        assert [look(states, DROP, day) for day in (11, 14, 24)] == [[], [], []]
        assert look(states, DROP, 25) == [("usage_drop", "raised")]

    def test_one_day_of_relapse_begins_the_count_to_the_end_anew(self) -> None:
        states = up(FlagReason.USAGE_DROP)
        recovered, not_quite = account(trend=0.7), account(trend=0.69)
        assert look(states, recovered, 1) == []
        assert states[FlagReason.USAGE_DROP].over_since == days_later(1)
        assert look(states, not_quite, 10) == []
        assert states[FlagReason.USAGE_DROP].over_since is None
        assert [look(states, recovered, day) for day in (11, 15, 24)] == [[], [], []]
        assert look(states, recovered, 25) == [("usage_drop", "cleared")]

    def test_a_second_look_at_the_same_moment_writes_nothing_new(self) -> None:
        for reason, life in LIVES.items():
            states: States = {}
            look(states, life.raises, 0)
            before = dict(states)
            assert look(states, life.raises, 0) == []
            assert states == before, reason


class TestHysteresis:
    """A noise of 0.02 around any threshold makes one flag, not many."""

    NOISE = st.lists(st.floats(-0.02, 0.02), min_size=60, max_size=60)

    @given(NOISE, st.sampled_from([0.5, 0.55, 0.6, 0.65, 0.7]))
    def test_of_a_drop_in_use(self, noise: list[float], around: float) -> None:
        path = [0.4] * 15 + [around + step for step in noise]
        assert _told([account(trend=trend, trend_z=-3) for trend in path]).count("raised") == 1

    @given(NOISE, st.sampled_from([0.5, 0.55, 0.6]))
    def test_of_idle_seats(self, noise: list[float], around: float) -> None:
        path = [0.4] * 15 + [around + step for step in noise]
        told = _told([IDLE.but(columns={"share_of_active_users": share}) for share in path])
        assert told.count("raised") == 1

    @given(NOISE, st.sampled_from([0.8, 0.85, 0.9]))
    def test_of_an_account_ready_to_expand(self, noise: list[float], around: float) -> None:
        path = [0.95] * 15 + [around + step for step in noise]
        told = _told([FULL.but(columns={"share_of_active_users": share}) for share in path])
        assert told.count("raised") == 1

    @given(NOISE, st.sampled_from([0.2, 0.25, 0.3]))
    def test_of_the_risk(self, noise: list[float], around: float) -> None:
        bands, looks = healthy(1, NOW), []
        # 3 x 0.1
        bounds = limits(read_default(), [None], np.array([0.1]))
        for day, risk in enumerate([0.4] + [around + step for step in noise]):
            bands = next_bands(bands, np.array([risk]), bounds, days_later(day))
            looks.append(Account(band=BANDS[int(bands.code[0])], risk=risk))
        assert _told(looks).count("raised") == 1

    @given(NOISE)
    def test_noise_that_never_stays_below_raises_nothing_before_its_days(
        self, noise: list[float]
    ) -> None:
        path = [0.5 + step for step in noise]
        path[::13] = [0.51] * len(path[::13])
        assert _told([account(trend=trend, trend_z=-3) for trend in path]) == []


def _told(looks: list[Account]) -> list[str]:
    """The changes that daily looks tell."""
    states, judged, told = dict[FlagReason, FlagState](), together(looks), list[str]()
    for day, one in enumerate(looks):
        sight = one.but(now=days_later(day)).sight_in(judged, day)
        for decision in decide(states, judged, day, sight, one.rules):
            states[decision.reason] = decision.state
            told += [decision.change] if decision.change else []
    return told


class TestHeldBack:
    @pytest.mark.parametrize("reason", sorted(USAGE_FLAGS))
    def test_stale_data_raises_no_usage_flag_but_clears(self, reason: FlagReason) -> None:
        life = LIVES[reason]
        waited: States = {reason: FlagState(wanted_since=days_later(-30))}
        held = {one.reason: one for one in life.raises.but(stale=True).decide(waited)}[reason]
        assert (held.change, held.why) == (None, Why.DATA_STALE)
        assert held.state == waited[reason]
        raised = up(reason, over_since=days_later(-30))
        assert (reason.value, "cleared") in life.clears.but(stale=True).changes(raised)

    @pytest.mark.parametrize("reason", sorted(set(REASONS) - USAGE_FLAGS))
    def test_stale_data_holds_no_operational_signal(self, reason: FlagReason) -> None:
        waited: States = {reason: FlagState(wanted_since=days_later(-30))}
        assert LIVES[reason].raises.but(stale=True).changes(waited) == [(reason.value, "raised")]

    def test_days_of_an_outage_do_not_begin_a_count(self) -> None:
        states: States = {}
        look(states, DROP.but(stale=True), 0)
        assert states.get(FlagReason.USAGE_DROP, FlagState()) == FlagState()
        look(states, DROP, 4)
        assert [look(states, DROP, day) for day in (14, 17)] == [[], []]
        assert look(states, DROP, 18) == [("usage_drop", "raised")]

    def test_a_count_that_had_begun_goes_on_over_an_outage(self) -> None:
        states: States = {}
        look(states, DROP, 0)
        assert look(states, DROP.but(stale=True), 14) == []
        assert look(states, DROP, 15) == [("usage_drop", "raised")]

    def test_how_many_are_held_and_why_can_be_counted(self) -> None:
        judged = SILENT.but(stale=True).judged
        assert judged.held_count(FlagReason.GONE_SILENT) == {Why.DATA_STALE: 1}
        assert judged.held_count(FlagReason.CHURN_RISK) == {}
        assert account().judged.held_count(FlagReason.GONE_SILENT) == {}

    def test_a_rule_that_is_switched_off_raises_nothing_and_clears(self) -> None:
        for reason, life in LIVES.items():
            off = life.raises.but(rules=load(f"[{reason}]\nenabled = false\n".encode()))
            waited: States = {reason: FlagState(wanted_since=days_later(-30))}
            decision = only(off, waited)
            assert (decision.change, decision.why) == (None, Why.RULE_DISABLED)
            ended = only(off, up(reason))
            assert (ended.change, ended.why) == ("cleared", Why.RULE_DISABLED)


class TestSilenceReplaces:
    EMPTY = SILENT.but(
        fields=seats(10),
        columns={
            **of_seats(0, 10),
            "trend": 0,
            "trend_z": -9,
            "champion_gone": 1,
            "most_user_days_28": 0,
        },
    )
    REPLACED = (FlagReason.USAGE_DROP, FlagReason.SEATS_IDLE, FlagReason.CHAMPION_LOST)

    def test_with_nobody_there_one_flag_says_it(self) -> None:
        waited: States = {one: FlagState(wanted_since=days_later(-30)) for one in self.REPLACED}
        decisions = {one.reason: one for one in self.EMPTY.decide(waited)}
        assert decisions.pop(FlagReason.GONE_SILENT).change == "raised"
        for reason in self.REPLACED:
            assert (decisions[reason].change, decisions[reason].why) == (
                None,
                Why.REPLACED_BY_SILENCE,
            )

    def test_what_was_raised_before_gives_way(self) -> None:
        raised = {reason: up(reason)[reason] for reason in self.REPLACED}
        decisions = self.EMPTY.decide(raised)
        assert [(one.reason, one.change, one.why) for one in decisions] == [
            (FlagReason.GONE_SILENT, "raised", Why.SILENT),
            *((reason, "cleared", Why.REPLACED_BY_SILENCE) for reason in self.REPLACED),
        ]

    def test_silence_that_is_not_raised_replaces_nothing_that_is(self) -> None:
        raised = {reason: up(reason)[reason] for reason in self.REPLACED}
        assert self.EMPTY.but(stale=True).changes(raised) == []
        off = self.EMPTY.but(rules=load(b"[gone_silent]\nenabled = false\n"))
        assert off.changes(raised) == []

    def test_their_days_begin_anew_when_somebody_comes(self) -> None:
        states: States = {}
        look(states, DROP, 0)
        look(states, self.EMPTY, 1)
        assert states[FlagReason.USAGE_DROP].wanted_since is None
        came = DROP.but(columns={"recency_days": 0, "active_days_28": 1})
        assert look(states, came, 20) == [("gone_silent", "cleared")]
        assert [look(states, came, day) for day in (21, 33)] == [[], []]
        assert look(states, came, 34) == [("usage_drop", "raised")]


class TestEnds:
    def test_every_flag_ends_when_the_account_has_churned(self) -> None:
        churned = AccountFields(status="churned", churned_at=AS_OF)
        for reason, life in LIVES.items():
            gone = life.raises.but(fields=churned)
            decision = only(gone, up(reason))
            assert (decision.change, decision.why) == ("cleared", Why.CHURNED)
            assert gone.decide({}) == ()
            waited: States = {reason: FlagState(wanted_since=NOW)}
            assert only(gone, waited).state == FlagState()

    def test_a_lost_champion_is_told_for_ninety_days_and_not_again(self) -> None:
        states: States = {}
        assert look(states, GONE, 0) == [("champion_lost", "raised")]
        assert look(states, GONE, 89) == []
        (ended,) = GONE.but(now=days_later(90)).decide(states)
        assert (ended.change, ended.why) == ("cleared", Why.TIME_OVER)
        assert look(states, GONE, 90) == [("champion_lost", "cleared")]
        assert [look(states, GONE, day) for day in (91, 120)] == [[], []]
        look(states, account(champion_gone=0), 121)
        assert look(states, GONE, 200) == [("champion_lost", "raised")]
        assert states[FlagReason.CHAMPION_LOST].episode == 2

    def test_a_successor_ends_the_loss_of_a_champion(self) -> None:
        decision = only(GONE.but(columns={"most_user_days_28": 8}), up(FlagReason.CHAMPION_LOST))
        assert (decision.change, decision.why) == ("cleared", Why.SUCCESSOR_FOUND)


class TestCancellation:
    END = AS_OF + timedelta(days=60)

    def asked(self, age: float, *, end: int = 60, now: float = 0) -> Account:
        """With a contract that ends so many days after day A; `now` in days after `NOW`."""
        fields = AccountFields(contract_end=AS_OF + timedelta(days=end))
        return account(fields, cancellation_age_days=age).but(now=days_later(now))

    def states(self) -> States:
        states: States = {}
        assert look(states, self.asked(0), 0) == [("cancellation_intent", "raised")]
        return states

    def test_a_contract_that_is_prolonged_answers_the_request(self) -> None:
        states = self.states()
        (ended,) = self.asked(10, end=425, now=10).decide(states)
        assert (ended.change, ended.why) == ("cleared", Why.CONTRACT_END_MOVED)
        states.update({ended.reason: ended.state})
        for hours in (0, 13, 20, 24, 300):
            day = 10 + hours / 24
            # The same request: its age is in whole days.
            told = self.asked(day // 1, end=425, now=day).decide(states)
            assert [(one.change, one.why) for one in told] == [(None, Why.ALREADY_TOLD)]

    def test_the_next_request_is_the_next_episode(self) -> None:
        states = self.states()
        look(states, self.asked(10, end=425), 10)
        again = self.asked(0, end=425, now=100)
        assert again.changes(states) == [("cancellation_intent", "raised")]
        assert only(again, states).state.episode == 2

    def test_a_request_repeated_after_the_contract_was_prolonged_keeps_the_flag_up(self) -> None:
        states = self.states()
        # Both since the last look: nobody knows which came first.
        assert look(states, self.asked(0, end=425), 10) == []
        assert look(states, self.asked(2, end=425), 12) == []
        assert look(states, self.asked(3, end=790), 13) == [("cancellation_intent", "cleared")]

    def test_who_writes_the_day_of_leaving_into_the_contract_has_kept_nobody(self) -> None:
        assert look(self.states(), self.asked(3, end=30), 3) == []

    def test_a_request_withdrawn_and_repeated_is_told_again(self) -> None:
        states = self.states()
        assert look(states, account(), 1) == [("cancellation_intent", "cleared")]
        assert look(states, self.asked(0), 1) == [("cancellation_intent", "raised")]


class TestRenewal:
    def test_it_is_told_at_120_90_and_30_days(self) -> None:
        due = "renewal_due"
        assert self.told_of(contract(125), days=160) == {
            120: (due, "raised"),
            90: (due, "updated"),
            30: (due, "updated"),
            -30: (due, "cleared"),
        }

    def test_a_contract_first_seen_late_is_told_once_until_the_next_step(self) -> None:
        due = "renewal_due"
        assert self.told_of(contract(60), days=40) == {60: (due, "raised"), 30: (due, "updated")}

    def told_of(self, one: Account, *, days: int) -> dict[int, tuple[str, str]]:
        """What daily looks tell, by the days that are left."""
        states, told = dict[FlagReason, FlagState](), {}
        for day in range(days):
            seen = one.but(as_of=AS_OF + timedelta(days=day))
            for change in look(states, seen, day):
                told[int(seen.judged.seen.days_to_end[0])] = change
        return told

    def test_an_end_that_moves_but_stays_near_is_told(self) -> None:
        states = _states_of(contract(60))
        decision = only(contract(80), states)
        assert (decision.change, decision.why) == ("updated", Why.CONTRACT_END_MOVED)
        assert decision.state.anchor["contract_end"] == AS_OF.toordinal() + 80

    def test_an_end_that_moves_away_or_is_taken_back_ends_it(self) -> None:
        states = _states_of(contract(60))
        for moved in (contract(425), account(AccountFields(), contract_days=np.nan)):
            decision = only(moved, states)
            assert (decision.change, decision.why) == ("cleared", Why.CONTRACT_END_MOVED)

    def test_a_contract_that_nobody_renewed_is_lost_after_thirty_days(self) -> None:
        states = _states_of(contract(60))
        decision = only(contract(-30), states)
        assert (decision.change, decision.why) == ("cleared", Why.NOT_RENEWED)


class TestExpansion:
    def test_a_flag_of_risk_is_in_the_way(self) -> None:
        waited: States = {FlagReason.EXPANSION_READY: FlagState(wanted_since=days_later(-14))}
        unpaid = FULL.but(columns={"payments_failed_14": 2, "payment_failed_age_days": 0})
        decisions = {one.reason: one for one in unpaid.decide(waited)}
        assert decisions[FlagReason.PAYMENT_FAILED].change == "raised"
        held = decisions[FlagReason.EXPANSION_READY]
        assert (held.change, held.why) == (None, Why.RISK_FLAG_UP)
        assert held.state == FlagState()

    def test_a_flag_of_risk_ends_it_at_once(self) -> None:
        raised = up(FlagReason.EXPANSION_READY) | up(FlagReason.UNHAPPY_FEEDBACK)
        decisions = FULL.but(columns={"unhappy_users": 1}).decide(raised)
        assert [(one.change, one.why) for one in decisions] == [("cleared", Why.RISK_FLAG_RAISED)]

    def test_a_renewal_is_no_risk_but_the_moment(self) -> None:
        raised = up(FlagReason.EXPANSION_READY) | up(FlagReason.RENEWAL_DUE)
        due = contract(100).fields
        fields = AccountFields(seats=10, contract_end=due.contract_end)
        one = FULL.but(fields=fields, columns={"contract_days": 364})
        assert [change for change in one.changes(raised) if change[1] == "cleared"] == []

    def test_more_seats_end_it_at_once(self) -> None:
        states: States = {FlagReason.EXPANSION_READY: FlagState(wanted_since=days_later(-14))}
        assert look(states, FULL, 0) == [("expansion_ready", "raised")]
        more = account(seats(11), **of_seats(10, 11))
        decision = only(more.but(now=days_later(1)), states)
        assert (decision.change, decision.why) == ("cleared", Why.SEATS_ADDED)
        fewer = account(seats(9), **of_seats(10, 9))
        assert look(states, fewer, 1) == []


def _states_of(one: Account) -> States:
    return {decision.reason: decision.state for decision in one.decide()}


NUMBERS: dict[str, list[float]] = {
    "state": [0, 1, 1, 1, 2],
    "recency_days": [0, 10, 28, 100, np.nan],
    "active_days_28": [0, 1, 20],
    "tenure_days": [14, 30, 60, 90, 400, np.nan],
    "active_days_first_14": [0, 5],
    "active_days_14": [0, 5],
    "milestones": [0, 1],
    "trend": [0, 0.5, 0.6, 0.7, np.nan],
    "trend_z": [-3, 0],
    "share_of_active_users": [0.1, 0.55, 0.85, 1.0, np.nan],
    "share_basis": [0, 1],
    "champion_gone": [0, 1, np.nan],
    "most_user_days_28": [0, 8, np.nan],
    "contract_days": [30, 365, np.nan],
    "cancellation_age_days": [0, 3, np.nan],
    "payments_failed_14": [0, 2, np.nan],
    "payment_failed_age_days": [0, 30, np.nan],
    "payment_succeeded_since": [0, 1],
    "tickets_28": [0, 9, np.nan],
    "unhappy_users": [0, 1, np.nan],
}


def anybody(seed: int, accounts: int) -> list[Account]:
    """Accounts of any kind, drawn at random."""
    random = Random(seed)
    return [
        Account(
            columns={name: random.choice(numbers) for name, numbers in NUMBERS.items()},
            fields=AccountFields(
                seats=random.choice([None, 0, 5, 50]),
                status=random.choice([None, "active", "active", "active", "churned"]),
                contract_end=random.choice(
                    [None, *(AS_OF + timedelta(days=days) for days in (-40, 0, 80, 500))]
                ),
                billing_period=random.choice([None, "month", "year"]),
            ),
            band=random.choice(list(Band)),
            risk=random.choice([None, 0.01, 0.5]),
            stale=random.random() < 0.3,
            milestones_used=True,
        )
        for _ in range(accounts)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_each_episode_is_raised_once_and_cleared_at_most_once(seed: int) -> None:
    states: States = {}
    told: dict[FlagReason, list[tuple[str, int]]] = {reason: [] for reason in REASONS}
    looks = anybody(seed, 60)
    judged, random, day = together(looks), Random(seed), 0
    for index, one in enumerate(looks):
        day += random.choice([0, 1, 1, 14, 30, 100])
        sight = one.but(now=days_later(day)).sight_in(judged, index)
        for decision in decide(states, judged, index, sight, one.rules):
            before = states.get(decision.reason, FlagState())
            states[decision.reason] = decision.state
            assert decision.state.is_raised is (
                before.is_raised if decision.change is None else decision.change != "cleared"
            )
            if decision.change in {"raised", "cleared"}:
                told[decision.reason].append((decision.change or "", decision.state.episode))
            if decision.change == "raised":
                assert one.fields.status != "churned"
                assert decision.evidence or decision.reason is FlagReason.CHURN_RISK
        # A second look at the same moment finds nothing more to say.
        for decision in decide(states, judged, index, sight, one.rules):
            assert decision.change is None, decision
    for changes in told.values():
        expected = [(c, e) for e in range(1, len(changes) + 1) for c in ("raised", "cleared")]
        assert changes == expected[: len(changes)]


@pytest.mark.parametrize("seed", range(20))
def test_whom_nobody_looks_at_would_not_have_changed(seed: int) -> None:
    accounts, random = anybody(seed, 60), Random(seed)
    found = together(accounts)
    possible = [FlagState(episode=3), FlagState(wanted_since=NOW), FlagState(anchor={"told": 1.0})]
    remembered: list[States] = [{FlagReason.USAGE_DROP: random.choice(possible)} for _ in accounts]
    has_state = np.array(
        [any(not state.is_idle for state in states.values()) for states in remembered]
    )
    chosen = set(candidates(found, has_state).tolist())
    assert 0 < len(chosen) < len(accounts)
    for index, (one, states) in enumerate(zip(accounts, remembered, strict=True)):
        for decision in decide(states, found, index, one.sight_in(found, index), one.rules):
            if index not in chosen:
                assert decision.change is None
                assert decision.state == states.get(decision.reason, FlagState())


def test_a_sight_is_of_the_account_that_was_judged() -> None:
    one = Account(band=Band.CRITICAL, risk=0.7)
    assert (one.sight.band, one.sight.risk) == (Band.CRITICAL, 0.7)
    assert Account(risk=None).sight.risk is None


def test_the_factory_names_columns_that_exist() -> None:
    assert set(HEALTHY) <= set(COLUMNS)
    assert STATES == ("too_new", "scored", "lapsed")
