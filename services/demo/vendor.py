"""The simulated vendor's accounts: who they are, what they pay, and which story each one lives.

Synthetic. Names, people, prices and contracts are invented; the shares of plans, regions and
stories are chosen so that a demo shows every case, not measured anywhere.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

import numpy as np

HISTORY_DAYS: Final = 400
LAST: Final = HISTORY_DAYS - 1
"""Index of the day the story is told on; day 0 is the first of the history."""


class Pattern(StrEnum):
    """What an account does over the 400 days."""

    STABLE = "stable"
    GROWING = "growing"
    SEASONAL = "seasonal"
    DECLINING = "declining"
    SILENT = "silent"
    CHAMPION_LEFT = "champion_left"
    ONBOARDING = "onboarding"
    CHURNED = "churned"


COUNTS: Final[Mapping[Pattern, int]] = {
    Pattern.STABLE: 92,
    Pattern.GROWING: 50,
    Pattern.SEASONAL: 28,
    Pattern.DECLINING: 26,
    Pattern.SILENT: 14,
    Pattern.CHAMPION_LEFT: 10,
    Pattern.ONBOARDING: 16,
    Pattern.CHURNED: 4,
}
ACCOUNTS: Final = sum(COUNTS.values())

OWNERS: Final = (
    "amara.osei@example.com",
    "bruno.keller@example.com",
    "chiara.conti@example.com",
    "dmitri.laine@example.com",
    "elena.navarro@example.com",
)


class Plan(NamedTuple):
    """A price list's line; `users` are how many people come to work with it, lowest and highest."""

    name: str
    segment: str
    per_seat: int
    users: tuple[int, int]
    billing_period: str


_PLANS: Final = (
    Plan("starter", "small", 39, (2, 4), "month"),
    Plan("team", "small", 69, (3, 7), "year"),
    Plan("business", "mid-market", 110, (5, 12), "year"),
    Plan("enterprise", "enterprise", 180, (9, 22), "multi_year"),
)
# Every pattern walks through this ring by itself, so each one has accounts of every plan: what
# is at risk then differs by a factor of a hundred.
_PLAN_RING: Final = (1, 0, 2, 1, 0, 3, 1, 2, 0, 1)


class Region(NamedTuple):
    """Where an account works; `utc_offset_hours` is its standard time (no summer time here)."""

    code: str
    timezone: str
    utc_offset_hours: float
    currency: str


_REGIONS: Final = (
    Region("US", "America/New_York", -5, "USD"),
    Region("DE", "Europe/Berlin", 1, "EUR"),
    Region("GB", "Europe/London", 0, "GBP"),
    Region("FR", "Europe/Paris", 1, "EUR"),
    Region("US", "America/Los_Angeles", -8, "USD"),
    Region("NL", "Europe/Amsterdam", 1, "EUR"),
    Region("CA", "America/Toronto", -5, "USD"),
    Region("SE", "Europe/Stockholm", 1, "EUR"),
    Region("IN", "Asia/Kolkata", 5.5, "USD"),
    Region("AU", "Australia/Sydney", 10, "USD"),
    Region("SG", "Asia/Singapore", 8, "USD"),
)
_RESELLERS: Final = ("Harbour Partners", "Nordlys Consulting", "Terrace Systems")
_FIRST_NAMES: Final = (
    "Alder", "Amberly", "Beacon", "Birchwood", "Bluefen", "Bramble", "Brightwater", "Caldera",
    "Cedarline", "Cinderbay", "Clearbrook", "Copperleaf", "Dovetail", "Driftwood", "Eastmere",
    "Elmhurst", "Fernhill", "Foxglove", "Glasswing", "Goldcrest", "Greyfell", "Hazelmoor",
    "Highmark", "Ironbark", "Juniper", "Kestrel", "Lanternfish", "Larkspur", "Longmeadow",
    "Maplewick", "Millstone", "Northgate", "Oakhaven", "Pebblecreek", "Quillon", "Ravenscar",
    "Silverbirch", "Stonebridge", "Thistledown", "Umberfield", "Violetta", "Willowby",
)  # fmt: skip
_SECOND_NAMES: Final = (
    "Analytics", "Clinics", "Design", "Education", "Foods", "Freight", "Insurance", "Interiors",
    "Labs", "Legal", "Logistics", "Media", "Outfitters", "Robotics", "Travel", "Works",
)  # fmt: skip

Fields: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedAccount:
    """One account: its directory record and its story.

    `begins` is the index of its first day of use; `turns` the last day before the story's change
    (of a decline, a silence, a champion's leaving), None where nothing changes.
    """

    index: int
    id: str
    pattern: Pattern
    users: int
    begins: int
    turns: int | None
    utc_offset_hours: float
    fields: Fields

    def item(self) -> Fields:
        """The account as `POST /v1/accounts:batch` takes it."""
        return {"id": self.id, **self.fields}


