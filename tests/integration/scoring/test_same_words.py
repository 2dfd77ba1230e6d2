"""A flag's message and the read API say the same of the same score."""

from datetime import timedelta
from typing import Any

import httpx
import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.api import api
from services.scoring.domain.peers import SMALLEST_SEGMENT
from services.scoring.domain.rules import read_default
from services.scoring.intake import Intake
from services.scoring.register import Register
from services.scoring.sweep import Sweep
from services.scoring.tables import outbox
from shared.credentials import KeyRing, Scope, new_key
from shared.log import TopicPartition
from shared.messages import (
    DIRECTORY_CHANGES,
    FLAGS,
    AccountFields,
    Flag,
    FlagEvent,
    FlagReason,
    decode,
)
from tests.factories import NOW, batch_of, directory_change, usage_event
from tests.integration.scoring.conftest import Time
from tests.integration.scoring.test_sweep import take_in, use

RULES = read_default()


async def in_segment(intake: Intake, segment: str, accounts: list[str]) -> None:
    fields = AccountFields(segment=segment)
    changes = [directory_change(account=name, fields=fields) for name in accounts]
    partition = TopicPartition(DIRECTORY_CHANGES, 0)
    held = await intake.claim(partition)
    await intake.take_in(batch_of(changes, first=held.next_offset, partition=partition), held)


async def churn_flags(engine: AsyncEngine) -> list[Flag]:
    async with engine.connect() as connection:
        values = (
            await connection.execute(
                select(outbox.c.value).where(outbox.c.topic == FLAGS).order_by(outbox.c.id)
            )
        ).scalars()
        found = [decode(FlagEvent, value).data for value in values]
    return [flag for flag in found if flag.reason is FlagReason.CHURN_RISK]


def plain(flag: Flag) -> object:
    """The reasons as the log has them."""
    return msgspec.json.decode(msgspec.json.encode(flag.reasons))


async def told_by_api(engine: AsyncEngine, account: str) -> dict[str, Any]:
    key, keys = new_key(source="t", scopes=[Scope.ACCOUNTS_READ], now=NOW), KeyRing()
    keys.put(key.record)
    register = Register(engine=engine, clock=lambda: NOW, max_age=timedelta())
    app = api(engine=engine, keys=keys, clock=lambda: NOW, rules=RULES, register=register)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://scoring"
    ) as client:
        headers = {"Authorization": f"Bearer {key.secret}"}
        answer = await client.get(f"/v1/accounts/{account}", headers=headers)
        listed = (await client.get("/v1/accounts?limit=1000", headers=headers)).json()["accounts"]
    found: dict[str, Any] = answer.json()
    (same,) = [one for one in listed if one["account_id"] == account]
    assert same["reasons"] == found["reasons"]
    return found


async def test_the_reasons_of_a_flag_are_those_of_its_score(
    intake: Intake, sweep: Sweep, engine: AsyncEngine, time: Time
) -> None:
    others = [f"other-{number}" for number in range(SMALLEST_SEGMENT)]
    for number, name in enumerate(others):
        await take_in(intake, use(name, *range(1, 400, 2 + number % 3)))
    # Every day until a year ago, then ever less.
    failing = [*range(380, 760), *range(60, 380, 16), 25]
    await take_in(intake, use("acme", *failing))
    await in_segment(intake, "small", [*others, "acme"])
    await sweep.round(time.now)
    (raised,) = [flag for flag in await churn_flags(engine) if flag.account == "acme"]
    found = await told_by_api(engine, "acme")
    assert found["reasons"] == plain(raised)
    texts = [reason.text for reason in raised.reasons]
    assert any("; a year ago " in text and ", segment " in text for text in texts), texts

    # The next day the account is a day more silent, and both say so.
    time.now = NOW + timedelta(days=1)
    await sweep.round(time.now)
    later = await told_by_api(engine, "acme")
    assert later["as_of"] != found["as_of"]
    assert later["reasons"] != found["reasons"]
    assert later["flags"][0]["evidence"] == plain(raised)


async def test_after_a_recovery_the_flag_is_told_as_the_score_is(
    intake: Intake, sweep: Sweep, engine: AsyncEngine, time: Time
) -> None:
    for number in range(5):
        await take_in(intake, use(f"other-{number}", *range(1, 400, 2)))
    await take_in(intake, use("acme", *range(60, 400, 16), 25))
    await sweep.round(time.now)
    assert [flag.change for flag in await churn_flags(engine)] == ["raised"]
    for day in range(1, 120):
        time.now = NOW + timedelta(days=day)
        back = usage_event(id=f"back-{day}", occurred_at=time.now, client_at=time.now)
        await take_in(intake, [back])
        if day % 7 == 0:
            await sweep.round(time.now)
            newest = (await churn_flags(engine))[-1]
            if newest.change == "cleared":
                break
    assert newest.change == "cleared"
    found = await told_by_api(engine, "acme")
    assert found["reasons"] == plain(newest)
