"""How what was read of accounts gets into the ledger: all of it at once, or what is new.

The ledger after any number of postings is the one that a single reading of all would have made:
accounts and names stand in their order, a version that was read twice stands there once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.ledger import UNKNOWN, Dimension, Ledger, Stages, Today, Versions
from services.scoring.domain.usage import Integers

_NOTHING: Final = np.empty(0, np.int64)

E = TypeVar("E", Versions, Stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """What has been read, in any order; `account` in each part is an index into `accounts`.

    `versions` has hashes of the texts in place of codes, 0 where there is none; `names` says what
    they stand for. `titles` `(versions,)` are names, empty where there is none. `today` has an
    entry for each of `looked_at`, indices into `accounts`. `erased_since` is the ledger's.
    """

    at: int
    erased_since: int | None = None
    accounts: Sequence[str]
    versions: Versions
    titles: Sequence[str]
    stages: Stages
    looked_at: Integers
    today: Today
    names: Mapping[Dimension, Mapping[int, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """A ledger with what it takes to post to it: each account's place, each name's hash."""

    ledger: Ledger
    places: Mapping[str, int]
    hashes: Mapping[Dimension, Integers]


def post(book: Book, entries: Entries) -> Book:
    """The book with the entries in it; the one that was given stays as it is."""
    ledger = book.ledger
    accounts, places, moved = _with_accounts(book, entries.accounts)
    where = np.fromiter((places[name] for name in entries.accounts), np.int64)
    names, hashes, recoded = {}, {}, {}
    for dimension in Dimension:
        names[dimension], hashes[dimension], recoded[dimension] = _with_names(
            ledger.names[dimension], book.hashes[dimension], entries.names[dimension]
        )
    old = _changed(
        ledger.versions,
        account=_taken(moved, ledger.versions.account),
        **{
            dimension: _taken(recoded[dimension], getattr(ledger.versions, dimension))
            for dimension in Dimension
        },
    )
    new = _changed(
        entries.versions,
        account=where[entries.versions.account],
        **{
            dimension: _codes(hashes[dimension], getattr(entries.versions, dimension))
            for dimension in Dimension
        },
    )
    versions = _united(old, new)
    stages = _united(
        _changed(ledger.stages, account=_taken(moved, ledger.stages.account)),
        _changed(entries.stages, account=where[entries.stages.account]),
    )
    return Book(
        ledger=Ledger(
            as_of=entries.at,
            erased_since=entries.erased_since,
            accounts=accounts,
            titles=_titles(ledger, accounts, moved, versions, new, entries.titles),
            names=names,
            versions=versions,
            stages=stages,
            today=_today(
                _stretched(ledger.today, moved, len(accounts)),
                where[entries.looked_at],
                entries.today,
            ),
        ),
        places=places,
        hashes=hashes,
    )


def _with_accounts(
    book: Book, read: Sequence[str]
) -> tuple[tuple[str, ...], Mapping[str, int], Integers | None]:
    """All accounts in order, the place of each, and where the known ones have moved to."""
    known = book.ledger.accounts
    new = set(read) - book.places.keys()
    if not new:
        return known, book.places, None
    accounts = tuple(sorted([*known, *new]))
    places = {name: place for place, name in enumerate(accounts)}
    return accounts, places, np.fromiter((places[name] for name in known), np.int64, len(known))


def _with_names(
    known: tuple[str, ...], hashes: Integers, read: Mapping[int, str]
) -> tuple[tuple[str, ...], Integers, Integers | None]:
    """All names in order, the hash of each, and the new codes of the known ones.

    The last code is of those that are not known, so that -1 stays what it is.
    """
    before = set(known)
    new = {name: number for number, name in read.items() if name not in before}
    if not new:
        return known, hashes, None
    all_of = dict(zip(known, hashes.tolist(), strict=True)) | new
    names = tuple(sorted(all_of))
    codes = {name: code for code, name in enumerate(names)}
    return (
        names,
        np.array([all_of[name] for name in names], np.int64),
        np.array([*(codes[name] for name in known), UNKNOWN], np.int64),
    )


def _codes(hashes: Integers, found: Integers) -> Integers:
    """The code of each hash; 0 stands for no name."""
    order = np.argsort(hashes)
    ordered = np.append(hashes[order], 0)
    place = np.searchsorted(ordered[:-1], found)
    known = ordered[place] == found
    if not (known | (found == 0)).all():
        raise ValueError("a name was read without what it stands for")
    return np.where(known & (found != 0), np.append(order, UNKNOWN)[place], UNKNOWN)


def _taken(moved: Integers | None, codes: Integers) -> Integers:
    return codes if moved is None else moved[codes]


def _changed(one: E, **columns: NDArray[Any]) -> E:
    held = {each.name: getattr(one, each.name) for each in fields(one)}
    return type(one)(**held | {str(name): column for name, column in columns.items()})


def _united(old: E, new: E) -> E:
    """Both in the order of account and time; of what was read twice the newer one."""
    if not len(new.account):
        return old
    account = np.concatenate([old.account, new.account])
    since = np.concatenate([old.since, new.since])
    order = np.lexsort((since, account))  # Stable: what is new comes after its equal.
    same = (np.diff(account[order]) == 0) & (np.diff(since[order]) == 0)
    kept = order[np.append(~same, True)]
    return type(old)(
        **{
            each.name: np.concatenate([getattr(old, each.name), getattr(new, each.name)])[kept]
            for each in fields(old)
        }
    )


def _titles(
    before: Ledger,
    accounts: tuple[str, ...],
    moved: Integers | None,
    versions: Versions,
    new: Versions,
    read: Sequence[str],
) -> tuple[str, ...]:
    """The name in each account's newest version, its id where there is none."""
    if moved is None and not len(new):
        return before.titles
    titles = list(accounts)
    places: Iterable[int] = range(len(before.accounts)) if moved is None else moved.tolist()
    for place, title in zip(places, before.titles, strict=True):
        titles[place] = title
    last = np.searchsorted(versions.account, new.account, "right") - 1
    is_newest = new.since == versions.since[last]
    for index in np.flatnonzero(is_newest).tolist():
        place = int(new.account[index])
        titles[place] = read[index] or accounts[place]
    return tuple(titles)


