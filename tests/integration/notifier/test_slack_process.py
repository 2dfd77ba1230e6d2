"""The whole notifier with a Slack app: told by the bot, clicked beside a locked console."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import httpx
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier.app import run
from services.notifier.domain.access import SignIn
from services.notifier.settings import NotifierSettings
from services.notifier.slack_interactivity import PATH
from shared.lifecycle import Frame
from shared.log.postgres import PostgresLog
from shared.messages import ACCOUNTS, FLAGS
from tests.integration.notifier.rig import OWNER, account, flag
from tests.integration.notifier.test_process import is_known, publish, until
from tests.processes import free_port
from tests.standins.slack import SIGNING_SECRET, TOKEN, FakeSlack
from tests.standins.slack_presses import press, signed

TEAM = f"""
fallback:
  owner: lead@vendor.example
people:
  - address: {OWNER}
    slack: U0ANNA
slack_channel: C0CS
"""
# A channel that several share goes by nobody's hours: the test may run on any day.


async def test_a_click_reaches_the_notifier_beside_its_console(
    database_url: str,
    engine: AsyncEngine,
    log: PostgresLog,
    slack: FakeSlack,
    frame: Frame,
    tmp_path: Path,
) -> None:
    team = tmp_path / "team.yaml"
    team.write_text(TEAM)
    settings = NotifierSettings(
        notifier_port=free_port(),
        slack_bot_token=SecretStr(TOKEN),
        slack_signing_secret=SecretStr(SIGNING_SECRET),
        slack_webhook_url=SecretStr(slack.url),
        perennial_slack_api_url=slack.api_url,
        perennial_console_sign_in=SignIn.LOCAL,
        perennial_scoring_url="http://127.0.0.1:1",
        perennial_team_file=team,
        perennial_group_wait_seconds=0,
    )
    stop = asyncio.Event()
    task = asyncio.create_task(
        run(
            settings,
            log=log,
            database_url=database_url,
            scoring_key="k",
            secret="s" * 32,
            frame=frame,
            stop=stop,
        )
    )
    await publish(log, ACCOUNTS, account())
    await until(lambda: is_known(engine))
    await publish(log, FLAGS, flag())

    async def told() -> bool:
        return bool(slack.parents)

    await until(told)
    [parent] = slack.parents
    assert parent.channel == "C0CS"
    assert "<@U0ANNA>" in str(parent.payload["blocks"])
    sent = signed(press(parent, "acknowledge", user="U0ANNA"), at=datetime.now(UTC))
    # As Slack asks: by a name that the console does not answer to, from another site, unknown.
    strange = {"host": "hooks.vendor.example", "origin": "https://slack.com"}
    async with httpx.AsyncClient(base_url=settings.console_url) as client:
        assert (await client.get("/")).status_code == 303
        answer = await client.post(PATH, content=sent.body, headers=sent.headers | strange)
        assert (answer.status_code, answer.content) == (200, b"")
        forged = sent.headers | {"x-slack-signature": "v0=00"}
        assert (await client.post(PATH, content=sent.body, headers=forged)).status_code == 401

    async def shows_it() -> bool:
        return f"Acknowledged by {OWNER}" in str(parent.payload["blocks"])

    await until(shows_it)
    assert len(slack.posted) == 1
    stop.set()
    async with asyncio.timeout(10):
        await task
