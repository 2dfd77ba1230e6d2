"""Which playbook work gets, and when its tasks are due."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.notifier import playbook_files
from services.notifier.domain.calendar import Calendar
from services.notifier.domain.flags import Kind, OwnReason, WorkReason, is_opportunity
from services.notifier.domain.playbooks import (
    DEFAULT,
    KINDS,
    Match,
    Playbook,
    Playbooks,
    Sold,
    TaskRule,
    Work,
    due_at,
    matches,
    severities_of,
    task_due_at,
    unreachable,
    work_of,
)
from services.notifier.domain.sentiments import Mood, Sentiment
from services.notifier.domain.signals import of_loss, of_sentiment, severity_of
from services.scoring.domain.flags.states import STAGES
from shared.messages import AccountFields, Band, FlagReason
from tests.unit.notifier.factories import flag

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)  # A Monday.
PACK = playbook_files.read(playbook_files.built_in())


def work(reason: WorkReason = FlagReason.USAGE_DROP, **changes: object) -> Work:
    usual: dict[str, object] = {
        "type": KINDS[reason],
        "reason": reason,
        "severity": Band.AT_RISK,
    }
    return Work(**(usual | changes))  # type: ignore[arg-type]


def playbook(name: str, **match: object) -> Playbook:
    return Playbook(name=name, version=1, title=name, match=Match(**match))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("match", "other", "expected"),
    [
        pytest.param(Match(), work(), True, id="nothing asked"),
        pytest.param(Match(type="adopt"), work(), True, id="its type"),
        pytest.param(Match(type="land"), work(), False, id="another type"),
        pytest.param(Match(reasons=("usage_drop", "seats_idle")), work(), True, id="a reason"),
        pytest.param(Match(reasons=("seats_idle",)), work(), False, id="another reason"),
        pytest.param(Match(severity=(Band.CRITICAL,)), work(), False, id="less severe"),
        pytest.param(Match(sold="direct"), work(), True, id="sold directly"),
        pytest.param(Match(sold="reseller"), work(), False, id="not by a reseller"),
        pytest.param(Match(segment=("SMB",)), work(segment=" smb"), True, id="its segment"),
        pytest.param(Match(segment=("smb",)), work(), False, id="a segment, none known"),
        pytest.param(Match(value=100), work(value=Decimal(100)), True, id="enough at risk"),
        pytest.param(Match(value=100), work(value=Decimal("99.99")), False, id="not enough"),
        pytest.param(Match(value=0), work(value=None), False, id="a value, none known"),
    ],
)
def test_matching(match: Match, other: Work, *, expected: bool) -> None:
    assert matches(match, other) is expected


def test_the_first_that_matches_is_taken_and_ours_where_none_does() -> None:
    known = Playbooks((playbook("one", type="adopt"), playbook("two", type="adopt")))
    assert known.for_work(work()).name == "one"
    assert known.for_work(work(FlagReason.RENEWAL_DUE)) is DEFAULT


def test_a_customer_of_a_reseller_is_told_by_the_directory() -> None:
    for reseller, sold in (("Nordwind", Sold.RESELLER), (" ", Sold.DIRECT), (None, Sold.DIRECT)):
        found = work_of(
            AccountFields(reseller=reseller),
            kind=Kind.ADOPT,
            reason=FlagReason.USAGE_DROP,
            severity=Band.WATCH,
            value=None,
        )
        assert found.sold is sold


@pytest.mark.parametrize(
    ("ordered", "lost"),
    [
        pytest.param([playbook("a", type="adopt"), playbook("b")], [], id="special, then general"),
        pytest.param(
            [playbook("a"), playbook("b", type="adopt")], [("b", "a")], id="general comes first"
        ),
        pytest.param([playbook("a"), playbook("b")], [("b", "a")], id="two for everything"),
        pytest.param(
            [
                playbook("a", sold="direct"),
                playbook("b", sold="reseller"),
                playbook("c", type="land"),
            ],
            [("c", "a")],
            id="two together take all of its work",
        ),
        pytest.param(
            [playbook("a", sold="direct"), playbook("b", sold="reseller"), playbook("c")],
            [],
            id="one for everything is needed all the same",
        ),
        pytest.param(
            [playbook("a", type="land", reasons=("churn_risk",))],
            [("a", None)],
            id="no churn risk is of the type land",
        ),
        pytest.param(
            [playbook("a", type="expand", severity=(Band.CRITICAL,))],
            [("a", None)],
            id="an opportunity is never critical",
        ),
        pytest.param(
            [playbook("a", reasons=("expansion_ready",), value=1)],
            [("a", None)],
            id="an opportunity has no value at risk",
        ),
        pytest.param(
            [playbook("a", value=50), playbook("b", value=100)], [("b", "a")], id="the lower first"
        ),
        pytest.param(
            [playbook("a", value=100), playbook("b", value=50)], [], id="the higher first"
        ),
        pytest.param(
            [playbook("a", segment=("smb", "mid")), playbook("b", segment=("MID",))],
            [("b", "a")],
            id="a segment in other letters",
        ),
        pytest.param(
            [playbook("a", segment=("smb",)), playbook("b", segment=("smb", "mid"))],
            [],
            id="a segment is left to it",
        ),
    ],
)
def test_playbooks_that_nothing_would_ever_get(
    ordered: list[Playbook], lost: list[tuple[str, str | None]]
) -> None:
    found = [(one.name, before and before.name) for one, before in unreachable(ordered)]
    assert found == lost


@st.composite
def lists_of_playbooks(draw: st.DrawFn) -> list[Playbook]:
    reasons = st.sampled_from(["usage_drop", "churn_risk", "sentiment", "expansion_ready"])
    matches = st.builds(
        Match,
        type=st.sampled_from([None, None, "adopt", "renew"]),
        reasons=st.lists(reasons, max_size=2).map(tuple),
        severity=st.lists(st.sampled_from([Band.WATCH, Band.CRITICAL]), max_size=1).map(tuple),
        segment=st.lists(st.sampled_from(["smb", "SMB", "mid"]), max_size=1).map(tuple),
        sold=st.sampled_from([None, None, "direct", "reseller"]),
        value=st.sampled_from([None, None, 0, 10]),
    )
    found = draw(st.lists(matches, max_size=6))
    return [
        Playbook(name=str(number), version=1, title="", match=match)
        for number, match in enumerate(found)
    ]


@settings(max_examples=25)
@given(lists_of_playbooks())
def test_what_is_called_unreachable_is_what_no_work_gets(ordered: list[Playbook]) -> None:
    values = [Decimal(one) for one in (0, 5, 10, 99)]
    got = {
        Playbooks(tuple(ordered)).for_work(replace(one, segment=segment, value=value)).name
        for one in every_work()
        for segment in (None, "smb", "mid", "other")
        for value in ([one.value] if one.value is None else values)
    }
    catch_all = [one.name for one in ordered if one.match == Match()][:1]
    lost = {one.name for one, _ in unreachable(ordered)}
    assert lost == {one.name for one in ordered} - got - set(catch_all)


def test_the_types_of_reasons_are_those_of_scoring_and_of_ours() -> None:
    said = Sentiment(
        id=UUID(int=1),
        account_id="acme",
        mood=Mood.BAD,
        note="",
        by="anna",
        at=NOW,
        expires_at=NOW + timedelta(days=30),
    )
    own = (
        of_sentiment(said, AccountFields()),
        of_loss("acme", AccountFields(), change_id=UUID(int=2), is_lost=True, at=NOW),
    )
    assert {one.reason: one.type for one in own} | {
        reason: Kind(stage.value) for reason, stage in STAGES.items()
    } == dict(KINDS)
    assert {one.reason: severities_of(one.reason) for one in own} == {
        one.reason: (one.severity,) for one in own
    }
    for reason in FlagReason:
        bands = {severity_of(flag(reason=reason, band=band)) for band in (*Band, None)}
        assert bands == set(severities_of(reason)), reason


def every_work() -> Iterator[Work]:
    for reason, sold, value in product(KINDS, Sold, (None, Decimal(10), Decimal(10**6))):
        if value is not None and (is_opportunity(reason) or isinstance(reason, OwnReason)):
            continue
        for severity in severities_of(reason):
            yield work(reason, severity=severity, sold=sold, value=value)


def test_all_work_finds_a_playbook_of_the_pack_made_for_it() -> None:
    for one in every_work():
        found = PACK.for_work(one)
        assert found.name != "default", one
        assert (found.match.sold == "reseller") is (one.sold is Sold.RESELLER), one
        assert (found.owner == "reseller") is (one.sold is Sold.RESELLER), one


def test_the_pack_has_none_that_nothing_would_get() -> None:
    assert list(unreachable(PACK.ordered)) == []
    got = {PACK.for_work(one).name for one in every_work()}
    assert got == {one.name for one in PACK.ordered} - {"default"}


@pytest.mark.parametrize(
    ("one", "name"),
    [
        (work(FlagReason.ONBOARDING_STALLED), "onboarding_help"),
        (work(FlagReason.SEATS_IDLE), "adoption_training"),
        (work(FlagReason.SUPPORT_STRAIN), "support_recovery"),
        (work(FlagReason.RENEWAL_DUE), "business_review"),
        (work(FlagReason.GONE_SILENT), "silent_account"),
        (work(OwnReason.ACCOUNT_LOST, severity=Band.WATCH), "win_back"),
        (work(OwnReason.SENTIMENT), "repair_relationship"),
        (work(FlagReason.PAYMENT_FAILED), "payment_recovery"),
        (work(FlagReason.EXPANSION_READY, severity=Band.WATCH), "expansion"),
        (work(FlagReason.GOAL_MISSED), "goal_rescue"),
        (work(FlagReason.GOAL_MISSED, sold=Sold.RESELLER), "goal_rescue_reseller"),
        (work(FlagReason.GOAL_REACHED, severity=Band.WATCH), "success_story"),
        (work(FlagReason.CHAMPION_LOST, sold=Sold.RESELLER), "new_champion_reseller"),
        (work(severity=Band.CRITICAL, value=Decimal(25_000)), "executive_attention"),
        (work(severity=Band.CRITICAL, value=Decimal(24_999)), "adoption_training"),
        (work(severity=Band.CRITICAL), "adoption_training"),
    ],
)
def test_what_the_pack_does(one: Work, name: str) -> None:
    assert PACK.for_work(one).name == name


def test_each_playbook_of_the_pack_says_what_to_do_on_the_first_days() -> None:
    for one in PACK.ordered:
        assert len(one.tasks) >= 3, one.name
        assert min(task.due for task in one.tasks) <= 5, one.name
        dues = [task.due for task in one.tasks]
        assert dues == sorted(dues), one.name
        assert one.escalation, one.name


@pytest.mark.parametrize(
    ("severity", "day"), [(Band.CRITICAL, 2), (Band.AT_RISK, 4), (Band.WATCH, 8)]
)
def test_the_worse_the_sooner_it_is_due(severity: Band, day: int) -> None:
    """Monday and 1, 3, 5 working days: Tuesday, Thursday, the next Monday."""
    found = due_at(DEFAULT, severity, calendar=Calendar(), now=NOW)
    assert found == datetime(2026, 6, day, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "notice_by", "expected"),
    [
        pytest.param(TaskRule(title="", due=0), None, date(2026, 6, 1), id="the same day"),
        pytest.param(TaskRule(title="", due=5), None, date(2026, 6, 8), id="five working days"),
        pytest.param(
            TaskRule(title="", due=1, before_notice=30),
            date(2026, 8, 1),
            date(2026, 7, 2),
            id="30 days before the last day for notice: Thursday 2 July",
        ),
        pytest.param(
            TaskRule(title="", due=1, before_notice=30),
            date(2026, 8, 3),
            date(2026, 7, 6),
            id="that is Saturday 4 July: the Monday after",
        ),
        pytest.param(
            TaskRule(title="", due=1, before_notice=90),
            date(2026, 8, 1),
            date(2026, 6, 2),
            id="that is past: working days after the opening",
        ),
        pytest.param(
            TaskRule(title="", due=1, before_notice=90),
            None,
            date(2026, 6, 2),
            id="the last day for notice is not known",
        ),
    ],
)
def test_when_a_task_is_due(rule: TaskRule, notice_by: date | None, expected: date) -> None:
    found = task_due_at(rule, calendar=Calendar(), opened_at=NOW, notice_by=notice_by)
    assert found == datetime.combine(expected, Calendar().closes, tzinfo=UTC)
