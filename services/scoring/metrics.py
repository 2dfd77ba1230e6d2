"""All metrics of scoring beside the common ones (`shared/telemetry.py`)."""

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.scoring.domain.directory import ChangeResult
from shared.messages import Band, FlagReason
from shared.telemetry import PIPELINE_BUCKETS


class EventResult(StrEnum):
    COUNTED = "counted"
    DUPLICATE = "duplicate"
    ERASED = "erased"
    QUARANTINED = "quarantined"


class ScoringMetrics:
    """Created once per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
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
            "From the arrival of an account's first unscored event to its new score.",
            buckets=PIPELINE_BUCKETS,
            registry=registry,
        )
        self.model_info = Gauge(
            "perennial_model_info", "Always 1; the model in service.", ["version"],
            registry=registry,
        )  # fmt: skip
        self.model_refusals = Counter(
            "perennial_model_refusals_total",
            "Model documents that were refused; the previous one stays in service.",
            registry=registry,
        )
        for result in EventResult:
            self._events.labels(result)
        for changed in ChangeResult:
            self.changes.labels(changed)
        for reason in FlagReason:
            for change in ("raised", "updated", "cleared"):
                self.flags.labels(reason, change)
        for band in Band:
            self.accounts.labels(band)

    def count(self, result: EventResult, events: int) -> None:
        self._events.labels(result).inc(events)
