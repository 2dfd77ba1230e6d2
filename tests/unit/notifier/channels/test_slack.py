"""Messages for Slack stay within its limits and mean nothing but what they say."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.channels import Message
from services.notifier.channels.slack import classify, render, retry_after
from services.notifier.domain.attempts import Class
from shared.messages import ValueAtRisk
from tests.standins.slack import problem_with
from tests.unit.notifier.factories import message, reason

HOSTILE = '<!channel> & "x"\r\nBcc: boss@example.com'
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def lines(one: Message) -> list[str]:
    blocks = render(one)["blocks"]
    assert isinstance(blocks, list)
    text: str = blocks[0]["text"]["text"]
    return text.split("\n")


def test_who_how_much_why_until_when_and_a_link_are_in_the_first_two_lines() -> None:
    first, second = lines(message())
    assert first == (
        "*Acme Ltd* · *At risk: EUR 12,340* · *act by Thu 4 Jun, 16:00* ·"
        " <http://localhost:8082/interventions/1|Open in Perennial>"
    )
    assert second == (
        "Churn risk 31 %: Active on 9 of 90 days; others 41: +0.8."
        " · anna@vendor.example · renews 1 Sep 2026"
    )


def test_the_push_text_says_it_all() -> None:
    assert render(message())["text"] == (
        "Acme Ltd: At risk: EUR 12,340 · Churn risk 31 %: Active on 9 of 90 days; others 41: +0.8."
        " · act by Thu 4 Jun, 16:00 · anna@vendor.example · renews 1 Sep 2026"
    )


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
    ],
)
def test_a_name_is_inert(name: str, shown: str) -> None:
    assert lines(message(account_name=name))[0].startswith(f"*{shown}* · ")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param("x" * 10_000, "x" * 199 + "…", id="letters"),
        pytest.param("&" * 10_000, "&amp;" * 39 + "…", id="escaped: 39 x 5 + 1 fit into 200"),
        pytest.param("🙂" * 10_000, "🙂" * 99 + "…", id="emoji count twice: 99 x 2 + 1"),
    ],
)
def test_a_long_name_is_cut_on_its_escaped_length(name: str, shown: str) -> None:
    assert lines(message(account_name=name))[0].startswith(f"*{shown}* · ")


def test_only_our_own_link_is_active() -> None:
    everything = json.dumps(
        render(
            message(
                account_name=HOSTILE,
                owner=HOSTILE,
                summary=HOSTILE,
                account_id=HOSTILE,
                reasons=(reason(HOSTILE), reason(f"other {HOSTILE}")),
                value_at_risk=ValueAtRisk(amount=Decimal(1), currency="<!x>", basis="mrr"),
            )
        )
    )
    assert everything.count("<") == everything.count("<http://localhost:8082/")
    assert everything.count('"verbatim": true') == everything.count('"mrkdwn"')


@given(
    text=st.text(max_size=4_000),
    texts=st.lists(st.text(max_size=3_000), max_size=8),
    plain=st.booleans(),
)
def test_slack_takes_whatever_the_texts_are(text: str, texts: list[str], *, plain: bool) -> None:
    one = message(
        account_name=text,
        owner=text,
        summary=text,
        account_id=text,
        reasons=tuple(reason(said) for said in texts),
        plain=plain,
    )
    payload = json.loads(json.dumps(render(one)))
    assert problem_with(payload) is None


def test_more_reasons_than_fit_are_counted() -> None:
    one = message(reasons=tuple(reason(f"reason {number}") for number in range(9)))
    assert "+4 more in Perennial" in json.dumps(render(one))


def test_plain_text_has_no_blocks_and_still_the_link() -> None:
    payload = render(message(plain=True))
    assert "blocks" not in payload
    assert str(payload["text"]).endswith("\nhttp://localhost:8082/interventions/1")


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
def test_what_an_answer_means(status: int, body: bytes, kind: Class | None) -> None:
    failure = classify(status, httpx.Headers(), body, now=NOW)
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
    ],
)
def test_retry_after_is_read_in_every_form(value: str | None, seconds: float) -> None:
    assert retry_after(value, now=NOW) == timedelta(seconds=seconds)
