"""Flags for the notifier, each account with a story of its own, and what must be told of each.

Twenty flags for each owner, about eighteen accounts; six of them flap: they are raised, cleared and
raised again. That is as many as one person may get before the storm guard makes one message of all.
The model is plain on purpose: a table of words, nothing of the notifier's.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import product
from typing import Final

import msgspec

from services.notifier.domain.calendar import calendar_of, known_zones
from services.notifier.domain.people import Person
from shared.log import Record
from shared.messages import Band, Flag, FlagReason, Stage, ValueAtRisk, encode
from tests.integration.notifier.rig import account, flag, value_of

LEAD: Final = "lead@vendor.example"
LONGEST: Final = timedelta(minutes=30)
"""So long people stay at work, or away from it, whenever the test begins."""

_ZONES = (
    "Pacific/Auckland", "Australia/Brisbane", "Asia/Tokyo", "Asia/Kolkata", "Asia/Dubai",
    "Europe/Berlin", "Europe/London", "Atlantic/Azores", "America/Sao_Paulo", "America/New_York",
    "America/Denver", "America/Los_Angeles", "Pacific/Honolulu", "Pacific/Pago_Pago",
)  # fmt: skip
# The weekend is Saturday and Sunday, Friday and Saturday, or Friday alone: somebody always works.
_COUNTRIES = (None, "SA", "IL", "IR")


class Story(StrEnum):
    """What becomes of an account, in three acts; between them all is told that is to be told."""

    STEADY = "raised"
    BLINKS = "raised, cleared and raised again before anybody is told"
    GONE = "raised, and cleared before anybody is told"
    OVER = "raised; cleared"
    RETURNS = "raised; cleared; raised again"
    FLICKERS = "raised; cleared and raised again before anybody is told"
    WORSE = "raised; worse"
    ANOTHER = "raised; another reason too"


STORIES: Final = (
    *[Story.BLINKS, Story.FLICKERS, Story.RETURNS] * 2,
    Story.GONE,
    *[Story.OVER, Story.WORSE, Story.ANOTHER] * 2,
    *[Story.STEADY] * 5,
)
"""Of one owner's accounts: with the second reasons twenty flags."""

