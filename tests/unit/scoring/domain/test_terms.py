"""Contracts that came to their end: what is due when, and what became of it."""

from datetime import date
from typing import Any

import pytest

from services.scoring.domain.books import Books
from services.scoring.domain.terms import Outcome, Terms, terms_of
from tests.unit.scoring.ledgers import account, ledger_of
from tests.unit.scoring.portfolios import FIRST_CHANGE, LONG_AGO

NOW = "2026-12-01T12:00"
NEVER = ""


def contract(end: str | None, **fields: Any) -> dict[str, Any]:
    return {"status": "active", "billing_period": "year", "contract_end": end} | fields


def terms(versions: dict[str, dict[str, Any]]) -> tuple[Terms, Books]:
    ledger = ledger_of(account("acme", versions), FIRST_CHANGE, as_of=NOW)
    books = Books(ledger.versions, len(ledger.accounts))
    return terms_of(books), books


def told(versions: dict[str, dict[str, Any]]) -> list[tuple[str, str, str]]:
    """What became of each term that came to be due, when it was due, when that counts."""
    found, _ = terms(versions)
    return [
        (Outcome(outcome).name.lower(), _shown(due), _shown(decided))
        for outcome, due, decided in zip(
            found.outcome.tolist(), found.due.tolist(), found.decided.tolist(), strict=True
        )
        if outcome != Outcome.CORRECTED or decided > due
    ]


