"""By what all accounts are cut, and to what they are narrowed: choices that stand in an address."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlencode

from services.notifier.console import fields
from services.notifier.console.economics_api import Choice, Facets
from services.notifier.console.listing import NOT_KNOWN


class Cut(StrEnum):
    WHOLE = "whole"
    OWNER = "owner"
    SEGMENT = "segment"
    PLAN = "plan"
    REGION = "region"
    SALES = "sales"
    RESELLER = "reseller"
    STAGE = "stage"
    CURRENCY = "currency"


CUTS: Final = {
    Cut.OWNER: "Owner",
    Cut.SEGMENT: "Segment",
    Cut.PLAN: "Plan",
    Cut.REGION: "Region",
    Cut.SALES: "Direct or reseller",
    Cut.RESELLER: "Reseller",
    Cut.STAGE: "Stage",
    Cut.CURRENCY: "Currency",
}
FILTERS: Final = {
    "owner": "Owner",
    "segment": "Segment",
    "plan": "Plan",
    "region": "Region",
    "sales": "Sold",
    "reseller": "Reseller",
    "stage": "Stage",
}
STAGES: Final = {
    "trial": "Trial",
    "land": "Land (onboarding)",
    "adopt": "Adopt",
    "expand": "Expand",
    "renew": "Renew",
    "lost": "Lost",
}
SALES: Final = {"direct": "Direct", "indirect": "By a reseller"}
_MAX_LINE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Choosing:
    """What somebody has chosen on a page; `kept` stands in every link of it."""

    by: Cut
    narrowed: Mapping[str, str]
    kept: Mapping[str, str]

    @property
    def params(self) -> dict[str, str]:
        """As scoring takes them: there, an empty value is what is not known."""
        return {name: "" if value == NOT_KNOWN else value for name, value in self.narrowed.items()}

    def query(self, **changes: str | None) -> str:
        """An address with these changes; None takes a choice back."""
        given: dict[str, str | None] = {**self.kept, "by": self.by.value, **self.narrowed}
        return urlencode({name: value for name, value in {**given, **changes}.items() if value})

    def of_accounts(self, **more: str) -> str:
        """The list of the accounts that are narrowed to."""
        return f"/accounts?{urlencode({**self.narrowed, **more})}"

    def narrowed_to(self, key: str | None) -> str | None:
        """The address of one part alone; None where a part cannot be chosen."""
        if self.by.value not in FILTERS:
            return None
        rest = next((cut for cut in CUTS if cut.value not in (self.by, *self.narrowed)), Cut.OWNER)
        value = NOT_KNOWN if key is None else key
        return self.query(**{self.by.value: value, "by": rest.value, "sort": None, "order": None})


def choosing(query: Mapping[str, str], *, kept: Mapping[str, str], usual: Cut) -> Choosing:
    by = fields.choice(Cut, query.get("by", "")) or usual
    narrowed = {
        name: value
        for name in FILTERS
        if (value := (query.get(name) or "").replace("\0", "")[:_MAX_LINE])
    }
    return Choosing(by=by, narrowed=narrowed, kept={k: v for k, v in kept.items() if v})


def options(facets: Facets, chosen: Choosing) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Each filter that there is more than one value of: its name, its title, its choices."""
    for name, title in FILTERS.items():
        found: tuple[Choice, ...] = getattr(facets, name)
        values = {
            NOT_KNOWN if one.value in (None, "") else str(one.value): one.accounts for one in found
        }
        if (asked := chosen.narrowed.get(name)) is not None:
            values.setdefault(asked, 0)
        if len(values) > 1 or asked is not None:
            yield (
                name,
                title,
                [
                    (value, f"{part_name(name, value)} ({count:,})")
                    for value, count in values.items()
                ],
            )


def part_name(cut: str, key: str | None) -> str:
    """A part in words."""
    if key in (None, "", NOT_KNOWN):
        return "Not known" if cut != "reseller" else "No reseller"
    text = str(key)
    if cut == "stage":
        return STAGES.get(text.lower(), text)
    return SALES.get(text, text) if cut == "sales" else text
