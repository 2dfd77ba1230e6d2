"""Attacks on what is told of groups: adding and subtracting, small cells, months, large accounts.

The attacker here is told the exact counts, before any rounding, and adds and subtracts them as he
likes: all the sets of accounts that he can count are found by exact arithmetic (`reachable`). Each
protection is also taken away once, to see that the attack then succeeds.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product
from math import comb, lcm

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.scoring.domain import anonymity
from services.scoring.domain.anonymity import K, drawn, middle, release, rounded
from services.scoring.domain.insight_document import Insight
from services.scoring.domain.insights import (
    COMPARED,
    WEEKS,
    Beginnings,
    Customers,
    Fates,
    Growth,
    InUse,
    Table,
    insights_of,
)

Ints = NDArray[np.int64]

NAMES = [f"account-{n}" for n in range(4000)]


def reachable(told: Sequence[Ints]) -> list[Ints]:
    """All sets of cells whose count is a linear combination of the counts told.

    Each of `told` says which cells it counts (0 or 1). A combination has, in reduced echelon form,
    its values at the pivots as coefficients; those of a set are 0 or 1, so all sets can be tried.
    """
    rows = [[Fraction(int(value)) for value in vector] for vector in told]
    pivots: list[int] = []
    for column in range(len(told[0]) if told else 0):
        height = len(pivots)
        found = next((r for r in range(height, len(rows)) if rows[r][column]), None)
        if found is None:
            continue
        rows[height], rows[found] = rows[found], rows[height]
        head = rows[height][column]
        rows[height] = [value / head for value in rows[height]]
        for r in range(len(rows)):
            if r != height and rows[r][column]:
                factor = rows[r][column]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[height], strict=True)]
        pivots.append(column)
    if not pivots:
        return []
    scale = lcm(*(value.denominator for row in rows for value in row))
    basis = np.array([[int(v * scale) for v in row] for row in rows[: len(pivots)]], np.int64)
    choices = np.array(list(product((0, 1), repeat=len(pivots))), np.int64)
    sums = choices @ basis
    sets = sums[np.isin(sums, (0, scale)).all(axis=1)] // scale
    return list(sets)


def small_cells(told: Sequence[Ints], counts: Ints) -> list[int]:
    """The sizes of what can be counted, where it is fewer than `K` accounts."""
    sizes = (int(one @ counts) for one in reachable(told))
    return sorted({size for size in sizes if 0 < size < K})


def cells_told(table: Table) -> list[tuple[int | None, int]]:
    """Of which group (None: all), up to which level."""
    groups, levels = table.upto.shape
    return [
        (group, level)
        for group in [None, *range(groups - 1)]
        for level in range(levels)
        if table.tells(group, level)
    ]


def vectors(counts: Ints) -> list[Ints]:
    """What is told of a table, over its cells (group, level)."""
    told = release(counts)
    found = []
    for group in [None, *range(len(counts) - 1)]:
        for level in range(counts.shape[1]):
            if level in told.cuts if group is None else told.tells(group, level):
                cells = np.zeros_like(counts)
                cells[slice(None) if group is None else group, : level + 1] = 1
                found.append(cells.ravel())
    return found


SIZES = st.integers(0, 14)


def tables(groups: int, levels: int) -> st.SearchStrategy[Ints]:
    row = st.lists(SIZES, min_size=levels, max_size=levels)
    return st.lists(row, min_size=groups, max_size=groups).map(lambda it: np.array(it, np.int64))


@settings(max_examples=120, deadline=None)
@given(counts=tables(4, 3))
def test_whoever_adds_and_subtracts_what_is_told_finds_no_small_cell(counts: Ints) -> None:
    assert small_cells(vectors(counts), counts.ravel()) == []


@settings(max_examples=60, deadline=None)
@given(counts=tables(2, 6))
def test_nor_between_the_weeks_of_a_life(counts: Ints) -> None:
    assert small_cells(vectors(counts), counts.ravel()) == []


@st.composite
def accounts(draw: st.DrawFn, *, most: int = 60) -> tuple[Ints, Ints, Ints]:
    """Of each account its segment (-1: none), and the levels of two attributes."""
    number = draw(st.integers(0, most))
    of = st.lists(st.integers(0, 2), min_size=number, max_size=number)
    groups = draw(st.lists(st.integers(-1, 1), min_size=number, max_size=number))
    return np.array(groups, np.int64), np.array(draw(of), np.int64), np.array(draw(of), np.int64)


def two_attributes(groups: Ints, one: Ints, other: Ints) -> tuple[list[Ints], Ints]:
    """What is told of a population and of two of its attributes, over (group, one, other)."""
    whole = Table.of(groups, np.zeros_like(groups), levels=1, groups=2)
    told = []
    for axis, table in (
        (None, whole),
        (1, whole.split(one, levels=3)),
        (2, whole.split(other, levels=3)),
    ):
        for group, level in cells_told(table):
            cells = np.zeros((3, 3, 3), np.int64)
            within = slice(0, level + 1) if axis is not None else slice(None)
            place: list[slice | int] = [slice(None) if group is None else group] + [slice(None)] * 2
            if axis is not None:
                place[axis] = within
            cells[tuple(place)] = 1
            told.append(cells.ravel())
    counts = np.zeros((3, 3, 3), np.int64)
    np.add.at(counts, (groups, one, other), 1)
    return told, counts.ravel()


@settings(max_examples=60, deadline=None)
@given(accounts())
def test_nor_from_several_attributes_of_the_same_accounts(them: tuple[Ints, Ints, Ints]) -> None:
    assert small_cells(*two_attributes(*them)) == []
    groups, one, _ = them
    whole = Table.of(groups, np.zeros_like(groups), levels=1, groups=2)
    by_one = whole.split(one, levels=3)
    for group in (None, 0, 1):
        assert whole.tells(group, 0) == by_one.tells(group, 2)


PART = np.array([[10, 10], [2, 18], [0, 0]], np.int64)  # Of B, 2 of 20 use it.
LONE = np.array([[20, 0], [3, 17], [1, 0]], np.int64)  # One account is in no segment.


def test_a_segment_with_few_users_hides_behind_another_one() -> None:
    """All 12 users less A's 10 would be B's 2: so A's are not told either."""
    told = release(PART)
    assert told.cuts == (0, 1)
    assert [told.tells(group, 0) for group in (0, 1)] == [False, False]
    assert [told.tells(group, 1) for group in (0, 1)] == [True, True]


