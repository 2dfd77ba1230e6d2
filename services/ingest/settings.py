"""Settings of ingest; the numbers are those of the wire page, sections 4 and 5."""

from datetime import timedelta

from pydantic import Field

from shared.settings import Settings

_KIB = 1024
_MIB = 1024 * 1024


class IngestSettings(Settings):
    """Where ingest listens and how much it takes."""

    perennial_host: str = Field(default="127.0.0.1", description="address the HTTP port listens on")
    ingest_port: int = Field(default=8080, ge=0, le=65535, description="the HTTP port of the API")
    ingest_docs: bool = Field(
        default=False, description="serve a page to try the API at /docs; not for production"
    )
    perennial_drain_seconds: float | None = Field(
        default=None,
        ge=0,
        le=60,
        description="how long ingest serves on, unready, after SIGTERM; default 5",
    )
    ingest_flush_seconds: float = Field(
        default=10.0, ge=0, le=60, description="after that: how long requests in flight may take"
    )

    ingest_max_body_bytes: int = Field(default=8 * _MIB, ge=1, description="body as sent")
    ingest_max_inflated_bytes: int = Field(default=16 * _MIB, ge=1, description="body, inflated")
    ingest_max_items: int = Field(default=2_000, ge=1, description="items of one request")
    ingest_max_item_bytes: int = Field(default=64 * _KIB, ge=1, description="one item as sent")
    ingest_max_record_bytes: int = Field(
        default=96 * _KIB,
        ge=1,
        description="one item as a record with its key; see the topic's limit",
    )
    ingest_max_depth: int = Field(default=32, ge=1, le=200, description="levels of one item")
    max_event_age_days: int = Field(
        default=30, ge=1, description="older events need the backfill scope; below id retention"
    )

    ingest_rate_per_second: float = Field(
        default=5_000, ge=0, description="events a second of one key and process; 0: no limit"
    )
    ingest_rate_burst: float = Field(default=50_000, ge=1, description="events at once of one key")
    ingest_account_rate_per_second: float = Field(
        default=0,
        ge=0,
        description="events a second of one account; more take the overflow topic; 0: no limit",
    )
    ingest_account_rate_burst: float = Field(
        default=10_000, ge=1, description="events at once of one account"
    )
    ingest_quarantine_rate_per_second: float = Field(
        default=50,
        ge=0,
        description="rejected items a second of one source and process that are kept; 0: no limit",
    )
    ingest_quarantine_burst: float = Field(
        default=1_000, ge=1, description="rejected items at once of one source that are kept"
    )
    ingest_max_inflight_bytes: int = Field(default=64 * _MIB, ge=1, description="bodies held")
    ingest_max_inflight_events: int = Field(default=30_000, ge=1, description="items held")

    ingest_body_stall_seconds: float = Field(default=5.0, gt=0, description="between two chunks")
    ingest_body_total_seconds: float = Field(default=15.0, gt=0, description="the whole body")
    ingest_append_seconds: float = Field(
        default=5.0, gt=0, description="until the log has it; SDKs give up at 10"
    )

    @property
    def drain_seconds(self) -> float:
        return 5.0 if self.perennial_drain_seconds is None else self.perennial_drain_seconds

    @property
    def max_event_age(self) -> timedelta:
        return timedelta(days=self.max_event_age_days)

    @property
    def append_deadline(self) -> timedelta:
        return timedelta(seconds=self.ingest_append_seconds)
