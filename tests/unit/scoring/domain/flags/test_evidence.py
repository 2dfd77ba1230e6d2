"""What people read: the evidence of each flag, its line, its money."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from services.scoring.domain.flags.money import (
    band_told,
    risk_told,
    value_at_risk,
    value_told,
)
from services.scoring.domain.flags.states import OPPORTUNITIES, REASONS, STAGES, Decision, FlagState
from services.scoring.domain.flags.summary import NAMES, summary
from shared.messages import AccountFields, Band, FlagReason, Reason, Stage, ValueAtRisk
from tests.unit.scoring.domain.flags.factories import Account
from tests.unit.scoring.domain.flags.test_catalogue import (
    DROP,
    GONE,
    IDLE,
    LIVES,
    SLOW,
    account,
    contract,
    promised,
)
from tests.unit.scoring.domain.flags.test_risk_and_silence import at_risk, silent
from tests.unit.scoring.factories import AS_OF, NOW

RISK, SILENT = FlagReason.CHURN_RISK, FlagReason.GONE_SILENT
UP = FlagState(episode=1, raised_at=NOW, band=Band.AT_RISK)
LONG_AGO = FlagState(wanted_since=NOW - timedelta(days=30))
EURO = AccountFields(mrr=Decimal(100), currency="EUR")


def only(one: Account) -> Decision:
    (decision,) = one.decide()
    return decision


def raised(reason: FlagReason, one: Account) -> tuple[tuple[Reason, ...], str]:
    """The evidence and the line of a flag that is raised."""
    decisions = {decision.reason: decision for decision in one.decide({reason: LONG_AGO})}
    decision = decisions[reason]
    assert decision.change == "raised"
    return decision.evidence, summary(decision, one.sight)


@pytest.mark.parametrize(
    ("reason", "one", "text"),
    [
        (
            FlagReason.USAGE_DROP,
            # 18 events in 28 days are 4.5 a week.
            DROP.but(columns={"events_28": 18, "base_events_per_week": 12, "trend": 0.375}),
            (
                "4.5 events a week in the last 4; 12 in the half year before"
                " (38 % of what was to be expected)."
            ),
        ),
        (
            FlagReason.USAGE_DROP,
            DROP.but(columns={"events_28": 0, "base_events_per_week": 1234.5, "trend": 0}),
            (
                "0 events a week in the last 4; 1,234 in the half year before"
                " (0 % of what was to be expected)."
            ),
        ),
        (FlagReason.SEATS_IDLE, IDLE, "49 of 100 seats used in 28 days (49 %)."),
        (
            FlagReason.CHAMPION_LOST,
            GONE,
            (
                "The user who carried the account has not come for 28 days;"
                " the most active other came on 7 days."
            ),
        ),
        (
            FlagReason.CHAMPION_LOST,
            GONE.but(columns={"most_user_days_28": 0}),
            "The user who carried the account has not come for 28 days.",
        ),
        (
            FlagReason.ONBOARDING_STALLED,
            SLOW,
            "Active on 2 days of the first 14; here for 14 days.",
        ),
        (
            FlagReason.ONBOARDING_STALLED,
            SLOW.but(milestones_used=True, columns={"tenure_days": 30}),
            (
                "Active on 2 days of the first 14; here for 30 days."
                " No milestone reached after 30 days."
            ),
        ),
        (
            FlagReason.CANCELLATION_INTENT,
            account(cancellation_age_days=0, cancellation_effective_days=31),
            # 28 February and 31 days
            "Cancellation requested less than a day ago, effective 2026-03-31.",
        ),
        (
            FlagReason.CANCELLATION_INTENT,
            account(cancellation_age_days=1),
            "Cancellation requested 1 day ago.",
        ),
        (
            FlagReason.PAYMENT_FAILED,
            account(payments_failed_14=2, payment_failed_age_days=3),
            "2 payments failed in 14 days, the last one 3 days ago.",
        ),
        (
            FlagReason.SUPPORT_STRAIN,
            # 9 in 180 days are 9 x 28 / 180 = 1.4 in 28.
            account(tickets_28=5, tickets_180=9, ticket_severe_age_days=8),
            "5 tickets in 28 days; usual are 1.4. A severe ticket has been open for 8 days.",
        ),
        (
            FlagReason.GOAL_MISSED,
            # 12 of 20 % on day 100, which was 2 days ago; past its day for 7 with that of A.
            promised([(0, 100), (100, 88)], days=107, due=100),
            "Time to invoice is down 12 % of the 20 % promised; it was due 21 February 2026.",
        ),
        (
            FlagReason.GOAL_MISSED,
            # Of the 20 % half were to be expected by day 100 of 200, which is day A.
            promised([(0, 100), (50, 99.4)], days=100, due=200),
            (
                "Time to invoice is down 0.6 % of the 20 % promised; due 8 June 2026,"
                " 10 % were to be expected by now."
            ),
        ),
        (
            FlagReason.GOAL_MISSED,
            promised([(0, 100), (50, 104)], days=100, due=200),
            (
                "Time to invoice is up 4.0 %, not down the 20 % promised; due 8 June 2026,"
                " 10 % were to be expected by now."
            ),
        ),
        (
            FlagReason.GOAL_REACHED,
            promised([(0, 100), (20, 79)], days=60, due=200),
            "Time to invoice is down 21 % of the 20 % promised: the goal is reached.",
        ),
        (
            FlagReason.UNHAPPY_FEEDBACK,
            account(unhappy_users=1, nps_mean=6.5, nps_answers=4, csat_answers=0),
            "The newest score of 1 user is low (mean NPS 6.5 of 4 answers).",
        ),
        (
            FlagReason.UNHAPPY_FEEDBACK,
            account(unhappy_users=2),
            "The newest scores of 2 users are low.",
        ),
        (
            FlagReason.RENEWAL_DUE,
            contract(120),
            "The contract ends in 120 days (2026-06-28).",
        ),
        (
            FlagReason.RENEWAL_DUE,
            contract(-3),
            "The contract ended 3 days ago (2026-02-25) and is not renewed.",
        ),
        (
            FlagReason.EXPANSION_READY,
            LIVES[FlagReason.EXPANSION_READY].raises,
            "9 of 10 seats used in 28 days (90 %).",
        ),
    ],
)
def test_a_flag_says_in_plain_words_what_it_rests_on(
    reason: FlagReason, one: Account, text: str
) -> None:
    evidence, line = raised(reason, one)
    assert " ".join(part.text for part in evidence) == text
    assert line == text


def test_evidence_holds_the_numbers_of_its_sentence() -> None:
    (drop,), _ = raised(
        FlagReason.USAGE_DROP,
        DROP.but(columns={"events_28": 18, "base_events_per_week": 12, "trend": 0.375}),
    )
    assert (drop.value, drop.unit, drop.baseline, drop.baseline_of) == (
        4.5,
        "events a week",
        12,
        "own",
    )
    assert drop.change == -0.625  # (4.5 - 12) / 12
    assert (drop.window_days, drop.weight, drop.as_of) == (28, 0, AS_OF)
    (seats,), _ = raised(FlagReason.SEATS_IDLE, IDLE)
    assert (seats.value, seats.baseline, seats.baseline_of) == (0.49, None, None)


@pytest.mark.parametrize("reason", REASONS)
def test_every_flag_has_a_stage_a_name_and_an_end_in_words(reason: FlagReason) -> None:
    life, up = LIVES[reason], FlagState(episode=1, raised_at=NOW, over_since=LONG_AGO.wanted_since)
    (cleared,) = life.clears.decide({reason: up})
    line = summary(cleared, life.clears.sight)
    assert "_" not in line
    assert line.endswith(".")
    assert reason in STAGES
    assert reason in NAMES


def test_the_stages_are_those_of_the_catalogue() -> None:
    stages = {stage: {r.value for r in REASONS if STAGES[r] is stage} for stage in Stage}
    assert stages == {
        Stage.LAND: {"onboarding_stalled"},
        Stage.ADOPT: {
            "gone_silent",
            "usage_drop",
            "seats_idle",
            "champion_lost",
            "support_strain",
            "unhappy_feedback",
            "goal_missed",
        },
        Stage.EXPAND: {"expansion_ready", "goal_reached"},
        Stage.RENEW: {"churn_risk", "cancellation_intent", "payment_failed", "renewal_due"},
    }


def test_a_renewal_says_its_date_once() -> None:
    one = contract(120)
    (decision,) = one.decide()
    line = summary(decision, one.sight, renewal=one.fields.contract_end)
    assert line == "The contract ends in 120 days (2026-06-28)."


def test_an_end_says_why_in_words() -> None:
    up = {FlagReason.SEATS_IDLE: FlagState(episode=1, raised_at=NOW)}
    churned = IDLE.but(fields=AccountFields(status="churned", seats=100))
    (decision,) = churned.decide(up)
    assert summary(decision, churned.sight) == "Idle seats: over, as the account has churned."


def test_good_news_carries_no_money_at_risk() -> None:
    assert frozenset({FlagReason.EXPANSION_READY, FlagReason.GOAL_REACHED}) == OPPORTUNITIES
    assert value_told(FlagReason.EXPANSION_READY, 0.02, EURO) is None
    # 0.25 x 12 x 100
    assert value_told(FlagReason.RENEWAL_DUE, 0.25, EURO) == ValueAtRisk(
        amount=Decimal("300.00"), currency="EUR", basis="mrr"
    )


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


def test_a_summary_tells_risk_reason_money_and_renewal_in_one_line() -> None:
    seen = at_risk(risk=0.34)
    value = ValueAtRisk(amount=Decimal("12480.00"), currency="EUR", basis="mrr")
    assert summary(only(seen), seen.sight, value=value, renewal=date(2026, 4, 14)) == (
        "Churn risk 34 % (at risk). "
        "Active on 9 of 90 days; a year ago 38, others 41: +0.8. "
        "EUR 12,480 at risk. Renews in 44 days (2026-04-14)."
    )


def test_a_summary_of_silence_says_for_how_long() -> None:
    seen = silent(31)
    line = summary(only(seen), seen.sight, renewal=date(2026, 2, 1))
    assert line == "No use for 31 days; usually every 2 days. Renewal overdue since 2026-02-01."


@pytest.mark.parametrize(
    ("reason", "seen", "line"),
    [
        (RISK, Account(risk=0.052, band=Band.WATCH), "Churn risk is over: 5.2 % (watch)."),
        (SILENT, Account(), "Active again."),
        (
            RISK,
            Account(fields=AccountFields(status="churned")),
            "Churn risk ends: the account has churned.",
        ),
        (
            SILENT,
            Account(fields=AccountFields(status="churned")),
            "Silence ends: the account has churned.",
        ),
    ],
)
def test_a_summary_of_the_end_is_short(reason: FlagReason, seen: Account, line: str) -> None:
    (decision,) = seen.decide({reason: UP})
    assert summary(decision, seen.sight) == line
