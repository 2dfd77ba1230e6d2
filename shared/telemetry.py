"""Metrics that every service has, and the buckets that all histograms share.

A service's own list is in its `metrics.py`. Labels are enums or bounded by configuration, never
accounts, people, URLs or error texts; label values start at zero, else `rate()` misses the first.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.readings import Readings
from shared.tallies import Spread, Tally

HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
PIPELINE_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 900, 3600)

_DELAY_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Dependency(StrEnum):
    """What a service needs and cannot mend."""

    LOG = "log"
    DATABASE = "database"
    SCORING_API = "scoring_api"


class DatabaseErrorKind(StrEnum):
    """What an error of PostgreSQL says about it."""

    AWAY = "away"
    TRANSIENT = "transient"
    DATA = "data"
    TIMEOUT = "timeout"
    OTHER = "other"


class Operation(StrEnum):
    """The transactions that are measured."""

    CLAIM = "claim"
    TAKE_IN = "take_in"
    SET_ASIDE = "set_aside"
    SWEEP = "sweep"
    RELEASE = "release"
    RECORD = "record"
    LOOK = "look"


class QuarantineReason(StrEnum):
    """Why a record cannot be taken in; the codes of `InvalidMessage`."""

    INVALID_MESSAGE = "invalid_message"
    INVALID_FLAG = "invalid_flag"
    INVALID_ACCOUNT = "invalid_account"
    INVALID_ID = "invalid_id"
    NOT_STORABLE = "not_storable"


HTTP_LOOP: Final = "http"
"""The `loop` of errors that a request died of."""


class CommonMetrics:
    """One set per process; in `perennial up` the three services share it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"perennial_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"perennial_{name}", text, labels, registry=registry)

        def tally(name: str, text: str, *labels: str) -> Tally:
            return Tally(f"perennial_{name}", text, labels, registry=registry)

        def readings(name: str, text: str, *labels: str) -> Readings:
            return Readings(f"perennial_{name}", text, labels, registry=registry)

        def spread(name: str, text: str, bounds: Sequence[float], *labels: str) -> Spread:
            return Spread(f"perennial_{name}", text, labels, bounds=bounds, registry=registry)

        self.build_info = gauge("build_info", "Always 1; the running version.", "version")
        self.dependency_up = gauge(
            "dependency_up", "1 while the dependency answers.", "service", "dependency"
        )
        self.loop_progress = gauge(
            "loop_progress_timestamp_seconds",
            "When the loop last finished a round.",
            "service",
            "loop",
        )
        self.loop_limit = gauge(
            "loop_limit_seconds",
            "After so long without progress the watchdog ends the process; 0: it does not.",
            "service",
            "loop",
        )
        self.unhandled_errors = counter(
            "unhandled_errors_total",
            "Errors that nobody expected, by the loop that met them.",
            "service",
            "loop",
        )
        self.event_loop_delay = spread(
            "event_loop_delay_seconds",
            "How late the process came to what was due.",
            _DELAY_BUCKETS,
        ).labels()
        self.keys_age = readings(
            "keys_age_seconds", "How long ago all keys were last known to be read.", "service"
        )
        self.database_connections = readings(
            "database_connections",
            "Connections to PostgreSQL: in_use, idle, and the limit of their number.",
            "service",
            "state",
        )
        self.database_errors = tally(
            "database_errors", "Errors that PostgreSQL or the way to it gave.", "service", "kind"
        )
        self.transaction_seconds = spread(
            "transaction_seconds",
            "Time of one transaction, its commit included.",
            HTTP_BUCKETS,
            "service",
            "operation",
        )
        self.lag_records = readings(
            "log_lag_records",
            "Records that wait to be taken in.",
            "service",
            "topic",
            "partition",
        )
        self.lag_seconds = readings(
            "log_lag_seconds",
            "Age of the last record taken in while others wait; 0 without lag.",
            "service",
            "topic",
            "partition",
        )
        self.partitions_assigned = readings(
            "log_partitions_assigned",
            "Partitions that this process consumes.",
            "service",
            "topic",
        )
        self.topic_partitions = readings(
            "log_topic_partitions", "Partitions that the topic has.", "service", "topic"
        )
        self.rebalances = counter(
            "log_rebalances_total", "Changes of the partitions that this process has.", "service"
        )
        self.fenced = counter(
            "log_fenced_batches_total",
            "Batches given up because another member owns the partition.",
            "service",
            "topic",
        )
        self.gaps = counter(
            "log_gap_records_total",
            "Records that the log had already deleted when they were wanted.",
            "service",
            "topic",
        )
        self.quarantined = counter(
            "quarantined_total",
            "Records set aside, by topic and reason.",
            "service",
            "topic",
            "reason",
        )
        self.batch_seconds = Histogram(
            "perennial_batch_seconds",
            "Time to take one batch in, its commit included.",
            ["service", "topic"],
            buckets=HTTP_BUCKETS,
            registry=registry,
        )
        self.batch_records = Histogram(
            "perennial_batch_records",
            "Records in one batch.",
            ["service", "topic"],
            buckets=(1, 10, 100, 500, 1000, 2000, 5000, 10000),
            registry=registry,
        )
        self.http_requests = tally(
            "http_requests",
            "Requests answered, by the template of their path.",
            "service",
            "route",
            "method",
            "code",
        )
        self.http_request_seconds = spread(
            "http_request_seconds",
            "From the request's headers to the end of its answer.",
            HTTP_BUCKETS,
            "service",
            "route",
        )
        self.outbox_rows = readings("outbox_rows", "Messages that wait for the relay.", "service")
        self.outbox_oldest = readings(
            "outbox_oldest_seconds",
            "Age of the oldest message that waits for the relay; 0 without one.",
            "service",
        )
        self.certificate_expiry = readings(
            "certificate_expiry_timestamp_seconds",
            "When a certificate that this process was given expires.",
            "certificate",
        )
        self.disk_free = readings(
            "disk_free_bytes", "Free space where the folder is; embedded log only.", "folder"
        )
        self.disk_size = readings(
            "disk_size_bytes", "Size of the disk where the folder is.", "folder"
        )

    def preset(
        self,
        service: str,
        topics: Iterable[str],
        loops: Iterable[str],
        *,
        dependencies: Iterable[Dependency] = (),
        operations: Iterable[Operation] = (),
    ) -> None:
        """Start the series of one service at zero; a dependency is taken to be there."""
        for topic in topics:
            self.fenced.labels(service, topic)
            self.gaps.labels(service, topic)
            self.batch_seconds.labels(service, topic)
            self.batch_records.labels(service, topic)
            for reason in QuarantineReason:
                self.quarantined.labels(service, topic, reason)
            self.rebalances.labels(service)
        for loop in (*loops, HTTP_LOOP):
            self.unhandled_errors.labels(service, loop)
        for loop in loops:
            self.loop_progress.labels(service, loop)
            self.loop_limit.labels(service, loop)
        for dependency in dependencies:
            self.dependency_up.labels(service, dependency).set(1)
            if dependency is Dependency.DATABASE:
                for kind in DatabaseErrorKind:
                    self.database_errors.labels(service, kind)
        for operation in operations:
            self.transaction_seconds.labels(service, operation)
