"""One operating-system process: which services it runs, on which log and which database.

`perennial up` runs all three on what it starts itself; a container runs one of them on Kafka and a
PostgreSQL server. The services cannot tell the difference.
"""

import asyncio
import contextlib
import gc
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Final

from shared import failpoints, migrations
from shared import logging as logs
from shared.clock import system_clock
from shared.credentials import Scope, Secret, new_key, record_of
from shared.embedded_postgres import embedded_postgres
from shared.errors import DependencyAway, Misconfigured, PerennialError
from shared.lifecycle import Frame, admin_app, new_frame, serve, stopped_within, watch
from shared.log import Appended, Log, Record
from shared.log.postgres import open_postgres_log
from shared.log.topics import TOPICS
from shared.messages import SOURCES, Source, WriteKey, encode
from shared.settings import DatabaseSettings, LogSettings, ProcessSettings, Settings, read
from shared.sources import key_of

_HARD_STOP_SECONDS: Final = 40
_READY_POLL_SECONDS: Final = 0.1
_DEADLINE: Final = timedelta(seconds=10)

log = logs.get(__name__)


class Service(StrEnum):
    INGEST = "ingest"
    SCORING = "scoring"
    NOTIFIER = "notifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backends:
    """The log and the database of this process, open; `database_url` None: not needed here."""

    log: Log
    database_url: str | None
    is_embedded: bool
    """The log is the embedded one: everything is on one machine."""

    @property
    def database(self) -> str:
        if self.database_url is None:
            raise Misconfigured("this needs a database: set DATABASE_URL")
        return self.database_url


@asynccontextmanager
async def open_backends(
    *, needs_database: bool, prepare: bool = True, settings: ProcessSettings | None = None
) -> AsyncIterator[Backends]:
    """Open what the environment names, or start the embedded ones; ready to use if `prepare`."""
    process = settings or read(ProcessSettings)
    log_settings, database = read(LogSettings), read(DatabaseSettings)
    async with AsyncExitStack() as stack:
        url = None
        if needs_database or log_settings.kafka_bootstrap_servers is None:
            if database.database_url is not None:
                url = database.database_url.get_secret_value()
            else:
                folder = process.perennial_data_dir / "postgres"
                url = await stack.enter_async_context(embedded_postgres(folder))
            if prepare:
                await _migrate(url)
        opened = await stack.enter_async_context(_open_log(log_settings, url))
        if prepare:
            await opened.create_topics(TOPICS)
        yield Backends(
            log=opened,
            database_url=url,
            is_embedded=log_settings.kafka_bootstrap_servers is None,
        )


async def run_process(services: Collection[Service], stop: asyncio.Event) -> None:
    """Run the services until `stop`; raises the first failure after the others have stopped."""
    process = read(ProcessSettings)
    chosen = read_settings(services)
    failpoints.check_environment()
    frame = new_frame()
    frame.metrics.build_info.labels(version("perennial")).set(1)
    for service in services:
        frame.health.starting(service)
    async with AsyncExitStack() as stack:
        # The admin port first: a slow start is seen as "not ready", not as "not there".
        await stack.enter_async_context(open_admin(frame, process))
        backends = await stack.enter_async_context(
            open_backends(
                needs_database=bool({Service.SCORING, Service.NOTIFIER} & set(services)),
                prepare=process.perennial_prepare,
                settings=process,
            )
        )
        if not process.perennial_prepare:
            await _check_topics(backends.log)
        await run_services(chosen, backends, process, frame, stop)
    log.info("process.stopped")


@asynccontextmanager
async def open_admin(frame: Frame, process: ProcessSettings) -> AsyncIterator[None]:
    # It follows PERENNIAL_HOST: a container's is asked from outside of it.
    host = os.environ.get("PERENNIAL_HOST") or "127.0.0.1"
    async with serve(
        admin_app(frame), host=host, port=process.admin_port, name="admin", grace_seconds=1
    ):
        yield


