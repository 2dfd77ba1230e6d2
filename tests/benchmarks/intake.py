"""How fast scoring takes events in: `make bench` (or `python -m tests.benchmarks.intake -h`).

One process: real PostgreSQL, the embedded log, dedupe and all buckets on; the reference of the same
run is decoding the same records and nothing else. Figures, not a verdict: machines are noisy.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import sys
import time
from datetime import UTC, datetime, timedelta

from services.scoring.intake import Intake
from services.scoring.metrics import ScoringMetrics
from services.scoring.partitions import Partitions
from shared.clock import system_clock
from shared.database import open_engine
from shared.lifecycle import new_frame
from shared.log import Record
from shared.log.postgres import open_postgres_log
from shared.log.worker import Worker
from shared.messages import USAGE_EVENTS, UsageEvent, decode, encode
from tests.databases import running_server, temporary_folder

ACCOUNTS = 5_000
USERS = 20


def make_records(events: int) -> list[Record]:
    """Events of the last 28 days; a few accounts have most of them."""
    choose, now = random.Random(1), datetime.now(UTC)
    records = []
    for number in range(events):
        account = f"account-{int(ACCOUNTS * choose.random() ** 3):04}"
        moment = now - timedelta(seconds=choose.randrange(28 * 86_400))
        event = UsageEvent(
            id=f"event-{number:09}",
            source="benchmark",
            account=account,
            user=f"u1:{choose.randrange(USERS):032x}",
            type="feature_used",
            occurred_at=moment,
            client_at=moment,
            received_at=now,
            properties={"feature": f"feature-{choose.randrange(30)}"},
        )
        records.append(Record(key=account.encode(), value=encode(event)))
    return records


async def measure(events: int, batch: int) -> dict[str, object]:
    records = make_records(events)
    with temporary_folder() as folder:
        async with running_server(folder) as server:
            await server.prepare_template()
            async with (
                server.copy_of_template() as url,
                open_engine(url, application="benchmark") as engine,
                open_postgres_log(url) as log,
            ):
                for start in range(0, events, 10_000):
                    await log.append(
                        USAGE_EVENTS, records[start : start + 10_000], deadline=timedelta(minutes=1)
                    )
                frame = new_frame()
                metrics = ScoringMetrics(frame.registry)
                intake = Intake(
                    engine=engine,
                    partitions=Partitions(engine, kept=timedelta(days=60)),
                    metrics=metrics,
                    clock=system_clock,
                )
                stop = asyncio.Event()
                async with log.consume([USAGE_EVENTS], group="benchmark") as consumer:
                    worker = Worker(
                        service="scoring",
                        consumer=consumer,
                        handler=intake,
                        frame=frame,
                        loop=frame.loop("scoring", "intake"),
                        max_records=batch,
                    )
                    cpu, wall = time.process_time(), time.perf_counter()
                    task = asyncio.create_task(worker.run(stop))
                    counted = ("perennial_events_total", {"result": "counted"})
                    while frame.registry.get_sample_value(*counted) != events:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                    stop.set()
                    await task
    decoding = time.process_time()
    for record in records:
        decode(UsageEvent, record.value)
    decoding = time.process_time() - decoding
    return {
        "events": events,
        "batch": batch,
        "cores": os.cpu_count(),
        "events_per_second": round(events / wall),
        "client_cpu_us_per_event": round(cpu / events * 1e6, 1),
        "decode_cpu_us_per_event": round(decoding / events * 1e6, 1),
        "ratio_to_decoding": round(cpu / decoding, 1),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=200_000)
    options.add_argument("--batch", type=int, default=5_000)
    chosen = options.parse_args()
    sys.stdout.write(json.dumps(asyncio.run(measure(chosen.events, chosen.batch))) + "\n")


if __name__ == "__main__":
    main()
