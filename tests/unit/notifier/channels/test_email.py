"""E-mails: nothing from outside reaches a header or the markup; ids never change."""

import email
from email.message import EmailMessage
from email.policy import SMTP, default

import aiosmtplib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.notifier import templates
from services.notifier.channels import Message, wording
from services.notifier.channels.email import classify, server_of
from services.notifier.channels.letter import render
from services.notifier.domain.attempts import Class
from services.notifier.domain.interventions import Status
from services.notifier.domain.policy import NotifyReason
from shared.errors import Misconfigured
from shared.messages import FlagReason
from tests.unit.notifier.factories import ID, OTHER_ID, item, message, reason

TEMPLATES = templates.load("services.notifier.channels")
HOSTILE = '<!channel> & "x"\r\nBcc: boss@example.com\r\n\r\n<script>alert(1)</script>'


def received(one: Message) -> EmailMessage:
    """The message as it is after the way through SMTP."""
    sent = render(one, sender="perennial@vendor.example", templates=TEMPLATES)
    parsed = email.message_from_bytes(sent.as_bytes(policy=SMTP), policy=default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def part(one: EmailMessage, kind: str) -> str:
    body = one.get_body((kind,))
    assert body is not None
    return str(body.get_content())


def test_who_how_much_why_until_when_what_to_do_and_a_link_are_in_the_first_two_lines() -> None:
    got = received(message(next_task="Call the sponsor"))
    assert got["Subject"] == "Acme Ltd: At risk: EUR 12,340"
    first, second = part(got, "plain").splitlines()[:2]
    assert first == (
        "Acme Ltd: At risk: EUR 12,340 · Churn risk 31 %: Active on 9 of 90 days; others 41: +0.8."
    )
    assert second == (
        "Act by Thu 4 Jun, 16:00: Call the sponsor · http://localhost:8082/interventions/1"
    )


def test_the_html_says_the_same_without_a_picture_or_a_script() -> None:
    page = part(received(message(next_task="Call the sponsor")), "html")
    said = ["Acme Ltd", "At risk: EUR 12,340", "Churn risk 31 %", "Act by Thu 4 Jun, 16:00"]
    said += ["Call the sponsor", 'href="http://localhost:8082/interventions/1"']
    places = [page.index(one, page.index("<body")) for one in said]
    assert places == sorted(places)
    assert all(mark not in page for mark in ("<img", "<script", "url(", "@import", "src="))


def test_news_come_first_and_the_others_beside_them() -> None:
    old = item(reason=FlagReason.SUPPORT_STRAIN, is_news=False, reasons=(reason("3 tickets"),))
    also = item(reason=FlagReason.SEATS_IDLE, reasons=(reason("9 of 20 seats idle"),))
    text = part(received(message(items=(old, item(), also), more=2)), "plain")
    order = ["Churn risk 31 %", "Also new:", "9 of 20 seats", "Also open:", "3 tickets", "+ 2 more"]
    places = [text.index(one) for one in order]
    assert places == sorted(places)


def test_a_digest_stands_by_account_in_the_order_given() -> None:
    items = (
        item(account_id="b", account_name="Beta"),
        item(account_id="a", account_name="Alpha"),
        item(account_id="b", account_name="Beta", reason=FlagReason.SEATS_IDLE),
    )
    one = received(
        message(items=items, why=NotifyReason.DIGEST, text="Friday, 5 June", url="http://x/")
    )
    assert one["Subject"] == "Digest: 3 interventions on 2 accounts: EUR 24,681 at risk"
    lines = part(one, "plain").splitlines()
    assert lines[0].endswith("first: Beta: At risk: EUR 12,340, Churn risk 31 %")
    assert [line for line in lines if line in ("Beta", "Alpha")] == ["Beta", "Alpha"]
    assert "Friday, 5 June" in lines


def test_a_test_message_has_nothing_to_do() -> None:
    got = received(message(items=(), why=NotifyReason.TEST))
    assert got["Subject"] == "Perennial: test"
    assert part(got, "plain").startswith("This is a test: whoever reads it is reached.")
    assert "This is a test" in part(got, "html")


@pytest.mark.parametrize("why", list(NotifyReason))
@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_reason_has_its_line_in_both_parts(why: NotifyReason, count: int) -> None:
    got = received(message(why=why, items=(item(),) * count))
    line = wording.WHY[why] if count or why is not NotifyReason.TEST else wording.TEST
    assert line in part(got, "plain")
    assert line in part(got, "html")


def test_one_click_ends_it_and_a_console_without_encryption_offers_no_click() -> None:
    token = "https://console.vendor.example/unsubscribe/" + "x" * 150
    raw = render(
        message(unsubscribe_url=token), sender="perennial@vendor.example", templates=TEMPLATES
    ).as_bytes()
    # On one line and bare: a folded or encoded one is read by nobody.
    assert f"\r\nList-Unsubscribe: <{token}>\r\n".encode() in raw
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in raw
    got = received(message(unsubscribe_url=token))
    assert token in part(got, "plain")
    assert f'href="{token}"' in part(got, "html")
    assert received(message(unsubscribe_url="http://x/u"))["List-Unsubscribe-Post"] is None
    assert received(message())["List-Unsubscribe"] is None


def test_ids_stay_whole_however_long_the_domain_is() -> None:
    domain = f"{'a' * 60}.{'b' * 60}.example"
    raw = render(message(), sender=f"perennial@{domain}", templates=TEMPLATES).as_bytes(policy=SMTP)
    for name, id_ in (("References", OTHER_ID), ("In-Reply-To", OTHER_ID), ("Message-ID", ID)):
        assert f"\r\n{name}: <{id_}@{domain}>\r\n".encode() in raw


def test_ids_are_those_of_the_delivery_and_of_the_intervention() -> None:
    got = received(message())
    assert got["Message-ID"] == f"<{ID}@vendor.example>"
    assert got["References"] == got["In-Reply-To"] == f"<{OTHER_ID}@vendor.example>"
    assert got["Auto-Submitted"] == "auto-generated"
    assert received(message())["Message-ID"] == got["Message-ID"]


def test_hostile_text_is_neither_header_nor_markup() -> None:
    everything = message(
        account_name=HOSTILE, owner=HOSTILE, summary=HOSTILE, account_id=HOSTILE, reasons=()
    )
    got = received(everything)
    assert got["Bcc"] is None
    assert set(got.keys()) == set(received(message()).keys())
    assert "<script>" not in part(got, "html")
    assert "&lt;\u2060script&gt;" in part(got, "html")
    assert "boss@example" not in part(got, "html") + part(got, "plain")


def test_bidi_controls_are_removed_and_long_names_are_cut() -> None:
    got = received(message(account_name="a\u202eb" + "x" * 10_000))
    assert "\u202e" not in got["Subject"]
    assert got["Subject"].startswith("ab" + "x" * 77 + "…: ")


@given(st.text(max_size=500), st.lists(st.text(max_size=300), max_size=8))
def test_any_text_makes_a_message_that_can_be_sent(text: str, texts: list[str]) -> None:
    one = message(
        account_name=text,
        owner=text,
        summary=text,
        account_id=text,
        next_task=text,
        acknowledged_by=text,
        status=Status.ACKNOWLEDGED,
        reasons=tuple(reason(said) for said in texts),
    )
    got = received(one)
    assert got["To"] == "anna@vendor.example"
    assert len(got.keys()) == 11
    assert len(got["Subject"].splitlines()) == 1
    assert all(len(line) <= 998 for line in got.as_bytes().splitlines())


def test_plain_is_text_alone() -> None:
    assert received(message(plain=True)).get_body(("html",)) is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example:2525", ("mail.example", 2525, False, True)),
        ("smtp://mail.example", ("mail.example", 587, False, True)),
        ("smtps://mail.example", ("mail.example", 465, True, False)),
        ("smtp://127.0.0.1:1025", ("127.0.0.1", 1025, False, False)),
        ("smtp://[::1]:1025", ("::1", 1025, False, False)),
        ("smtp://localhost?starttls=required", ("localhost", 587, False, True)),
        ("smtp://relay.example:25?starttls=never", ("relay.example", 25, False, False)),
    ],
)
def test_encryption_is_required_except_on_this_machine(
    url: str, expected: tuple[str, int, bool, bool]
) -> None:
    server = server_of(SecretStr(url))
    assert (server.host, server.port, server.tls_at_connect, server.start_tls) == expected


