"""Each flag: raises, holds at the edge, says nothing of what is not known, clears, begins again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import pytest

from services.scoring.domain.flags.catalogue import condition
from services.scoring.domain.flags.clauses import Seen
from services.scoring.domain.flags.conditions import conditions
from services.scoring.domain.flags.facts import Facts
from services.scoring.domain.flags.states import REASONS, FlagState, Why
from services.scoring.domain.goals import standing
from services.scoring.domain.rules import load, read_default
from services.scoring.domain.table import BASES, COLUMNS, STATES, IndicatorTable
from services.scoring.domain.usage import History, Signal, microseconds, usage_of
from shared.messages import AccountFields, Band, FlagReason, Goal
from tests.unit.scoring.domain.flags.factories import Account, of_seats
from tests.unit.scoring.domain.goals_by_hand import stand
from tests.unit.scoring.domain.test_goals import reported
from tests.unit.scoring.factories import AS_OF, NOW, days_later

NAN: Final = np.nan
TOO_NEW, LAPSED = STATES.index("too_new"), STATES.index("lapsed")


def seats(number: int | None) -> AccountFields:
    return AccountFields(seats=number)


def contract(days_left: int, *, length: int = 364, **changes: Any) -> Account:
    """As the directory and `measure` know a contract that ends so many days after day A."""
    end = AS_OF + timedelta(days=days_left)
    fields = AccountFields(contract_start=end - timedelta(days=length), contract_end=end)
    return Account(columns={"contract_days": length}, fields=fields).but(**changes)


def account(fields: AccountFields | None = None, **columns: float) -> Account:
    return Account(columns=columns) if fields is None else Account(columns=columns, fields=fields)


NEW: Final = {"state": TOO_NEW, "tenure_days": 14, "short_history": 1, "active_days_ever": 2}


@dataclass(frozen=True, kw_only=True)
class Life:
    """What a flag's life is driven by.

    `raises` meets the condition by the least that does; `edges` miss it by the least; `unknown` are
    `raises` without something; `holds` neither raises nor clears; `clears` by the least that does.
    """

    raises: Account
    edges: Mapping[str, Account]
    unknown: Mapping[str, Account]
    clears: Account
    holds: Account | None = None
    why: tuple[Why, Why]
    days: tuple[int, int] = (0, 0)
    again: Account | None = None
    """What raises the next episode, where `raises` would be the same fact."""


def promised(
    values: Sequence[tuple[int, float]], *, days: int, due: int | None, target: float = 80
) -> Account:
    """A goal from 100 down to its target, so many days after it began; values by the day."""
    start = AS_OF - timedelta(days=days)
    one = Goal(
        metric="time_to_invoice",
        baseline=100,
        target=target,
        direction="down",
        due=None if due is None else start + timedelta(days=due),
    )
    return Account(
        fields=AccountFields(goals=(one,)),
        goal_values=tuple(reported(start + timedelta(days=day), value) for day, value in values),
    )


DROP = account(trend=0.5, trend_z=-2)
IDLE = account(seats(100), **of_seats(49, 100), tenure_days=90)
GONE = account(champion_gone=1, active_users_180=3, most_user_days_28=7)
SLOW = Account(columns=NEW | {"active_days_first_14": 2, "active_days_14": 2}, risk=None)
LIVES: Final[Mapping[FlagReason, Life]] = {
    FlagReason.CHURN_RISK: Life(
        raises=Account(band=Band.AT_RISK, risk=0.2),
        edges={"watch": Account(band=Band.WATCH, risk=0.1)},
        unknown={"risk": Account(band=Band.AT_RISK, risk=None)},
        clears=Account(band=Band.WATCH),
        why=(Why.ENTERED_BAND, Why.LEFT_BAND),
    ),
    FlagReason.GONE_SILENT: Life(
        raises=account(recency_days=28, active_days_28=0, active_days_ever=3),
        edges={
            "a day less": account(recency_days=27, active_days_28=1, active_days_ever=3),
            "a visitor": account(recency_days=28, active_days_28=0, active_days_ever=2),
        },
        unknown={"never active": account(recency_days=NAN, active_days_28=0)},
        # An outage that was found out later: shorter, but nobody came.
        holds=account(recency_days=26, active_days_28=0),
        clears=account(recency_days=27, active_days_28=1),
        why=(Why.SILENT, Why.ACTIVE_AGAIN),
    ),
    FlagReason.USAGE_DROP: Life(
        raises=DROP,
        edges={
            "half and a bit": DROP.but(columns={"trend": 0.51}),
            "within the noise": DROP.but(columns={"trend_z": -1.99}),
        },
        unknown={
            "no base": DROP.but(columns={"trend": NAN, "trend_z": NAN}),
            "no deviation": DROP.but(columns={"trend_z": NAN}),
        },
        holds=account(trend=0.69, trend_z=-1),
        clears=account(trend=0.7, trend_z=-1),
        why=(Why.USE_FELL, Why.USE_RECOVERED),
        days=(14, 14),
    ),
    FlagReason.SEATS_IDLE: Life(
        raises=IDLE,
        edges={
            "half": IDLE.but(columns=of_seats(50, 100)),
            "four seats": account(seats(4), **of_seats(1, 4)),
            "new": IDLE.but(columns={"tenure_days": 89}),
        },
        unknown={
            "seats": account(seats(None), **(of_seats(49, 100) | {"share_basis": 1})),
            "no seats": account(seats(0), **(of_seats(49, 100) | {"share_basis": 1})),
            "users": IDLE.but(columns={"share_of_active_users": NAN, "share_basis": NAN}),
            "tenure": IDLE.but(columns={"tenure_days": NAN}),
        },
        holds=IDLE.but(columns=of_seats(59, 100)),
        clears=IDLE.but(columns=of_seats(60, 100)),
        why=(Why.SEATS_UNUSED, Why.SEATS_USED),
        days=(14, 14),
    ),
    FlagReason.CHAMPION_LOST: Life(
        raises=GONE,
        edges={
            "there": GONE.but(columns={"champion_gone": 0}),
            "two users": GONE.but(columns={"active_users_180": 2}),
            "a successor": GONE.but(columns={"most_user_days_28": 8}),
        },
        unknown={
            "no main user": GONE.but(columns={"champion_gone": NAN}),
            "users": GONE.but(columns={"active_users_180": NAN, "most_user_days_28": NAN}),
        },
        holds=GONE.but(columns={"champion_gone": NAN}),
        clears=GONE.but(columns={"champion_gone": 0}),
        why=(Why.CHAMPION_GONE, Why.CHAMPION_BACK),
    ),
    FlagReason.ONBOARDING_STALLED: Life(
        raises=SLOW,
        edges={
            "13 days": SLOW.but(columns={"tenure_days": 13}),
            "61 days": SLOW.but(columns={"tenure_days": 61}),
            "three days": SLOW.but(columns={"active_days_first_14": 3, "active_days_14": 3}),
            "a milestone": SLOW.but(columns={"milestones": 1}),
        },
        unknown={"tenure": SLOW.but(columns={"tenure_days": NAN})},
        holds=SLOW.but(columns={"tenure_days": 61}),
        clears=SLOW.but(columns={"active_days_14": 3}),
        again=SLOW.but(milestones_used=True, columns={"tenure_days": 30}),
        why=(Why.SLOW_START, Why.GOT_GOING),
    ),
    FlagReason.CANCELLATION_INTENT: Life(
        raises=account(cancellation_age_days=0),
        edges={},
        unknown={"none": account()},
        clears=account(),
        why=(Why.CANCELLATION_REQUESTED, Why.CANCELLATION_WITHDRAWN),
    ),
    FlagReason.PAYMENT_FAILED: Life(
        raises=account(payments_failed_14=2, payment_failed_age_days=0),
        edges={
            "one": account(payments_failed_14=1, payment_failed_age_days=0),
            "paid": account(
                payments_failed_14=2, payment_failed_age_days=1, payment_succeeded_since=1
            ),
        },
        unknown={"no payments": account()},
        holds=account(payments_failed_14=0, payment_failed_age_days=29),
        clears=account(payments_failed_14=0, payment_failed_age_days=30),
        why=(Why.PAYMENTS_FAILED, Why.NO_FURTHER_FAILURE),
    ),
    FlagReason.SUPPORT_STRAIN: Life(
        raises=account(tickets_28=3, tickets_180=3),
        edges={
            "two": account(tickets_28=2, tickets_180=2),
            # 3 x 60 x 28 / 180 = 28
            "as usual": account(tickets_28=27, tickets_180=60),
            "severe for a week": account(ticket_severe_age_days=7),
        },
        unknown={"no tickets": account()},
        clears=account(tickets_28=2, tickets_180=3),
        why=(Why.MANY_TICKETS, Why.TICKETS_AS_USUAL),
        days=(0, 14),
    ),
    FlagReason.UNHAPPY_FEEDBACK: Life(
        raises=account(unhappy_users=1),
        edges={"nobody": account(unhappy_users=0)},
        unknown={"no answer": account()},
        clears=account(unhappy_users=0),
        why=(Why.SCORED_LOW, Why.NO_LOW_SCORE),
    ),
    FlagReason.RENEWAL_DUE: Life(
        raises=contract(120),
        edges={
            "121 days": contract(121),
            "less than a year": contract(120, length=363),
            "long past": contract(-30),
        },
        unknown={
            "end": account(contract_days=364),
            "length": contract(120, columns={"contract_days": NAN}),
        },
        clears=contract(485),
        why=(Why.CONTRACT_ENDS, Why.CONTRACT_END_MOVED),
    ),
    FlagReason.GOAL_MISSED: Life(
        # A quarter of the way was due on day 50, and nothing had come; until noon of day 78.
        raises=promised([(0, 100), (50, 100), (72, 100)], days=77, due=200),
        edges={
            "a day less": promised([(0, 100), (50, 100), (72, 100)], days=76, due=200),
            "a fifth of the way": promised([(0, 100), (40, 100)], days=100, due=200),
            "six days past its day": promised([(0, 100), (50, 90)], days=106, due=100),
            "three months past its day": promised([(0, 100), (50, 90)], days=190, due=100),
            "reached on its day": promised([(100, 80), (101, 90)], days=107, due=100),
        },
        unknown={
            "values": promised([], days=107, due=100),
            "day": promised([(0, 100), (50, 100)], days=100, due=None),
        },
        # On day 100 half of the way was due; it is a tenth of a point off the line.
        holds=promised([(0, 100), (50, 100), (100, 90.1)], days=101, due=200),
        clears=promised([(0, 100), (50, 100), (100, 90)], days=101, due=200),
        why=(Why.GOAL_BEHIND, Why.GOALS_SETTLED),
    ),
    FlagReason.EXPANSION_READY: Life(
        raises=account(seats(10), **of_seats(9, 10)),
        edges={
            "a bit less": account(seats(100), **of_seats(89, 100)),
            "watch": account(seats(10), **of_seats(9, 10)).but(band=Band.WATCH, risk=0.1),
        },
        unknown={
            "seats": account(seats(None), **(of_seats(9, 10) | {"share_basis": 1})),
            "risk": account(seats(10), **of_seats(9, 10)).but(risk=None),
        },
        holds=account(seats(10), **of_seats(8, 10)),
        clears=account(seats(10), **(of_seats(9, 10) | {"share_of_active_users": 0.79})),
        why=(Why.SEATS_FULL, Why.SEATS_FREE),
        days=(14, 28),
    ),
    FlagReason.GOAL_REACHED: Life(
        # From noon of day 20 to noon of day 48.
        raises=promised([(0, 100), (20, 80)], days=47, due=200),
        edges={
            "a day less": promised([(0, 100), (20, 80)], days=46, due=200),
            "nearly": promised([(0, 100), (20, 80.1)], days=47, due=200),
            "not without a break": promised([(0, 80), (20, 80.1), (21, 80)], days=47, due=200),
        },
        unknown={"values": promised([], days=47, due=200)},
        clears=promised([(0, 100), (20, 80), (40, 81)], days=47, due=200),
        why=(Why.GOAL_HELD, Why.GOAL_NOT_KEPT),
        again=promised([(0, 100), (20, 80)], days=47, due=201),
    ),
}


def of_lives(what: str) -> list[Any]:
    """Each flag with each of its accounts of a kind."""
    return [
        pytest.param(reason, one, id=f"{reason.value}: {name}")
        for reason, life in LIVES.items()
        for name, one in getattr(life, what).items()
    ]


def look(states: dict[FlagReason, FlagState], one: Account, day: float) -> list[tuple[str, str]]:
    """One look so many days after `NOW`; what it tells. The account's own days do not move."""
    decisions = one.but(now=days_later(day)).decide(states)
    states.update({decision.reason: decision.state for decision in decisions})
    return [(one.reason.value, one.change) for one in decisions if one.change]


