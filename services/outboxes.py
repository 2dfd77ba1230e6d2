"""`perennial outbox`: what was written for the log and has not left yet."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from sqlalchemy import Table, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import tables as notifier_tables
from services.scoring import tables as scoring_tables

OUTBOXES: Final[Mapping[str, Table]] = MappingProxyType(
    {"scoring": scoring_tables.outbox, "notifier": notifier_tables.outbox}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """One service's outbox."""

    service: str
    rows: Mapping[str, int]
    """By topic."""
    oldest: datetime | None
    relay: str | None
    """Which connection holds the relay's lock; None: nobody publishes."""

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    def age_seconds(self, now: datetime) -> float:
        return 0.0 if self.oldest is None else max(0.0, (now - self.oldest).total_seconds())


async def read(connection: AsyncConnection) -> list[Outbox]:
    return [await _read(connection, service, table) for service, table in OUTBOXES.items()]


async def _read(connection: AsyncConnection, service: str, table: Table) -> Outbox:
    counts = (
        await connection.execute(
            select(table.c.topic, func.count(), func.min(table.c.created_at)).group_by(
                table.c.topic
            )
        )
    ).all()
    # The relay holds a session lock on the hash of its table's name (`shared.outbox`).
    relay = await connection.scalar(_HOLDER, {"name": f"outbox:{table}"})
    return Outbox(
        service=service,
        rows={topic: count for topic, count, _ in counts},
        oldest=min((oldest for _, _, oldest in counts), default=None),
        relay=relay,
    )


_HOLDER = text(
    "SELECT a.application_name || ' pid ' || a.pid || coalesce(' at ' || host(a.client_addr), '')"
    " FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND ((l.classid::bigint << 32) | l.objid::bigint) = hashtext(:name)::bigint"
    " LIMIT 1"
)
