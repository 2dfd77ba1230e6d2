"""What PERENNIAL_PRODUCTION refuses: what is fit for a try, and harms where people rely on it.

All of it at once and by name, before anything is opened.
"""

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from shared.errors import Misconfigured
from shared.hosts import is_loopback
from shared.settings import DatabaseSettings, LogSettings, ProcessSettings, Settings

if TYPE_CHECKING:
    from services.process import Service

_FOR_TESTS = ("PERENNIAL_TESTING", "PERENNIAL_FAILPOINT", "PERENNIAL_SWITCHED_OFF")
_GUESSABLE = frozenset(
    {"admin", "changeme", "kafka", "password", "perennial", "postgres", "secret", "test"}
)
_FORGEABLE = 8
"""A key of so few different characters was typed, not drawn."""
_PRIVATE = "or, on a network that nobody else is on, set PERENNIAL_ALLOW_PLAINTEXT=true"


def check(
    process: ProcessSettings,
    log: LogSettings,
    database: DatabaseSettings,
    *,
    needs_database: bool,
    services: "Mapping[Service, Settings] | None" = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Raises Misconfigured with all that is wrong; does nothing unless PERENNIAL_PRODUCTION."""
    if not process.perennial_production:
        return
    found = [
        *_embedded(log, database, needs_database=needs_database),
        *_guessable(log, database),
        *(f"{name} is for tests: unset it" for name in _FOR_TESTS if environment.get(name)),
    ]
    if not process.perennial_allow_plaintext:
        found += _plaintext(log, database, environment)
    for service, settings in (services or {}).items():
        match str(service):
            case "ingest":
                found += _of_ingest(settings, process)
            case "notifier":
                found += _of_notifier(settings, process)
    if found:
        raise Misconfigured("PERENNIAL_PRODUCTION is true, but " + "; ".join(found))


def _embedded(
    log: LogSettings, database: DatabaseSettings, *, needs_database: bool
) -> Iterator[str]:
    if log.kafka_bootstrap_servers is None:
        yield "KAFKA_BOOTSTRAP_SERVERS is not set: the embedded log is for one machine"
    if needs_database and database.database_url is None:
        yield "DATABASE_URL is not set: the embedded PostgreSQL is for one machine"


def _guessable(log: LogSettings, database: DatabaseSettings) -> Iterator[str]:
    password = log.kafka_sasl_password
    if password is not None and _is_guessable(password.get_secret_value(), log.kafka_sasl_username):
        yield "KAFKA_SASL_PASSWORD can be guessed"
    for name, url in _urls(database):
        parts = urlsplit(url)
        if parts.password and _is_guessable(unquote(parts.password), parts.username):
            yield f"the password in {name} can be guessed"


def _is_guessable(secret: str, user: str | None) -> bool:
    return secret.lower() in _GUESSABLE or secret == user


def _plaintext(
    log: LogSettings, database: DatabaseSettings, environment: Mapping[str, str]
) -> Iterator[str]:
    servers = (log.kafka_bootstrap_servers or "").split(",")
    if not log.uses_tls and not all(is_loopback(one.rpartition(":")[0]) for one in servers if one):
        yield (
            f"KAFKA_SECURITY_PROTOCOL is {log.kafka_security_protocol}: set SASL_SSL, {_PRIVATE}"
        )
    for name, url in _urls(database):
        hosts, mode = _ends_of(url, environment)
        if mode != "verify-full" and not all(map(_is_near, hosts)):
            yield (f"{name} has no sslmode=verify-full (with sslrootcert=...): add it, {_PRIVATE}")


def _urls(database: DatabaseSettings) -> Iterator[tuple[str, str]]:
    for name in type(database).model_fields:
        value = getattr(database, name)
        if isinstance(value, SecretStr):
            yield name.upper(), value.get_secret_value()


def _ends_of(url: str, environment: Mapping[str, str]) -> tuple[list[str], str | None]:
    """The hosts that it leads to, and how it wants TLS; libpq's variables fill what it leaves."""
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    ends = parts.netloc.rpartition("@")[2].split(",")
    hosts = [end if end.endswith("]") else end.rpartition(":")[0] or end for end in ends if end]
    for given in options.get("host", []):
        hosts += given.split(",")
    if not hosts:
        hosts = environment.get("PGHOST", "localhost").split(",")
    return hosts, options.get("sslmode", [environment.get("PGSSLMODE")])[-1]


def _is_near(host: str) -> bool:
    return unquote(host).startswith(("/", "@")) or is_loopback(host)


# An image carries the extra of one service: each is imported where it is asked for.
def _of_ingest(settings: Settings, process: ProcessSettings) -> Iterator[str]:
    from services.ingest.settings import IngestSettings  # noqa: PLC0415

    assert isinstance(settings, IngestSettings)  # noqa: S101 - the process says so
    yield from _unless_given("PERENNIAL_USER_HASH_KEY", process.perennial_user_hash_key)
    if settings.ingest_docs:
        yield "INGEST_DOCS is true: anybody could see how it is made"


def _of_notifier(settings: Settings, process: ProcessSettings) -> Iterator[str]:
    from services.notifier.channels.email import server_of  # noqa: PLC0415
    from services.notifier.domain.access import SignIn  # noqa: PLC0415
    from services.notifier.settings import NotifierSettings  # noqa: PLC0415

    assert isinstance(settings, NotifierSettings)  # noqa: S101
    yield from _unless_given("PERENNIAL_NOTIFIER_SECRET", process.perennial_notifier_secret)
    if process.perennial_scoring_key is None:
        yield "PERENNIAL_SCORING_KEY is not set: each notifier would make one of its own"
    mode = settings.perennial_console_sign_in
    if mode is SignIn.OPEN or (mode is SignIn.AUTO and settings.is_private):
        yield f"PERENNIAL_CONSOLE_SIGN_IN is {mode}: say local or oidc, nobody may come in unasked"
    if settings.smtp_url is not None and not process.perennial_allow_plaintext:
        server = server_of(settings.smtp_url)
        if not (server.tls_at_connect or server.start_tls or is_loopback(server.host)):
            yield f"SMTP_URL ends in starttls=never: take that away, {_PRIVATE}"


def _unless_given(name: str, secret: SecretStr | None) -> Iterator[str]:
    if secret is None:
        yield f"{name} is not set: a secret of this machine alone would be made"
    elif len(set(secret.get_secret_value())) < _FORGEABLE:
        yield f"{name} can be guessed"