@pytest.mark.parametrize("reason", REASONS)
def test_a_flag_is_raised_held_cleared_and_raised_again(reason: FlagReason) -> None:
    life, states = LIVES[reason], dict[FlagReason, FlagState]()
    wait, clear_wait = life.days
    name = reason.value
    day = 0
    for episode in (1, 2):
        raises = life.raises if episode == 1 else life.again or life.raises
        told = [look(states, raises, day + n) for n in range(wait + 1)]
        assert told == [[]] * wait + [[(name, "raised")]]
        assert states[reason].episode == episode
        day += wait
        assert look(states, raises, day + 1) == []
        if life.holds is not None:
            assert [look(states, life.holds, day + 1 + n) for n in range(30)] == [[]] * 30
        day += 40
        told = [look(states, life.clears, day + n) for n in range(clear_wait + 1)]
        assert told == [[]] * clear_wait + [[(name, "cleared")]]
        day += clear_wait + 1
        assert look(states, life.clears, day) == []


@pytest.mark.parametrize("reason", REASONS)
def test_a_flag_says_why_it_changed(reason: FlagReason) -> None:
    life = LIVES[reason]
    wait, clear_wait = (timedelta(days=days) for days in life.days)
    (raised,) = life.raises.decide({reason: FlagState(wanted_since=NOW - wait)})
    up = FlagState(episode=1, raised_at=NOW - timedelta(1), over_since=NOW - clear_wait)
    (cleared,) = life.clears.decide({reason: up})
    assert (raised.why, cleared.why) == life.why
    assert cleared.raised_at == up.raised_at


