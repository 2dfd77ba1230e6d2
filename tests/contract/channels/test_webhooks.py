"""Webhooks against a real receiver: what it gets, what its answers mean, and where none may be."""

import asyncio
import base64
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from services.notifier.channels import DeliveryError
from services.notifier.channels.addresses import networks_of
from services.notifier.channels.webhook import (
    MOST_BYTES,
    Webhooks,
    classify,
    open_webhooks,
    render,
    signers_of,
)
from services.notifier.domain.attempts import Class
from services.notifier.domain.policy import NotifyReason
from shared.clock import system_clock
from shared.errors import Misconfigured
from shared.messages import OutcomeKind
from tests.certificates import certificate_for
from tests.standins.http import Answer, Asked, Flood, Hang, Reset, Slow, Turn, listening, respond
from tests.standins.webhooks import SECRET, Collector, between, collector, compare, what
from tests.unit.notifier.factories import DAY, NOW, item, message, reason

# Who hangs is waited for; nobody else takes so long, on a slow machine either.
SHORT, LONG = timedelta(seconds=1), timedelta(seconds=10)
THIS_MACHINE = networks_of("127.0.0.0/8")
OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret of 32 bytes, new").decode()


@asynccontextmanager
async def webhooks(
    urls: Mapping[str, str],
    *,
    secrets: Sequence[str] = (SECRET,),
    allow: str = "127.0.0.0/8",
    found: Sequence[str] = ("127.0.0.1",),
    tls: ssl.SSLContext | None = None,
    limit: timedelta = LONG,
) -> AsyncIterator[Webhooks]:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return found

    async with open_webhooks(
        urls=lambda: urls,
        signers=signers_of({"crm": [SecretStr(one) for one in secrets]}),
        allowed=networks_of(allow),
        limit=limit,
        clock=system_clock,
        resolve=resolve,
        transport=httpx.AsyncHTTPTransport(
            verify=tls or True, limits=httpx.Limits(max_keepalive_connections=0)
        ),
    ) as opened:
        yield opened


@asynccontextmanager
async def pair(limit: timedelta = LONG) -> AsyncIterator[tuple[Webhooks, Collector]]:
    async with collector() as receiver, webhooks({"crm": receiver.url}, limit=limit) as channel:
        yield channel, receiver


async def failure_of(channel: Webhooks) -> tuple[Class, str]:
    with pytest.raises(DeliveryError) as caught:
        await channel.send(message(to="crm"))
    return caught.value.failure.kind, caught.value.failure.detail


async def test_a_receiver_can_act_on_what_it_gets() -> None:
    async with pair() as (channel, receiver):
        sent = message(to="crm", why=NotifyReason.OVERDUE)
        await channel.send(sent)
        receiver.want(between(0, 30), what("overdue", "acme"))
        [got] = receiver.accepted
    assert compare([(between(0, 30), what("overdue", "acme"))], [got]) == []
    assert got.id == str(sent.delivery_id)
    assert got.headers["content-type"] == "application/json"
    assert got.body["timestamp"] == "2026-06-01T12:00:00Z"
    [work] = got.body["data"]["items"]
    assert got.body["data"]["title"] == "Acme Ltd: At risk: EUR 12,340 (overdue)"
    assert work["account"] == "acme"
    assert work["reason"] == "churn_risk"
    assert work["value_at_risk"] == {"amount": "12340.50", "currency": "EUR", "basis": "margin"}
    assert work["due_at"] == "2026-06-04T16:00:00Z"
    assert work["todo"] == "Acknowledge it, then act"


