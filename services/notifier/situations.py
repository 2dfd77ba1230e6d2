"""What is known of accounts at one moment, and how each destination stands to it; reads only."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, any_, bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import notice_rows, silences, store
from services.notifier.composing import Place
from services.notifier.domain.calendar import calendar_of
from services.notifier.domain.decisions import Decision, Hearer, Timing, decide
from services.notifier.domain.interventions import Intervention, Status
from services.notifier.domain.members import Sight, member_of
from services.notifier.domain.notice import Member, Notice
from services.notifier.domain.people import Roster
from services.notifier.domain.policy import Mute, Storm, SuppressReason, Surroundings, why_muted
from services.notifier.domain.silences import Silence, silenced_until
from services.notifier.intervention_rows import intervention_of
from services.notifier.routes import EMAIL, SLACK, Ways, places_of
from services.notifier.store import Account
from services.notifier.tables import among, interventions
from services.notifier.taking import Staff
from shared.messages import AccountFields

_SUBJECTS = (
    select(interventions)
    .where(
        interventions.c.account_id == any_(bindparam("accounts", type_=ARRAY(Text))),
        or_(
            interventions.c.status != Status.CLOSED.value,
            interventions.c.id == any_(bindparam("shown", type_=ARRAY(Uuid))),
        ),
    )
    .order_by(interventions.c.id)
)


def _never() -> datetime | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What decisions hold to: who works here, how people are reached, the numbers."""

    staff: Staff
    ways: Ways
    timing: Timing = field(default_factory=Timing)
    storm: Storm = field(default_factory=Storm)
    value_from: Decimal = Decimal(25_000)
    """At risk, from which on it is much."""
    console_url: str = ""
    outage_since: Callable[[], datetime | None] = _never
    """Since when some source sends too little; None: none does, or nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All about one account that decides who is told of it."""

    account: Account
    subjects: Mapping[UUID, Intervention]
    """The open ones, and those that some destination was told of."""
    notices: Mapping[str, Notice]
    silences: Sequence[Silence] = ()

    def with_notice(self, notice: Notice) -> "Situation":
        """After it was told something more."""
        return replace(self, notices={**self.notices, notice.destination: notice})


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """An account at a destination."""

    place: Place
    notice: Notice
    members: Sequence[Member]