@pytest.mark.parametrize(("reason", "one"), of_lives("edges"))
def test_a_flag_is_not_raised_at_the_edge(reason: FlagReason, one: Account) -> None:
    assert not one.judged.wanted[reason][0]


@pytest.mark.parametrize(("reason", "one"), of_lives("unknown"))
def test_a_flag_is_not_raised_from_what_is_not_known(reason: FlagReason, one: Account) -> None:
    assert not one.judged.wanted[reason][0]


def test_a_healthy_account_wants_no_flag_and_ends_those_it_has() -> None:
    judged = account(milestones=1).judged
    assert not judged.any_free[0]
    not_over = {reason for reason, over in judged.over.items() if not over[0]}
    assert not_over == set()


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (account(seats(10), **of_seats(10, 10)), Why.SEATS_USED),
        (account(seats(4), **of_seats(1, 4)), Why.FEW_SEATS),
        (account(seats(None)), Why.NO_LONGER_MEASURED),
    ],
)
def test_idle_seats_end_for_several_reasons(one: Account, why: Why) -> None:
    up = FlagState(episode=1, raised_at=days_later(-60), over_since=days_later(-14))
    decisions = {d.reason: d for d in one.decide({FlagReason.SEATS_IDLE: up})}
    decision = decisions[FlagReason.SEATS_IDLE]
    assert (decision.change, decision.why) == ("cleared", why)


