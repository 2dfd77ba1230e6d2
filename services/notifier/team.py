"""The team file: people, teams, whose the accounts are, resellers, the fallback, webhooks."""

from collections.abc import Sequence
from functools import partial
from typing import Final, TypeVar
from urllib.parse import urlsplit

from yaml.nodes import Node, ScalarNode

from services.notifier.domain.calendar import is_known_place, known_zones
from services.notifier.domain.people import (
    Assignment,
    Away,
    Mode,
    Person,
    Roster,
    Team,
    Webhook,
    is_same,
    plain,
)
from services.notifier.playbook_files import CHANNELS, Files
from services.notifier.yaml_files import Document, FileRejected, Section, parse

T = TypeVar("T")

_MOST_PEOPLE = 2_000
_SECTIONS: Final = (
    "fallback",
    "people",
    "teams",
    "assignments",
    "resellers",
    "webhooks",
    "slack_channel",
)


def read(files: Files) -> Roster:
    """Raises FileRejected with all that is wrong with the one file.

    Reads the files of zones and of the countries that it names, so that no calendar does later:
    call it off the loop.
    """
    [(name, content)] = files.items()
    document = Document(name)
    root = parse(document, content)
    roster = None if root is None else _roster(document, root)
    if roster is None or document.problems:
        raise FileRejected(document.problems)
    return roster


def strangers(roster: Roster) -> list[str]:
    """Whom the file names without saying anything about them."""
    named = [roster.fallback_owner, roster.fallback_lead, *roster.resellers.values()]
    named += [address for one in roster.people for address in (one.deputy, one.manager) if address]
    named += [address for one in roster.teams for address in (one.lead, *one.members)]
    named += [one.to for one in roster.assignments if "@" in one.to]
    known = {one.address.lower() for one in roster.people}
    return sorted({one.lower() for one in named} - known)


def _roster(document: Document, root: Node) -> Roster:
    section = document.section(root, _SECTIONS, needed=["fallback"])
    fallback = _fallback(document, section)
    roster = Roster(
        fallback_owner=fallback[0],
        fallback_lead=fallback[1],
        people=section.some("people", partial(_person, document), most=_MOST_PEOPLE),
        teams=section.some("teams", partial(_team, document)),
        assignments=section.some("assignments", partial(_assignment, document)),
        resellers=section.get("resellers", partial(_resellers, document)) or {},
        webhooks=section.some("webhooks", partial(_webhook, document)),
        slack_channel=section.get("slack_channel", document.text),
    )
    if not document.problems:
        # Only now: each entry stands for one node.
        _check_doubles(section, roster)
        _check_assignments(section, roster)
    return roster


def _fallback(document: Document, section: Section) -> tuple[str, str]:
    node = section.entries.get("fallback")
    if node is None:
        return "", ""
    inner = document.section(node, ("owner", "lead"), needed=("owner",))
    owner = inner.get("owner", document.address) or ""
    return owner, inner.get("lead", document.address) or owner


def _person(document: Document, node: Node) -> Person | None:
    section = document.section(node, Person.__struct_fields__, needed=["address"])
    address = section.get("address", document.address)
    slack = section.get("slack", document.text)
    if slack is not None and not (slack.isalnum() and slack[0] in "UW"):
        document.wrong(section.at("slack"), "must be Slack's user id, as U012AB3CD")
    channels = section.some("channels", partial(document.one_of, kind=CHANNELS, what="channel"))
    usual = Person(address=address or "")
    person = Person(
        address=usual.address,
        name=section.get("name", document.text),
        zone=section.get("zone", partial(_zone, document)) or usual.zone,
        opens=_or(section.get("opens", document.time_of_day), usual.opens),
        closes=_or(section.get("closes", document.time_of_day), usual.closes),
        any_hour=section.get("any_hour", document.truth) or False,
        country=section.get("country", document.text),
        region=section.get("region", document.text),
        days_off=section.some("days_off", document.day),
        away=section.some("away", partial(_away, document)),
        deputy=section.get("deputy", document.address),
        manager=section.get("manager", document.address),
        slack=slack,
        channels=channels if "channels" in section.entries else None,
        mode=Mode(
            section.get("mode", partial(document.one_of, kind=Mode, what="mode")) or usual.mode
        ),
        email=_mode(section.get("email", partial(document.one_of, kind=Mode, what="mode"))),
        digest_at=_or(section.get("digest_at", document.time_of_day), usual.digest_at),
    )
    _check_person(section, person)
    return None if address is None else person


