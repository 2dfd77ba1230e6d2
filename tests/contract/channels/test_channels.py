"""What every channel keeps: one try, one outcome, and no error but DeliveryError."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from aiosmtpd.smtp import AuthResult
from pydantic import SecretStr

from services.notifier import templates
from services.notifier.channels import Channel, DeliveryError, Message
from services.notifier.channels.addresses import networks_of
from services.notifier.channels.email import Email, server_of
from services.notifier.channels.slack_app import open_slack_app
from services.notifier.channels.slack_webhook import open_slack_webhook
from services.notifier.channels.webhook import open_webhooks, signers_of
from services.notifier.domain.attempts import Class
from shared.clock import system_clock
from tests.certificates import certificate_for
from tests.standins import http
from tests.standins.mail import FakeMail, fake_mail
from tests.standins.slack import (
    TOKEN,
    Answer,
    FakeSlack,
    Hang,
    Reset,
    Turn,
    fake_slack,
    rate_limited,
    refused,
)
from tests.standins.webhooks import SECRET, Collector, collector
from tests.unit.notifier.factories import message

LIMIT = timedelta(seconds=1.5)
Fault = Literal["later", "pause", "refused", "hang", "cut"]
KINDS = {
    "later": Class.TRANSIENT,
    "pause": Class.PAUSE,
    "refused": Class.BAD_MESSAGE,
    "hang": Class.AMBIGUOUS,
    "cut": Class.AMBIGUOUS,
}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and its key in one file, made anew: none lies in the project."""
    return certificate_for("IP:127.0.0.1", tmp_path_factory.mktemp("certificate"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A channel and the server at its other end."""

    channel: Channel
    server: FakeSlack | FakeMail | Collector

    def will(self, fault: Fault) -> None:
        if isinstance(self.server, Collector):
            answers: dict[Fault, http.Turn] = {
                "later": http.Answer(status=500),
                "pause": http.Answer(status=429),
                "refused": http.Answer(status=410),
                "hang": http.Hang(seconds=30),
                "cut": http.Reset(),
            }
            self.server.script.append(answers[fault])
        elif isinstance(self.server, FakeSlack):
            turns: dict[Fault, Turn] = {
                "later": Answer(status=500),
                "pause": rate_limited("7"),
                "refused": refused("invalid_blocks")
                if self.channel.edits
                else Answer(status=400, body="invalid_payload"),
                "hang": Hang(seconds=30),
                "cut": Reset(),
            }
            self.server.script.append(turns[fault])
        else:
            said = {"later": "451 4.3.0 later", "pause": "421 4.3.2 closing", "refused": "554 no"}
            self.server.at_data.append(said.get(fault, fault))

    @property
    def tries(self) -> int:
        if isinstance(self.server, Collector):
            return len(self.server.got)
        if isinstance(self.server, FakeSlack):
            return len(self.server.asked_at)
        return self.server.attempts

    @property
    def taken(self) -> int:
        if isinstance(self.server, Collector):
            return len(self.server.accepted)
        return len(self.server.posted if isinstance(self.server, FakeSlack) else self.server.taken)


@pytest.fixture(params=["slack_webhook", "slack_app", "email", "webhook"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    openers = {
        "slack_webhook": _slack_webhook,
        "slack_app": _slack_app,
        "email": _email,
        "webhook": _webhook,
    }
    async with openers[request.param]() as made:
        yield made


def to(pair: Pair) -> Message:
    if isinstance(pair.server, Collector):
        return message(to="crm")
    return message(to="C0CS") if isinstance(pair.server, FakeSlack) else message()


async def test_a_message_is_handed_over_once(pair: Pair) -> None:
    await pair.channel.send(to(pair))
    assert (pair.taken, pair.tries) == (1, 1)


@pytest.mark.parametrize("fault", list(KINDS))
async def test_a_fault_has_its_class_and_is_not_tried_again(pair: Pair, fault: Fault) -> None:
    pair.will(fault)
    with pytest.raises(DeliveryError) as caught:
        await pair.channel.send(to(pair))
    gone = fault == "refused" and isinstance(pair.server, Collector)
    # A webhook's receiver does not judge the form: 410 means that it is no more.
    assert caught.value.failure.kind is (Class.DESTINATION_BROKEN if gone else KINDS[fault])
    assert pair.tries == 1


async def test_the_next_message_passes_after_a_fault(pair: Pair) -> None:
    pair.will("cut")
    with pytest.raises(DeliveryError):
        await pair.channel.send(to(pair))
    before = pair.taken
    await pair.channel.send(to(pair))
    assert pair.taken == before + 1


async def test_a_server_that_is_not_there_is_transient() -> None:
    """Nothing was sent, so nothing can arrive twice."""
    for opener in (_slack_webhook, _slack_app, _email, _webhook):
        async with opener(port=1) as nobody:
            with pytest.raises(DeliveryError) as caught:
                await nobody.channel.send(to(nobody))
        assert caught.value.failure.kind is Class.TRANSIENT


async def test_a_failure_tells_no_secret(pair: Pair) -> None:
    pair.will("hang")
    with pytest.raises(DeliveryError) as caught:
        await pair.channel.send(to(pair))
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(caught.value.failure)


async def test_cancelling_a_send_ends_at_once(pair: Pair) -> None:
    pair.will("hang")
    task = asyncio.create_task(pair.channel.send(to(pair)))
    await asyncio.sleep(0.1)
    task.cancel()
    async with asyncio.timeout(0.3):
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("opener", ["webhook", "app"])
async def test_slack_is_not_led_elsewhere_by_a_redirect(opener: str) -> None:
    async with (_slack_app if opener == "app" else _slack_webhook)() as pair:
        assert isinstance(pair.server, FakeSlack)
        target = ("Location", pair.server.url)
        pair.server.script.append(Answer(status=302, headers=(target,)))
        with pytest.raises(DeliveryError) as caught:
            await pair.channel.send(to(pair))
        assert caught.value.failure.kind is Class.TRANSIENT
        assert pair.tries == 1


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("450 4.2.1 greylisted", Class.TRANSIENT),
        ("421 4.3.2 closing", Class.PAUSE),
        ("550 5.1.1 no such user", Class.DESTINATION_BROKEN),
        ("530 5.7.0 sign in first", Class.INTEGRATION_BROKEN),
    ],
)
async def test_mail_refused_for_its_recipient(said: str, kind: Class) -> None:
    async with _email() as pair:
        assert isinstance(pair.server, FakeMail)
        pair.server.at_recipient.append(said)
        with pytest.raises(DeliveryError) as caught:
            await pair.channel.send(message())
        assert caught.value.failure.kind is kind
        assert pair.taken == 0


async def test_mail_is_not_sent_in_the_clear_where_encryption_is_required() -> None:
    async with _email(option="?starttls=required") as pair:
        with pytest.raises(DeliveryError) as caught:
            await pair.channel.send(message())
        assert caught.value.failure.kind is Class.INTEGRATION_BROKEN
        assert pair.taken == 0


@asynccontextmanager
async def _slack_webhook(port: int | None = None) -> AsyncIterator[Pair]:
    async with fake_slack() as server:
        url = f"http://127.0.0.1:{port or server.port}/services/T/B/secret"
        async with open_slack_webhook(SecretStr(url), pace=timedelta(0), limit=LIMIT) as channel:
            yield Pair(channel=channel, server=server)


@asynccontextmanager
async def _slack_app(port: int | None = None) -> AsyncIterator[Pair]:
    async with fake_slack() as server:
        url = f"http://127.0.0.1:{port or server.port}/api"
        async with open_slack_app(
            SecretStr(TOKEN), url=url, pace=timedelta(0), limit=LIMIT
        ) as channel:
            yield Pair(channel=channel, server=server)


@asynccontextmanager
async def _webhook(port: int | None = None) -> AsyncIterator[Pair]:
    async with collector() as server:
        url = f"http://127.0.0.1:{port or server.port}/secret"
        async with open_webhooks(
            urls=lambda: {"crm": url},
            signers=signers_of({"crm": [SecretStr(SECRET)]}),
            allowed=networks_of("127.0.0.0/8"),
            limit=LIMIT,
            clock=system_clock,
        ) as channel:
            yield Pair(channel=channel, server=server)


@asynccontextmanager
async def _email(port: int | None = None, option: str = "") -> AsyncIterator[Pair]:
    async with fake_mail() as server:
        channel = Email(
            server_of(SecretStr(f"smtp://127.0.0.1:{port or server.port}{option}")),
            sender="perennial@vendor.example",
            templates=templates.load("services.notifier.channels"),
            limit=LIMIT,
        )
        yield Pair(channel=channel, server=server)


@pytest.mark.parametrize(
    ("trusted", "password", "kind"),
    [
        pytest.param(True, "pass%2Fword", None, id="all is well"),
        pytest.param(True, "wrong", Class.INTEGRATION_BROKEN, id="wrong password"),
        pytest.param(False, "pass%2Fword", Class.INTEGRATION_BROKEN, id="unknown certificate"),
    ],
)
async def test_mail_over_starttls_with_a_sign_in(
    certificate: Path, *, trusted: bool, password: str, kind: Class | None
) -> None:
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(certificate)
    options: dict[str, Any] = {
        "tls_context": server_side,
        "require_starttls": True,
        "auth_required": True,
        "authenticator": _sign_in,
    }
    url = f"me:{password}@127.0.0.1"
    async with fake_mail(**options) as server:
        channel = Email(
            server_of(SecretStr(f"smtp://{url}:{server.port}?starttls=required")),
            sender="perennial@vendor.example",
            templates=templates.load("services.notifier.channels"),
            limit=timedelta(seconds=5),
            tls=ssl.create_default_context(cafile=certificate) if trusted else None,
        )
        if kind is None:
            await channel.send(message())
        else:
            with pytest.raises(DeliveryError) as caught:
                await channel.send(message())
            assert caught.value.failure.kind is kind
        assert len(server.taken) == (kind is None)


def _sign_in(_server: Any, _session: Any, _envelope: Any, _how: str, given: Any) -> AuthResult:
    well = (given.login, given.password) == (b"me", b"pass/word")
    return AuthResult(success=well, handled=False)
