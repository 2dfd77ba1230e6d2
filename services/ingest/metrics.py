"""The full list of ingest's metrics; no account, user or key is a label."""

from collections.abc import Sequence
from enum import StrEnum

from prometheus_client import CollectorRegistry, Gauge

from services.ingest.inflight import InFlight
from services.ingest.replies import STATUS, RefusalCode
from services.ingest.results import RETRY_CODES, Code, Decoded, WarningCode
from services.ingest.wire import FormatName
from shared.messages import USAGE_EVENTS_OVERFLOW
from shared.tallies import Spread, Tally
from shared.telemetry import HTTP_BUCKETS

CLIENT_GONE = "client_gone"

_SIZES = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216)


class Mix(StrEnum):
    """What the items of one request came to."""

    ACCEPTED = "accepted"
    MIXED = "mixed"
    REJECTED = "rejected"
    RETRY = "retry"


class IngestMetrics:
    def __init__(self, registry: CollectorRegistry, inflight: InFlight) -> None:
        def tally(name: str, help_text: str, *labels: str) -> Tally:
            return Tally(f"perennial_ingest_{name}", help_text, labels, registry=registry)

        def spread(
            name: str, help_text: str, bounds: Sequence[float], labels: Sequence[str] = ()
        ) -> Spread:
            full_name = f"perennial_ingest_{name}"
            return Spread(full_name, help_text, labels, bounds=bounds, registry=registry)

        self.requests = tally("requests", "Requests answered.", "format", "status")
        self.items = tally("items", "Items answered.", "format", "status", "code")
        self.batches = tally("batches", "Requests by what became of their items.", "format", "mix")
        self.warnings = tally("warnings", "Warnings about accepted items.", "code")
        self.refused = tally("refused", "Requests refused as a whole.", "reason")
        self.unknown = tally(
            "unknown", "Items whose append was not known to have ended in time.", "format"
        )
        self.publisher_rebuilds = tally(
            "publisher_rebuilds", "Times that the client of the log was replaced."
        )
        self.overflow = tally(
            "overflow", "Events that took the overflow topic: their account is over its share."
        )
        self.quarantined = tally("quarantined", "Rejected items kept in quarantine.", "code")
        self.quarantine_dropped = tally(
            "quarantine_dropped", "Rejected items that quarantine did not keep.", "reason"
        )
        self.request_seconds = spread(
            "request_seconds", "From the headers to the answer.", HTTP_BUCKETS
        ).labels()
        self.append_seconds = spread(
            "append_seconds", "Until the log said what became of a request.", HTTP_BUCKETS
        ).labels()
        self.batch_items = spread(
            "batch_items", "Items in a request.", (1, 2, 5, 10, 50, 100, 250, 500, 1000, 2000)
        ).labels()
        body_bytes = spread(
            "body_bytes", "Size of bodies, as sent and inflated.", _SIZES, ["stage"]
        )
        self.body_bytes_sent = body_bytes.labels("sent")
        self.body_bytes_inflated = body_bytes.labels("inflated")
        self.clock_skew_seconds = spread(
            "clock_skew_seconds",
            "How far senders' clocks are off, where they say when they sent.",
            (0.1, 1, 10, 60, 300, 3600, 86_400, 604_800),
        ).labels()
        for name, help_text, read in (
            (
                "inflight_bytes",
                "Bytes of bodies that wait for their answer.",
                lambda: inflight.bytes,
            ),
            ("inflight_events", "Items that wait for the log.", lambda: inflight.events),
        ):
            gauge = Gauge(f"perennial_ingest_{name}", help_text, registry=registry)
            gauge.set_function(read)
        self.publisher_up = Gauge(
            "perennial_ingest_publisher_up",
            "0 while no append can pass although the log answers others.",
            registry=registry,
        )
        self.publisher_up.set(1)
        self._preset()

    def count(self, wire_format: str, decoded: Decoded) -> None:
        """Count the items of a request once it is settled what became of them."""
        accepted = rejected = retry = 0
        for result in decoded.results:
            if result.status == "accepted":
                accepted += 1
            else:
                rejected += result.status == "rejected"
                retry += result.status == "retry"
                self.items.labels(wire_format, result.status, result.code or "").inc()
            for warning in result.warnings:
                self.warnings.labels(warning.code).inc()
        if overflow := decoded.parcels.get(USAGE_EVENTS_OVERFLOW):
            self.overflow.labels().inc(len(overflow.records))
        if accepted:
            self.items.labels(wire_format, "accepted", "").inc(accepted)
        self.batches.labels(wire_format, _mix(accepted, rejected, retry)).inc()
        self.batch_items.observe(len(decoded.results))
        if decoded.skew_seconds is not None:
            self.clock_skew_seconds.observe(abs(decoded.skew_seconds))

    def _preset(self) -> None:
        """Start every series at zero: `rate()` misses the first increment of a new one."""
        for wire_format in FormatName:
            for status in {200, *STATUS.values()}:
                self.requests.labels(wire_format, str(status))
            self.items.labels(wire_format, "accepted", "")
            for code in Code:
                self.items.labels(wire_format, "retry" if code in RETRY_CODES else "rejected", code)
            for mix in Mix:
                self.batches.labels(wire_format, mix)
            self.unknown.labels(wire_format)
        self.overflow.labels()
        self.publisher_rebuilds.labels()
        for warning in WarningCode:
            self.warnings.labels(warning)
        for reason in (*RefusalCode, CLIENT_GONE):
            self.refused.labels(reason)


def _mix(accepted: int, rejected: int, retry: int) -> Mix:
    if retry:
        return Mix.RETRY
    if not rejected:
        return Mix.ACCEPTED
    return Mix.MIXED if accepted else Mix.REJECTED
