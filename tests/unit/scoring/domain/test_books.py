"""The books: who was a customer when, whatever came in when."""

from datetime import UTC, date, datetime

import pytest

from services.scoring.domain.books import Books
from services.scoring.domain.ledger import Ledger
from tests.unit.scoring.ledgers import LedgerAccount, account, ledger_of
from tests.unit.scoring.portfolios import FIRST_CHANGE, LONG_AGO

NOW = "2026-06-01T12:00"
ACTIVE = {"status": "active", "contract_start": "2020-02-01"}


def books_of(*accounts: LedgerAccount) -> Books:
    ledger: Ledger = ledger_of(*accounts, FIRST_CHANGE, as_of=NOW)
    return Books(ledger.versions, len(ledger.accounts))


def is_customer(one: LedgerAccount, day: str) -> bool:
    books = books_of(one)
    return bool(books.customers_at(date.fromisoformat(day).toordinal())[0])


def spans(one: LedgerAccount) -> list[tuple[str, str]]:
    """From which day to before which one the account is under contract; "" without end."""
    books = books_of(one)
    tenures = books.tenures
    mine = tenures.account == 0
    return [
        (_shown(began), _shown(gone))
        for began, gone in zip(
            tenures.began[mine].tolist(), tenures.gone[mine].tolist(), strict=True
        )
    ]


def _shown(day: int) -> str:
    return "" if not 1 < day < date.max.toordinal() else str(date.fromordinal(day))


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        pytest.param(
            {LONG_AGO: ACTIVE},
            [("2020-02-02", "")],
            id="a contract counts from the end of its first day: it is new in that day's period",
        ),
        pytest.param({LONG_AGO: {}}, [("", "")], id="nothing known: always a customer"),
        pytest.param({LONG_AGO: {"status": "trial"}}, [], id="a trial is no customer"),
        pytest.param(
            {LONG_AGO: {"status": "trial"}, "2026-01-10T12:00": {"status": "active"}},
            [("2026-01-11", "")],
            id="a trial that bought is one from the next midnight on",
        ),
        pytest.param(
            {LONG_AGO: ACTIVE, "2026-01-12T12:00": ACTIVE | {"churned_at": "2026-01-10"}},
            [("2020-02-02", "2026-01-11")],
            id="lost on the 10th, known on the 12th: the day's own period counts it",
        ),
        pytest.param(
            {LONG_AGO: ACTIVE, "2026-01-17T23:00": ACTIVE | {"churned_at": "2026-01-10"}},
            [("2020-02-02", "2026-01-11")],
            id="known on the 17th: the books of the 11th close with it",
        ),
        pytest.param(
            {LONG_AGO: ACTIVE, "2026-01-18T00:00": ACTIVE | {"churned_at": "2026-01-10"}},
            [("2020-02-02", "2026-01-12")],
            id="known on the 18th: too late for the books of the 11th, it counts on the 11th",
        ),
        pytest.param(
            {LONG_AGO: ACTIVE, "2026-03-20T12:00": ACTIVE | {"churned_at": "2026-01-10"}},
            [("2020-02-02", "2026-03-14")],
            id="known in March: January's books are closed, it counts on 20 - 7 = the 13th",
        ),
        pytest.param(
            {LONG_AGO: ACTIVE, "2026-01-12T12:00": ACTIVE | {"churned_at": "2026-04-30"}},
            [("2020-02-02", "2026-05-01")],
            id="notice given ahead: lost on its day",
        ),
        pytest.param(
            {
                LONG_AGO: ACTIVE,
                "2026-01-12T12:00": ACTIVE | {"churned_at": "2026-04-30"},
                "2026-02-01T12:00": ACTIVE,
            },
            [("2020-02-02", "")],
            id="notice taken back: never lost",
        ),
        pytest.param(
            {
                LONG_AGO: ACTIVE,
                "2026-01-11T12:00": ACTIVE | {"status": "churned", "churned_at": "2026-01-10"},
                "2026-01-14T12:00": ACTIVE,
            },
            [("2020-02-02", "")],
            id="churned by mistake, corrected before the books closed: never lost",
        ),
        pytest.param(
            {
                LONG_AGO: ACTIVE,
                "2026-01-11T12:00": ACTIVE | {"status": "churned", "churned_at": "2026-01-10"},
                "2026-04-20T12:00": ACTIVE | {"status": "churned", "churned_at": "2026-04-15"},
            },
            [("2020-02-02", "2026-01-11")],
            id="a date moved after the books closed does not make it leave twice",
        ),
        pytest.param(
            {
                LONG_AGO: ACTIVE,
                "2026-01-11T12:00": ACTIVE | {"status": "churned", "churned_at": "2026-01-10"},
                "2026-04-20T12:00": {"status": "active", "contract_start": "2026-04-18"},
            },
            [("2020-02-02", "2026-01-11"), ("2026-04-19", "")],
            id="won back: a new contract, a new tenure",
        ),
        pytest.param(
            {
                LONG_AGO: ACTIVE,
                "2026-01-11T12:00": ACTIVE | {"status": "churned", "churned_at": "2026-01-10"},
                "2026-04-20T12:00": ACTIVE | {"churned_at": "2026-01-10"},
                "2026-05-20T12:00": ACTIVE | {"churned_at": "2026-01-10", "owner": "ada"},
            },
            [("2020-02-02", "2026-01-11"), ("2026-04-14", "")],
            id="won back, the old date left standing: it is no news; on the books from 20 - 6",
        ),
        pytest.param(
            {LONG_AGO: ACTIVE, "2026-01-11T12:00": {"status": "churned"}},
            [("2020-02-02", "2026-01-12")],
            id="no date: lost on the day on which it was told",
        ),
        pytest.param(
            {
                LONG_AGO: ACTIVE,
                "2026-01-12T12:00": {"status": "active", "contract_start": "2026-02-01"},
            },
            [("2020-02-02", "")],
            id="the next contract's start is no break",
        ),
        pytest.param(
            {"2026-03-10T12:00": {"status": "active", "contract_start": "2026-03-08"}},
            [("2026-03-09", "")],
            id="a newcomer told within a week: new on its day",
        ),
        pytest.param(
            {"2026-03-10T12:00": {"status": "active", "contract_start": "2025-01-01"}},
            [("2026-03-04", "")],
            id="a newcomer told a year late: closed books stay, it is new on 10 - 7 = the 3rd",
        ),
        pytest.param(
            {"2026-03-10T12:00": {"status": "active"}},
            [("2026-03-11", "")],
            id="a newcomer without a date: new on the day on which it was told",
        ),
        pytest.param(
            {"2020-01-20": ACTIVE | {"contract_start": "2019-01-01"}},
            [("2019-01-02", "")],
            id="the directory's first load holds for all the time before",
        ),
        pytest.param(
            {LONG_AGO: {"status": "churned", "churned_at": "2019-05-01"}},
            [("", "2019-05-02")],
            id="a loss in the first load was on its day",
        ),
    ],
)
def test_a_customer_is_one_from_to(
    versions: dict[str, dict[str, str]], expected: list[tuple[str, str]]
) -> None:
    assert spans(account("acme", versions)) == expected


