"""What an e-mail says: headers for machines, and the same words as text and as HTML.

Every text from outside is one clean line in which no mail client finds a link, before it enters a
header or a template. Who, how much, why, until when, what to do and where stand in two lines.
"""

from dataclasses import dataclass
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from email.utils import format_datetime
from urllib.parse import urlsplit

import jinja2

from services.notifier.channels import Item, Message, wording
from services.notifier.domain.people import is_mail_address
from services.notifier.domain.policy import NotifyReason
from shared.messages import Band
from shared.traceparent import trace_id

_NAME = 120
_LINE = 600
_REASONS = 6
# Enough for a CSM's day; clients cut an e-mail at 100 kB.
_ITEMS = 40
_OPPORTUNITY = "opportunity"
_RECOVERED = "recovered"


class Unfolded(UnstructuredHeader, BaseHeader):
    """A header for machines: folding would encode what is longer than a line, and break it."""

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self}{policy.linesep}"


_REGISTRY = HeaderRegistry()
for _name in ("References", "In-Reply-To", "List-Unsubscribe"):
    _REGISTRY.map_to_type(_name, Unfolded)
POLICY = SMTP.clone(header_factory=_REGISTRY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One intervention as the templates show it; every field is inert text."""

    name: str
    account_id: str
    headline: str
    tone: str
    cause: str
    why: str
    deadline: str
    todo: str
    whose: str
    state: str
    reasons: tuple[str, ...]
    """Sentences, the strongest first; none where nothing is left to do."""
    more_reasons: int
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The interventions of one account."""

    name: str
    lines: tuple[Line, ...]


def render(message: Message, *, sender: str, templates: jinja2.Environment) -> EmailMessage:
    """The whole e-mail."""
    domain = sender.rpartition("@")[2]
    content = EmailMessage(policy=POLICY)
    content["From"] = Address("Perennial", addr_spec=sender)
    content["To"] = Address(addr_spec=message.to)
    content["Subject"] = wording.title(message)
    content["Date"] = format_datetime(message.created_at)
    content["Message-ID"] = f"<{message.delivery_id}@{domain}>"
    # A root that is never sent: all messages of a conversation hang on it.
    root = f"<{message.root}@{domain}>"
    content["In-Reply-To"] = root
    content["References"] = root
    content["Auto-Submitted"] = "auto-generated"
    content["X-Auto-Response-Suppress"] = "All"
    if message.traceparent is not None:
        # For who looks for the event behind it; it says nothing of anybody.
        content["X-Perennial-Trace"] = trace_id(message.traceparent)
    if message.unsubscribe_url is not None:
        content["List-Unsubscribe"] = f"<{message.unsubscribe_url}>"
        # RFC 8058 speaks of https only: a mail server would have to post in the clear.
        if urlsplit(message.unsubscribe_url).scheme == "https":
            content["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    content.set_content(as_text(message, templates), cte="quoted-printable")
    if not message.plain:
        page = templates.get_template("message.html").render(_view(message))
        content.add_alternative(page, subtype="html", cte="quoted-printable")
    return content


def as_text(message: Message, templates: jinja2.Environment) -> str:
    """The text part, which stands for itself wherever there is nothing but text."""
    return templates.get_template("message.txt").render(_view(message))


def _view(message: Message) -> dict[str, object]:
    shown = message.items[:_ITEMS]
    overview = bool(shown) and wording.is_overview(message)
    about, others = wording.news(message), wording.beside(message)
    lead = _line(about[0]) if shown else None
    return {
        "title": wording.unlinked(wording.title(message)),
        "told": wording.WHY[message.why],
        "is_test": message.why is NotifyReason.TEST,
        "test": wording.TEST,
        "text": _inert(message.text),
        "overview": wording.overview(message) if overview else "",
        "lead": lead,
        "news": [_line(one) for one in about[1:_ITEMS]] if not overview else [],
        "others": [_line(one) for one in others[:_ITEMS]] if not overview else [],
        "groups": [_group(items) for items in wording.by_account(shown)] if overview else [],
        "more": message.more + len(message.items) - len(shown),
        "url": message.url,
        "unsubscribe_url": message.unsubscribe_url,
    }


def _group(items: tuple[Item, ...]) -> Group:
    lines = tuple(_line(one) for one in items)
    return Group(name=lines[0].name, lines=lines)


def _line(item: Item) -> Line:
    evidence = wording.evidence(item)
    return Line(
        name=_inert(wording.name(item), _NAME),
        account_id=_inert(item.account_id, _NAME),
        headline=_inert(wording.headline(item)),
        tone=_tone(item),
        cause=_inert(wording.cause(item)),
        why=_inert(wording.why(item)),
        deadline=_inert(wording.deadline(item)),
        todo=_inert(wording.todo(item)),
        whose=_ours(wording.whose(item), item.owner),
        state=_ours(wording.state(item), item.acknowledged_by or ""),
        reasons=tuple(map(_inert, evidence[:_REASONS])),
        more_reasons=max(0, len(evidence) - _REASONS),
        url=item.url,
    )


def _tone(item: Item) -> str:
    """The colour of the headline, which never stands for itself."""
    if item.recovered or item.outcome is not None:
        return _RECOVERED
    if wording.headline(item) == wording.OPPORTUNITY:
        return _OPPORTUNITY
    return Band.WATCH.value if item.severity is Band.HEALTHY else item.severity.value


def _ours(text: str, person: str) -> str:
    """A colleague's address may be a link; what else stands in its place may not."""
    shown = wording.cut(text, _LINE)
    return shown if is_mail_address(person) else wording.unlinked(shown)


def _inert(text: str, limit: int = _LINE) -> str:
    return wording.unlinked(wording.cut(wording.clean(text), limit))
