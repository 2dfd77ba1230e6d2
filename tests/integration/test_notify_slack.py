"""`perennial notify test` says whose Slack token is set."""

import asyncio

import pytest

from services.commands.notify import slack_identity
from tests.standins.slack import SIGNING_SECRET, TOKEN, fake_slack


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (TOKEN, "Slack knows the bot token as perennial in Vendor."),
        ("xoxb-revoked", "Slack does not take the bot token: invalid_auth."),
        (None, None),
    ],
)
async def test_the_token_is_shown_as_slack_knows_it(
    token: str | None, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fake_slack() as slack:
        if token is not None:
            monkeypatch.setenv("SLACK_BOT_TOKEN", token)
            monkeypatch.setenv("SLACK_SIGNING_SECRET", SIGNING_SECRET)
        monkeypatch.setenv("PERENNIAL_SLACK_API_URL", slack.api_url)
        assert await asyncio.to_thread(slack_identity) == said
