"""When a contract renews, seen from a day."""

import calendar
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.usage import Directory, Floats, Integers
from shared.messages import AccountFields

_EPOCH: Final = date(1970, 1, 1).toordinal()


def renewal_date(fields: AccountFields, as_of: date) -> date | None:
    """The contract's end; for a monthly contract the end of the period that runs on `as_of`.

    A longer contract's end may lie in the past: it is overdue, and that is worth knowing. A
    monthly one rolls on by itself.
    """
    end = fields.contract_end
    if fields.billing_period != "month" or (end is not None and end >= as_of):
        return end
    anchor = end or fields.contract_start
    if anchor is None or anchor > as_of:
        return None
    months = (as_of.year - anchor.year) * 12 + as_of.month - anchor.month
    renewal = months_after(anchor, months)
    return renewal if renewal >= as_of else months_after(anchor, months + 1)


def days_to_renewal(directory: Directory, as_of: int) -> Floats:
    """Days from `as_of` (an ordinal) to each account's `renewal_date`, `(accounts,)`.

    Negative where it is overdue, NaN where it is not known.
    """
    days = directory.contract_end - as_of
    rolling = np.flatnonzero(directory.monthly & ~(days >= 0))
    anchor = np.where(np.isnan(days), directory.contract_start, directory.contract_end)[rolling]
    begun = anchor <= as_of
    days[rolling[~begun]] = np.nan
    anchors = _as_days(anchor[begun].astype(np.int64))
    this_month = _as_days(np.array(as_of)).astype("datetime64[M]")
    renewal = _on_day_of(anchors, this_month)
    late = renewal < as_of
    renewal[late] = _on_day_of(anchors[late], this_month + 1)
    days[rolling[begun]] = renewal - as_of
    return days


def months_after(anchor: date, months: int) -> date:
    """The same day some months later; the month's last day where it is too short."""
    year, month = divmod(anchor.month - 1 + months, 12)
    year, month = anchor.year + year, month + 1
    return date(year, month, min(anchor.day, calendar.monthrange(year, month)[1]))


def _as_days(ordinals: Integers) -> NDArray[np.datetime64]:
    return (ordinals - _EPOCH).astype("datetime64[D]")


def _on_day_of(anchors: NDArray[np.datetime64], month: NDArray[np.datetime64]) -> Integers:
    """The ordinal of the anchors' day in the month; its last day where it is too short."""
    first, end = month.astype("datetime64[D]"), (month + 1).astype("datetime64[D]")
    since_first = anchors - anchors.astype("datetime64[M]").astype("datetime64[D]")
    day = np.minimum(first + since_first, end - np.timedelta64(1, "D"))
    ordinals: Integers = day.astype(np.int64) + _EPOCH
    return ordinals
