"""All accounts in memory: what it takes to load and refresh them, to list, search and count them.

    python -m tests.benchmarks.scoring_register --accounts 100000

Made-up accounts with five versions, three stages and a score each, in a PostgreSQL of its own; the
read API is asked in this process. CPU is that of this process, without PostgreSQL; times of answers
are those of the wall.
"""

import argparse
import asyncio
import json
import resource
import time
from collections.abc import Awaitable, Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.api import api
from services.scoring.domain.ledger import Ledger
from services.scoring.domain.rules import read_default
from services.scoring.register import Register
from services.scoring.store import shard_of
from shared.credentials import KeyRing, Scope, new_key
from shared.database import open_engine, plain_engine
from shared.embedded_postgres import embedded_postgres
from shared.migrations import upgrade
from tests.databases import temporary_folder

NOW: Final = datetime(2026, 6, 15, 12, tzinfo=UTC)
ROUNDS: Final = 20
QUESTIONS: Final = {
    "first page by risk": "/v1/accounts",
    "first page by value": "/v1/accounts?sort=value_at_risk",
    "first page by name": "/v1/accounts?sort=name",
    "by renewal, three filters": (
        "/v1/accounts?sort=renewal_date&owner=owner 7&segment=segment 3&region=region 1"
    ),
    "renewals in 90 days": "/v1/accounts?renews_within=90&sort=mrr",
    "search, few match": "/v1/accounts?q=ACME 4711",
    "search, all match": "/v1/accounts?q=acme",
    "facets": "/v1/facets",
    "facets, three filters": "/v1/facets?owner=owner 7&segment=segment 3&region=region 1",
    "status": "/v1/status",
}
_FILL: Final = (
    """
INSERT INTO scoring.account_versions (account_id, since, name, owner, segment, plan, region,
    reseller, seats, currency, mrr, margin_per_month, status, contract_start, contract_end,
    notice_days, billing_period)
SELECT 'account-' || a,
    timestamptz '2025-01-01 00:00Z' + v * interval '90 days' + a * interval '1 s',
    'Acme ' || a || ' GmbH', 'owner ' || (a + v) % 40, 'segment ' || a % 5, 'plan ' || a % 4,
    'region ' || a % 6, CASE WHEN a % 5 = 0 THEN 'reseller ' || a % 30 END, 10 + a % 200,
    CASE WHEN a % 3 = 0 THEN 'USD' ELSE 'EUR' END, 100 + a % 900 + v, 80 + a % 500, 'active',
    date '2023-01-01' + a % 700, date '2026-01-01' + a % 700, 30, 'year'
FROM generate_series(1, :accounts) AS a, generate_series(0, 4) AS v
""",
    """
INSERT INTO scoring.account_stages (account_id, since, stage)
SELECT 'account-' || a, timestamptz '2025-01-01 00:00Z' + s * interval '60 days', 2 + s
FROM generate_series(1, :accounts) AS a, generate_series(0, 2) AS s
""",
    """
INSERT INTO scoring.accounts (account_id, fields, updated_at)
SELECT account_id, jsonb_strip_nulls(to_jsonb(v) - 'account_id' - 'since' - 'written_in'), since
FROM (SELECT DISTINCT ON (account_id) * FROM scoring.account_versions
    ORDER BY account_id, since DESC) AS v
""",
    """
INSERT INTO scoring.scores (shard, account_id, as_of, state, short_history, risk, band, latched,
    band_since, value_at_risk, currency, value_basis, columns, indicators, cohort_ratio,
    model_version, stage, stage_since)
SELECT (CAST(:shards AS smallint[]))[a], 'account-' || a, now(), 'scored', false, random(),
    (ARRAY['healthy', 'watch', 'at_risk', 'critical'])[1 + a % 4], 0, now(), random() * 1000,
    'EUR', 'margin', '', decode(repeat(md5(a::text), 35), 'hex'), 1, 'none', 4, now()
FROM generate_series(1, :accounts) AS a
""",
    "VACUUM ANALYZE",
)


async def measure(accounts: int) -> dict[str, object]:
    with temporary_folder() as folder:
        async with embedded_postgres(Path(folder)) as url:
            await upgrade(url)
            filling = plain_engine(url)
            await _fill(filling, accounts)
            await filling.dispose()
            async with open_engine(url, application="benchmark") as engine:
                return await _measured(engine, accounts)


async def _fill(engine: AsyncEngine, accounts: int) -> None:
    async with engine.connect() as connection:
        committing = await connection.execution_options(isolation_level="AUTOCOMMIT")
        known = {
            "accounts": accounts,
            "shards": [shard_of(f"account-{a}") for a in range(1, accounts + 1)],
        }
        for statement in _FILL:
            wanted = {name: value for name, value in known.items() if f":{name}" in statement}
            await committing.execute(text(statement), wanted)


async def _measured(engine: AsyncEngine, accounts: int) -> dict[str, object]:
    before = _resident_megabytes()
    register = Register(engine=engine, clock=lambda: NOW, max_age=timedelta())
    load = await _cost(register.current)
    refreshes = [await _cost(register.current) for _ in range(3)]
    ledger = await register.current()
    asked = Register(engine=engine, clock=lambda: NOW, max_age=timedelta(hours=1))
    return {
        "accounts": accounts,
        "versions": len(ledger.versions),
        "whole_load": load,
        "refresh_without_news": min(refreshes, key=lambda one: one["cpu_seconds"]),
        "ledger_megabytes": round(_megabytes(ledger)),
        "resident_megabytes_more": round(_resident_megabytes() - before),
        "answers": await _answers(engine, asked),
    }


async def _answers(engine: AsyncEngine, register: Register) -> dict[str, dict[str, float]]:
    key, keys = new_key(source="b", scopes=[Scope.ACCOUNTS_READ], now=NOW), KeyRing()
    keys.put(key.record)
    app = api(engine=engine, keys=keys, clock=lambda: NOW, rules=read_default(), register=register)
    found = {}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://scoring",
        headers={"Authorization": f"Bearer {key.secret}"},
    ) as client:
        for name, path in QUESTIONS.items():
            (await client.get(path)).raise_for_status()
            costs = [await _cost(partial(client.get, path)) for _ in range(ROUNDS)]
            walls = sorted(one["seconds"] for one in costs)
            found[name] = {
                "p50_ms": round(walls[ROUNDS // 2] * 1000, 1),
                "p95_ms": round(walls[ROUNDS * 95 // 100 - 1] * 1000, 1),
                "cpu_ms": round(sum(one["cpu_seconds"] for one in costs) / ROUNDS * 1000, 1),
            }
    return found


async def _cost(work: Callable[[], Awaitable[object]]) -> dict[str, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    await work()
    return {
        "cpu_seconds": round(time.process_time() - cpu, 4),
        "seconds": round(time.perf_counter() - wall, 4),
    }


def _megabytes(ledger: Ledger) -> float:
    parts: tuple[Any, ...] = (ledger.versions, ledger.stages, ledger.today)
    arrays = (getattr(part, each.name) for part in parts for each in fields(part))
    return sum(int(array.nbytes) for array in arrays) / 1e6


def _resident_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--accounts", type=int, default=100_000)
    print(json.dumps(asyncio.run(measure(options.parse_args().accounts)), indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
