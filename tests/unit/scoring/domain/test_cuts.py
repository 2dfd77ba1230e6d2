"""Cuts: every account has one value in each, and filters take those that have all of them."""

import numpy as np
import pytest

from services.scoring.domain.cuts import Cut, Parts, matching, parts
from services.scoring.domain.ledger import Ledger, LifeStage
from tests.unit.scoring.ledgers import account, ledger_of, micros

NOW = "2026-03-01"
LEDGER = ledger_of(
    account(
        "acme",
        {"2025-01-01": {"owner": "ada", "region": "eu"}, "2026-01-01": {"owner": "bob"}},
        stages={"2025-06-01": LifeStage.ADOPT},
    ),
    account("globex", {"2025-01-01": {"owner": "ada", "reseller": "Initech", "currency": "EUR"}}),
    account("unrecorded"),
    as_of=NOW,
)


def cut_at(ledger: Ledger, cut: Cut, moment: str) -> list[str | None]:
    found: Parts = parts(
        ledger,
        cut,
        version=ledger.version_at(micros(moment)),
        stage=ledger.stage_at(micros(moment)),
    )
    return [None if code < 0 else found.names[code] for code in found.code.tolist()]


@pytest.mark.parametrize(
    ("cut", "values"),
    [
        (Cut.WHOLE, ["whole", "whole", "whole"]),
        (Cut.OWNER, ["bob", "ada", None]),
        (Cut.REGION, [None, None, None]),
        (Cut.RESELLER, [None, "Initech", None]),
        (Cut.SALES, ["direct", "indirect", None]),
        (Cut.STAGE, ["adopt", None, None]),
        (Cut.CURRENCY, [None, "EUR", None]),
    ],
)
def test_each_account_has_one_value_in_a_cut(cut: Cut, values: list[str | None]) -> None:
    assert cut_at(LEDGER, cut, NOW) == values


def test_a_cut_is_that_of_the_moment() -> None:
    assert cut_at(LEDGER, Cut.OWNER, "2025-12-31") == ["ada", "ada", None]
    assert cut_at(LEDGER, Cut.STAGE, "2025-05-31") == [None, None, None]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["acme", "globex", "unrecorded"]),
        ({Cut.OWNER: "ada"}, ["globex"]),
        ({Cut.OWNER: "ADA"}, ["globex"]),
        ({Cut.OWNER: "ada", Cut.SALES: "direct"}, []),
        ({Cut.OWNER: ""}, ["unrecorded"]),
        ({Cut.OWNER: "nobody of this name"}, []),
        ({Cut.STAGE: "adopt", Cut.OWNER: "bob"}, ["acme"]),
        ({Cut.SALES: ""}, ["unrecorded"]),
    ],
)
def test_a_filter_takes_the_accounts_that_have_all_values(
    wanted: dict[Cut, str], found: list[str]
) -> None:
    now = micros(NOW)
    mask = matching(LEDGER, wanted, version=LEDGER.version_at(now), stage=LEDGER.stage_at(now))
    assert [LEDGER.accounts[place] for place in np.flatnonzero(mask)] == found
