"""What scoring's read API says of all accounts together, as it is on the wire.

Rates are None where fewer than ten accounts stand behind them; money is one entry per currency.
"""

from datetime import date, datetime
from decimal import Decimal

import msgspec


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Accounts under contract: start + new - lost = end."""

    start: int
    new: int
    lost: int
    end: int
    trials: int = 0
    without_record: int = 0


class Churn(msgspec.Struct, frozen=True, kw_only=True):
    rate: float | None
    retention: float | None
    n: int
    per_month: float | None = None
    per_year: float | None = None


class Renewals(msgspec.Struct, frozen=True, kw_only=True):
    """Contracts that ended in the period; the rate is of those that are decided."""

    due: int
    renewed: int
    lost: int
    pending: int
    rate: float | None


class RenewalsOfValue(msgspec.Struct, frozen=True, kw_only=True):
    """The same by value: twelve months of what they pay."""

    due: Decimal
    renewed: Decimal
    lost: Decimal
    pending: Decimal
    rate: float | None


class LifetimeValue(msgspec.Struct, frozen=True, kw_only=True):
    """Margin per month x months; `of`: whose churn the months are from."""

    average: Decimal | None
    months: float | None
    of: str | None
    n: int
    basis: str = "margin"


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """In one currency; what is at risk only of a period that is not over."""

    currency: str | None
    mrr_start: Decimal
    mrr_end: Decimal
    new: Decimal
    expansion: Decimal
    contraction: Decimal
    lost: Decimal
    grr: float | None
    nrr: float | None
    n: int
    renewals: RenewalsOfValue | None = None
    ltv: LifetimeValue | None = None
    value_at_risk: Decimal | None = None
    ltv_at_risk: Decimal | None = None
    value_basis: dict[str, int] = {}


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    accounts: Counted
    churn: Churn
    renewals: Renewals
    money: tuple[Money, ...] = ()


class Part(msgspec.Struct, frozen=True, kw_only=True):
    key: str | None
    figures: Figures


class Others(msgspec.Struct, frozen=True, kw_only=True):
    """Parts that have no line of their own."""

    parts: int
    figures: Figures


class Portfolio(msgspec.Struct, frozen=True, kw_only=True, rename={"first": "from", "until": "to"}):
    """Of a period `[from, to)`, whole and by the parts of a cut."""

    first: date
    until: date
    as_of: datetime
    state: str
    by: str
    target: float
    whole: Figures
    parts: tuple[Part, ...]
    others: Others | None = None

    @property
    def is_final(self) -> bool:
        return self.state == "final"


class Month(msgspec.Struct, frozen=True, kw_only=True):
    month: str
    state: str
    figures: Figures


class Months(msgspec.Struct, frozen=True, kw_only=True):
    months: tuple[Month, ...]


class MoneyDue(msgspec.Struct, frozen=True, kw_only=True):
    currency: str | None
    due: Decimal
    expected_lost: Decimal


class Horizon(msgspec.Struct, frozen=True, kw_only=True):
    """Contracts that end within so many days, and how many will not renew, by their risk."""

    days: int
    due: int
    without_risk: int
    expected_lost: float
    expected_rate: float | None
    money: tuple[MoneyDue, ...] = ()


class ForecastPart(msgspec.Struct, frozen=True, kw_only=True):
    key: str | None
    forecast: tuple[Horizon, ...]


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    as_of: datetime
    horizons: tuple[int, ...]
    whole: tuple[Horizon, ...]
    parts: tuple[ForecastPart, ...] = ()


class StageOfLife(msgspec.Struct, frozen=True, kw_only=True):
    stage: str
    accounts: int
    median_days: float | None = None
    entered_90: int = 0
    left_90: dict[str, int] = {}


class Journey(msgspec.Struct, frozen=True, kw_only=True):
    as_of: datetime
    stages: tuple[StageOfLife, ...]


class Goals(msgspec.Struct, frozen=True, kw_only=True):
    """What customers were promised; improvements are shares of the baseline."""

    accounts: int
    goals: int
    reached: int
    on_track: int
    behind: int
    missed: int
    no_values: int
    mean_improvement: float | None
    top_improvement: float | None
    success_rate: float | None


class GoalsPart(msgspec.Struct, frozen=True, kw_only=True):
    key: str | None
    goals: Goals


class GoalsFound(msgspec.Struct, frozen=True, kw_only=True):
    as_of: datetime
    whole: Goals
    parts: tuple[GoalsPart, ...] = ()


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    value: str | None
    accounts: int


class Facets(msgspec.Struct, frozen=True, kw_only=True):
    """What accounts can be narrowed to, and how many each value would leave."""

    owner: tuple[Choice, ...] = ()
    segment: tuple[Choice, ...] = ()
    plan: tuple[Choice, ...] = ()
    region: tuple[Choice, ...] = ()
    reseller: tuple[Choice, ...] = ()
    sales: tuple[Choice, ...] = ()
    stage: tuple[Choice, ...] = ()
