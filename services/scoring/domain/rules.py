"""The numbers of bands, flags and guards: `rules.toml`, which a vendor may overlay with its own.

A file states only what differs from the shipped one; `[segments.NAME.RULE]` states what differs
for the accounts of a segment. What is not understood is refused: a typing error must not silently
leave a rule as it was.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from shared.errors import PerennialError
from shared.messages import Band, FlagReason

Share: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
Days: TypeAlias = Annotated[int, Meta(ge=0, le=365)]
OneDayOrMore: TypeAlias = Annotated[int, Meta(ge=1, le=365)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]
AccountState: TypeAlias = Literal["too_new", "scored", "lapsed"]

MIN_GAP: Final = 0.05
"""Between a share's or trend's raise and clear threshold: more than twice a noise of 0.02."""

S = TypeVar("S", bound="_Section")

_FILE: Final = "rules.toml"
_LONGEST_LINE: Final = 2_000
_SEGMENTS: Final = "segments"


class RulesRejected(PerennialError):
    """A rules file is not used: the entry at `path` is wrong, `problem` says what is allowed."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class BandNumbers(_Section, frozen=True):
    """A band starts at `times_base` x the segment's base rate, but never above `at_most`."""

    times_base: Annotated[float, Meta(gt=1, le=100)]
    at_most: Share


class Bands(_Section, frozen=True):
    """Bands are entered at once, left below `release_share` of the threshold for some days."""

    watch: BandNumbers
    at_risk: BandNumbers
    critical: BandNumbers
    release_share: Annotated[float, Meta(gt=0, le=1 - MIN_GAP)]
    release_after_days: Days

    def __post_init__(self) -> None:
        rising = (self.watch, self.at_risk, self.critical)
        for lower, higher in pairwise(rising):
            if lower.times_base >= higher.times_base or lower.at_most >= higher.at_most:
                raise ValueError("watch, at_risk and critical must rise, in both numbers")


class FlagRule(_Section, frozen=True):
    """What all flags have: raised after `for_days` of unbroken condition, cleared likewise.

    `accounts` are the states of an account for which the flag is raised.
    """

    enabled: bool
    accounts: tuple[AccountState, ...]
    for_days: Days
    clear_for_days: Days


class ChurnRiskRule(FlagRule, frozen=True):
    from_band: Literal["watch", "at_risk", "critical"]
    hold_short_history: bool

    @property
    def band(self) -> Band:
        return Band(self.from_band)


class GoneSilentRule(FlagRule, frozen=True):
    silent_days: OneDayOrMore
    active_days_ever_at_least: Count


class UsageDropRule(FlagRule, frozen=True):
    trend_at_most: Share
    z_at_most: Annotated[float, Meta(ge=-100, lt=0)]
    clear_trend_at_least: Annotated[float, Meta(gt=0, le=10)]

    def __post_init__(self) -> None:
        _keep_apart(
            "clear_trend_at_least", self.clear_trend_at_least, "trend_at_most", self.trend_at_most
        )


class SeatsIdleRule(FlagRule, frozen=True):
    seats_at_least: Count
    tenure_days_at_least: Days
    share_below: Share
    clear_share_at_least: Share

    def __post_init__(self) -> None:
        _keep_apart(
            "clear_share_at_least", self.clear_share_at_least, "share_below", self.share_below
        )


class ChampionLostRule(FlagRule, frozen=True):
    users_at_least: Count
    successor_days_at_least: Annotated[int, Meta(ge=1, le=28)]
    ends_after_days: OneDayOrMore


class OnboardingStalledRule(FlagRule, frozen=True):
    from_day: OneDayOrMore
    to_day: OneDayOrMore
    active_days_at_least: Annotated[int, Meta(ge=1, le=14)]
    milestone_by_day: OneDayOrMore
    ends_on_day: OneDayOrMore

    def __post_init__(self) -> None:
        if not self.from_day <= self.milestone_by_day <= self.to_day < self.ends_on_day:
            raise ValueError("from_day <= milestone_by_day <= to_day < ends_on_day must hold")


class CancellationIntentRule(FlagRule, frozen=True):
    pass


class PaymentFailedRule(FlagRule, frozen=True):
    failures_at_least: Count
    ends_after_days: Annotated[int, Meta(ge=14, le=365)]


class SupportStrainRule(FlagRule, frozen=True):
    tickets_at_least: Count
    times_own_mean: Annotated[float, Meta(ge=1, le=100)]
    severe_open_days_over: Days
    # Both conditions end as they begin: only the days keep the flag from flapping.
    clear_for_days: OneDayOrMore


class UnhappyFeedbackRule(FlagRule, frozen=True):
    users_at_least: Count


class RenewalDueRule(FlagRule, frozen=True):
    contract_days_at_least: OneDayOrMore
    days_before: OneDayOrMore
    updates_at_days: tuple[OneDayOrMore, ...]
    lost_after_days: Days

    def __post_init__(self) -> None:
        falling = (self.days_before, *self.updates_at_days)
        if any(one <= other for one, other in pairwise(falling)):
            raise ValueError("updates_at_days must fall, from below days_before")


class GoalMissedRule(FlagRule, frozen=True):
    behind_over: Share
    behind_days_at_least: Days
    clear_behind_at_most: Annotated[float, Meta(ge=0, lt=1)]
    days_past_due_at_least: Days
    ends_after_days: OneDayOrMore

    def __post_init__(self) -> None:
        _keep_apart(
            "behind_over", self.behind_over, "clear_behind_at_most", self.clear_behind_at_most
        )
        if self.days_past_due_at_least >= self.ends_after_days:
            raise ValueError("days_past_due_at_least < ends_after_days must hold")