def test_the_page_shows_all_fields_and_no_other() -> None:
    page = (Path(__file__).parents[3] / "deploy" / "console.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"```json\n(\{\"type\": \"perennial.*?)```", page, re.DOTALL)
    body = render(message(why=NotifyReason.OVERDUE))
    assert _shape(json.loads(shown)) == _shape(json.loads(body))


def _shape(value: object) -> object:
    """The names of all fields, however deep."""
    match value:
        case dict():
            return {name: _shape(one) for name, one in value.items()}
        case list():
            return [_shape(value[0])]
        case _:
            return None


async def test_the_id_stays_over_attempts_and_the_timestamp_is_the_attempts() -> None:
    async with collector() as receiver:
        moments = [datetime.now(UTC), datetime.now(UTC) + timedelta(seconds=90)]
        async with open_webhooks(
            urls=lambda: {"crm": receiver.url},
            signers=signers_of({"crm": [SecretStr(SECRET)]}),
            allowed=THIS_MACHINE,
            limit=LONG,
            # Each attempt looks at the clock once to sign, and once to judge the answer.
            clock=lambda: moments[len(receiver.got) > 0],
        ) as channel:
            receiver.script.append(Answer(status=500))
            assert (await failure_of(channel))[0] is Class.TRANSIENT
            await channel.send(message(to="crm"))
        first, second = receiver.got
    assert first.id == second.id
    assert first.raw == second.raw
    stamps = [int(one.headers["webhook-timestamp"]) for one in (first, second)]
    assert stamps == [int(one.timestamp()) for one in moments]


async def test_during_a_rotation_either_secret_fits() -> None:
    """The receiver may still have the old one, or the new one already."""
    for known in (SECRET, OTHER_SECRET):
        async with collector(secrets=(known,)) as receiver:
            urls = {"crm": receiver.url}
            async with webhooks(urls, secrets=(OTHER_SECRET, SECRET)) as channel:
                await channel.send(message(to="crm"))
            [got] = receiver.accepted
            assert len(got.headers["webhook-signature"].split(" ")) == 2


async def test_a_body_that_was_changed_on_its_way_does_not_fit() -> None:
    async with pair() as (channel, receiver):
        await channel.send(message(to="crm"))
        [got] = receiver.accepted
    Webhook(SECRET).verify(got.raw, got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(got.raw.replace(b"Acme", b"Evil"), got.headers)


@pytest.mark.parametrize(
    ("turn", "kind"),
    [
        pytest.param(Answer(status=200, body="<html>"), None, id="200"),
        pytest.param(Answer(status=204), None, id="204"),
        pytest.param(Slow(seconds=0.2), None, id="slow"),
        pytest.param(Flood(), None, id="an endless body behind a good status"),
        pytest.param(Answer(status=429), Class.PAUSE, id="429"),
        pytest.param(Answer(status=502), Class.PAUSE, id="502"),
        pytest.param(Answer(status=504), Class.PAUSE, id="504"),
        pytest.param(Answer(status=410), Class.DESTINATION_BROKEN, id="410"),
        pytest.param(Answer(status=400), Class.TRANSIENT, id="400"),
        pytest.param(Answer(status=404), Class.TRANSIENT, id="404"),
        pytest.param(Answer(status=500), Class.TRANSIENT, id="500"),
        pytest.param(Answer(status=503), Class.TRANSIENT, id="503"),
        pytest.param(Answer(status=304), Class.TRANSIENT, id="304"),
        pytest.param(Hang(seconds=30, posted=True), Class.AMBIGUOUS, id="hang"),
        pytest.param(Reset(posted=True), Class.AMBIGUOUS, id="reset after the request"),
    ],
)
async def test_an_answer_has_its_class(turn: Turn, kind: Class | None) -> None:
    async with pair(SHORT if isinstance(turn, Hang) else LONG) as (channel, receiver):
        receiver.script.append(turn)
        if kind is None:
            await channel.send(message(to="crm"))
        else:
            assert (await failure_of(channel))[0] is kind
        assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({}, timedelta(seconds=30)),
        ({"retry-after": "1.5"}, timedelta(seconds=1.5)),
        ({"retry-after": "3600"}, timedelta(hours=1)),
        ({"retry-after": "Mon, 01 Jun 2026 12:01:00 GMT"}, timedelta(minutes=1)),
        ({"retry-after": "soon"}, timedelta(seconds=30)),
    ],
)
def test_a_pause_is_as_long_as_was_asked_for(headers: dict[str, str], pause: timedelta) -> None:
    failure = classify(429, headers, now=NOW)
    assert failure is not None
    assert failure.retry_after == pause


def test_a_busy_receiver_that_names_a_time_is_not_asked_before() -> None:
    failure = classify(503, {"retry-after": "120"}, now=NOW)
    assert failure is not None
    assert (failure.kind, failure.retry_after) == (Class.PAUSE, timedelta(minutes=2))


async def test_a_receiver_that_is_not_there_is_transient() -> None:
    async with webhooks({"crm": "http://127.0.0.1:1/"}) as channel:
        assert (await failure_of(channel))[0] is Class.TRANSIENT


@pytest.mark.parametrize(
    ("urls", "detail"),
    [
        ({}, "no receiver of that name"),
        ({"crm": "https://0177.0.0.1/"}, "refused: no_url"),
        ({"crm": "https://127.1/"}, "refused: odd_host"),
        ({"crm": "https://metadata.google.internal/"}, "refused: metadata"),
    ],
)
async def test_where_no_message_can_go_is_said(urls: dict[str, str], detail: str) -> None:
    async with webhooks(urls) as channel:
        assert await failure_of(channel) == (Class.DESTINATION_BROKEN, detail)