def test_without_any_change_all_is_the_first_load() -> None:
    late = account("acme", {"2026-03-10T12:00": {"contract_start": "2025-01-01"}})
    ledger = ledger_of(late, as_of=NOW)
    books = Books(ledger.versions, len(ledger.accounts))
    assert books.customers_at(date(2025, 1, 2).toordinal()).tolist() == [True]


def test_the_opening_ended_when_it_did_though_whose_change_ended_it_is_erased() -> None:
    """Else a record that came later would hold for all the past: figures of years would change."""
    late = account("acme", {"2026-03-10T12:00": {"contract_start": "2025-01-01"}})
    ledger = ledger_of(late, as_of=NOW)
    january = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 10**6)
    books = Books(ledger.versions, len(ledger.accounts), erased_since=january)
    assert books.customers_at(date(2025, 1, 2).toordinal()).tolist() == [False]
    assert books.customers_at(date(2026, 3, 11).toordinal()).tolist() == [True]


def test_an_account_without_a_record_is_no_customer() -> None:
    assert not is_customer(account("acme"), "2026-01-01")


def test_an_empty_ledger_has_books() -> None:
    ledger = ledger_of(as_of=NOW)
    books = Books(ledger.versions, 0)
    assert (len(books.tenures.account), books.customers_at(700_000).size) == (0, 0)
    assert books.version_at(700_000).size == 0


def test_a_contract_may_begin_on_a_leap_day() -> None:
    leap = account("acme", {LONG_AGO: {"contract_start": "2024-02-29"}})
    assert not is_customer(leap, "2024-02-29")
    assert is_customer(leap, "2024-03-01")
