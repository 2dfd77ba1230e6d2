"""The sentences that every channel shares."""

import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.channels import wording
from services.notifier.domain.interventions import Status
from services.notifier.domain.policy import NotifyReason
from shared.messages import Band, FlagReason, OutcomeKind, ValueAtRisk
from tests.unit.notifier.factories import item, message, reason


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("churn_risk", "Churn risk"),
        ("expansion_ready", "Ready to expand"),
        pytest.param("goal_dropped", "Goal dropped", id="one of a newer version"),
    ],
)
def test_a_reason_has_its_title(name: str, title: str) -> None:
    assert wording.name_of(name) == title


def test_an_opportunity_is_not_called_a_risk_whatever_it_comes_with() -> None:
    value = ValueAtRisk(amount=Decimal(100), currency="EUR", basis="mrr")
    told = item(
        reason=FlagReason.EXPANSION_READY,
        severity=Band.WATCH,
        value_at_risk=value,
        reasons=(reason("19 of 20 seats are in use.", weight=0.0),),
    )
    assert wording.headline(told) == "Opportunity"
    assert wording.why(told) == "Ready to expand: 19 of 20 seats are in use."


def test_the_risk_is_said_of_churn_risk_only() -> None:
    idle = (reason("3 of 20 seats are in use.", weight=0.0),)
    told = item(reason=FlagReason.SEATS_IDLE, risk=0.12, reasons=idle)
    assert wording.why(told) == "Seats idle: 3 of 20 seats are in use."
    assert wording.why(item(risk=0.31)).startswith("Churn risk 31 %: ")


def euros(amount: int) -> ValueAtRisk:
    return ValueAtRisk(amount=Decimal(amount), currency="EUR", basis="mrr")


@pytest.mark.parametrize("why", list(NotifyReason))
def test_every_reason_to_tell_has_its_line(why: NotifyReason) -> None:
    assert wording.WHY[why]


@pytest.mark.parametrize(
    ("changes", "headline", "deadline", "todo"),
    [
        pytest.param(
            {},
            "At risk: EUR 12,340",
            "act by Thu 4 Jun, 16:00",
            "Acknowledge it, then act",
            id="new",
        ),
        pytest.param(
            {"next_task": "Call\r\nthe sponsor"},
            "At risk: EUR 12,340",
            "act by Thu 4 Jun, 16:00",
            "Call the sponsor",
            id="the playbook says what to do",
        ),
        pytest.param(
            {"status": Status.ACKNOWLEDGED, "acknowledged_by": "ben@vendor.example"},
            "At risk: EUR 12,340",
            "act by Thu 4 Jun, 16:00",
            "Act, then close it with how it ended",
            id="acknowledged",
        ),
        pytest.param(
            {"snoozed_until": datetime(2026, 6, 20, 9, tzinfo=UTC)},
            "At risk: EUR 12,340",
            "snoozed until Sat 20 Jun, 09:00",
            "",
            id="snoozed",
        ),
        pytest.param(
            {"recovered": True},
            "Recovered: EUR 12,340 was at risk",
            "act by Thu 4 Jun, 16:00",
            "Close it with how it ended",
            id="recovered",
        ),
        pytest.param(
            {"status": Status.CLOSED, "outcome": OutcomeKind.SAVED},
            "Closed: Saved",
            "",
            "",
            id="closed",
        ),
    ],
)
def test_how_bad_until_when_and_what_to_do(
    changes: dict[str, Any], headline: str, deadline: str, todo: str
) -> None:
    one = item(**changes)
    assert (wording.headline(one), wording.deadline(one), wording.todo(one)) == (
        headline,
        deadline,
        todo,
    )


def test_an_account_counts_once_in_what_is_at_risk() -> None:
    """5,000 of acme, stated twice (the higher counts), 2,000 of beta, USD 10 of gamma."""
    items = [
        item(account_id="acme", value_at_risk=euros(4_000)),
        item(account_id="acme", value_at_risk=euros(5_000)),
        item(account_id="beta", value_at_risk=euros(2_000)),
        item(account_id="lost", value_at_risk=euros(90_000), recovered=True),
        item(account_id="done", value_at_risk=euros(90_000), outcome=OutcomeKind.CHURNED),
        item(
            account_id="gamma",
            value_at_risk=ValueAtRisk(amount=Decimal(10), currency="USD", basis="mrr"),
        ),
    ]
    assert wording.at_risk(items) == "EUR 7,000 + USD 10"
    assert wording.at_risk([]) == ""


