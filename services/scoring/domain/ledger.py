"""All accounts as columns: what was known of each when, where it stood, how it stands now.

Flat: one entry per version `(versions,)` or stage `(stages,)`, in the order of account, then time;
`accounts` are sorted, and an entry's `account` is the index of its account. Text is coded: an index
into `names[dimension]`, -1 where it is not known.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.usage import Floats, Integers

UNKNOWN: Final = -1


class Dimension(StrEnum):
    """What of an account is text with few values; each version has a column of that name."""

    OWNER = "owner"
    SEGMENT = "segment"
    PLAN = "plan"
    REGION = "region"
    RESELLER = "reseller"
    CURRENCY = "currency"


class LifeStage(IntEnum):
    """Where an account stands on its way; the numbers are stored, the order is that of the way."""

    TRIAL = 1
    LAND = 2
    ADOPT = 3
    EXPAND = 4
    RENEW = 5
    LOST = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """What the directory said; a version holds until the next one of its account, and the first of
    an account also for all the time before: it is what we were told of the past.

    `since`: epoch microseconds at which it was received. `mrr`, `margin`: per month in the
    version's currency, NaN where not known. `status`: index into `usage.STATUSES`, NaN not known.
    Dates are ordinals, NaN where not known. `monthly`: the contract renews every month.
    """

    account: Integers
    since: Integers
    owner: Integers
    segment: Integers
    plan: Integers
    region: Integers
    reseller: Integers
    currency: Integers
    mrr: Floats
    margin: Floats
    seats: Floats
    status: Floats
    contract_start: Floats
    contract_end: Floats
    churned_at: Floats
    notice_days: Floats
    monthly: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.account)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """When an account came to a stage: `since` in epoch microseconds; `stage` a `LifeStage`."""

    account: Integers
    since: Integers
    stage: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Today:
    """How the accounts stand now `(accounts,)`: the last look of the sweep.

    `risk` NaN: not scored. `band` an index into `risk.BANDS`, -1: none shown. `value_at_risk` in
    the account's currency, NaN: not known. `stage` a `LifeStage`, 0: not looked at yet. `state` an
    index into `table.STATES`, -1: not looked at yet.
    """

    state: Integers
    risk: Floats
    band: Integers
    value_at_risk: Floats
    stage: Integers
    stage_since: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """`as_of`: epoch microseconds at which it was read. `titles`: the accounts' names as they are
    now, the id where there is none. An account that only events know has no version.
    `erased_since`: the first change (epoch microseconds) to an account that was erased since.
    """

    as_of: int
    erased_since: int | None = None
    accounts: tuple[str, ...]
    titles: tuple[str, ...]
    names: Mapping[Dimension, tuple[str, ...]]
    versions: Versions
    stages: Stages
    today: Today

    def version_at(self, moment: int) -> Integers:
        """Of each account the index of the version in force at the moment (epoch microseconds).

        -1 where the directory does not know the account.
        """
        return _last_at(self.versions.account, self.versions.since, moment, len(self.accounts))

    def newest_version(self) -> Integers:
        """Of each account the index of its last version, -1 where it has none."""
        account = self.versions.account
        last = np.flatnonzero(np.diff(account, append=UNKNOWN))
        found = np.full(len(self.accounts), UNKNOWN)
        found[account[last]] = last
        return found

    def stage_at(self, moment: int) -> Integers:
        """Of each account its `LifeStage` at the moment; 0 where it was not known yet."""
        known = self.stages.since <= moment
        found = np.zeros(len(self.accounts), np.int64)
        # In the order of time: the last one written stays.
        found[self.stages.account[known]] = self.stages.stage[known]
        return found


def _last_at(account: Integers, since: Integers, moment: int, accounts: int) -> Integers:
    """The last entry of each account at the moment; the first where all came later."""
    first = np.searchsorted(account, np.arange(accounts + 1))
    sizes = np.diff(first)
    known = np.bincount(account[since <= moment], minlength=accounts)
    return np.where(sizes > 0, first[:-1] + np.maximum(known - 1, 0), UNKNOWN)
