"""Positions of consumers, kept in PostgreSQL and moved in the transaction that has the effects.

The epoch fences: whoever claimed a partition last owns it, and an older owner's transaction fails.
"""

from dataclasses import dataclass, replace

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from shared import failpoints
from shared.errors import PerennialError
from shared.log import Batch, TopicPartition


class Fenced(PerennialError):
    """Another member owns the partition now, or the position has moved: nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one owner of a partition knows: the offset it handles next, and its epoch."""

    next_offset: int
    epoch: int

    def after(self, batch: Batch) -> "Claim":
        return replace(self, next_offset=batch.next)


def positions_table(metadata: MetaData) -> Table:
    """The positions of one service, in its own schema."""
    return Table(
        "log_positions",
        metadata,
        Column("topic", Text, primary_key=True),
        Column("partition", Integer, primary_key=True),
        Column("next_offset", BigInteger, nullable=False),
        Column("epoch", BigInteger, nullable=False),
    )


async def claim(connection: AsyncConnection, table: Table, partition: TopicPartition) -> Claim:
    """Become the owner of a partition; commits with the caller's transaction."""
    statement = (
        insert(table)
        .values(topic=partition.topic, partition=partition.partition, next_offset=0, epoch=1)
        .on_conflict_do_update(
            index_elements=["topic", "partition"], set_={"epoch": table.c.epoch + 1}
        )
        .returning(table.c.next_offset, table.c.epoch)
    )
    row = (await connection.execute(statement)).one()
    return Claim(next_offset=row.next_offset, epoch=row.epoch)


async def advance(connection: AsyncConnection, table: Table, batch: Batch, held: Claim) -> bool:
    """Move the position over the batch; first statement of the handler's transaction.

    Raises Fenced where the position is not exactly where this owner left it. Returns False only
    in a test that has switched the fence off: the mismatch is then counted instead.
    """
    where = (table.c.topic == batch.partition.topic) & (
        table.c.partition == batch.partition.partition
    )
    result = await connection.execute(
        update(table)
        .where(where, table.c.next_offset == held.next_offset, table.c.epoch == held.epoch)
        .values(next_offset=batch.next)
    )
    if result.rowcount == 1:
        return True
    if not failpoints.switched_off("fence"):
        raise Fenced(f"{batch.partition.topic}/{batch.partition.partition}")
    await connection.execute(update(table).where(where).values(next_offset=batch.next))
    return False


async def read(connection: AsyncConnection, table: Table) -> dict[TopicPartition, int]:
    rows = await connection.execute(select(table.c.topic, table.c.partition, table.c.next_offset))
    return {TopicPartition(row.topic, row.partition): row.next_offset for row in rows}
