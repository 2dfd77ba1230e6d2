"""All metrics of scoring beside the common ones (`shared/telemetry.py`)."""

import collections
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from services.scoring.domain.directory import ChangeResult
from services.scoring.domain.model import ModelRefusal
from shared.clock import Clock, system_clock
from shared.log.positions import Result
from shared.messages import Band, FlagReason, PlacedBy
from shared.readings import Readings
from shared.telemetry import PIPELINE_BUCKETS, CommonMetrics

_SOURCES_SHOWN: Final = 100


_RISK_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8)


class Suppressed(StrEnum):
    DATA_STALE = "data_stale"
    MASS_FLAGS = "mass_flags"


class FlagCause(StrEnum):
    """What a flag was raised after: an event that came in, or the passing of a day."""

    EVENT = "event"
    CLOCK = "clock"


class UnplacedResult(StrEnum):
    """What became of a record of `unplaced-events`."""

    PLACED = "placed"
    WAITING = "waiting"
    DUPLICATE = "duplicate"
    """Of an event that waits already."""
    ERASED = "erased"
    QUARANTINED = "quarantined"


class GivenUp(StrEnum):
    """Why an event waits no more although no account was found."""

    LATE = "late"
    FULL = "full"
    ERASED = "erased"
    """Late, or one too many, and of an erased person: it is kept nowhere."""


class _Distribution(Collector):
    """A histogram of values that come as vectors: observing a million one by one takes seconds."""

    def __init__(self, name: str, documentation: str, limits: Sequence[float]) -> None:
        self.name = name
        self.label_names: tuple[str, ...] = ()
        self._documentation = documentation
        self._limits = np.array(limits)
        self._counts = np.zeros(len(limits) + 1, np.int64)
        self._sum = 0.0

    def observe(self, values: NDArray[np.float64]) -> None:
        """Count values; NaN is none."""
        known = values[~np.isnan(values)]
        places = np.searchsorted(self._limits, known)
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum += float(known.sum())

    def collect(self) -> Iterator[Metric]:
        names = [*(str(limit) for limit in self._limits.tolist()), "+Inf"]
        buckets = list(zip(names, np.cumsum(self._counts).tolist(), strict=True))
        yield HistogramMetricFamily(
            self.name, self._documentation, buckets=buckets, sum_value=self._sum
        )


