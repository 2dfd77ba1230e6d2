"""What a condition is made of: alternatives of clauses, a clause a column against a number.

What is not known (NaN) meets no clause but `unknown`.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import reduce
from typing import Final, Literal, TypeAlias

import numpy as np

from services.scoring.domain.flags.facts import Bools, Facts
from services.scoring.domain.flags.states import Why
from services.scoring.domain.goals import Standing
from services.scoring.domain.table import BASES, IndicatorTable
from services.scoring.domain.usage import Floats, Integers

Test: TypeAlias = Literal["<=", "<", ">=", ">", "known", "unknown"]

_YEAR: Final = 365.0


@dataclass(frozen=True, slots=True)
class Clause:
    """`values` `(accounts,)` compared with `limit`, a number or one per account."""

    what: str
    values: Floats
    test: Test
    limit: Floats | float = 0.0
    unit: str = ""

    def met(self) -> Bools:
        match self.test:
            case "<=":
                return self.values <= self.limit
            case "<":
                return self.values < self.limit
            case ">=":
                return self.values >= self.limit
            case ">":
                return self.values > self.limit
            case "known":
                return ~np.isnan(self.values)
            case "unknown":
                return np.isnan(self.values)


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way in which a condition holds, and what it is called."""

    why: Why
    clauses: tuple[Clause, ...]

    def met(self) -> Bools:
        return reduce(np.logical_and, (clause.met() for clause in self.clauses))


@dataclass(frozen=True, slots=True)
class Condition:
    """When a flag is raised and when it ends, before any waiting."""

    raises: tuple[Alternative, ...]
    ends: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What conditions are about: the rows of some accounts."""

    table: IndicatorTable
    facts: Facts

    def take(self, rows: Integers) -> "Seen":
        table = IndicatorTable(self.table.as_of, self.table.values[rows])
        return Seen(table, self.facts.take(rows))

    def number(self, column: str, index: int) -> float:
        return float(self.table.column(column)[index])

    @property
    def severity(self) -> Floats:
        return self.facts.severity.astype(np.float64)

    @property
    def share_of_seats(self) -> Floats:
        """Users of 28 days per seat; NaN where seats, or users, are not known."""
        of_seats = self.table.column("share_basis") == BASES.index("seats")
        return np.where(of_seats, self.table.column("share_of_active_users"), np.nan)

    @property
    def goals(self) -> Standing:
        return self.facts.goals

    def without_goals(self, keys: Collection[str]) -> "Seen":
        """The same, but for some goals: what has been told of is not told again."""
        return replace(self, facts=replace(self.facts, goals=self.facts.goals.without(keys)))

    @property
    def days_to_end(self) -> Floats:
        """Days until the contract's end; negative where it is past."""
        return self.facts.contract_end - self.table.as_of.toordinal()

    @property
    def contract_days(self) -> Floats:
        """The contract's length; a year where only its billing is known.

        Not known of one that renews by the month: its start says since when, not for how long.
        """
        days = np.where(self.facts.monthly, np.nan, self.table.column("contract_days"))
        return np.where(np.isnan(days) & self.facts.yearly, _YEAR, days)
