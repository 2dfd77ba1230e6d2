"""The notifier's rows of interventions, accounts and their history; functions on a connection."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.domain.interventions import Intervention, Seen, Status
from services.notifier.domain.policy import Told
from services.notifier.tables import accounts, interventions, notices, timeline
from shared.messages import (
    AccountFields,
    AccountRecord,
    Band,
    FlagReason,
    OutcomeKind,
    Reason,
    Stage,
    ValueAtRisk,
)

AnyRow: TypeAlias = Row[*tuple[Any, ...]]


class Entry(StrEnum):
    """What a timeline entry tells."""

    OPENED = "opened"
    REOPENED = "reopened"
    WORSENED = "worsened"
    RECOVERED = "recovered"
    OWNER_CHANGED = "owner_changed"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"
    ACCOUNT_LOST = "account_lost"
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
    def name(self) -> str:
        return self.fields.name or self.account_id

    @property
    def is_lost(self) -> bool:
        return self.fields.status == "churned"


async def read_accounts(connection: AsyncConnection, ids: Iterable[str]) -> dict[str, Account]:
    rows = await connection.execute(
        select(accounts.c.account_id, accounts.c.fields, accounts.c.erased_until).where(
            accounts.c.account_id.in_(list(ids))
        )
    )
    return {row.account_id: account_of(row) for row in rows}


async def read_account(connection: AsyncConnection, account_id: str) -> Account | None:
    return (await read_accounts(connection, [account_id])).get(account_id)


async def save_accounts(
    connection: AsyncConnection, records: Sequence[AccountRecord]
) -> dict[str, Account]:
    """Store the records, one per account at most; returns those that were not older than ours."""
    if not records:
        return {}
    statement = insert(accounts).values(
        [
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
    )
    new = statement.excluded
    names = ("name", "owner", "timezone", "status", "fields", "updated_at")
    rows = await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["account_id"],
            set_={name: new[name] for name in names},
            where=new.updated_at >= accounts.c.updated_at,
        ).returning(accounts.c.account_id, accounts.c.fields, accounts.c.erased_until)
    )
    return {row.account_id: account_of(row) for row in rows}


async def newest(
    connection: AsyncConnection, *, account_id: str, kind: Stage, reason: FlagReason
) -> Intervention | None:
    """The open intervention of that key, else the one closed last; locked."""
    table = interventions.c
    row = (
        await connection.execute(
            select(interventions)
            .where(
                table.account_id == account_id,
                table.type == kind.value,
                table.reason == reason.value,
            )
            .order_by((table.status == Status.CLOSED.value), table.opened_at.desc())
            .limit(1)
            .with_for_update()
        )
    ).one_or_none()
    return None if row is None else intervention_of(row)


async def open_of_accounts(
    connection: AsyncConnection, ids: Sequence[str]
) -> Sequence[Intervention]:
    """The open interventions of these accounts, locked in one order."""
    rows = await connection.execute(
        select(interventions)
        .where(
            interventions.c.account_id.in_(ids),
            interventions.c.status != Status.CLOSED.value,
        )
        .order_by(interventions.c.id)
        .with_for_update()
    )
    return [intervention_of(row) for row in rows]


async def read(
    connection: AsyncConnection, intervention_id: UUID, *, lock: bool = False
) -> Intervention | None:
    statement = select(interventions).where(interventions.c.id == intervention_id)
    row = (
        await connection.execute(statement.with_for_update() if lock else statement)
    ).one_or_none()
    return None if row is None else intervention_of(row)


async def add(connection: AsyncConnection, subject: Intervention) -> bool:
    """Insert a new intervention; False where an open one of its key exists already."""
    result = await connection.execute(
        insert(interventions).values(**_values(subject)).on_conflict_do_nothing()
    )
    return result.rowcount == 1


async def change(connection: AsyncConnection, subject: Intervention) -> bool:
    """Store the next version; False where somebody else stored it first."""
    result = await connection.execute(
        update(interventions)
        .where(interventions.c.id == subject.id, interventions.c.version == subject.version - 1)
        .values(**_values(subject))
    )
    return result.rowcount == 1


async def tell(
    connection: AsyncConnection,
    subject: Intervention,
    entry: Entry,
    *,
    by: str,
    at: datetime,
    **detail: str | None,
) -> None:
    """Add an entry to the timeline of the account."""
    await connection.execute(
        timeline.insert().values(
            account_id=subject.account_id,
            intervention_id=subject.id,
            at=at,
            kind=entry.value,
            by=by,
            detail={name: value for name, value in detail.items() if value is not None},
        )
    )


async def read_told(connection: AsyncConnection, intervention_id: UUID) -> Mapping[str, Told]:
    """What each destination was told last about the intervention."""
    rows = await connection.execute(
        select(notices).where(notices.c.intervention_id == intervention_id)
    )
    return {
        row.destination: Told(
            flag_id=row.flag_id,
            flag_episode=row.flag_episode,
            severity=Band(row.severity),
            owner=row.owner,
        )
        for row in rows
    }


async def save_told(
    connection: AsyncConnection, intervention_id: UUID, destination: str, told: Told
) -> None:
    values = {
        "flag_id": told.flag_id,
        "flag_episode": told.flag_episode,
        "severity": told.severity.value,
        "owner": told.owner,
        "told_at": func.now(),
    }
    await connection.execute(
        insert(notices)
        .values(intervention_id=intervention_id, destination=destination, **values)
        .on_conflict_do_update(index_elements=["intervention_id", "destination"], set_=values)
    )


def account_of(row: AnyRow) -> Account:
    return Account(
        account_id=row.account_id,
        fields=msgspec.convert(row.fields, AccountFields, strict=False),
        erased_until=row.erased_until,
    )


def intervention_of(row: AnyRow) -> Intervention:
    value = None
    if row.value_amount is not None:
        value = ValueAtRisk(
            amount=row.value_amount, currency=row.value_currency, basis=row.value_basis
        )
    return Intervention(
        id=row.id,
        account_id=row.account_id,
        type=Stage(row.type),
        reason=FlagReason(row.reason),
        status=Status(row.status),
        version=row.version,
        episode=row.episode,
        severity=Band(row.severity),
        owner=row.owner,
        due_at=row.due_at,
        opened_at=row.opened_at,
        last_seen_at=row.last_seen_at,
        seen=Seen(
            flag_id=row.flag_id,
            episode=row.flag_episode,
            raised_at=row.flag_raised_at,
            as_of=row.flag_as_of,
            change=row.flag_change,
        ),
        risk_at_open=row.risk_at_open,
        risk=row.risk,
        value_at_risk=value,
        renewal_date=row.renewal_date,
        summary=row.summary,
        reasons=msgspec.convert(row.reasons, tuple[Reason, ...]),
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
        recovered_at=row.recovered_at,
        closed_at=row.closed_at,
        closed_by=row.closed_by,
        outcome=None if row.outcome is None else OutcomeKind(row.outcome),
        note=row.note,
        revision=row.revision,
    )


def _values(subject: Intervention) -> dict[str, object]:
    value = subject.value_at_risk
    return {
        "id": subject.id,
        "account_id": subject.account_id,
        "type": subject.type.value,
        "reason": subject.reason.value,
        "status": subject.status.value,
        "version": subject.version,
        "episode": subject.episode,
        "severity": subject.severity.value,
        "owner": subject.owner,
        "due_at": subject.due_at,
        "opened_at": subject.opened_at,
        "last_seen_at": subject.last_seen_at,
        "flag_id": subject.seen.flag_id,
        "flag_episode": subject.seen.episode,
        "flag_raised_at": subject.seen.raised_at,
        "flag_as_of": subject.seen.as_of,
        "flag_change": subject.seen.change,
        "risk_at_open": subject.risk_at_open,
        "risk": subject.risk,
        "value_amount": None if value is None else value.amount,
        "value_currency": None if value is None else value.currency,
        "value_basis": None if value is None else value.basis,
        "renewal_date": subject.renewal_date,
        "summary": subject.summary,
        "reasons": msgspec.to_builtins(subject.reasons),
        "acknowledged_at": subject.acknowledged_at,
        "acknowledged_by": subject.acknowledged_by,
        "recovered_at": subject.recovered_at,
        "closed_at": subject.closed_at,
        "closed_by": subject.closed_by,
        "outcome": None if subject.outcome is None else subject.outcome.value,
        "note": subject.note,
        "revision": subject.revision,
    }
