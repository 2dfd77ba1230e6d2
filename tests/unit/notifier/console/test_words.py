"""Everything that can happen, or be refused, has its words."""

from collections.abc import Collection
from datetime import timedelta
from enum import StrEnum

import pytest

from services.notifier.composing import DeliveryKind
from services.notifier.console import refusals, words
from services.notifier.domain.assignment import Because
from services.notifier.domain.attempts import Class, State
from services.notifier.domain.people import Mode, Person, Roster, Team
from services.notifier.domain.policy import SuppressReason
from services.notifier.domain.priority import Factors
from services.notifier.domain.refusals import Refusal
from services.notifier.domain.sentiments import Mood
from services.notifier.domain.silences import Refused
from services.notifier.domain.silences import State as SilenceState
from services.notifier.store import Entry

COMPLETE: list[tuple[Collection[object], type[StrEnum]]] = [
    (words.ENTRIES, Entry),
    (words.SUPPRESSED, SuppressReason),
    (words.KINDS, DeliveryKind),
    (words.STATES, State),
    (words.MODES, Mode),
    (words.MOODS, Mood),
    (words.BECAUSE, Because),
    (words.SILENCE_STATES, SilenceState),
    (refusals.SAID, Refusal),
    (refusals.SILENCE, Refused),
]


@pytest.mark.parametrize(
    ("said", "kind"), COMPLETE, ids=[f"{kind.__module__}.{kind.__name__}" for _, kind in COMPLETE]
)
def test_nothing_is_without_words(said: Collection[object], kind: type[StrEnum]) -> None:
    assert set(said) == set(kind)


def test_each_failure_has_words() -> None:
    assert set(words.FAILURES) == set(Class) - {Class.SENT}


@pytest.mark.parametrize("entry", Entry)
def test_an_entry_without_its_details_can_be_read(entry: Entry) -> None:
    # Rows of an older version say less.
    assert words.happened(entry.value, {})


def test_what_people_wrote_is_no_template() -> None:
    detail = {"until": "2026-06-04T12:00:00+00:00", "reason": "{until.__class__} {0} %s"}
    said = words.happened("snoozed", detail)
    assert said == "Snoozed until 4 Jun 2026, 12:00 UTC: {until.__class__} {0} %s"


@pytest.mark.parametrize(
    ("kind", "detail", "said"),
    [
        (
            "opened",
            {"owner": "ben@x.example", "because": "team", "playbook": "adoption"},
            "Intervention opened for ben@x.example (a rule names their team), playbook adoption",
        ),
        (
            "notified",
            {"channel": "email", "to": "ben@x.example", "reason": "overdue"},
            "Told by e-mail to ben@x.example: overdue",
        ),
        (
            "suppressed",
            {"channel": "webhook", "to": "crm", "reason": "snoozed"},
            "Not told by webhook crm: It is snoozed",
        ),
        ("not_delivered", {"channel": "slack", "reason": "bad_message"},
         "Could not be delivered by Slack: refused the message"),
        ("suppressed", {"channel": "none", "reason": "of_later"}, "Not told: of_later"),
        ("sentiment", {"mood": "bad", "until": "2026-06-04T00:00:00+00:00"},
         "Sentiment: bad, until 4 Jun 2026, 00:00 UTC"),
    ],
)  # fmt: skip
def test_an_entry_says_what_happened(kind: str, detail: dict[str, str], said: str) -> None:
    assert words.happened(kind, detail) == said


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (timedelta(seconds=20), "0 min"),
        (timedelta(minutes=61), "1 h 1 min"),
        (timedelta(hours=24), "1 d"),
        (timedelta(days=2, hours=3, minutes=50), "2 d 3 h"),
        (None, ""),
    ],
)
def test_a_time_is_said_in_two_units(length: timedelta | None, said: str) -> None:
    assert words.span(length) == said


def test_a_priority_is_shown_as_the_product_it_is() -> None:
    one = Factors(severity=1.5, value=12_340, currency="EUR", nearness=1.98, days=92)
    said = "1.5 (severity) × 12,340 EUR × 1.98 (92 days left)"
    assert words.product_of(one) == said
    unknown = Factors(severity=2, value=1, currency=None, nearness=2, days=None)
    assert "value not known" in words.product_of(unknown)
    assert "notice and renewal not known" in words.product_of(unknown)


def test_colleagues_are_all_whom_the_team_file_names_once() -> None:
    roster = Roster(
        fallback_owner="desk@x.example",
        fallback_lead="lea@x.example",
        people=(Person(address="Anna@x.example"),),
        teams=(Team(name="eu", lead="lea@x.example", members=("anna@x.example", "b@x.example")),),
    )
    found = ["Anna@x.example", "b@x.example", "desk@x.example", "lea@x.example"]
    assert sorted(words.colleagues(roster)) == found