def test_a_milestone_is_missed_only_where_the_vendor_reports_milestones() -> None:
    # On day 30 with 5 active days of the first 14.
    late = Account(columns={"tenure_days": 30, "active_days_first_14": 5, "milestones": 0})
    used = late.but(milestones_used=True)
    assert late.changes() == []
    (raised,) = used.decide()
    assert (raised.change, raised.why) == ("raised", Why.NO_MILESTONE)
    assert used.but(columns={"tenure_days": 29}).changes() == []
    up = {FlagReason.ONBOARDING_STALLED: raised.state}
    # Coming is not enough: the milestone is missing still.
    assert used.but(columns={"active_days_14": 14}).changes(up) == []
    (cleared,) = used.but(columns={"milestones": 1}).decide(up)
    assert cleared.why is Why.MILESTONE_REACHED


def test_onboarding_ends_with_day_ninety() -> None:
    up = {FlagReason.ONBOARDING_STALLED: FlagState(episode=1, raised_at=NOW)}
    assert SLOW.but(columns={"tenure_days": 89}).changes(up) == []
    (cleared,) = SLOW.but(columns={"tenure_days": 90}).decide(up)
    assert cleared.why is Why.NO_LONGER_NEW


def test_a_severe_ticket_that_stays_open_is_a_strain() -> None:
    (raised,) = account(ticket_severe_age_days=8).decide()
    assert (raised.reason, raised.why) == (FlagReason.SUPPORT_STRAIN, Why.SEVERE_TICKET_OPEN)