async def test_a_receiver_without_a_secret_gets_nothing_unsigned() -> None:
    async with collector() as receiver, webhooks({"new": receiver.url}) as channel:
        with pytest.raises(DeliveryError) as caught:
            await channel.send(message(to="new"))
        assert caught.value.failure.kind is Class.DESTINATION_BROKEN
        assert (receiver.got, receiver.unsigned) == ([], 0)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(["127.0.0.1"], id="loopback"),
        pytest.param(["169.254.169.254"], id="link-local"),
        pytest.param(["10.0.0.1"], id="private"),
        pytest.param(["::ffff:127.0.0.1"], id="IPv4-mapped"),
        pytest.param(["64:ff9b::7f00:1"], id="NAT64"),
        pytest.param(["93.184.216.34", "127.0.0.1"], id="one of two"),
    ],
)
async def test_without_leave_nothing_of_this_network_is_reached(found: list[str]) -> None:
    async with collector() as receiver:
        urls = {"crm": f"https://hooks.example:{receiver.port}/"}
        async with webhooks(urls, allow="", found=found) as channel:
            assert await failure_of(channel) == (Class.DESTINATION_BROKEN, "refused: not_public")
        assert (receiver.got, receiver.unsigned) == ([], 0)


async def test_the_machines_own_resolver_does_not_lead_here_either() -> None:
    async with (
        collector() as receiver,
        open_webhooks(
            urls=lambda: {"crm": f"http://localhost:{receiver.port}/"},
            signers=signers_of({"crm": [SecretStr(SECRET)]}),
            allowed=(),
            limit=LONG,
            clock=system_clock,
        ) as channel,
    ):
        assert await failure_of(channel) == (Class.DESTINATION_BROKEN, "refused: not_public")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_leads_nowhere(status: int) -> None:
    async with collector() as elsewhere, pair() as (channel, receiver):
        target = ("Location", elsewhere.url)
        receiver.script.append(Answer(status=status, headers=(target,)))
        assert (await failure_of(channel))[0] is Class.TRANSIENT
        assert (elsewhere.got, elsewhere.unsigned) == ([], 0)


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Asked] = []

    async def proxy(request: Asked, writer: asyncio.StreamWriter) -> bool:
        asked.append(request)
        await respond(writer, Answer(status=200))
        return False

    async with listening(proxy) as port:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        async with pair() as (channel, receiver):
            await channel.send(message(to="crm"))
            assert len(receiver.accepted) == 1
    assert asked == []


async def test_host_and_name_in_tls_are_the_receivers_though_its_address_is_connected_to(
    tmp_path: Path,
) -> None:
    certificate = await asyncio.to_thread(certificate_for, "hooks.example", tmp_path)
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(certificate)
    trusted = ssl.create_default_context(cafile=certificate)
    async with collector(tls=server_side) as receiver:
        urls = {"crm": f"https://hooks.example:{receiver.port}/in"}
        async with webhooks(urls, tls=trusted) as channel:
            await channel.send(message(to="crm"))
        [got] = receiver.accepted
        assert got.headers["host"] == f"hooks.example:{receiver.port}"
        assert receiver.server_names == ["hooks.example"]
        async with webhooks({"crm": f"https://evil.example:{receiver.port}/"}, tls=trusted) as two:
            assert (await failure_of(two))[0] is Class.TRANSIENT
        assert len(receiver.got) == 1


async def test_the_collector_counts_exactly() -> None:
    async with pair() as (channel, receiver):
        receiver.want(between(0, 0.3), what("first", "acme"), what("test"))
        await channel.send(message(to="crm"))
        with pytest.raises(AssertionError, match="missing between"):
            await receiver.finish()
        await channel.send(message(to="crm", why=NotifyReason.TEST, items=(), delivery_id=uuid4()))
        with pytest.raises(AssertionError, match="not wanted, at"):
            await receiver.finish()


@pytest.mark.parametrize(
    "secrets",
    [
        pytest.param([], id="none"),
        pytest.param([SECRET] * 3, id="three"),
        pytest.param(["whsec_"], id="empty"),
        pytest.param(["whsec_c2hvcnQ="], id="short"),
        pytest.param(["!" * 44], id="no base64"),
    ],
)
def test_a_secret_that_cannot_sign_is_named_but_not_told(secrets: list[str]) -> None:
    with pytest.raises(Misconfigured, match="'crm'") as caught:
        signers_of({"crm": [SecretStr(one) for one in secrets]})
    assert not any(one in str(caught.value) for one in secrets if len(one) > 6)


@given(
    text=st.text(max_size=3_000),
    count=st.integers(min_value=0, max_value=30),
    reasons=st.integers(min_value=0, max_value=10),
)
@example(text="神" * 3_000, count=1, reasons=10)
@example(text='"' * 3_000, count=30, reasons=10)
@settings(max_examples=50)
def test_a_body_is_json_below_20_kb_whatever_the_texts_are(
    text: str, count: int, reasons: int
) -> None:
    one = item(
        account_name=text,
        owner=text,
        summary=text,
        next_task=text,
        acknowledged_by=text,
        snoozed_until=NOW + DAY,
        outcome=OutcomeKind.SAVED,
        reasons=tuple(reason(text, unit=text, indicator=text) for _ in range(reasons)),
    )
    body = render(message(items=(one,) * count, text=text))
    data = json.loads(body)["data"]
    assert len(body) < MOST_BYTES
    assert len(data["items"]) + data["more"] == count
    assert count == 0 or data["items"]
