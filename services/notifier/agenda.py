"""When each account must be looked at again; its row is the lock for all decisions about it.

Lock order everywhere: agenda (by account id), intervention, delivery, destination.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import ARRAY, Text, any_, bindparam, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.tables import agenda

# Made once: making and reading a statement anew costs more than running it, here and below.
_row = agenda.c
_LOCK = (
    select(_row.account_id)
    .where(_row.account_id == any_(bindparam("wanted", type_=ARRAY(Text))))
    .order_by(_row.account_id)
    .with_for_update()
)
_ADD = insert(agenda).on_conflict_do_nothing()
_WRITE = (
    update(agenda)
    .where(_row.account_id == bindparam("account"))
    .values(look_at=bindparam("moment"))
)


async def lock(connection: AsyncConnection, account_ids: Collection[str]) -> None:
    """Until the transaction ends nobody else decides anything about these accounts."""
    wanted = sorted(set(account_ids))
    missing = set(wanted) - set(await _lock_present(connection, wanted))
    if missing:
        rows = [{"account_id": account_id} for account_id in sorted(missing)]
        await connection.execute(_ADD, rows)
        # In order, or two transactions that both add rows could wait for each other.
        await _lock_present(connection, sorted(missing))


async def _lock_present(connection: AsyncConnection, wanted: Sequence[str]) -> Sequence[str]:
    found = await connection.scalars(_LOCK, {"wanted": list(wanted)})
    return found.all()


async def take_due(connection: AsyncConnection, *, now: datetime, limit: int) -> Sequence[str]:
    """Accounts whose time has come, locked; those that others look at are left to them."""
    row = agenda.c
    found = await connection.scalars(
        select(row.account_id)
        .where(row.look_at <= now)
        .order_by(row.look_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return found.all()


async def write(connection: AsyncConnection, look_at: Mapping[str, datetime | None]) -> None:
    """Set the next look of accounts that are locked; None: nothing is awaited."""
    if not look_at:
        return
    # Sorted, as everything that touches several rows.
    rows = [{"account": account, "moment": look_at[account]} for account in sorted(look_at)]
    await connection.execute(_WRITE, rows)
