"""One POST to Slack: bounded in time and size, never redirected, and what its status says.

httpx instead of slack_sdk, for the webhook and the Web API alike: the SDK's webhook client does
not raise on 4xx and 5xx and follows redirects, its 500s are never retried, its own session forgets
the time limit, and it fails on `Retry-After: 1.5` (measured, slack_sdk 3.47). What is left of it
is a POST.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx

from services.notifier.channels import DeliveryError, wording
from services.notifier.channels.answers import retry_after
from services.notifier.domain.attempts import Class, Failure

# Slack answers a message with the message itself, twice as long where it is written in JSON.
_ANSWER_BYTES = 524_288
_TRANSIENT = frozenset({408, 425})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`body` is cut where it is longer than any answer of Slack's."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def detail(self) -> str:
        """For logs and the console: the status and the first words."""
        said = wording.clean(self.body[:80].decode("utf-8", "replace"))
        return f"HTTP {self.status} {said}".strip()


async def post(
    client: httpx.AsyncClient,
    url: str,
    payload: Mapping[str, object],
    *,
    headers: Mapping[str, str],
    limit: timedelta,
) -> Answer:
    """Send it once; raises DeliveryError where there is no answer."""
    try:
        async with asyncio.timeout(limit.total_seconds()):
            return await _post(client, url, payload, headers)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise failed(Class.TRANSIENT, type(error).__name__) from error
    except (httpx.HTTPError, TimeoutError) as error:
        # The request may have been written: Slack may have taken it.
        raise failed(Class.AMBIGUOUS, type(error).__name__) from error


def failure_of(answer: Answer, *, now: datetime) -> Failure | None:
    """What its status alone says, for every kind of request; None where that is not enough."""
    if answer.status == 429 or (answer.status == 503 and "retry-after" in answer.headers):
        pause = retry_after(answer.headers.get("retry-after"), now=now)
        return Failure(kind=Class.PAUSE, detail=answer.detail, retry_after=pause)
    if answer.status >= 500 or answer.status in _TRANSIENT or 300 <= answer.status < 400:
        return Failure(kind=Class.TRANSIENT, detail=answer.detail)
    return None


def failed(kind: Class, detail: str) -> DeliveryError:
    return DeliveryError(Failure(kind=kind, detail=detail))


async def _post(
    client: httpx.AsyncClient, url: str, payload: Mapping[str, object], headers: Mapping[str, str]
) -> Answer:
    body = b""
    async with client.stream("POST", url, json=payload, headers=dict(headers)) as response:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) >= _ANSWER_BYTES:
                break
        return Answer(status=response.status_code, headers=response.headers, body=body)
