"""What a replay leaves: the sweep's rows of each look, and the flags that it raised."""

from dataclasses import dataclass
from datetime import date, datetime

from services.scoring.domain.table import IndicatorTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the sweep logged at one moment: `accounts` in the order of the table's rows."""

    day: date
    """T, the last complete day."""
    accounts: tuple[str, ...]
    table: IndicatorTable


@dataclass(frozen=True, slots=True, kw_only=True)
class RaisedFlag:
    """One episode of a flag that the sweep raised during the replay."""

    account: str
    reason: str
    raised_at: datetime
    cleared_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    looks: tuple[Look, ...]
    flags: tuple[RaisedFlag, ...]