def test_items_of_an_account_stand_together_in_the_order_given() -> None:
    first, second, third = (item(account_id=name) for name in ("b", "a", "b"))
    assert wording.by_account([first, second, third]) == [(first, third), (second,)]


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "Acme Ltd: At risk: EUR 12,340"),
        ({"why": NotifyReason.OVERDUE}, "Acme Ltd: At risk: EUR 12,340 (overdue)"),
        ({"more": 2}, "Acme Ltd: At risk: EUR 12,340, 2 others"),
        ({"why": NotifyReason.TEST, "items": ()}, "Perennial: test"),
        (
            {"why": NotifyReason.DIGEST, "items": (item(), item(account_id="beta"))},
            "Digest: 2 interventions on 2 accounts: EUR 24,681 at risk",
            # 2 x 12,340.50
        ),
        (
            {"why": NotifyReason.SUMMARY, "more": 11},
            "Several interventions at once: 12 interventions: more than EUR 12,340 at risk",
        ),
    ],
)
def test_the_title_says_who_and_how_much(changes: dict[str, Any], title: str) -> None:
    assert wording.title(message(**changes)) == title


def test_news_come_before_what_stands_beside() -> None:
    old = replace(item(), is_news=False)
    new = item(account_id="other")
    both = message(items=(old, new))
    assert (wording.news(both), wording.beside(both)) == ((new,), (old,))
    assert wording.news(message(items=(old,))) == (old,)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://evil.example/x", "https:\u2060//evil.\u2060example/x"),
        ("www.evil.example", "www.\u2060evil.\u2060example"),
        ("boss@evil.example", "boss@\u2060evil.\u2060example"),
        ("mailto:boss", "mailto:\u2060boss"),
        ("@everyone", "@\u2060everyone"),
        ("<!channel> <@U1>", "<\u2060!channel> <\u2060@\u2060U1>"),
        pytest.param(
            "Acme Ltd. 2.0, at 16:00: 3.5 %", "Acme Ltd. 2.0, at 16:00: 3.5 %", id="no address"
        ),
    ],
)
def test_no_program_finds_an_address_in_a_name(text: str, shown: str) -> None:
    assert wording.unlinked(text) == shown


def test_what_is_over_is_not_argued_for() -> None:
    over = item(recovered=True)
    assert wording.why(over) == "Churn risk has cleared"
    assert wording.evidence(over) == []
    assert wording.evidence(item()) == ["Active on 9 of 90 days; others 41: +0.8."]
    assert wording.evidence(item(reasons=())) == ["Churn risk 31 % (at risk)."]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("a\r\nBcc: b", "a Bcc: b", id="line breaks"),
        pytest.param("\u202eevil\u2066 \u200ex", "evil x", id="directions"),
        pytest.param("soft\u00adhy\ufeffphen\u2060", "softhyphen", id="invisible"),
        pytest.param("a\U000e0041\U000e0042", "a", id="hidden text in tags"),
        pytest.param("a \0 b", "a b", id="what is dropped leaves no gap"),
        pytest.param("\u200d", "", id="nothing that can be seen"),
        pytest.param("👩\u200d🚀 می\u200cخواهم", "👩\u200d🚀 می\u200cخواهم", id="joiners stay"),
    ],
)
def test_what_cannot_be_seen_is_dropped(text: str, shown: str) -> None:
    assert wording.clean(text) == shown


@given(st.text())
def test_clean_text_is_one_line_and_clean(text: str) -> None:
    shown = wording.clean(text)
    assert wording.clean(shown) == shown
    assert len(shown.splitlines()) <= 1
    marks = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert marks.isdisjoint(unicodedata.bidirectional(char) for char in shown)


@given(st.text(max_size=300), st.integers(min_value=2, max_value=50))
def test_cut_text_fits_and_is_a_beginning(text: str, limit: int) -> None:
    shown = wording.cut(text, limit)
    assert len(shown.encode("utf-16-le", "surrogatepass")) // 2 <= limit
    assert shown == text or (shown.endswith("…") and text.startswith(shown[:-1]))


def test_an_account_without_a_name_that_can_be_seen_is_called_by_its_id() -> None:
    assert wording.name(item(account_name="\u200b\u2066", account_id="acme")) == "acme"
