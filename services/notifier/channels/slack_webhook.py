"""Slack by incoming webhook, the simple mode: messages without buttons, threads and edits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from services.notifier.channels import DeliveryError, Message, Receipt
from services.notifier.channels.slack_blocks import render
from services.notifier.channels.slack_http import Answer, failure_of, post
from services.notifier.domain.attempts import Class, Failure
from shared.hosts import is_loopback

_BAD_MESSAGE = frozenset({400, 413, 422})


class SlackWebhook:
    """One incoming webhook; open it with `open_slack_webhook`."""

    name = "slack"
    edits = False

    def __init__(
        self, client: httpx.AsyncClient, url: SecretStr, *, pace: timedelta, limit: timedelta
    ) -> None:
        self._client = client
        self._url = url
        self._limit = limit
        self.pace = pace

    async def send(self, message: Message) -> Receipt:
        answer = await post(
            self._client,
            self._url.get_secret_value(),
            render(message, buttons=False),
            headers={},
            limit=self._limit,
        )
        failure = classify(answer, now=datetime.now(UTC))
        if failure is not None:
            raise DeliveryError(failure)
        return Receipt()


@asynccontextmanager
async def open_slack_webhook(
    url: SecretStr, *, pace: timedelta, limit: timedelta
) -> AsyncIterator[SlackWebhook]:
    # A proxy of the company's leads to Slack, never to this machine.
    trusted = not is_loopback(urlsplit(url.get_secret_value()).hostname or "")
    async with httpx.AsyncClient(
        timeout=limit.total_seconds(), follow_redirects=False, trust_env=trusted
    ) as client:
        yield SlackWebhook(client, url, pace=pace, limit=limit)


def classify(answer: Answer, *, now: datetime) -> Failure | None:
    """What an answer means; None only for Slack's own "ok"."""
    if answer.status == 200:
        # A captive portal answers 200 as well; whether Slack saw the message is not known.
        if answer.body.strip() == b"ok":
            return None
        return Failure(kind=Class.AMBIGUOUS, detail=answer.detail)
    failure = failure_of(answer, now=now)
    if failure is not None:
        return failure
    if answer.status in _BAD_MESSAGE:
        return Failure(kind=Class.BAD_MESSAGE, detail=answer.detail)
    return Failure(kind=Class.DESTINATION_BROKEN, detail=answer.detail)
