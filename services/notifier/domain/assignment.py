"""Whose an account's work is, and why theirs.

Account's owner -> their deputy while they are away -> the reseller's owner -> the first rule of the
team file that matches -> the fallback queue. Who is away without a deputy is passed over: work must
not wait for a holiday to end. An address that cannot be one counts as none.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.notifier.domain.calendar import calendar_of
from services.notifier.domain.people import (
    Assignment,
    Roster,
    Team,
    is_mail_address,
    is_same,
    plain,
)
from services.notifier.domain.playbooks import Who
from shared.messages import AccountFields


class Because(StrEnum):
    """Why it is theirs; told in the timeline."""

    ACCOUNT = "account"
    """The directory names them."""
    RESELLER = "reseller"
    """The account's reseller is theirs."""
    RULE = "rule"
    """A rule of the team file names them."""
    TEAM = "team"
    """A rule names their team, and they have the fewest open interventions."""
    FALLBACK = "fallback"
    """It is nobody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    owner: str
    because: Because
    stands_in_for: str | None = None
    """Whose deputy the owner is, while that person is away."""
    team: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """One place in the order above: people of whom the first that is there has it."""

    addresses: tuple[str, ...]
    because: Because
    team: Team | None = None


def assign(
    fields: AccountFields,
    roster: Roster,
    *,
    now: datetime,
    open_counts: Mapping[str, int],
    rule: Who = Who.OWNER,
) -> Assigned:
    """Who has the account's work, for a playbook whose owner is `rule`.

    `open_counts`: open interventions by address in lower case; who is missing has none.
    """
    found = _first_there(fields, roster, now=now, open_counts=open_counts)
    if rule is Who.OWNER:
        return found
    other = whom(rule, owner=found.owner, reseller=fields.reseller, roster=roster, now=now)
    if is_same(other, found.owner):
        return found
    because = Because.RESELLER if rule is Who.RESELLER else found.because
    return Assigned(owner=other, because=because)


def whom(who: Who, *, owner: str, reseller: str | None, roster: Roster, now: datetime) -> str:
    """The address that `who` means for an intervention of `owner`: always a usable one.

    A manager that nobody has named is the lead of the owner's team, else of the fallback queue.
    """
    match who:
        case Who.OWNER:
            return owner
        case Who.DEPUTY:
            wanted = roster.person(owner).deputy or owner
        case Who.MANAGER:
            team = roster.team_of(owner)
            wanted = roster.person(owner).manager or (team.lead if team else roster.fallback_lead)
        case Who.LEAD:
            wanted = roster.fallback_lead
        case Who.RESELLER:
            wanted = roster.reseller_owner(reseller) or owner
    return _there(wanted, roster, now=now) or wanted


def is_in_fallback_queue(owner: str, fields: AccountFields, roster: Roster) -> bool:
    """Whether `owner` has it for want of anybody else: nothing names them."""
    if not is_same(owner, roster.fallback_owner):
        return False
    named = (address for route in _routes(fields, roster, {}) for address in route.addresses)
    return not any(is_same(owner, address) for address in named)


def _first_there(
    fields: AccountFields, roster: Roster, *, now: datetime, open_counts: Mapping[str, int]
) -> Assigned:
    for route in _routes(fields, roster, open_counts):
        for address in route.addresses:
            owner = _there(address, roster, now=now)
            if owner is None:
                continue
            return Assigned(
                owner=owner,
                because=route.because,
                stands_in_for=None if is_same(owner, address) else roster.person(address).address,
                team=route.team.name if route.team else None,
            )
    last = roster.fallback_owner
    owner = _there(last, roster, now=now) or last
    return Assigned(
        owner=owner,
        because=Because.FALLBACK,
        stands_in_for=None if is_same(owner, last) else last,
    )


def _routes(
    fields: AccountFields, roster: Roster, open_counts: Mapping[str, int]
) -> Iterator[_Route]:
    owner = (fields.owner or "").strip()
    if is_mail_address(owner):
        yield _Route(addresses=(owner,), because=Because.ACCOUNT)
    if partner := roster.reseller_owner(fields.reseller):
        yield _Route(addresses=(partner,), because=Because.RESELLER)
    for rule in roster.assignments:
        if not _matches(rule, fields):
            continue
        team = roster.team(rule.to)
        if team is None:
            yield _Route(addresses=(rule.to,), because=Because.RULE)
            continue
        # In the file's order among equals; the lead where no member is there.
        members = sorted(team.members, key=lambda one: open_counts.get(one.lower(), 0))
        yield _Route(addresses=(*members, team.lead), because=Because.TEAM, team=team)


def _matches(rule: Assignment, fields: AccountFields) -> bool:
    pairs = (
        (rule.segment, fields.segment),
        (rule.region, fields.region),
        (rule.reseller, fields.reseller),
    )
    return all(
        not wanted or (is_now is not None and plain(is_now) in {plain(one) for one in wanted})
        for wanted, is_now in pairs
    )


def _there(address: str, roster: Roster, *, now: datetime) -> str | None:
    """They, or who stands in for them today; None where nobody does."""
    tried: set[str] = set()
    while address.lower() not in tried:
        tried.add(address.lower())
        person = roster.person(address)
        if not person.is_away(calendar_of(person).day_of(now)):
            return person.address
        if person.deputy is None:
            return None
        address = person.deputy
    return None
