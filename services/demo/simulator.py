"""Use of a product by the simulated vendor's accounts: synthetic, pure, the same for a seed.

What happens to accounts beside use is told in `signals.py`, what was promised to them in
`goals.py`.

What the generator assumes, and real accounts need not follow:

* A user comes on a day with an own probability, independent of other users and other days, times
  the account's story, the weekday (weekends near nothing), the holidays (a deep dip from 24
  December to 1 January, a shallow one in August) and the account's own daily noise.
* A day's visit is one session in local working hours: a login now and then, the session's start,
  a page view, one or two features, the session's end. Its length is exponential, mean 18 minutes.
* Stories: stable, growing (from 45 % to 120 %), seasonal (a yearly wave of 35 %), declining
  (exponentially since 90-170 days, to 2-10 %), silent (nothing since 28-60 days), champion left
  (one person had most of the use, and is gone since 30-52 days), onboarding (begun 12-49 days
  ago), churned (use ended 100-200 days ago).
* Every fourth account uses an app that follows the usual tracking plan: what begins a visit names
  account and user, what follows the user alone. No user belongs to two accounts.
* Nobody uses the product more because somebody called; no outage, no late event, no duplicate.

Every number of a day comes from random numbers drawn day by day, so a later `now` only adds days
and changes none; with the ids made of account, day, user and place in the session, sending the
same history again, or its continuation, counts nothing twice.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.demo.goals import with_goal
from services.demo.signals import signals_of
from services.demo.vendor import (
    LAST,
    Fields,
    Pattern,
    SimulatedAccount,
    invent_accounts,
)

SEED: Final = 7

FEATURES: Final = (
    "reports",
    "dashboards",
    "approvals",
    "search",
    "automation",
    "exports",
    "integrations",
    "forecasts",
)
_WEEKDAYS: Final = (1.0, 1.05, 1.05, 1.0, 0.85, 0.07, 0.04)
_DAY_SECONDS: Final = 86_400
_MEAN_SESSION_SECONDS: Final = 1_080
_LONGEST_SESSION_SECONDS: Final = 4 * 3_600

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]


class _Draw(IntEnum):
    """What each of the random numbers of one user on one day decides."""

    COMES = 0
    STARTS = 1
    LASTS = 2
    FEATURE = 3
    SECOND_FEATURE = 4
    LOGIN = 5
    PAGE_VIEW = 6


class _Place(IntEnum):
    """Place of an event in its session; part of its id."""

    LOGIN = 0
    START = 1
    PAGE_VIEW = 2
    FEATURE = 3
    SECOND_FEATURE = 4
    END = 5


_TYPES: Final = {
    _Place.LOGIN: "login",
    _Place.START: "session_start",
    _Place.PAGE_VIEW: "page_view",
    _Place.FEATURE: "feature_used",
    _Place.SECOND_FEATURE: "feature_used",
    _Place.END: "session_end",
}


_BEGINS: Final = frozenset({_Place.LOGIN, _Place.START})
_APPS: Final = 4
"""Of as many accounts one uses the app that names the account only where a visit begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """A vendor's accounts and all their events up to `now`; iterate as often as you like."""

    accounts: tuple[SimulatedAccount, ...]
    anchor: date
    _table: Integers
    """One row per event of use, in time order: second, account, day, user, place, detail."""
    _signals: tuple[Fields, ...]

    @property
    def event_count(self) -> int:
        return len(self._table) + len(self._signals)

    def events(self) -> Iterator[Fields]:
        """Events as `POST /v1/events` takes them, in time order."""
        return heapq.merge(self._use(), self._signals, key=_second)

    def _use(self) -> Iterator[Fields]:
        prefix = f"demo-{self.anchor:%Y%m%d}"
        for second, account, day, user, place, detail in self._table.tolist():
            name = self.accounts[account].id
            event: Fields = {
                "id": f"{prefix}-{account}-{day}-{user}-{place}",
                "user_id": f"{name}:{user}",
                "type": _TYPES[place],
                "occurred_at": second,
            }
            if place in _BEGINS or account % _APPS:
                event["account_id"] = name
            if place == _Place.END:
                event["properties"] = {"duration_seconds": detail}
            elif place in {_Place.FEATURE, _Place.SECOND_FEATURE}:
                event["properties"] = {"feature": FEATURES[detail]}
            yield event


def simulate(*, now: datetime, anchor: date | None = None, seed: int = SEED) -> Simulation:
    """The vendor told as of `anchor` (by default the day of `now`), with events up to `now`.

    The 400 days end with `anchor`; a `now` on a later day continues every story.
    """
    now = now.astimezone(UTC)
    anchor = anchor or now.date()
    first = anchor - timedelta(days=LAST)
    days = max(0, (now.date() - first).days + 1)
    season = _season(first, days)
    midnight = int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp())
    accounts = tuple(
        replace(account, fields=with_goal(account, anchor=anchor))
        for account in invent_accounts(anchor=anchor, seed=seed)
    )
    table = np.concatenate(
        [_use(account, season, midnight=midnight, seed=seed) for account in accounts]
    )
    table = table[table[:, 0] <= int(now.timestamp())]
    # lexsort's last key counts most: time, then account, user, place.
    order = np.lexsort((table[:, 4], table[:, 3], table[:, 1], table[:, 0]))
    signals = [
        one
        for account in accounts
        for one in signals_of(account, anchor=anchor, days=days, seed=seed)
        if _second(one) <= now.timestamp()
    ]
    return Simulation(
        accounts=accounts,
        anchor=anchor,
        _table=table[order],
        _signals=tuple(sorted(signals, key=_second)),
    )


