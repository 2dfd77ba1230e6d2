"""Lists of accounts: which match, in what order, where a page begins, how many there are of each.

A page begins after a place: a value and an account. Both need not be there any more, so that a
list may change while somebody leafs through it: who keeps its place is seen once.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from typing import Final, TypeAlias

import numpy as np

from services.scoring.domain.cuts import Cut, Truths, matching, parts
from services.scoring.domain.indicators import State
from services.scoring.domain.ledger import Ledger
from services.scoring.domain.renewal import days_to_renewal
from services.scoring.domain.risk import BANDS
from services.scoring.domain.table import STATES
from services.scoring.domain.usage import STATUSES, Directory, Floats, Integers
from shared.messages import Band

MOST_VALUES: Final = 200
"""Of a facet; the others are counted together."""
FACETS: Final = (
    Cut.OWNER,
    Cut.SEGMENT,
    Cut.PLAN,
    Cut.REGION,
    Cut.RESELLER,
    Cut.SALES,
    Cut.STAGE,
)
_BAND: Final = "band"

Value: TypeAlias = float | str | None


class Sort(StrEnum):
    """What a list is sorted by; who has no value comes last."""

    RISK = "risk"
    VALUE_AT_RISK = "value_at_risk"
    RENEWAL_DATE = "renewal_date"
    MRR = "mrr"
    NAME = "name"
    ACCOUNT = "account_id"


FALLING: Final = frozenset({Sort.RISK, Sort.VALUE_AT_RISK, Sort.MRR})
"""What one expects to begin with the largest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`falling`: the largest value first; accounts of one value always come by their id."""

    sort: Sort
    falling: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """Where a page begins: after this account with this value; None: it has none."""

    value: Value
    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The accounts' names, made for searching: `text` `(accounts,)` holds name and id, folded;
    `folded` are the different names in order, `rank` `(accounts,)` the place of each one's.
    """

    text: tuple[str, ...]
    folded: tuple[str, ...]
    rank: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for; `text` is looked for in names and ids, in whatever case."""

    wanted: Mapping[Cut, str]
    band: Band | None = None
    state: State | None = None
    text: str = ""
    renews_within_days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The indices of the accounts in order; `total` match; `next_after`: None on the last page."""

    accounts: Integers
    total: int
    next_after: After | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """How many accounts have each value, most first, None where it is not known; `more` values
    are left out.
    """

    values: tuple[tuple[str | None, int], ...]
    more: int


def names_of(ledger: Ledger) -> Names:
    folded = [title.casefold() for title in ledger.titles]
    different = tuple(sorted(set(folded)))
    rank = {name: place for place, name in enumerate(different)}
    return Names(
        text=tuple(
            f"{name}\n{account.casefold()}"
            for name, account in zip(folded, ledger.accounts, strict=True)
        ),
        folded=different,
        rank=np.fromiter((rank[name] for name in folded), np.float64, len(folded)),
    )


def page(
    ledger: Ledger,
    names: Names,
    asked: Asked,
    *,
    order: Order,
    after: After | None,
    limit: int,
    today: int,
) -> Page:
    """One page of those that match; `today` is an ordinal. `names` are the ledger's."""
    newest = ledger.newest_version()
    found = _matching(ledger, newest, names, asked, today)
    key = _keys(ledger, newest, names, order.sort, today)
    if order.falling:
        key = -key
    rest = found if after is None else found & _after(ledger, names, order, key, after)
    places = _first(key, np.flatnonzero(rest), limit + 1)
    shown, total = places[:limit], int(found.sum())
    if len(places) <= limit:
        return Page(accounts=shown, total=total, next_after=None)
    last = int(shown[-1])
    value = _value(names, order.sort, float(-key[last] if order.falling else key[last]))
    end = After(value=value, account=ledger.accounts[last])
    return Page(accounts=shown, total=total, next_after=end)


def facets(ledger: Ledger, wanted: Mapping[Cut, str]) -> dict[str, Facet]:
    """Each counted among the accounts that match the other filters: what one could choose."""
    version, stage = ledger.newest_version(), ledger.today.stage
    masks = {
        cut: matching(ledger, {cut: value}, version=version, stage=stage)
        for cut, value in wanted.items()
    }
    found = {}
    for cut in FACETS:
        part = parts(ledger, cut, version=version, stage=stage)
        others = [mask for other, mask in masks.items() if other is not cut]
        found[str(cut)] = _facet(part.code, part.names, _all(others, len(version)))
    shown = _all(list(masks.values()), len(version))
    return found | {_BAND: _facet(ledger.today.band, tuple(map(str, BANDS)), shown)}


