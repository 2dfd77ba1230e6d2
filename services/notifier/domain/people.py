"""Who works here: people with their hours, teams, whose work is whose, and the fallback.

What the team file says (`services/notifier/team.py` reads it); people are named by their e-mail
address, in upper or lower case.
"""

import re
from collections.abc import Mapping
from datetime import date, time
from enum import StrEnum
from functools import cached_property

import msgspec

_WORD = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9-]+"
_ADDRESS = re.compile(
    rf"(?=[^@]{{1,64}}@[^@]{{1,190}}\Z){_WORD}(?:\.{_WORD})*@{_LABEL}(?:\.{_LABEL})*"
)


class Mode(StrEnum):
    """How often somebody wants to be told."""

    REAL_TIME = "real_time"
    DAILY = "daily"
    WEEKLY = "weekly"
    NEVER = "never"


class Away(msgspec.Struct, frozen=True, kw_only=True):
    first: date
    last: date


class Person(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One person; who is not in the team file has these defaults."""

    address: str
    name: str | None = None
    zone: str = "UTC"
    opens: time = time(9)
    closes: time = time(18)
    """Messages that can wait come between these, on working days, by the person's own clock."""
    any_hour: bool = False
    """Messages come whenever there is something to say: they are on call, or nobody knows their
    hours. Due dates go by working days all the same."""
    country: str | None = None
    """ISO 3166-1: public holidays and the weekend."""
    region: str | None = None
    """ISO 3166-2 without the country."""
    days_off: tuple[date, ...] = ()
    away: tuple[Away, ...] = ()
    deputy: str | None = None
    manager: str | None = None
    slack: str | None = None
    """Slack's user id, `U...`: for direct messages, mentions and clicks."""
    channels: tuple[str, ...] | None = None
    """Which of the playbook's; None: all."""
    mode: Mode = Mode.REAL_TIME
    email: Mode | None = None
    """How often by e-mail, where that is another than `mode`."""
    digest_at: time = time(8, 30)

    def mode_at(self, channel: str) -> Mode:
        return self.email if channel == "email" and self.email is not None else self.mode

    def is_away(self, day: date) -> bool:
        return any(one.first <= day <= one.last for one in self.away)


class Preference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a person has chosen for themselves; None: as the team file says."""

    mode: Mode | None = None
    email: Mode | None = None
    channels: tuple[str, ...] | None = None
    zone: str | None = None
    opens: time | None = None
    closes: time | None = None
    digest_at: time | None = None


class Team(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    lead: str
    members: tuple[str, ...] = ()


class Assignment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whose the accounts are that name no owner; the first that matches holds."""

    to: str
    """A person's address, or a team's name: the member with the fewest open interventions."""
    segment: tuple[str, ...] = ()
    region: tuple[str, ...] = ()
    reseller: tuple[str, ...] = ()


class Webhook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A receiver of Standard Webhooks; secrets stand in the environment, never here."""

    name: str
    url: str


class Roster(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """The whole team file."""

    fallback_owner: str
    """Has what belongs to nobody; mandatory."""
    fallback_lead: str
    people: tuple[Person, ...] = ()
    teams: tuple[Team, ...] = ()
    assignments: tuple[Assignment, ...] = ()
    resellers: dict[str, str] = {}
    """The owner of each reseller's accounts."""
    webhooks: tuple[Webhook, ...] = ()
    slack_channel: str | None = None
    """Where the bot posts; None: a direct message to the owner."""

    def person(self, address: str) -> Person:
        return self._people.get(address.lower()) or stranger(address)

    def team(self, name: str) -> Team | None:
        return self._teams.get(name)

    def team_of(self, address: str) -> Team | None:
        """The first they are a member of."""
        return self._members.get(address.lower())

    def reseller_owner(self, reseller: str | None) -> str | None:
        return self._resellers.get(plain(reseller or ""))

    # Asked many times for each decision, of thousands of people.
    @cached_property
    def _people(self) -> Mapping[str, Person]:
        return {one.address.lower(): one for one in reversed(self.people)}

    @cached_property
    def _teams(self) -> Mapping[str, Team]:
        return {team.name: team for team in reversed(self.teams)}

    @cached_property
    def _members(self) -> Mapping[str, Team]:
        return {one.lower(): team for team in reversed(self.teams) for one in team.members}

    @cached_property
    def _resellers(self) -> Mapping[str, str]:
        return {plain(name): owner for name, owner in self.resellers.items()}


def stranger(address: str) -> Person:
    """Somebody of whom the team file says nothing: to guess their hours would delay their work."""
    return Person(address=address, any_hour=True)


def alone(address: str) -> Roster:
    """Where there is no team file: all is one person's."""
    return Roster(fallback_owner=address, fallback_lead=address)


def preferring(roster: Roster, wanted: Mapping[str, Preference]) -> Roster:
    """`wanted`: by address in lower case; also of people who are not in the team file."""
    if not wanted:
        return roster
    named = {one.address.lower() for one in roster.people}
    others = tuple(stranger(one) for one in sorted(wanted.keys() - named))
    people = tuple(
        _preferring(one, wanted.get(one.address.lower())) for one in (*roster.people, *others)
    )
    return msgspec.structs.replace(roster, people=people)


def _preferring(person: Person, wanted: Preference | None) -> Person:
    chosen = {} if wanted is None else msgspec.structs.asdict(wanted)
    said = {name: value for name, value in chosen.items() if value is not None}
    if said.get("opens", person.opens) >= said.get("closes", person.closes):
        # They were chosen beside others of the team file's: no day would ever begin.
        said = {name: value for name, value in said.items() if name not in {"opens", "closes"}}
    if said.keys() & {"opens", "closes", "zone"}:
        said["any_hour"] = False
    return msgspec.structs.replace(person, **said)


def is_mail_address(text: str) -> bool:
    """Whether it is a plain ASCII address: what is odd goes to somebody else instead."""
    return _ADDRESS.fullmatch(text) is not None


def is_same(one: str, other: str) -> bool:
    """Whether two addresses are one person's."""
    return one.lower() == other.lower()


def plain(text: str) -> str:
    """A name of the directory (segment, region, reseller) as it is compared."""
    return text.strip().casefold()
