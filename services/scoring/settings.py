"""Settings of scoring; each field's upper-case name is its environment variable."""

from datetime import timedelta
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from services.scoring import rules_file
from services.scoring.domain.rules import Rules, RulesRejected, read_default
from shared.log.topics import TOPICS
from shared.messages import REJECTED, UNPLACED_EVENTS, USAGE_EVENTS
from shared.settings import Settings

_DAY: Final = timedelta(days=1)
_REPLAYABLE: Final = sum(
    (
        one.retention
        for one in TOPICS
        if one.name in {UNPLACED_EVENTS, USAGE_EVENTS, REJECTED} and one.retention is not None
    ),
    timedelta(),
)
"""So long a record may lie in the log until it is placed, then until it is counted or rejected,
and then in quarantine.
"""


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
    max_event_age_days: int = Field(
        default=30, ge=1, description="as ingest has it: ids are kept for longer"
    )
    perennial_history_retention_days: int = Field(
        default=1_098,
        ge=400,
        description="days for which outcomes and flags are kept, and in the notifier ended work,"
        " messages and the audit log: three years",
    )
    perennial_retrain: Literal["auto", "off"] = Field(
        default="auto",
        description="auto: train each month where the training extra is installed; off: never",
    )
    perennial_rules_file: Path | None = Field(
        default=None, description="numbers of bands, flags and guards that differ from ours (TOML)"
    )
    perennial_sweep_interval_seconds: float = Field(default=0.5, gt=0, le=60)
    perennial_backfill_settle_seconds: float = Field(
        default=15,
        ge=0,
        description="quiet time after the last backfilled event before its accounts are scored;"
        " longer than PERENNIAL_PLACING_SETTLE_SECONDS, as those that name no account come so late",
    )
    perennial_placing_settle_seconds: float = Field(
        default=10,
        ge=0,
        le=600,
        description="how long after an event that names no account what others say of its user"
        " still counts for it",
    )
    perennial_placing_wait_hours: float = Field(
        default=24,
        gt=0,
        le=24 * 7,
        description="how long such an event waits for its user's first account, before quarantine",
    )
    perennial_waiting_events: int = Field(
        default=1_000_000,
        ge=1,
        description="how many such events may wait; beyond it the oldest go to quarantine",
    )
    perennial_register_seconds: float = Field(
        default=10, ge=0, le=3600, description="how old lists and figures of the read API may be"
    )
    perennial_intake_batch: int = Field(default=5_000, ge=1, le=50_000)

    @field_validator("perennial_rules_file")
    @classmethod
    def _is_accepted(cls, path: Path | None) -> Path | None:
        """A file that is wrong stops the program at start, not at the first look."""
        try:
            if path is not None:
                rules_file.read(path)
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        except RulesRejected as error:
            raise ValueError(f"{path}: {error}") from error
        return path

    @model_validator(mode="after")
    def _counts_nothing_twice(self) -> Self:
        """What the log or the quarantine still holds may come again, as late as it may be sent.

        The longest way is that of an event that names no account, and waits in between.
        """
        wait = timedelta(hours=self.perennial_placing_wait_hours)
        needed = timedelta(days=self.max_event_age_days) + wait + _REPLAYABLE
        if timedelta(days=self.perennial_event_id_retention_days) < needed:
            raise ValueError(
                f"PERENNIAL_EVENT_ID_RETENTION_DAYS must be at least {-(-needed // _DAY)}:"
                f" MAX_EVENT_AGE_DAYS ({self.max_event_age_days}), PERENNIAL_PLACING_WAIT_HOURS"
                f" ({self.perennial_placing_wait_hours:g}) and the retention of unplaced-events,"
                " usage-events and rejected, or a replay counts events twice"
            )
        return self

    @property
    def history(self) -> timedelta:
        return timedelta(days=self.perennial_history_retention_days)

    @property
    def retention(self) -> timedelta | None:
        days = self.activity_retention_days
        return timedelta(days=days) if days else None

    @property
    def rules(self) -> Rules:
        """The rules in force, as the file is now."""
        path = self.perennial_rules_file
        return read_default() if path is None else rules_file.read(path)
