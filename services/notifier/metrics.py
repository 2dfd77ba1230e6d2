"""All metrics of the notifier; labels are enums, never accounts or people."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.notifier.composing import Decided
from services.notifier.domain.attempts import Class
from services.notifier.domain.flags import OwnReason
from services.notifier.domain.interventions import Taken
from services.notifier.domain.policy import NotifyReason, SuppressReason
from services.notifier.routes import CHANNELS
from shared.clock import Clock
from shared.messages import Band, FlagReason, OutcomeKind
from shared.telemetry import PIPELINE_BUCKETS, CommonMetrics, Operation
from shared.transactions import measured

_HOUR = 3_600
_ACK_BUCKETS = tuple(hours * _HOUR for hours in (0.25, 1, 4, 8, 24, 48, 72, 120, 240))


class NotifierMetrics:
    def __init__(self, registry: CollectorRegistry, common: CommonMetrics) -> None:
        self.common = common

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"perennial_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"perennial_{name}", text, labels, registry=registry)

        self.flags_consumed = counter(
            "flags_consumed_total", "Flags taken in, by what they did.", "result"
        )
        self.interventions_open = gauge(
            "interventions_open", "Interventions not closed, by severity.", "severity"
        )
        self.overdue = gauge("overdue_interventions", "Open interventions past their due date.")
        self.notifications = counter(
            "notifications_total", "Deliveries decided, by reason.", "channel", "reason"
        )
        self.suppressed = counter(
            "suppressed_total", "Messages not sent although something happened.", "reason"
        )
        self.attempts = counter(
            "delivery_attempts_total", "Attempts, by how they ended.", "channel", "class"
        )
        self.digest_late = gauge(
            "digest_late_seconds", "How long after its time the last digest was queued."
        )
        self.dead = counter("deliveries_dead_total", "Deliveries given up.", "channel")
        self.ambiguous = counter(
            "deliveries_ambiguous_total", "Attempts of which nobody knows the end.", "channel"
        )
        self.pending = gauge("deliveries_pending", "Deliveries that wait.", "channel")
        self.oldest_due = gauge(
            "delivery_oldest_due_seconds", "Age of the oldest delivery that waits; 0 without one."
        )
        self.broken = gauge(
            "destinations_broken", "Destinations that refuse us until somebody acts.", "channel"
        )
        self.integration_broken = gauge(
            "integration_broken",
            "1 where a whole channel refuses us: a token, a password, a certificate.",
            "channel",
        )
        self.flag_to_delivery = Histogram(
            "perennial_flag_to_delivery_seconds",
            "From when a delivery is due to its acceptance.",
            ["channel"],
            buckets=PIPELINE_BUCKETS,
            registry=registry,
        )
        self.event_to_delivery = Histogram(
            "perennial_event_to_delivery_seconds",
            "From the arrival of what caused a message to its acceptance, without planned waits.",
            ["channel"],
            buckets=PIPELINE_BUCKETS,
            registry=registry,
        )
        self.ack_seconds = Histogram(
            "perennial_ack_seconds",
            "From the opening of an intervention to its acknowledgement.",
            buckets=_ACK_BUCKETS,
            registry=registry,
        )
        self.outcomes = counter(
            "outcomes_total", "Interventions closed, by outcome.", "outcome", "reason"
        )
        self.files_rejected = gauge(
            "files_rejected",
            "1 while what a file says now is refused; the last good holds.",
            "files",
        )
        self._preset()

    def decided(self, decided: Decided) -> None:
        for channel, reason in decided.queued:
            self.notifications.labels(channel, reason.value).inc()
        for against in decided.suppressed:
            self.suppressed.labels(against.value).inc()

    def measured(self, operation: Operation) -> AbstractContextManager[None]:
        return measured(self.common, "notifier", operation)

    def unexpected(self, loop: str) -> None:
        """Count an error that nobody expected and that ends no process."""
        self.common.unhandled_errors.labels("notifier", loop).inc()

    def set_oldest_due(self, since: datetime | None, clock: Clock) -> None:
        """Ages are computed at scrape: a stuck loop must not freeze its alarm."""
        self.oldest_due.set_function(
            lambda: 0.0 if since is None else max(0.0, (clock() - since).total_seconds())
        )

    def set_open(self, by_severity: Mapping[str, int]) -> None:
        for band in Band:
            self.interventions_open.labels(band.value).set(by_severity.get(band.value, 0))

    def _preset(self) -> None:
        for taken in Taken:
            self.flags_consumed.labels(taken.value)
        for against in SuppressReason:
            self.suppressed.labels(against.value)
        for channel in CHANNELS:
            for reason in NotifyReason:
                self.notifications.labels(channel, reason.value)
            for kind in Class:
                self.attempts.labels(channel, kind.value)
            self.dead.labels(channel)
            self.ambiguous.labels(channel)
            self.pending.labels(channel)
            self.broken.labels(channel)
            self.integration_broken.labels(channel)
            self.flag_to_delivery.labels(channel)
            self.event_to_delivery.labels(channel)
        for outcome in OutcomeKind:
            for reason in (*FlagReason, *OwnReason):
                self.outcomes.labels(outcome.value, reason.value)
        for files in ("team", "playbooks"):
            self.files_rejected.labels(files)
        self.set_open({})
