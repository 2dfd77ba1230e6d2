"""Real events, imported twice: every day bucket equals a plain recomputation from the file."""

import asyncio
import csv
import gzip
import json
import os
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.deployments import Deploy, Deployment, bearer, eventually, status_of

FILE = "contributor_activity.csv.gz"
ROWS = 96_558

Days = dict[str, dict[str, tuple[int, int]]]
"""Account, day -> events and active users."""


@pytest.fixture
def real_events() -> Path:
    folder = os.environ.get("PERENNIAL_TEST_DATA")
    if not folder:
        pytest.skip("SKIPPED REAL DATA: PERENNIAL_TEST_DATA names no folder")
    return Path(folder) / FILE


def recompute(path: Path) -> Days:
    """From the file alone, with nothing of ours."""
    events: Counter[tuple[str, str]] = Counter()
    users: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            day = datetime.fromtimestamp(int(row["event_ts"]), UTC).date().isoformat()
            key = (row["account_id"], day)
            events[key] += 1
            users[key].add(row["user_id"])
    days: Days = defaultdict(dict)
    for (account, day), count in events.items():
        days[account][day] = (count, len(users[account, day]))
    return days


async def read_days(client: httpx.AsyncClient, deployment: Deployment, key: str) -> Days:
    """From the read API, account by account."""
    url = deployment.scoring.url("scoring")
    days: Days = {}
    for account in await list_accounts(client, url, key):
        answer = await client.get(
            f"{url}/v1/accounts/{account}/daily",
            headers=bearer(key),
            params={"from": "2005-01-01", "to": "2030-12-31"},
        )
        days[account] = {
            row["day"]: (row["events"], row["active_users"]) for row in answer.json()["days"]
        }
    return days


async def list_accounts(client: httpx.AsyncClient, url: str, key: str) -> list[str]:
    accounts: list[str] = []
    cursor: str | None = None
    while True:
        parameters = {"sort": "account_id", "limit": "200"} | ({"cursor": cursor} if cursor else {})
        answer = await client.get(f"{url}/v1/accounts", headers=bearer(key), params=parameters)
        page = answer.json()
        accounts += [row["account_id"] for row in page["accounts"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return accounts


async def read_indicators(
    client: httpx.AsyncClient, deployment: Deployment, key: str
) -> dict[str, dict[str, Any]]:
    url = deployment.scoring.url("scoring")
    found = {}
    for account in await list_accounts(client, url, key):
        answer = await client.get(f"{url}/v1/accounts/{account}", headers=bearer(key))
        found[account] = answer.json()["indicators"]
    return found


async def test_real_events_imported_twice_equal_a_recomputation_from_the_file(
    deploy: Deploy, client: httpx.AsyncClient, real_events: Path
) -> None:
    deployment = await deploy(ACTIVITY_RETENTION_DAYS="0")
    key = await asyncio.to_thread(
        deployment.new_key, "events:write", "backfill", "accounts:read", source="file"
    )

    async def imported() -> dict[str, Any]:
        said = await asyncio.to_thread(
            deployment.cli, "import", "events", str(real_events), "--key", key, "--json"
        )
        summary: dict[str, Any] = json.loads(said.splitlines()[-1])
        return summary

    async def settled(result: str) -> None:
        await eventually(
            lambda: (
                deployment.scoring.metric("perennial_events_total", f'result="{result}"') == ROWS
            ),
            seconds=120,
            what=f"all rows are {result}",
        )

        async def scored() -> bool:
            status = await status_of(client, deployment, key)
            return bool(status["dirty"] == 0)

        await eventually(scored, seconds=60, what="everything is scored")
        at = datetime.now(UTC)

        async def listed() -> bool:
            url = f"{deployment.scoring.url('scoring')}/v1/accounts?limit=1"
            page = (await client.get(url, headers=bearer(key))).json()
            return datetime.fromisoformat(page["as_of"]) >= at

        await eventually(listed, what="lists are as of then")

    first = await imported()
    assert (first["rows"], first["accepted"], first["rejected"]) == (ROWS, ROWS, 0)
    await settled("counted")
    indicators = await read_indicators(client, deployment, key)
    expected = recompute(real_events)
    assert await read_days(client, deployment, key) == expected

    second = await imported()
    assert (second["rows"], second["accepted"], second["rejected"]) == (ROWS, ROWS, 0)
    await settled("duplicate")
    assert await read_days(client, deployment, key) == expected
    assert await read_indicators(client, deployment, key) == indicators