def _matching(ledger: Ledger, newest: Integers, names: Names, asked: Asked, today: int) -> Truths:
    now = ledger.today
    found = matching(ledger, asked.wanted, version=newest, stage=now.stage)
    if asked.band is not None:
        found &= now.band == BANDS.index(asked.band)
    if asked.state is not None:
        found &= now.state == STATES.index(asked.state)
    if asked.renews_within_days is not None:
        days = _days_to_renewal(ledger, newest, today)
        found &= (days >= 0) & (days <= asked.renews_within_days)
    text = asked.text.strip().casefold()
    if text:
        found &= np.fromiter((text in one for one in names.text), np.bool_, len(names.text))
    return found


def _keys(ledger: Ledger, newest: Integers, names: Names, sort: Sort, today: int) -> Floats:
    """What each account is sorted by, rising; NaN where it has no value."""
    match sort:
        case Sort.RISK:
            return ledger.today.risk
        case Sort.VALUE_AT_RISK:
            return ledger.today.value_at_risk
        case Sort.RENEWAL_DATE:
            return _days_to_renewal(ledger, newest, today) + today
        case Sort.MRR:
            return _newest(ledger.versions.mrr, newest)
        case Sort.NAME:
            return names.rank
        case Sort.ACCOUNT:
            return np.arange(len(ledger.accounts), dtype=np.float64)


def _after(ledger: Ledger, names: Names, order: Order, key: Floats, after: After) -> Truths:
    """The accounts that come after the place; `key` as it is sorted."""
    place = np.arange(len(key))
    if order.sort is Sort.ACCOUNT and order.falling:
        return place < bisect_left(ledger.accounts, after.account)
    later = place >= bisect_right(ledger.accounts, after.account)
    if order.sort is Sort.ACCOUNT:
        return later
    if after.value is None:
        return np.isnan(key) & later
    value = _rank(names, after.value) if isinstance(after.value, str) else after.value
    begin = -value if order.falling else value
    found: Truths = np.isnan(key) | (key > begin) | ((key == begin) & later)
    return found


def _rank(names: Names, name: str) -> float:
    """The name's place; between two others where nobody has it any more."""
    place = bisect_left(names.folded, name)
    is_there = place < len(names.folded) and names.folded[place] == name
    return place if is_there else place - 0.5


def _first(key: Floats, places: Integers, most: int) -> Integers:
    """Of the places the first ones by key, then by place; those without a key come last."""
    chosen = key[places]
    if len(places) > most:
        limit = np.partition(chosen, most - 1)[most - 1]
        if not np.isnan(limit):
            places = places[chosen <= limit]
            chosen = key[places]
    return places[np.argsort(chosen, kind="stable")][:most]


def _value(names: Names, sort: Sort, key: float) -> Value:
    if sort is Sort.ACCOUNT or key != key:  # noqa: PLR0124 - NaN
        return None
    return names.folded[int(key)] if sort is Sort.NAME else key


def _facet(code: Integers, names: tuple[str, ...], shown: Truths) -> Facet:
    counts = np.bincount(code[shown] + 1, minlength=len(names) + 1)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    return Facet(
        values=tuple(
            (None if place == 0 else names[place - 1], int(counts[place]))
            for place in order[:MOST_VALUES].tolist()
        ),
        more=max(0, len(order) - MOST_VALUES),
    )


def _all(masks: list[Truths], accounts: int) -> Truths:
    return reduce(np.logical_and, masks, np.ones(accounts, np.bool_))


def _days_to_renewal(ledger: Ledger, newest: Integers, today: int) -> Floats:
    """NaN also of those that are lost: nothing is renewed there."""
    versions = ledger.versions
    directory = Directory(
        seats=_newest(versions.seats, newest),
        contract_start=_newest(versions.contract_start, newest),
        contract_end=_newest(versions.contract_end, newest),
        churned_at=_newest(versions.churned_at, newest),
        monthly=np.append(versions.monthly, False)[newest],
        status=_newest(versions.status, newest),
        mrr=_newest(versions.mrr, newest),
        margin=_newest(versions.margin, newest),
    )
    # Who is active by a later contract is back, though the day of leaving was left standing.
    is_back = (directory.status == STATUSES.index("active")) & (
        directory.contract_start > directory.churned_at
    )
    left = (directory.churned_at <= today) & ~is_back
    lost = (directory.status == STATUSES.index("churned")) | left
    return np.where(lost, np.nan, days_to_renewal(directory, today))


def _newest(column: Floats, newest: Integers) -> Floats:
    """The values of these versions; NaN where there is none (-1: the last one)."""
    return np.append(column, np.nan)[newest]
