"""Slack by bot token: parents, threads and edits, and what each of Slack's answers means."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from services.notifier.channels import DeliveryError, Receipt, Thread
from services.notifier.channels.answers import retry_after
from services.notifier.channels.slack_app import SlackApp, classify, open_slack_app
from services.notifier.channels.slack_http import Answer as Answered
from services.notifier.channels.slack_webhook import classify as classify_webhook
from services.notifier.domain.attempts import Class, Failure
from services.notifier.domain.interventions import Status
from tests.standins.slack import (
    TOKEN,
    Answer,
    FakeSlack,
    Hang,
    Reset,
    fake_slack,
    rate_limited,
    refused,
)
from tests.unit.notifier.factories import message

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LIMIT = timedelta(seconds=1.5)


@pytest.fixture
async def server() -> AsyncIterator[FakeSlack]:
    async with fake_slack() as opened:
        yield opened


@pytest.fixture
async def app(server: FakeSlack) -> AsyncIterator[SlackApp]:
    async with open_slack_app(
        SecretStr(TOKEN), url=server.api_url, pace=timedelta(0), limit=LIMIT
    ) as opened:
        yield opened


async def begun(app: SlackApp, to: str = "C0CS") -> Thread:
    thread = (await app.send(message(to=to))).thread
    assert thread is not None
    return thread


async def failure_of(app: SlackApp, **changes: Any) -> Failure:
    with pytest.raises(DeliveryError) as caught:
        await app.send(message(to="C0CS", **changes))
    return caught.value.failure


async def test_a_message_begins_a_conversation(app: SlackApp, server: FakeSlack) -> None:
    receipt = await app.send(message(to="C0CS"))
    [parent] = server.parents
    assert receipt == Receipt(provider_id=parent.ts, thread=Thread(channel="C0CS", ts=parent.ts))


async def test_a_person_is_written_to_by_their_id_and_edited_by_the_conversations(
    app: SlackApp, server: FakeSlack
) -> None:
    thread = await begun(app, to="U0ANNA")
    assert thread.channel == "D0ANNA"
    await app.send(message(to="U0ANNA", thread=thread, edit=True, status=Status.ACKNOWLEDGED))
    assert server.parents[0].edits == 1


async def test_what_follows_stands_in_the_thread_and_leaves_it_as_it_was(
    app: SlackApp, server: FakeSlack
) -> None:
    thread = await begun(app)
    receipt = await app.send(message(to="C0CS", thread=thread))
    assert receipt.thread == thread
    assert receipt.provider_id != thread.ts
    [parent] = server.parents
    assert [reply.ts for reply in server.replies_to(parent)] == [receipt.provider_id]


async def test_an_edit_shows_the_new_state_and_posts_nothing(
    app: SlackApp, server: FakeSlack
) -> None:
    thread = await begun(app)
    before = server.parents[0].payload["blocks"]
    await app.send(
        message(
            to="C0CS", thread=thread, edit=True, status=Status.ACKNOWLEDGED, acknowledged_by="Bea"
        )
    )
    [parent] = server.parents
    assert len(server.posted) == 1
    assert "Acknowledged by Bea" in json.dumps(parent.payload["blocks"])
    assert not {one["block_id"] for one in before[:2]} & {
        one["block_id"] for one in parent.payload["blocks"][:2]
    }


async def test_a_plain_edit_leaves_no_blocks_of_before(app: SlackApp, server: FakeSlack) -> None:
    thread = await begun(app)
    await app.send(message(to="C0CS", thread=thread, edit=True, plain=True))
    assert server.parents[0].payload["blocks"] == []


@pytest.mark.parametrize("edit", [True, False])
async def test_a_conversation_that_is_gone_says_so(
    app: SlackApp, server: FakeSlack, *, edit: bool
) -> None:
    thread = await begun(app)
    server.delete(server.parents[0])
    assert (await failure_of(app, thread=thread, edit=edit)).kind is Class.THREAD_LOST


async def test_an_edit_without_a_message_asks_slack_nothing(
    app: SlackApp, server: FakeSlack
) -> None:
    assert (await failure_of(app, edit=True)).kind is Class.THREAD_LOST
    assert server.asked == []


@pytest.mark.parametrize(
    "error", ["message_not_found", "cant_update_message", "edit_window_closed"]
)
async def test_an_edit_that_slack_no_longer_allows_loses_the_thread(
    app: SlackApp, server: FakeSlack, error: str
) -> None:
    thread = await begun(app)
    server.scripts["chat.update"].append(refused(error))
    assert (await failure_of(app, thread=thread, edit=True)).kind is Class.THREAD_LOST


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("ratelimited", Class.PAUSE),
        ("rate_limited", Class.PAUSE),
        ("internal_error", Class.TRANSIENT),
        ("fatal_error", Class.TRANSIENT),
        ("service_unavailable", Class.TRANSIENT),
        ("invalid_blocks", Class.BAD_MESSAGE),
        ("msg_too_long", Class.BAD_MESSAGE),
        ("msg_blocks_too_long", Class.BAD_MESSAGE),
        ("channel_not_found", Class.DESTINATION_BROKEN),
        ("not_in_channel", Class.DESTINATION_BROKEN),
        ("is_archived", Class.DESTINATION_BROKEN),
        ("invalid_auth", Class.INTEGRATION_BROKEN),
        ("token_revoked", Class.INTEGRATION_BROKEN),
        ("account_inactive", Class.INTEGRATION_BROKEN),
        ("missing_scope", Class.INTEGRATION_BROKEN),
        pytest.param("something_new", Class.DESTINATION_BROKEN, id="unknown: tell the fallback"),
        pytest.param("", Class.DESTINATION_BROKEN, id="no word"),
    ],
)
async def test_what_slack_says_has_its_class(
    app: SlackApp, server: FakeSlack, error: str, kind: Class
) -> None:
    server.scripts["chat.postMessage"].append(refused(error))
    failure = await failure_of(app)
    assert failure.kind is kind
    assert error in failure.detail
    assert server.posted == []


@pytest.mark.parametrize("posted", [True, False])
async def test_a_connection_that_is_cut_leaves_it_open_whether_slack_took_it(
    app: SlackApp, server: FakeSlack, *, posted: bool
) -> None:
    server.scripts["chat.postMessage"].append(Reset(posted=posted))
    assert (await failure_of(app)).kind is Class.AMBIGUOUS
    assert len(server.posted) == posted


async def test_no_answer_in_time_is_ambiguous(app: SlackApp, server: FakeSlack) -> None:
    server.scripts["chat.postMessage"].append(Hang(seconds=30, posted=True))
    assert (await failure_of(app)).kind is Class.AMBIGUOUS


async def test_retry_after_is_kept_in_full(app: SlackApp, server: FakeSlack) -> None:
    server.script.append(rate_limited("17.5"))
    assert (await failure_of(app)).retry_after == timedelta(seconds=17.5)
    slow = refused("ratelimited")
    server.script.append(Answer(status=200, body=slow.body, headers=(("Retry-After", "90"),)))
    assert (await failure_of(app)).retry_after == timedelta(seconds=90)


async def test_a_busy_slack_that_names_a_time_is_not_asked_before(
    app: SlackApp, server: FakeSlack
) -> None:
    server.script.append(Answer(status=503, body="busy", headers=(("Retry-After", "120"),)))
    failure = await failure_of(app)
    assert (failure.kind, failure.retry_after) == (Class.PAUSE, timedelta(minutes=2))


async def test_more_than_a_message_a_second_to_one_channel_is_refused() -> None:
    async with fake_slack(pace_seconds=30) as server, open_slack_app(
        SecretStr(TOKEN), url=server.api_url, pace=timedelta(0), limit=LIMIT
    ) as app:  # fmt: skip
        await begun(app)
        assert (await failure_of(app)).kind is Class.PAUSE
        await app.send(message(to="C0OTHER"))


async def test_an_endless_answer_is_not_read_to_its_end(app: SlackApp, server: FakeSlack) -> None:
    server.script.append(
        Answer(status=200, body='{"ok": true, "message": "' + "x" * 2_000_000 + '"}')
    )
    assert (await failure_of(app)).kind is Class.AMBIGUOUS


async def test_a_wrong_token_is_the_integrations_fault_and_is_not_shown(
    server: FakeSlack,
) -> None:
    async with open_slack_app(
        SecretStr("xoxb-wrong"), url=server.api_url, pace=timedelta(0), limit=LIMIT
    ) as app:
        failure = await failure_of(app)
        assert failure == Failure(kind=Class.INTEGRATION_BROKEN, detail="invalid_auth")
        with pytest.raises(DeliveryError):
            await app.identity()


async def test_whose_token_it_is_can_be_asked(app: SlackApp) -> None:
    assert await app.identity() == "perennial in Vendor"


def answer(status: int, body: bytes = b"", **headers: str) -> Answered:
    return Answered(status=status, headers=headers, body=body)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>Sign in", Class.AMBIGUOUS),
        (200, b"", Class.AMBIGUOUS),
        (200, b"\xff", Class.AMBIGUOUS),
        (200, b"[]", Class.AMBIGUOUS),
        (200, b'{"ok": "yes"}', Class.AMBIGUOUS),
        (200, b"[" * 100_000, Class.AMBIGUOUS),
        (429, b"", Class.PAUSE),
        (500, b"<html>Something went wrong", Class.TRANSIENT),
        (503, b'{"ok": true}', Class.TRANSIENT),
        (302, b"", Class.TRANSIENT),
        (408, b"", Class.TRANSIENT),
        (401, b"proxy", Class.INTEGRATION_BROKEN),
        (403, b'{"ok": false, "error": "invalid_auth"}', Class.INTEGRATION_BROKEN),
        (413, b"", Class.BAD_MESSAGE),
        (404, b"", Class.DESTINATION_BROKEN),
    ],
)
def test_what_an_answer_means(status: int, body: bytes, kind: Class) -> None:
    read = classify(answer(status, body), now=NOW)
    assert isinstance(read, Failure)
    assert read.kind is kind


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"ok", None),
        (200, b"<html>", Class.AMBIGUOUS),
        (429, b"", Class.PAUSE),
        (500, b"", Class.TRANSIENT),
        (503, b"", Class.TRANSIENT),
        (302, b"", Class.TRANSIENT),
        (400, b"invalid_payload", Class.BAD_MESSAGE),
        (403, b"action_prohibited", Class.DESTINATION_BROKEN),
        (404, b"no_service", Class.DESTINATION_BROKEN),
        (410, b"channel_is_archived", Class.DESTINATION_BROKEN),
    ],
)
def test_what_an_answer_of_the_webhook_means(status: int, body: bytes, kind: Class | None) -> None:
    failure = classify_webhook(answer(status, body), now=NOW)
    assert (failure.kind if failure else None) is kind


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30),
        ("1.5", 1.5),
        ("0", 0),
        ("Mon, 01 Jun 2026 12:01:00 GMT", 60),
        (None, 30),
        ("", 30),
        ("soon", 30),
        ("-5", 30),
        ("nan", 30),
        ("inf", 30),
        ("Mon, 01 Jun 2026 11:00:00 GMT", 30),
        ("9" * 400, 30),
        ("9999999999", 86_400),
        ("Mon, 01 Jun 2026 12:01:00 +99999999999999999999", 30),
    ],
)
def test_retry_after_is_read_in_every_form(value: str | None, seconds: float) -> None:
    assert retry_after(value, now=NOW) == timedelta(seconds=seconds)
