"""What nobody misses until it is too late: backups, erasures, room on the disk."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.doctor.findings import Area, Finding, failed, ok, warning

_BACKUP: Final = timedelta(hours=26)
_ERASURE: Final = timedelta(hours=1)
_FREE: Final = 0.1


async def look(connection: AsyncConnection, now: datetime) -> list[Finding]:
    return [*await _of_backups(connection, now), *await _of_erasures(connection, now)]


async def _of_backups(connection: AsyncConnection, now: datetime) -> list[Finding]:
    newest = await connection.scalar(text("SELECT max(finished_at) FROM scoring.backups"))
    if newest is None:
        return [
            warning(
                Area.CARE,
                "no backup has been made",
                "deploy/postgresql/README.md: backup.sh each night",
            )
        ]
    hours = (now - newest).total_seconds() / 3600
    if now - newest > _BACKUP:
        return [
            warning(
                Area.CARE,
                f"the newest backup is {hours:,.0f} h old",
                "deploy/runbooks/BackupOld.md",
            )
        ]
    return [ok(Area.CARE, f"the newest backup is {hours:,.0f} h old")]


async def _of_erasures(connection: AsyncConnection, now: datetime) -> list[Finding]:
    row = (await connection.execute(_PENDING)).one()
    if not row.pending or now - row.oldest <= _ERASURE:
        return []
    hours = (now - row.oldest).total_seconds() / 3600
    return [
        failed(
            Area.CARE,
            f"{row.pending:,} erasures are not done, the oldest since {hours:,.0f} h",
            "is scoring running? perennial erase list; deploy/runbooks/ErasureOverdue.md",
        )
    ]


_PENDING: Final = text(
    "SELECT count(*) AS pending, min(at) AS oldest FROM ("
    "SELECT erased_at AS at FROM scoring.erased_accounts WHERE done_at IS NULL UNION ALL"
    " SELECT coalesce(asked_at, erased_at) FROM scoring.erased_users WHERE done_at IS NULL) AS p"
)


def look_at_disk(folder: Path) -> list[Finding]:
    """Of the embedded database; what a server of its own has, its own monitoring tells."""
    if not folder.exists():
        return []
    usage = shutil.disk_usage(folder)
    free = usage.free / usage.total
    if free < _FREE:
        return [
            warning(
                Area.CARE,
                f"{free:.0%} of the disk that holds {folder} is free",
                "make room: PostgreSQL stops where it cannot write",
            )
        ]
    return [ok(Area.CARE, f"{free:.0%} of the disk that holds {folder} is free")]
