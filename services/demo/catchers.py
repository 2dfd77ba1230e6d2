"""Local stand-ins for Slack and a mail server, so that the demo can show what a CSM would get.

Both listen on loopback only, on ports that the system chooses, and keep the newest messages in
memory. They take everything: how the notifier behaves when a destination fails is not shown here.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Final, TypeAlias

import msgspec
from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.types import Receive, Scope, Send

from shared.lifecycle import serve

_KEPT: Final = 1_000
_MAX_BYTES: Final = 1 << 20
_HOST: Final = "127.0.0.1"
_SLACK_PATH: Final = "/services/T0DEMO/B0DEMO/demo"

Payload: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtMail:
    """One e-mail, with the addresses of its envelope."""

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage


@dataclass(slots=True, kw_only=True)
class Catchers:
    """What has arrived, oldest first, at the two addresses."""

    slack_url: str = ""
    """For SLACK_WEBHOOK_URL."""
    smtp_url: str = ""
    """For SMTP_URL."""
    slack: deque[Payload] = field(default_factory=lambda: deque(maxlen=_KEPT))
    mails: deque[CaughtMail] = field(default_factory=lambda: deque(maxlen=_KEPT))
    slack_count: int = 0
    mail_count: int = 0

    def catch_slack(self, payload: Payload) -> None:
        self.slack_count += 1
        self.slack.append(payload)

    def catch_mail(self, mail: CaughtMail) -> None:
        self.mail_count += 1
        self.mails.append(mail)


@asynccontextmanager
async def open_catchers() -> AsyncIterator[Catchers]:
    """Both stand-ins, listening while the context is open."""
    catchers = Catchers()
    slack = _SlackCatcher(catchers)
    loop = asyncio.get_running_loop()
    async with serve(slack, host=_HOST, port=0, name="slack-catcher", grace_seconds=1) as port:
        catchers.slack_url = f"http://{_HOST}:{port}{_SLACK_PATH}"
        # Not aiosmtpd's Controller: that runs a thread with a loop of its own.
        mail = await loop.create_server(
            lambda: SMTP(_MailHandler(catchers), hostname="demo.invalid", enable_SMTPUTF8=True),
            host=_HOST,
            port=0,
        )
        catchers.smtp_url = f"smtp://{_HOST}:{mail.sockets[0].getsockname()[1]}"
        try:
            yield catchers
        finally:
            mail.close()
            await mail.wait_closed()


class _SlackCatcher:
    """An incoming webhook: answers "ok" to JSON with a text or blocks, as Slack does."""

    def __init__(self, catchers: Catchers) -> None:
        self._catchers = catchers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body") or len(body) > _MAX_BYTES:
                break
        status, answer = self._answer(scope, body)
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _answer(self, scope: Scope, body: bytes) -> tuple[int, bytes]:
        if scope["path"] != _SLACK_PATH:
            return 404, b"no_service"
        if scope["method"] != "POST":
            return 405, b"method_not_allowed"
        try:
            payload = msgspec.json.decode(body, type=dict[str, object])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return 400, b"invalid_payload"
        if not payload.get("text") and not payload.get("blocks"):
            return 400, b"no_text"
        self._catchers.catch_slack(payload)
        return 200, b"ok"


class _MailHandler:
    """aiosmtpd calls it by this method's name."""

    def __init__(self, catchers: Catchers) -> None:
        self._catchers = catchers

    async def handle_DATA(  # noqa: N802  # aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        content = envelope.content or b""
        # Without decode_data, which is not asked for, the content is always bytes.
        raw = content if isinstance(content, bytes) else content.encode()
        message = message_from_bytes(raw, policy=policy.default)
        self._catchers.catch_mail(
            CaughtMail(
                sender=str(envelope.mail_from),
                recipients=tuple(map(str, envelope.rcpt_tos)),
                message=message,
            )
        )
        return "250 OK"
