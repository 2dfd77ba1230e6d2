"""How fast the notifier decides, sends, and drains a long queue: `make bench-notifier`.

Real PostgreSQL, the embedded log, a stand-in for Slack; everything on this machine. Figures have no
verdict, as machines are noisy.
"""

import argparse
import json
import os
import sys

import uvloop

from tests.benchmarks.notifier_latency import Pace, measure_latency
from tests.benchmarks.notifier_queue import Shape, measure_queues


async def measure(chosen: argparse.Namespace) -> dict[str, object]:
    figures: dict[str, object] = {}
    if chosen.part in ("latency", "all"):
        figures["latency"] = await measure_latency(
            Pace(
                rate=chosen.rate,
                seconds=chosen.seconds,
                owners=chosen.owners,
                senders=chosen.senders,
                wait_seconds=chosen.wait,
                answer_seconds=chosen.answer,
            )
        )
    if chosen.part in ("queue", "all"):
        figures["queue"] = await measure_queues(
            [
                Shape(deliveries=chosen.deliveries, destinations=places, samples=chosen.samples)
                for places in chosen.destinations
            ]
        )
    return figures


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--part", choices=["latency", "queue", "all"], default="all")
    options.add_argument("--rate", type=int, default=50, help="latency: flags per second")
    options.add_argument("--seconds", type=int, default=60, help="latency: how long")
    options.add_argument("--owners", type=int, default=200, help="latency: destinations")
    options.add_argument("--senders", type=int, default=8, help="latency: at once")
    options.add_argument("--wait", type=float, default=5, help="latency: group wait, seconds")
    options.add_argument("--answer", type=float, default=0.1, help="latency: Slack's, seconds")
    options.add_argument("--deliveries", type=int, default=100_000, help="queue: all due")
    options.add_argument("--destinations", type=int, nargs="+", default=[50, 50_000])
    options.add_argument("--samples", type=int, default=500, help="queue: claims timed each time")
    options.add_argument("--json", action="store_true", help="one line of JSON")
    chosen = options.parse_args()
    load = [round(value, 1) for value in os.getloadavg()]
    figures = {"cores": os.cpu_count(), "load_average": load, **uvloop.run(measure(chosen))}
    sys.stdout.write(json.dumps(figures, indent=None if chosen.json else 2) + "\n")


if __name__ == "__main__":
    main()
