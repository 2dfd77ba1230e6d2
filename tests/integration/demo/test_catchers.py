from collections.abc import AsyncIterator
from email.message import EmailMessage

import aiosmtplib
import httpx
import pytest

from services.demo.catchers import Catchers, open_catchers


@pytest.fixture
async def catchers() -> AsyncIterator[Catchers]:
    async with open_catchers() as opened:
        yield opened


async def post(url: str, content: bytes) -> tuple[int, str]:
    async with httpx.AsyncClient(trust_env=False) as http:
        response = await http.post(url, content=content)
    return response.status_code, response.text


async def test_slack_messages_are_answered_as_slack_does_and_kept(catchers: Catchers) -> None:
    assert await post(catchers.slack_url, b'{"text":"hello"}') == (200, "ok")
    assert list(catchers.slack) == [{"text": "hello"}]
    assert catchers.slack_count == 1


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"text", (400, "invalid_payload")),
        (b"[]", (400, "invalid_payload")),
        (b"\xff", (400, "invalid_payload")),
        (b"{}", (400, "no_text")),
    ],
)
async def test_what_slack_would_refuse_is_refused(
    catchers: Catchers, content: bytes, answer: tuple[int, str]
) -> None:
    assert await post(catchers.slack_url, content) == answer
    assert not catchers.slack


async def test_another_path_is_no_webhook(catchers: Catchers) -> None:
    assert (await post(catchers.slack_url + "x", b'{"text":"a"}'))[0] == 404


async def test_mails_are_kept_with_their_envelope(catchers: Catchers) -> None:
    message = EmailMessage()
    message["From"] = "perennial@example.com"
    message["To"] = "amara.osei@example.com"
    message["Subject"] = "Älder Labs is at risk"
    message.set_content("Active on 9 of 90 days.\n")
    port = int(catchers.smtp_url.rpartition(":")[2])
    await aiosmtplib.send(message, hostname="127.0.0.1", port=port, start_tls=False)
    (mail,) = catchers.mails
    assert mail.recipients == ("amara.osei@example.com",)
    assert mail.message["Subject"] == "Älder Labs is at risk"
    assert "9 of 90" in str(mail.message.get_content())
    assert catchers.mail_count == 1


async def test_both_listen_on_loopback_only(catchers: Catchers) -> None:
    assert catchers.slack_url.startswith("http://127.0.0.1:")
    assert catchers.smtp_url.startswith("smtp://127.0.0.1:")
