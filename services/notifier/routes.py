"""Where whoever has the work is reached: which destinations an intervention has.

`slack:webhook`, `slack:<id of a channel or a person>` (by bot), `email:<address>`,
`webhook:<name>`, `apprise:<name>`. A place of one person goes by that person's hours and
preferences; one that several share goes by nobody's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.notifier.composing import Place
from services.notifier.domain.interventions import Intervention
from services.notifier.domain.people import Person, Roster, is_mail_address

SLACK: Final = "slack"
EMAIL: Final = "email"
WEBHOOK: Final = "webhook"
APPRISE: Final = "apprise"
CHANNELS: Final = (SLACK, EMAIL, WEBHOOK, APPRISE)
NOWHERE: Final = Place(channel="none", destination="none", recipient="")
_SLACK_WEBHOOK = Place(channel=SLACK, destination="slack:webhook", recipient="")
_USUAL = (SLACK, EMAIL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Which ways there are to reach somebody: the operator's choice."""

    slack_webhook: bool = False
    slack_bot: bool = False
    email: bool = False
    webhook: bool = False
    apprise: tuple[str, ...] = ()
    """Names of its receivers."""


def places_of(subject: Intervention, roster: Roster, ways: Ways) -> Sequence[Place]:
    """The playbook's channels that exist and that its owner wants; empty: nobody can be told."""
    owner = roster.person(subject.owner)
    wanted = subject.playbook.channels if subject.playbook else _USUAL
    if owner.channels is not None:
        wanted = tuple(one for one in wanted if one.partition(":")[0] in owner.channels)
    found = [place for name in wanted for place in _places(name, owner, roster, ways)]
    # That nothing is left of a choice must not mean that nobody is told.
    return found or reach(subject.owner, roster, ways)


def reach(address: str, roster: Roster, ways: Ways) -> Sequence[Place]:
    """One person, by the first way that there is to them, else by one that is shared."""
    person = roster.person(address)
    for name in _USUAL:
        found = [
            place
            for place in _places(name, person, roster, ways)
            if place.recipient or name == EMAIL
        ]
        if found:
            return found[:1]
    return list(_places(SLACK, person, roster, ways))[:1]


def reach_by_mail(address: str, roster: Roster, ways: Ways) -> Place | None:
    """One person, by what is read at leisure: e-mail, else whatever is theirs alone."""
    if ways.email and is_mail_address(address):
        return _mail(address)
    return next((place for place in reach(address, roster, ways) if place.recipient), None)


def _places(name: str, owner: Person, roster: Roster, ways: Ways) -> Iterator[Place]:
    """The places of one channel, or of `channel:receiver`."""
    channel, _, only = name.partition(":")
    match channel:
        case "slack":
            yield from _of_slack(owner, roster, ways)
        case "email" if ways.email:
            # An owner without a usable address must not mean that nobody is told.
            usable = is_mail_address(owner.address)
            yield _mail(owner.address if usable else roster.fallback_owner)
        case "webhook" if ways.webhook:
            yield from _named(WEBHOOK, [one.name for one in roster.webhooks], only)
        case "apprise":
            yield from _named(APPRISE, ways.apprise, only)


def _of_slack(owner: Person, roster: Roster, ways: Ways) -> Iterator[Place]:
    if ways.slack_webhook:
        yield _SLACK_WEBHOOK
    elif ways.slack_bot and roster.slack_channel:
        yield _slack(roster.slack_channel, "")
    elif ways.slack_bot and owner.slack:
        yield _slack(owner.slack, owner.address)


def _mail(address: str) -> Place:
    address = address.lower()
    return Place(channel=EMAIL, destination=f"{EMAIL}:{address}", recipient=address)


def _slack(identity: str, recipient: str) -> Place:
    return Place(channel=SLACK, destination=f"{SLACK}:{identity}", recipient=recipient.lower())


def _named(channel: str, names: Sequence[str], only: str) -> Iterator[Place]:
    for name in names:
        if only in ("", name):
            yield Place(channel=channel, destination=f"{channel}:{name}", recipient="")
