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
from services.notifier.channels import Message
from services.notifier.channels.email import classify, render, server_of
from services.notifier.domain.attempts import Class
from shared.errors import Misconfigured
from tests.unit.notifier.factories import ID, OTHER_ID, message, reason

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


def test_who_how_much_why_until_when_and_a_link_are_in_the_first_two_lines() -> None:
    got = received(message())
    assert got["Subject"] == "Acme Ltd: At risk: EUR 12,340"
    first, second = part(got, "plain").splitlines()[:2]
    assert first == (
        "Acme Ltd: At risk: EUR 12,340 · act by Thu 4 Jun, 16:00"
        " · http://localhost:8082/interventions/1"
    )
    assert second == (
        "Churn risk 31 %: Active on 9 of 90 days; others 41: +0.8."
        " · anna@vendor.example · renews 1 Sep 2026"
    )


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
    assert "&lt;script&gt;" in part(got, "html")


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
        reasons=tuple(reason(said) for said in texts),
    )
    got = received(one)
    assert got["To"] == "anna@vendor.example"
    assert len(got.keys()) == 11
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
