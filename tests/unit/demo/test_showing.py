import io
from email.message import EmailMessage

from rich.console import Console

from services.demo.catchers import Catchers, CaughtMail, Payload
from services.demo.readings import ScoredAccount, Value, Why
from services.demo.showing import (
    show_accounts,
    show_flags,
    show_messages,
    show_where_to_look,
    slack_text,
)

BLOCKS: Payload = {
    "text": "fallback",
    "blocks": [
        {"type": "header", "text": {"type": "plain_text", "text": "Alder &amp; Co at risk"}},
        {"type": "divider"},
        {"type": "section", "text": {"type": "mrkdwn", "text": "*Why*"}, "fields": [
            {"type": "mrkdwn", "text": "risk 61 %"}, {"type": "mrkdwn", "text": "9 of 90 days"},
        ]},
        {"type": "actions", "elements": [
            {"type": "button", "text": {"type": "plain_text", "text": "Open"}, "url": "http://c/1"},
        ]},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "as of 18 Nov"}]},
    ],
}  # fmt: skip


def shown(width: int = 120) -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, width=width), screen


def account(**changes: object) -> ScoredAccount:
    fields: dict[str, object] = {"account_id": "alder", "state": "scored", **changes}
    return ScoredAccount(**fields)  # type: ignore[arg-type]


def test_a_slack_message_reads_from_top_to_bottom() -> None:
    assert slack_text(BLOCKS).splitlines() == [
        "Alder & Co at risk",
        "*Why*",
        "risk 61 %",
        "9 of 90 days",
        "[Open] http://c/1",
        "as of 18 Nov",
    ]
    assert slack_text({"text": "only text"}) == "only text"
    assert slack_text({"text": "<http://c/1|Open &lt;it&gt;> now"}) == "Open <it> (http://c/1) now"


def test_the_message_about_the_account_most_at_risk_is_shown() -> None:
    console, screen = shown()
    mail = EmailMessage()
    mail["From"] = "perennial@example.com"
    mail["Subject"] = "Alder & Co"
    mail.set_content("Call [Alder & Co].")
    catchers = Catchers(slack_count=2, mail_count=1)
    catchers.slack.extend([{"text": "about Birch"}, BLOCKS])
    catchers.mails.append(CaughtMail(sender="p", recipients=("amara@example.com",), message=mail))
    show_messages(console, catchers, [account(name="Alder & Co"), account(name="Birch")])
    said = screen.getvalue()
    assert "9 of 90 days" in said
    assert "about Birch" not in said
    assert "1 of 2" in said
    assert "Call [Alder & Co]." in said
    assert "amara@example.com" in said


def test_where_nobody_needed_to_be_told_again_it_says_so() -> None:
    console, screen = shown()
    show_messages(console, Catchers(), [])
    assert screen.getvalue().startswith("No new message")


def test_the_table_has_risk_value_and_reasons_in_words() -> None:
    console, screen = shown()
    value = Value(amount="12345.60", currency="EUR", basis="margin")
    reasons = [Why(text="Active on 9 of 90 days"), Why(text="[bold]no markup[/]\x1b[2J")]
    show_accounts(
        console,
        [
            account(name="Alder", risk=0.614, band="at_risk", value_at_risk=value, reasons=reasons),
            account(account_id="new-one", state="too_new"),
        ],
    )
    said = screen.getvalue()
    assert "61%" in said
    assert "at risk" in said
    assert "12,346 EUR" in said
    assert "Active on 9 of 90 days" in said
    assert "[bold]no markup[/]" in said
    assert "\x1b" not in said
    assert "too new" in said
    assert "Accounts most at risk, by risk of leaving in 90 days" in said
    assert "others: the median of the accounts of its segment, or of all; +1.9: what" in said


def test_open_flags_are_counted_by_their_names_the_most_frequent_first() -> None:
    console, screen = shown()
    show_flags(console, {"gone_silent": 14, "churn_risk": 20, "payment_failed": 1})
    assert screen.getvalue() == "Open flags: 20 churn risk, 14 gone silent, 1 payment failed\n"
    show_flags(console, {})
    assert screen.getvalue().count("\n") == 1


def test_an_owners_address_is_not_cut() -> None:
    console, screen = shown(width=80)
    why = [Why(text="Active on 9 of 180 days; others 86: +2.7.")]
    owner = "elena.navarro@example.com"
    show_accounts(console, [account(owner=owner, risk=0.5, band="critical", reasons=why)])
    assert owner in screen.getvalue()


def test_the_lines_that_make_and_use_a_key_can_be_copied() -> None:
    console, screen = shown(width=60)
    show_where_to_look(
        console,
        console_url="http://127.0.0.1:8082",
        scoring_url="http://127.0.0.1:8081",
        perennial="PERENNIAL_DATA_DIR=.perennial/demo .venv/bin/perennial",
    )
    lines = [line.strip() for line in screen.getvalue().splitlines()]
    assert (
        "KEY=$(PERENNIAL_DATA_DIR=.perennial/demo .venv/bin/perennial keys create --source me"
        " --scope accounts:read --plain)" in lines
    )
    assert (
        'curl -s "http://127.0.0.1:8081/v1/accounts?sort=risk&limit=3"'
        ' -H "Authorization: Bearer $KEY"' in lines
    )
