"""The month's document as it is stored and told: numbers of groups, names of segments and features.

It holds nothing of any account: no name, no id, no list. Structs refuse what they do not know, so
that neither can come in by another's hand.
"""

from typing import Literal, TypeAlias

import msgspec

Milestone: TypeAlias = Literal["milestone", "third_active_day"]


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A month's insights: the vendor as a whole (`segment` null) first, then its segments.

    None: not told, since too few accounts are behind it. `basis` says what the numbers are of.
    """

    month: str
    made_at: str
    k: int
    basis: str
    segments: list["Insight"]


class Insight(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`accounts` used the product in the month's last 28 days; `newcomers` are those whose first
    12 weeks are known; `renewing` and `leaving` those who stayed or were lost in the last year.

    Stories are made of the numbers when these are told, never stored.
    """

    segment: str | None
    accounts: int
    size: "Size"
    rhythm: "Rhythm"
    newcomers: int | None
    features: list["FeatureUse"]
    by_week: list["Week"]
    time_to_value: "TimeToValue"
    renewing: int | None
    leaving: int | None
    renewing_vs_leaving: list["Comparison"]
    growth: "GrowthPath"
    stories: list["Story"] = []


class Size(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Users active in the month's last 28 days, per account."""

    median_users: float | None
    quartiles: tuple[float, float] | None


class Rhythm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Medians over accounts, in the month's last 28 days."""

    days_per_week: float | None
    hours_per_user_week: float | None


class FeatureUse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`share` of the newcomers who used it within 12 weeks; by `first_week` half of these had."""

    name: str
    share: float
    first_week: int | None


class Adopted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    share: float


class Week(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What share of newcomers had used a feature by the end of this week of their life."""

    week: int
    adopted: list[Adopted]


class TimeToValue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From an account's start to `to`."""

    to: Milestone
    median_days: float | None
    share_in_30: float | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Medians of an indicator, 90 days before the end of the month or the loss."""

    indicator: str
    what: str
    renewing: float
    leaving: float


class GrowthPath(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who grew over half a year: medians of users and features in 28 days, before and after."""

    share: float | None
    users_before: float | None
    users_after: float | None
    features_before: float | None
    features_after: float | None


class Figure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    what: str
    value: float


class Story(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a salesperson can tell, and the figures it is made of."""

    title: str
    text: str
    figures: list[Figure]