def test_user_and_password_are_decoded() -> None:
    server = server_of(SecretStr("smtp://me%40x:p%2Fw@mail.example"))
    assert server.user == "me@x"
    assert server.password is not None
    assert server.password.get_secret_value() == "p/w"


@pytest.mark.parametrize(
    "url", ["http://mail.example", "smtp://", "smtp://u:secret@h:port", "smtp://h?tls=1"]
)
def test_a_wrong_url_is_named_without_its_password(url: str) -> None:
    with pytest.raises(Misconfigured, match="SMTP_URL") as caught:
        server_of(SecretStr(url))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "in_data", "kind"),
    [
        (aiosmtplib.SMTPConnectError("refused"), False, Class.TRANSIENT),
        (aiosmtplib.SMTPConnectResponseError(421, "busy"), False, Class.PAUSE),
        (aiosmtplib.SMTPConnectResponseError(554, "go away"), False, Class.INTEGRATION_BROKEN),
        (aiosmtplib.SMTPServerDisconnected("gone"), False, Class.TRANSIENT),
        (aiosmtplib.SMTPException("STARTTLS not supported"), False, Class.INTEGRATION_BROKEN),
        (aiosmtplib.SMTPAuthenticationError(535, "no"), False, Class.INTEGRATION_BROKEN),
        (aiosmtplib.SMTPAuthenticationError(454, "later"), False, Class.TRANSIENT),
        (aiosmtplib.SMTPSenderRefused(530, "TLS first", "x"), False, Class.INTEGRATION_BROKEN),
        (aiosmtplib.SMTPDataError(451, "later"), True, Class.TRANSIENT),
        (aiosmtplib.SMTPDataError(421, "closing"), True, Class.PAUSE),
        (aiosmtplib.SMTPDataError(554, "spam"), True, Class.BAD_MESSAGE),
        (aiosmtplib.SMTPServerDisconnected("gone"), True, Class.AMBIGUOUS),
        (aiosmtplib.SMTPReadTimeoutError("slow"), True, Class.AMBIGUOUS),
        (TimeoutError(), True, Class.AMBIGUOUS),
        (TimeoutError(), False, Class.TRANSIENT),
    ],
)
def test_what_a_failure_means(error: Exception, kind: Class, *, in_data: bool) -> None:
    assert classify(error, in_data=in_data).kind is kind