def test_an_account_alone_in_its_segment_takes_the_smallest_one_with_it() -> None:
    """41 in all less A's 20 and B's 20 would be the one; A and B have 20: the first hides."""
    told = release(LONE)
    assert [told.tells(group, 1) for group in (0, 1, 2)] == [False, True, False]


def _is_large(upto: Ints, cuts: list[int]) -> bool:
    return bool((upto[cuts] >= K).all())


MUTATIONS: dict[str, tuple[str, Callable[..., object], Ints, int]] = {
    "whole less segments": ("_complete", lambda *_: None, PART, 2),
    "the one without a segment": ("_complete", lambda *_: None, LONE, 1),
    "who began between two weeks": (
        "_is_apart",
        _is_large,
        np.array([[10, 3, 9], [0, 0, 0]], np.int64),
        3,
    ),
    "who never began": ("_is_apart", _is_large, np.array([[10, 2], [0, 0]], np.int64), 2),
    "between two weeks of those who hide together": (
        "_holds",
        lambda upto, cuts, place: bool(upto[cuts[place]] >= K),
        np.array([[9, 9, 9], [8, 2, 9], [0, 0, 0]], np.int64),
        2,
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_protection_is_needed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    protection, without, counts, found = MUTATIONS[name]
    assert small_cells(vectors(counts), counts.ravel()) == []
    monkeypatch.setattr(anonymity, protection, without)
    assert found in small_cells(vectors(counts), counts.ravel())


def test_three_of_four_are_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """With k = 5, four give nothing."""
    four = np.array([[4, 0], [0, 0]], np.int64)
    assert release(four).cuts == ()
    monkeypatch.setattr(anonymity, "K", 4)
    assert release(four).cuts == (1,)


STAYS, JOINS = 0, 1


def two_months(
    names: Sequence[str], status: Ints, level: Ints, keys: Sequence[bytes]
) -> list[Ints]:
    """What two documents tell, over (level, stays or joins, drawn first, drawn second)."""
    told = []
    for month, key in enumerate(keys):
        is_in = drawn(names, key) & ((status == STAYS) | (month == 1))
        counts = np.zeros((2, 2), np.int64)
        np.add.at(counts[0], level[is_in], 1)
        for vector in vectors(counts):
            cells = np.zeros((2, 2, 2, 2), np.int64)
            for at in np.flatnonzero(vector.reshape(2, 2)[0]).tolist():
                if month:
                    cells[at, :, :, 1] = 1
                else:
                    cells[at, STAYS, 1, :] = 1
            told.append(cells.ravel())
    return told


def counted(names: Sequence[str], status: Ints, level: Ints, keys: Sequence[bytes]) -> Ints:
    first, second = (drawn(names, key).astype(np.int64) for key in keys)
    counts = np.zeros((2, 2, 2, 2), np.int64)
    np.add.at(counts, (level, status, first, second), 1)
    return counts.ravel()


@settings(max_examples=60, deadline=None)
@given(
    levels=st.lists(st.integers(0, 1), min_size=1, max_size=40),
    joins=st.integers(1, 4),
    seed=st.binary(min_size=4, max_size=4),
)
def test_what_two_months_tell_together_holds_no_small_cell(
    levels: list[int], joins: int, seed: bytes
) -> None:
    """Neighbouring data sets: up to four accounts came between the months, nobody left.

    Who is drawn is not known, so a count of one month and one of the other never are of the same
    accounts, whatever is added or subtracted.
    """
    level = np.array(levels, np.int64)
    status = np.where(np.arange(len(level)) < joins, JOINS, STAYS)
    names, keys = NAMES[: len(level)], (b"1" + seed, b"2" + seed)
    told = two_months(names, status, level, keys)
    assert small_cells(told, counted(names, status, level, keys)) == []


def test_without_the_draw_two_months_tell_who_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anonymity, "DRAWN_SHARE", 1.0)
    level = np.array([0] * 20 + [1] * 20, np.int64)
    status = np.where(np.arange(40) == 7, JOINS, STAYS)
    names, keys = NAMES[:40], (b"1", b"2")
    assert drawn(names, keys[0]).all()
    # With everybody drawn there is only one kind of cell: those who are in both documents.
    everyone = np.zeros((2, 2, 2, 2), np.bool_)
    everyone[:, :, 1, 1] = True
    told = [one[everyone.ravel()] for one in two_months(names, status, level, keys)]
    assert small_cells(told, counted(names, status, level, keys)[everyone.ravel()]) == [1]


def distribution(accounts_there: int) -> dict[int | None, float]:
    """How likely each published count is, over all draws."""
    share, found = anonymity.DRAWN_SHARE, dict[int | None, float]()
    for count in range(accounts_there + 1):
        weight = (
            comb(accounts_there, count) * share**count * (1 - share) ** (accounts_there - count)
        )
        told = rounded(count) if count >= K else None
        found[told] = found.get(told, 0) + weight
    return found


def best_guess(accounts_there: int) -> float:
    """How often the best guess is right whether one account more was there, at even odds."""
    without, with_it = distribution(accounts_there), distribution(accounts_there + 1)
    apart = (abs(without.get(k, 0) - with_it.get(k, 0)) for k in without | with_it)
    return 0.5 + sum(apart) / 4


def test_who_knows_all_others_can_hardly_guess_the_last_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """He knows exactly how many the others are, and reads the count that is told.

    0.5 is knowing nothing. Of groups near `K` whether they are told at all says most: 0.66.
    """
    guesses = {there: best_guess(there) for there in range(K, 300)}
    assert max(guesses.values()) < 0.67
    assert max(guess for there, guess in guesses.items() if there >= 2 * K) < 0.62
    # Rounded but not drawn, a count at the edge of two roundings tells.
    monkeypatch.setattr(anonymity, "DRAWN_SHARE", 1.0)
    assert best_guess(12) == 1.0


def test_many_rounded_cells_leave_what_hides_as_large_as_it_is() -> None:
    """Rounding is not what hides a small cell: that none can be had exactly is.

    Three segments of 7 are told as 10 each (7 / 0.8 = 8.75), all 27 as 35 (27 / 0.8 = 33.75). So 6
    to 10 are in each, 27 to 29 in all, and 29 - 3 x 6 = 11 at most in none: what is true, 6, is not
    told, and is not below `K` either.
    """
    counts = np.array([[7], [7], [7], [6]], np.int64)
    told = release(counts)
    assert all(told.tells(group, 0) for group in range(3))
    parts = [count for count in range(K, 60) if rounded(count) == rounded(7)]
    wholes = [count for count in range(K, 60) if rounded(count) == rounded(27)]
    rests = {whole - a - b - c for whole in wholes for a, b, c in product(parts, repeat=3)}
    assert [rest for rest in sorted(rests) if rest >= 0] == list(range(12))
    assert (parts, wholes) == ([6, 7, 8, 9, 10], [27, 28, 29])


def test_no_account_makes_more_than_half_of_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Around the median are 0, 0, 0, 0, 90: five times their mean is what one account has."""
    giant = np.array([0.0] * 7 + [90.0] + [200.0] * 3)
    assert middle(giant) is None
    monkeypatch.setattr(anonymity, "DOMINANT_SHARE", 1.0)
    assert middle(giant) == 90 / 5


def test_a_quantile_is_no_ones_value_and_has_enough_accounts_on_both_sides() -> None:
    """The five around the middle of 1 .. 11 are 4 .. 8, their mean is 6; of nine none is told."""
    assert middle(np.arange(1.0, 12.0)) == 6.0
    assert middle(np.arange(1.0, 10.0)) is None
    assert middle(np.arange(1.0, 12.0), 0.25) is None
    # Of 20 the quartile is at 4.75: around the sixth, 4 .. 8; five are below it.
    assert middle(np.arange(1.0, 21.0), 0.25) == 6.0
    assert middle(np.append(np.arange(1.0, 12.0), np.nan)) == 6.0
    assert middle(np.append(np.ones(5), np.full(6, np.inf))) is None


@st.composite
def vendors(draw: st.DrawFn) -> Customers:
    """Up to 60 accounts in three segments or none; a feature's first use is in week 1, 3, 9, 13."""
    number = draw(st.integers(0, 60))

    def of_each(values: st.SearchStrategy[int]) -> Ints:
        found = draw(st.lists(values, min_size=number, max_size=number))
        return np.array(found, np.int64)

    group, first = of_each(st.integers(-1, 2)), of_each(st.sampled_from([0, 14, 56, 84]))
    in_use, born = of_each(st.integers(0, 3)) > 0, of_each(st.integers(0, 3)) > 0
    left = of_each(st.integers(0, 1)) > 0
    uses = np.flatnonzero(first[born] < 84)
    nothing = np.zeros(0)
    return Customers(
        segments=("A", "B", "C"),
        in_use=InUse(
            group=group[in_use],
            users=np.ones(int(in_use.sum())),
            days=np.ones(int(in_use.sum())),
            hours=np.ones(int(in_use.sum())),
        ),
        beginnings=Beginnings(
            group=group[born],
            value_days=first[born].astype(np.float64),
            value="milestone",
            features=["connect"],
            user=uses,
            feature=np.zeros(len(uses), np.int64),
            day=first[born][uses],
        ),
        growth=Growth(
            group=np.zeros(0, np.int64),
            users_before=nothing,
            users_after=nothing,
            features_before=nothing,
            features_after=nothing,
        ),
        fates=Fates(group=group, left=left, indicators=np.ones((number, len(COMPARED)))),
    )


def told_of(found: Sequence[Insight], names: Sequence[str]) -> dict[str, list[Ints]]:
    """What a document tells of each population, over (segment or none of those told, level)."""
    levels = len(WEEKS) + 1
    told: dict[str, list[Ints]] = {"in use": [], "connect": [], "soon": [], "fates": []}

    def add(name: str, segment: str | None, width: int, cells: slice) -> None:
        vector = np.zeros((len(names) + 1, width), np.int64)
        vector[slice(None) if segment is None else names.index(segment), cells] = 1
        told[name].append(vector.ravel())

    for one in found:
        add("in use", one.segment, 1, slice(None))
        if one.newcomers is not None:
            add("connect", one.segment, levels, slice(None))
            add("soon", one.segment, 2, slice(None))
        for week in one.by_week:
            add("connect", one.segment, levels, slice(0, WEEKS.index(week.week) + 1))
        if one.time_to_value.share_in_30 is not None:
            add("soon", one.segment, 2, slice(0, 1))
        if one.renewing is not None:
            add("fates", one.segment, 2, slice(0, 1))
        if one.leaving is not None:
            add("fates", one.segment, 2, slice(1, 2))
    return told


@settings(max_examples=60, deadline=None)
@given(vendors())
def test_no_document_tells_of_a_small_cell(customers: Customers) -> None:
    """The document itself, not the tables it is made of: each number it has says what it counts."""
    found = insights_of(customers)
    names = [one.segment for one in found if one.segment is not None]
    place = np.array(
        [names.index(one) if one in names else len(names) for one in customers.segments]
        + [len(names)]
    )

    def counts(group: Ints, level: Ints, levels: int) -> Ints:
        cells = np.zeros((len(names) + 1, levels), np.int64)
        np.add.at(cells, (place[group], level), 1)
        return cells.ravel()

    born, fates = customers.beginnings, customers.fates
    first = np.full(len(born.group), len(WEEKS), np.int64)
    first[born.user] = np.searchsorted(WEEKS, born.day // 7 + 1)
    cells = {
        "in use": counts(customers.in_use.group, np.zeros_like(customers.in_use.group), 1),
        "connect": counts(born.group, first, len(WEEKS) + 1),
        "soon": counts(born.group, (born.value_days > 30).astype(np.int64), 2),
        "fates": counts(fates.group, fates.left.astype(np.int64), 2),
    }
    for name, told in told_of(found, names).items():
        assert small_cells(told, cells[name]) == [], name