async def read(
    connection: AsyncConnection, account_ids: Collection[str], *, now: datetime
) -> dict[str, Situation]:
    """Four statements, however many accounts."""
    accounts = await store.read_accounts(connection, account_ids)
    notices: dict[str, dict[str, Notice]] = {one: {} for one in account_ids}
    shown: set[UUID] = set()
    for notice in await notice_rows.of_accounts(connection, account_ids):
        notices[notice.account_id][notice.destination] = notice
        shown.update(notice.told, notice.shown)
    subjects: dict[str, dict[UUID, Intervention]] = {one: {} for one in account_ids}
    asked = {"accounts": list(account_ids), "shown": list(shown)}
    rows = await connection.execute(_SUBJECTS, asked)
    for found in map(intervention_of, rows):
        subjects[found.account_id][found.id] = found
    quiet = await silences.ahead(connection, now=now)
    return {
        one: Situation(
            account=accounts.get(one) or Account(account_id=one, fields=AccountFields()),
            subjects=subjects[one],
            notices=notices[one],
            silences=quiet,
        )
        for one in account_ids
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowds:
    """Who has just been given more than one can read."""

    recipients: frozenset[str] = frozenset()
    everybody: bool = False
    """All together: for places that several share."""

    def hit(self, place: Place) -> bool:
        if not place.recipient:
            return self.everybody
        return place.recipient.lower() in self.recipients


async def crowds(
    connection: AsyncConnection, recipients: Collection[str], storm: Storm, *, now: datetime
) -> Crowds:
    """`recipients`: addresses in lower case; what is held out bothers nobody."""
    row = interventions.c
    is_new = row.opened_at > now - storm.within
    seen = select(row.owner).where(is_new, ~row.held_out).limit(storm.limit + 1).subquery()
    total = await connection.scalar(select(func.count()).select_from(seen)) or 0
    if total <= storm.limit:
        return Crowds()  # Nobody can have more than all together.
    address = func.lower(row.owner, type_=Text())
    found = await connection.scalars(
        select(address)
        .where(is_new, ~row.held_out, among(address, recipients))
        .group_by(address)
        .having(func.count() > storm.limit)
    )
    return Crowds(recipients=frozenset(found), everybody=True)


def groups_of(situation: Situation, desk: Desk, roster: Roster, *, now: datetime) -> list[Group]:
    """Every destination that the account has now, or that was told of it."""
    places: dict[str, Place] = {}
    here: dict[str, set[UUID]] = {}
    for subject in situation.subjects.values():
        if not subject.is_open:
            continue
        for place in places_of(subject, roster, desk.ways):
            places[place.destination] = place
            here.setdefault(place.destination, set()).add(subject.id)
    for destination, notice in situation.notices.items():
        if destination not in places and (notice.told or notice.shown or notice.bundled):
            places[destination] = known_place(destination, roster)
    return [
        _group_of(situation, place, here, desk, roster, now=now)
        for name, place in sorted(places.items())
    ]


def group_at(
    situation: Situation, destination: str, desk: Desk, roster: Roster, *, now: datetime
) -> Group | None:
    found = groups_of(situation, desk, roster, now=now)
    return next((one for one in found if one.place.destination == destination), None)


def known_place(destination: str, roster: Roster) -> Place:
    """Of a destination that nobody is reached at any more."""
    channel, _, address = destination.partition(":")
    recipient = address if channel == EMAIL else ""
    if channel == SLACK:
        theirs = (one.address for one in roster.people if one.slack == address)
        recipient = next(theirs, "").lower()
    return Place(channel=channel, destination=destination, recipient=recipient)


def _group_of(
    situation: Situation,
    place: Place,
    routed: Mapping[str, Collection[UUID]],
    desk: Desk,
    roster: Roster,
    *,
    now: datetime,
) -> Group:
    account_id = situation.account.account_id
    here = routed.get(place.destination, ())
    notice = situation.notices.get(place.destination) or Notice(
        account_id=account_id, destination=place.destination
    )
    around = around_of(situation, desk)
    members = []
    for subject in situation.subjects.values():
        was_told = subject.id in notice.told or subject.id in notice.shown
        if subject.id not in here and not was_told:
            continue
        sight = Sight(
            told=notice.told.get(subject.id),
            # Of what several people share, each owner's own.
            calendar=calendar_of(roster.person(place.recipient or subject.owner)),
            # Once closed it has no places: it is where it was told.
            is_here=subject.id in here or not subject.is_open,
            is_handed_over=_is_handed_over(situation, subject, routed),
            told_at=notice.told_at,
            silenced_until=_silenced_until(situation, subject, now=now),
        )
        members.append(member_of(subject, sight, around, value_from=desk.value_from, now=now))
    members.sort(key=lambda one: (-one.priority, str(one.id)))
    return Group(place=place, notice=notice, members=members)


def decided(
    group: Group,
    desk: Desk,
    roster: Roster,
    crowded: Crowds,
    *,
    at_once: bool = False,
    now: datetime,
) -> Decision:
    return decide(
        group.notice,
        group.members,
        _hearer(group.place, roster, crowded, now=now),
        timing=desk.timing,
        at_once=at_once,
        now=now,
    )


def may_be_crowded_out(decision: Decision) -> bool:
    """Whether a decision made as if nobody were in a storm might differ for somebody who is."""
    if decision.is_urgent:
        return False
    waits = any(held.against is SuppressReason.QUIET_HOURS for held in decision.held)
    return waits or decision.reason is not None or decision.bundle_at is not None


def _hearer(place: Place, roster: Roster, crowded: Crowds, *, now: datetime) -> Hearer:
    in_storm = crowded.hit(place)
    if not place.recipient:
        return Hearer(in_storm=in_storm)
    return Hearer(
        mode=roster.person(place.recipient).mode_at(place.channel),
        in_storm=in_storm,
        opens_at=opening_of(place.recipient, roster, now=now),
    )


def opening_of(address: str, roster: Roster, *, now: datetime) -> datetime | None:
    """When their next working hours begin; None: it is them now, or nobody knows them."""
    opens_at = calendar_of(roster.person(address)).opens_at(now)
    return opens_at if opens_at > now else None


def _is_handed_over(
    situation: Situation, subject: Intervention, routed: Mapping[str, Collection[UUID]]
) -> bool:
    """Whether some destination knows of it to which it does not go any more."""
    return any(
        subject.id in notice.known and subject.id not in routed.get(destination, ())
        for destination, notice in situation.notices.items()
    )


def around_of(situation: Situation, desk: Desk) -> Surroundings:
    return Surroundings(account_lost=situation.account.is_lost, outage_since=desk.outage_since())


def is_muted(situation: Situation, subject: Intervention, desk: Desk, *, now: datetime) -> bool:
    """Whether nobody is to hear of it now, whoever they are."""
    return mute_of(situation, subject, desk, now=now) is not None


def mute_of(
    situation: Situation, subject: Intervention, desk: Desk, *, now: datetime
) -> Mute | None:
    """Why nobody is to hear of it now, whoever they are."""
    until = _silenced_until(situation, subject, now=now)
    around = around_of(situation, desk)
    return why_muted(subject, around, told_at=None, silenced_until=until, now=now)


def _silenced_until(
    situation: Situation, subject: Intervention, *, now: datetime
) -> datetime | None:
    return silenced_until(situation.silences, subject, situation.account.fields, now=now)


def may_escalate(situation: Situation, subject: Intervention, desk: Desk, *, now: datetime) -> bool:
    """Whether others may be told that nobody has taken it on: not what nobody was to be told of."""
    return not is_muted(situation, subject, desk, now=now) and subject.recovered_at is None