class ScoringMetrics:
    """Created once per process."""

    def __init__(
        self, registry: CollectorRegistry, common: CommonMetrics, clock: Clock = system_clock
    ) -> None:
        self._clock = clock
        self._quarantined = common.quarantined
        self._events = Counter(
            "perennial_events_total",
            "Usage events taken in, by what became of them.",
            ["result"],
            registry=registry,
        )
        self.changes = Counter(
            "perennial_directory_changes_total",
            "Changes to the directory taken in, by what became of them.",
            ["result"],
            registry=registry,
        )
        self.unplaced = Counter(
            "perennial_unplaced_events_total",
            "Records of unplaced-events taken in, by what became of them.",
            ["result"],
            registry=registry,
        )
        self._placed = Counter(
            "perennial_events_placed_total",
            "Events whose account was found, at once or after a while, and by what.",
            ["by"],
            registry=registry,
        )
        self._given_up = Counter(
            "perennial_events_given_up_total",
            "Events that have waited for an account and found none, and why not longer.",
            ["why"],
            registry=registry,
        )
        self.fence_missed = Counter(
            "perennial_fence_missed_total",
            "Positions that had moved while the fence was switched off by a test.",
            registry=registry,
        )
        self.flags = Counter(
            "perennial_flags_total",
            "Changes of flags.",
            ["reason", "change"],
            registry=registry,
        )
        self.accounts = Gauge(
            "perennial_accounts", "Scored accounts by band.", ["band"], registry=registry
        )
        self.dirty = Gauge(
            "perennial_accounts_dirty", "Marks that wait for the sweep.", registry=registry
        )
        self.sweep_success = Gauge(
            "perennial_sweep_success_timestamp_seconds",
            "When a sweep round last ended well.",
            registry=registry,
        )
        self.sweep_seconds = Histogram(
            "perennial_sweep_seconds",
            "Time to score one chunk of accounts, its commit included.",
            buckets=PIPELINE_BUCKETS,
            registry=registry,
        )
        self.event_to_score = Histogram(
            "perennial_event_to_score_seconds",
            "From the arrival of an account's first unscored event to its score; no backfills.",
            buckets=PIPELINE_BUCKETS,
            registry=registry,
        )
        self.event_to_flag = Histogram(
            "perennial_event_to_flag_seconds",
            "From the event, or from the midnight, that raised a flag until its message leaves.",
            ["cause"],
            buckets=PIPELINE_BUCKETS,
            registry=registry,
        )
        self.risks = _Distribution(
            "perennial_risk_ratio", "Risks at each look at an account.", _RISK_BUCKETS
        )
        registry.register(self.risks)
        self.model_info = Gauge(
            "perennial_model_info", "Always 1; the model in service.", ["version"],
            registry=registry,
        )  # fmt: skip
        self.model_refusals = Counter(
            "perennial_model_refusals_total",
            "Model documents that were refused; the previous one stays in service.",
            ["reason"],
            registry=registry,
        )
        self.suppressed = Counter(
            "perennial_flags_suppressed_total",
            "Flags that were not raised, or not told, at a look, and why not.",
            ["reason"],
            registry=registry,
        )
        self.flags_held = Gauge(
            "perennial_flags_held", "Flags that the storm guard holds.", registry=registry
        )
        self.mass_flags = Gauge(
            "perennial_mass_flags",
            "1 while the storm guard holds flags: an admin looks and releases them.",
            registry=registry,
        )
        self.data_stale = Gauge(
            "perennial_data_stale",
            "1 while usage flags are suppressed for sources that are or just were out.",
            registry=registry,
        )
        self._source_stale = Gauge(
            "perennial_source_stale",
            'Whether a source is out now; "all": the log lags, or scoring was not at work.',
            ["source"],
            registry=registry,
        )
        self._sources: set[str] = set()
        for cause in FlagCause:
            self.event_to_flag.labels(cause)
        for suppressed in Suppressed:
            self.suppressed.labels(suppressed)
        self.model_psi_max = Gauge(
            "perennial_model_psi_max",
            "Stability index of the feature that has moved most since training; 0.25 is a lot.",
            registry=registry,
        )
        self.model_calibration_ratio = Gauge(
            "perennial_model_calibration_ratio",
            "Losses predicted / observed in the newest month that can tell.",
            registry=registry,
        )
        self.events_waiting = Gauge(
            "perennial_events_waiting",
            "Events that name no account and wait until their user is known in one.",
            registry=registry,
        )
        self.waiting_oldest = Readings(
            "perennial_events_waiting_oldest_seconds",
            "Age of the oldest event that waits for its user's account; 0 without one.",
            (),
            registry=registry,
        )
        self.waiting_oldest_since: datetime | None = None
        self.waiting_oldest.add(lambda: [((), self._age(self.waiting_oldest_since))])
        self.count_mismatch = Gauge(
            "perennial_count_mismatch_events",
            "Records passed without a result, or results without a record, over all partitions.",
            registry=registry,
        )
        self.event_id_days_ahead = Gauge(
            "perennial_event_id_days_ahead",
            "Days from today on that have a partition for event ids.",
            registry=registry,
        )
        self.erasures_pending = Gauge(
            "perennial_erasures_pending", "Erasures that are not finished.", registry=registry
        )
        self.erasure_oldest = Readings(
            "perennial_erasure_oldest_seconds",
            "Age of the oldest erasure that is not finished; 0 without one.",
            (),
            registry=registry,
        )
        self.erasure_oldest_since: datetime | None = None
        self.erasure_oldest.add(lambda: [((), self._age(self.erasure_oldest_since))])
        self.horizon_age = Readings(
            "perennial_placing_horizon_age_seconds",
            "How long ago all that was accepted by then has been taken in.",
            (),
            registry=registry,
        )
        self.backup_success = Gauge(
            "perennial_backup_success_timestamp_seconds",
            "When a backup last ended well; 0: never.",
            registry=registry,
        )
        self.database_size = Gauge(
            "perennial_database_size_bytes", "Size of the whole database.", registry=registry
        )
        for refusal in ModelRefusal:
            self.model_refusals.labels(refusal)
        for result in Result:
            self._events.labels(result)
        counters: Sequence[tuple[Counter, type[StrEnum]]] = (
            (self.unplaced, UnplacedResult),
            (self._placed, PlacedBy),
            (self._given_up, GivenUp),
            (self.changes, ChangeResult),
        )
        for counter, values in counters:
            for value in values:
                counter.labels(value)
        for reason in FlagReason:
            for change in ("raised", "updated", "cleared"):
                self.flags.labels(reason, change)
        for band in Band:
            self.accounts.labels(band)

    def count(self, results: Mapping[Result, int]) -> None:
        for result, events in results.items():
            self._events.labels(result).inc(events)

    def count_placed(self, ways: Iterable[PlacedBy]) -> None:
        for by, events in collections.Counter(ways).items():
            self._placed.labels(by).inc(events)

    def count_given_up(self, ended: Mapping[tuple[str, GivenUp], int]) -> None:
        for (_, why), events in ended.items():
            self._given_up.labels(why).inc(events)

    def _age(self, since: datetime | None) -> float:
        return 0.0 if since is None else max(0.0, (self._clock() - since).total_seconds())

    def quarantined(self, topic: str, code: str) -> None:
        self._quarantined.labels("scoring", topic, code).inc()

    def show_stale(self, out: Collection[str], *, is_stale: bool) -> None:
        """Which sources are out now; an empty name is all of them."""
        self.data_stale.set(is_stale)
        known = {source or "all" for source in out}
        for source in sorted(known - self._sources):
            # A name is a label only once it has been out, and there is room for a hundred.
            self._sources.add(source if len(self._sources) < _SOURCES_SHOWN else "others")
        hidden = known - self._sources
        for source in self._sources:
            is_out = source in known or (source == "others" and bool(hidden))
            self._source_stale.labels(source).set(is_out)

    def show_held(self, flags: int) -> None:
        self.flags_held.set(flags)
        self.mass_flags.set(flags > 0)
