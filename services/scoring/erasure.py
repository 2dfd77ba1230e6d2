"""Erasing what scoring holds of an account or a person, and telling everybody who holds a copy."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import TypeVar

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import erasure_store, store
from services.scoring.domain.activity import user_key
from services.scoring.domain.directory import Erasures
from services.scoring.domain.tally import Tally
from services.scoring.erasure_store import Asked, Person
from services.scoring.flag_events import envelope
from services.scoring.tables import outbox
from shared import outbox as outboxes
from shared import traceparent
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
from shared.traceparent import Traceparent

K = TypeVar("K")


async def erasures_among(connection: AsyncConnection, tallied: Tally[K]) -> Erasures | None:
    """What was erased of these accounts and of those who were active in them, if anything.

    Until the transaction ends nothing more is.
    """
    await erasure_store.hold_off_erasures(connection)
    if not await erasure_store.is_anything_erased(connection):
        return None
    erasures = await erasure_store.read_erasures(
        connection, tallied.accounts(), tallied.all_users()
    )
    return erasures if erasures.accounts or erasures.users else None


async def erase_accounts(
    connection: AsyncConnection,
    erased: Mapping[str, datetime],
    *,
    now: datetime,
    traces: Mapping[bytes, Traceparent] | None = None,
    flags_until: datetime | None = None,
) -> Sequence[str]:
    """Delete what was received until each moment, and let out a tombstone and cleared flags.

    They go on in the trace of who asked for it, `traces` by key.

    Returns the accounts that sent events later: they start afresh with those. `flags_until`: as it
    was where this was done once before, in a database that is lost.
    """
    traces = traces or {}
    # In this order: a sweep may take long, and intake goes on meanwhile.
    await erasure_store.hold_off_sweeps(connection, erased)
    await erasure_store.hold_off_events(connection)
    flags, remaining = await erasure_store.erase_accounts(connection, erased)
    # No flag that was raised from what is gone states a later moment than this.
    until = max([flags_until or now, *(row["updated_at"] for row in flags)])
    await outboxes.put(
        connection,
        outbox,
        ACCOUNTS,
        [_tombstone(name, erased_at, until, traces) for name, erased_at in sorted(erased.items())],
    )
    await outboxes.put(
        connection,
        outbox,
        FLAGS,
        [
            _cleared(row, until, traces)
            for row in sorted(flags, key=itemgetter("account_id", "reason"))
        ],
    )
    await erasure_store.accounts_done(connection, erased, flags_until=until, now=now)
    return remaining


def asked_for(changes: Sequence[DirectoryChange]) -> dict[Person, Asked]:
    """The people whom these changes erase."""
    return {
        (change.account, user_key(change.user)): (change.user, change.received_at)
        for change in changes
        if change.user is not None
    }


async def erase_users(engine: AsyncEngine, asked: Mapping[Person, Asked], *, now: datetime) -> None:
    """Count these people no more from now on, then take them out of every bucket.

    In steps, since "everywhere" is every bucket there is; each may be done again.
    """
    people: dict[str, set[int]] = {}
    for account, key in asked:
        people.setdefault(account, set()).add(key)
    async with engine.begin() as connection:
        await erasure_store.hold_off_events(connection)
        await erasure_store.remember_users(connection, asked)
        everywhere = people.pop("", set())
        days = await erasure_store.days_held(connection) if everywhere else ()
    steps: list[Callable[[AsyncConnection], Awaitable[erasure_store.Touched]]] = [
        partial(erasure_store.forget_users_of_account, account=account, keys=keys)
        for account, keys in sorted(people.items())
    ]
    steps += [partial(erasure_store.forget_users_of_day, day=day, keys=everywhere) for day in days]
    steps += [
        partial(erasure_store.forget_memberships, accounts=[account], keys=keys)
        for account, keys in sorted((people | ({"": everywhere} if everywhere else {})).items())
    ]
    if everywhere:
        steps.append(partial(erasure_store.forget_waiting, keys=everywhere, now=now))
        steps += [
            partial(erasure_store.forget_users_of_signals, shard=shard, keys=everywhere)
            for shard in range(store.SHARDS)
        ]
    rows: Counter[str] = Counter()
    for forget in steps:
        async with engine.begin() as connection:
            touched = await forget(connection)
            await store.mark_dirty(connection, store.marks_at(dict.fromkeys(touched.accounts, now)))
        rows += touched.rows
    async with engine.begin() as connection:
        await erasure_store.users_done(connection, asked, counts=rows, now=now)


def _tombstone(
    account: str, erased_at: datetime, until: datetime, traces: Mapping[bytes, Traceparent]
) -> Record:
    key, erasure = account.encode(), Erasure(erased_at=erased_at, flags_until=until)
    trace = traceparent.headers_of(traces.get(key))
    return Record(key=key, value=None, headers=((ERASURE, encode(erasure)), *trace))


def _cleared(row: asyncpg.Record, now: datetime, traces: Mapping[bytes, Traceparent]) -> Record:
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
    key = flag.account.encode()
    trace = traceparent.headers_of(traces.get(key))
    return Record(key=key, value=encode(envelope(flag)), headers=trace)
