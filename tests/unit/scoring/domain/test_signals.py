"""Which events are signals, and what bad properties make of them."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.activity import user_key
from services.scoring.domain.signals import (
    SEVERE,
    TYPES,
    severity_rank,
    signal_of,
    subject_key,
)
from services.scoring.domain.tally import tally
from services.scoring.domain.usage import SignalKind
from tests.unit.scoring.factories import NOW, usage_event

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
NAMES = [
    "ticket_id", "severity", "state", "effective_on", "scale", "score", "milestone", "metric",
    "value",
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "properties", "expected"),
    [
        (
            "cancellation_requested",
            {"effective_on": "2026-12-31"},
            (SignalKind.CANCELLATION_REQUESTED, None, float(date(2026, 12, 31).toordinal())),
        ),
        (
            "cancellation_requested",
            {"effective_on": "2026-12-31T23:00:00Z"},
            (SignalKind.CANCELLATION_REQUESTED, None, float(date(2026, 12, 31).toordinal())),
        ),
        (
            "cancellation_requested",
            {"effective_on": "soon"},
            (SignalKind.CANCELLATION_REQUESTED, None, None),
        ),
        ("cancellation_withdrawn", {}, (SignalKind.CANCELLATION_WITHDRAWN, None, None)),
        ("payment_failed", {"amount": 49}, (SignalKind.PAYMENT_FAILED, None, None)),
        ("payment_succeeded", {}, (SignalKind.PAYMENT_SUCCEEDED, None, None)),
        (
            "support_ticket",
            {"ticket_id": "T-1", "severity": "urgent", "state": "open"},
            (SignalKind.TICKET_OPENED, subject_key("T-1"), 4.0),
        ),
        (
            "support_ticket",
            {"ticket_id": 17, "state": "Solved", "severity": "urgent"},
            (SignalKind.TICKET_CLOSED, subject_key("17"), None),
        ),
        ("support_ticket", {"severity": []}, (SignalKind.TICKET_OPENED, None, None)),
        ("feedback", {"scale": "NPS", "score": 10}, (SignalKind.FEEDBACK_NPS, None, 10.0)),
        ("feedback", {"scale": "csat", "score": 1}, (SignalKind.FEEDBACK_CSAT, None, 1.0)),
        ("feedback", {"scale": "ces", "score": 7}, (SignalKind.FEEDBACK_CES, None, 7.0)),
        (
            "onboarding_milestone",
            {"milestone": " first import "},
            (SignalKind.MILESTONE, subject_key("first import"), None),
        ),
        ("onboarding_milestone", {"milestone": 3.5}, (SignalKind.MILESTONE, None, None)),
        (
            "goal_metric",
            {"metric": "time saved", "value": -2},
            (SignalKind.GOAL_METRIC, subject_key("time saved"), -2.0),
        ),
    ],
)
def test_what_a_signal_says(
    kind: str,
    properties: dict[str, object],
    expected: tuple[SignalKind, int | None, float | None],
) -> None:
    signal = signal_of(usage_event(type=kind, properties=properties))
    assert signal is not None
    assert (signal.kind, signal.subject, signal.value) == expected
    assert (signal.account, signal.user) == ("acme", user_key("u1:ada"))
    assert (signal.occurred_at, signal.received_at) == (NOW, NOW)


@pytest.mark.parametrize(
    ("kind", "properties"),
    [
        ("feedback", {"scale": "nps", "score": 11}),
        ("feedback", {"scale": "nps", "score": -1}),
        ("feedback", {"scale": "csat", "score": 0}),
        ("feedback", {"scale": "ces", "score": 8}),
        ("feedback", {"scale": "stars", "score": 4}),
        ("feedback", {"scale": "nps", "score": True}),
        ("feedback", {"scale": "nps", "score": float("nan")}),
        ("feedback", {"score": 4}),
        ("goal_metric", {"metric": "time saved"}),
        ("goal_metric", {"metric": "", "value": 1}),
        ("goal_metric", {"metric": "time saved", "value": 10**400}),
        ("login", {"scale": "nps", "score": 4}),
        ("plan_changed", {}),
    ],
    ids=repr,
)
def test_what_says_nothing_is_no_signal(kind: str, properties: dict[str, object]) -> None:
    assert signal_of(usage_event(type=kind, properties=properties)) is None


@given(st.sampled_from(sorted(TYPES)), st.dictionaries(st.sampled_from(NAMES), JSON))
def test_no_property_makes_an_event_unreadable(kind: str, properties: dict[str, object]) -> None:
    signal = signal_of(usage_event(type=kind, properties=properties, user=None))
    if signal is not None:
        assert signal.user is None
        assert signal.subject is None or -(2**63) <= signal.subject < 2**63
        assert signal.value is None or abs(signal.value) < float("inf")


@pytest.mark.parametrize(
    ("severity", "rank"),
    [
        ("low", 1.0),
        ("Normal", 2.0),
        (" medium ", 2.0),
        ("high", 3.0),
        ("critical", 4.0),
        ("sev1", 4.0),
        ("SEV-2", 3.0),
        ("p4", 1.0),
        ("S0", 4.0),
        (2, 2.0),
        ("3", 3.0),
        (9, 4.0),
        (-1, None),
        ("whatever", None),
        (None, None),
        (True, None),
    ],
    ids=repr,
)
def test_a_severity_has_a_rank(severity: object, rank: float | None) -> None:
    assert severity_rank(severity) == rank


def test_high_and_urgent_are_severe() -> None:
    ranks = [severity_rank(word) for word in ("low", "normal", "high", "urgent")]
    assert [rank is not None and rank >= SEVERE for rank in ranks] == [False, False, True, True]


def test_a_milestone_is_activity_too() -> None:
    milestone = usage_event(type="onboarding_milestone", properties={"milestone": "import"})
    (day,) = tally([(1, milestone)]).deltas.values()
    assert (day.events, signal_of(milestone) is not None) == (1, True)
