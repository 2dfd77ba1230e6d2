"""What a salesperson can tell: sentences from the numbers that are told, and from nothing else."""

from collections.abc import Callable
from typing import Final, TypeAlias

from services.scoring.domain.insight_document import Comparison, Figure, Insight, Story

Template: TypeAlias = Callable[[Insight], Story | None]

_FIRST_FEATURES: Final = 3
_CLEAR_DIFFERENCE: Final = 1.25
_WORDS: Final = {"milestone": "first milestone", "third_active_day": "third day of use"}
_DID: Final = {
    "active_days_28": "came on {} of 28 days",
    "active_users_28": "had {} active users",
    "breadth_28": "used {} features",
    "share_of_known_users": "still saw {} % of the year's users",
    "stickiness": "had each user come on {} % of the days",
    "tickets_28": "opened {} tickets in 4 weeks",
}


def stories_of(insight: Insight) -> list[Story]:
    """The stories whose numbers are known, in the order in which they are told."""
    return [story for template in _TEMPLATES if (story := template(insight))]


def _rhythm(one: Insight) -> Story | None:
    days, hours = one.rhythm.days_per_week, one.rhythm.hours_per_user_week
    figures = [Figure(what="accounts", value=one.accounts)]
    if one.size.quartiles is not None:
        low, high = one.size.quartiles
        teams = f"Teams of {low:.0f} to {high:.0f}" if round(low) < round(high) else _team(low)
        figures += [Figure(what="lower quartile of users", value=low)]
        figures += [Figure(what="upper quartile of users", value=high)]
    elif one.size.median_users is not None:
        teams = _team(one.size.median_users)
        figures.append(Figure(what="median users", value=one.size.median_users))
    else:
        return None
    if days is None:
        return None
    figures.append(Figure(what="active days a week, median", value=days))
    text = f"{teams} {_where(one)} use it on {_plural(days, 'day')} a week"
    if hours:
        text += f", each user for about {_plural(hours, 'hour')} a week"
        figures.append(Figure(what="hours per user and week, median", value=hours))
    return Story(title="Who uses it, and how often", text=f"{text}.", figures=figures)


def _beginning(one: Insight) -> Story | None:
    first = next((week.adopted for week in one.by_week if week.week == 1), [])
    uses = first[:_FIRST_FEATURES]
    if not uses:
        return None
    parts = [f"{_of_ten(use.share)} use {use.name}" for use in uses]
    figures = [Figure(what=f"{use.name}, by week 1", value=use.share) for use in uses]
    later = {use.name: use for use in one.features}
    grows = max(uses, key=lambda use: later[use.name].share - use.share if use.name in later else 0)
    text = f"In the first week {_and(parts)} {_where(one)}."
    final = later.get(grows.name)
    if final is not None and _of_ten(final.share) != _of_ten(grows.share):
        text += f" By week 12 it is {_of_ten(final.share)} for {grows.name}."
        figures.append(Figure(what=f"{grows.name}, by week 12", value=final.share))
    return Story(title="How customers begin", text=text, figures=figures)


def _value(one: Insight) -> Story | None:
    found = one.time_to_value
    to = _WORDS[found.to]
    figures, parts = [], []
    if found.median_days is not None:
        parts.append(f"after {_plural(found.median_days, 'day')} half of them have their {to}")
        figures.append(Figure(what=f"days to the {to}, median", value=found.median_days))
    if found.share_in_30 is not None:
        parts.append(f"{_of_ten(found.share_in_30)} have it within 30 days")
        figures.append(Figure(what=f"{to} within 30 days", value=found.share_in_30))
    if not parts:
        return None
    return Story(
        title="How soon it pays",
        text=f"Of new customers {_where(one)}: {_and(parts)}.",
        figures=figures,
    )


def _renewing(one: Insight) -> Story | None:
    known = [it for it in one.renewing_vs_leaving if it.indicator in _DID]
    clear = sorted(filter(_is_clear, known), key=_ratio, reverse=True)
    if not clear:
        return None
    shown = clear[:2]
    parts = [
        f"{_DID[it.indicator].format(_number(it.renewing))} (those who left: {_number(it.leaving)})"
        for it in shown
    ]
    figures = [
        Figure(what=f"{it.what}, {who}", value=value)
        for it in shown
        for who, value in (("renewing", it.renewing), ("leaving", it.leaving))
    ]
    counts = (("renewing", one.renewing), ("leaving", one.leaving))
    figures += [
        Figure(what=f"accounts {who}", value=count) for who, count in counts if count is not None
    ]
    return Story(
        title="What those who renew do",
        text=f"Three months before, those who renew {_where(one)} {_and(parts)}.",
        figures=figures,
    )


def _growing(one: Insight) -> Story | None:
    found = one.growth
    if found.share is None or found.users_before is None or found.users_after is None:
        return None
    text = (
        f"{_start(_of_ten(found.share))} {_where(one)} grew in half a year, typically from"
        f" {_plural(found.users_before, 'user')} to {_number(found.users_after)}"
    )
    figures = [
        Figure(what="share that grew", value=found.share),
        Figure(what="users before, median", value=found.users_before),
        Figure(what="users after, median", value=found.users_after),
    ]
    before, after = found.features_before, found.features_after
    if before is not None and after is not None and after > before:
        text += f", and from {_number(before)} to {_plural(after, 'feature')}"
        figures.append(Figure(what="features before, median", value=before))
        figures.append(Figure(what="features after, median", value=after))
    return Story(title="How customers grow", text=f"{text}.", figures=figures)


_TEMPLATES: Final[tuple[Template, ...]] = (_rhythm, _beginning, _value, _renewing, _growing)


def _is_clear(one: Comparison) -> bool:
    return _ratio(one) >= _CLEAR_DIFFERENCE


def _ratio(one: Comparison) -> float:
    low, high = sorted((one.renewing, one.leaving))
    return (high + 1) / (low + 1)


def _where(one: Insight) -> str:
    return "among all customers" if one.segment is None else f"in {one.segment}"


def _team(users: float) -> str:
    return "Single users" if round(users) <= 1 else f"Teams of about {users:.0f}"


def _of_ten(share: float) -> str:
    """7 of 10; half; 1 of 4: as people say it."""
    return {0.25: "1 of 4", 0.5: "half", 0.75: "3 of 4"}.get(share) or (
        f"{round(10 * share)} of 10" if round(10 * share, 1).is_integer() else f"{share:.0%}"
    )


def _plural(number: float, noun: str) -> str:
    return f"{_number(number)} {noun}" if number == 1 else f"{_number(number)} {noun}s"


def _number(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _start(text: str) -> str:
    return text[:1].upper() + text[1:]
