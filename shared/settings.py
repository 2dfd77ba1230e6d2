"""Settings of the outside systems that several services share; each service adds its own class.

Read once, in `services/__main__.py`, from the environment; frozen afterwards. A value that is
missing or wrong stops the program at start and is named.
"""

from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import Misconfigured


class Settings(BaseSettings):
    """A frozen group of settings; a field's name in upper case is its environment variable."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        # A secret that is too short would be in the traceback.
        hide_input_in_errors=True,
    )


class ProcessSettings(Settings):
    """The process itself."""

    perennial_data_dir: Path = Field(
        default=Path(".perennial"), description="where the embedded database and secrets live"
    )
    admin_port: int = Field(
        default=9100, ge=0, le=65535, description="/livez, /readyz, /metrics; never publish it"
    )
    perennial_log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    perennial_log_format: str | None = Field(
        default=None,
        pattern="^(json|console)$",
        description="json or console; default: console on a terminal, else json",
    )
    perennial_prepare: bool = Field(
        default=True, description="migrate the database and create topics at start"
    )
    perennial_user_hash_key: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="hashes user ids; never change it; absent: made once, kept in the data folder",
    )
    perennial_scoring_key: SecretStr | None = Field(
        default=None,
        description="key (accounts:read) with which the console asks scoring; absent: as above",
    )
    perennial_notifier_secret: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="signs the links in e-mails and draws who is held out; the same for every"
        " notifier; absent: as above",
    )


class LogSettings(Settings):
    """The log: Kafka where its servers are named, else tables in PostgreSQL."""

    kafka_bootstrap_servers: str | None = Field(
        default=None, description="host:port, comma separated; absent: the embedded log"
    )
    perennial_topic_prefix: str = Field(default="perennial.", pattern=r"^[a-zA-Z0-9._-]*$")
    kafka_session_timeout_ms: int = Field(default=30_000, ge=1_000)
    kafka_request_timeout_ms: int = Field(default=5_000, ge=500)
    kafka_replication_factor: int | None = Field(
        default=None,
        ge=1,
        description="replicas of each topic, for production; absent: 3, fewer on fewer brokers",
    )

    @property
    def session_timeout(self) -> timedelta:
        return timedelta(milliseconds=self.kafka_session_timeout_ms)

    @property
    def request_timeout(self) -> timedelta:
        return timedelta(milliseconds=self.kafka_request_timeout_ms)


class DatabaseSettings(Settings):
    """PostgreSQL: a server where its URL is given, else one that the program starts itself."""

    database_url: SecretStr | None = Field(
        default=None, description="postgresql://...; absent: embedded, in PERENNIAL_DATA_DIR"
    )


S = TypeVar("S", bound=Settings)


def read(kind: type[S]) -> S:
    """The settings from the environment; raises Misconfigured naming each wrong variable."""
    try:
        return kind()
    except ValidationError as error:
        lines = [
            ": ".join(
                part
                for part in (
                    ".".join(str(one) for one in problem["loc"]).upper(),
                    problem["msg"].removeprefix("Value error, "),
                )
                if part
            )
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise Misconfigured("; ".join(lines)) from error
