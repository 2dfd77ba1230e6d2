"""A notifier with Slack's bot and its route for clicks, FakeSlack at the other end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.responses import PlainTextResponse

from services.notifier import users
from services.notifier.channels.slack_app import open_slack_app
from services.notifier.domain.access import Role
from services.notifier.domain.decisions import Timing
from services.notifier.domain.people import Person
from services.notifier.intervention_rows import AnyRow
from services.notifier.routes import Ways
from services.notifier.slack_clicks import Clicks
from services.notifier.slack_interactivity import PATH, Entrance, Interactivity
from services.notifier.slack_work import Work
from tests.integration.notifier.rig import AT_ONCE, NOW, OWNER, Rig, account, boss, flag, open_rig
from tests.standins.slack import SIGNING_SECRET, TOKEN, FakeSlack, Shown
from tests.standins.slack_limits import Payload
from tests.standins.slack_presses import Sent, press, signed, submit

ANNA = "U0ANNA"
BEA = "U0BEA"
BEAS = "bea@vendor.example"
PEOPLE = (Person(address=OWNER, slack=ANNA), Person(address=BEAS, slack=BEA))


@dataclass(slots=True, kw_only=True)
class SlackRig:
    rig: Rig
    slack: FakeSlack
    client: httpx.AsyncClient

    async def tell(self, **changes: Any) -> Shown:
        """A flag that is told: the message about it."""
        await self.rig.take(account())
        await self.rig.take(flag(**changes))
        await self.rig.send_all()
        return self.slack.parents[-1]

    async def ask(self, sent: Sent) -> httpx.Response:
        return await self.client.post(PATH, content=sent.body, headers=sent.headers)

    async def say(self, payload: Payload, *, at: datetime = NOW) -> httpx.Response:
        """As Slack says it; then whatever has become due is sent."""
        answer = await self.ask(signed(payload, at=at))
        await self.rig.send_all()
        return answer

    async def press(
        self, shown: Shown, action: str, *, user: str = ANNA, choose: str | None = None
    ) -> httpx.Response:
        return await self.say(press(shown, action, user=user, choose=choose))

    async def submit(
        self, outcome: str | None, note: str | None = None, *, user: str = ANNA
    ) -> httpx.Response:
        """Of the form that was opened last."""
        return await self.say(submit(self.slack.views[-1], user=user, outcome=outcome, note=note))

    async def intervention(self) -> AnyRow:
        [row] = await self.rig.interventions()
        return row


@asynccontextmanager
async def open_slack_rig(
    engine: AsyncEngine, slack: FakeSlack, *, timing: Timing = AT_ONCE
) -> AsyncIterator[SlackRig]:
    limit = timedelta(seconds=2)
    async with open_slack_app(
        SecretStr(TOKEN), url=slack.api_url, pace=timedelta(0), limit=limit
    ) as app, open_rig(
        engine, more={"slack": app}, ways=Ways(slack_bot=True), people=PEOPLE, timing=timing
    ) as rig:  # fmt: skip
        stepping = rig.steps.stepping
        async with engine.begin() as connection:
            await users.add(connection, BEAS, Role.MANAGER, by=boss(OWNER), now=NOW)
        clicks = Clicks(
            work=Work(stepping=stepping),
            roster=stepping.staff.roster,
            slack=app,
            clock=rig.hands,
        )
        interactivity = Interactivity(
            clicks=clicks, secret=SecretStr(SIGNING_SECRET), clock=rig.hands
        )
        entrance = Entrance(console=PlainTextResponse("console"), interactivity=interactivity)
        transport = httpx.ASGITransport(entrance)
        async with httpx.AsyncClient(transport=transport, base_url="http://bot.example") as client:
            yield SlackRig(rig=rig, slack=slack, client=client)
