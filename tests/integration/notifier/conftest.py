"""The servers around a notifier under test."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.integration.notifier.rig import Rig, open_rig
from tests.standins.mail import FakeMail, fake_mail
from tests.standins.slack import FakeSlack, fake_slack


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with fake_slack() as server:
        yield server


@pytest.fixture
async def mail() -> AsyncIterator[FakeMail]:
    async with fake_mail() as server:
        yield server


@pytest.fixture
async def rig(engine: AsyncEngine, slack: FakeSlack, mail: FakeMail) -> AsyncIterator[Rig]:
    async with open_rig(engine, slack=slack, mail=mail) as opened:
        yield opened