def test_a_payment_ends_what_failed_payments_raised() -> None:
    up = {FlagReason.PAYMENT_FAILED: FlagState(episode=1, raised_at=NOW)}
    paid = account(payments_failed_14=2, payment_failed_age_days=1, payment_succeeded_since=1)
    (cleared,) = paid.decide(up)
    assert (cleared.change, cleared.why) == ("cleared", Why.PAYMENT_SUCCEEDED)


def test_a_contract_of_which_only_yearly_billing_is_known_is_a_year_long() -> None:
    end = AS_OF + timedelta(days=100)
    fields = AccountFields(contract_end=end, billing_period="year")
    assert account(fields).changes() == [("renewal_due", "raised")]
    assert account(AccountFields(contract_end=end, billing_period="quarter")).changes() == []


def test_a_contract_that_renews_by_the_month_is_never_due() -> None:
    fields = AccountFields(contract_end=AS_OF - timedelta(days=3), billing_period="month")
    assert account(fields, contract_days=400).changes() == []
    soon = AccountFields(contract_end=AS_OF + timedelta(days=9), billing_period="month")
    assert account(soon, contract_days=400).changes() == []
    overdue = AccountFields(contract_end=AS_OF - timedelta(days=3), billing_period="year")
    assert account(overdue, contract_days=400).changes() == [("renewal_due", "raised")]


def test_a_new_account_gets_flags_of_landing_and_what_it_has_said_itself() -> None:
    everything = {
        **NEW,
        "active_days_first_14": 0,
        "active_days_14": 0,
        "active_days_28": 0,
        "recency_days": 28,
        "active_days_ever": 3,
        "cancellation_age_days": 0,
        "payments_failed_14": 5,
        "payment_failed_age_days": 0,
        "tickets_28": 50,
        "unhappy_users": 3,
        "champion_gone": 1,
        "most_user_days_28": 0,
    }
    assert Account(columns=everything, risk=None).changes() == [
        ("onboarding_stalled", "raised"),
        ("cancellation_intent", "raised"),
        ("payment_failed", "raised"),
    ]


def test_a_lapsed_account_gets_what_its_contract_and_its_silence_give_rise_to() -> None:
    lapsed = {
        "state": LAPSED,
        "recency_days": 100,
        "active_days_28": 0,
        "cancellation_age_days": 0,
        "payments_failed_14": 2,
        "payment_failed_age_days": 0,
        "tickets_28": 50,
        "unhappy_users": 3,
        "champion_gone": 1,
        "most_user_days_28": 0,
    }
    one = contract(100, columns=lapsed, risk=None)
    assert [reason for reason, _ in one.changes()] == [
        "gone_silent",
        "cancellation_intent",
        "payment_failed",
        "renewal_due",
    ]


def test_each_segment_has_its_own_numbers() -> None:
    rules = load(b"[segments.enterprise.gone_silent]\nsilent_days = 14\n")
    silent = account(recency_days=14, active_days_28=14)
    for segment, wanted in (("enterprise", True), ("small", False), (None, False)):
        one = silent.but(fields=AccountFields(segment=segment), rules=rules)
        assert bool(one.judged.wanted[FlagReason.GONE_SILENT][0]) is wanted


def test_a_year_counts_from_first_to_last_day() -> None:
    # 2025-01-01 to 2025-12-31: 364 days apart.
    start, end = date(2025, 1, 1), date(2025, 12, 31)
    one = account(
        AccountFields(contract_start=start, contract_end=end), contract_days=(end - start).days
    ).but(as_of=date(2025, 12, 1))
    assert one.changes() == [("renewal_due", "raised")]


