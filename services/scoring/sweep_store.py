"""Scoring's SQL of the sweep: what is due, what is stored of it, and what a look has found."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

import asyncpg
import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.domain.assessment import Assessment, Subject
from services.scoring.domain.flags import FlagState
from services.scoring.domain.indicators import History
from services.scoring.domain.risk import BandState
from services.scoring.store import fields_from, shard_of
from services.scoring.tables import flags
from shared.database import driver
from shared.messages import Band, FlagReason

HISTORY_DAYS: Final = 800
"""Days read per account: the longest kept window, as of a year ago too."""

_ENCODER = msgspec.json.Encoder(decimal_format="string")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The accounts of one chunk; `received` is when the first unscored event of each arrived."""

    accounts: tuple[str, ...]
    received: Mapping[str, datetime]


async def lock_shard(connection: AsyncConnection, shard: int) -> bool:
    """Whether this transaction may sweep the shard; another replica may be at it."""
    locked = await connection.scalar(
        text("SELECT pg_try_advisory_xact_lock(hashtext('scoring.sweep'), :shard)"),
        {"shard": shard},
    )
    return bool(locked)


# History is being loaded while backfilled events keep coming in. Asked inside the statements that
# take accounts: asked before them, the first events of a backfill could come in between.
_LOADING: Final = (
    "EXISTS (SELECT FROM scoring.dirty WHERE backfill"
    " AND marked_at > clock_timestamp() - {settle}::interval)"
)
_HELD: Final = (
    "EXISTS (SELECT FROM scoring.dirty AS b WHERE b.account_id = {table}.account_id AND b.backfill)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What there is to do; `history_loaded`: accounts whose history has just been loaded wait."""

    is_due: bool
    history_loaded: bool


async def look(connection: AsyncConnection, now: datetime, *, settle: timedelta) -> Work:
    row = await (await driver(connection)).fetchrow(_LOOK, now, settle)
    return Work(is_due=row[0] or row[1], history_loaded=row[1])


_LOOK = f"""
SELECT EXISTS (SELECT FROM scoring.dirty AS d WHERE NOT backfill AND NOT {_HELD.format(table="d")})
    OR EXISTS (SELECT FROM scoring.scores WHERE next_due_at <= $1),
    EXISTS (SELECT FROM scoring.dirty WHERE backfill) AND NOT {_LOADING.format(settle="$2")}
"""


async def take(
    connection: AsyncConnection, shard: int, now: datetime, *, settle: timedelta, limit: int
) -> Taken:
    """The next accounts of a shard: dirty ones, then those that are due by time alone.

    An account whose history is being loaded waits until the backfill has settled: half a history
    looks like silence.
    """
    connected = await driver(connection)
    marks = await connected.fetch(_TAKE_DIRTY, shard, settle, limit)
    received: dict[str, datetime] = {}
    for account, received_at in marks:
        received[account] = min(received_at, received.get(account, received_at))
    room = limit - len(received)
    due = await connected.fetch(_TAKE_DUE, shard, now, settle, room) if room > 0 else []
    accounts = dict.fromkeys([*received, *(row[0] for row in due)])
    return Taken(accounts=tuple(sorted(accounts)), received=received)


_TAKE_DIRTY = f"""
WITH wanted AS (
    SELECT DISTINCT account_id FROM scoring.dirty AS d
    WHERE shard = $1 AND (NOT {_HELD.format(table="d")} OR NOT {_LOADING.format(settle="$2")})
    LIMIT $3
)
DELETE FROM scoring.dirty AS d USING wanted AS w
WHERE d.shard = $1 AND d.account_id = w.account_id
RETURNING d.account_id, d.received_at
"""
_TAKE_DUE = f"""
SELECT account_id FROM scoring.scores AS s
WHERE shard = $1 AND next_due_at <= $2
    AND (NOT {_HELD.format(table="s")} OR NOT {_LOADING.format(settle="$3")})
ORDER BY next_due_at LIMIT $4
"""


async def read_subjects(
    connection: AsyncConnection, accounts: Sequence[str], today: date
) -> list[Subject]:
    """What is stored of the accounts, in the order given."""
    connected = await driver(connection)
    histories = await read_histories(connection, accounts, today)
    known = await connected.fetch(
        "SELECT a.account_id, d.fields::text, s.band_state::text, s.last_risk"
        " FROM unnest($1::text[]) AS a (account_id)"
        " LEFT JOIN scoring.accounts AS d USING (account_id)"
        " LEFT JOIN scoring.scores AS s USING (account_id)",
        accounts,
    )
    states: defaultdict[str, dict[FlagReason, FlagState]] = defaultdict(dict)
    for row in await connected.fetch(
        "SELECT DISTINCT ON (account_id, reason) account_id, reason, episode, raised_at, band,"
        " cleared_at FROM scoring.flags WHERE account_id = ANY($1::text[])"
        " ORDER BY account_id, reason, episode DESC",
        accounts,
    ):
        states[row["account_id"]][FlagReason(row["reason"])] = _flag_state(row)
    by_account = {row[0]: row for row in known}
    return [
        Subject(
            account=account,
            fields=fields_from(by_account[account][1]),
            history=histories.get(account, History()),
            band=_band_state(by_account[account][2]),
            last_risk=by_account[account][3],
            flags=states[account],
        )
        for account in accounts
    ]


async def read_histories(
    connection: AsyncConnection, accounts: Sequence[str], today: date
) -> dict[str, History]:
    """The active days of the accounts; those without any are absent."""
    connected = await driver(connection)
    since = today - timedelta(days=HISTORY_DAYS)
    older = await connected.fetch(_READ_OLDER, accounts, since)
    before = {row[0]: (row[1].toordinal(), row[2].toordinal(), int(row[3])) for row in older}
    days: defaultdict[str, list[asyncpg.Record]] = defaultdict(list)
    for row in await connected.fetch(
        "SELECT account_id, day, events, milliseconds, users, features FROM scoring.account_day"
        " WHERE account_id = ANY($1::text[]) AND day >= $2 ORDER BY account_id, day",
        accounts,
        since,
    ):
        days[row[0]].append(row)
    histories = {}
    for account in days.keys() | before.keys():
        own = days[account]
        first, last, count = before.get(account, (None, None, 0))
        histories[account] = History(
            days=[row[1].toordinal() for row in own],
            events=[row[2] for row in own],
            milliseconds=[row[3] for row in own],
            users=[row[4] for row in own],
            features=[row[5] for row in own],
            first_active=first,
            last_active=last,
            active_days_before=count,
        )
    return histories


_READ_OLDER = """
SELECT account_id, min(first_day), max(last_day), sum(active_days) FROM (
    SELECT account_id, first_day, last_day, active_days FROM scoring.account_past
    WHERE account_id = ANY($1::text[])
    UNION ALL
    SELECT account_id, min(day), max(day), count(*) FROM scoring.account_day
    WHERE account_id = ANY($1::text[]) AND day < $2 GROUP BY account_id
) AS older GROUP BY account_id
"""


async def read_active_accounts(connection: AsyncConnection, *, settle: timedelta) -> list[str]:
    """Every account that was ever active, but for those whose history is being loaded; in order."""
    rows = await (await driver(connection)).fetch(_READ_ACTIVE, settle)
    return [row[0] for row in rows]


_READ_ACTIVE = f"""
SELECT account_id FROM (SELECT DISTINCT account_id FROM scoring.account_day) AS a
WHERE NOT {_HELD.format(table="a")} OR NOT {_LOADING.format(settle="$1")}
ORDER BY account_id
"""


async def save_scores(
    connection: AsyncConnection,
    found: Collection[Assessment],
    *,
    model_version: str,
    now: datetime,
    next_due_at: datetime,
) -> None:
    ordered = sorted(found, key=lambda one: one.account)
    documents = [
        {
            "account_id": one.account,
            "shard": shard_of(one.account),
            "state": one.indicators.state,
            "short_history": one.indicators.short_history,
            "risk": one.risk,
            "band": None if one.risk is None else one.band.band,
            "band_state": one.band,
            "last_risk": one.last_risk,
            "value_at_risk": one.value and one.value.amount,
            "currency": one.value and one.value.currency,
            "value_basis": one.value and one.value.basis,
            "indicators": one.indicators,
            "reasons": one.reasons,
        }
        for one in ordered
    ]
    await (await driver(connection)).execute(
        _SAVE_SCORES, _ENCODER.encode(documents).decode(), model_version, now, next_due_at
    )


_SAVED = (
    "shard, as_of, next_due_at, state, short_history, risk, band, band_state, last_risk,"
    " value_at_risk, currency, value_basis, indicators, reasons, model_version"
)
_SAVE_SCORES = f"""
INSERT INTO scoring.scores (account_id, {_SAVED})
SELECT account_id, shard, $3, $4, state, short_history, risk, band, band_state, last_risk,
    value_at_risk, currency, value_basis, indicators, reasons, $2
FROM jsonb_to_recordset($1::jsonb) AS n (
    account_id text, shard smallint, state text, short_history boolean, risk double precision,
    band text, band_state jsonb, last_risk double precision, value_at_risk numeric, currency text,
    value_basis text, indicators jsonb, reasons jsonb)
ON CONFLICT (account_id) DO UPDATE SET ({_SAVED}) =
    ({", ".join("EXCLUDED." + name.strip() for name in _SAVED.split(","))})
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagRow:
    """One flag of one episode as it is to be stored."""

    account_id: str
    reason: FlagReason
    episode: int
    flag_id: str
    stage: str
    raised_at: datetime
    updated_at: datetime
    cleared_at: datetime | None
    band: Band | None
    risk: float | None
    summary: str


async def save_flags(connection: AsyncConnection, rows: Iterable[FlagRow]) -> None:
    for row in rows:
        values = {name: getattr(row, name) for name in FlagRow.__dataclass_fields__}
        if row.cleared_at is None and row.raised_at == row.updated_at:
            await connection.execute(flags.insert().values(values))
        else:
            kept = ("updated_at", "cleared_at", "band", "risk", "summary")
            await connection.execute(
                flags.update()
                .where(
                    flags.c.account_id == row.account_id,
                    flags.c.reason == row.reason,
                    flags.c.episode == row.episode,
                )
                .values({name: values[name] for name in kept})
            )


async def forget_old_days(connection: AsyncConnection, before: date) -> bool:
    """Delete the oldest day of use past the retention; whether there was one.

    What it said of the accounts' age stays in `account_past`.
    """
    result = await connection.execute(text(_FORGET_DAY), {"before": before})
    return bool(result.rowcount)


_FORGET_DAY = """
WITH gone AS (
    DELETE FROM scoring.account_day
    WHERE day = (SELECT min(day) FROM scoring.account_day WHERE day < :before)
    RETURNING account_id, day
)
INSERT INTO scoring.account_past AS p (account_id, first_day, last_day, active_days)
SELECT account_id, day, day, 1 FROM gone ORDER BY account_id
ON CONFLICT (account_id) DO UPDATE SET
    first_day = least(p.first_day, EXCLUDED.first_day),
    last_day = greatest(p.last_day, EXCLUDED.last_day),
    active_days = p.active_days + 1
"""


def _flag_state(row: asyncpg.Record) -> FlagState:
    raised = row["cleared_at"] is None
    return FlagState(
        episode=row["episode"],
        raised_at=row["raised_at"] if raised else None,
        band=Band(row["band"]) if raised and row["band"] else None,
    )


def _band_state(document: str | None) -> BandState | None:
    return None if document is None else msgspec.json.decode(document, type=BandState)
