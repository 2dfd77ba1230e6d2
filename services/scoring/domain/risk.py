"""From risks to bands: thresholds relative to the base rate, with hysteresis.

Each band above healthy is a latch: it closes at once when the risk reaches its threshold, and
opens when the risk has been below a share of it for some days (`rules.toml`). The account's band
is the highest closed latch. Absolute thresholds fail: base rates differ by an order of magnitude.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.rules import Bands as BandNumbers
from services.scoring.domain.rules import Rules
from services.scoring.domain.usage import Floats, Integers
from shared.messages import Band

Moments: TypeAlias = NDArray[np.datetime64]
"""UTC, in microseconds; NaT is "never"."""

BANDS: Final = (Band.HEALTHY, Band.WATCH, Band.AT_RISK, Band.CRITICAL)
"""In the order of severity: a band's code is its index."""
RAISED: Final = BANDS[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where the bands above healthy begin and may end, `(accounts, 3)` in the order of severity,
    and how long a risk must have been below the end, in microseconds `(accounts, 1)`.
    """

    begin: Floats
    end: Floats
    wait: NDArray[np.timedelta64]


def limits(rules: Rules, segments: Sequence[str | None], base_rates: Floats) -> Limits:
    """The limits of accounts, each by the numbers of its segment and its segment's mean risk."""
    number, numbers = _own_numbers(rules, segments)
    table = [[getattr(bands, band) for band in RAISED] for bands in numbers]
    times = np.array([[one.times_base for one in row] for row in table])
    most = np.array([[one.at_most for one in row] for row in table])
    share = np.array([bands.release_share for bands in numbers])
    days = np.array([bands.release_after_days for bands in numbers], "m8[D]")
    begin = np.minimum(base_rates[:, None] * times[number], most[number])
    return Limits(
        begin=begin,
        end=begin * share[number][:, None],
        wait=days[number][:, None].astype("m8[us]"),
    )


def _own_numbers(
    rules: Rules, segments: Sequence[str | None]
) -> tuple[Integers, list[BandNumbers]]:
    """Each account's place among the sets of numbers: 0 where its segment has none of its own."""
    if not rules.segments:
        return np.zeros(len(segments), np.int64), [rules.bands]
    places = {name: place for place, name in enumerate(rules.segments, 1)}
    number = np.array([places.get(one, 0) if one else 0 for one in segments], np.int64)
    return number, [rules.bands, *(one.bands for one in rules.segments.values())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """The bands of some accounts: codes `(accounts,)`, and since when `(accounts,)`.

    `low_since` `(accounts, 3)`: since when the risk has been low enough to open that latch, in the
    order of `RAISED`; NaT: it is not.
    """

    code: Integers
    since: Moments
    low_since: Moments


def healthy(accounts: int, now: datetime) -> Bands:
    """The bands of accounts that nobody has looked at yet."""
    return Bands(
        code=np.zeros(accounts, np.int64),
        since=np.full(accounts, moment(now)),
        low_since=np.full((accounts, len(RAISED)), np.datetime64("NaT", "us")),
    )


def next_bands(previous: Bands, risks: Floats, bounds: Limits, now: datetime) -> Bands:
    """The bands after a look at the risks `(accounts,)`.

    Without a risk (NaN: too new, lapsed) nothing is known that could change the band.
    """
    at = moment(now)
    risk = risks[:, None]
    closed_before = np.arange(len(RAISED)) < previous.code[:, None]
    is_low = risk < bounds.end
    waited = np.where(np.isnat(previous.low_since), at, previous.low_since)
    has_waited = waited + bounds.wait <= at
    held = closed_before & ~(is_low & has_waited)
    closed = held | (risk >= bounds.begin)
    # The highest closed latch: 3 minus how many open ones stand above it.
    code = np.where(closed.any(axis=1), len(RAISED) - np.argmax(closed[:, ::-1], axis=1), 0)
    low_since = np.where(closed & is_low, waited, np.datetime64("NaT", "us"))
    known = ~np.isnan(risks)
    code = np.where(known, code, previous.code)
    return Bands(
        code=code,
        since=np.where(code == previous.code, previous.since, at),
        low_since=np.where(known[:, None], low_since, previous.low_since),
    )


def severity(band: Band) -> int:
    """0 healthy, 1 watch, 2 at_risk, 3 critical."""
    return BANDS.index(band)


def moment(time: datetime) -> np.datetime64:
    return np.datetime64(time.astimezone(UTC).replace(tzinfo=None), "us")