class TestAgainstPlainPython:
    """The vectors say what the table of the rules says, row by row."""

    ROWS = 4_000

    def test_every_flag_of_random_accounts(self) -> None:
        seen = _random(self.ROWS)
        rules = load(b"[segments.big.usage_drop]\ntrend_at_most = 0.3\n")
        found = conditions(seen.table, seen.facts, rules)
        for index in range(self.ROWS):
            row = {name: float(seen.table.column(name)[index]) for name in COLUMNS}
            expected = _wanted(row, seen.facts, index, seen.table.as_of.toordinal())
            assert {r.value for r in REASONS if found.wanted[r][index]} == expected
        for reason in REASONS:  # Else it would say nothing.
            share = found.wanted[reason].mean()
            assert 0.001 < share < 0.9, (reason, share)

    def test_no_flag_is_wanted_and_over_at_once(self) -> None:
        seen = _random(self.ROWS)
        found = conditions(seen.table, seen.facts, read_default())
        for reason in REASONS:
            assert not (found.wanted[reason] & found.over[reason]).any(), reason

    def test_one_account_alone_is_judged_like_all_together(self) -> None:
        seen = _random(50)
        found = conditions(seen.table, seen.facts, read_default())
        for index in range(len(seen.table)):
            one = seen.take(np.array([index]))
            alone = conditions(one.table, one.facts, read_default())
            for reason in REASONS:
                assert alone.wanted[reason][0] == found.wanted[reason][index]
                assert alone.over[reason][0] == found.over[reason][index]
                assert alone.held[reason][0] == found.held[reason][index]

    def test_a_condition_always_has_both_sides(self) -> None:
        seen = _random(3)
        for reason in REASONS:
            judged = condition(reason, seen, read_default())
            assert judged.raises
            assert judged.ends


def _promises(accounts: int) -> list[tuple[tuple[Goal, ...], tuple[Signal, ...]]]:
    """Of every third account one or two goals, and values of some."""
    random = np.random.default_rng(11)
    found = []
    for _ in range(accounts):
        goals = tuple(
            Goal(
                metric="a",
                baseline=float(random.choice([0, 100])),
                target=float(random.choice([0, 50, 100])),
                direction="up" if random.random() < 0.5 else "down",
                due=AS_OF - timedelta(days=int(random.choice([-100, -1, 0, 6, 7, 89, 90]))),
            )
            for _ in range(int(random.choice([0, 0, 1, 2])))
        )
        ages = random.permutation([0, 27, 28, 29, 100, 200])[: random.integers(4)].tolist()
        values = tuple(
            reported(AS_OF - timedelta(days=age), float(random.choice([0, 25, 50, 100])), "a")
            for age in ages
        )
        found.append((goals, values))
    return found


PROMISES: Final = _promises(4_000)


def _goals_say(index: int) -> dict[str, bool]:
    goals, values = PROMISES[index]
    told = sorted((one.at, one.value) for one in values)
    missed = reached = False
    for one in goals:
        found = stand(one, None, told, as_of=AS_OF, now=NOW)
        late = (AS_OF - one.due).days if one.due else -1
        lags = found.days_behind is not None and found.days_behind >= 28
        missed |= found.state == "missed" and 7 <= late < 90
        missed |= not found.is_due and found.state != "reached" and lags
        reached |= found.days_at_target is not None and found.days_at_target >= 28
    return {"goal_missed": missed, "goal_reached": reached}


