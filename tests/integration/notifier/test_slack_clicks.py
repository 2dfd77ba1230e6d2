"""What is pressed in Slack: the right state, the right answer, once, and no 500."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier.slack_interactivity import PATH
from services.notifier.tables import timeline
from shared.messages import Band
from tests.integration.notifier.rig import AT_ONCE, NOW, OWNER, boss, flag
from tests.integration.notifier.slack_rig import BEA, BEAS, SlackRig, open_slack_rig
from tests.standins.slack import FakeSlack, Hang, refused
from tests.standins.slack_presses import press, signed, submit


@pytest.fixture
async def rig(engine: AsyncEngine, slack: FakeSlack) -> AsyncIterator[SlackRig]:
    async with open_slack_rig(engine, slack) as opened:
        yield opened


async def entries(rig: SlackRig, entry: str) -> int:
    async with rig.rig.engine.connect() as connection:
        statement = select(func.count()).where(timeline.c.kind == entry)
        return await connection.scalar(statement) or 0


async def waiting(rig: SlackRig) -> list[tuple[str, datetime]]:
    rows = await rig.rig.deliveries()
    return [(row.kind, row.due_at) for row in rows if row.state == "pending"]


def shown_state(rig: SlackRig) -> str:
    text: str = rig.slack.parents[0].payload["blocks"][0]["text"]["text"]
    return text


async def test_acknowledging_shows_in_the_message_at_once(rig: SlackRig) -> None:
    shown = await rig.tell()
    answer = await rig.press(shown, "acknowledge")
    assert (answer.status_code, answer.content) == (200, b"")
    row = await rig.intervention()
    assert (row.status, row.acknowledged_by) == ("acknowledged", OWNER)
    assert f"*Acknowledged by {OWNER}*" in shown_state(rig)
    assert len(rig.slack.posted) == 1
    assert rig.slack.whispered == []


async def test_a_double_click_does_it_once_and_says_nothing(rig: SlackRig) -> None:
    shown = await rig.tell()
    first, second = press(shown, "acknowledge", user="U0ANNA"), press(
        shown, "acknowledge", user="U0ANNA"
    )  # fmt: skip
    answers = await asyncio.gather(rig.ask(signed(first, at=NOW)), rig.ask(signed(second, at=NOW)))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert await entries(rig, "acknowledged") == 1
    assert rig.slack.whispered == []


async def test_a_replayed_request_changes_nothing(rig: SlackRig) -> None:
    shown = await rig.tell()
    sent = signed(press(shown, "acknowledge", user="U0ANNA"), at=NOW)
    answers = [await rig.ask(sent) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert await entries(rig, "acknowledged") == 1
    assert (await rig.intervention()).version == 2
    assert rig.slack.whispered == []


@pytest.mark.parametrize(
    ("choice", "until"),
    [
        # NOW is Monday 1 June 2026; nobody's zone but UTC, where work begins at nine.
        pytest.param("1d", "2026-06-02T09:00:00+00:00", id="tomorrow"),
        pytest.param("3d", "2026-06-04T09:00:00+00:00", id="three days"),
        pytest.param("1w", "2026-06-08T09:00:00+00:00", id="a week"),
    ],
)
async def test_a_snooze_ends_when_the_owner_begins_to_work(
    rig: SlackRig, choice: str, until: str
) -> None:
    shown = await rig.tell()
    await rig.press(shown, "snooze", choose=choice)
    row = await rig.intervention()
    assert row.snoozed_until.isoformat() == until
    assert "snoozed until" in shown_state(rig)


async def test_a_snooze_ends_on_a_working_day(rig: SlackRig) -> None:
    shown = await rig.tell()
    rig.rig.hands.now = NOW + timedelta(days=4)  # Friday; a day later is Saturday
    await rig.say(press(shown, "snooze", user="U0ANNA", choose="1d"), at=rig.rig.hands.now)
    assert (await rig.intervention()).snoozed_until.isoformat() == "2026-06-08T09:00:00+00:00"


async def test_a_snooze_that_may_not_be_is_refused_with_its_reason(rig: SlackRig) -> None:
    """Until 7 days before the renewal of 1 September: 85 days, and 60 is the most."""
    shown = await rig.tell()
    await rig.press(shown, "snooze", choose="notice")
    assert (await rig.intervention()).snoozed_until is None
    [said] = rig.slack.whispered
    assert "longer than 60 days" in said["text"]
    assert said["user"] == "U0ANNA"


async def test_snoozing_twice_is_snoozing_once(rig: SlackRig) -> None:
    shown = await rig.tell()
    for _ in range(2):
        await rig.ask(signed(press(shown, "snooze", user="U0ANNA", choose="1d"), at=NOW))
    assert await entries(rig, "snoozed") == 1
    assert rig.slack.whispered == []


async def test_a_replay_after_it_was_undone_does_not_do_it_again(rig: SlackRig) -> None:
    sent = signed(press(await rig.tell(), "snooze", user="U0ANNA", choose="1d"), at=NOW)
    await rig.ask(sent)
    row = await rig.intervention()
    await rig.rig.steps.wake(row.id, version=row.version, by=boss(BEAS))
    assert (await rig.ask(sent)).status_code == 200
    assert (await rig.intervention()).snoozed_until is None
    assert rig.slack.whispered == []


async def test_closing_asks_how_it_ended(rig: SlackRig) -> None:
    shown = await rig.tell()
    answer = await rig.press(shown, "close")
    assert answer.status_code == 200
    [view] = rig.slack.views
    assert "*Acme Ltd*" in json.dumps(view)
    assert (await rig.intervention()).status == "open"
    answer = await rig.submit("saved", "They stay.")
    assert (answer.status_code, answer.content) == (200, b"")
    row = await rig.intervention()
    assert (row.status, row.outcome, row.note, row.closed_by) == (
        "closed", "saved", "They stay.", OWNER,
    )  # fmt: skip
    assert "*Closed: Saved*" in shown_state(rig)
    assert not [one for one in rig.slack.parents[0].payload["blocks"] if one["type"] == "actions"]


async def test_a_form_that_lacks_something_stays_open_and_says_what(rig: SlackRig) -> None:
    await rig.press(await rig.tell(), "close")
    for outcome, note, field in (
        (None, "x", "outcome"),
        ("won", "x", "outcome"),
        ("false_alarm", None, "note"),
        ("churned", " \n", "note"),
        ("downsold", "", "note"),
        ("churned", "\u202e\0", "note"),
    ):
        answer = (await rig.submit(outcome, note)).json()
        assert answer["response_action"] == "errors"
        assert list(answer["errors"]) == [field]
    assert (await rig.intervention()).status == "open"


async def test_a_form_sent_off_twice_closes_once(rig: SlackRig) -> None:
    await rig.press(await rig.tell(), "close")
    for _ in range(2):
        answer = await rig.submit("saved")
        assert (answer.status_code, answer.content) == (200, b"")
    assert await entries(rig, "closed") == 1


async def test_a_form_about_what_has_changed_shows_what_is_so_and_asks_again(
    rig: SlackRig,
) -> None:
    await rig.press(await rig.tell(), "close")
    worse = NOW + timedelta(hours=1)
    await rig.rig.take(flag(change="updated", as_of=worse, band=Band.CRITICAL, risk=0.6))
    answer = (await rig.submit("saved")).json()
    assert answer["response_action"] == "update"
    assert "It has changed meanwhile" in json.dumps(answer["view"])
    assert "Critical" in json.dumps(answer["view"])
    assert (await rig.intervention()).status == "open"
    answer = (
        await rig.say(submit(answer["view"], user="U0ANNA", outcome="saved"))
    )  # fmt: skip
    assert answer.content == b""
    assert (await rig.intervention()).status == "closed"


async def test_a_form_about_what_somebody_else_closed_says_so(rig: SlackRig) -> None:
    shown = await rig.tell()
    await rig.press(shown, "close")
    await rig.submit("churned", "They left.", user=BEA)
    answer = (await rig.submit("saved")).json()
    assert answer["response_action"] == "update"
    assert "closed already" in json.dumps(answer["view"])
    assert (await rig.intervention()).outcome == "churned"


async def test_where_slack_opens_no_form_the_link_is_given(rig: SlackRig) -> None:
    rig.slack.scripts["views.open"].append(refused("expired_trigger_id"))
    await rig.press(await rig.tell(), "close")
    [said] = rig.slack.whispered
    row = await rig.intervention()
    assert f"<http://localhost:8082/interventions/{row.id}|Open>" in json.dumps(said["blocks"])


@pytest.mark.parametrize("action", ["acknowledge", "snooze", "close"])
async def test_pressing_what_is_closed_says_so_and_shows_it(rig: SlackRig, action: str) -> None:
    shown = await rig.tell()
    late = press(shown, action, user="U0ANNA", choose="1d" if action == "snooze" else None)
    await rig.press(shown, "close", user=BEA)
    await rig.submit("saved", user=BEA)
    await rig.say(late)
    [said] = rig.slack.whispered
    assert "closed already" in said["text"]
    assert "*Closed: Saved*" in json.dumps(said["blocks"])
    assert (await rig.intervention()).closed_by == BEAS
    assert rig.slack.views[1:] == []


async def test_pressing_what_has_changed_shows_it_with_buttons_that_work(rig: SlackRig) -> None:
    shown = await rig.tell()
    early = press(shown, "acknowledge", user="U0ANNA")
    worse = NOW + timedelta(hours=1)
    await rig.rig.take(flag(change="updated", as_of=worse, band=Band.CRITICAL, risk=0.6))
    await rig.say(early)
    assert (await rig.intervention()).status == "open"
    [said] = rig.slack.whispered
    assert "It has changed" in said["text"]
    assert "Critical" in json.dumps(said["blocks"])
    assert "Critical" in shown_state(rig)
    shown.payload = said
    await rig.press(shown, "acknowledge")
    assert (await rig.intervention()).status == "acknowledged"


async def test_pressing_what_has_changed_brings_the_message_up_to_date_at_once(
    engine: AsyncEngine, slack: FakeSlack
) -> None:
    """A new score is no news: the message follows an hour later, but not for who looks at it."""
    async with open_slack_rig(
        engine, slack, timing=replace(AT_ONCE, debounce=timedelta(hours=1))
    ) as rig:
        shown = await rig.tell()
        early = press(shown, "acknowledge", user="U0ANNA")
        later = NOW + timedelta(minutes=1)
        await rig.rig.take(flag(change="updated", as_of=later, risk=0.32))
        assert await waiting(rig) == [("update", NOW + timedelta(hours=1))]
        await rig.ask(signed(early, at=NOW))
        assert await waiting(rig) == [("update", NOW)]


async def test_a_click_in_a_thread_is_answered_there(rig: SlackRig) -> None:
    shown = await rig.tell()
    worse = NOW + timedelta(hours=1)
    await rig.rig.take(flag(change="updated", as_of=worse, band=Band.CRITICAL, risk=0.6))
    await rig.rig.send_all()
    [reply] = rig.slack.replies_to(shown)
    await rig.press(reply, "snooze", choose="notice")
    assert rig.slack.whispered[0]["thread_ts"] == shown.ts


async def test_a_stranger_is_told_so_and_changes_nothing(rig: SlackRig) -> None:
    shown = await rig.tell()
    for action in ("acknowledge", "close"):
        assert (await rig.press(shown, action, user="U0NOBODY")).status_code == 200
    assert (await rig.intervention()).status == "open"
    assert rig.slack.views == []
    assert ["U0NOBODY" in said["text"] for said in rig.slack.whispered] == [True, True]


async def test_a_strangers_form_changes_nothing(rig: SlackRig) -> None:
    await rig.press(await rig.tell(), "close")
    answer = (await rig.submit("saved", user="U0NOBODY")).json()
    assert "U0NOBODY" in json.dumps(answer["view"])
    assert (await rig.intervention()).status == "open"


async def test_a_button_that_is_not_ours_is_politely_declined(rig: SlackRig) -> None:
    shown = await rig.tell()
    for changes in (
        {"action_id": "launch"},
        {"value": ""},
        {"value": "acme:1"},
        {"value": f"{'-' * 36}:1"},
        {"value": "00000000-0000-0000-0000-000000000000:1"},
        {"value": "'; drop table interventions; --"},
        {"value": "x" * 100_000},
        {"value": "a\0b"},
    ):
        payload = press(shown, "acknowledge", user="U0ANNA")
        payload["actions"][0] |= changes
        said = len(rig.slack.whispered)
        assert (await rig.say(payload)).status_code == 200, changes
        assert len(rig.slack.whispered) == said + 1, changes
    assert (await rig.intervention()).version == 1


async def test_that_slack_does_not_take_the_word_harms_nobody(rig: SlackRig) -> None:
    shown = await rig.tell()
    rig.slack.scripts["chat.postEphemeral"].append(refused("user_not_in_channel"))
    assert (await rig.press(shown, "acknowledge", user="U0NOBODY")).status_code == 200
    assert (await rig.press(shown, "acknowledge")).status_code == 200
    assert (await rig.intervention()).status == "acknowledged"


async def test_slack_has_its_answer_before_it_is_asked_for_anything(rig: SlackRig) -> None:
    """The form hangs at Slack's side; the answer must not wait for it."""
    rig.slack.scripts["views.open"].append(Hang(seconds=30))
    shown = await rig.tell()
    sent = signed(press(shown, "close", user="U0ANNA"), at=NOW)
    answered = asyncio.Event()
    app: Any = rig.client._transport.app  # type: ignore[attr-defined]

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": sent.body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            answered.set()

    headers = [(name.encode(), value.encode()) for name, value in sent.headers.items()]
    scope = {"type": "http", "method": "POST", "path": PATH, "headers": headers}
    task = asyncio.create_task(app(scope, receive, send))
    async with asyncio.timeout(1):
        await answered.wait()
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


