"""The notifier's rows of interventions, accounts and their history; functions on a connection."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

import msgspec
from sqlalchemy import ARRAY, Text, any_, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.domain.flags import Kind, WorkReason
from services.notifier.domain.interventions import Intervention, Status
from services.notifier.domain.signals import Signal
from services.notifier.intervention_rows import AnyRow, intervention_of, values_of
from services.notifier.tables import accounts, among, interventions, timeline
from shared.messages import AccountFields, AccountRecord

# Made once: making and reading a statement anew costs more than running it.
_of_accounts = any_(bindparam("accounts", type_=ARRAY(Text)))
_known = (accounts.c.account_id, accounts.c.fields, accounts.c.erased_until)
_READ_ACCOUNTS = select(*_known).where(accounts.c.account_id == _of_accounts)
_new_account = insert(accounts)
_SAVE_ACCOUNTS = _new_account.on_conflict_do_update(
    index_elements=["account_id"],
    set_={
        name: _new_account.excluded[name]
        for name in ("name", "owner", "timezone", "status", "fields", "updated_at")
    },
    where=_new_account.excluded.updated_at >= accounts.c.updated_at,
).returning(*_known)
_key = (interventions.c.account_id, interventions.c.type, interventions.c.reason)
_NEWEST = (
    select(interventions)
    .where(interventions.c.account_id == _of_accounts)
    .ext(distinct_on(*_key))
    .order_by(
        *_key,
        (interventions.c.status == Status.CLOSED.value),
        interventions.c.opened_at.desc(),
    )
)
_ADD = insert(interventions).on_conflict_do_nothing()
_TELL = timeline.insert()

Key: TypeAlias = tuple[str, Kind, WorkReason]
"""Account, type and reason: of each one is open at most."""


class Entry(StrEnum):
    """What a timeline entry tells."""

    OPENED = "opened"
    REOPENED = "reopened"
    WORSENED = "worsened"
    RECOVERED = "recovered"
    EXPIRED = "expired"
    OWNER_CHANGED = "owner_changed"
    ACKNOWLEDGED = "acknowledged"
    UNACKNOWLEDGED = "unacknowledged"
    SNOOZED = "snoozed"
    SNOOZE_BROKEN = "snooze_broken"
    SNOOZE_ENDED = "snooze_ended"
    WOKEN = "woken"
    TASK_DONE = "task_done"
    TASK_UNDONE = "task_undone"
    CLOSED = "closed"
    CORRECTED = "corrected"
    SENTIMENT = "sentiment"
    ACCOUNT_LOST = "account_lost"
    ACCOUNT_BACK = "account_back"
    ERASED = "erased"
    NOTIFIED = "notified"
    SUPPRESSED = "suppressed"
    NOT_DELIVERED = "not_delivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What the notifier knows of an account."""

    account_id: str
    fields: AccountFields
    erased_until: datetime | None = None

    def was_erased_after(self, as_of: datetime) -> bool:
        """Whether what was known as of that moment is gone for good."""
        return self.erased_until is not None and as_of <= self.erased_until

    @property
    def is_erased(self) -> bool:
        """Nothing is known of it but that it was erased."""
        return self.erased_until is not None and self.fields == AccountFields()

    @property
    def name(self) -> str:
        return self.fields.name or self.account_id

    @property
    def is_lost(self) -> bool:
        return self.fields.status == "churned"


def key_of(subject: Intervention | Signal) -> Key:
    return subject.account_id, subject.type, subject.reason


async def read_accounts(connection: AsyncConnection, ids: Iterable[str]) -> dict[str, Account]:
    rows = await connection.execute(_READ_ACCOUNTS, {"accounts": list(ids)})
    return {row.account_id: account_of(row) for row in rows}


async def read_account(connection: AsyncConnection, account_id: str) -> Account | None:
    return (await read_accounts(connection, [account_id])).get(account_id)


