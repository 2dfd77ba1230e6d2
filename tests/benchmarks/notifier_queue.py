"""Whether claims slow down: 100,000 due deliveries over few and over many destinations.

Straight in PostgreSQL, without a channel: a claim is what a sender commits before it sends, a
record what it commits after. All are announced first. At the beginning, in the middle and at the
end `samples` deliveries are claimed and recorded one by one; between these the queue is drained in
bulk, which leaves as many dead rows as a sender would. Then the plans of both statements.
"""

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.notifier import queue, rests, statements
from services.notifier.channels import Receipt
from shared.database import open_engine
from shared.embedded_postgres import embedded_postgres
from tests.benchmarks.ingest_figures import cpu_seconds
from tests.benchmarks.scoring_intake import postmaster_of
from tests.databases import DatabaseServer, temporary_folder

_LEASE = timedelta(seconds=60)
_NO_PACE = timedelta(0)
_FILL = """
    INSERT INTO notifier.deliveries (id, dedupe_key, kind, group_key, channel, destination,
        recipient, reason, subject, urgent, priority, state, due_at)
    SELECT gen_random_uuid(), 'k' || i, 'notice', 'g' || i, 'slack', 'slack:C' || i % :places, '',
        'first', '{}', i % 50 = 0, (i * 7919 % 1000)::float, 'pending', now() - interval '1 s'
    FROM generate_series(1, :deliveries) AS i
"""
_DRAIN = """
    UPDATE notifier.deliveries SET state = 'sent', ended_at = now() WHERE id IN (
        SELECT id FROM notifier.deliveries WHERE state = 'pending' ORDER BY number LIMIT :most)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    deliveries: int
    destinations: int
    samples: int


async def measure_queue(shape: Shape) -> dict[str, object]:
    """Commits wait for the disk, as in production."""
    with temporary_folder() as folder:
        async with embedded_postgres(folder / "postgres") as url:
            server = DatabaseServer(url)
            await server.prepare_template()
            postmaster = postmaster_of(folder / "postgres")
            async with (
                server.copy_of_template() as copy,
                open_engine(copy, application="benchmark") as engine,
            ):
                return await _measure(engine, shape, postmaster)


async def _measure(engine: AsyncEngine, shape: Shape, postmaster: int) -> dict[str, object]:
    async with engine.begin() as connection:
        size = {"deliveries": shape.deliveries, "places": shape.destinations}
        await connection.execute(text(_FILL), size)
    begun, rounds = time.perf_counter(), 0
    while True:
        async with engine.begin() as connection:
            if not await queue.announce(connection):
                break
            rounds += 1
    announced = time.perf_counter() - begun
    figures: dict[str, object] = {
        "deliveries": shape.deliveries,
        "destinations": shape.destinations,
        "announced_per_second": round(shape.deliveries / announced),
        "announcing_transactions": rounds,
    }
    between = (shape.deliveries - 3 * shape.samples) // 2
    for name in ("beginning", "middle", "end"):
        if name != "beginning":
            async with engine.begin() as connection:
                await connection.execute(text(_DRAIN), {"most": between})
        if name == "end":
            await _forget_drained(engine)
        figures[name] = await _samples(engine, shape.samples, postmaster)
        figures[f"plan_{name}"] = await _plans(engine)
    return figures


async def _forget_drained(engine: AsyncEngine) -> None:
    """Bulk draining left destinations that say something is due: senders pass each over once."""
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE notifier.destinations AS place SET due_at = NULL WHERE NOT EXISTS (SELECT"
                " FROM notifier.deliveries AS one WHERE one.destination = place.destination"
                " AND one.state = 'pending')"
            )
        )


async def _samples(engine: AsyncEngine, count: int, postmaster: int) -> dict[str, float]:
    claims: list[float] = []
    cycles: list[float] = []
    cpu_before = _own_cpu(), _server_cpu(postmaster)
    for _ in range(count):
        begun = time.perf_counter()
        async with engine.begin() as connection:
            held = await queue.claim(connection, ["slack", "email"], lease=_LEASE)
        claimed = time.perf_counter()
        if held is None:
            raise RuntimeError("the queue was empty too early")
        async with engine.begin() as connection:
            await queue.record_sent(connection, held, Receipt())
            await rests.after_sent(connection, held, pace=_NO_PACE)
        claims.append(claimed - begun)
        cycles.append(time.perf_counter() - begun)
    own, server = _own_cpu() - cpu_before[0], _server_cpu(postmaster) - cpu_before[1]
    return {
        "claims_per_second": round(count / sum(claims)),
        "cycles_per_second": round(count / sum(cycles)),
        "claim_ms_p50": round(_quantile(claims, 0.5) * 1_000, 2),
        "claim_ms_p99": round(_quantile(claims, 0.99) * 1_000, 2),
        "cpu_ms_per_cycle_sender": round(own / count * 1_000, 2),
        "cpu_ms_per_cycle_postgres": round(server / count * 1_000, 2),
    }


async def _plans(engine: AsyncEngine) -> dict[str, Sequence[str]]:
    """Of both statements of a claim, run in full; nothing stays changed."""
    async with engine.connect() as connection:
        channels: dict[str, object] = {"channels": ["slack", "email"]}
        place = (await connection.execute(statements.CLAIMABLE, channels)).one()
        first: dict[str, object] = {"destination": place.destination}
        plans = {
            "destination": await _explain(connection, str(statements.CLAIMABLE), channels),
            "delivery": await _explain(connection, str(statements.FIRST_OF_DESTINATION), first),
        }
        await connection.rollback()
    return plans


async def _explain(
    connection: AsyncConnection, statement: str, values: dict[str, object]
) -> Sequence[str]:
    explained = text(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, COSTS OFF) {statement}")
    if "channels" in values:
        explained = explained.bindparams(*statements.CLAIMABLE._bindparams.values())
    return list(await connection.scalars(explained, values))


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _server_cpu(postmaster: int) -> float:
    """Of the server and its connections; one that ended in between is missing."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return sum(cpu_seconds(int(pid)) for pid in (postmaster, *map(int, children)))


async def measure_queues(shapes: Sequence[Shape]) -> dict[str, object]:
    return {
        f"{shape.deliveries} over {shape.destinations}": await measure_queue(shape)
        for shape in shapes
    }
