"""The way of accounts: who is where, since when, who came and who went whereto."""

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.journey import Standing, journey
from services.scoring.domain.ledger import Ledger, LifeStage
from tests.unit.scoring.ledgers import account, ledger_of

TRIAL, LAND, ADOPT, EXPAND, RENEW, LOST = LifeStage


def of(ledger: Ledger, *names: str) -> dict[LifeStage, Standing]:
    chosen = np.array([not names or name in names for name in ledger.accounts], np.bool_)
    return {one.stage: one for one in journey(ledger, chosen)}


AS_OF = "2026-03-01"
LEDGER = ledger_of(
    # 90 days before 1 March is 1 December; midnight of it is just too long ago.
    account("a", stages={"2025-11-01": LAND, "2025-12-01": ADOPT}),
    account("b", stages={"2025-12-02": LAND, "2026-01-31": ADOPT, "2026-02-27": RENEW}),
    account("c", stages={"2025-12-01T00:00:01": ADOPT}),
    account("d", stages={"2025-10-01": TRIAL, "2026-02-01": LOST}),
    account("e", stages={"2026-02-19": LAND}),
    account("f"),
    as_of=AS_OF,
)


def test_each_stage_says_who_is_there_and_for_how_long() -> None:
    found = of(LEDGER)
    assert list(found) == list(LifeStage)
    assert {stage: one.accounts for stage, one in found.items()} == {
        TRIAL: 0, LAND: 1, ADOPT: 2, EXPAND: 0, RENEW: 1, LOST: 1,
    }  # fmt: skip
    # From 19 February to 1 March; for a and c 90 and 89 whole days.
    assert found[LAND].median_days == 10
    assert found[ADOPT].median_days == 89.5
    assert found[TRIAL].median_days is None


def test_moves_of_ninety_days_are_counted_with_their_way() -> None:
    found = of(LEDGER)
    # b came to land and left it again; e came. a came to adopt too long ago.
    assert (found[LAND].entered, found[LAND].left) == (2, {ADOPT: 1})
    # b came and went on; c was there when it was first seen: nobody knows since when.
    assert (found[ADOPT].entered, found[ADOPT].left) == (1, {RENEW: 1})
    assert found[TRIAL].left == {LOST: 1}
    assert found[LOST].entered == 1


def test_only_the_chosen_accounts_count() -> None:
    found = of(LEDGER, "b")
    assert {stage: one.accounts for stage, one in found.items() if one.accounts} == {RENEW: 1}
    assert found[LAND].entered == 1
    assert found[TRIAL].left == {}


def test_of_nobody_there_is_a_stage_all_the_same() -> None:
    assert [one.accounts for one in of(ledger_of(as_of=AS_OF)).values()] == [0] * 6


WAYS = st.lists(
    st.dictionaries(st.integers(0, 200), st.sampled_from(LifeStage), max_size=4), max_size=8
)


@given(ways=WAYS)
def test_what_came_less_what_went_is_what_is_there(ways: list[dict[int, LifeStage]]) -> None:
    end = datetime(2026, 3, 1, tzinfo=UTC)
    ledger = ledger_of(
        *[
            account(
                f"a{number}",
                stages={
                    (end - timedelta(days=days)).isoformat(): stage for days, stage in way.items()
                },
            )
            for number, way in enumerate(ways)
        ],
        as_of=AS_OF,
    )
    before = ledger.stage_at(ledger.as_of - 90 * 86_400_000_000)
    first = np.full(len(ledger.accounts), 0)
    for number, name in enumerate(ledger.accounts):
        way = ways[int(name[1:])]
        if way:
            first[number] = way[max(way)]
    # Seen for the first time in the 90 days, somewhere in the middle of the way.
    strangers = (before == 0) & (first > LAND)
    for stage, one in of(ledger).items():
        was = int(np.count_nonzero(before == stage))
        came = one.entered + int(np.count_nonzero(strangers & (first == stage)))
        assert was + came - sum(one.left.values()) == one.accounts