PRESS = {
    "type": "block_actions",
    "user": {"id": "U0ANNA"},
    "actions": [{"action_id": "acknowledge", "value": "x", "action_ts": "1"}],
}


def form(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return b"payload=" + quote_from_bytes(raw).encode()


# Whose rows are named, as each would else cost a database of its own.
BODIES = {
    "well formed": (form(json.dumps(PRESS)), 200),
    "of no interest": (form('{"type":"view_closed","user":{"id":"U"}}'), 200),
    "another form": (form('{"type":"view_submission","user":{"id":"U"},"view":{"id":"V"}}'), 200),
    "empty": (b"", 400),
    "empty payload": (b"payload=", 400),
    "no payload": (b"other=1", 400),
    "two payloads": (form("{}") + b"&" + form("{}"), 400),
    "bare JSON": (b'{"type":"block_actions"}', 400),
    "not JSON": (form("{"), 400),
    "null": (form("null"), 400),
    "a list": (form("[]"), 400),
    "a number": (form("7"), 400),
    "deep": (form("[" * 200_000), 400),
    "deep where nobody reads": (form('{"type":"x","more":' + "[" * 200_000), 400),
    "nobody": (form('{"type":"block_actions"}'), 400),
    "not an id": (form('{"type":"block_actions","user":{"id":7}}'), 400),
    "no action": (form('{"type":"block_actions","user":{"id":"U"}}'), 400),
    "no view": (form('{"type":"view_submission","user":{"id":"U"}}'), 400),
    "odd state": (
        form(
            '{"type":"view_submission","user":{"id":"U0ANNA"},"view":{"id":"V","callback_id":'
            '"close","state":{"values":{"outcome":[]}}}}'
        ),
        400,
    ),
    "half a surrogate": (form('{"type":"\\ud800","user":{"id":"U"}}'), 400),
    "escaped, not UTF-8": (form(b'{"type":"\xff","user":{"id":"U"}}'), 400),
    "not UTF-8": (b"payload=\xff\xfe", 400),
    "broken escape": (b"payload=%zz", 400),
    "zeroes": (b"\0" * 1_000, 400),
    "too long": (b"payload=" + b"x" * 1_048_576, 413),
}


async def test_a_signed_body_is_understood_or_refused(rig: SlackRig) -> None:
    answered = {
        name: (await rig.ask(signed(body, at=NOW))).status_code
        for name, (body, _) in BODIES.items()
    }
    assert answered == {name: status for name, (_, status) in BODIES.items()}


SIGNATURES: dict[str, tuple[int, dict[str, str], int]] = {
    "more than 5 minutes old": (-301, {}, 401),
    "more than 5 minutes ahead": (301, {}, 401),
    "wrong signature": (0, {"x_slack_signature": "v0=" + "0" * 64}, 401),
    "empty signature": (0, {"x_slack_signature": ""}, 401),
    "another version": (0, {"x_slack_signature": "v1=00"}, 401),
    "not ASCII": (0, {"x_slack_signature": "v0=\u00e9"}, 401),
    "not a time": (0, {"x_slack_request_timestamp": "soon"}, 401),
    "a long time": (0, {"x_slack_request_timestamp": "9" * 400}, 401),
    "a digit, some say": (0, {"x_slack_request_timestamp": "\u00b2"}, 401),
    "a float": (0, {"x_slack_request_timestamp": "1e9"}, 401),
    "before all time": (0, {"x_slack_request_timestamp": "-1"}, 401),
    "another type": (0, {"content_type": "application/json"}, 415),
    "no type": (0, {"content_type": ""}, 415),
}


async def test_what_slack_did_not_sign_lately_is_not_heard(rig: SlackRig) -> None:
    shown = await rig.tell()
    answered = {}
    for name, (late, headers, _) in SIGNATURES.items():
        payload = press(shown, "acknowledge", user="U0ANNA")
        sent = signed(payload, at=NOW + timedelta(seconds=late), **headers)
        raw = [(one.encode(), value.encode("latin-1")) for one, value in sent.headers.items()]
        answer = await rig.client.post(PATH, content=sent.body, headers=raw)
        answered[name] = answer.status_code
    assert answered == {name: status for name, (_, _, status) in SIGNATURES.items()}
    assert (await rig.intervention()).version == 1


@pytest.mark.parametrize("late", [-299, 299])
async def test_clocks_may_differ_by_nearly_five_minutes(rig: SlackRig, late: int) -> None:
    payload = press(await rig.tell(), "acknowledge", user="U0ANNA")
    assert (await rig.say(payload, at=NOW + timedelta(seconds=late))).status_code == 200
    assert (await rig.intervention()).status == "acknowledged"


async def test_another_secret_is_refused(rig: SlackRig) -> None:
    sent = signed(PRESS, at=NOW, secret="another secret of the same length")
    assert (await rig.ask(sent)).status_code == 401


async def test_a_body_that_was_changed_is_refused(rig: SlackRig) -> None:
    sent = signed(PRESS, at=NOW)
    answer = await rig.client.post(PATH, content=sent.body + b"&x=1", headers=sent.headers)
    assert answer.status_code == 401


async def test_a_header_that_is_missing_or_comes_twice_is_refused(rig: SlackRig) -> None:
    sent = signed(PRESS, at=NOW)
    for name in ("x-slack-signature", "x-slack-request-timestamp"):
        twice = [*sent.headers.items(), (name, sent.headers[name])]
        without = [(one, value) for one, value in sent.headers.items() if one != name]
        for headers in (twice, without):
            answer = await rig.client.post(PATH, content=sent.body, headers=headers)
            assert answer.status_code == 401


async def test_only_a_post_is_heard(rig: SlackRig) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        answer = await rig.client.request(method, PATH)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_all_other_ways_lead_to_the_console(rig: SlackRig) -> None:
    for path in ("/", f"{PATH}/", "/slack", f"/x{PATH}"):
        assert (await rig.client.post(path)).text == "console"


async def test_a_database_that_is_away_is_said_to_slack(rig: SlackRig) -> None:
    """Slack then shows that it failed; to say nothing would look as if it were done."""
    shown = await rig.tell()
    async with rig.rig.engine.connect() as connection:
        await connection.exec_driver_sql("lock table notifier.agenda in access exclusive mode")
        answer = await rig.ask(signed(press(shown, "acknowledge", user="U0ANNA"), at=NOW))
    assert answer.status_code == 503
    assert (await rig.intervention()).status == "open"
