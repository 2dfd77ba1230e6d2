"""When a contract renews, seen from a day."""

import calendar
from datetime import date

from shared.messages import AccountFields


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
    renewal = _months_after(anchor, months)
    return renewal if renewal >= as_of else _months_after(anchor, months + 1)


def days_to_renewal(fields: AccountFields, as_of: date) -> int | None:
    """Days from `as_of` to the renewal; negative where it is overdue."""
    renewal = renewal_date(fields, as_of)
    return None if renewal is None else (renewal - as_of).days


def _months_after(anchor: date, months: int) -> date:
    """The same day some months later; the month's last day where it is too short."""
    year, month = divmod(anchor.month - 1 + months, 12)
    year, month = anchor.year + year, month + 1
    return date(year, month, min(anchor.day, calendar.monthrange(year, month)[1]))
