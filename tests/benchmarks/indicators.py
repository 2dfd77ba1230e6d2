"""How long the indicators of one chunk of a shard take, on one core, and how much memory.

Made-up use: 31,250 accounts (1,000,000 in 32 shards) with 37 active days of 400 in the mean, 2
users, a feature and a source on each, and 5 signals. Members come in no order.

    python -m tests.benchmarks.indicators
"""

import argparse
import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final

import numpy as np

from services.scoring.domain.indicators import measure
from services.scoring.domain.usage import (
    KEPT_DAYS,
    Days,
    Members,
    Outages,
    SignalKind,
    Signals,
    Usage,
    directory_of,
    microseconds,
)
from shared.messages import AccountFields

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAYS: Final = 37
USERS_A_DAY: Final = 2
SIGNALS: Final = 5
ROUNDS: Final = 5
_APART: Final = 0x9E3779B97F4A7C1

KNOWN: Final = AccountFields(
    seats=12,
    contract_start=date(2024, 1, 1),
    contract_end=date(2026, 2, 1),
    billing_period="month",
    status="active",
    mrr=Decimal("99.50"),
    margin_per_month=Decimal(50),
)


def made_up(accounts: int) -> Usage:
    """Use without meaning, of the size of real use."""
    chance = np.random.default_rng(1)
    today = NOW.toordinal()
    # Some days are drawn twice: a twentieth more than wanted.
    owner = np.repeat(np.arange(accounts), chance.poisson(DAYS * 1.05, accounts))
    day = today - chance.integers(0, KEPT_DAYS + 1, len(owner))
    owner, day = np.unique(np.stack([owner, day]), axis=1)
    signal_owner = np.repeat(np.arange(accounts), chance.poisson(SIGNALS, accounts))
    signals = len(signal_owner)

    def members(codes: int, per_day: int) -> Members:
        whose, when = np.repeat(owner, per_day), np.repeat(day, per_day)
        # Consecutive numbers, so that those of one day are distinct; wide apart, as hashes are.
        number = np.repeat(chance.integers(0, codes, len(day)), per_day)
        number = (number + np.tile(np.arange(per_day), len(day))) % codes
        order = chance.permutation(len(whose))
        return Members(owner=whose[order], day=when[order], code=number[order] * _APART)

    return Usage(
        accounts=accounts,
        days=Days(
            owner=owner,
            day=day,
            events=chance.integers(1, 50, len(day)),
            milliseconds=chance.integers(0, 10**7, len(day)),
        ),
        users=members(10, USERS_A_DAY),
        features=members(6, 1),
        sources=members(2, 1),
        signals=Signals(
            owner=signal_owner,
            at=microseconds(NOW) - chance.integers(0, KEPT_DAYS * 86_400 * 10**6, signals),
            kind=chance.integers(1, max(SignalKind) + 1, signals),
            user=chance.integers(1, 9, signals),
            subject=chance.integers(1, 9, signals),
            value=chance.integers(0, 10, signals).astype(np.float64),
        ),
        first_deleted=np.full(accounts, np.nan),
        last_deleted=np.full(accounts, np.nan),
        deleted_days=np.zeros(accounts, np.int64),
    )


def best_cpu_seconds(work: Callable[[], object]) -> float:
    def once() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return min(once() for _ in range(ROUNDS))


def megabytes(usage: Usage) -> float:
    parts = (usage.days, usage.users, usage.features, usage.sources, usage.signals)
    arrays = (getattr(part, field.name) for part in parts for field in fields(part))
    return sum(int(array.nbytes) for array in arrays) / 1e6


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--accounts", type=int, default=31_250)
    accounts = options.parse_args().accounts
    usage = made_up(accounts)
    last = NOW.toordinal() - 1
    outages = Outages(
        source=np.zeros(2, np.int64),
        day=np.array([last, last - 1]),
        everywhere=np.array([last - 5]),
    )
    directory = directory_of([KNOWN] * accounts)
    tracemalloc.start()
    measure(usage, directory, NOW, outages=outages)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    works: dict[str, Callable[[], object]] = {
        "measure": lambda: measure(usage, directory, NOW),
        "measure_with_outages": lambda: measure(usage, directory, NOW, outages=outages),
        "directory_all_known": lambda: directory_of([KNOWN] * accounts),
        "directory_nothing_known": lambda: directory_of([AccountFields()] * accounts),
    }
    found = {
        "accounts": accounts,
        "active_days_per_account": round(len(usage.days.day) / accounts, 1),
        "user_days_per_account": round(len(usage.users.code) / accounts, 1),
        "input_megabytes": round(megabytes(usage)),
        "measure_peak_megabytes": round(peak),
    } | {
        f"{name}_us_per_account": round(best_cpu_seconds(work) / accounts * 1e6, 2)
        for name, work in works.items()
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