class ExpansionReadyRule(FlagRule, frozen=True):
    share_at_least: Share
    clear_share_below: Share

    def __post_init__(self) -> None:
        _keep_apart(
            "share_at_least", self.share_at_least, "clear_share_below", self.clear_share_below
        )


class GoalReachedRule(FlagRule, frozen=True):
    held_days_at_least: Days
    ends_after_days: OneDayOrMore


class RuleSet(_Section, frozen=True):
    """The numbers that hold for the accounts of one segment."""

    bands: Bands
    churn_risk: ChurnRiskRule
    gone_silent: GoneSilentRule
    usage_drop: UsageDropRule
    seats_idle: SeatsIdleRule
    champion_lost: ChampionLostRule
    onboarding_stalled: OnboardingStalledRule
    cancellation_intent: CancellationIntentRule
    payment_failed: PaymentFailedRule
    support_strain: SupportStrainRule
    unhappy_feedback: UnhappyFeedbackRule
    renewal_due: RenewalDueRule
    goal_missed: GoalMissedRule
    expansion_ready: ExpansionReadyRule
    goal_reached: GoalReachedRule

    def of(self, reason: FlagReason) -> FlagRule:
        rule: FlagRule = getattr(self, reason.value)
        return rule


class StormGuard(_Section, frozen=True):
    """A usage flag raised within the window for more than both of these is held."""

    share_over: Share
    accounts_over: Count
    window_minutes: Annotated[int, Meta(ge=1, le=1_440)]


class Staleness(_Section, frozen=True):
    """When a source counts as silent, and for how long after."""

    log_lag_minutes: Annotated[int, Meta(ge=1, le=1_440)]
    window_hours: Annotated[int, Meta(ge=1, le=24)]
    below_share: Share
    expected_events: Count
    baseline_weeks: Annotated[int, Meta(ge=1, le=52)]
    quiet_hours_after: Annotated[int, Meta(ge=0, le=168)]
    account_share: Share


class Rules(RuleSet, frozen=True):
    """The whole file, checked; read segments' numbers through `for_segment`."""

    storm_guard: StormGuard
    staleness: Staleness
    segments: dict[str, RuleSet]

    def for_segment(self, name: str | None) -> RuleSet:
        """The numbers of a segment; those of the whole file where it has none of its own."""
        return self if name is None else self.segments.get(name, self)

    @property
    def digest(self) -> str:
        """The same for files that mean the same, whatever their comments and order."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:16]


def load(content: bytes) -> Rules:
    """The shipped rules, overlaid with those of a file; raises RulesRejected."""
    return _rules(_overlay(_shipped(), _parse(content)))


@cache
def read_default() -> Rules:
    """The shipped rules."""
    return _rules(_shipped())


def _shipped() -> dict[str, Any]:
    return _parse(resources.files("services.scoring").joinpath(_FILE).read_bytes())


def _parse(content: bytes) -> dict[str, Any]:
    # A key of 32,000 parts takes the parser 13 seconds (measured), and time grows as their square.
    if any(len(line) > _LONGEST_LINE for line in content.splitlines()):
        raise RulesRejected("", f"a line is longer than {_LONGEST_LINE} bytes")
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise RulesRejected("", "the file is not UTF-8 text") from None
    except RecursionError:
        raise RulesRejected("", "the file is not TOML: it is nested too deeply") from None
    except ValueError as error:  # Its own, and Python's of numbers with too many digits.
        raise RulesRejected("", f"the file is not TOML: {error}") from error


def _rules(document: dict[str, Any]) -> Rules:
    segments = document.pop(_SEGMENTS, {})
    _check_names(document, Rules, "")
    if not isinstance(segments, dict):
        raise RulesRejected(_SEGMENTS, "expected tables: [segments.NAME.RULE]")
    common = {name: document[name] for name in RuleSet.__struct_fields__}
    own = {name: _rule_set(common, changes, name) for name, changes in segments.items()}
    return msgspec.structs.replace(_convert(document | {_SEGMENTS: {}}, Rules, ""), segments=own)


def _rule_set(common: dict[str, Any], changes: object, segment: str) -> RuleSet:
    path = f"{_SEGMENTS}.{segment}"
    if not isinstance(changes, dict):
        raise RulesRejected(path, f"expected tables: [{path}.RULE]")
    _check_names(changes, RuleSet, path)
    return _convert(_overlay(common, changes), RuleSet, path)


def _overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged, everything else is replaced."""
    merged = dict(below)
    for name, value in above.items():
        known = merged.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            merged[name] = _overlay(known, value)
        else:
            merged[name] = value
    return merged


def _check_names(table: Mapping[str, Any], kind: type[msgspec.Struct], path: str) -> None:
    """Refuse names that `kind` does not have, and say which there are."""
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for name, value in table.items():
        inside = f"{path}.{name}" if path else name
        if name not in fields:
            raise RulesRejected(inside, f"unknown; known here: {', '.join(sorted(fields))}")
        below = fields[name]
        if isinstance(value, dict) and isinstance(below, type) and issubclass(below, _Section):
            _check_names(value, below, inside)


def _convert(document: dict[str, Any], kind: type[S], path: str) -> S:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        inside = where.strip("`").lstrip(".")
        full = ".".join(part for part in (path, inside) if part)
        raise RulesRejected(full, problem.replace("`object`", "a table")) from error


def _keep_apart(high: str, high_value: float, low: str, low_value: float) -> None:
    if high_value - low_value < MIN_GAP - 1e-9:
        raise ValueError(
            f"{high} must be at least {MIN_GAP} above {low} ({low_value:g}), else noise flaps"
        )