def _shown(day: int) -> str:
    return NEVER if day > date.max.toordinal() else str(date.fromordinal(day))


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        pytest.param(
            {LONG_AGO: contract("2026-06-30")},
            [("pending", "2026-06-30", NEVER)],
            id="nobody has said anything yet",
        ),
        pytest.param(
            {LONG_AGO: contract("2026-06-30"), "2026-05-10T12:00": contract("2027-06-30")},
            [("renewed", "2026-06-30", "2026-06-30"), ("pending", "2027-06-30", NEVER)],
            id="renewed early: it counts when it was due",
        ),
        pytest.param(
            {LONG_AGO: contract("2026-06-30"), "2026-07-05T12:00": contract("2027-06-30")},
            [("renewed", "2026-06-30", "2026-06-30"), ("pending", "2027-06-30", NEVER)],
            id="renewed within a week: as if on time",
        ),
        pytest.param(
            {LONG_AGO: contract("2026-06-30"), "2026-08-10T12:00": contract("2027-06-30")},
            [("renewed", "2026-06-30", "2026-08-03"), ("pending", "2027-06-30", NEVER)],
            id="renewed late: June's books are closed, it counts on 10 - 7 = 3 August",
        ),
        pytest.param(
            {LONG_AGO: contract("2026-12-31"), "2026-07-03T12:00": contract("2027-06-30")},
            [("pending", "2027-06-30", NEVER)],
            id="181 days before its end: the contract was corrected",
        ),
        pytest.param(
            {LONG_AGO: contract("2026-12-31"), "2026-07-04T12:00": contract("2027-12-31")},
            [("renewed", "2026-12-31", "2026-12-31"), ("pending", "2027-12-31", NEVER)],
            id="180 days before its end: it was renewed",
        ),
        pytest.param(
            {
                LONG_AGO: contract("2026-06-30"),
                "2026-06-01T12:00": contract("2062-06-30"),
                "2026-06-02T12:00": contract("2026-06-30"),
            },
            [("pending", "2026-06-30", NEVER)],
            id="a slip of the keys that was mended in time renews nothing",
        ),
        pytest.param(
            {
                LONG_AGO: contract("2026-06-30"),
                "2026-06-01T12:00": contract("2062-06-30"),
                "2026-06-02T12:00": contract("2027-06-30"),
            },
            [("renewed", "2026-06-30", "2026-06-30"), ("pending", "2027-06-30", NEVER)],
            id="nor is it due itself",
        ),
        pytest.param(
            {LONG_AGO: contract("2026-06-30"), "2026-06-01T12:00": contract("2026-05-31")},
            [("pending", "2026-05-31", NEVER)],
            id="moved to an earlier day: due on that one",
        ),
        pytest.param(
            {LONG_AGO: contract("2026-06-30"), "2026-07-20T12:00": contract("2026-05-31")},
            [("corrected", "2026-06-30", "2026-07-13"), ("pending", "2026-07-13", NEVER)],
            id="too late for June's books: pending in them, due when the news came",
        ),
        pytest.param(
            {
                LONG_AGO: contract("2026-06-30"),
                "2026-07-01T12:00": contract("2026-06-30", churned_at="2026-06-30"),
            },
            [("lost", "2026-06-30", "2026-06-30")],
            id="lost at its end",
        ),
        pytest.param(
            {
                LONG_AGO: contract("2026-06-30"),
                "2026-02-11T12:00": contract("2026-06-30", churned_at="2026-02-10"),
            },
            [("lost", "2026-06-30", "2026-06-30")],
            id="lost before its end: not renewed when it is due",
        ),
        pytest.param(
            {
                LONG_AGO: contract("2026-06-30"),
                "2026-08-12T12:00": contract("2026-06-30", churned_at="2026-08-10"),
            },
            [("lost", "2026-06-30", "2026-08-10")],
            id="lost after its end: until then it was pending",
        ),
        pytest.param(
            {
                LONG_AGO: contract("2026-06-30"),
                "2026-06-29T12:00": contract(None, status="churned", churned_at="2026-06-29"),
            },
            [("lost", "2026-06-30", "2026-06-30")],
            id="who is lost leaves the contract that it had",
        ),
        pytest.param(
            {
                LONG_AGO: contract("2026-06-30"),
                "2026-02-11T12:00": contract("2026-06-30", churned_at="2026-02-10"),
                "2026-04-11T12:00": contract("2027-04-11"),
            },
            [("renewed", "2026-06-30", "2026-06-30"), ("pending", "2027-04-11", NEVER)],
            id="won back before it was due",
        ),
        pytest.param(
            {
                LONG_AGO: contract("2026-06-30"),
                "2026-02-11T12:00": contract("2026-06-30", churned_at="2026-02-10"),
                "2026-04-11T12:00": contract("2026-06-30"),
            },
            [("pending", "2026-06-30", NEVER)],
            id="won back with the contract that it had: to be renewed again",
        ),
        pytest.param(
            {LONG_AGO: contract("2026-06-30", billing_period="month")},
            [],
            id="what renews every month is never due",
        ),
        pytest.param({LONG_AGO: contract("2026-06-30", status="trial")}, [], id="nor is a trial"),
        pytest.param({LONG_AGO: contract(None)}, [], id="nor what has no end"),
        pytest.param(
            {LONG_AGO: contract("2024-02-29"), "2024-03-01T12:00": contract("2025-02-28")},
            [("renewed", "2024-02-29", "2024-02-29"), ("pending", "2025-02-28", NEVER)],
            id="a leap day",
        ),
    ],
)
def test_a_term_is_due_once_and_decided_once(
    versions: dict[str, dict[str, Any]], expected: list[tuple[str, str, str]]
) -> None:
    assert told(versions) == expected


@pytest.mark.parametrize(
    ("versions", "mrr"),
    [
        pytest.param(
            {
                LONG_AGO: contract("2026-06-30", mrr=9),
                "2026-03-01": contract("2026-06-30", mrr=8),
            },
            8,
            id="the one in force when it is due",
        ),
        pytest.param(
            {
                LONG_AGO: contract("2026-06-30", mrr=9),
                "2026-06-01": contract("2027-06-30", mrr=11),
            },
            9,
            id="not that of the contract that follows it",
        ),
        pytest.param(
            {
                LONG_AGO: contract("2026-06-30", mrr=9),
                "2026-06-01": contract("2026-06-30", mrr=0, churned_at="2026-05-31"),
            },
            9,
            id="nor nothing, since it was lost",
        ),
    ],
)
def test_the_price_that_is_up_for_renewal(versions: dict[str, dict[str, Any]], mrr: float) -> None:
    found, books = terms(versions)
    assert books.versions.mrr[found.version[0]] == mrr
