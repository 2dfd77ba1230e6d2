"""Messages for Slack stay within its limits and mean nothing but what they say."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.notifier.channels import Item, Message, Thread
from services.notifier.channels.slack_blocks import Payload, render
from services.notifier.channels.slack_modals import close_form, told_form, whisper
from services.notifier.domain.interventions import Status
from services.notifier.domain.policy import NotifyReason
from shared.messages import Band, OutcomeKind, ValueAtRisk
from tests.standins.slack_limits import length, problem_with, problem_with_view, texts_of
from tests.unit.notifier.factories import item, message, reason

HOSTILE = '<!channel> & "x"\r\nBcc: boss@example.com'
URL = "http://localhost:8082/interventions/1"
THREAD = Thread(channel="C1", ts="1700000000.000001")
# What Slack acts on: all of it stands in angle brackets.
ACTIVE = re.compile(r"<[^>]*>")


def blocks(one: Message, *, buttons: bool = True) -> list[Payload]:
    found = render(one, buttons=buttons)["blocks"]
    assert isinstance(found, list)
    return found


def lines(one: Message) -> list[str]:
    text: str = blocks(one)[0]["text"]["text"]
    return text.split("\n")


def pressed(payload: Payload) -> list[dict[str, Any]]:
    rows = [block["elements"] for block in payload["blocks"] if block["type"] == "actions"]
    return [element for row in rows for element in row]


def numbered(number: int, **changes: Any) -> Item:
    return replace(item(**changes), intervention_id=UUID(int=number))


def test_the_first_two_lines_hold_who_how_much_until_when_where_to_click_what_to_do_and_why() -> (
    None
):
    first, second, third = lines(message(next_task="Call them"))
    assert first == f"*Acme Ltd* · *At risk: EUR 12,340* · *act by Thu 4 Jun, 16:00* · <{URL}|Open>"
    assert second == "*Call them* · Churn risk 31 %: Active on 9 of 90 days; others 41: +0.8."
    assert third == "anna@vendor.example · renews 1 Sep 2026"


def test_the_push_text_names_account_severity_value_reason_and_renewal() -> None:
    assert render(message(), buttons=True)["text"] == (
        "Acme Ltd: At risk: EUR 12,340 · Churn risk 31 %: Active on 9 of 90 days; others 41: +0.8."
        " · act by Thu 4 Jun, 16:00 · anna@vendor.example · renews 1 Sep 2026"
    )


@pytest.mark.parametrize(
    ("changes", "shown", "controls"),
    [
        pytest.param({}, "act by Thu 4 Jun", ["acknowledge", "snooze", "close"], id="open"),
        pytest.param(
            {"status": Status.ACKNOWLEDGED, "acknowledged_by": "Bea <Berg>"},
            "*Acknowledged by Bea &lt;Berg&gt;*",
            ["snooze", "close"],
            id="acknowledged",
        ),
        pytest.param(
            {"snoozed_until": datetime(2026, 6, 8, 9, tzinfo=UTC)},
            "*snoozed until Mon 8 Jun, 09:00*",
            ["acknowledge", "close"],
            id="snoozed",
        ),
        pytest.param(
            {"status": Status.ACKNOWLEDGED, "acknowledged_by": "Bea", "recovered": True},
            "*Recovered: EUR 12,340 was at risk*",
            ["close"],
            id="recovered",
        ),
        pytest.param(
            {"status": Status.CLOSED, "outcome": OutcomeKind.SAVED},
            "*Closed: Saved*",
            [],
            id="closed",
        ),
    ],
)
def test_a_message_shows_the_state_and_only_what_can_be_done(
    changes: dict[str, Any], shown: str, controls: list[str]
) -> None:
    payload = render(message(edit=True, thread=THREAD, **changes), buttons=True)
    assert shown in payload["blocks"][0]["text"]["text"]
    assert [element["action_id"] for element in pressed(payload)] == controls


def test_a_control_carries_the_intervention_and_the_version_that_was_seen() -> None:
    first, select, last = pressed(render(message(version=7), buttons=True))
    identity = f"{item().intervention_id}:7"
    assert (first["value"], last["value"]) == (identity, identity)
    assert [option["value"] for option in select["options"]] == [
        f"{identity}:{choice}" for choice in ("1d", "3d", "1w", "notice")
    ]


def test_nobody_can_wait_for_a_renewal_whose_date_is_not_known() -> None:
    _, select, _ = pressed(render(message(renewal_date=None), buttons=True))
    assert [option["value"][-2:] for option in select["options"]] == ["1d", "3d", "1w"]


def test_where_nobody_hears_a_button_there_is_none() -> None:
    assert pressed(render(message(), buttons=False)) == []


def test_a_changed_block_has_a_new_id_and_an_unchanged_one_keeps_its_own() -> None:
    before = blocks(message(items=(numbered(1), numbered(2))))
    after = blocks(message(items=(numbered(1), numbered(2, version=2, risk=0.5))))
    same = [one["block_id"] == other["block_id"] for one, other in zip(before, after, strict=True)]
    #      item 1: text, buttons; item 2: text, buttons; context
    assert same == [True, True, False, False, True]


def test_a_reply_in_a_thread_begins_with_what_has_happened_and_tells_only_the_news() -> None:
    items = (numbered(1, account_name="New"), numbered(2, account_name="Old", is_news=False))
    reply = message(items=items, thread=THREAD, why=NotifyReason.SEVERITY_RAISED)
    assert lines(reply)[0].startswith("It got worse: *New* · ")
    assert "Old" not in json.dumps(blocks(reply))


def test_the_message_above_a_thread_shows_everything() -> None:
    items = (numbered(1, account_name="New"), numbered(2, account_name="Old", is_news=False))
    assert "*Old*" in json.dumps(blocks(message(items=items, thread=THREAD, edit=True)))


@pytest.mark.parametrize(
    ("mention", "begins"),
    [
        ("U02ANNA", "<@U02ANNA> *Acme Ltd*"),
        ("!channel", "*Acme Ltd*"),
        ("U1> <!here", "*Acme Ltd*"),
        ("anna", "*Acme Ltd*"),
        (None, "*Acme Ltd*"),
    ],
)
def test_only_a_slack_id_is_called_by_name(mention: str | None, begins: str) -> None:
    assert lines(message(mention=mention))[0].startswith(begins)


def test_an_edit_calls_nobody() -> None:
    assert "<@" not in lines(message(mention="U02ANNA", edit=True, thread=THREAD))[0]


def test_what_does_not_fit_is_counted_and_leads_to_the_console() -> None:
    one = message(items=tuple(map(numbered, range(60))), more=5)
    found = blocks(one)
    shown = sum("Acme" in json.dumps(block) for block in found)
    assert 5 <= shown < 30  # three blocks each would be 50 after 16
    assert f"<{URL}|+{65 - shown} more in Perennial>" in [
        block["text"]["text"] for block in found if block["type"] == "section"
    ]
    assert problem_with(render(one, buttons=True)) is None


def test_as_many_as_fit_are_shown_however_long_they_are() -> None:
    """24 items of about 1,000 characters would be twice what Slack takes."""
    text = "x" * 400
    long = {"owner": text, "next_task": text, "reasons": (reason(text),), "account_name": text}
    items = tuple(numbered(number, **long | {"owner": f"{number}{text}"}) for number in range(24))
    payload = render(message(items=items), buttons=True)
    assert problem_with(payload) is None
    assert 8 <= sum("x…* · " in one for one in texts_of(payload["blocks"])) < 24
    assert "more in Perennial" in json.dumps(payload)


def test_an_overview_of_several_accounts_has_no_buttons() -> None:
    items = (numbered(1, account_id="a", account_name="A"), numbered(2, account_name="B"))
    payload = render(message(items=items, why=NotifyReason.DIGEST), buttons=True)
    assert pressed(payload) == []
    assert payload["blocks"][0]["text"]["text"].startswith("2 interventions on 2 accounts")


def test_the_owner_of_several_in_one_account_is_named_once() -> None:
    items = (numbered(1), numbered(2), numbered(3, owner="bea@vendor.example"))
    shown = json.dumps(blocks(message(items=items)))
    assert shown.count("anna@vendor.example") == 1
    assert shown.count("bea@vendor.example") == 1


def test_a_test_says_that_it_is_one() -> None:
    payload = render(message(items=(), why=NotifyReason.TEST), buttons=True)
    assert "This is a test" in payload["text"]
    assert problem_with(payload) is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param(
            HOSTILE, '&lt;!channel&gt; &amp; "x" Bcc: boss@example.com', id="mention and header"
        ),
        pytest.param("<https://x|y>", "&lt;https://x|y&gt;", id="link"),
        pytest.param("evil\u202egnp.exe", "evilgnp.exe", id="reads backwards"),
        pytest.param("a\0b\x1b[31mc\u2028d", "ab[31mc d", id="control characters"),
        pytest.param("Ünïcode 神戸 🙂", "Ünïcode 神戸 🙂", id="letters and emoji stay"),
        pytest.param("```code", "'''code", id="no code from here to the next one"),
        pytest.param("x" * 10_000, "x" * 59 + "…", id="10,000 letters"),
        pytest.param("&" * 10_000, "&amp;" * 11 + "…", id="escaped: 11 x 5 + 1 fit into 60"),
        pytest.param("🙂" * 10_000, "🙂" * 29 + "…", id="emoji count twice: 29 x 2 + 1"),
        pytest.param("z" + "\u0335" * 10_000, "z" + "\u0335" * 58 + "…", id="zalgo"),
    ],
)
def test_a_name_is_inert_and_cut_on_its_escaped_length(name: str, shown: str) -> None:
    assert lines(message(account_name=name))[0].startswith(f"*{shown}* · ")


def hostile(text: str, **changes: Any) -> Message:
    """The text in every field that comes from outside."""
    usual: dict[str, Any] = {
        "account_name": text,
        "account_id": text,
        "owner": text,
        "summary": text,
        "next_task": text,
        "acknowledged_by": text,
        "status": Status.ACKNOWLEDGED,
        "value_at_risk": ValueAtRisk(amount=Decimal(1), currency=text, basis="mrr"),
        "reasons": (reason(text, unit=text), reason(f"other {text}")),
    }
    return message(**(usual | changes))


@pytest.mark.parametrize("text", [HOSTILE, "<https://x|y>", "<@U1><!here><#C1>", "&lt;!channel>"])
@pytest.mark.parametrize("why", [NotifyReason.FIRST, NotifyReason.DIGEST])
@pytest.mark.parametrize("plain", [True, False])
def test_only_our_own_links_are_active(text: str, why: NotifyReason, *, plain: bool) -> None:
    payload = render(hostile(text, why=why, plain=plain), buttons=True)
    active = [found for one in (payload["text"], *texts_of(payload.get("blocks", [])))
              for found in ACTIVE.findall(one)]  # fmt: skip
    assert set(active) <= {f"<{URL}|Open>", f"<{URL}>"}
    assert active
    shown = json.dumps(payload)
    assert shown.count('"verbatim": true') == shown.count('"mrkdwn"')


TEXTS = st.text(max_size=80) | st.sampled_from([HOSTILE, "&" * 3_000, "<@U1>" * 99, "🙂" * 999])
ITEMS = st.builds(
    item,
    intervention_id=st.uuids(),
    account_name=TEXTS,
    account_id=st.sampled_from(["a", "b"]) | TEXTS,
    owner=TEXTS,
    summary=TEXTS,
    next_task=st.none() | TEXTS,
    acknowledged_by=st.none() | TEXTS,
    status=st.sampled_from(Status),
    severity=st.sampled_from(Band),
    recovered=st.booleans(),
    is_news=st.booleans(),
    outcome=st.none() | st.sampled_from(OutcomeKind),
    snoozed_until=st.none() | st.just(datetime(2026, 6, 8, 9, tzinfo=UTC)),
    version=st.integers(1, 2**31 - 1),
    reasons=st.lists(TEXTS.map(reason), max_size=6).map(tuple),
)


@settings(max_examples=60)
@given(
    items=st.lists(ITEMS, max_size=3).map(lambda some: tuple(some) * 9),
    text=TEXTS,
    why=st.sampled_from(NotifyReason),
    more=st.integers(0, 10**6),
    thread=st.sampled_from([None, THREAD]),
    edit=st.booleans(),
    plain=st.booleans(),
    buttons=st.booleans(),
)
def test_slack_takes_whatever_the_texts_are_and_acts_on_none(
    items: tuple[Item, ...],
    text: str,
    why: NotifyReason,
    more: int,
    thread: Thread | None,
    *,
    edit: bool,
    plain: bool,
    buttons: bool,
) -> None:
    one = message(items=items, text=text, why=why, more=more, thread=thread, edit=edit, plain=plain)
    payload = json.loads(json.dumps(render(one, buttons=buttons)))
    assert problem_with(payload, edited=edit) is None
    assert "edit" not in payload
    for shown in (payload["text"], *texts_of(payload.get("blocks", []))):
        ours = shown.replace(f"<{URL}|", "").replace(f"<{URL}>", "")
        assert "<" not in ours


def test_an_account_whose_id_cannot_be_seen_leaves_no_empty_block() -> None:
    one = message(items=(item(account_id="\u200b"),), thread=THREAD)
    assert problem_with(json.loads(json.dumps(render(one, buttons=False))), edited=False) is None


@settings(max_examples=30)
@given(items=ITEMS, notice=TEXTS)
def test_a_form_and_a_word_in_private_are_taken_too(items: Item, notice: str) -> None:
    target, said = f"{items.intervention_id}:{items.version}", f"Done: {notice}"
    for view in (close_form(items, target=target, notice=said), told_form(said, items)):
        assert problem_with_view(json.loads(json.dumps(view))) is None
    assert problem_with(whisper(said, items)) is None


def test_more_reasons_than_fit_are_counted() -> None:
    one = message(reasons=tuple(reason(f"reason {number}") for number in range(9)))
    assert "+4 more in Perennial" in json.dumps(blocks(one))


def test_plain_text_has_no_blocks_and_still_the_link() -> None:
    payload = render(message(plain=True), buttons=True)
    assert "blocks" not in payload
    assert str(payload["text"]).endswith(f"\n<{URL}>")


def test_a_plain_edit_takes_the_blocks_away() -> None:
    assert render(message(plain=True, edit=True, thread=THREAD), buttons=True)["blocks"] == []


def test_the_push_text_of_an_edit_is_short_enough_in_bytes() -> None:
    """Of `chat.update`: 4,000 bytes, and a letter may take three."""
    payload = render(hostile("神" * 5_000), buttons=True)
    assert length(payload["text"]) < 1_300
    assert len(payload["text"].encode()) < 4_000
