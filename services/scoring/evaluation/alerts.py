"""What a team would have been told: a threshold on the risk, replayed over the tested looks.

An episode begins when the risk reaches the rule's threshold, and ends when the risk was below the
rule's lower one at two looks in a row (then a cool-down follows), or when the account stops taking
part: it has been silent for so long that there is nothing left to warn of.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.model import Vector
from services.scoring.domain.risk import RAISED, limits
from services.scoring.domain.rules import read_default
from services.scoring.evaluation.protocol import LOOK_EVERY_DAYS
from services.scoring.evaluation.snapshots import Snapshots
from shared.messages import Band

DAYS_A_MONTH: Final = 30.4375
SILENCE_DAYS: Final = 90
AHEAD_DAYS: Final = 180

_Active = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """Thresholds `(tested,)`: of a rule that follows the base rate they change with the model."""

    name: str
    raise_at: Vector
    close_below: Vector
    cool_down_days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """What a rule would have said; shares are None where nothing was there to count.

    `lost` is the share that was then lost by the label, `silenced` the share whose silence of more
    than 90 days began within 180 days of the flag or was already under way; a flag of the others
    is false. `*_base` is the same of all tested rows. A loss is the last active day before such a
    silence, of an account that took part after it; it is caught by a flag raised from 180 days
    before it to 90 after. `days_until_confirmed`: the median from the first such flag to the end of
    those 90 days.
    """

    rule: str
    flags: int
    per_account_month: float | None
    false_per_account_month: float | None
    per_week: float | None
    lost: float | None
    lost_base: float | None
    silenced: float | None
    silenced_base: float | None
    losses: int
    caught: float | None
    caught_before_last_use: float | None
    days_until_confirmed: float | None


def fixed_rule(rows: int) -> AlertRule:
    """0.30 as it is, closed below 0.20 twice, nothing new for 84 days."""
    return AlertRule(
        name="risk 0.30",
        raise_at=np.full(rows, 0.30),
        close_below=np.full(rows, 0.20),
        cool_down_days=84,
    )


def band_rule(base_rate: Vector) -> AlertRule:
    """The program's own: the band at_risk; `base_rate` `(tested,)` of what the model learnt from.

    Looks are 28 days apart: low at two in a row is low for the 14 days that a band needs.
    """
    at_risk = RAISED.index(Band.AT_RISK)
    bounds = limits(read_default(), [None] * len(base_rate), base_rate)
    return AlertRule(
        name="band at_risk",
        raise_at=bounds.begin[:, at_risk],
        close_below=bounds.end[:, at_risk],
        cool_down_days=0,
    )


def raised(tested: Snapshots, risk: Vector, rule: AlertRule) -> NDArray[np.int64]:
    """The rows at which an episode begins."""
    begun: list[int] = []
    account = last_day = blocked_until = -1
    is_open, low = False, 0
    for row in np.lexsort((tested.day, tested.account)).tolist():
        day = int(tested.day[row])
        if int(tested.account[row]) != account:
            account, is_open, blocked_until = int(tested.account[row]), False, -1
        elif day - last_day > LOOK_EVERY_DAYS:
            is_open = False
        last_day = day
        if is_open:
            low = low + 1 if risk[row] < rule.close_below[row] else 0
            if low == 2:
                is_open, blocked_until = False, day + rule.cool_down_days
        elif risk[row] >= rule.raise_at[row] and day >= blocked_until:
            begun.append(row)
            is_open, low = True, 0
    return np.array(begun, np.int64)


def alerts(tested: Snapshots, risk: Vector, rule: AlertRule, active: _Active, last: date) -> Alerts:
    """The rule's table; `active` holds each account's active days, `last` is the file's last."""
    begun = raised(tested, risk, rule)
    silences = {
        name: _silences(active[name], last.toordinal())
        for name in (tested.names[index] for index in np.unique(tested.account).tolist())
    }
    silenced = np.array(
        [
            _is_silenced(active[tested.names[account]], silences[tested.names[account]], day)
            for account, day in zip(tested.account.tolist(), tested.day.tolist(), strict=True)
        ],
        np.bool_,
    )
    losses, first_flags = _losses(tested, begun, silences)
    leads = [
        (loss, flag) for loss, flag in zip(losses, first_flags, strict=True) if flag is not None
    ]
    months = len(tested) * LOOK_EVERY_DAYS / DAYS_A_MONTH
    weeks = (int(tested.day.max()) - int(tested.day.min()) + LOOK_EVERY_DAYS) / 7
    return Alerts(
        rule=rule.name,
        flags=len(begun),
        per_account_month=len(begun) / months,
        false_per_account_month=float((~silenced[begun]).sum()) / months,
        per_week=len(begun) / weeks,
        lost=_mean(tested.lost[begun]),
        lost_base=_mean(tested.lost),
        silenced=_mean(silenced[begun]),
        silenced_base=_mean(silenced),
        losses=len(losses),
        caught=len(leads) / len(losses) if losses else None,
        caught_before_last_use=_mean(np.array([flag < loss for loss, flag in leads])),
        days_until_confirmed=(
            float(np.median([loss + SILENCE_DAYS - flag for loss, flag in leads]))
            if leads
            else None
        ),
    )


def _silences(active: NDArray[np.int64], last: int) -> NDArray[np.int64]:
    """The active days after which more than 90 days without any followed, as far as is known."""
    until = np.append(active[1:], last + 1)
    silences: NDArray[np.int64] = active[until - active > SILENCE_DAYS]
    return silences


def _is_silenced(active: NDArray[np.int64], silences: NDArray[np.int64], day: int) -> bool:
    """Whether a silence is under way as of `day`, or begins within the days ahead."""
    index = int(np.searchsorted(active, day, side="right"))
    latest = int(active[index - 1]) if index else day
    return bool(((silences >= latest) & (silences <= day + AHEAD_DAYS)).any())


def _losses(
    tested: Snapshots, begun: NDArray[np.int64], silences: Mapping[str, NDArray[np.int64]]
) -> tuple[list[int], list[int | None]]:
    """The last days of use before silences that a flag could have told of, and their first flag."""
    flags: dict[int, list[int]] = {}
    for row in begun.tolist():
        flags.setdefault(int(tested.account[row]), []).append(int(tested.day[row]))
    losses: list[int] = []
    first_flags: list[int | None] = []
    for account in np.unique(tested.account).tolist():
        days = tested.day[tested.account == account]
        for loss in silences[tested.names[account]].tolist():
            if not ((days >= loss) & (days <= loss + SILENCE_DAYS)).any():
                continue
            near = [
                day
                for day in flags.get(account, [])
                if loss - AHEAD_DAYS <= day <= loss + SILENCE_DAYS
            ]
            losses.append(loss)
            first_flags.append(min(near, default=None))
    return losses, first_flags


def _mean(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if values.size else None
