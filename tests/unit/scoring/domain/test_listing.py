"""Lists: leafing through any of them shows each account that matches once, in order."""

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.cuts import Cut
from services.scoring.domain.ledger import Ledger
from services.scoring.domain.listing import (
    MOST_VALUES,
    After,
    Asked,
    Order,
    Sort,
    facets,
    names_of,
    page,
)
from shared.messages import Band
from tests.unit.scoring.ledgers import LedgerAccount, account, ledger_of

NOW = "2026-03-01"
TODAY = date(2026, 3, 1).toordinal()
EVERYBODY = Asked(wanted={})
NUMBERS = st.sampled_from([None, 0.0, 0.25, 1.0])
ACCOUNTS = st.dictionaries(
    st.sampled_from([f"a{number}" for number in range(12)]),
    st.fixed_dictionaries(
        {
            "risk": NUMBERS,
            "value_at_risk": NUMBERS,
            "mrr": NUMBERS,
            "name": st.sampled_from(["Ada", "ada", "Zoë", None]),
            "contract_end": st.sampled_from([None, "2026-03-01", "2026-04-01"]),
            "recorded": st.booleans(),
        }
    ),
)


def made_of(known: dict[str, Any]) -> LedgerAccount:
    of_directory = ("mrr", "name", "contract_end")
    version = {field: known[field] for field in of_directory if known[field] is not None}
    return account(
        known["id"],
        {"2026-01-01": version} if known["recorded"] else None,
        risk=known["risk"],
        value_at_risk=known["value_at_risk"],
    )


def leaf(ledger: Ledger, asked: Asked, order: Order, limit: int) -> list[str]:
    found: list[str] = []
    after: After | None = None
    while True:
        shown = page(
            ledger, names_of(ledger), asked, order=order, after=after, limit=limit, today=TODAY
        )
        assert len(shown.accounts) <= limit
        found += [ledger.accounts[place] for place in shown.accounts]
        assert len(found) == len(set(found))
        after = shown.next_after
        if after is None:
            assert shown.total == len(found)
            return found


def value_of(known: dict[str, Any], sort: Sort) -> Any:
    """What the account is sorted by, from its plain values; None where there is none."""
    match sort:
        case Sort.RISK | Sort.VALUE_AT_RISK:
            return known[sort]
        case Sort.ACCOUNT:
            return known["id"]
        case Sort.NAME:
            name = known["name"] if known["recorded"] else None
            return (name or known["id"]).casefold()
        case _:
            field = "contract_end" if sort is Sort.RENEWAL_DATE else sort
            return known[field] if known["recorded"] else None


@given(
    stored=ACCOUNTS,
    sort=st.sampled_from(Sort),
    falling=st.booleans(),
    limit=st.integers(1, 4),
)
def test_leafing_shows_each_account_once_and_in_order(
    *, stored: dict[str, dict[str, Any]], sort: Sort, falling: bool, limit: int
) -> None:
    known = [{"id": name} | values for name, values in sorted(stored.items())]
    ledger = ledger_of(*(made_of(one) for one in known), as_of=NOW)
    valued = [one for one in known if value_of(one, sort) is not None]
    values = sorted({value_of(one, sort) for one in valued}, reverse=falling)
    expected = [one["id"] for value in values for one in valued if value_of(one, sort) == value]
    expected += [one["id"] for one in known if value_of(one, sort) is None]
    assert leaf(ledger, EVERYBODY, Order(sort=sort, falling=falling), limit) == expected


@given(
    stored=ACCOUNTS,
    gone=st.sets(st.sampled_from([f"a{number}" for number in range(12)])),
    sort=st.sampled_from(Sort),
    falling=st.booleans(),
)
def test_who_stays_in_place_is_seen_once_though_others_leave_between_two_pages(
    *, stored: dict[str, dict[str, Any]], gone: set[str], sort: Sort, falling: bool
) -> None:
    order = Order(sort=sort, falling=falling)
    every = [made_of({"id": name} | values) for name, values in stored.items()]
    ledger = ledger_of(*every, as_of=NOW)
    first = page(ledger, names_of(ledger), EVERYBODY, order=order, after=None, limit=3, today=TODAY)
    if first.next_after is None:
        return
    left = ledger_of(*(one for one in every if one.name not in gone), as_of=NOW)
    rest = page(
        left, names_of(left), EVERYBODY, order=order, after=first.next_after, limit=99, today=TODAY
    )
    seen = [ledger.accounts[place] for place in first.accounts]
    later = [left.accounts[place] for place in rest.accounts]
    whole = [ledger.accounts[place] for place in page(
        ledger, names_of(ledger), EVERYBODY, order=order, after=None, limit=99, today=TODAY
    ).accounts]  # fmt: skip
    assert later == [name for name in whole if name not in gone and name not in seen]


