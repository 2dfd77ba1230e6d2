"""Of whom nobody is told, so that it can be measured what telling is good for.

An account is drawn for a whole quarter, by a keyed hash: nobody can guess it, every replica draws
the same, and chance alone decides. What is urgent, and what a person or the customer has said, is
never held out.
"""

import hashlib
import hmac
import math
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from services.notifier.domain.flags import OwnReason, WorkReason, is_opportunity
from shared.messages import Band, FlagReason

LARGEST_SHARE: Final = 0.10
MEASURED_DAYS: Final = 180
"""An account counts as lost where it has left within so many days of being drawn."""
FEWEST: Final = 30
"""In each arm; of fewer nothing is said."""
_Z95: Final = 1.959963984540054

_SAID = frozenset[WorkReason](
    {FlagReason.CANCELLATION_INTENT, FlagReason.PAYMENT_FAILED, FlagReason.UNHAPPY_FEEDBACK}
)


@dataclass(frozen=True, slots=True)
class HoldOut:
    """A share of the accounts, 0 to 0.1; 0: nobody."""

    share: float = 0.0
    key: bytes = field(default=b"", repr=False)

    def draw(
        self, account_id: str, *, reason: WorkReason, severity: Band, today: date
    ) -> bool | None:
        """Whether an intervention that opens on that (UTC) day is held out; None: nothing is drawn
        for what is never held out.
        """
        if not self.share or severity is Band.CRITICAL:
            return None
        if isinstance(reason, OwnReason) or reason in _SAID or is_opportunity(reason):
            return None
        name = f"{account_id}\0{quarter_of(today)}".encode()
        drawn = int.from_bytes(hmac.digest(self.key, name, hashlib.sha256)[:8], "big")
        return drawn < self.share * 2**64


NOBODY: Final = HoldOut()


def hold_out_of(secret: str, share: float) -> HoldOut:
    """Other uses of the same secret learn nothing of it."""
    key = hmac.digest(secret.encode(), b"perennial hold-out", hashlib.sha256)
    return HoldOut(share=share, key=key)


def quarter_of(day: date) -> str:
    return f"{day.year}Q{(day.month + 2) // 3}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Accounts that were drawn alike, and how many of them have left."""

    accounts: int
    lost: int

    @property
    def share(self) -> float:
        return self.lost / self.accounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplift:
    """How much smaller the lost share is where people were told: held out minus treated."""

    difference: float
    low: float
    high: float
    """95 % interval (Newcombe 1998, method 10: of Wilson's two intervals)."""


def uplift(held_out: Arm, treated: Arm) -> Uplift | None:
    """As drawn, whatever became of it; None where an arm has too few accounts."""
    if min(held_out.accounts, treated.accounts) < FEWEST:
        return None
    one, other = held_out.share, treated.share
    (low1, high1), (low2, high2) = _wilson(held_out), _wilson(treated)
    below = math.hypot(one - low1, high2 - other)
    above = math.hypot(high1 - one, other - low2)
    return Uplift(difference=one - other, low=one - other - below, high=one - other + above)


def _wilson(arm: Arm) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    n, p, zz = arm.accounts, arm.share, _Z95**2
    middle = (p + zz / (2 * n)) / (1 + zz / n)
    half = _Z95 * math.sqrt(p * (1 - p) / n + zz / (4 * n * n)) / (1 + zz / n)
    return middle - half, middle + half