def _stretched(today: Today, moved: Integers | None, accounts: int) -> Today:
    """The columns with a place for each account."""
    if moved is None:
        return today
    columns = {}
    for each in fields(Today):
        columns[each.name] = np.full(accounts, _NOT_LOOKED_AT[each.name])
        columns[each.name][moved] = getattr(today, each.name)
    return Today(**columns)


def _today(known: Today, place: Integers, read: Today) -> Today:
    if not len(place):
        return known
    columns = {each.name: getattr(known, each.name).copy() for each in fields(Today)}
    for name, column in columns.items():
        column[place] = getattr(read, name)
    return Today(**columns)


_NOT_LOOKED_AT: Final[Mapping[str, int | float]] = {
    "state": UNKNOWN,
    "risk": np.nan,
    "band": UNKNOWN,
    "value_at_risk": np.nan,
    "stage": 0,
    "stage_since": 0,
}


def _empty(kind: type[E]) -> E:
    return kind(**{each.name: _NO_COLUMN.get(each.name, _NOTHING) for each in fields(kind)})


_NO_COLUMN: Final[Mapping[str, NDArray[Any]]] = {
    "monthly": np.empty(0, np.bool_),
    **dict.fromkeys(
        (
            "mrr",
            "margin",
            "seats",
            "status",
            "contract_start",
            "contract_end",
            "churned_at",
            "notice_days",
        ),
        np.empty(0, np.float64),
    ),
}

_NO_NUMBERS: Final = np.empty(0, np.float64)
_NOBODY_TODAY: Final = Today(
    state=_NOTHING,
    risk=_NO_NUMBERS,
    band=_NOTHING,
    value_at_risk=_NO_NUMBERS,
    stage=_NOTHING,
    stage_since=_NOTHING,
)
NOTHING: Final = Book(
    ledger=Ledger(
        as_of=0,
        accounts=(),
        titles=(),
        names=dict.fromkeys(Dimension, ()),
        versions=_empty(Versions),
        stages=_empty(Stages),
        today=_NOBODY_TODAY,
    ),
    places={},
    hashes=dict.fromkeys(Dimension, _NOTHING),
)
