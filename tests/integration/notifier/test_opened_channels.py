"""What an operator sets up is opened, and leads where the team file says at that moment."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.notifier import app
from services.notifier.channels import DeliveryError
from services.notifier.domain.attempts import Class
from services.notifier.domain.people import Roster, Webhook
from services.notifier.domain.playbooks import Playbooks
from services.notifier.rehearsal import desk_of
from services.notifier.settings import NotifierSettings
from services.notifier.taking import Staff
from shared import traceparent
from shared.clock import system_clock
from shared.errors import Misconfigured
from shared.settings import read
from tests.standins.webhooks import SECRET, collector
from tests.unit.notifier.factories import message

# Apprise loads all its plugins, and one of them what Python is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@dataclass(slots=True)
class TeamFile:
    """Read again when it changes."""

    webhooks: tuple[Webhook, ...] = ()

    def get(self) -> Roster:
        lead = "lead@vendor.example"
        return Roster(fallback_owner=lead, fallback_lead=lead, webhooks=self.webhooks)


async def test_a_webhook_that_the_team_file_names_later_is_reached() -> None:
    team = TeamFile()
    settings = NotifierSettings(
        perennial_webhook_secrets=SecretStr(json.dumps({"crm": SECRET})),
        perennial_webhook_allow="127.0.0.1/32",
    )
    async with collector() as receiver, AsyncExitStack() as stack:
        channels = await app._open_channels(settings, stack, roster=team.get, clock=system_clock)
        with pytest.raises(DeliveryError) as caught:
            await channels["webhook"].send(message(to="crm"))
        assert caught.value.failure.kind is Class.DESTINATION_BROKEN
        team.webhooks = (Webhook(name="crm", url=receiver.url),)
        await channels["webhook"].send(message(to="crm"))
        trace = traceparent.new()
        await channels["webhook"].send(message(to="crm", traceparent=trace))
        first, second = receiver.accepted
        assert "traceparent" not in first.headers
        assert second.headers["traceparent"] == trace


async def test_secrets_may_stand_in_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secrets, urls = tmp_path / "webhooks.json", tmp_path / "apprise.json"
    secrets.write_text(json.dumps({"crm": SECRET}))
    urls.write_text('{"teams": "json://127.0.0.1:1/"}')
    monkeypatch.setenv("PERENNIAL_WEBHOOK_SECRETS_FILE", str(secrets))
    monkeypatch.setenv("PERENNIAL_APPRISE_URLS_FILE", str(urls))
    settings = await asyncio.to_thread(read, NotifierSettings)
    async with AsyncExitStack() as stack:
        channels = await app._open_channels(
            settings, stack, roster=TeamFile().get, clock=system_clock
        )
    assert sorted(channels) == ["apprise", "webhook"]


def test_what_is_set_up_is_where_somebody_can_be_told() -> None:
    roster = TeamFile().get
    staff = Staff(roster=roster, playbooks=Playbooks)
    usual = desk_of(NotifierSettings(), staff).ways
    assert (usual.webhook, usual.apprise) == (False, ())
    settings = NotifierSettings(
        perennial_webhook_secrets=SecretStr("{}"),
        perennial_apprise_urls=SecretStr('{"teams": "json://127.0.0.1:1/"}'),
    )
    ways = desk_of(settings, staff).ways
    assert (ways.webhook, ways.apprise) == (True, ("teams",))


async def test_wrong_networks_end_the_start() -> None:
    settings = NotifierSettings(
        perennial_webhook_secrets=SecretStr(json.dumps({"crm": SECRET})),
        perennial_webhook_allow="10.0.0.1/8",
    )
    async with AsyncExitStack() as stack:
        with pytest.raises(Misconfigured, match="PERENNIAL_WEBHOOK_ALLOW"):
            await app._open_channels(settings, stack, roster=TeamFile().get, clock=system_clock)
