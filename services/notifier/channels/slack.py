"""Slack by incoming webhook: rendering within Slack's limits, and one POST.

httpx instead of slack_sdk: a webhook is one POST, and the SDK's client for it follows redirects,
does not raise on 4xx and 5xx, and fails on `Retry-After: 1.5` (measured, notifier.md section 6).
"""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from services.notifier.channels import DeliveryError, Message, Receipt, wording
from services.notifier.domain.attempts import Class, Failure
from services.notifier.settings import is_loopback

# A section holds 3,000 characters: a name and three lines, or five lines, always fit.
_NAME = 200
_LINE = 550
_REASONS = 4
_ANSWER_BYTES = 4_096
_DEFAULT_PAUSE = timedelta(seconds=30)
_LONGEST_PAUSE = timedelta(days=1)
_BAD_MESSAGE = frozenset({400, 413, 422})
_TRANSIENT = frozenset({408, 425})
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


class Slack:
    """One incoming webhook; open it with `open_slack`."""

    name = "slack"

    def __init__(
        self, client: httpx.AsyncClient, url: SecretStr, *, pace: timedelta, limit: timedelta
    ) -> None:
        self._client = client
        self._url = url
        self._limit = limit.total_seconds()
        self.pace = pace

    async def send(self, message: Message) -> Receipt:
        try:
            async with asyncio.timeout(self._limit):
                return await self._post(render(message))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _failed(Class.TRANSIENT, type(error).__name__) from error
        except (httpx.HTTPError, TimeoutError) as error:
            # The request may have been written: Slack may have posted the message.
            raise _failed(Class.AMBIGUOUS, type(error).__name__) from error

    async def _post(self, payload: Mapping[str, object]) -> Receipt:
        url = self._url.get_secret_value()
        async with self._client.stream("POST", url, json=payload) as response:
            body = b""
            async for chunk in response.aiter_bytes(_ANSWER_BYTES):
                body += chunk
                if len(body) >= _ANSWER_BYTES:
                    break
        failure = classify(response.status_code, response.headers, body, now=datetime.now(UTC))
        if failure is not None:
            raise DeliveryError(failure)
        return Receipt()


@asynccontextmanager
async def open_slack(url: SecretStr, *, pace: timedelta, limit: timedelta) -> AsyncIterator[Slack]:
    # A proxy of the company's leads to Slack, never to this machine.
    trusted = not is_loopback(urlsplit(url.get_secret_value()).hostname or "")
    async with httpx.AsyncClient(
        timeout=limit.total_seconds(), follow_redirects=False, trust_env=trusted
    ) as client:
        yield Slack(client, url, pace=pace, limit=limit)


def classify(
    status: int, headers: Mapping[str, str], body: bytes, *, now: datetime
) -> Failure | None:
    """What an answer means; None only for Slack's own "ok"."""
    said = wording.clean(body[:80].decode("utf-8", "replace"))
    detail = f"HTTP {status} {said}".strip()
    if status == 200:
        # A captive portal answers 200 as well; whether Slack saw the message is not known.
        return None if body.strip() == b"ok" else Failure(kind=Class.AMBIGUOUS, detail=detail)
    if status == 429:
        pause = retry_after(headers.get("retry-after"), now=now)
        return Failure(kind=Class.PAUSE, detail=detail, retry_after=pause)
    if status >= 500 or status in _TRANSIENT or 300 <= status < 400:
        return Failure(kind=Class.TRANSIENT, detail=detail)
    if status in _BAD_MESSAGE:
        return Failure(kind=Class.BAD_MESSAGE, detail=detail)
    return Failure(kind=Class.DESTINATION_BROKEN, detail=detail)


def retry_after(value: str | None, *, now: datetime) -> timedelta:
    """The pause asked for, in full: seconds, with a fraction perhaps, or a date; else 30 s."""
    text = (value or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return _DEFAULT_PAUSE
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    if not math.isfinite(seconds) or seconds < 0:
        return _DEFAULT_PAUSE
    return min(timedelta(seconds=min(seconds, 86_400)), _LONGEST_PAUSE)


def escape(char: str) -> str:
    """Slack's three characters; everything that Slack would act on begins with one of them."""
    return _ESCAPES.get(char, char)


def render(message: Message) -> dict[str, object]:
    """The payload: who, how much, why, until when and the link stand in the first two lines."""
    name = wording.cut(wording.clean(message.account_name), _NAME, escape=escape)
    headline = _inert(wording.headline(message))
    why = _inert(wording.why(message))
    deadline, whose = _inert(wording.deadline(message)), _inert(wording.whose(message))
    text = f"{name}: {headline} · {why} · {deadline} · {whose}"
    # Without `link_names` and parsing, names of people and channels in the text stay text.
    payload: dict[str, object] = {"text": text, "unfurl_links": False, "unfurl_media": False}
    if message.plain:
        return payload | {"text": f"{text}\n{message.url}"}
    lines = [
        f"*{name}* · *{headline}* · *{deadline}* · <{message.url}|Open in Perennial>",
        f"{why} · {whose}",
    ]
    blocks: list[dict[str, object]] = [_section("\n".join(lines))]
    if more := _more(message):
        blocks.append(_section(more))
    told = f"{wording.WHY[message.why]} · {_inert(message.account_id)}"
    blocks.append({"type": "context", "elements": [_mrkdwn(told)]})
    return payload | {"blocks": blocks}


def _more(message: Message) -> str:
    """The other reasons, as many as fit."""
    first = wording.why(message)
    others = [
        wording.clean(reason.text)
        for reason in message.reasons
        if reason.text and wording.clean(reason.text) not in first
    ]
    lines = [f"• {_inert(text)}" for text in others[:_REASONS]]
    if len(others) > _REASONS:
        lines.append(f"+{len(others) - _REASONS} more in Perennial")
    return "\n".join(lines)


def _inert(text: str) -> str:
    return wording.cut(text, _LINE, escape=escape)


def _section(text: str) -> dict[str, object]:
    return {"type": "section", "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> dict[str, object]:
    # `verbatim`: Slack makes no links of its own out of what a customer called itself.
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _failed(kind: Class, detail: str) -> DeliveryError:
    return DeliveryError(Failure(kind=kind, detail=detail))