def read_settings(services: Collection[Service]) -> dict[Service, Settings]:
    """The settings of each service; raises Misconfigured before anything has been started."""
    return {service: _SETTINGS[service]() for service in sorted(services)}


async def run_services(
    chosen: Mapping[Service, Settings],
    backends: Backends,
    process: ProcessSettings,
    frame: Frame,
    stop: asyncio.Event,
) -> None:
    """Each service in a task; one that fails stops the others, then its failure is raised."""
    tasks = [
        asyncio.create_task(_RUN[service](settings, backends, process, frame, stop), name=service)
        for service, settings in chosen.items()
    ]
    watching = [
        asyncio.create_task(watch(frame.health, stop), name="watchdog"),
        asyncio.create_task(_say_when_ready(chosen, frame, stop), name="ready"),
    ]
    await asyncio.wait([*tasks, watching[0]], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    results = await asyncio.gather(*tasks, *watching, return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures:
        raise failures[0]


async def _say_when_ready(
    chosen: Mapping[Service, Settings], frame: Frame, stop: asyncio.Event
) -> None:
    while frame.health.why_unready():
        if await stopped_within(stop, _READY_POLL_SECONDS):
            return
    _leave_alone_what_is_there()
    log.info("process.ready", services=[str(service) for service in chosen])


def _leave_alone_what_is_there() -> None:
    """Keep the garbage collector from looking at modules and settings again and again.

    Almost nothing that a request makes is part of a cycle, yet with Python's own limits the search
    for cycles took about 25 us of each small request to ingest, and is seen as pauses.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


# An image carries the extra of one service: each is imported where it is asked for.
def _ingest_settings() -> Settings:
    from services.ingest.settings import IngestSettings  # noqa: PLC0415

    return read(IngestSettings)


def _scoring_settings() -> Settings:
    from services.scoring.settings import ScoringSettings  # noqa: PLC0415

    return read(ScoringSettings)


def _notifier_settings() -> Settings:
    from services.notifier.app import check  # noqa: PLC0415
    from services.notifier.settings import NotifierSettings  # noqa: PLC0415

    settings = read(NotifierSettings)
    check(settings)
    return settings


async def _run_ingest(
    settings: Settings,
    backends: Backends,
    process: ProcessSettings,
    frame: Frame,
    stop: asyncio.Event,
) -> None:
    from services.ingest.app import run  # noqa: PLC0415
    from services.ingest.settings import IngestSettings  # noqa: PLC0415

    assert isinstance(settings, IngestSettings)  # noqa: S101 - the tables below say so
    if settings.perennial_drain_seconds is None and backends.is_embedded:
        # No balancer stands before one machine: nobody needs to be told before the port closes.
        settings = settings.model_copy(update={"perennial_drain_seconds": 0.0})
    await run(settings, log=backends.log, user_key=user_hash_key(process), frame=frame, stop=stop)


async def _run_scoring(
    settings: Settings,
    backends: Backends,
    _process: ProcessSettings,
    frame: Frame,
    stop: asyncio.Event,
) -> None:
    from services.scoring.app import run  # noqa: PLC0415
    from services.scoring.settings import ScoringSettings  # noqa: PLC0415

    assert isinstance(settings, ScoringSettings)  # noqa: S101
    await run(settings, log=backends.log, database_url=backends.database, frame=frame, stop=stop)


async def _run_notifier(
    settings: Settings,
    backends: Backends,
    process: ProcessSettings,
    frame: Frame,
    stop: asyncio.Event,
) -> None:
    from services.notifier.app import run  # noqa: PLC0415
    from services.notifier.settings import NotifierSettings  # noqa: PLC0415

    assert isinstance(settings, NotifierSettings)  # noqa: S101
    await run(
        settings,
        log=backends.log,
        database_url=backends.database,
        scoring_key=await console_key(process, backends.log),
        secret=notifier_secret(process),
        frame=frame,
        stop=stop,
    )


_SETTINGS: Final = {
    Service.INGEST: _ingest_settings,
    Service.SCORING: _scoring_settings,
    Service.NOTIFIER: _notifier_settings,
}
_RUN: Final = {
    Service.INGEST: _run_ingest,
    Service.SCORING: _run_scoring,
    Service.NOTIFIER: _run_notifier,
}


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT ask for a clean stop; what does not end in 40 s is cut."""
    loop = asyncio.get_running_loop()

    def ask(name: str) -> None:
        if stop.is_set():
            return
        log.info("process.stopping", signal=name)
        stop.set()
        loop.call_later(_HARD_STOP_SECONDS, os._exit, 1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number.name)


def user_hash_key(settings: ProcessSettings) -> bytes:
    if settings.perennial_user_hash_key is not None:
        return settings.perennial_user_hash_key.get_secret_value().encode()
    return _kept_secret(
        settings.perennial_data_dir / "user_hash.key", lambda: secrets.token_urlsafe(48)
    ).encode()


def notifier_secret(settings: ProcessSettings) -> str:
    if settings.perennial_notifier_secret is not None:
        return settings.perennial_notifier_secret.get_secret_value()
    return _kept_secret(
        settings.perennial_data_dir / "notifier.key", lambda: secrets.token_urlsafe(48)
    )


async def console_key(settings: ProcessSettings, opened: Log) -> Secret:
    """The key with which the console asks scoring; where we made it ourselves, it is announced."""
    if settings.perennial_scoring_key is not None:
        return Secret(settings.perennial_scoring_key.get_secret_value())
    source, scopes, now = "perennial-console", [Scope.ACCOUNTS_READ], system_clock()
    key = Secret(
        _kept_secret(
            settings.perennial_data_dir / "console.key",
            lambda: new_key(source=source, scopes=scopes, now=now).secret,
        )
    )
    # At each start, as the log may be another one than last time; compaction keeps one record.
    await announce_key(opened, record_of(key, source=source, scopes=scopes, now=now))
    return key


async def announce_key(opened: Log, record: WriteKey) -> None:
    """Let every service know the key; it works as soon as they have read it."""
    await _tell(opened, Record(key=record.key_id.encode(), value=encode(record)))


async def publish_source(opened: Log, source: Source) -> None:
    """Let every service know how the source's events are to be read."""
    await _tell(opened, Record(key=key_of(source.name), value=encode(source)))


async def _tell(opened: Log, record: Record) -> None:
    appended = await opened.append(SOURCES, [record], deadline=_DEADLINE)
    if appended[0] is not Appended.DURABLE:
        raise DependencyAway("the log")


def _kept_secret(path: Path, make: Callable[[], str]) -> str:
    """A secret that this deployment made once and keeps, readable by its user alone."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written aside, then linked: another process never reads half a secret, and the one that
        # links first has made it for all.
        new = path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(make())
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
        new.unlink()
    return path.read_text().strip()


@asynccontextmanager
async def _open_log(settings: LogSettings, database_url: str | None) -> AsyncIterator[Log]:
    if settings.kafka_bootstrap_servers is None:
        if database_url is None:
            raise Misconfigured("the embedded log needs a database: set DATABASE_URL")
        async with open_postgres_log(database_url) as embedded:
            yield embedded
        return
    from shared.log.kafka import open_kafka_log  # noqa: PLC0415 - the embedded mode needs none

    async with open_kafka_log(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        topic_prefix=settings.perennial_topic_prefix,
        session_timeout=settings.session_timeout,
        request_timeout=settings.request_timeout,
        replicas=settings.kafka_replication_factor,
    ) as kafka:
        yield kafka


async def _migrate(database_url: str) -> None:
    try:
        await migrations.upgrade(database_url)
    except OSError as error:
        raise DependencyAway("PostgreSQL") from error


async def _check_topics(opened: Log) -> None:
    if wrong := await opened.check_topics(TOPICS):
        raise TopicsWrong("; ".join(wrong))


class TopicsWrong(PerennialError):
    """A topic is missing or has other settings; the message says which, and what to do."""
