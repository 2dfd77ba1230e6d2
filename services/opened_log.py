"""The log that the environment names, open: Kafka where its servers are given, else embedded."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.errors import Misconfigured
from shared.log import Log
from shared.log.postgres import open_postgres_log
from shared.settings import LogSettings


@asynccontextmanager
async def open_log(settings: LogSettings, database_url: str | None) -> AsyncIterator[Log]:
    """Raises Misconfigured where a file that it names cannot be used, or no database is there."""
    if settings.kafka_bootstrap_servers is not None:
        async with _open_kafka(settings, settings.kafka_bootstrap_servers) as kafka:
            yield kafka
    elif database_url is None:
        raise Misconfigured("the embedded log needs a database: set DATABASE_URL")
    else:
        async with open_postgres_log(database_url) as embedded:
            yield embedded


@asynccontextmanager
async def _open_kafka(settings: LogSettings, servers: str) -> AsyncIterator[Log]:
    # The embedded mode needs none of it.
    from shared.log.kafka import open_kafka_log  # noqa: PLC0415
    from shared.log.kafka.cluster import SignIn  # noqa: PLC0415
    from shared.log.kafka.tls import context  # noqa: PLC0415

    tls = sign_in = None
    if settings.uses_tls:
        tls = context(
            authority=settings.kafka_ca_file,
            certificate=settings.kafka_certificate_file,
            key=settings.kafka_key_file,
        )
    username, password = settings.kafka_sasl_username, settings.kafka_sasl_password
    if username is not None and password is not None:
        sign_in = SignIn(
            mechanism=settings.kafka_sasl_mechanism,
            username=username,
            password=password.get_secret_value(),
        )
    async with open_kafka_log(
        bootstrap_servers=servers,
        topic_prefix=settings.perennial_topic_prefix,
        session_timeout=settings.session_timeout,
        request_timeout=settings.request_timeout,
        replicas=settings.kafka_replication_factor,
        tls=tls,
        sign_in=sign_in,
    ) as opened:
        yield opened
