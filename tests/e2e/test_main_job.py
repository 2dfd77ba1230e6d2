"""The main job: events in, a customer who fell silent, and a CSM who hears of it once."""

import asyncio
import re
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.e2e.deployments import Deploy, Deployment, bearer, eventually, status_of
from tests.standins.mail import fake_mail
from tests.standins.slack import Answer, Reset, fake_slack, rate_limited

SCOPES = ("events:write", "accounts:write", "backfill", "accounts:read")


def daily_use(account: str, *, first: int, last: int) -> list[dict[str, Any]]:
    """One log-in a day, from `first` to `last` days ago."""
    now = datetime.now(UTC)
    return [
        {
            "id": f"{account}-{age}",
            "account_id": account,
            "user_id": f"user-{age % 3}@{account}.example",
            "type": "login",
            "occurred_at": (now - timedelta(days=age)).isoformat(),
        }
        for age in range(last, first + 1)
    ]


async def send(
    client: httpx.AsyncClient, deployment: Deployment, key: str, events: list[dict[str, Any]]
) -> dict[str, Any]:
    answer = await client.post(
        f"{deployment.ingest.url('ingest')}/v1/events",
        headers=bearer(key, **{"Perennial-Backfill": "true"}),
        json=events,
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def put_account(
    client: httpx.AsyncClient, deployment: Deployment, key: str, account: str, **fields: Any
) -> None:
    answer = await client.put(
        f"{deployment.ingest.url('ingest')}/v1/accounts/{account}",
        headers=bearer(key),
        json=fields,
    )
    assert answer.status_code == 200, answer.text


async def test_a_customer_who_fell_silent_reaches_slack_and_mail_exactly_once(
    deploy: Deploy, client: httpx.AsyncClient
) -> None:
    async with fake_slack() as slack, fake_mail() as mail:
        # The notifier dies between claim and send; then Slack refuses three times.
        deployment = await deploy(
            SLACK_WEBHOOK_URL=slack.url,
            SMTP_URL=mail.url,
            PERENNIAL_FAILPOINT="notifier.after_claim:kill9:nth=1",
        )
        slack.script = deque([rate_limited("1"), Answer(status=500), Reset()])
        key = await asyncio.to_thread(deployment.new_key, *SCOPES)
        renewal = datetime.now(UTC).date() + timedelta(days=60)
        await put_account(
            client, deployment, key, "acme", name="Acme <Corp>", owner="csm@example.com",
            mrr="900", currency="EUR", contract_end=renewal.isoformat(), status="active",
        )  # fmt: skip
        for account in ("globex", "initech"):
            await send(client, deployment, key, daily_use(account, first=60, last=0))
        results = (await send(client, deployment, key, daily_use("acme", first=90, last=35)))[
            "results"
        ]
        assert {result["status"] for result in results} == {"accepted"}

        # Reaching the failpoint ends the process; without it, it goes on where it stood.
        notifier = deployment.notifier
        await eventually(lambda: not notifier.is_running(), what="the notifier dies after a claim")
        notifier.stop()
        notifier._environment.pop("PERENNIAL_FAILPOINT")
        await asyncio.to_thread(notifier.start)

        await eventually(lambda: slack.posted and mail.taken, what="both messages arrive")
        await settled(client, deployment, deliveries=2)
        assert len(slack.posted) == 1
        assert len(mail.taken) == 1
        assert "Acme &lt;Corp&gt;" in str(slack.posted[0])
        # None before Retry-After: the second attempt came at least a second after the first.
        assert slack.asked_at[1] - slack.asked_at[0] >= 1

        account = (
            await client.get(
                f"{deployment.scoring.url('scoring')}/v1/accounts/acme", headers=bearer(key)
            )
        ).json()
        assert [flag["reason"] for flag in account["flags"]] == ["gone_silent"]
        assert account["indicators"]["recency_days"] == 34  # A is yesterday: 35 - 1
        assert account["fields"]["owner"] == "csm@example.com"

        await acknowledge_and_close(client, deployment)
        # A second delivery of the same events changes nothing and tells nobody.
        await send(client, deployment, key, daily_use("acme", first=90, last=35))
        await eventually(
            lambda: deployment.scoring.metric("perennial_events_total", 'result="duplicate"') == 56,
            what="the repetition is taken in",
        )
        await eventually(lambda: idle(client, deployment, key), what="nothing waits")
        status = await status_of(client, deployment, key)
        assert status["events_taken_in"] == 56 + 2 * 61
        assert (len(slack.posted), len(mail.taken)) == (1, 1)


async def acknowledge_and_close(client: httpx.AsyncClient, deployment: Deployment) -> None:
    """As a CSM does, with the forms of the account's page."""
    console = deployment.notifier.url("notifier")
    same_origin = {"Sec-Fetch-Site": "same-origin"}
    page = (await client.get(f"{console}/")).text
    assert "Acme &lt;Corp&gt;" in page
    page = (await client.get(f"{console}/accounts/acme")).text
    assert "<svg" in page
    action = re.search(r'action="(/interventions/[0-9a-f-]+)/acknowledge"', page)
    assert action is not None
    await submit(client, console, page, f"{action[1]}/acknowledge", same_origin)
    page = (await client.get(f"{console}/accounts/acme")).text
    await submit(
        client, console, page, f"{action[1]}/close", same_origin, outcome="saved", note="Called."
    )
    status = (await client.get(f"{console}/v1/status")).json()
    assert status["interventions_open"] == 0


async def submit(
    client: httpx.AsyncClient,
    console: str,
    page: str,
    action: str,
    headers: dict[str, str],
    **values: str,
) -> None:
    form = re.search(rf'action="{action}".*?</form>', page, re.DOTALL)
    assert form is not None, f"no form for {action}"
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form[0]))
    answer = await client.post(f"{console}{action}", data={**hidden, **values}, headers=headers)
    assert answer.status_code in (200, 303), answer.text


