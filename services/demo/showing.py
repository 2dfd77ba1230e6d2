"""What the demo prints: the accounts at risk in a table, messages as a CSM would get them."""

import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from services.demo.catchers import Catchers, CaughtMail, Payload
from services.demo.readings import ScoredAccount, Value
from services.importing.report import printable

M = TypeVar("M")

_REASONS = 3
_ADDRESS_WIDTH = 26
_LINK = re.compile(r"<(https?://[^|>\s]+)\|([^>]+)>")
_BAND_STYLES: Mapping[str, str] = {"critical": "bold red", "at_risk": "red", "watch": "yellow"}


def show_accounts(console: Console, accounts: Sequence[ScoredAccount]) -> None:
    """A line of explanation below: the reasons' words are short, so that they fit a message."""
    title = "Accounts most at risk, by risk of leaving in 90 days"
    table = Table(title=title, title_justify="left", show_lines=True)
    # Folded, not cut, where it is narrow: an address without its end is none.
    table.add_column("Account", min_width=_ADDRESS_WIDTH, overflow="fold")
    table.add_column("Risk", justify="right", no_wrap=True)
    table.add_column("Value at risk", justify="right", no_wrap=True)
    table.add_column("Why")
    for account in accounts:
        lines = [account.name or account.account_id]
        lines += [
            part
            for part in (
                account.plan,
                account.owner,
                f"renews {account.renewal_date}" if account.renewal_date else None,
            )
            if part
        ]
        band = account.band or account.state
        risk = "-" if account.risk is None else f"{account.risk:.0%}"
        table.add_row(
            _plain("\n".join(lines)),
            Text(f"{risk}\n{band.replace('_', ' ')}", style=_BAND_STYLES.get(band, "")),
            _money(account.value_at_risk),
            _plain("\n".join(reason.text for reason in account.reasons[:_REASONS])),
        )
    console.print(table)
    console.print(
        "segment, others: the median of the accounts of its segment, or of all;"
        " +1.9: what it adds to the log-odds of leaving\n",
        highlight=False,
    )


def show_flags(console: Console, flags: Mapping[str, int]) -> None:
    """How many flags there are of each kind; nothing where there are none."""
    ranked = sorted(flags.items(), key=lambda one: (-one[1], one[0]))
    said = ", ".join(f"{count} {printable(reason.replace('_', ' '))}" for reason, count in ranked)
    if said:
        console.print(f"Open flags: {said}", highlight=False, markup=False)


def show_messages(console: Console, catchers: Catchers, accounts: Sequence[ScoredAccount]) -> None:
    """One Slack message and one e-mail, about the account most at risk that there is one of."""
    if not catchers.slack and not catchers.mails:
        console.print("No new message: the owners were told in an earlier run on this data.")
    names = [account.name for account in accounts if account.name]
    payload = _about(catchers.slack, slack_text, names)
    if payload is not None:
        title = f"Slack, as the channel gets it (1 of {catchers.slack_count})"
        console.print(Panel(_plain(slack_text(payload)), title=title, title_align="left"))
    mail = _about(catchers.mails, mail_text, names)
    if mail is not None:
        heading = Text.assemble(
            ("From:    ", "dim"), printable(str(mail.message["From"])), "\n",
            ("To:      ", "dim"), printable(", ".join(mail.recipients)), "\n",
            ("Subject: ", "dim"), (printable(str(mail.message["Subject"])), "bold"), "\n",
        )  # fmt: skip
        title = f"E-mail, as the owner gets it (1 of {catchers.mail_count})"
        body = Group(heading, _plain(mail_text(mail)))
        console.print(Panel(body, title=title, title_align="left"))


def show_where_to_look(
    console: Console, *, console_url: str, scoring_url: str, perennial: str
) -> None:
    """`perennial` is the command line that makes keys for the demo's data, up to its arguments."""
    console.print(f"\nThe console, where CSMs work: [bold link]{escape(console_url)}[/]")
    console.print("The scores as an API, with a key of your own:")
    make_key = f"KEY=$({perennial} keys create --source me --scope accounts:read --plain)"
    ask = f'curl -s "{scoring_url}/v1/accounts?sort=risk&limit=3" -H "Authorization: Bearer $KEY"'
    for line in (make_key, ask):
        # Never wrapped: it is there to be copied.
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def slack_text(payload: Payload) -> str:
    """The words of a message, block by block; its fallback text where it has no blocks."""
    blocks = payload.get("blocks")
    if not isinstance(blocks, list):
        attachments = payload.get("attachments")
        found = list(_texts(attachments)) if isinstance(attachments, list) else []
        lines = [str(payload.get("text", "")), *found]
    else:
        lines = list(_texts(blocks))
    text = "\n".join(line for line in lines if line)
    # Slack's `<url|words>` is a link; a terminal needs both to be seen.
    return html.unescape(_LINK.sub(r"\2 (\1)", text))


def mail_text(mail: CaughtMail) -> str:
    body = mail.message.get_body(preferencelist=("plain", "html"))
    return "" if body is None else str(body.get_content()).strip()


def _texts(node: object) -> Iterable[str]:
    """Every `text` of Slack's blocks, in reading order; a button with where it leads."""
    if isinstance(node, list):
        for child in node:
            yield from _texts(child)
    elif isinstance(node, dict):
        text = node.get("text")
        if node.get("type") == "button" and isinstance(text, dict):
            yield f"[{text.get('text', '')}] {node.get('url', '')}".rstrip()
            return
        if isinstance(text, str):
            yield text
        for name in ("text", "fields", "elements", "accessory", "blocks"):
            if isinstance(node.get(name), list | dict):
                yield from _texts(node[name])


def _about(messages: Iterable[M], text: Callable[[M], str], names: Sequence[str]) -> M | None:
    """The first message about the first of `names` that any is about; else the first at all."""
    told = [(message, text(message)) for message in messages]
    for name in names:
        for message, words in told:
            if name in words:
                return message
    return told[0][0] if told else None


def _money(value: Value | None) -> str:
    if value is None:
        return "-"
    per = "of margin" if value.basis == "margin" else "of price"
    return f"{Decimal(str(value.amount)):,.0f} {printable(value.currency)}\n{per}"


def _plain(text: str) -> Text:
    """Text as it is: no markup, no control characters for the terminal."""
    return Text("\n".join(map(printable, text.splitlines())))
