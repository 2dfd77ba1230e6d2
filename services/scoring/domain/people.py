"""What the users and the features of the days say: who came how often, and what was used."""

from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.grouping import Groups, group
from services.scoring.domain.usage import KEPT_DAYS, Floats, Integers, Members, Usage
from services.scoring.domain.windows import WINDOWS

TEAM_USERS: Final = 3
CHAMPION_AGES: Final = (28, 118)  # Days 29-118 before A, where A itself is the first.
CHAMPION_MIN_DAYS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One user of an account: complete days of use within the 400 that are kept."""

    user: int
    first: date
    last: date
    active_days_28: int
    active_days_90: int
    active_days_365: int


def people(usage: Usage, index: int, as_of: date) -> tuple[Person, ...]:
    """The users of one account, who came last first."""
    users, last = usage.users, as_of.toordinal()
    chosen = (users.owner == index) & (users.day <= last) & (users.day > last - KEPT_DAYS)
    groups = group(users.owner[chosen], users.code[chosen])
    days = np.split(users.day[chosen][groups.order], groups.starts[1:])
    found = [
        Person(
            user=int(code),
            first=date.fromordinal(int(own.min())),
            last=date.fromordinal(int(own.max())),
            active_days_28=int((own > last - 28).sum()),
            active_days_90=int((own > last - 90).sum()),
            active_days_365=int((own > last - 365).sum()),
        )
        for code, own in zip(groups.code, days, strict=False)  # No user: one empty part.
    ]
    return tuple(sorted(found, key=lambda one: (-one.last.toordinal(), one.user)))


def user_columns(usage: Usage, as_of: int, seconds_28: Floats) -> dict[str, Floats]:
    """Active users per window, their share of those known, stickiness, champion, time per visit.

    Missing where no event of the kept days names a user.
    """
    accounts = usage.accounts
    groups, age = _kept(usage.users, as_of)
    owner = groups.owner
    known, active = _distinct(groups, age, accounts)
    days_28, days_90 = _days(groups, age, (0, 28)), _days(groups, age, (0, 90))
    visits, visits_90 = _sum(days_28, owner, accounts), _sum(days_90, owner, accounts)
    columns = {
        f"active_users_{window}": np.where(known, active[window], np.nan) for window in active
    }
    columns["share_of_known_users"] = _ratio(active[28], active[365])
    columns["stickiness"] = np.where(known, visits / (28 * np.maximum(active[28], 1)), np.nan)
    columns["seconds_per_user_day"] = _ratio(seconds_28, visits)
    columns["champion_share"] = _ratio(_most(days_90, owner, accounts), visits_90)
    columns["most_user_days_28"] = np.where(known, _most(days_28, owner, accounts), np.nan)
    before = _days(groups, age, CHAMPION_AGES)
    main = (2 * before >= _sum(before, owner, accounts)[owner]) & (before >= CHAMPION_MIN_DAYS)
    has_main = (np.bincount(owner[main], minlength=accounts) > 0) & (active[365] >= TEAM_USERS)
    gone = np.bincount(owner[main & (days_28 == 0)], minlength=accounts) > 0
    columns["champion_gone"] = np.where(has_main, gone, np.nan)
    return columns


def feature_columns(usage: Usage, as_of: int) -> dict[str, Floats]:
    """Distinct features per window; missing where no event of the kept days names one.

    A feature's last complete day is enough: days before it change nothing.
    """
    groups, age = _kept(usage.features, as_of)
    known, counts = _distinct(groups, age, usage.accounts)
    return {f"breadth_{window}": np.where(known, counts[window], np.nan) for window in counts}


def _kept(members: Members, as_of: int) -> tuple[Groups, Integers]:
    """The members grouped, and their ages in the groups' order; `KEPT_DAYS` and more: forgotten."""
    groups = group(members.owner, members.code)
    age = (as_of - members.day)[groups.order]
    age[age < 0] = KEPT_DAYS  # After A. As cheap as that: leaving them out would copy everything.
    return groups, age


def _distinct(
    groups: Groups, age: Integers, accounts: int
) -> tuple[NDArray[np.bool_], dict[int, Integers]]:
    """Whether an account has any members, and how many distinct ones per window.

    A member is active in a window exactly if its last day is.
    """
    newest = np.minimum.reduceat(age, groups.starts) if len(groups) else age
    known = np.bincount(groups.owner[newest < KEPT_DAYS], minlength=accounts) > 0
    return known, {
        window: np.bincount(groups.owner[newest < window], minlength=accounts) for window in WINDOWS
    }


def _days(groups: Groups, age: Integers, ages: tuple[int, int]) -> Integers:
    """Days of each member whose age is in the range, `(groups,)`."""
    if not len(groups):
        return age
    inside = ((age >= ages[0]) & (age < ages[1])).astype(np.int64)
    return np.add.reduceat(inside, groups.starts)


def _sum(days: Integers, owner: Integers, accounts: int) -> Floats:
    return np.bincount(owner, days, accounts).astype(np.float64)  # Exact below 2**53.


def _most(days: Integers, owner: Integers, accounts: int) -> Integers:
    most = np.zeros(accounts, np.int64)
    np.maximum.at(most, owner, days)
    return most


def _ratio(part: Integers | Floats, whole: Integers | Floats) -> Floats:
    """NaN where there is nothing to divide by."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