_TOLD: Final[Mapping[Story, Sequence[str]]] = {
    Story.STEADY: ["first"],
    Story.BLINKS: ["first"],
    Story.GONE: [],
    Story.OVER: ["first", "recovered"],
    Story.RETURNS: ["first", "recovered", "first"],
    Story.FLICKERS: ["first"],
    Story.WORSE: ["first", "severity_raised"],
    Story.ANOTHER: ["first", "new_reason"],
}
# The message that is there is changed, where that can be done.
_EDITED = frozenset({Story.OVER, Story.RETURNS, Story.FLICKERS, Story.WORSE, Story.ANOTHER})
_OVER = frozenset({Story.GONE, Story.OVER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    person: Person
    is_at_work: bool

    @property
    def destinations(self) -> tuple[str, str]:
        return f"slack:{self.person.slack}", f"email:{self.person.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One account of the load."""

    account: str
    owner: Owner
    story: Story
    is_urgent: bool = False
    """So much that it breaks into quiet hours, and the lead hears of it too."""

    @property
    def is_told(self) -> bool:
        return self.owner.is_at_work or self.is_urgent

    @property
    def is_raised_at_end(self) -> bool:
        return self.story not in _OVER

    @property
    def told(self) -> Sequence[str]:
        """Why its owner is told, one message after the other, in each channel."""
        return _TOLD[self.story] if self.is_told else []

    @property
    def edits(self) -> int:
        return int(self.is_told and self.story in _EDITED)

    def acts(self) -> Iterator[Sequence[Flag]]:
        """The flags of each of the three acts."""
        told = self._told
        match self.story:
            case Story.STEADY:
                yield from ([told(0)], [], [])
            case Story.BLINKS:
                yield from ([told(0), told(1, "cleared"), told(2)], [], [])
            case Story.GONE:
                yield from ([told(0), told(1, "cleared")], [], [])
            case Story.OVER:
                yield from ([told(0)], [told(1, "cleared")], [])
            case Story.RETURNS:
                yield from ([told(0)], [told(1, "cleared")], [told(2)])
            case Story.FLICKERS:
                yield from ([told(0)], [told(1, "cleared"), told(2)], [])
            case Story.WORSE:
                yield from ([told(0)], [told(1, "updated", band=Band.CRITICAL)], [])
            case Story.ANOTHER:
                another = {"reason": FlagReason.USAGE_DROP, "stage": Stage.ADOPT}
                yield from ([told(0)], [told(0, flag_id=f"{self.account}/drop", **another)], [])

    def _told(self, minute: int, change: str = "raised", **more: object) -> Flag:
        """`minute`: of the day before; a flag that is raised anew is another episode."""
        began = datetime.combine(date.today(), time(), tzinfo=UTC) - timedelta(days=1)  # noqa: DTZ011
        raised = minute if change == "raised" else minute - 1
        urgent = {
            "band": Band.CRITICAL,
            "value_at_risk": ValueAtRisk(amount=Decimal(50_000), currency="EUR", basis="margin"),
        }
        said = {
            "flag_id": f"{self.account}/churn",
            "account": self.account,
            "change": change,
            "episode": raised + 1,
            "raised_at": began + timedelta(minutes=raised),
            "as_of": began + timedelta(minutes=minute),
        }
        return flag(**said | (urgent if self.is_urgent else {}) | more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    plots: Sequence[Plot]
    people: Sequence[Person]
    by_account: Mapping[str, Plot] = field(default_factory=dict)

    def accounts(self) -> list[Record]:
        # 20 days to the last day for notice: urgent, with so much at stake.
        ends = datetime.now(UTC).date() + timedelta(days=40)
        return [
            Record(
                key=plot.account.encode(),
                value=encode(
                    account(
                        account_id=plot.account,
                        name=plot.account,
                        owner=plot.owner.person.address,
                        **({"contract_end": ends, "notice_days": 20} if plot.is_urgent else {}),
                    )
                ),
            )
            for plot in self.plots
        ]

    def act(self, number: int) -> list[Record]:
        """All flags of one act, those of an account side by side."""
        return [_record(one) for plot in self.plots for one in tuple(plot.acts())[number]]

    def mixed(self, choose: random.Random) -> list[Record]:
        """The flags of all acts, of each account in their order, the acts some way apart."""
        placed: list[tuple[float, Record]] = []
        for plot in self.plots:
            at = choose.random()
            for act in plot.acts():
                placed += [(at, _record(one)) for one in act]
                at += choose.uniform(0.05, 0.5)
        return [record for _, record in sorted(placed, key=lambda one: one[0])]

    def team(self) -> str:
        """The team file."""
        said = {
            "fallback": {"owner": LEAD},
            "people": [
                {
                    "address": one.address,
                    "slack": one.slack,
                    "zone": one.zone,
                    "opens": f"{one.opens:%H:%M}",
                    "closes": f"{one.closes:%H:%M}",
                    "digest_at": f"{one.digest_at:%H:%M}",
                    "days_off": [f"{day:%Y-%m-%d}" for day in one.days_off],
                }
                | ({} if one.country is None else {"country": one.country})
                for one in self.people
            ],
        }
        return msgspec.json.encode(said).decode()  # JSON is YAML.


def new_load(owners: int, *, now: datetime) -> Load:
    """Three of ten owners are not at work, some by their hours, some by a day off."""
    at_work = _at_work(now)
    found = []
    for number in range(owners):
        zone, country = at_work[number % len(at_work)]
        person = Person(
            address=f"csm{number:02}@vendor.example",
            slack=f"U{number:06}",
            zone=zone,
            country=country,
            # No digest comes meanwhile.
            digest_at=time(23, 30),
        )
        is_at_work = number % 10 < 7
        found.append(
            Owner(
                person=person if is_at_work else _away(person, by_day=number % 2 == 0, now=now),
                is_at_work=is_at_work,
            )
        )
    plots = [
        Plot(
            account=f"o{number:02}-a{place:02}",
            owner=owner,
            story=story,
            # The last of those who are away, which is a steady one.
            is_urgent=not owner.is_at_work and place == len(STORIES) - 1,
        )
        for number, owner in enumerate(found)
        for place, story in enumerate(STORIES)
    ]
    return Load(
        plots=plots,
        people=[one.person for one in found],
        by_account={plot.account: plot for plot in plots},
    )


def _at_work(now: datetime) -> Sequence[tuple[str, str | None]]:
    """Zones and countries where it is working time, now and for a while."""
    known_zones()
    found: list[tuple[str, str | None]] = []
    for zone, country in product(_ZONES, _COUNTRIES):
        calendar = calendar_of(Person(address="a@b.example", zone=zone, country=country))
        if calendar.is_open(now) and calendar.is_open(now + LONGEST):
            found.append((zone, country))
    return found


def _away(person: Person, *, by_day: bool, now: datetime) -> Person:
    """The same, but not at work: today is their day off, or they begin in two hours or later."""
    if by_day:
        today = calendar_of(person).day_of(now)
        return msgspec.structs.replace(person, days_off=(today, today + timedelta(days=1)))
    return msgspec.structs.replace(person, opens=time(21), closes=time(22))


def _record(raised: Flag) -> Record:
    return Record(key=raised.account.encode(), value=value_of(raised))
