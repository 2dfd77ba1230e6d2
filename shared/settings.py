"""Settings of the outside systems that several services share; each service adds its own class.

Read once, in `services/__main__.py`, from the environment and the files that it names for secrets;
frozen afterwards. A value that is missing or wrong stops the program at start and is named.
"""

from datetime import timedelta
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.database import Pooling
from shared.errors import Misconfigured
from shared.secret_files import SecretFiles


class Settings(BaseSettings):
    """A frozen group of settings; a field's name in upper case is its environment variable."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        # A secret that is too short would be in the traceback.
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, SecretFiles(settings_cls)


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
    perennial_production: bool = Field(
        default=False,
        description="refuse to start with what is fit for a try only: see SECURITY.md",
    )
    perennial_allow_plaintext: bool = Field(
        default=False,
        description="in production too, speak to Kafka and PostgreSQL without TLS: on a network"
        " that nobody else is on",
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

    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="how to speak to the brokers; SASL_SSL for production"
    )
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        default="SCRAM-SHA-512", description="how to sign in, with SASL_*"
    )
    kafka_sasl_username: str | None = Field(
        default=None, min_length=1, description="as whom, with SASL_*: one user for each service"
    )
    kafka_sasl_password: SecretStr | None = Field(default=None, min_length=1)
    kafka_ca_file: Path | None = Field(
        default=None, description="who signed the brokers' certificates (PEM); absent: the system's"
    )
    kafka_certificate_file: Path | None = Field(
        default=None, description="our certificate (PEM), where the brokers ask for one"
    )
    kafka_key_file: Path | None = Field(
        default=None, description="its key (PEM), without a passphrase"
    )

    @property
    def uses_tls(self) -> bool:
        return self.kafka_security_protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        return self.kafka_security_protocol.startswith("SASL_")

    @model_validator(mode="after")
    def _security_is_whole(self) -> Self:
        """Half of what is needed would be found out at the first record, or worse, not at all."""
        protocol = self.kafka_security_protocol
        sign_in = {
            "KAFKA_SASL_USERNAME": self.kafka_sasl_username,
            "KAFKA_SASL_PASSWORD": self.kafka_sasl_password,
        }
        files = {
            "KAFKA_CA_FILE": self.kafka_ca_file,
            "KAFKA_CERTIFICATE_FILE": self.kafka_certificate_file,
            "KAFKA_KEY_FILE": self.kafka_key_file,
        }
        problems = []
        if self.uses_sasl:
            problems += [
                f"{name} is needed where KAFKA_SECURITY_PROTOCOL is {protocol}"
                for name, value in sign_in.items()
                if value is None
            ]
        unused = {**({} if self.uses_sasl else sign_in), **({} if self.uses_tls else files)}
        problems += [
            f"{name} is of no use where KAFKA_SECURITY_PROTOCOL is {protocol}: unset one of them"
            for name, value in unused.items()
            if value is not None
        ]
        if (self.kafka_certificate_file is None) != (self.kafka_key_file is None):
            problems.append("KAFKA_CERTIFICATE_FILE and KAFKA_KEY_FILE belong together")
        if protocol != "PLAINTEXT" and self.kafka_bootstrap_servers is None:
            problems.append(
                f"KAFKA_SECURITY_PROTOCOL is {protocol}, but KAFKA_BOOTSTRAP_SERVERS is not set"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

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
    database_pool_size: int | None = Field(
        default=None,
        ge=4,
        le=200,
        description="connections of one service in one process; absent: as many as it may need",
    )
    database_pgbouncer: bool = Field(
        default=False, description="DATABASE_URL leads to PgBouncer in transaction mode"
    )
    database_direct_url: SecretStr | None = Field(
        default=None,
        description="around PgBouncer: for migrations and what holds a lock of a session",
    )

    @property
    def pooling(self) -> Pooling:
        direct = self.database_direct_url
        return Pooling(
            size=self.database_pool_size,
            is_pgbouncer=self.database_pgbouncer,
            direct_url=direct.get_secret_value() if direct else None,
        )

    @model_validator(mode="after")
    def _has_a_direct_way(self) -> Self:
        if self.database_pgbouncer and self.database_direct_url is None:
            raise ValueError(
                "DATABASE_DIRECT_URL is needed where DATABASE_PGBOUNCER is true: migrations and"
                " publishers hold locks of a session"
            )
        return self


class TracesSettings(Settings):
    """Where spans go, in OpenTelemetry's own words; its library reads the others of them itself."""

    otel_exporter_otlp_endpoint: str | None = Field(
        default=None, description="OTLP over HTTP, as http://collector:4318; absent: no spans"
    )
    otel_sdk_disabled: bool = Field(default=False, description="no spans, whatever else is set")

    @property
    def is_on(self) -> bool:
        return self.otel_exporter_otlp_endpoint is not None and not self.otel_sdk_disabled


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
