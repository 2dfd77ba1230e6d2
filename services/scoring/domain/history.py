"""What the directory said of an account and when: versions that no later change touches."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.messages import AccountFields

VERSIONED: Final = (
    "name",
    "owner",
    "segment",
    "plan",
    "region",
    "reseller",
    "seats",
    "currency",
    "mrr",
    "margin_per_month",
    "status",
    "contract_start",
    "contract_end",
    "churned_at",
    "notice_days",
    "billing_period",
)
"""The fields whose past is kept."""

_MOMENT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What was known from a moment on; `values` are those of `VERSIONED`, in order."""

    since: datetime
    values: tuple[object, ...]


def versions_of(
    newest: Version | None, states: Sequence[tuple[datetime, AccountFields]]
) -> list[Version]:
    """The versions that follow the newest one, by what an account became and when we heard.

    In the order of the states: what was heard before an earlier state (clocks differ, and a log is
    read again) counts from then on. Of several at one moment the last one stays, and none that
    changes nothing: after any states the newest version is the last of them.
    """
    floor = None if newest is None else newest.since + _MOMENT
    at_moment: dict[datetime, tuple[object, ...]] = {}
    for received_at, fields in states:
        since = received_at if floor is None else max(received_at, floor)
        at_moment[since] = tuple(getattr(fields, name) for name in VERSIONED)
        floor = since
    found = []
    last = None if newest is None else newest.values
    for since, values in at_moment.items():
        if values != last:
            found.append(Version(since=since, values=values))
            last = values
    return found