def _use(account: SimulatedAccount, season: Floats, *, midnight: int, seed: int) -> Integers:
    """All events of one account, `(events, 6)`, in no order."""
    days, users = len(season), account.users
    habits = np.random.default_rng((seed, 2, account.index))
    eagerness = _eagerness(account, habits)
    breadth = int(habits.integers(3, len(FEATURES) + 1))
    # One row more than users: the account's own noise. Day by day, so more days change no day.
    draws = np.random.default_rng((seed, 3, account.index)).random((days, users + 1, len(_Draw)))
    noise = 0.7 + 0.6 * draws[:, users, 0]
    rate = season * noise * _story(account, days)
    comes = draws[:, :users, _Draw.COMES] < eagerness * rate[:, None] * _presence(account, days)
    if account.turns is not None and account.pattern is Pattern.SILENT:
        comes[account.turns, 0] = True  # so that the silence is as long as told
    day, user = np.nonzero(comes)
    drawn = draws[day, user]
    lasts = np.clip(
        -np.log1p(-drawn[:, _Draw.LASTS]) * _MEAN_SESSION_SECONDS, 30, _LONGEST_SESSION_SECONDS
    ).astype(np.int64)
    opening = 8 - account.utc_offset_hours
    starts = (
        midnight + day * _DAY_SECONDS + ((opening + 9.5 * drawn[:, _Draw.STARTS]) * 3_600)
    ).astype(np.int64)
    feature = (breadth * drawn[:, _Draw.FEATURE] ** 1.6).astype(np.int64)
    # A second feature in two of five sessions, each as likely as the others.
    second = (breadth * drawn[:, _Draw.SECOND_FEATURE] / 0.4).astype(np.int64)
    nothing = np.zeros_like(starts)
    everybody = np.ones(len(starts), dtype=np.bool_)
    events = [
        (_Place.LOGIN, drawn[:, _Draw.LOGIN] < 0.2, starts, nothing),
        (_Place.START, everybody, starts, nothing),
        (_Place.PAGE_VIEW, drawn[:, _Draw.PAGE_VIEW] < 0.3, starts + 2, nothing),
        (_Place.FEATURE, everybody, starts + lasts // 4, feature),
        (
            _Place.SECOND_FEATURE,
            (second < breadth) & (second != feature),
            starts + lasts // 2,
            second,
        ),
        (_Place.END, everybody, starts + lasts, lasts),
    ]
    return np.concatenate(
        [
            np.column_stack(
                (
                    seconds,
                    np.full_like(seconds, account.index),
                    day,
                    user,
                    np.full_like(seconds, place),
                    detail,
                )
            )[happens]
            for place, happens, seconds, detail in events
        ]
    )


def _second(event: Fields) -> int:
    return int(str(event["occurred_at"]))


def _eagerness(account: SimulatedAccount, habits: np.random.Generator) -> Floats:
    """How likely each user comes on a plain working day, `(users,)`; the first is a regular."""
    if account.pattern is Pattern.CHAMPION_LEFT:
        others = habits.uniform(0.05, 0.11, account.users)
        others[0] = habits.uniform(0.8, 0.95)
        return others
    eagerness = habits.uniform(0.03, 0.18, account.users)
    eagerness[0] = habits.uniform(0.45, 0.7)
    return eagerness


def _presence(account: SimulatedAccount, days: int) -> Floats:
    """Who is there at all, `(days, users)`: newcomers, and the champion who leaves."""
    there = np.ones((days, account.users))
    if account.pattern is Pattern.CHAMPION_LEFT and account.turns is not None:
        there[account.turns + 1 :, 0] = 0
    elif account.pattern in {Pattern.STABLE, Pattern.GROWING, Pattern.SEASONAL}:
        # Every fifth user joins during the year; the regulars are the first four.
        for user in range(4, account.users, 5):
            there[: 60 + (account.index * 37 + user * 53) % 240, user] = 0
    return there


def _story(account: SimulatedAccount, days: int) -> Floats:
    """The account's own factor on every day, `(days,)`."""
    index = np.arange(days, dtype=np.float64)
    rate = np.ones(days)
    match account.pattern:
        case Pattern.GROWING:
            rate = 0.45 + 0.75 * np.minimum(index / LAST, 1.2)
        case Pattern.SEASONAL:
            phase = account.index * 29 % 365
            rate = 1 + 0.35 * np.sin(2 * np.pi * (index - phase) / 365)
        case Pattern.DECLINING if account.turns is not None:
            left = 0.02 + 0.08 * (account.index % 7) / 6
            pace = np.log(left) / (LAST - account.turns)
            rate = np.exp(pace * np.maximum(0, index - account.turns))
        case Pattern.SILENT | Pattern.CHURNED if account.turns is not None:
            rate[account.turns + 1 :] = 0
        case Pattern.ONBOARDING:
            rate = np.minimum(1, 0.4 + 0.6 * (index - account.begins) / 30)
        case _:
            pass
    rate[: account.begins] = 0
    return rate


def _season(first: date, days: int) -> Floats:
    """What weekdays and holidays do to everybody, `(days,)`."""
    factors = np.empty(days)
    for index in range(days):
        day = first + timedelta(days=index)
        factor = _WEEKDAYS[day.weekday()]
        if (day.month, day.day) >= (12, 24) or (day.month, day.day) == (1, 1):
            factor *= 0.15
        elif day.month == 8:
            factor *= 0.8
        factors[index] = factor
    return factors
