"""What nobody may read is planted everywhere, and everything goes wrong: no output holds it."""

import asyncio
import os
import re
import subprocess
import sys
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.databases import temporary_folder
from tests.e2e.deployments import bearer, embedded, eventually
from tests.e2e.test_main_job import SCOPES, daily_use, put_account, send
from tests.processes import clean_environment, free_port
from tests.standins.slack import Answer, fake_slack

CANARY = "hunter2canary"
PERSON = f"{CANARY}@people.example"


def hostile(key: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Calls that are refused, each with something in it that must not be repeated in a log."""
    event = {"id": "e", "account_id": "acme", "type": "login", "user_id": PERSON}
    own = bearer(key)
    return [
        ("POST", "/v1/events", {"headers": own, "content": f'{{"{CANARY}": '.encode()}),
        ("POST", "/v1/events", {"headers": own, "json": [{**event, "occurred_at": CANARY}]}),
        ("POST", "/v1/events", {"headers": own, "json": [{**event, "type": ""}]}),
        ("POST", "/v1/events", {"headers": own, "json": [{**event, "user_id": [CANARY]}]}),
        ("POST", "/v1/events", {"headers": bearer(CANARY), "json": [event]}),
        ("PUT", "/v1/accounts/acme", {"headers": own, "json": {"mrr": CANARY}}),
        ("POST", f"/{CANARY}", {"headers": own, "json": []}),
        ("POST", "/v1/batch", {"headers": bearer(CANARY), "json": {"batch": [{"x": CANARY}]}}),
        ("DELETE", f"/v1/users/{PERSON}", {"headers": own}),
    ]


async def test_no_log_line_and_no_metric_holds_a_secret_or_a_person(
    client: httpx.AsyncClient,
) -> None:
    with temporary_folder() as folder:
        async with fake_slack() as slack:
            slack.script = deque([Answer(status=500, body=CANARY)] * 200)
            deployment = embedded(
                folder,
                PERENNIAL_LOG_LEVEL="debug",
                SLACK_WEBHOOK_URL=f"{slack.url}/{CANARY}",
                SMTP_URL=f"smtp://{CANARY}:{CANARY}@127.0.0.1:{free_port()}?starttls=never",
                PERENNIAL_USER_HASH_KEY=CANARY * 4,
                PERENNIAL_NOTIFIER_SECRET=CANARY * 4,
            )
            try:
                await asyncio.to_thread(deployment.start)
                key = await asyncio.to_thread(deployment.new_key, *SCOPES)
                renewal = (datetime.now(UTC).date() + timedelta(days=60)).isoformat()
                await put_account(
                    client, deployment, key, "acme", name="Acme", owner=PERSON, mrr="900",
                    currency="EUR", contract_end=renewal, status="active",
                )  # fmt: skip
                for account in ("globex", "initech"):
                    await send(client, deployment, key, daily_use(account, first=60, last=0))
                silent = [
                    {**event, "user_id": PERSON, "properties": {"note": CANARY}}
                    for event in daily_use("acme", first=90, last=35)
                ]
                await send(client, deployment, key, silent)
                for method, path, call in hostile(key):
                    answer = await client.request(
                        method, f"{deployment.ingest.url('ingest')}{path}", **call
                    )
                    assert "Traceback" not in answer.text
                for service in ("scoring", "notifier"):
                    url = deployment.ingest.url(service)
                    await client.get(f"{url}/v1/accounts/{CANARY}?q={CANARY}", headers=bearer(key))
                    await client.get(f"{url}/v1/accounts", headers=bearer(CANARY))
                # Neither Slack nor mail takes what is to be told.
                await eventually(
                    lambda: deployment.notifier.metric("perennial_delivery_attempts_total") > 2,
                    what="messages fail",
                    seconds=60,
                )
                metrics = (await client.get(f"{deployment.ingest.url('admin')}/metrics")).text
                listed = await asyncio.to_thread(deployment.cli, "quarantine", "list")
                await asyncio.to_thread(deployment.terminate)
            finally:
                deployment.stop()
        written = deployment.ingest.output()
        assert "delivery." in written  # what failed is told
        for where, text in (("metrics", metrics), ("log", written), ("quarantine", listed)):
            found = re.findall(rf".{{0,80}}{CANARY}.{{0,40}}", text)
            assert not found, (where, found[:3])
        secret = key.split("_")[3]
        assert secret not in written + metrics


@pytest.mark.parametrize(
    "command", [("keys", "list"), ("migrate",), ("up", "--help"), ("users", "list"), ("up",)]
)
def test_no_command_tells_a_secret_of_its_environment(command: tuple[str, ...]) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    done = subprocess.run(
        [sys.executable, "-m", "services", *command],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        env={
            **clean_environment(os.environ),
            "DATABASE_URL": f"postgresql://{CANARY}:{CANARY}@{nobody}/x?sslmode={CANARY}",
            "SMTP_URL": f"smtp://x:{CANARY}@mail:{CANARY}",
            "PERENNIAL_SCORING_KEY": CANARY,
            "SLACK_WEBHOOK_URL": f"ftp://{CANARY}",
            "PERENNIAL_WEBHOOK_SECRETS": f'{{"crm": {CANARY}}}',
        },
    )
    assert CANARY not in done.stdout + done.stderr
