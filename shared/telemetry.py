"""Metrics that every service has, and the buckets that all histograms share.

A service's own list is in its `metrics.py`. Labels are enums or bounded by configuration, never
accounts, people, URLs or error texts; label values start at zero, else `rate()` misses the first.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
PIPELINE_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 900, 3600)


class CommonMetrics:
    """One set per process; in `perennial up` the three services share it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.build_info = Gauge(
            "perennial_build_info", "Always 1; the running version.", ["version"], registry=registry
        )
        self.dependency_up = Gauge(
            "perennial_dependency_up",
            "1 while the dependency answers.",
            ["service", "dependency"],
            registry=registry,
        )
        self.loop_progress = Gauge(
            "perennial_loop_progress_timestamp_seconds",
            "When the loop last finished a round.",
            ["service", "loop"],
            registry=registry,
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
        self.fenced = Counter(
            "perennial_log_fenced_batches_total",
            "Batches given up because another member owns the partition.",
            ["service", "topic"],
            registry=registry,
        )
        self.gaps = Counter(
            "perennial_log_gap_records_total",
            "Records that the log had already deleted when they were wanted.",
            ["service", "topic"],
            registry=registry,
        )
        self.quarantined = Counter(
            "perennial_quarantined_total",
            "Records set aside, by topic and reason.",
            ["service", "topic", "reason"],
            registry=registry,
        )
        self.lag_records = Gauge(
            "perennial_log_lag_records",
            "Records that wait to be taken in.",
            ["service", "topic", "partition"],
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "perennial_log_lag_seconds",
            "Age of the last record taken in while others wait; 0 without lag.",
            ["service", "topic", "partition"],
            registry=registry,
        )

    def preset(self, service: str, topics: tuple[str, ...], loops: tuple[str, ...]) -> None:
        """Start the series of one service at zero."""
        for topic in topics:
            self.fenced.labels(service, topic)
            self.gaps.labels(service, topic)
            self.batch_seconds.labels(service, topic)
            self.batch_records.labels(service, topic)
        for loop in loops:
            self.loop_progress.labels(service, loop)
