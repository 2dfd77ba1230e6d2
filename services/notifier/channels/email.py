"""E-mail by SMTP: one message per recipient, text and HTML, with a Message-ID that never changes.

One recipient per message: a refusal is never a partial one, which aiosmtplib would not raise.
"""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib
import jinja2
from pydantic import SecretStr

from services.notifier.channels import DeliveryError, Message, Receipt, wording
from services.notifier.channels.letter import render
from services.notifier.domain.attempts import Class, Failure
from services.notifier.domain.people import is_mail_address
from shared.errors import Misconfigured
from shared.hosts import is_loopback

_PAUSE = timedelta(seconds=30)
# Codes by which a server asks us to sign in, or to encrypt, first: no mail will pass.
_SIGN_IN = frozenset({530, 534, 535, 538})


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What SMTP_URL says."""

    host: str
    port: int
    user: str | None
    password: SecretStr | None
    tls_at_connect: bool
    start_tls: bool


def server_of(url: SecretStr) -> Server:
    """Read SMTP_URL; encryption is required unless the host is this machine or it says `never`."""
    try:
        parts = urlsplit(url.get_secret_value())
        port = parts.port
    except ValueError:
        # The library's message would repeat the URL, password and all.
        raise Misconfigured("SMTP_URL: the port is not a number") from None
    options = parse_qs(parts.query)
    wanted = options.get("starttls", ["default"])[-1]
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise Misconfigured("SMTP_URL must be smtp://user:password@host:port or smtps://...")
    if wanted not in ("default", "required", "never") or options.keys() - {"starttls"}:
        raise Misconfigured("SMTP_URL: the only option is starttls=required or starttls=never")
    at_connect = parts.scheme == "smtps"
    secure = wanted == "required" or (wanted == "default" and not is_loopback(parts.hostname))
    return Server(
        host=parts.hostname,
        port=port or (465 if at_connect else 587 if secure else 25),
        user=unquote(parts.username) if parts.username else None,
        password=SecretStr(unquote(parts.password)) if parts.password else None,
        tls_at_connect=at_connect,
        start_tls=secure and not at_connect,
    )


class Email:
    """One SMTP server; a connection per message, since a CSM's day has few of them."""

    name = "email"
    edits = False
    pace = timedelta(0)

    def __init__(
        self,
        server: Server,
        *,
        sender: str,
        templates: jinja2.Environment,
        limit: timedelta,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._server = server
        self._sender = sender
        self._templates = templates
        self._limit = limit.total_seconds()
        self._tls = tls

    async def send(self, message: Message) -> Receipt:
        if not is_mail_address(message.to):
            raise DeliveryError(Failure(kind=Class.DESTINATION_BROKEN, detail="no mail address"))
        content = render(message, sender=self._sender, templates=self._templates)
        client = self._client()
        try:
            await self._introduce(client, message.to)
            said = await self._hand_over(client, content)
        finally:
            client.close()
        return Receipt(provider_id=wording.clean(said)[:200] or None)

    def _client(self) -> aiosmtplib.SMTP:
        domain = self._sender.rpartition("@")[2]
        return aiosmtplib.SMTP(
            hostname=self._server.host,
            port=self._server.port,
            # By default it would ask the resolver for a name of this machine.
            local_hostname=domain,
            timeout=self._limit,
            use_tls=self._server.tls_at_connect,
            # Never None: that would send in the clear where the server offers no encryption.
            start_tls=self._server.start_tls,
            tls_context=self._tls,
        )

    async def greet(self) -> None:
        """Sign in as for a message, and leave; raises DeliveryError where the server refuses us."""
        client = self._client()
        try:
            async with asyncio.timeout(self._limit):
                await self._sign_in(client)
                await client.quit()
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
            raise DeliveryError(classify(error, in_data=False)) from error
        finally:
            client.close()

    async def _sign_in(self, client: aiosmtplib.SMTP) -> None:
        await client.connect()
        if self._server.user is not None:
            password = self._server.password
            secret = password.get_secret_value() if password else ""
            await client.login(self._server.user, secret)

    async def _introduce(self, client: aiosmtplib.SMTP, to: str) -> None:
        """Everything before the message itself: a failure here has sent nothing."""
        try:
            async with asyncio.timeout(self._limit):
                await self._sign_in(client)
                await client.mail(self._sender)
                await client.rcpt(to)
        except aiosmtplib.SMTPRecipientRefused as error:
            raise DeliveryError(_refused_recipient(error)) from error
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
            raise DeliveryError(classify(error, in_data=False)) from error

    async def _hand_over(self, client: aiosmtplib.SMTP, content: EmailMessage) -> str:
        try:
            async with asyncio.timeout(self._limit):
                response = await client.data(content.as_bytes(policy=SMTP_POLICY))
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise DeliveryError(classify(error, in_data=True)) from error
        # The server has taken the message over; how the farewell goes does not matter.
        with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
            await client.quit(timeout=2)
        return response.message


def classify(error: Exception, *, in_data: bool) -> Failure:
    """What a failed conversation means; a recipient's refusal is judged apart."""
    detail = type(error).__name__
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return _by_code(error, in_data=in_data)
    if in_data:
        # Cut after DATA: the server may have taken the message over.
        return Failure(kind=Class.AMBIGUOUS, detail=detail)
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return Failure(kind=Class.INTEGRATION_BROKEN, detail=f"{detail}: encryption failed")
    if isinstance(error, OSError | TimeoutError):
        return Failure(kind=Class.TRANSIENT, detail=detail)
    return Failure(kind=Class.INTEGRATION_BROKEN, detail=f"{detail}: no encryption or sign-in")


def _by_code(error: aiosmtplib.SMTPResponseException, *, in_data: bool) -> Failure:
    detail = f"{error.code} {wording.clean(error.message)[:120]}"
    if error.code == 421:
        return Failure(kind=Class.PAUSE, detail=detail, retry_after=_PAUSE)
    if error.code in _SIGN_IN:
        return Failure(kind=Class.INTEGRATION_BROKEN, detail=detail)
    if error.code < 500:
        return Failure(kind=Class.TRANSIENT, detail=detail)
    if in_data:
        return Failure(kind=Class.BAD_MESSAGE, detail=detail)
    return Failure(kind=Class.INTEGRATION_BROKEN, detail=detail)


def _refused_recipient(error: aiosmtplib.SMTPRecipientRefused) -> Failure:
    failure = _by_code(error, in_data=False)
    if failure.kind is Class.INTEGRATION_BROKEN and error.code not in _SIGN_IN:
        return Failure(kind=Class.DESTINATION_BROKEN, detail=failure.detail)
    return failure
