"""E-mail against a real server: every way to fail, and what arrives where it does not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import aiosmtplib
import pytest
from pydantic import SecretStr

from services.notifier import templates
from services.notifier.channels import DeliveryError, Message
from services.notifier.channels.email import Email, server_of
from services.notifier.domain.attempts import Class
from tests.standins.mail import FakeMail, fake_mail
from tests.unit.notifier.factories import ID, message

# Who hangs is waited for; nobody else takes so long, on a slow machine either.
SHORT, LONG = timedelta(seconds=1), timedelta(seconds=10)
TEMPLATES = templates.load("services.notifier.channels")


@asynccontextmanager
async def pair(limit: timedelta = LONG) -> AsyncIterator[tuple[Email, FakeMail]]:
    async with fake_mail() as server:
        channel = Email(
            server_of(SecretStr(server.url)),
            sender="perennial@vendor.example",
            templates=TEMPLATES,
            limit=limit,
        )
        yield channel, server


async def failure_of(channel: Email, sent: Message | None = None) -> Class:
    with pytest.raises(DeliveryError) as caught:
        await channel.send(sent or message())
    return caught.value.failure.kind


@pytest.mark.parametrize(
    ("place", "said", "kind", "taken"),
    [
        pytest.param("at_hello", "421 4.3.2 busy", Class.PAUSE, 0, id="busy at hello"),
        pytest.param("at_hello", "hang", Class.TRANSIENT, 0, id="silent at hello"),
        pytest.param("at_hello", "cut", Class.TRANSIENT, 0, id="gone at hello"),
        pytest.param("at_recipient", "451 4.7.1 later", Class.TRANSIENT, 0, id="451 at RCPT"),
        pytest.param("at_recipient", "452 4.2.2 full", Class.TRANSIENT, 0, id="452 at RCPT"),
        pytest.param("at_recipient", "421 4.3.2 closing", Class.PAUSE, 0, id="421 at RCPT"),
        pytest.param("at_recipient", "550 no", Class.DESTINATION_BROKEN, 0, id="550 at RCPT"),
        pytest.param("at_recipient", "530 sign in", Class.INTEGRATION_BROKEN, 0, id="530 at RCPT"),
        pytest.param("at_recipient", "hang", Class.TRANSIENT, 0, id="silent at RCPT"),
        pytest.param("at_recipient", "cut", Class.TRANSIENT, 0, id="gone at RCPT"),
        pytest.param("inside_data", "hang", Class.AMBIGUOUS, 0, id="silent inside DATA"),
        pytest.param("inside_data", "cut", Class.AMBIGUOUS, 0, id="gone inside DATA"),
        pytest.param("at_data", "451 4.3.0 later", Class.TRANSIENT, 0, id="451 after DATA"),
        pytest.param("at_data", "421 4.3.2 closing", Class.PAUSE, 0, id="421 after DATA"),
        pytest.param("at_data", "552 5.3.4 too big", Class.BAD_MESSAGE, 0, id="552 after DATA"),
        pytest.param("at_data", "554 5.7.1 spam", Class.BAD_MESSAGE, 0, id="554 after DATA"),
        pytest.param("at_data", "hang", Class.AMBIGUOUS, 1, id="taken, then silent"),
        pytest.param("at_data", "cut", Class.AMBIGUOUS, 1, id="taken, then gone"),
    ],
)
async def test_a_fault_has_its_class(place: str, said: str, kind: Class, taken: int) -> None:
    async with pair(SHORT if said == "hang" else LONG) as (channel, server):
        getattr(server, place).append(said)
        assert await failure_of(channel) is kind
        assert len(server.taken) == taken


@pytest.mark.parametrize("to", ["anna", "a..b@vendor.example", "a@b, c@d", "a@b\r\nBcc: c@d", ""])
async def test_what_is_no_address_is_a_broken_destination_and_asks_no_server(to: str) -> None:
    async with pair() as (channel, server):
        with pytest.raises(DeliveryError) as caught:
            await channel.send(message(to=to))
        assert caught.value.failure.kind is Class.DESTINATION_BROKEN
        assert server.taken == []


async def test_after_greylisting_the_same_message_passes_under_the_same_id() -> None:
    async with pair() as (channel, server):
        server.greylists = True
        assert await failure_of(channel) is Class.TRANSIENT
        receipt = await channel.send(message())
        [got] = server.taken
    assert got["Message-ID"] == f"<{ID}@vendor.example>"
    assert receipt.provider_id == "taken as 42"


async def test_one_refused_address_is_never_hidden_by_another_that_is_taken() -> None:
    """The library does not raise where one of two is refused; so we send to one at a time."""
    refused = {"gone@vendor.example": "550 5.1.1 no such user"}
    async with pair() as (channel, server):
        server.refused = refused
        for_both = ["anna@vendor.example", "gone@vendor.example"]
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=server.port) as client:
            problems, _ = await client.sendmail(
                "me@vendor.example", for_both, b"Subject: x\r\n\r\n"
            )
        assert list(problems) == ["gone@vendor.example"]
        sent = message(to="gone@vendor.example")
        assert await failure_of(channel, sent) is Class.DESTINATION_BROKEN


async def test_what_arrives_is_text_and_html_in_lines_that_every_server_takes() -> None:
    token = "https://console.vendor.example/unsubscribe/" + "x" * 120
    name = 'Ünïcode 神戸 🙂 "x"\r\nBcc: boss@example.com' + "y" * 10_000
    async with pair() as (channel, server):
        await channel.send(message(account_name=name, unsubscribe_url=token))
        [raw], [got] = server.raw, server.taken
        assert server.recipients == ["anna@vendor.example"]
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert raw.isascii()
    parts = [one.get_content_type() for one in got.walk()]
    assert parts == ["multipart/alternative", "text/plain", "text/html"]
    encodings = {one["Content-Transfer-Encoding"] for one in got.iter_parts()}
    assert encodings == {"quoted-printable"}
    assert got["Bcc"] is None
    assert got["List-Unsubscribe"] == f"<{token}>"
    assert got["Subject"].startswith('Ünïcode 神戸 🙂 "x" Bcc: boss@example.comyyy')
