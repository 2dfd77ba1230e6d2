"""Who was a customer when, as the books say: made of the versions that the directory went through.

The state at a day is that of its beginning, before anything of the day itself. It is read from the
version in force then; only whether a customer is lost by then is read from what was known
`BOOKS_CLOSE_DAYS` later, when the day's books close. News that come later count from the day at
which they find the books open: nothing that comes in changes the state at a day of closed books.

The directory's beginning is the exception: what was told before anything ever changed, or within
`OPENING_DAYS` of the first change, is what we were told of the past, and holds for all of it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from services.scoring.domain.cuts import Truths
from services.scoring.domain.ledger import UNKNOWN, Versions
from services.scoring.domain.periods import BOOKS_CLOSE_DAYS, days_of, first_days_after
from services.scoring.domain.usage import STATUSES, Integers

OPENING_DAYS: Final = 30

ALWAYS: Final = 0
NEVER: Final = 1 << 22  # Later than any ordinal; an account and a day fit into one integer.

_BITS: Final = 23
_RECENT: Final = 8  # A period asks for its ends several times, and the next one for one of them.
_TRIAL: Final = STATUSES.index("trial")
_ACTIVE: Final = STATUSES.index("active")
_CHURNED: Final = STATUSES.index("churned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenures:
    """When accounts were customers: from `began` to before `gone`, ordinals; by account, then time.

    At an account's day `began` it is under contract for the first time, at `gone` no longer.
    """

    account: Integers
    began: Integers
    gone: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Absences:
    """When accounts were lost, from `gone` to before `back`; `version` said so first."""

    account: Integers
    gone: Integers
    back: Integers
    version: Integers


class Books:
    """The books of `accounts` accounts; what is made of the versions is made once.

    `told`: the day on which each version came, `ALWAYS` for what the opening said. `booked`: the
    first day whose books know it. `in_force`: the first day at whose beginning it holds.
    """

    def __init__(
        self, versions: Versions, accounts: int, *, erased_since: int | None = None
    ) -> None:
        """`erased_since`: the first change to an account that is gone, epoch microseconds."""
        self.versions = versions
        self.accounts = accounts
        self.first = _starts(versions.account)
        told = days_of(versions.since)
        changes = told[~self.first]
        if erased_since is not None:
            # The opening ended when it did, whoever is erased.
            changes = np.append(changes, days_of(np.array([erased_since])))
        opening_ends = changes.min() + OPENING_DAYS if changes.size else NEVER
        self.told = np.where(self.first & (told <= opening_ends), ALWAYS, told)
        self.booked = np.maximum(self.told - BOOKS_CLOSE_DAYS + 1, ALWAYS)
        self.in_force = np.where(self.first, ALWAYS, first_days_after(versions.since))
        self.says_lost = _says_lost(versions, self.first)
        self._keys = keyed(versions.account, self.in_force)
        self._heads = np.flatnonzero(self.first)
        self._recent: dict[int, Integers] = {}

    def version_at(self, day: int) -> Integers:
        """Of each account `(accounts,)` the version in force at the day, -1 where it has none."""
        known = self._recent.get(day)
        if known is None:
            known = self._version_at(day)
            known.flags.writeable = False
            if len(self._recent) >= _RECENT:
                self._recent.clear()
            self._recent[day] = known
        return known

    def versions_of(self, account: Integers, day: Integers) -> Integers:
        """The versions in force of accounts that have some, each at a day of its own."""
        return np.searchsorted(self._keys, keyed(account, day), "right") - 1

    def customers_at(self, day: int) -> Truths:
        """Which accounts `(accounts,)` are under contract at the day."""
        tenures = self.tenures
        found = np.zeros(self.accounts, np.bool_)
        found[tenures.account[(tenures.began <= day) & (tenures.gone > day)]] = True
        return found

    def began_by(self, day: int) -> Integers:
        """The first day `(accounts,)` of the tenure that runs at the day; `NEVER` without one."""
        tenures = self.tenures
        running = (tenures.began <= day) & (tenures.gone > day)
        found = np.full(self.accounts, NEVER)
        found[tenures.account[running]] = tenures.began[running]
        return found

    def trials_at(self, day: int) -> Truths:
        """Which accounts are trials at the day."""
        found = np.zeros(self.accounts, np.bool_)
        version = self.version_at(day)
        known = version[version != UNKNOWN]
        heads = self._heads
        is_told = self.booked[heads] <= day
        found[self.versions.account[heads]] = is_told & (self.versions.status[known] == _TRIAL)
        return found

    @cached_property
    def absences(self) -> Absences:
        """The losses on the books, each once, however often its date was told anew."""
        lost = np.flatnonzero(self.says_lost)
        follows = np.zeros(len(lost), np.bool_)
        follows[1:] = (np.diff(lost) == 1) & ~self.first[lost[1:]]
        heads = np.flatnonzero(~follows)
        if not heads.size:
            return Absences(account=lost, gone=lost, back=lost, version=lost)
        left, told = self.versions.churned_at[lost], self.told[lost]
        gone = np.maximum(
            np.where(np.isnan(left), told, left).astype(np.int64) + 1, self.booked[lost]
        )
        # A date that was taken back before the books of its day closed has never been on them.
        on_books = gone < self._until(self.booked)[lost]
        gone = np.minimum.reduceat(np.where(on_books, gone, NEVER), heads)
        tails = np.append(heads[1:], len(lost)) - 1
        back = self._until(self.booked)[lost[tails]]
        kept = gone < back
        # Who is won back by a contract that begins later is back with it, unless lost again before.
        returned = np.minimum(lost[tails] + 1, len(self.first) - 1)[kept]
        start = np.nan_to_num(self.versions.contract_start[returned]).astype(np.int64)
        account, gone, back = self.versions.account[lost[heads]][kept], gone[kept], back[kept]
        again = np.append(gone[1:], NEVER)[: len(gone)]
        again[:-1][account[1:] != account[:-1]] = NEVER
        back = np.where(back < NEVER, np.maximum(back, np.minimum(start + 1, again)), NEVER)
        return Absences(account=account, gone=gone, back=back, version=lost[heads][kept])

    @cached_property
    def tenures(self) -> Tenures:
        began, ended = self._eligible()
        account = self.versions.account
        valid = began < ended
        joined = np.zeros(len(valid), np.bool_)
        joined[1:] = valid[1:] & valid[:-1] & ~self.first[1:] & (began[1:] == ended[:-1])
        opens = valid & ~joined
        closes = valid & ~np.append(joined[1:], False)[: len(joined)]
        absent = self.absences
        keys = np.concatenate(
            [
                keyed(account[opens], began[opens]),
                keyed(account[closes], ended[closes]),
                keyed(absent.account, absent.gone),
                keyed(absent.account, absent.back),
            ]
        )
        sizes = [opens.sum(), closes.sum(), len(absent.gone), len(absent.back)]
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        eligible = np.cumsum(np.repeat([1, -1, 0, 0], sizes)[order])
        missing = np.cumsum(np.repeat([0, 0, 1, -1], sizes)[order])
        # What happens at the same day of the same account happens at once.
        settled = np.append(keys[1:] != keys[:-1], True)[: len(keys)]
        keys, under = keys[settled], ((eligible > 0) & (missing == 0))[settled]
        turned = np.diff(under, prepend=False)
        began_at, gone_at = keys[turned & under], keys[turned & ~under]
        return Tenures(
            account=began_at >> _BITS,
            began=began_at & ((1 << _BITS) - 1),
            gone=gone_at & ((1 << _BITS) - 1),
        )

    def _version_at(self, day: int) -> Integers:
        found = np.full(self.accounts, UNKNOWN)
        if self._heads.size:
            held = np.add.reduceat((self.in_force <= day).astype(np.int64), self._heads)
            found[self.versions.account[self._heads]] = self._heads + held - 1
        return found

    def _eligible(self) -> tuple[Integers, Integers]:
        """From which day to before which one each version makes its account a customer.

        A later start of a contract is the next contract's, not a break: what counts is the
        earliest start since the account was won or won back.
        """
        versions = self.versions
        heads = np.repeat(self._heads, np.diff(self._heads, append=len(versions)))
        start = np.where(
            np.isnan(versions.contract_start), self.told[heads], versions.contract_start
        )
        start = np.where(versions.status == _TRIAL, NEVER, start).astype(np.int64)
        won_back = np.zeros(len(versions), np.bool_)
        won_back[1:] = ~self.says_lost[1:] & self.says_lost[:-1]
        life = np.cumsum(self.first | won_back)
        # Each life lies below the one before, so that the running minimum begins anew with it.
        start = np.minimum.accumulate(start - life * NEVER * 2) + life * NEVER * 2
        began = np.maximum(np.where(self.first, self.booked, self.in_force), start + 1)
        return (
            np.where(versions.status == _TRIAL, NEVER, np.minimum(began, NEVER)),
            self._until(self.in_force),
        )

    def _until(self, days: Integers) -> Integers:
        """The day of the account's next version, `NEVER` for its last one."""
        ends = np.append(days[1:], NEVER)[: len(days)]
        ends[np.append(self.first[1:], True)[: len(days)]] = NEVER
        return ends


def keyed(account: Integers, day: Integers) -> Integers:
    """One integer that sorts by account, then day."""
    keys: Integers = (account << _BITS) | day
    return keys


def _starts(account: Integers) -> Truths:
    first = np.ones(len(account), np.bool_)
    first[1:] = account[1:] != account[:-1]
    return first


def _says_lost(versions: Versions, first: Truths) -> Truths:
    """Which versions say that the account is lost, or will be at their `churned_at`.

    An account that is active again after it was churned is not lost by the date that was left
    standing, only by a new one.
    """
    left = versions.churned_at
    dated = ~np.isnan(left)
    index = np.arange(len(first))
    restated = first.copy()
    restated[1:] |= dated[1:] & (left[1:] != left[:-1])
    returned = np.zeros(len(first), np.bool_)
    returned[1:] = (
        ~first[1:] & (versions.status[1:] == _ACTIVE) & (versions.status[:-1] == _CHURNED)
    )
    last_stated = np.maximum.accumulate(np.where(restated, index, 0)) if index.size else index
    last_returned = np.maximum.accumulate(np.where(returned, index, -1)) if index.size else index
    lost: Truths = (versions.status == _CHURNED) | (dated & (last_stated >= last_returned))
    return lost
