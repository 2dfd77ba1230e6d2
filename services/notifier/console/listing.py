"""The list of accounts as scoring answers it, and what of it somebody wants to see."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Final
from urllib.parse import parse_qsl, urlencode

import msgspec

from shared.messages import Band, Reason, ValueAtRisk

NOT_KNOWN: Final = "~"
"""In our addresses: those of whom it is not known. Forms send an empty field for "all"."""
SORTS: Final[Mapping[str, str]] = {
    "risk": "desc",
    "value_at_risk": "desc",
    "renewal_date": "asc",
    "mrr": "desc",
    "name": "asc",
    "account_id": "asc",
}
"""By what a list can be sorted, and which way it then begins."""
SALES: Final = ("direct", "indirect")
STAGES: Final = ("trial", "land", "adopt", "expand", "renew", "lost")
WITHIN: Final = (30, 60, 90, 180)
_TEXTS: Final = ("owner", "segment", "plan", "region", "reseller")
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "band": tuple(Band),
    "sales": SALES,
    "stage": STAGES,
    "renews_within": tuple(map(str, WITHIN)),
}
_MAX_TEXT: Final = 300
_MAX_QUERY: Final = 8_192


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One account of the list."""

    account_id: str
    state: str
    name: str | None = None
    owner: str | None = None
    segment: str | None = None
    plan: str | None = None
    region: str | None = None
    reseller: str | None = None
    stage: str | None = None
    contract_end: date | None = None
    renewal_date: date | None = None
    risk: float | None = None
    band: Band | None = None
    value_at_risk: ValueAtRisk | None = None
    mrr: Decimal | None = None
    currency: str | None = None
    flags: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    as_of: datetime | None = None

    @property
    def renews(self) -> date | None:
        return self.contract_end or self.renewal_date


class Accounts(msgspec.Struct, frozen=True, kw_only=True):
    accounts: tuple[Listed, ...]
    next_cursor: str | None = None
    total: int | None = None
    as_of: datetime | None = None


class Facet(msgspec.Struct, frozen=True, kw_only=True):
    """One value that accounts have, and how many; None: not known."""

    value: str | None
    accounts: int


class Facets(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen from, the most frequent first."""

    owner: tuple[Facet, ...] = ()
    segment: tuple[Facet, ...] = ()
    plan: tuple[Facet, ...] = ()
    region: tuple[Facet, ...] = ()
    reseller: tuple[Facet, ...] = ()
    sales: tuple[Facet, ...] = ()
    stage: tuple[Facet, ...] = ()
    band: tuple[Facet, ...] = ()

    def of(self, name: str) -> tuple[Facet, ...]:
        found: tuple[Facet, ...] = getattr(self, name)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is shown of all accounts, and in which order; an empty text is no wish."""

    q: str = ""
    band: str = ""
    owner: str = ""
    segment: str = ""
    plan: str = ""
    region: str = ""
    reseller: str = ""
    sales: str = ""
    stage: str = ""
    renews_within: str = ""
    sort: str = "risk"
    order: str = "desc"

    @property
    def filters(self) -> dict[str, str]:
        names = ("q", "band", *_TEXTS, "sales", "stage", "renews_within")
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    @property
    def query(self) -> str:
        """As it stands in an address; what is usual is left out, so equal wishes look equal."""
        found = self.filters
        if self.sort != "risk" or self.order != SORTS[self.sort]:
            found["sort"] = self.sort
        if self.order != SORTS[self.sort]:
            found["order"] = self.order
        return urlencode(found)

    @property
    def cut(self) -> dict[str, str | int | float | None]:
        """What facets are counted within."""
        names = (*_TEXTS, "sales", "stage")
        return {name: _known(value) for name, value in self.filters.items() if name in names}

    def asked(self, *, cursor: str | None, limit: int) -> dict[str, str | int | float | None]:
        """As scoring's API takes it."""
        known = {name: _known(value) for name, value in self.filters.items()}
        return {**known, "sort": self.sort, "order": self.order, "cursor": cursor, "limit": limit}

    def sorted_by(self, sort: str) -> "Wanted":
        """The same by that column; by the one it is sorted by already: the other way round."""
        order = SORTS[sort]
        if sort == self.sort:
            order = "asc" if self.order == "desc" else "desc"
        return replace(self, sort=sort, order=order)


def wanted_of(given: Mapping[str, str]) -> Wanted:
    """What an address asks for; what it says that we do not know is no wish."""
    found = {name: clean(given.get(name, "")) for name in ("q", *_TEXTS)}
    for name, allowed in _CHOICES.items():
        value = given.get(name, "")
        found[name] = value if value in allowed else ""
    sort = given.get("sort", "")
    sort = sort if sort in SORTS else "risk"
    order = given.get("order", "")
    found["sort"], found["order"] = sort, order if order in ("asc", "desc") else SORTS[sort]
    return Wanted(**found)


def wanted_of_query(query: str) -> Wanted:
    """Of a query as it stands in an address; what is longer than any of ours is cut off."""
    return wanted_of(dict(parse_qsl(query[:_MAX_QUERY])))


def _known(value: str) -> str:
    """As scoring has it: an empty text is "not known"."""
    return "" if value == NOT_KNOWN else value


def clean(text: str) -> str:
    return "".join(char for char in text if char.isprintable()).strip()[:_MAX_TEXT]
