"""`POST /slack/interactivity`: where Slack tells of clicks.

Beside the console, not behind its sign-in: Slack has no password of ours and is another site; it
signs instead. Slack waits 3 s, then tells the person that it failed; it does not ask again.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.notifier import slack_signature
from services.notifier.slack_clicks import Clicks
from services.notifier.slack_payloads import MalformedPayload, decode
from services.notifier.slack_replies import Reply
from shared import database
from shared import logging as logs
from shared.clock import Clock
from shared.errors import PerennialError

PATH: Final = "/slack/interactivity"
_FORM = "application/x-www-form-urlencoded"
# The whole message comes with a click, percent-encoded: far more than 13,200 characters.
_MAX_BODY = 1_048_576
_SECONDS = 2.5

log = logs.get(__name__)


class Refused(PerennialError):
    """The request goes no further."""

    def __init__(self, status: HTTPStatus, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status.phrase)
        self.status = status
        self.headers = headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """An ASGI application: clicks to `interactivity`, all else to the console."""

    console: ASGIApp
    interactivity: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        of_slack = scope["type"] == "http" and scope["path"] == PATH
        await (self.interactivity if of_slack else self.console)(scope, receive, send)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interactivity:
    """An ASGI application of that one route."""

    clicks: Clicks
    secret: SecretStr
    clock: Clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = Reply()
        try:
            async with asyncio.timeout(_SECONDS):
                reply = await self._reply(scope, receive)
            answer = Response() if reply.body is None else JSONResponse(reply.body)
        except Refused as refused:
            log.info("slack.refused", status=refused.status.value)
            answer = PlainTextResponse(
                refused.status.phrase, refused.status, headers=refused.headers
            )
        except Exception as error:
            away = isinstance(error, TimeoutError) or database.is_away(error)
            if not away and not database.is_transient(error):
                raise
            # Slack shows the person that it failed; the same click may be tried again.
            log.warning("slack.away", cause=type(error).__name__)
            answer = PlainTextResponse("Try again", HTTPStatus.SERVICE_UNAVAILABLE)
        answer.headers["Cache-Control"] = "no-store"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        await answer(scope, receive, send)
        # Slack has its answer: what it must be asked for takes its own time.
        await self.clicks.follow(reply)

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        headers = Headers(scope=scope)
        if scope["method"] != "POST":
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "POST"})
        if not slack_signature.is_recent(headers, now=self.clock()):
            raise Refused(HTTPStatus.UNAUTHORIZED)
        body = await _body(receive)
        if not slack_signature.is_signed(headers, body, secret=self.secret, now=self.clock()):
            raise Refused(HTTPStatus.UNAUTHORIZED)
        kinds = headers.getlist("content-type")
        if len(kinds) != 1 or kinds[0].partition(";")[0].strip().lower() != _FORM:
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        try:
            pressed = decode(body)
        except MalformedPayload as error:
            raise Refused(HTTPStatus.BAD_REQUEST) from error
        return Reply() if pressed is None else await self.clicks.take(pressed)


async def _body(receive: Receive) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(HTTPStatus.BAD_REQUEST)  # the client has gone
        body += message.get("body", b"")
        if len(body) > _MAX_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if not message.get("more_body", False):
            return body
