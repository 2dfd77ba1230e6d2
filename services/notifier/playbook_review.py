"""What playbooks would do to today's open interventions; nothing is changed."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.domain.flags import Kind, reason_of
from services.notifier.domain.interventions import Status
from services.notifier.domain.playbooks import Playbook, Playbooks, Work, work_of
from services.notifier.tables import accounts, interventions
from shared.messages import AccountFields, Band

_COMPARED = ("title", "match", "owner", "due", "tasks", "channels", "repeat", "escalation")


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """One open intervention: what would be done about it if it opened now."""

    account: str
    reason: str
    severity: Band
    playbook: str
    before: str
    """By the playbooks that are in force."""

    @property
    def moves(self) -> bool:
        return self.playbook != self.before


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A playbook that reads otherwise than the one in force of that name."""

    name: str
    fields: tuple[str, ...]
    """Empty: it is new, or gone."""
    what: str
    """`new`, `gone` or `changed`."""
    same_version: bool = False
    """Its outcomes could not be told from those of the old one."""


@dataclass(frozen=True, slots=True)
class _Open:
    account: str
    work: Work


async def preview(
    connection: AsyncConnection, *, ours: Playbooks, theirs: Playbooks
) -> list[Preview]:
    """Each open intervention, the most valuable first; `ours`: what is in force."""
    return [
        Preview(
            account=one.account,
            reason=one.work.reason.value,
            severity=one.work.severity,
            playbook=theirs.for_work(one.work).name,
            before=ours.for_work(one.work).name,
        )
        for one in await _open_ones(connection)
    ]


def changes(ours: Playbooks, theirs: Playbooks) -> list[Change]:
    """By name, in the order of their files; what is gone comes last."""
    found = [_change(ours.named(one.name), one) for one in theirs.ordered]
    gone = [
        Change(name=one.name, fields=(), what="gone")
        for one in ours.ordered
        if theirs.named(one.name) is None
    ]
    return [one for one in found if one is not None] + gone


def _change(before: Playbook | None, after: Playbook) -> Change | None:
    if before is None:
        return Change(name=after.name, fields=(), what="new")
    names = tuple(name for name in _COMPARED if getattr(before, name) != getattr(after, name))
    if not names:
        return None
    same = before.version == after.version
    return Change(name=after.name, fields=names, what="changed", same_version=same)


async def _open_ones(connection: AsyncConnection) -> Iterable[_Open]:
    table = interventions.c
    rows = await connection.execute(
        select(
            table.account_id,
            table.type,
            table.reason,
            table.severity,
            table.value_amount,
            accounts.c.fields,
        )
        .outerjoin(accounts, accounts.c.account_id == table.account_id)
        .where(table.status != Status.CLOSED.value)
        .order_by(table.value_amount.desc().nulls_last(), table.id)
    )
    return [
        _Open(
            row.account_id,
            work_of(
                msgspec.convert(row.fields or {}, AccountFields, strict=False),
                kind=Kind(row.type),
                reason=reason_of(row.reason),
                severity=Band(row.severity),
                value=row.value_amount,
            ),
        )
        for row in rows
    ]
