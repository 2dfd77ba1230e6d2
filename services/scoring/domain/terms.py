"""What became of contracts that came to their end: renewed, lost, or not decided yet.

A term is an end of a contract that is not monthly, as long as the directory said it. It is due on
its day, or when it was told, whichever is later; what became of it counts on the day at which it
finds the books open, never before it was due.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from services.scoring.domain.books import NEVER, Books, keyed
from services.scoring.domain.cuts import Truths
from services.scoring.domain.usage import STATUSES, Integers

CORRECTION_DAYS: Final = 180
"""Longer before its end nobody renews a contract: who moves the end corrects it."""

_NONE: Final = -1


class Outcome(IntEnum):
    """What became of a term."""

    PENDING = 0
    RENEWED = 1
    LOST = 2
    CORRECTED = 3
    """The end was another one, or there is none: nothing is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Flat, by account and time; `due` and `decided` are ordinals, `decided` `NEVER` if pending.

    `version` is the one whose price was up for renewal: the one in force when it was due, or the
    last before the end was moved or the account lost.
    """

    account: Integers
    due: Integers
    decided: Integers
    outcome: Integers
    version: Integers

    def decided_in(self, first: int, end: int, outcome: Outcome) -> Truths:
        within = (self.decided >= first) & (self.decided < end)
        decided: Truths = within & (self.outcome == outcome)
        return decided

    def pending_in(self, first: int, end: int) -> Truths:
        """Due in the days from `first` to before `end`, and not decided by then."""
        pending: Truths = (self.due >= first) & (self.due < end) & (self.decided >= end)
        return pending


def terms_of(books: Books) -> Terms:
    """All terms that the books know, decided or not."""
    versions, first = books.versions, books.first
    end = _ends(books)
    starts = first.copy()
    starts[1:] |= end[1:] != end[:-1]
    runs = np.flatnonzero(starts)
    account, end = versions.account[runs], end[runs]
    booked, told = books.booked[runs], books.told[runs]
    due = np.maximum(end, booked - 1)
    outcome, decided = _moved(account, end, due, booked, told)
    lost = _lost(books, starts, due)
    is_lost = lost < decided
    is_term = end != _NONE
    return Terms(
        account=account[is_term],
        due=due[is_term],
        decided=np.minimum(lost, decided)[is_term],
        outcome=np.where(is_lost, int(Outcome.LOST), outcome)[is_term],
        version=_priced(books, runs, due)[is_term],
    )


def _ends(books: Books) -> Integers:
    """Of each version the end of its contract, -1 where nothing comes up for renewal.

    What says that the account is lost says nothing new of the contract that it leaves.
    """
    versions = books.versions
    index = np.arange(len(versions))
    own = books.first | ~books.says_lost
    says = np.maximum.accumulate(np.where(own, index, 0)) if index.size else index
    rolling = (
        versions.monthly
        | np.isnan(versions.contract_end)
        | (versions.status == STATUSES.index("trial"))
    )
    return np.where(rolling, _NONE, versions.contract_end).astype(np.int64)[says]


def _moved(
    account: Integers, end: Integers, due: Integers, booked: Integers, told: Integers
) -> tuple[Integers, Integers]:
    """What the directory said next, and the day on which that counts."""
    index = np.arange(len(end))
    keys = keyed(account, booked)
    # What the books of the due day say, whatever was said and taken back in between; else the
    # first thing that was said later.
    then = np.searchsorted(keys, keyed(account, np.minimum(due + 1, NEVER)), "right") - 1
    later = np.minimum(index + 1, max(len(index) - 1, 0))
    later = np.searchsorted(keys, keys[later], "right") - 1
    follows = np.where(then > index, then, later)
    is_moved = (follows > index) & (account[follows] == account)
    renewed = is_moved & (end[follows] > end) & (told[follows] >= end - CORRECTION_DAYS)
    counts = booked[follows] - 1
    outcome = np.where(is_moved, int(Outcome.CORRECTED), int(Outcome.PENDING))
    outcome[renewed] = Outcome.RENEWED
    decided = np.where(is_moved, np.where(renewed, np.maximum(due, counts), counts), NEVER)
    return outcome, decided


def _lost(books: Books, starts: Truths, due: Integers) -> Integers:
    """The day on which each term counts as lost, `NEVER` where its account was not lost with it."""
    absent = books.absences
    run = np.cumsum(starts)[absent.version] - 1
    day = np.maximum(due[run], absent.gone - 1)
    stands = absent.back > day + 1
    lost = np.full(len(due), NEVER)
    np.minimum.at(lost, run[stands], day[stands])
    return lost


def _priced(books: Books, runs: Integers, due: Integers) -> Integers:
    version = books.versions_of(books.versions.account[runs], due)
    version = np.clip(version, runs, np.append(runs[1:], len(books.versions))[: len(runs)] - 1)
    index = np.arange(len(books.versions))
    kept = np.maximum.accumulate(np.where(books.says_lost, -1, index)) if index.size else index
    return np.where(kept[version] >= runs, kept[version], version)
