"""The log of what was known of accounts when: rows that models are trained on, and partitions.

Weekly rows state the Monday (UTC) on which they were made, rows at a change of band the moment.
Nothing is ever computed again for them, but `recomputed` ones: from history that was loaded, an
account's year before its first score, for its reasons and never for training.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final

import asyncpg
import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring.domain.table import columns_hash
from shared.database import driver
from shared.messages import AccountFields

RETENTION: Final = timedelta(days=3 * 366)
YEAR: Final = timedelta(days=365)

_ENCODER: Final = msgspec.json.Encoder(decimal_format="string")
_LOCK: Final = "pg_advisory_xact_lock(hashtext('scoring.feature_rows'))"
_ADD: Final = text("SELECT scoring.add_feature_rows_partition(:month)")
_DROP: Final = text("SELECT scoring.drop_feature_rows_partition(:month)")
_TABLE: Final = "scoring.feature_rows"
_DIRECTORY: Final = (
    "segment",
    "plan",
    "status",
    "seats",
    "contract_start",
    "contract_end",
    "churned_at",
    "billing_period",
    "mrr",
    "currency",
    "owner",
)


class Kind(StrEnum):
    """Why a row was logged."""

    WEEKLY = "weekly"
    BAND_CHANGE = "band_change"
    RECOMPUTED = "recomputed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """All accounts are logged every so many days, counted from `anchor` (UTC)."""

    every_days: int = 7
    anchor: date = date(1970, 1, 5)  # A Monday.

    def moment(self, now: datetime) -> datetime | None:
        """What the rows of a look at `now` are of; None on other days."""
        today = now.astimezone(UTC).date()
        if (today - self.anchor).days % self.every_days:
            return None
        return datetime(today.year, today.month, today.day, tzinfo=UTC)


MONDAYS: Final = Rhythm()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRow:
    """One account's row as it is to be logged; `indicators` packed."""

    account: str
    as_of: datetime
    kind: Kind
    indicators: bytes
    risk: float | None
    band: str | None
    fields: AccountFields


class Months:
    """The partitions of the log: one a month, made before they are needed."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._known: set[date] = set()

    async def ensure(self, moments: Collection[datetime]) -> None:
        """Make sure that rows of these moments have a partition; a transaction of its own."""
        missing = {_month(moment) for moment in moments} - self._known
        if not missing:
            return
        async with self._engine.begin() as connection:
            # Alone, and never inside a sweep: making one locks the whole table for a moment.
            await connection.execute(text(f"SELECT {_LOCK}"))
            for month in sorted(missing):
                await connection.execute(_ADD, {"month": month})
        self._known |= missing

    async def maintain(self, now: datetime) -> int:
        """Make those of this month and the next, drop those past the retention; says how many."""
        await self.ensure([now, now + timedelta(days=31)])
        oldest = f"feature_rows_{_month(now - RETENTION):%Y%m}"
        async with self._engine.begin() as connection:
            await connection.execute(text(f"SELECT {_LOCK}"))
            names = await connection.scalars(
                text(
                    "SELECT c.relname FROM pg_inherits AS i"
                    " JOIN pg_class AS c ON c.oid = i.inhrelid"
                    f" WHERE i.inhparent = '{_TABLE}'::regclass"
                )
            )
            past = [name for name in names if name < oldest]
            for name in past:
                first = datetime.strptime(name, "feature_rows_%Y%m").replace(tzinfo=UTC).date()
                await connection.execute(_DROP, {"month": first})
        self._known = {month for month in self._known if f"feature_rows_{month:%Y%m}" >= oldest}
        return len(past)


async def log_rows(
    connection: AsyncConnection, rows: Sequence[LoggedRow], *, model_version: str
) -> None:
    """Write the rows; one of the same account and moment is there already and stays."""
    if not rows:
        return
    connected: asyncpg.Connection = await driver(connection)
    documents = {id(row.fields): _document(row.fields) for row in rows}
    await connected.execute(
        _LOG_ROWS,
        [row.account for row in rows],
        [row.as_of for row in rows],
        [row.kind for row in rows],
        columns_hash(),
        [row.indicators for row in rows],
        [row.risk for row in rows],
        [row.band for row in rows],
        model_version,
        [documents[id(row.fields)] for row in rows],
    )


_LOG_ROWS: Final = """
INSERT INTO scoring.feature_rows
    (account_id, as_of, kind, columns, indicators, risk, band, model_version, directory)
SELECT account_id, as_of, kind, $4, indicators, risk, band, $8, directory::jsonb
FROM unnest($1::text[], $2::timestamptz[], $3::text[], $5::bytea[], $6::float8[], $7::text[],
    $9::text[]) AS n (account_id, as_of, kind, indicators, risk, band, directory)
ON CONFLICT DO NOTHING
"""


def _document(fields: AccountFields) -> str:
    """What the directory knows that a model or a report may ask for; nothing that names people
    but the owner.
    """
    known = {name: getattr(fields, name) for name in _DIRECTORY}
    stated = {name: value for name, value in known.items() if value is not None}
    return _ENCODER.encode(stated).decode() if stated else "{}"


def _month(moment: datetime) -> date:
    return moment.astimezone(UTC).date().replace(day=1)
