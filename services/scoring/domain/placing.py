"""Which account an event belongs to that names a user alone.

A pure function of what is known of the user: it may be asked again, and answers the same.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Final, TypeAlias

from shared.messages import PlacedBy

_NEVER: Final = datetime.min.replace(tzinfo=UTC)

GroupCall: TypeAlias = tuple[datetime, str]
"""When a user was said to work for an account, and for which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What is known of a user in one account."""

    since: date
    """The first UTC day on which anything said so."""
    last_active_at: datetime | None
    """None: never but by events that were placed."""
    learnt_at: datetime
    """When we first heard of it, by our clock."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """All that is known of one user: at least one membership, and the `group` calls in order."""

    memberships: Mapping[str, Membership]
    """By account."""
    group_calls: Sequence[GroupCall] = ()
    """In order of their times; all of accounts in `memberships`."""

    @property
    def known_since(self) -> datetime:
        """When we first heard of any account of the user."""
        return min(one.learnt_at for one in self.memberships.values())

    @cached_property
    def last_active_in(self) -> str | None:
        """Where the user was active last. Found once: whoever is known in thousands of accounts
        sends many events.
        """
        active = {name: one.last_active_at or _NEVER for name, one in self.memberships.items()}
        last = max(active.values())
        return min(name for name, at in active.items() if at == last) if last > _NEVER else None

    @cached_property
    def known_first_in(self) -> str:
        accounts = self.memberships
        return min(accounts, key=lambda name: (accounts[name].since, name))


def place(occurred_at: datetime, standing: Standing) -> tuple[str, PlacedBy]:
    """The account of an event of the user at that time, and by what it was found.

    Of `group` calls at one moment the account that comes last by name counts.
    """
    accounts = standing.memberships
    if len(accounts) == 1:
        (only,) = accounts
        return only, PlacedBy.ONLY_ACCOUNT
    calls = standing.group_calls
    later = bisect_right(calls, occurred_at, key=_moment)
    if later:
        return calls[later - 1][1], PlacedBy.GROUP_CALL
    if (last := standing.last_active_in) is not None:
        return last, PlacedBy.LAST_ACTIVITY
    return calls[0][1] if calls else standing.known_first_in, PlacedBy.FIRST_STATED


def _moment(call: GroupCall) -> datetime:
    return call[0]
