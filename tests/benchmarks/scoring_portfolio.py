"""How long a portfolio takes, from the ledger in memory to the answer's bytes, on one core.

Made-up accounts with three versions each over three years: 200 owners, 12 segments, 3 currencies;
one of five is lost, most contracts are yearly. CPU and wall, the best of some rounds.

    python -m tests.benchmarks.scoring_portfolio --accounts 100000 1000000
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import date
from typing import Final, TypeVar

import msgspec
import numpy as np

from services.scoring import portfolio_views as views
from services.scoring.accounting import Accounting
from services.scoring.domain.cuts import Cut
from services.scoring.domain.ledger import Dimension, Ledger, Stages, Today, Versions
from services.scoring.domain.periods import Period, days_of, latest_months, midnight
from services.scoring.domain.usage import Integers

VERSIONS: Final = 3
TODAY: Final = date(2026, 11, 22)
BEGIN: Final = date(2024, 1, 5)
YEAR: Final = Period(first=date(2025, 11, 23), end=date(2026, 11, 23))
NAMES: Final = {
    Dimension.OWNER: 200,
    Dimension.SEGMENT: 12,
    Dimension.PLAN: 5,
    Dimension.REGION: 8,
    Dimension.RESELLER: 50,
    Dimension.CURRENCY: 3,
}
ROUNDS: Final = 5

_DAY: Final = 86_400_000_000
_ENCODER: Final = msgspec.json.Encoder()
T = TypeVar("T")


def made_up(accounts: int, seed: int = 7) -> Ledger:
    draw = np.random.default_rng(seed)
    now, begin = midnight(TODAY) + _DAY // 2, midnight(BEGIN)
    first = begin + draw.integers(0, 5 * _DAY, accounts)
    late = draw.random(accounts) < 0.4
    first[late] += draw.integers(40 * _DAY, 900 * _DAY, int(late.sum()))
    changes = first[:, None] + np.sort(
        draw.integers(_DAY, (now - first)[:, None], (accounts, VERSIONS - 1)), axis=1
    )
    since = np.column_stack([first, changes + np.arange(VERSIONS - 1)])
    start = days_of(first) - draw.integers(0, 400, accounts)
    age = (days_of(first) - start) // 365 + 1
    end = np.column_stack([start + 365 * (age + further) for further in range(VERSIONS)])
    churned_at = np.full((accounts, VERSIONS), np.nan)
    lost = draw.random(accounts) < 0.2
    churned_at[lost, -1] = days_of(since[lost, -1])
    status = np.ones((accounts, VERSIONS))
    status[lost, -1] = 2
    status[draw.random(accounts) < 0.1, 0] = 0
    mrr = np.round(draw.lognormal(5, 1, accounts * VERSIONS), 2)
    risk = np.where(draw.random(accounts) < 0.9, draw.beta(1, 10, accounts), np.nan)
    reached = np.sort(draw.integers(begin, now, (accounts, 2)), axis=1).ravel()
    stage = draw.integers(1, 6, 2 * accounts)

    def repeated(values: Integers) -> Integers:
        return np.repeat(values, VERSIONS)

    return Ledger(
        as_of=now,
        accounts=tuple(f"account-{number}" for number in range(accounts)),
        titles=tuple(f"Account {number}" for number in range(accounts)),
        names={key: tuple(f"{key} {one:03d}" for one in range(n)) for key, n in NAMES.items()},
        versions=Versions(
            account=repeated(np.arange(accounts)),
            since=since.ravel(),
            mrr=mrr,
            margin=np.where(draw.random(len(mrr)) < 0.8, np.round(mrr * 0.7, 2), np.nan),
            seats=np.ones(len(mrr)),
            status=status.ravel(),
            contract_start=repeated(start).astype(np.float64),
            contract_end=end.ravel().astype(np.float64),
            churned_at=churned_at.ravel(),
            notice_days=np.full(len(mrr), np.nan),
            monthly=np.repeat(draw.random(accounts) < 0.2, VERSIONS),
            **{key.value: repeated(draw.integers(-1, n, accounts)) for key, n in NAMES.items()},
        ),
        stages=Stages(account=np.repeat(np.arange(accounts), 2), since=reached, stage=stage),
        today=Today(
            state=np.zeros(accounts, np.int64),
            risk=risk,
            band=np.zeros(accounts, np.int64),
            value_at_risk=np.round(risk * 1_000, 2),
            stage=stage[1::2],
            stage_since=reached[1::2],
        ),
    )


def measured(ask: Callable[[], object], rounds: int = ROUNDS) -> dict[str, float]:
    cpu, wall = [], []
    for _ in range(rounds):
        began, at = time.process_time(), time.perf_counter()
        ask()
        cpu.append(time.process_time() - began)
        wall.append(time.perf_counter() - at)
    return {"cpu_ms": round(1_000 * min(cpu), 1), "wall_ms": round(1_000 * min(wall), 1)}


def measure(accounts: int) -> dict[str, dict[str, float]]:
    ledger = made_up(accounts)
    kept = Accounting()

    def portfolio(cut: Cut, filters: dict[Cut, str] | None = None) -> bytes:
        found = kept.portfolio(ledger, YEAR, cut, filters or {})
        return _ENCODER.encode(views.portfolio(found, YEAR, ledger.as_of, cut, None))

    def months(accounting: Accounting) -> bytes:
        return _ENCODER.encode(
            [views.figures(accounting.figures(ledger, one, {})) for one in latest_months(TODAY, 12)]
        )

    def renewals(cut: Cut) -> bytes:
        return _ENCODER.encode(views.forecast(kept.forecast(ledger, cut, {}), ledger.as_of, cut))

    opening = measured(lambda: Accounting().forecast(ledger, Cut.WHOLE, {}), 2)
    kept.forecast(ledger, Cut.WHOLE, {})
    months(kept)
    return {
        "opening the books, after a change of the directory": opening,
        "year by owner": measured(lambda: portfolio(Cut.OWNER)),
        "year by owner, one segment": measured(
            lambda: portfolio(Cut.OWNER, {Cut.SEGMENT: "segment 003"})
        ),
        "year by stage": measured(lambda: portfolio(Cut.STAGE)),
        "year, whole": measured(lambda: portfolio(Cut.WHOLE)),
        "12 months, nothing kept, books opened": measured(lambda: months(Accounting()), 2),
        "12 months, closed ones kept": measured(lambda: months(kept)),
        "renewals by owner": measured(lambda: renewals(Cut.OWNER)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, nargs="+", default=[100_000])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for accounts in options.accounts:
        found = measure(accounts)
        if options.json:
            json.dump({"accounts": accounts, **found}, sys.stdout)
            sys.stdout.write("\n")
            continue
        sys.stdout.write(f"{accounts:,} accounts, {VERSIONS} versions each\n")
        for name, one in found.items():
            sys.stdout.write(f"  {name:52s} {one['cpu_ms']:8.1f} CPU-ms {one['wall_ms']:8.1f} ms\n")


if __name__ == "__main__":
    main()
