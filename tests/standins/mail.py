"""FakeMail: a real SMTP server (aiosmtpd) that keeps what it takes and refuses on cue."""

import asyncio
import email
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

_HANG_SECONDS = 3_600


@dataclass(slots=True)
class FakeMail:
    """Scripts are taken one answer per command, such as "451 4.3.0 later"; empty: all is well.

    In every script "hang" never answers and "cut" hangs up; in `at_data` the message was taken
    before. `inside_data` is asked while the message is still being sent: nothing of it is taken.
    """

    port: int = 0
    at_hello: deque[str] = field(default_factory=deque)
    at_recipient: deque[str] = field(default_factory=deque)
    inside_data: deque[str] = field(default_factory=deque)
    at_data: deque[str] = field(default_factory=deque)
    greylists: bool = False
    """Whether whoever is not known yet is asked to come again later."""
    refused: dict[str, str] = field(default_factory=dict)
    """Answers by recipient: a list of which some are refused is a partial success."""
    taken: list[EmailMessage] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    """The same as they came, byte by byte."""
    recipients: list[str] = field(default_factory=list)
    attempts: int = 0
    _known: set[tuple[str | None, str]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self,
        server: SMTP,
        session: Session,
        _envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        session.host_name = hostname
        said = await self._scripted(server, self.at_hello)
        return [said] if said else responses

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self,
        server: SMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        self.attempts += 1
        if said := await self._scripted(server, self.at_recipient):
            return said
        if address in self.refused:
            return self.refused[address]
        sender = (envelope.mail_from, address)
        if self.greylists and sender not in self._known:
            self._known.add(sender)
            return "451 4.7.1 greylisted, come again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        script = self.at_data
        if script and script[0] not in ("hang", "cut"):
            return script.popleft()
        content = envelope.content
        assert isinstance(content, bytes)
        message = email.message_from_bytes(content, policy=default)
        assert isinstance(message, EmailMessage)
        self.taken.append(message)
        self.raw.append(content)
        self.recipients += envelope.rcpt_tos
        return await self._scripted(server, script) or "250 taken as 42"

    async def _scripted(self, server: SMTP, script: deque[str]) -> str:
        said = script.popleft() if script else ""
        if said == "hang":
            await asyncio.sleep(_HANG_SECONDS)
        if said == "cut":
            hang_up(server)
        return said

    async def begin_data(self, server: SMTP) -> None:
        """What happens to a message on its way."""
        await self._scripted(server, self.inside_data)


class Scripted(SMTP):
    """Says that it waits for the message, and may be gone before it is there."""

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 - aiosmtpd's name
        handler = self.event_handler
        if isinstance(handler, FakeMail) and handler.inside_data:
            await self.push("354 End data with <CR><LF>.<CR><LF>")
            await self._reader.readline()
            await handler.begin_data(self)
            return
        await super().smtp_DATA(arg)


@asynccontextmanager
async def fake_mail(
    *, mail: FakeMail | None = None, host: str = "127.0.0.1", port: int = 0, **options: Any
) -> AsyncIterator[FakeMail]:
    """`mail`: one that has more to it than the usual; `port` 0: any that is free."""
    mail = mail or FakeMail()
    made: list[SMTP] = []

    def make() -> SMTP:
        loop = asyncio.get_running_loop()
        made.append(Scripted(mail, hostname="mail.test", loop=loop, **options))
        return made[-1]

    server = await asyncio.get_running_loop().create_server(make, host, port)
    mail.port = server.sockets[0].getsockname()[1]
    try:
        yield mail
    finally:
        server.close()
        for one in made:
            hang_up(one)
        await server.wait_closed()


def hang_up(server: SMTP) -> None:
    if isinstance(server.transport, asyncio.WriteTransport):
        server.transport.abort()
