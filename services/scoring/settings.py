"""Settings of scoring; each field's upper-case name is its environment variable."""

from datetime import timedelta

from pydantic import Field

from shared.settings import Settings


class ScoringSettings(Settings):
    """What an operator may change about intake, sweep, risk and the read API."""

    perennial_host: str = Field(default="127.0.0.1", description="address the API listens on")
    scoring_port: int = Field(default=8081, ge=0, le=65535, description="the read API")
    activity_retention_days: int = Field(
        default=400, ge=0, description="days of use that are kept; 0 keeps all"
    )
    perennial_event_id_retention_days: int = Field(
        default=60, ge=40, description="how long the ids of counted events are kept"
    )
    perennial_expected_yearly_churn: float = Field(
        default=0.10,
        gt=0,
        lt=1,
        description="share of customers expected to leave in a year, until losses are known",
    )
    perennial_sweep_interval_seconds: float = Field(default=0.5, gt=0, le=60)
    perennial_backfill_settle_seconds: float = Field(
        default=10,
        ge=0,
        description="quiet time after the last backfilled event before its accounts are scored",
    )
    perennial_intake_batch: int = Field(default=5_000, ge=1, le=50_000)

    @property
    def retention(self) -> timedelta | None:
        days = self.activity_retention_days
        return timedelta(days=days) if days else None