SOME = ledger_of(
    account(
        "acme",
        {"2026-01-01": {"name": "ACME Größe", "owner": "ada", "contract_end": "2026-03-31"}},
        band=Band.AT_RISK,
    ),
    account("globex", {"2026-01-01": {"owner": "ada", "contract_end": "2026-03-31"}}, state=None),
    account(
        "left",
        {"2026-01-01": {"contract_end": "2026-03-31", "churned_at": "2026-03-01"}},
        band=Band.HEALTHY,
    ),
    account("over", {"2026-01-01": {"contract_end": "2026-02-28"}}),
    account(
        "rolls",
        {"2026-01-01": {"contract_start": "2025-01-15", "billing_period": "month"}},
    ),
    as_of=NOW,
)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (EVERYBODY, ["acme", "globex", "left", "over", "rolls"]),
        (replace(EVERYBODY, wanted={Cut.OWNER: "ada"}), ["acme", "globex"]),
        (replace(EVERYBODY, text="GRÖSSE"), ["acme"]),  # ß folds to ss.
        (replace(EVERYBODY, text="glob"), ["globex"]),
        (replace(EVERYBODY, text="acme\nglobex"), []),
        (replace(EVERYBODY, band=Band.AT_RISK), ["acme"]),
        (replace(EVERYBODY, band=Band.AT_RISK, text="globex"), []),
        # 31 March is 30 days away; the month of "rolls" ends on 15 March; "over" was due.
        (replace(EVERYBODY, renews_within_days=30), ["acme", "globex", "rolls"]),
        (replace(EVERYBODY, renews_within_days=29), ["rolls"]),
    ],
)
def test_a_list_holds_who_matches_all_that_is_asked(asked: Asked, found: list[str]) -> None:
    assert leaf(SOME, asked, Order(sort=Sort.ACCOUNT, falling=False), 2) == found


def test_what_is_overdue_comes_first_and_who_left_renews_nothing() -> None:
    order = Order(sort=Sort.RENEWAL_DATE, falling=False)
    assert leaf(SOME, EVERYBODY, order, 2) == ["over", "rolls", "acme", "globex", "left"]


def test_a_name_that_nobody_has_any_more_is_still_a_place() -> None:
    ledger = ledger_of(*(account(name) for name in ("ada", "cleo", "eve")), as_of=NOW)
    for falling, found in ((False, ["cleo", "eve"]), (True, ["ada"])):
        shown = page(
            ledger,
            names_of(ledger),
            EVERYBODY,
            order=Order(sort=Sort.NAME, falling=falling),
            after=After(value="bob", account="bob"),
            limit=9,
            today=TODAY,
        )
        assert [ledger.accounts[place] for place in shown.accounts] == found


def test_a_facet_is_counted_among_those_that_match_the_other_filters() -> None:
    found = facets(SOME, {Cut.OWNER: "ada"})
    assert found["owner"].values == ((None, 3), ("ada", 2))
    assert found["sales"].values == (("direct", 2),)
    # globex has not been looked at.
    assert found["band"].values == ((None, 1), ("at_risk", 1))


@given(stored=ACCOUNTS)
def test_the_values_of_a_facet_sum_to_all_accounts(stored: dict[str, dict[str, Any]]) -> None:
    ledger = ledger_of(
        *(made_of({"id": name} | values) for name, values in stored.items()), as_of=NOW
    )
    for facet in facets(ledger, {}).values():
        assert sum(count for _, count in facet.values) == len(ledger.accounts)


def test_a_facet_names_the_most_frequent_values_and_says_how_many_are_left() -> None:
    owners = [f"owner {number}" for number in range(MOST_VALUES + 5)]
    ledger = ledger_of(
        *(account(f"{owner} a", {"2026-01-01": {"owner": owner}}) for owner in owners),
        account("once more", {"2026-01-01": {"owner": owners[-1]}}),
        as_of=NOW,
    )
    found = facets(ledger, {})["owner"]
    assert (len(found.values), found.more) == (MOST_VALUES, 5)
    assert found.values[0] == (owners[-1], 2)


def test_of_many_equal_values_a_page_takes_the_first_by_id() -> None:
    ledger = ledger_of(*(account(f"a{number:03}", risk=0.5) for number in range(50)), as_of=NOW)
    order = Order(sort=Sort.RISK, falling=True)
    assert leaf(ledger, EVERYBODY, order, 7) == list(ledger.accounts)
    assert np.isfinite(ledger.today.risk).all()


@pytest.mark.parametrize(
    ("start", "listed"),
    [
        pytest.param("2025-09-01", 1, id="back by a later contract"),
        pytest.param("2025-05-01", 0, id="lost, though the status was left standing"),
    ],
)
def test_who_was_won_back_has_a_renewal_to_come(start: str, listed: int) -> None:
    ledger = ledger_of(
        account(
            "acme",
            {
                "2026-01-01": {
                    "status": "active",
                    "churned_at": "2025-06-01",
                    "contract_start": start,
                    "contract_end": "2026-07-01",
                }
            },
        ),
        as_of="2026-06-01T12:00",
    )
    found = page(
        ledger,
        names_of(ledger),
        Asked(wanted={}, renews_within_days=60),
        order=Order(sort=Sort.RENEWAL_DATE, falling=False),
        after=None,
        limit=5,
        today=date(2026, 6, 1).toordinal(),
    )
    assert found.total == listed
