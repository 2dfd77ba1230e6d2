"""From a risk to a band: thresholds relative to the base rate, with hysteresis.

Each band above healthy is a latch: it closes at once when the risk reaches its threshold, and
opens when the risk has been below two thirds of it for 14 days. The account's band is the highest
closed latch. Absolute thresholds fail, as base rates differ by an order of magnitude.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.messages import Band

RAISED: Final = (Band.WATCH, Band.AT_RISK, Band.CRITICAL)
RELEASE_SHARE: Final = 2 / 3
RELEASE_AFTER: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True, kw_only=True)
class BandRule:
    """A band starts at `times_base` x the base rate, but never above `at_most`."""

    times_base: float
    at_most: float

    def threshold(self, base_rate: float) -> float:
        return min(self.times_base * base_rate, self.at_most)


@dataclass(frozen=True, slots=True, kw_only=True)
class BandRules:
    watch: BandRule = BandRule(times_base=1.5, at_most=0.15)
    at_risk: BandRule = BandRule(times_base=3.0, at_most=0.30)
    critical: BandRule = BandRule(times_base=5.0, at_most=0.60)

    def thresholds(self, base_rate: float) -> dict[Band, float]:
        """Where each band above healthy starts, in the order of severity."""
        rules = (self.watch, self.at_risk, self.critical)
        return {band: rule.threshold(base_rate) for band, rule in zip(RAISED, rules, strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BandState:
    """An account's band.

    `*_low_since`: since when the risk has been low enough to open that latch; None: it is not.
    """

    band: Band = Band.HEALTHY
    since: datetime
    watch_low_since: datetime | None = None
    at_risk_low_since: datetime | None = None
    critical_low_since: datetime | None = None

    @property
    def low_since(self) -> tuple[datetime | None, ...]:
        """In the order of `RAISED`."""
        return (self.watch_low_since, self.at_risk_low_since, self.critical_low_since)


DEFAULT_RULES: Final = BandRules()


def next_band(
    previous: BandState | None,
    risk: float | None,
    base_rate: float,
    now: datetime,
    *,
    rules: BandRules = DEFAULT_RULES,
) -> BandState:
    """The band after a look at the risk; `base_rate` is the segment's mean risk.

    Without a risk (too new, lapsed) nothing is known that could change the band.
    """
    state = previous or BandState(since=now)
    if risk is None:
        return state
    closed = severity(state.band)
    band = Band.HEALTHY
    low_since: list[datetime | None] = []
    for index, (level, threshold) in enumerate(rules.thresholds(base_rate).items()):
        low = _low_since(state.low_since[index], risk, threshold, now)
        held = index < closed and (low is None or now - low < RELEASE_AFTER)
        is_closed = held or risk >= threshold
        low_since.append(low if is_closed else None)
        band = level if is_closed else band
    return BandState(
        band=band,
        since=state.since if band is state.band else now,
        watch_low_since=low_since[0],
        at_risk_low_since=low_since[1],
        critical_low_since=low_since[2],
    )


def severity(band: Band) -> int:
    """0 healthy, 1 watch, 2 at_risk, 3 critical."""
    return 0 if band is Band.HEALTHY else RAISED.index(band) + 1


def _low_since(
    since: datetime | None, risk: float, threshold: float, now: datetime
) -> datetime | None:
    return None if risk >= RELEASE_SHARE * threshold else (since or now)