def _random(rows: int) -> Seen:
    random = np.random.default_rng(7)

    def pick(*choices: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        return random.choice(np.array(choices), rows)

    columns = {name: np.full(rows, NAN) for name in COLUMNS} | {
        "state": pick(0, 1, 1, 1, 2),
        "short_history": pick(0, 1),
        "recency_days": pick(NAN, 0, 5, 27, 28, 100),
        "tenure_days": pick(NAN, 13, 14, 30, 60, 61, 89, 90, 400),
        "active_days_ever": pick(2, 3, 50),
        "active_days_14": pick(0, 2, 3, 10),
        "active_days_28": pick(0, 2, 3, 10),
        "active_users_180": pick(NAN, 1, 2, 3, 8),
        "share_of_active_users": pick(NAN, 0.2, 0.49, 0.5, 0.6, 0.89, 0.9, 1.2),
        "share_basis": pick(NAN, 0, 0, 0, 1),
        "champion_gone": pick(NAN, 0, 1),
        "most_user_days_28": pick(0, 7, 8),
        "trend": pick(NAN, 0, 0.3, 0.5, 0.51, 0.7, 1),
        "trend_z": pick(NAN, -3, -2, -1.9, 0),
        "active_days_first_14": pick(0, 2, 3, 9),
        "milestones": pick(NAN, 0, 1, 2),
        "contract_days": pick(NAN, 30, 363, 364, 730),
        "cancellation_age_days": pick(NAN, 0, 50),
        "payments_failed_14": pick(NAN, 0, 1, 2, 3),
        "payment_failed_age_days": pick(0, 5),
        "payment_succeeded_since": pick(NAN, 0, 1),
        "tickets_28": pick(NAN, 0, 2, 3, 14, 15),
        "tickets_180": pick(NAN, 15, 30, 31),
        "ticket_severe_age_days": pick(NAN, 1, 7, 7.5, 30),
        "unhappy_users": pick(NAN, 0, 1, 4),
    }
    table = IndicatorTable(AS_OF, np.stack([columns[name] for name in COLUMNS], axis=1))
    left = pick(NAN, -31, -30, -29, 0, 119, 120, 121, 500)
    facts = Facts(
        severity=pick(0, 0, 1, 2, 3).astype(np.int64),
        risk=pick(NAN, 0.01, 0.5),
        churned=pick(0, 0, 0, 1) > 0,
        under_contract=pick(0, 1) > 0,
        seats=pick(NAN, 0, 4, 5, 100),
        contract_end=left + AS_OF.toordinal(),
        monthly=pick(0, 0, 1) > 0,
        yearly=pick(0, 1) > 0,
        stale=pick(0, 1) > 0,
        segment=pick(-1, 0, 1).astype(np.int64),
        segments=("small", "big"),
        goals=standing(
            [AccountFields(goals=goals) for goals, _ in PROMISES[:rows]],
            usage_of([History(signals=values) for _, values in PROMISES[:rows]]).signals,
            as_of=AS_OF,
            now=microseconds(NOW),
        ),
        milestones_used=True,
    )
    return Seen(table, facts)


def _wanted(row: Mapping[str, float], facts: Facts, index: int, as_of: int) -> set[str]:
    """The raise column of the catalogue, as one would read it out; NaN compares as false."""
    if facts.churned[index]:
        return set()
    severity, risk = facts.severity[index], facts.risk[index]
    big = facts.segment[index] == 1
    share = row["share_of_active_users"] if row["share_basis"] == BASES.index("seats") else NAN
    left = facts.contract_end[index] - as_of
    length = NAN if facts.monthly[index] else row["contract_days"]
    if facts.yearly[index] and length != length:  # noqa: PLR0124  # NaN
        length = 365
    tickets = np.nan_to_num(row["tickets_180"])
    no_milestone = not row["milestones"] >= 1
    slow = row["tenure_days"] >= 14 and row["active_days_first_14"] < 3 > row["active_days_14"]
    unpaid = not row["payment_succeeded_since"] >= 1
    goals = _goals_say(index)
    new, scored, lapsed = (row["state"] == code for code in range(3))
    says = {
        "churn_risk": scored and severity >= 2 and risk >= 0,
        "gone_silent": (scored or lapsed)
        and row["recency_days"] >= 28
        and row["active_days_ever"] >= 3,
        "usage_drop": scored and row["trend"] <= (0.3 if big else 0.5) and row["trend_z"] <= -2,
        "seats_idle": scored
        and facts.seats[index] >= 5
        and row["tenure_days"] >= 90
        and share < 0.5,
        "champion_lost": scored
        and row["champion_gone"] == 1
        and row["active_users_180"] >= 3
        and row["most_user_days_28"] < 8,
        "onboarding_stalled": (new or scored)
        and row["tenure_days"] <= 60
        and no_milestone
        and (slow or row["tenure_days"] >= 30),
        "cancellation_intent": row["cancellation_age_days"] >= 0,
        "payment_failed": row["payments_failed_14"] >= 2 and unpaid,
        "support_strain": scored
        and (
            row["tickets_28"] >= max(3, 3 * tickets * 28 / 180) or row["ticket_severe_age_days"] > 7
        ),
        "unhappy_feedback": scored and row["unhappy_users"] >= 1,
        "renewal_due": (scored or lapsed) and length >= 364 and -30 < left <= 120,
        "goal_missed": goals["goal_missed"],
        "expansion_ready": scored and share >= 0.9 and severity == 0 and risk >= 0,
    }
    says["goal_reached"] = (new or scored) and goals["goal_reached"]
    return {name for name, wanted in says.items() if wanted}
