"""What signals say of the relationship: cancellation, payments, tickets, feedback, milestones.

A signal counts from its moment on, not from midnight: a cancellation must be seen at once. Its age
is in whole days of 24 hours up to `now`, and a window of w days holds ages below w. What ends a
thing (withdrawn, paid, closed) ends it at its own moment too.
"""

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.grouping import Groups, group
from services.scoring.domain.signals import SEVERE
from services.scoring.domain.usage import (
    KEPT_DAYS,
    Floats,
    Integers,
    SignalKind,
    Signals,
)

FEEDBACK_DAYS: Final = 180
UNHAPPY_DAYS: Final = 90
PAYMENT_DAYS: Final = 14
SCALES: Final = {
    "nps": (SignalKind.FEEDBACK_NPS, 6),
    "csat": (SignalKind.FEEDBACK_CSAT, 2),
    "ces": (SignalKind.FEEDBACK_CES, 3),
}
"""Each scale with the highest score that is low."""

_Value = TypeVar("_Value", np.int64, np.float64)

_DAY: Final = 86_400_000_000  # microseconds
_NEVER: Final = np.iinfo(np.int64).min
_NOT_YET: Final = np.iinfo(np.int64).max


class Relationship:
    """The signals of `accounts` accounts that count at `now` (epoch microseconds)."""

    def __init__(self, signals: Signals, accounts: int, now: int) -> None:
        chosen = np.flatnonzero((signals.at <= now) & (signals.at > now - KEPT_DAYS * _DAY))
        self.accounts = accounts
        self.now = now
        self.owner = signals.owner[chosen]
        self.at = signals.at[chosen]
        self.kind = signals.kind[chosen]
        self.user = signals.user[chosen]
        self.subject = signals.subject[chosen]
        self.value = signals.value[chosen]

    def columns(self, as_of: int, active_users_28: Floats) -> dict[str, Floats]:
        return (
            self._cancellation(as_of)
            | self._payments()
            | self._tickets(active_users_28)
            | self._feedback()
            | self._milestones()
        )

    def _cancellation(self, as_of: int) -> dict[str, Floats]:
        requests = self._of(SignalKind.CANCELLATION_REQUESTED)
        newest = self._newest(requests)
        standing = newest > self._newest(self._of(SignalKind.CANCELLATION_WITHDRAWN))
        last = requests[self.at[requests] == newest[self.owner[requests]]]
        effective = np.full(self.accounts, np.nan)
        np.fmax.at(effective, self.owner[last], self.value[last])
        return {
            "cancellation_age_days": np.where(standing, self._age(newest), np.nan),
            "cancellation_effective_days": np.where(standing, effective - as_of, np.nan),
        }

    def _payments(self) -> dict[str, Floats]:
        failures = self._of(SignalKind.PAYMENT_FAILED)
        failed = self._newest(failures)
        paid = self._newest(self._of(SignalKind.PAYMENT_SUCCEEDED))
        recent = failures[self._age(self.at[failures]) < PAYMENT_DAYS]
        ever = failed > _NEVER
        return {
            "payments_failed_14": _where(ever | (paid > _NEVER), self._count(recent)),
            "payment_failed_age_days": _where(ever, self._age(failed)),
            "payment_succeeded_since": _where(ever, paid >= failed),
        }

    def _tickets(self, active_users_28: Floats) -> dict[str, Floats]:
        """A ticket without a name counts, but cannot be told to be open: nothing can close it."""
        opened = self.kind == SignalKind.TICKET_OPENED
        entries = np.flatnonzero(opened | (self.kind == SignalKind.TICKET_CLOSED))
        ever = self._count(entries) > 0
        nameless = entries[opened[entries] & (self.subject[entries] == 0)]
        entries = entries[self.subject[entries] != 0]
        groups = group(self.owner[entries], self.subject[entries])
        entries = entries[groups.order]
        opened, at = opened[entries], self.at[entries]
        first = _least(groups, np.where(opened, at, _NOT_YET))
        closed = _most(groups, np.where(opened, _NEVER, at))
        since = _least(
            groups, np.where(opened & (at > np.repeat(closed, groups.sizes())), at, _NOT_YET)
        )
        is_open = since < _NOT_YET
        severe = is_open & (self._severity(groups, entries, opened) >= SEVERE)
        oldest = np.full(self.accounts, _NOT_YET)
        np.minimum.at(oldest, groups.owner[severe], since[severe])
        counts = {}
        for window in (28, 180):
            named = groups.owner[self._age(first) < window]
            unnamed = nameless[self._age(self.at[nameless]) < window]
            counts[window] = np.bincount(named, minlength=self.accounts) + self._count(unnamed)
        per_user = 10 * counts[28] / np.maximum(active_users_28, 1)
        return {
            "tickets_28": _where(ever, counts[28]),
            "tickets_180": _where(ever, counts[180]),
            "tickets_open": _where(
                ever, np.bincount(groups.owner[is_open], minlength=self.accounts)
            ),
            "ticket_severe_age_days": _where(oldest < _NOT_YET, self._age(oldest)),
            "tickets_28_per_10_users": _where(ever & (active_users_28 > 0), per_user),
        }

    def _severity(self, groups: Groups, entries: Integers, opened: NDArray[np.bool_]) -> Floats:
        """What was said last of each ticket's severity; of equally late ones the highest."""
        at, value = self.at[entries], self.value[entries]
        stated = opened & ~np.isnan(value)
        newest = _most(groups, np.where(stated, at, _NEVER))
        is_last = stated & (at == np.repeat(newest, groups.sizes()))
        return _most(groups, np.where(is_last, value, 0.0))

    def _feedback(self) -> dict[str, Floats]:
        columns: dict[str, Floats] = {}
        unhappy_owner, unhappy_user = [], []
        ever = np.zeros(self.accounts, np.bool_)
        for name, (kind, low) in SCALES.items():
            answers = self._of(kind)
            answers = answers[~np.isnan(self.value[answers])]
            ever |= self._count(answers) > 0
            # Answers without a user are one nameless user's: nobody knows better.
            groups = group(self.owner[answers], self.user[answers])
            answers = answers[groups.order]
            at = self.at[answers]
            newest = _most(groups, at)
            is_last = at == np.repeat(newest, groups.sizes())
            score = _least(groups, np.where(is_last, self.value[answers], np.inf))
            recent = self._age(newest) < FEEDBACK_DAYS
            count = np.bincount(groups.owner[recent], minlength=self.accounts)
            total = np.bincount(groups.owner[recent], score[recent], self.accounts)
            columns[f"{name}_mean"] = _where(count > 0, total / np.maximum(count, 1))
            columns[f"{name}_answers"] = _where(count > 0, count)
            is_low = (score <= low) & (self._age(newest) < UNHAPPY_DAYS)
            unhappy_owner.append(groups.owner[is_low])
            unhappy_user.append(groups.code[is_low])
        unhappy = group(np.concatenate(unhappy_owner), np.concatenate(unhappy_user))
        count = np.bincount(unhappy.owner, minlength=self.accounts)
        columns["unhappy_users"] = _where(ever, count)
        return columns

    def _milestones(self) -> dict[str, Floats]:
        reached = self._of(SignalKind.MILESTONE)
        groups = group(self.owner[reached], self.subject[reached])
        count = np.bincount(groups.owner, minlength=self.accounts)
        return {"milestones": count.astype(np.float64)}

    def _of(self, kind: SignalKind) -> Integers:
        return np.flatnonzero(self.kind == kind)

    def _newest(self, entries: Integers) -> Integers:
        """The moment of each account's newest entry, `_NEVER` where there is none."""
        newest = np.full(self.accounts, _NEVER)
        np.maximum.at(newest, self.owner[entries], self.at[entries])
        return newest

    def _count(self, entries: Integers) -> Integers:
        return np.bincount(self.owner[entries], minlength=self.accounts)

    def _age(self, at: Integers) -> Floats:
        """Whole days of 24 hours; infinite where there is no moment."""
        known = (at != _NEVER) & (at != _NOT_YET)
        return np.where(known, (self.now - np.where(known, at, self.now)) // _DAY, np.inf)


def _where(known: NDArray[np.bool_], values: NDArray[np.generic]) -> Floats:
    return np.where(known, values, np.nan).astype(np.float64)


def _least(groups: Groups, values: NDArray[_Value]) -> NDArray[_Value]:
    least: NDArray[_Value] = np.minimum.reduceat(values, groups.starts) if len(groups) else values
    return least


def _most(groups: Groups, values: NDArray[_Value]) -> NDArray[_Value]:
    most: NDArray[_Value] = np.maximum.reduceat(values, groups.starts) if len(groups) else values
    return most
