"""Erasing what scoring holds of an account or a person, and telling everybody who holds a copy."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import TypeVar

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import erasure_store, store
from services.scoring.domain.activity import user_key
from services.scoring.domain.directory import Erasures
from services.scoring.domain.tally import Tally
from services.scoring.flag_events import envelope
from services.scoring.tables import outbox
from shared import outbox as outboxes
from shared.log import Record
from shared.messages import (
    ACCOUNTS,
    ERASURE,
    FLAGS,
    DirectoryChange,
    Erasure,
    Flag,
    FlagReason,
    Stage,
    encode,
)

K = TypeVar("K")


async def erasures_among(
    connection: AsyncConnection, accounts: Collection[str], tallied: Tally[K]
) -> Erasures | None:
    """What was erased of these accounts and of those who were active in them, if anything.

    Until the transaction ends nothing more is.
    """
    await erasure_store.hold_off_erasures(connection)
    if not await erasure_store.is_anything_erased(connection):
        return None
    erasures = await erasure_store.read_erasures(connection, accounts, tallied.all_users())
    return erasures if erasures.accounts or erasures.users else None


async def erase_accounts(
    connection: AsyncConnection, erased: Mapping[str, datetime], *, now: datetime
) -> Sequence[str]:
    """Delete what was received until each moment, and let out a tombstone and cleared flags.

    Returns the accounts that sent events later: they start afresh with those.
    """
    # In this order: a sweep may take long, and intake goes on meanwhile.
    await erasure_store.hold_off_sweeps(connection, erased)
    await erasure_store.hold_off_events(connection)
    flags, remaining = await erasure_store.erase_accounts(connection, erased)
    # No flag that was raised from what is gone states a later moment than this.
    until = max([now, *(row["updated_at"] for row in flags)])
    await outboxes.put(
        connection,
        outbox,
        ACCOUNTS,
        [_tombstone(name, erased_at, until) for name, erased_at in sorted(erased.items())],
    )
    await outboxes.put(
        connection,
        outbox,
        FLAGS,
        [_cleared(row, until) for row in sorted(flags, key=itemgetter("account_id", "reason"))],
    )
    return remaining


async def erase_users(
    engine: AsyncEngine, changes: Sequence[DirectoryChange], *, now: datetime
) -> None:
    """Count these people no more from now on, then take them out of every bucket.

    In steps, since "everywhere" is every bucket there is; each may be done again.
    """
    people: dict[str, set[int]] = {}
    for change in changes:
        people.setdefault(change.account, set()).add(user_key(change.user or ""))
    async with engine.begin() as connection:
        await erasure_store.hold_off_events(connection)
        await erasure_store.remember_users(
            connection,
            {(account, key) for account, keys in people.items() for key in keys},
            erased_at=now,
        )
        everywhere = people.pop("", set())
        days = await erasure_store.days_held(connection) if everywhere else ()
    for account, keys in sorted(people.items()):
        async with engine.begin() as connection:
            touched = await erasure_store.forget_users_of_account(connection, account, keys)
            await store.mark_dirty(connection, store.marks_at(dict.fromkeys(touched, now)))
    for day in days:
        async with engine.begin() as connection:
            touched = await erasure_store.forget_users_of_day(connection, day, everywhere)
            await store.mark_dirty(connection, store.marks_at(dict.fromkeys(touched, now)))
    for shard in range(store.SHARDS if everywhere else 0):
        async with engine.begin() as connection:
            touched = await erasure_store.forget_users_of_signals(connection, shard, everywhere)
            await store.mark_dirty(connection, store.marks_at(dict.fromkeys(touched, now)))


def _tombstone(account: str, erased_at: datetime, until: datetime) -> Record:
    erasure = Erasure(erased_at=erased_at, flags_until=until)
    return Record(key=account.encode(), value=None, headers=((ERASURE, encode(erasure)),))


def _cleared(row: asyncpg.Record, now: datetime) -> Record:
    """The flag of an erased account as cleared: nothing else is said of it any more."""
    flag = Flag(
        flag_id=row["flag_id"],
        account=row["account_id"],
        reason=FlagReason(row["reason"]),
        stage=Stage(row["stage"]),
        change="cleared",
        episode=row["episode"],
        as_of=now,
        raised_at=row["raised_at"],
    )
    return Record(key=flag.account.encode(), value=encode(envelope(flag)))
