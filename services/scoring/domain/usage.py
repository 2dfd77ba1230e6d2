"""What is stored of some accounts' use, flat: the input of indicators and flags.

Flat means one entry per account-day `(days,)`, per member of a day's sets `(members,)` or per
signal `(signals,)`, each with the index of its account (`owner`). Nothing here knows a database:
the sweep fills it from COPY, training and tests from plain histories.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from functools import lru_cache
from itertools import chain
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shared.messages import AccountFields

Integers: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

KEPT_DAYS: Final = 400
"""Days and signals older than this before A say nothing any more, pruned or not."""

STATUSES: Final = ("trial", "active", "churned")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SignalKind(IntEnum):
    """What happened to an account without anybody using the product; the numbers are stored."""

    CANCELLATION_REQUESTED = 1  # value: `effective_on` as an ordinal, NaN where not stated
    CANCELLATION_WITHDRAWN = 2
    PAYMENT_FAILED = 3
    PAYMENT_SUCCEEDED = 4
    TICKET_OPENED = 5  # subject: the ticket; value: severity, see `signals.SEVERE`
    TICKET_CLOSED = 6  # subject: the ticket
    FEEDBACK_NPS = 7  # value: the score, 0-10
    FEEDBACK_CSAT = 8  # 1-5
    FEEDBACK_CES = 9  # 1-7
    MILESTONE = 10  # subject: the milestone
    GOAL_METRIC = 11  # subject: the metric; value: its value


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """Active days in the order of owner, then day; `day` is `date.toordinal()`."""

    owner: Integers
    day: Integers
    events: Integers
    milliseconds: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The members of the days' sets, in any order: `code` says whose or which, nothing more."""

    owner: Integers
    day: Integers
    code: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """Signals in any order; `at` in epoch microseconds; `user`, `subject` 0 and `value` NaN where
    there is none.
    """

    owner: Integers
    at: Integers
    kind: Integers
    user: Integers
    subject: Integers
    value: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """All of it, of `accounts` accounts.

    What retention has deleted stands in three columns `(accounts,)`: the first and last active day
    of the deleted ones (ordinals, NaN where none was), and how many there were.
    """

    accounts: int
    days: Days
    users: Members
    features: Members
    sources: Members
    signals: Signals
    first_deleted: Floats
    last_deleted: Floats
    deleted_days: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """What the directory knows of the same accounts, `(accounts,)` each; NaN is "not known".

    Dates are ordinals; `status` is an index into `STATUSES`; `monthly`: the contract renews every
    month. Amounts are per month, in the account's own currency.
    """

    seats: Floats
    contract_start: Floats
    contract_end: Floats
    churned_at: Floats
    monthly: NDArray[np.bool_]
    status: Floats
    mrr: Floats
    margin: Floats

    def __len__(self) -> int:
        return len(self.seats)


def directory_of(fields: Sequence[AccountFields]) -> Directory:
    """The fields of accounts as columns, in order."""
    return Directory(
        seats=_floats([one.seats for one in fields]),
        contract_start=_ordinals([one.contract_start for one in fields]),
        contract_end=_ordinals([one.contract_end for one in fields]),
        churned_at=_ordinals([one.churned_at for one in fields]),
        monthly=np.array([one.billing_period == "month" for one in fields], np.bool_),
        status=_floats([_STATUS_CODES[one.status] for one in fields]),
        mrr=_floats([one.mrr for one in fields]),
        margin=_floats([one.margin_per_month for one in fields]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outages:
    """Whole UTC days (ordinals) on which the pipeline, not the customer, may have been silent.

    `source` and `day` are parallel, in any order, in the codes of `Usage.sources`; on the days in
    `everywhere` nothing was to be heard of any source.
    """

    source: Integers
    day: Integers
    everywhere: Integers

    def __bool__(self) -> bool:
        return bool(self.day.size or self.everywhere.size)


def _no_integers() -> Integers:
    return np.empty(0, np.int64)


NO_OUTAGES: Final = Outages(source=_no_integers(), day=_no_integers(), everywhere=_no_integers())


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One signal of one account; `user` and `subject` are codes, see `Signals`."""

    at: datetime
    kind: SignalKind
    user: int = 0
    subject: int = 0
    value: float = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One account's use in plain values: for training and tests, where it need not be fast.

    `days` are ordinals, ascending and distinct; the sequences are parallel to them, and may be
    empty where nothing is known. The last three fields are those of `Usage`.
    """

    days: Sequence[int] = ()
    events: Sequence[int] = ()
    milliseconds: Sequence[int] = ()
    users: Sequence[Collection[int]] = ()
    features: Sequence[Collection[str]] = ()
    sources: Sequence[Collection[str]] = ()
    signals: Sequence[Signal] = ()
    first_deleted: int | None = None
    last_deleted: int | None = None
    deleted_days: int = 0


def usage_of(histories: Sequence[History]) -> Usage:
    """The histories, flat, in order."""
    signals = [(owner, one) for owner, each in enumerate(histories) for one in each.signals]
    return Usage(
        accounts=len(histories),
        days=Days(
            owner=_integers(
                owner for owner, each in enumerate(histories) for _ in range(len(each.days))
            ),
            day=_integers(chain.from_iterable(each.days for each in histories)),
            events=_integers(chain.from_iterable(each.events for each in histories)),
            milliseconds=_integers(chain.from_iterable(each.milliseconds for each in histories)),
        ),
        users=_members((each.days, each.users) for each in histories),
        features=_members((each.days, _codes(each.features)) for each in histories),
        sources=_members((each.days, _codes(each.sources)) for each in histories),
        signals=Signals(
            owner=_integers(owner for owner, _ in signals),
            at=_integers(microseconds(one.at) for _, one in signals),
            kind=_integers(one.kind for _, one in signals),
            user=_integers(one.user for _, one in signals),
            subject=_integers(one.subject for _, one in signals),
            value=_floats([one.value for _, one in signals]),
        ),
        first_deleted=_floats([each.first_deleted for each in histories]),
        last_deleted=_floats([each.last_deleted for each in histories]),
        deleted_days=_integers(each.deleted_days for each in histories),
    )


@lru_cache(maxsize=1 << 14)
def code_of(name: str) -> int:
    """The code of a feature's or a source's name, the same everywhere."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def microseconds(moment: datetime) -> int:
    """Since the epoch, as in `Signals.at`; exact, unlike `timestamp()`."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


_STATUS_CODES: Final = {None: None} | {name: code for code, name in enumerate(STATUSES)}


def _floats(values: Sequence[object]) -> Floats:
    return np.array(values, np.float64)  # None becomes NaN.


def _ordinals(days: Sequence[date | None]) -> Floats:
    return _floats([None if day is None else day.toordinal() for day in days])


def _integers(values: Iterable[int]) -> Integers:
    return np.fromiter(values, np.int64)


def _codes(names: Iterable[Collection[str]]) -> list[list[int]]:
    return [[code_of(name) for name in of_day] for of_day in names]


def _members(
    histories: Iterable[tuple[Sequence[int], Sequence[Collection[int]]]],
) -> Members:
    flat = [
        (owner, day, code)
        for owner, (days, members) in enumerate(histories)
        for day, codes in zip(days, members, strict=False)  # Nothing known: no members at all.
        for code in codes
    ]
    return Members(
        owner=_integers(owner for owner, _, _ in flat),
        day=_integers(day for _, day, _ in flat),
        code=_integers(code for _, _, code in flat),
    )
