"""Why each flag is, or is not, raised: the words behind `perennial flags explain`."""

from datetime import timedelta

from services.scoring.domain.flags.report import RuleReport, explain_flags
from services.scoring.domain.flags.states import REASONS, FlagState, Why
from services.scoring.domain.rules import load
from shared.messages import AccountFields, FlagReason
from tests.unit.scoring.domain.flags.factories import Account
from tests.unit.scoring.domain.flags.test_catalogue import DROP, IDLE, account, contract
from tests.unit.scoring.factories import NOW, days_later

States = dict[FlagReason, FlagState]


def explained(reason: FlagReason, one: Account, states: States | None = None) -> RuleReport:
    reports = explain_flags(states or {}, one.judged, 0, one.sight, one.rules)
    assert [report.reason for report in reports] == list(REASONS)
    return next(report for report in reports if report.reason is reason)


def texts(report: RuleReport) -> list[list[str]]:
    return [[clause.text for clause in one.clauses] for one in report.raises]


def test_a_flag_that_waits_says_since_when_and_how_long_still() -> None:
    states: States = {FlagReason.USAGE_DROP: FlagState(wanted_since=days_later(-5))}
    report = explained(FlagReason.USAGE_DROP, DROP, states)
    assert (report.stands, report.since) == ("pending", days_later(-5))
    assert (report.days_left, report.why) == (14 - 5, Why.NOT_LONG_ENOUGH)
    assert texts(report) == [
        [
            "use against the half year before: 0.5 (wanted: <= 0.5)",
            "fall in usual deviations: -2 (wanted: <= -2)",
        ]
    ]
    assert [clause.met for clause in report.raises[0].clauses] == [True, True]
    assert report.raises[0].met


def test_a_flag_that_is_not_raised_says_what_is_missing() -> None:
    report = explained(FlagReason.SEATS_IDLE, IDLE.but(columns={"tenure_days": 30}))
    assert (report.stands, report.since, report.days_left) == ("not_raised", None, None)
    assert [(clause.text, clause.met) for clause in report.raises[0].clauses] == [
        ("seats: 100 (wanted: >= 5)", True),
        ("tenure: 30 days (wanted: >= 90 days)", False),
        ("share of seats used in 28 days: 0.49 (wanted: < 0.5)", True),
    ]
    assert not report.raises[0].met


def test_what_is_not_known_is_said_so() -> None:
    report = explained(FlagReason.SEATS_IDLE, account())
    seats = report.raises[0].clauses[0]
    assert (seats.text, seats.value, seats.met) == ("seats: not known (wanted: >= 5)", None, None)


def test_a_flag_that_is_up_says_since_when_and_what_would_end_it() -> None:
    states: States = {
        FlagReason.USAGE_DROP: FlagState(
            episode=2, raised_at=days_later(-30), over_since=days_later(-4)
        )
    }
    report = explained(FlagReason.USAGE_DROP, account(trend=0.8), states)
    assert (report.stands, report.since, report.episode) == ("raised", days_later(-30), 2)
    assert (report.days_left, report.why) == (14 - 4, None)
    assert [(one.why, one.met) for one in report.ends] == [
        (Why.USE_RECOVERED, True),
        (Why.NO_LONGER_MEASURED, False),
    ]


def test_a_flag_held_back_says_why() -> None:
    silent = account(recency_days=40, active_days_28=0).but(stale=True)
    report = explained(FlagReason.GONE_SILENT, silent)
    assert (report.stands, report.why) == ("not_raised", Why.DATA_STALE)


def test_a_rule_that_is_off_says_so() -> None:
    off = contract(60).but(rules=load(b"[renewal_due]\nenabled = false\n"))
    report = explained(FlagReason.RENEWAL_DUE, off)
    assert (report.enabled, report.why) == (False, Why.RULE_DISABLED)


def test_an_account_of_a_segment_is_explained_by_its_own_numbers() -> None:
    rules = load(b"[segments.big.usage_drop]\ntrend_at_most = 0.4\n")
    big = DROP.but(rules=rules, fields=contract(500, length=10).fields)
    assert explained(FlagReason.USAGE_DROP, big).raises[0].met
    report = explained(FlagReason.USAGE_DROP, big.but(fields=AccountFields(segment="big")))
    assert texts(report)[0][0] == "use against the half year before: 0.5 (wanted: <= 0.4)"
    assert not report.raises[0].met


def test_a_threshold_of_the_account_itself_is_shown() -> None:
    # 3 x 60 x 28 / 180 = 28
    report = explained(FlagReason.SUPPORT_STRAIN, account(tickets_28=10, tickets_180=60))
    assert texts(report)[0] == ["tickets in 28 days: 10 (wanted: >= 28)"]


def test_the_report_changes_nothing_that_would_be_told() -> None:
    states: States = {FlagReason.USAGE_DROP: FlagState(wanted_since=NOW - timedelta(days=14))}
    report = explained(FlagReason.USAGE_DROP, DROP, states)
    # The next look will raise it.
    assert (report.stands, report.days_left, report.why) == ("pending", 0, Why.USE_FELL)
