"""The rows of notices; functions on a connection, with the accounts' agenda locked to write."""

from collections.abc import Collection, Sequence
from uuid import UUID

import msgspec
from sqlalchemy import ARRAY, Text, any_, bindparam, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.domain.notice import Notice, Told
from services.notifier.domain.policy import SuppressReason
from services.notifier.intervention_rows import AnyRow
from services.notifier.tables import among, notices

_KEYS = ("account_id", "destination")
_OF_ACCOUNTS = select(notices).where(
    notices.c.account_id == any_(bindparam("accounts", type_=ARRAY(Text)))
)
_inserted = insert(notices)
_SAVE = _inserted.on_conflict_do_update(
    index_elements=_KEYS,
    set_={
        column.name: _inserted.excluded[column.name]
        for column in notices.columns
        if column.name not in _KEYS
    },
)


async def of_accounts(
    connection: AsyncConnection, account_ids: Collection[str]
) -> Sequence[Notice]:
    rows = await connection.execute(_OF_ACCOUNTS, {"accounts": list(account_ids)})
    return [_notice_of(row) for row in rows]


async def bundled_at(connection: AsyncConnection, destination: str) -> Sequence[str]:
    """The accounts whose news wait there for one message about all of them."""
    row = notices.c
    found = await connection.scalars(
        select(row.account_id)
        .where(row.destination == destination, row.bundled.is_not(None))
        .order_by(row.account_id)
    )
    return found.all()


async def unbundle(
    connection: AsyncConnection, destination: str, account_ids: Collection[str]
) -> None:
    """There is no message about all of them: each is decided by itself again."""
    row = notices.c
    await connection.execute(
        update(notices)
        .where(row.destination == destination, among(row.account_id, account_ids))
        .values(bundled=None, seq=row.seq + 1)
    )


async def save(connection: AsyncConnection, changed: Sequence[Notice]) -> None:
    if changed:
        await connection.execute(_SAVE, [_values(one) for one in changed])


def _values(one: Notice) -> dict[str, object]:
    channel, ts = one.thread or (None, None)
    return {
        "account_id": one.account_id,
        "destination": one.destination,
        "episode": one.episode,
        "seq": one.seq,
        "known": sorted(map(str, one.known)),
        "told": {str(told): msgspec.to_builtins(state) for told, state in one.told.items()},
        "shown": {str(shown): looks for shown, looks in one.shown.items()},
        "told_at": one.told_at,
        "repeats": one.repeats,
        "thread_channel": channel,
        "thread_ts": ts,
        "gave_up": one.gave_up,
        "bundled": one.bundled.value if one.bundled else None,
    }


def _notice_of(row: AnyRow) -> Notice:
    thread = None
    if row.thread_channel is not None and row.thread_ts is not None:
        thread = (row.thread_channel, row.thread_ts)
    return Notice(
        account_id=row.account_id,
        destination=row.destination,
        episode=row.episode,
        seq=row.seq,
        known=frozenset(UUID(one) for one in row.known),
        told={UUID(one): msgspec.convert(state, Told) for one, state in row.told.items()},
        shown={UUID(one): looks for one, looks in row.shown.items()},
        told_at=row.told_at,
        repeats=row.repeats,
        thread=thread,
        gave_up=row.gave_up,
        bundled=SuppressReason(row.bundled) if row.bundled else None,
    )
