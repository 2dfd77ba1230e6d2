"""How changes to the directory merge into one record per account, and what an erasure leaves.

Changes of one account apply in the log's order. An erasure leaves its moment and nothing else; what
was received before it is skipped from then on, so that no replay brings it back.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

import msgspec

from services.scoring.domain.activity import user_key
from shared.messages import AccountFields, DirectoryChange, UsageEvent

K = TypeVar("K")


class ChangeResult(StrEnum):
    """What became of a change to the directory."""

    MERGED = "merged"
    UNCHANGED = "unchanged"
    ERASING = "erasing"
    """It erased an account or a person."""
    ERASED = "erased"
    """Skipped: it was received before its account was erased."""
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the directory holds of one account; no fields: the account is not known."""

    fields: AccountFields | None = None
    updated_at: datetime | None = None
    """When the newest change that counted was received."""
    erased_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasures:
    """What was erased for good: accounts until a moment, and people for ever."""

    accounts: Mapping[str, datetime]
    users: AbstractSet[tuple[str, int]]
    """Account and user's key; an empty account means all of them."""


def apply(known: Known, change: DirectoryChange) -> tuple[Known, ChangeResult]:
    """The account after a change that names no person."""
    if known.erased_at is not None and change.received_at <= known.erased_at:
        return known, ChangeResult.ERASED
    if change.op == "erase":
        # Clocks of two ingest processes differ: what it erased must count as older than it.
        moments = (change.received_at, known.updated_at or change.received_at)
        return Known(erased_at=max(moments)), ChangeResult.ERASING
    fields = merge(known.fields, change)
    if fields == known.fields:
        return known, ChangeResult.UNCHANGED
    newest = max(change.received_at, known.updated_at or change.received_at)
    return replace(known, fields=fields, updated_at=newest), ChangeResult.MERGED


def merge(known: AccountFields | None, change: DirectoryChange) -> AccountFields:
    """The account's fields after the change.

    `put` replaces everything; `patch` keeps what the change does not name and clears `cleared`.
    """
    if change.op == "put" or known is None:
        return change.fields
    named = {
        name: value
        for name, value in msgspec.structs.asdict(change.fields).items()
        if value is not None
    }
    cleared = dict.fromkeys(
        name for name in change.cleared if name in AccountFields.__struct_fields__
    )
    return msgspec.structs.replace(known, **(cleared | named))


def without_erased(events: Mapping[K, UsageEvent], erasures: Erasures) -> dict[K, UsageEvent]:
    """The events that still count, those of an erased person without the user."""
    return {
        key: _anonymous(event) if _is_erased_user(event, erasures.users) else event
        for key, event in events.items()
        if not _is_erased(event, erasures.accounts)
    }


def _is_erased(event: UsageEvent, accounts: Mapping[str, datetime]) -> bool:
    erased_at = accounts.get(event.account)
    return erased_at is not None and event.received_at <= erased_at


def _is_erased_user(event: UsageEvent, users: AbstractSet[tuple[str, int]]) -> bool:
    if not users or not event.user:
        return False
    key = user_key(event.user)
    return (event.account, key) in users or ("", key) in users


def _anonymous(event: UsageEvent) -> UsageEvent:
    return msgspec.structs.replace(event, user=None)