def _mode(said: str | None) -> Mode | None:
    return None if said is None else Mode(said)


def _check_person(section: Section, person: Person) -> None:
    document = section.document
    if person.opens >= person.closes:
        document.wrong(section.at("closes"), "closes must be after opens")
    if person.deputy is not None and is_same(person.deputy, person.address):
        document.wrong(section.at("deputy"), "nobody is their own deputy")
    if person.country is None:
        if person.region is not None:
            document.wrong(section.at("region"), "a region needs its country")
    elif not (len(person.country) == 2 and is_known_place(person.country, None)):
        document.wrong(section.at("country"), "must be a country of ISO 3166-1, as DE")
    elif not is_known_place(person.country, person.region):
        document.wrong(
            section.at("region"), f"must be a region of {person.country} with holidays of its own"
        )


def _zone(document: Document, node: Node) -> str | None:
    text = document.text(node)
    if text is not None and text not in known_zones():
        document.wrong(node, "must be a time zone of IANA, as Europe/Berlin")
        return None
    return text


def _away(document: Document, node: Node) -> Away | None:
    """A day, or the first and the last."""
    if isinstance(node, ScalarNode):
        day = document.day(node)
        return None if day is None else Away(first=day, last=day)
    section = document.section(node, ("first", "last"), needed=("first", "last"))
    first, last = section.get("first", document.day), section.get("last", document.day)
    if first is None or last is None:
        return None
    if first > last:
        document.wrong(section.at("last"), "last must not be before first")
    return Away(first=first, last=last)


def _team(document: Document, node: Node) -> Team | None:
    section = document.section(node, Team.__struct_fields__, needed=("name", "lead"))
    name, lead = section.get("name", document.name_of), section.get("lead", document.address)
    members = section.some("members", document.address)
    return None if name is None or lead is None else Team(name=name, lead=lead, members=members)


def _assignment(document: Document, node: Node) -> Assignment | None:
    section = document.section(node, Assignment.__struct_fields__, needed=["to"])
    to = section.get("to", document.text)
    if to is not None and "@" in to:
        to = document.address(section.at("to"))
    if to is None:
        return None
    return Assignment(
        to=to,
        segment=section.some("segment", document.text),
        region=section.some("region", document.text),
        reseller=section.some("reseller", document.text),
    )


def _resellers(document: Document, node: Node) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in document.pairs(node):
        if plain(key.value) in {plain(one) for one in found}:
            document.wrong(key, f"{key.value!r} stands there twice")
        if (address := document.address(value)) is not None:
            found[key.value] = address
    return found


def _webhook(document: Document, node: Node) -> Webhook | None:
    section = document.section(node, Webhook.__struct_fields__, needed=("name", "url"))
    name, url = section.get("name", document.name_of), section.get("url", document.text)
    if url is not None and not _is_https(url):
        document.wrong(section.at("url"), "must be an https:// address")
        return None
    return None if name is None or url is None else Webhook(name=name, url=url)


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and parts.password is None
    except ValueError:
        return False


def _check_doubles(section: Section, roster: Roster) -> None:
    named: tuple[tuple[str, Sequence[str]], ...] = (
        ("people", [one.address.lower() for one in roster.people]),
        ("teams", [one.name for one in roster.teams]),
        ("webhooks", [one.name for one in roster.webhooks]),
    )
    for key, names in named:
        nodes = section.document.items(section.entries[key], most=_MOST_PEOPLE) if names else []
        seen: set[str] = set()
        for node, name in zip(nodes, names, strict=True):
            if name in seen:
                section.document.wrong(node, f"{name!r} stands there twice")
            seen.add(name)


def _check_assignments(section: Section, roster: Roster) -> None:
    if not roster.assignments:
        return
    document = section.document
    nodes = document.items(section.entries["assignments"])
    catch_all = None
    for node, rule in zip(nodes, roster.assignments, strict=True):
        if "@" not in rule.to and roster.team(rule.to) is None:
            document.wrong(node, f"to must be an address or a team's name, not {rule.to!r}")
        if catch_all is not None:
            document.wrong(node, f"never used: the rule of line {catch_all} takes all before it")
        elif rule == Assignment(to=rule.to):
            catch_all = node.start_mark.line + 1


def _or(found: T | None, usual: T) -> T:
    return usual if found is None else found
