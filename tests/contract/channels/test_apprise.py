"""Apprise against a real server: bare text, one try, and nothing said of its URLs."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from pydantic import SecretStr

from services.notifier import templates
from services.notifier.channels import DeliveryError
from services.notifier.channels.apprise import Apprise, load
from services.notifier.domain.attempts import Class
from shared.errors import Misconfigured
from tests.standins.http import Answer, Asked, listening, respond
from tests.unit.notifier.factories import message

# Apprise loads all its plugins, and one of them what Python is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
TEMPLATES = templates.load("services.notifier.channels")


@dataclass(slots=True)
class Receiver:
    """Takes what apprise's `json://` posts; `status` and `delay` may be scripted."""

    status: int = 200
    delay: float = 0
    got: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        self.got.append(json.loads(asked.body))
        await asyncio.sleep(self.delay)
        await respond(writer, Answer(status=self.status))
        return False


@asynccontextmanager
async def pair(*, limit: float = 5) -> AsyncIterator[tuple[Apprise, Receiver]]:
    receiver = Receiver()
    async with listening(receiver.answer) as port:
        urls = {"teams": (SecretStr(f"json://me:hunter2@127.0.0.1:{port}/"),)}
        targets = await asyncio.to_thread(load, urls)
        limit_ = timedelta(seconds=limit)
        yield Apprise(targets, templates=TEMPLATES, limit=limit_), receiver


async def failure_of(channel: Apprise, to: str = "teams") -> Class:
    with pytest.raises(DeliveryError) as caught:
        await channel.send(message(to=to))
    assert "hunter2" not in repr(caught.value.failure)
    return caught.value.failure.kind


async def test_a_target_gets_the_same_words_as_a_mail() -> None:
    async with pair() as (channel, receiver):
        await channel.send(message(to="teams"))
    [got] = receiver.got
    assert got["title"] == "Acme Ltd: At risk: EUR 12,340"
    assert got["message"].startswith("Acme Ltd: At risk: EUR 12,340 · Churn risk 31 %")


async def test_a_name_calls_nobody_and_links_nowhere() -> None:
    name = "<!channel> @everyone https://evil.example\r\nx"
    async with pair() as (channel, receiver):
        await channel.send(message(to="teams", account_name=name))
    [got] = receiver.got
    for text in (got["title"], got["message"]):
        assert text.startswith(
            "<\u2060!channel> @\u2060everyone https:\u2060//evil.\u2060example x: At risk"
        )


async def test_a_refusal_is_transient_whatever_it_was_and_not_tried_again() -> None:
    async with pair() as (channel, receiver):
        receiver.status = 500
        assert await failure_of(channel) is Class.TRANSIENT
        assert len(receiver.got) == 1


async def test_no_answer_in_time_may_have_been_a_success() -> None:
    async with pair(limit=0.3) as (channel, receiver):
        receiver.delay = 1
        assert await failure_of(channel) is Class.AMBIGUOUS
        assert len(receiver.got) == 1


async def test_a_name_without_a_url_is_a_broken_destination() -> None:
    async with pair() as (channel, _):
        assert await failure_of(channel, to="pager") is Class.DESTINATION_BROKEN


@pytest.mark.parametrize(
    "urls", [[], ["nonsense://hunter2"], ["json://a.example", "json://b.example"]]
)
def test_a_url_that_apprise_does_not_know_is_named_and_not_told(
    urls: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Misconfigured, match="'teams'") as caught:
        load({"teams": tuple(map(SecretStr, urls))})
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in caplog.text


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(Misconfigured, match="extra `apprise`"):
        load({"teams": (SecretStr("json://a.example"),)})
