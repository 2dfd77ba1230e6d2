"""The whole notifier on the embedded log: started, killed at each step of a send, stopped."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
from prometheus_client import generate_latest
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import store
from services.notifier.app import run
from services.notifier.domain.access import SignIn
from services.notifier.settings import NotifierSettings
from services.notifier.tables import accounts, deliveries
from shared.errors import Misconfigured
from shared.lifecycle import Frame
from shared.log import Appended, Record
from shared.log.postgres import PostgresLog
from shared.messages import (
    ACCOUNTS,
    FLAGS,
    AccountRecord,
    Band,
    Flag,
    Message,
    ValueAtRisk,
)
from tests.integration.notifier.rig import OWNER, account, flag, value_of
from tests.processes import free_port
from tests.standins.mail import FakeMail
from tests.standins.slack import FakeSlack, rate_limited


async def publish(log: PostgresLog, topic: str, message: Message) -> None:
    record = Record(key=b"acme", value=value_of(message))
    assert await log.append(topic, [record], deadline=timedelta(seconds=5)) == [Appended.DURABLE]


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - a row changes: no event tells
            await asyncio.sleep(0.05)


async def is_known(engine: AsyncEngine) -> bool:
    async with engine.connect() as connection:
        return await connection.scalar(select(accounts.c.account_id)) is not None


async def all_sent(engine: AsyncEngine) -> bool:
    """Whether something was decided, and all of it is recorded as sent."""
    async with engine.connect() as connection:
        states = list(await connection.scalars(select(deliveries.c.state)))
    return bool(states) and set(states) == {"sent"}


def urgent_account() -> AccountRecord:
    """One whose notice deadline is so near that no working hours hold anything back."""
    ends = datetime.now(UTC).date() + timedelta(days=40)
    return account(contract_end=ends, notice_days=20)


def urgent_flag() -> Flag:
    now = datetime.now(UTC)
    value = ValueAtRisk(amount=Decimal(50_000), currency="EUR", basis="margin")
    return flag(as_of=now, raised_at=now, band=Band.CRITICAL, value_at_risk=value)


async def know_account(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await store.save_accounts(connection, [urgent_account()])


@asynccontextmanager
async def process(
    database_url: str, slack: FakeSlack, mail: FakeMail, **environment: str
) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.notifier.process",
        env=os.environ
        | {
            "DATABASE_URL": database_url,
            "SLACK_WEBHOOK_URL": slack.url,
            "SMTP_URL": mail.url,
            "NOTIFIER_PORT": "0",
            "PERENNIAL_DELIVERY_LEASE_SECONDS": "2",
            "PERENNIAL_DELIVERY_TIMEOUT_SECONDS": "0.9",
            "PERENNIAL_DELIVERY_RETRY_FIRST_SECONDS": "0.1",
            "PERENNIAL_GROUP_WAIT_SECONDS": "0",
            "PERENNIAL_GROUP_INTERVAL_SECONDS": "0",
            # One message at a time, so that a kill hits one send and not its neighbour's too.
            "PERENNIAL_DELIVERY_SENDERS": "1",
            "PERENNIAL_TESTING": "1",
        }
        | environment,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


@pytest.mark.parametrize(
    ("failpoint", "heard"),
    [
        pytest.param("notifier.after_claim:kill9:nth=1", 3, id="claimed, not sent"),
        pytest.param("notifier.after_claim:kill9:nth=2", 3, id="the second claimed, not sent"),
        pytest.param("notifier.after_record:kill9:nth=1", 3, id="recorded"),
        # Accepted, but nobody knows: the one window in which a message is sent twice.
        pytest.param("notifier.after_accept:kill9:nth=1", 4, id="accepted, not recorded"),
    ],
)
async def test_killed_and_started_again(
    database_url: str,
    engine: AsyncEngine,
    log: PostgresLog,
    slack: FakeSlack,
    mail: FakeMail,
    failpoint: str,
    heard: int,
) -> None:
    await know_account(engine)
    await publish(log, FLAGS, urgent_flag())
    async with process(database_url, slack, mail, PERENNIAL_FAILPOINT=failpoint) as child:
        assert await child.wait() == -signal.SIGKILL
    async with process(database_url, slack, mail) as child:
        await until(lambda: all_sent(engine))
        child.terminate()
        assert await child.wait() == 0
    # Slack and the owner; it is critical, so the fallback's lead hears of it at once too.
    assert len(slack.posted) + len(mail.taken) == heard
    assert len({message["Message-ID"] for message in mail.taken}) == 2


async def test_a_flag_on_the_log_reaches_slack_and_mail_once(
    database_url: str,
    engine: AsyncEngine,
    log: PostgresLog,
    slack: FakeSlack,
    mail: FakeMail,
    frame: Frame,
) -> None:
    slack.script.append(rate_limited("1"))
    settings = NotifierSettings(
        notifier_port=free_port(),
        slack_webhook_url=SecretStr(slack.url),
        smtp_url=SecretStr(mail.url),
        perennial_scoring_url="http://127.0.0.1:1",
        perennial_delivery_retry_first_seconds=0.1,
        perennial_group_wait_seconds=0,
        perennial_group_interval_seconds=0,
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
    await publish(log, ACCOUNTS, urgent_account())
    await until(lambda: is_known(engine))
    urgent = urgent_flag()
    await publish(log, FLAGS, urgent)
    await publish(log, FLAGS, urgent)
    await until(lambda: all_sent(engine))
    async with httpx.AsyncClient(base_url=settings.console_url) as client:
        assert "Acme Ltd" in (await client.get("/")).text
    assert len(slack.posted) == 1
    # It is critical: the fallback's lead hears of it at once, too.
    assert sorted(mail.recipients) == [OWNER, settings.perennial_fallback_owner]
    stop.set()
    async with asyncio.timeout(10):
        await task
    shown = generate_latest(frame.registry).decode()
    assert 'perennial_flags_consumed_total{result="duplicate"} 1.0' in shown
    assert 'perennial_delivery_attempts_total{channel="slack",class="pause"} 1.0' in shown
    assert 'perennial_notifications_total{channel="email",reason="first"} 1.0' in shown
    assert 'perennial_deliveries_dead_total{channel="slack"} 0.0' in shown


async def test_it_refuses_to_publish_the_console(
    database_url: str, log: PostgresLog, frame: Frame
) -> None:
    with pytest.raises(Misconfigured, match="PERENNIAL_CONSOLE_SIGN_IN"):
        await run(
            NotifierSettings(perennial_host="0.0.0.0", perennial_console_sign_in=SignIn.OPEN),
            log=log,
            database_url=database_url,
            scoring_key="k",
            secret="a secret of at least 32 characters",
            frame=frame,
            stop=asyncio.Event(),
        )
