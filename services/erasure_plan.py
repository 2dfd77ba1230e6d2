"""What an erasure would take: rows counted, nothing changed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.erase import OnProgress, Place, Subject, is_refused, known
from services.scoring import erasure_store, store
from services.scoring.store import shard_of

_NOTIFIERS: Final = {
    "account_notes": "account_id = :account",
    "accounts": "account_id = :account AND erased_until IS NULL",
    "audit": "account_id = :account",
    "deliveries": "account_id = :account",
    "draws": "account_id = :account",
    "endings": "account_id = :account",
    "interventions": "account_id = :account",
    "notices": "account_id = :account",
    "outbox": "key = convert_to(:account, 'UTF8')",
    "requests": "account_id = :account",
    "sentiments": "account_id = :account",
    "silences": "matchers ->> 'account' = :account",
    "timeline": "account_id = :account AND kind <> 'erased'",
}

_PERSON: Final = {
    "account_day": "users @> ARRAY[CAST(:key AS bigint)]",
    "signals": "user_key = CAST(:key AS bigint)",
}
_OF_A_PERSON: Final = ("group_calls", "memberships")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The rows that would go, by `schema.table`, and the schemas that could not be looked into."""

    counts: Mapping[str, int]
    unseen: tuple[Place, ...]
    erased_at: datetime | None
    """Since when it is erased already."""


async def plan(engine: AsyncEngine, subject: Subject, on_progress: OnProgress) -> Plan:
    """Count what would go; nothing is changed."""
    counts: Counter[str] = Counter()
    unseen: list[Place] = []
    erased_at: datetime | None = None
    count = _count_account if subject.user is None else _count_user
    try:
        before = await known(engine, subject)
        erased_at = None if before is None else before.erased_at
        counts += await count(engine, subject, on_progress)
    except DBAPIError as error:
        if not is_refused(error):
            raise
        unseen.append("scoring")
    if subject.user is None:
        try:
            async with engine.connect() as connection:
                for table, where in _NOTIFIERS.items():
                    counts[f"notifier.{table}"] += await _count(
                        connection, f"notifier.{table}", where, {"account": subject.account}
                    )
        except DBAPIError as error:
            if not is_refused(error):
                raise
            unseen.append("notifier")
    return Plan(counts=+counts, unseen=tuple(unseen), erased_at=erased_at)


async def _count_account(
    engine: AsyncEngine, subject: Subject, on_progress: OnProgress
) -> Counter[str]:
    values = {"account": subject.account, "shard": shard_of(subject.account)}
    by_shard = ("account_day", "signals", *erasure_store.BY_SHARD)
    wheres = {
        **dict.fromkeys(by_shard, "shard = :shard AND account_id = :account"),
        **dict.fromkeys((*erasure_store.BY_ACCOUNT, "flags"), "account_id = :account"),
        "outbox": "key = convert_to(:account, 'UTF8')",
        # Found by their users, as every one makes a membership.
        "group_calls": "account_id = :account AND user_key IN"
        " (SELECT user_key FROM scoring.memberships WHERE account_id = :account)",
    }
    counts: Counter[str] = Counter()
    async with engine.connect() as connection:
        for table, where in wheres.items():
            on_progress(f"counting scoring.{table}")
            used = {name: value for name, value in values.items() if f":{name}" in where}
            counts[f"scoring.{table}"] += await _count(connection, f"scoring.{table}", where, used)
        counts["scoring.seen_events"] += await erasure_store.count_ids(connection, subject.account)
    return counts


async def _count_user(
    engine: AsyncEngine, subject: Subject, on_progress: OnProgress
) -> Counter[str]:
    key = subject.user_key
    counts: Counter[str] = Counter()
    async with engine.connect() as connection:
        if subject.account:
            values = {"account": subject.account, "shard": shard_of(subject.account), "key": key}
            whose = "shard = :shard AND account_id = :account"
            for table, where in _PERSON.items():
                counts[f"scoring.{table}"] += await _count(
                    connection, f"scoring.{table}", f"{where} AND {whose}", values
                )
            for table in _OF_A_PERSON:
                counts[f"scoring.{table}"] += await _count(
                    connection,
                    f"scoring.{table}",
                    "user_key = :key AND account_id = :account",
                    {"key": key, "account": subject.account},
                )
            return counts
        for table in (*_OF_A_PERSON, "waiting_events"):
            counts[f"scoring.{table}"] += await _count(
                connection, f"scoring.{table}", "user_key = :key", {"key": key}
            )
        # In steps: all buckets at once take longer than a statement may.
        for day in await erasure_store.days_held(connection):
            on_progress(f"counting {day}")
            counts["scoring.account_day"] += await _count(
                connection,
                "scoring.account_day",
                f"{_PERSON['account_day']} AND shard = ANY(:shards) AND day = :day",
                {"key": key, "shards": list(range(store.SHARDS)), "day": day},
            )
        for shard in range(store.SHARDS):
            counts["scoring.signals"] += await _count(
                connection,
                "scoring.signals",
                f"{_PERSON['signals']} AND shard = :shard",
                {"key": key, "shard": shard},
            )
    return counts


async def _count(
    connection: AsyncConnection, table: str, where: str, values: Mapping[str, object]
) -> int:
    found = await connection.execute(
        text(f"SELECT count(*) FROM {table} WHERE {where}"),
        dict(values),
    )
    return int(found.scalar_one())