async def save_accounts(
    connection: AsyncConnection, records: Sequence[AccountRecord]
) -> dict[str, Account]:
    """Store the records, one per account at most; returns those that were not older than ours."""
    if not records:
        return {}
    values = [
        {
            "account_id": record.account,
            "name": record.fields.name,
            "owner": record.fields.owner,
            "timezone": record.fields.timezone,
            "status": record.fields.status,
            "fields": msgspec.to_builtins(record.fields),
            "updated_at": record.updated_at,
        }
        for record in records
    ]
    rows = await connection.execute(_SAVE_ACCOUNTS, values)
    return {row.account_id: account_of(row) for row in rows}


async def newest_of(connection: AsyncConnection, ids: Iterable[str]) -> dict[Key, Intervention]:
    """Of each key of these accounts the open intervention, else the one closed last."""
    rows = await connection.execute(_NEWEST, {"accounts": list(ids)})
    found = [intervention_of(row) for row in rows]
    return {key_of(one): one for one in found}


async def open_counts(connection: AsyncConnection) -> dict[str, int]:
    """How many open interventions each owner has, by address in lower case."""
    owner = func.lower(interventions.c.owner).label("address")
    rows = await connection.execute(
        select(owner, func.count().label("open"))
        .where(interventions.c.status != Status.CLOSED.value)
        .group_by(owner)
    )
    return {row.address: row.open for row in rows}


async def read(
    connection: AsyncConnection, intervention_id: UUID, *, lock: bool = False
) -> Intervention | None:
    statement = select(interventions).where(interventions.c.id == intervention_id)
    row = (
        await connection.execute(statement.with_for_update() if lock else statement)
    ).one_or_none()
    return None if row is None else intervention_of(row)


async def erased(connection: AsyncConnection, ids: Collection[UUID]) -> set[UUID]:
    """Those of which nothing is left but the row."""
    row = interventions.c
    found = await connection.scalars(select(row.id).where(among(row.id, ids), row.owner == ""))
    return set(found)


async def add(connection: AsyncConnection, subject: Intervention) -> bool:
    """Insert a new intervention; False where an open one of its key exists already."""
    result = await connection.execute(_ADD, values_of(subject))
    return result.rowcount == 1


async def change(connection: AsyncConnection, subject: Intervention) -> bool:
    """Store the next version; False where somebody else stored it first."""
    result = await connection.execute(
        update(interventions)
        .where(interventions.c.id == subject.id, interventions.c.version == subject.version - 1)
        .values(**values_of(subject))
    )
    return result.rowcount == 1


async def save_priorities(connection: AsyncConnection, subjects: Sequence[Intervention]) -> None:
    """Store the priorities; the versions stay, for nothing else changes."""
    if subjects:
        await connection.execute(
            update(interventions)
            .where(interventions.c.id == bindparam("intervention"))
            .values(priority=bindparam("new_priority")),
            [{"intervention": one.id, "new_priority": one.priority} for one in subjects],
        )


async def tell(
    connection: AsyncConnection,
    subject: Intervention,
    entry: Entry,
    *,
    by: str,
    at: datetime,
    **detail: str | None,
) -> None:
    """Add an entry about the intervention to the timeline of its account."""
    await tell_of_account(
        connection, subject.account_id, entry, intervention_id=subject.id, by=by, at=at, **detail
    )


async def tell_of_account(
    connection: AsyncConnection,
    account_id: str,
    entry: Entry,
    *,
    intervention_id: UUID | None = None,
    by: str,
    at: datetime,
    **detail: str | None,
) -> None:
    told = {name: value for name, value in detail.items() if value is not None}
    values = {
        "account_id": account_id,
        "intervention_id": intervention_id,
        "at": at,
        "kind": entry.value,
        "by": by,
        "detail": told,
    }
    await connection.execute(_TELL, values)


def account_of(row: AnyRow) -> Account:
    return Account(
        account_id=row.account_id,
        fields=msgspec.convert(row.fields, AccountFields, strict=False),
        erased_until=row.erased_until,
    )