async def settled(client: httpx.AsyncClient, deployment: Deployment, *, deliveries: int) -> None:
    """Everything that was to be sent has been, and is recorded so."""

    async def done() -> bool:
        url = f"{deployment.notifier.url('notifier')}/v1/status"
        found = (await client.get(url)).json()["deliveries"]
        return bool(found["sent"] == deliveries and found["pending"] == 0)

    await eventually(done, what="all deliveries are recorded as sent")


async def idle(client: httpx.AsyncClient, deployment: Deployment, key: str) -> bool:
    status = await status_of(client, deployment, key)
    return bool(status["dirty"] == 0 and status["outbox"] == 0)


async def test_a_key_works_and_ends_within_a_second_and_a_restart_finds_everything(
    deploy: Deploy, client: httpx.AsyncClient
) -> None:
    deployment = await deploy()
    key = await asyncio.to_thread(deployment.new_key, *SCOPES)
    events = daily_use("acme", first=10, last=0)

    async def accepted() -> bool:
        answer = await client.post(
            f"{deployment.ingest.url('ingest')}/v1/events", headers=bearer(key), json=events
        )
        return answer.status_code == 200

    started = time.monotonic()
    await eventually(accepted, seconds=1, every=0.02, what="the key works")
    assert time.monotonic() - started < 1

    async def taken_in() -> bool:
        status = await status_of(client, deployment, key)
        return bool(status["events_taken_in"] == len(events) and status["dirty"] == 0)

    await eventually(taken_in, what="the events are taken in")
    before = await status_of(client, deployment, key)

    assert set(await asyncio.to_thread(deployment.terminate)) == {0}
    await asyncio.to_thread(deployment.start)
    assert await status_of(client, deployment, key) == before

    key_id = key.split("_")[2]
    assert key_id in await asyncio.to_thread(deployment.cli, "keys", "list")
    await asyncio.to_thread(deployment.cli, "keys", "revoke", key_id)

    async def refused() -> bool:
        return not await accepted()

    await eventually(refused, seconds=1, every=0.02, what="the revoked key is refused")
