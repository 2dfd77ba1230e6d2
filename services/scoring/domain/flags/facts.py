"""What flags need to know of accounts besides their indicators, as vectors `(accounts,)`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.goals import NOBODYS, Standing
from services.scoring.domain.usage import Floats, Integers
from shared.messages import AccountFields

Bools: TypeAlias = NDArray[np.bool_]

NO_SEGMENT = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Of the accounts of an `IndicatorTable`, in its order.

    `severity` is that of the band after this look; `risk` NaN: none (too new, lapsed).
    `contract_end` is an ordinal, NaN where none is known or where a monthly contract has rolled on.
    `monthly`, `yearly`: it renews by the month; by the year or longer. `stale`: half of the
    account's events of 28 days come from sources that are silent, or were until a day ago.
    `segment` indexes `segments`; -1: none.
    `milestones_used`: the vendor reports onboarding milestones; else their absence says nothing.
    """

    severity: Integers
    risk: Floats
    churned: Bools
    under_contract: Bools
    seats: Floats
    contract_end: Floats
    monthly: Bools
    yearly: Bools
    stale: Bools
    segment: Integers
    segments: Sequence[str]
    goals: Standing
    milestones_used: bool = False

    def __len__(self) -> int:
        return len(self.severity)

    def segment_of(self, index: int) -> str | None:
        code = int(self.segment[index])
        return None if code == NO_SEGMENT else self.segments[code]

    def take(self, rows: Integers) -> "Facts":
        """Those of some accounts only."""
        return replace(
            self,
            severity=self.severity[rows],
            risk=self.risk[rows],
            churned=self.churned[rows],
            under_contract=self.under_contract[rows],
            seats=self.seats[rows],
            contract_end=self.contract_end[rows],
            monthly=self.monthly[rows],
            yearly=self.yearly[rows],
            stale=self.stale[rows],
            segment=self.segment[rows],
            goals=self.goals.take(rows),
        )


def facts_of(
    fields: Sequence[AccountFields],
    as_of: date,
    *,
    severity: Integers,
    risk: Floats,
    stale: Bools | None = None,
    goals: Standing | None = None,
    milestones_used: bool = False,
) -> Facts:
    """The facts of accounts from their records; a vector each for band, risk and staleness.

    `goals`: how theirs stand; None: nobody has any.
    """
    names = {one.segment: None for one in fields if one.segment is not None}
    codes = {name: code for code, name in enumerate(names)}
    rows = [_row(one, as_of, codes) for one in fields]
    columns = np.array(rows, np.float64).reshape(len(rows), 7).T
    return Facts(
        severity=severity,
        risk=risk,
        churned=columns[0] > 0,
        under_contract=columns[1] > 0,
        seats=columns[2],
        contract_end=columns[3],
        monthly=columns[4] > 0,
        yearly=columns[5] > 0,
        stale=np.zeros(len(rows), np.bool_) if stale is None else stale,
        segment=columns[6].astype(np.int64),
        segments=tuple(codes),
        goals=replace(NOBODYS, accounts=len(rows)) if goals is None else goals,
        milestones_used=milestones_used,
    )


def _row(one: AccountFields, as_of: date, codes: dict[str, int]) -> tuple[float, ...]:
    end = one.contract_end
    if end is not None and end < as_of and one.billing_period == "month":
        end = None
    return (
        one.status == "churned",
        one.status in {"trial", "active"} or (end is not None and end > as_of),
        np.nan if one.seats is None else one.seats,
        np.nan if end is None else end.toordinal(),
        one.billing_period == "month",
        one.billing_period in {"year", "multi_year"},
        NO_SEGMENT if one.segment is None else codes[one.segment],
    )