def invent_accounts(*, anchor: date, seed: int) -> tuple[SimulatedAccount, ...]:
    """All accounts as of the day `anchor`; the same arguments give the same accounts."""
    names = _names(seed)
    patterns = [pattern for pattern, count in COUNTS.items() for _ in range(count)]
    places = [place for count in COUNTS.values() for place in range(count)]
    return tuple(
        _invent(
            index=index,
            pattern=pattern,
            plan=_PLANS[_PLAN_RING[place % len(_PLAN_RING)]],
            name=name,
            anchor=anchor,
            seed=seed,
        )
        for index, (pattern, place, name) in enumerate(zip(patterns, places, names, strict=True))
    )


def _invent(
    *, index: int, pattern: Pattern, plan: Plan, name: str, anchor: date, seed: int
) -> SimulatedAccount:
    random = np.random.default_rng((seed, 1, index))
    region = _REGIONS[int(len(_REGIONS) * random.random() ** 1.5)]
    lowest, highest = plan.users
    users = int(random.integers(lowest, highest + 1))
    if pattern is Pattern.CHAMPION_LEFT:
        users = min(max(users, 4), 6)  # one of few, else no single person could matter that much
    seats = int(np.ceil(users / random.uniform(0.55, 0.95)))
    begins, turns = _story(pattern, anchor, random)
    discount = random.uniform(0.75, 1.0)
    mrr = round(seats * plan.per_seat * discount, 2)
    margin = round(mrr * random.uniform(0.55, 0.85), 2)
    contract_start, contract_end = _contract(plan, anchor, begins, random)
    trial = pattern is Pattern.ONBOARDING and index % 4 == 0
    fields: Fields = {
        "name": name,
        "plan": plan.name,
        "segment": plan.segment,
        "seats": seats,
        "currency": region.currency,
        "region": region.code,
        "timezone": region.timezone,
        "owner": OWNERS[int(random.integers(len(OWNERS)))],
        "contract_start": contract_start.isoformat(),
        "notice_days": 0 if plan.name == "starter" else int(random.choice([30, 60, 90])),
        "billing_period": plan.billing_period,
        "status": "trial" if trial else "active",
    }
    if contract_end is not None:
        fields["contract_end"] = contract_end.isoformat()
    if not trial:
        fields["mrr"] = f"{mrr:.2f}"
        if random.random() < 0.9:  # a vendor does not know every margin
            fields["margin_per_month"] = f"{margin:.2f}"
    if random.random() < 0.15:
        fields["reseller"] = str(random.choice(_RESELLERS))
    if pattern is Pattern.CHURNED and turns is not None:
        left = _day(anchor, turns + 14)
        fields |= {
            "status": "churned",
            "churned_at": left.isoformat(),
            "contract_end": left.isoformat(),
        }
    return SimulatedAccount(
        index=index,
        id=name.lower().replace(" ", "-"),
        pattern=pattern,
        users=users,
        begins=begins,
        turns=turns,
        utc_offset_hours=region.utc_offset_hours,
        fields=fields,
    )


def _story(pattern: Pattern, anchor: date, random: np.random.Generator) -> tuple[int, int | None]:
    """First day of use and day of the change, as indexes."""
    early = 0 if random.random() < 0.8 else int(random.integers(1, 150))
    match pattern:
        case Pattern.DECLINING:
            return 0, LAST - int(random.integers(90, 171))
        case Pattern.SILENT:
            # A working day west of Greenwich ends on the next day in UTC: 29 days are 28 there.
            return 0, _weekday_before(anchor, LAST - int(random.integers(29, 58)))
        case Pattern.CHAMPION_LEFT:
            return 0, _weekday_before(anchor, LAST - int(random.integers(30, 51)))
        case Pattern.CHURNED:
            return 0, LAST - int(random.integers(100, 200))
        case Pattern.ONBOARDING:
            return LAST - int(random.integers(12, 50)), None
        case _:
            return early, None


def _contract(
    plan: Plan, anchor: date, begins: int, random: np.random.Generator
) -> tuple[date, date | None]:
    """Signed days before the first use, or years ago; a starter's runs from month to month.

    One in twelve of the others ends within four months: the time to talk about the next one.
    """
    to_renewal, years = int(random.integers(100, 350)), int(random.integers(3, 6))
    if plan.name == "starter":
        end, length = None, 365 * years + to_renewal
    else:
        end, length = anchor + timedelta(days=to_renewal), 365 * years - to_renewal
    if not begins:
        return anchor - timedelta(days=length), end
    start = _day(anchor, begins) - timedelta(days=3)
    return start, end and start + timedelta(days=365)


def _weekday_before(anchor: date, index: int) -> int:
    """The day itself, or the Friday before a weekend: nobody falls silent on a Sunday."""
    return index - max(0, _day(anchor, index).weekday() - 4)


def _day(anchor: date, index: int) -> date:
    return anchor + timedelta(days=index - LAST)


def _names(seed: int) -> Iterator[str]:
    pairs = [f"{first} {second}" for first in _FIRST_NAMES for second in _SECOND_NAMES]
    chosen = np.random.default_rng((seed, 0)).permutation(len(pairs))[:ACCOUNTS]
    return (pairs[place] for place in chosen)
