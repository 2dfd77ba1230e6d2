"""Positions of consumers, kept in PostgreSQL and moved in the transaction that has the effects.

The epoch fences: whoever claimed a partition last owns it, and an older owner's transaction fails.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    literal,
    select,
    update,
)
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


class Result(StrEnum):
    """What became of a record: a column of the positions of a service that counts."""

    COUNTED = "counted"
    DUPLICATE = "duplicate"
    ERASED = "erased"
    QUARANTINED = "quarantined"


def positions_table(metadata: MetaData, *, counts: bool = False) -> Table:
    """The positions of one service, in its own schema.

    With `counts`, of each partition how many records the position has passed, and what became of
    them: written in the transaction that moves the position, their sums are equal at any moment.
    """
    counted = ("passed", *Result) if counts else ()
    return Table(
        "log_positions",
        metadata,
        Column("topic", Text, primary_key=True),
        Column("partition", Integer, primary_key=True),
        Column("next_offset", BigInteger, nullable=False),
        Column("epoch", BigInteger, nullable=False),
        *(Column(str(name), BigInteger, nullable=False, server_default="0") for name in counted),
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


async def advance(
    connection: AsyncConnection,
    table: Table,
    batch: Batch,
    held: Claim,
    results: Mapping[Result, int] = MappingProxyType({}),
) -> bool:
    """Move the position over the batch; first statement of the handler's transaction.

    `results`: what becomes of the records, where that is known already (else: `count`).

    Raises Fenced where the position is not exactly where this owner left it. Returns False only
    in a test that has switched the fence off: the mismatch is then counted instead.
    """
    where = (table.c.topic == batch.partition.topic) & (
        table.c.partition == batch.partition.partition
    )
    moved: dict[str, object] = {"next_offset": batch.next}
    if "passed" in table.c:
        moved["passed"] = table.c.passed + len(batch.records)
        moved |= {str(name): table.c[name] + number for name, number in results.items()}
    result = await connection.execute(
        update(table)
        .where(where, table.c.next_offset == held.next_offset, table.c.epoch == held.epoch)
        .values(**moved)
    )
    if result.rowcount == 1:
        return True
    if not failpoints.switched_off("fence"):
        raise Fenced(f"{batch.partition.topic}/{batch.partition.partition}")
    await connection.execute(update(table).where(where).values(**moved))
    return False


async def count(
    connection: AsyncConnection,
    table: Table,
    partition: TopicPartition,
    results: Mapping[Result, int],
) -> None:
    """Note what became of the records that the transaction has moved the position over."""
    await connection.execute(
        update(table)
        .where(table.c.topic == partition.topic, table.c.partition == partition.partition)
        .values({str(name): table.c[name] + number for name, number in results.items()})
    )


async def mismatch(connection: AsyncConnection, table: Table) -> int:
    """Records without a result and results without a record, over all partitions."""
    results = sum((table.c[name] for name in Result), start=literal(0))
    off = select(func.coalesce(func.sum(func.abs(table.c.passed - results)), 0))
    return int(await connection.scalar(off) or 0)


async def read(connection: AsyncConnection, table: Table) -> dict[TopicPartition, int]:
    rows = await connection.execute(select(table.c.topic, table.c.partition, table.c.next_offset))
    return {TopicPartition(row.topic, row.partition): row.next_offset for row in rows}
