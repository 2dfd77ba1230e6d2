"""One operating-system process: which services it runs, on which log and which database.

`perennial up` runs all three on what it starts itself; a container runs one of them on Kafka and a
PostgreSQL server. The services cannot tell the difference.
"""

import asyncio
import contextlib
import gc
import os
import secrets
import shutil
import signal
import threading
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from services import production
from services.kept_secrets import kept_secret
from services.opened_log import open_log
from services.starting import Prepared
from shared import certificates, failpoints, grants, migrations
from shared import logging as logs
from shared.clock import system_clock
from shared.credentials import Scope, Secret, new_key, record_of
from shared.database import Pooling
from shared.embedded_postgres import embedded_postgres
from shared.errors import DependencyAway, Misconfigured
from shared.lifecycle import (
    Frame,
    admin_app,
    measure_delay,
    new_frame,
    serve,
    stopped_within,
    watch,
)
from shared.log import Appended, Log, LogRefused, Record
from shared.log.topics import TOPICS
from shared.messages import SOURCES, Source, WriteKey, encode
from shared.settings import (
    DatabaseSettings,
    LogSettings,
    ProcessSettings,
    Settings,
    TracesSettings,
    read,
)
from shared.sources import key_of
from shared.tracing import open_tracing

CONSOLE_SOURCE: Final = "perennial-console"
CONSOLE_SCOPES: Final = (Scope.ACCOUNTS_READ,)
_HARD_STOP_SECONDS: Final = 40
_READY_POLL_SECONDS: Final = 0.1
_DISK_SECONDS: Final = 15.0
_OF_DATABASE: Final = ("sslrootcert", "sslcert")
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
    pooling: Pooling
    is_embedded: bool
    """The log is the embedded one: everything is on one machine."""

    @property
    def database(self) -> str:
        if self.database_url is None:
            raise Misconfigured("this needs a database: set DATABASE_URL")
        return self.database_url


@asynccontextmanager
async def open_backends(
    *,
    needs_database: bool,
    prepare: bool | None = None,
    settings: ProcessSettings | None = None,
) -> AsyncIterator[Backends]:
    """Open what the environment names, or start the embedded ones; ready to use if `prepare`.

    Without `prepare`, PERENNIAL_PREPARE says it: where a job migrates, nobody else has the right.
    """
    process = settings or read(ProcessSettings)
    prepare = process.perennial_prepare if prepare is None else prepare
    log_settings, database = read(LogSettings), read(DatabaseSettings)
    production.check(process, log_settings, database, needs_database=needs_database)
    pooling = database.pooling
    async with AsyncExitStack() as stack:
        url = direct = None
        if needs_database or log_settings.kafka_bootstrap_servers is None:
            if database.database_url is not None:
                url = database.database_url.get_secret_value()
            else:
                folder = process.perennial_data_dir / "postgres"
                url = await stack.enter_async_context(embedded_postgres(folder))
            direct = pooling.direct(url)
            if prepare:
                await _migrate(direct, log_settings)
        opened = await stack.enter_async_context(open_log(log_settings, direct))
        if prepare:
            await _create_topics(opened)
        yield Backends(
            log=opened,
            database_url=url,
            pooling=pooling,
            is_embedded=log_settings.kafka_bootstrap_servers is None,
        )


async def run_process(services: Collection[Service], stop: asyncio.Event) -> None:
    """Run the services until `stop`; raises the first failure after the others have stopped."""
    process, traces = read(ProcessSettings), read(TracesSettings)
    chosen = read_settings(services)
    needs_database = bool({Service.SCORING, Service.NOTIFIER} & set(services))
    production.check(
        process,
        read(LogSettings),
        read(DatabaseSettings),
        needs_database=needs_database,
        services=chosen,
    )
    failpoints.check_environment()
    only = next(iter(services)) if len(services) == 1 else None
    if only is not None:
        logs.bind(service=str(only))
    frame = new_frame()
    frame.metrics.build_info.labels(version("perennial")).set(1)
    for service in services:
        frame.health.starting(service)
    async with AsyncExitStack() as stack:
        # The admin port first: a slow start is seen as "not ready", not as "not there".
        await stack.enter_async_context(open_admin(frame, process))
        name = "perennial" if only is None else f"perennial-{only}"
        await stack.enter_async_context(open_tracing(traces, service=name))
        backends = await stack.enter_async_context(
            open_backends(
                needs_database=needs_database,
                settings=process,
            )
        )
        if not process.perennial_prepare:
            url = backends.database_url and backends.pooling.direct(backends.database_url)
            if not await Prepared(frame.health).wait(backends.log, url, stop):
                return
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
        asyncio.create_task(
            _run_named(service, settings, backends, process, frame, stop), name=service
        )
        for service, settings in chosen.items()
    ]
    watching = [
        asyncio.create_task(watch(frame, stop), name="watchdog"),
        asyncio.create_task(measure_delay(frame, stop), name="delay"),
        asyncio.create_task(_say_when_ready(chosen, frame, stop), name="ready"),
        asyncio.create_task(_say_when_draining(frame, stop), name="draining"),
        asyncio.create_task(
            certificates.watch(
                certificates_of(read(LogSettings), backends.database_url),
                frame.metrics.certificate_expiry,
                stop,
            ),
            name="certificates",
        ),
        asyncio.create_task(_measure_disk(backends, process, frame, stop), name="disk"),
    ]
    frame.health.add_watch("log client", backends.log.why_broken)
    await asyncio.wait([*tasks, watching[0]], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    # Whoever stands still may not stop either, and no signal has set a limit.
    with cut_in_time():
        results = await asyncio.gather(*tasks, *watching, return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures:
        raise failures[0]


async def _run_named(
    service: Service,
    settings: Settings,
    backends: Backends,
    process: ProcessSettings,
    frame: Frame,
    stop: asyncio.Event,
) -> None:
    """A task of its own: every line of it, and of what it starts, says which service it is."""
    logs.bind(service=str(service))
    await _RUN[service](settings, backends, process, frame, stop)


async def _say_when_ready(
    chosen: Mapping[Service, Settings], frame: Frame, stop: asyncio.Event
) -> None:
    while frame.health.why_unready():
        if await stopped_within(stop, _READY_POLL_SECONDS):
            return
    _leave_alone_what_is_there()
    log.info("process.ready", services=[str(service) for service in chosen])


def certificates_of(log_settings: LogSettings, database_url: str | None) -> dict[str, Path]:
    """The certificates that this process was given, by what names them."""
    parameters = parse_qs(urlsplit(database_url or "").query)
    given = {
        "kafka_ca": log_settings.kafka_ca_file,
        "kafka_certificate": log_settings.kafka_certificate_file,
        **{f"database_{name}": parameters.get(name, [None])[0] for name in _OF_DATABASE},
    }
    return {name: Path(file) for name, file in given.items() if file is not None}


async def _measure_disk(
    backends: Backends, process: ProcessSettings, frame: Frame, stop: asyncio.Event
) -> None:
    """How full it is where the embedded database lies; a server's disk is for others to watch."""
    if read(DatabaseSettings).database_url is not None or backends.database_url is None:
        return
    usage = await asyncio.to_thread(shutil.disk_usage, process.perennial_data_dir)
    with (
        frame.metrics.disk_free.told_by(lambda: [(("data",), usage.free)]),
        frame.metrics.disk_size.told_by(lambda: [(("data",), usage.total)]),
    ):
        while not await stopped_within(stop, _DISK_SECONDS):
            usage = await asyncio.to_thread(shutil.disk_usage, process.perennial_data_dir)


async def _say_when_draining(frame: Frame, stop: asyncio.Event) -> None:
    await stop.wait()
    frame.health.draining = True


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
    await run(
        settings,
        log=backends.log,
        database_url=backends.database,
        pooling=backends.pooling,
        frame=frame,
        stop=stop,
    )


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
        pooling=backends.pooling,
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
        _hard_stop().start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number.name)


@contextlib.contextmanager
def cut_in_time() -> Iterator[None]:
    """What is in the context has 40 s; then the process ends, whatever it is at."""
    timer = _hard_stop()
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _hard_stop() -> threading.Timer:
    """A thread of its own: a loop that is busy for good calls nothing later."""

    def cut() -> None:
        log.error("process.cut", seconds=_HARD_STOP_SECONDS)
        os._exit(1)

    timer = threading.Timer(_HARD_STOP_SECONDS, cut)
    timer.daemon = True
    return timer


def user_hash_key(settings: ProcessSettings) -> bytes:
    if settings.perennial_user_hash_key is not None:
        return settings.perennial_user_hash_key.get_secret_value().encode()
    return kept_secret(
        settings.perennial_data_dir / "user_hash.key", lambda: secrets.token_urlsafe(48)
    ).encode()


def notifier_secret(settings: ProcessSettings) -> str:
    if settings.perennial_notifier_secret is not None:
        return settings.perennial_notifier_secret.get_secret_value()
    return kept_secret(
        settings.perennial_data_dir / "notifier.key", lambda: secrets.token_urlsafe(48)
    )


async def console_key(settings: ProcessSettings, opened: Log) -> Secret:
    """The key with which the console asks scoring; where we made it ourselves, it is announced."""
    if settings.perennial_scoring_key is not None:
        return Secret(settings.perennial_scoring_key.get_secret_value())
    now = system_clock()
    key = Secret(
        kept_secret(
            settings.perennial_data_dir / "console.key",
            lambda: new_key(source=CONSOLE_SOURCE, scopes=CONSOLE_SCOPES, now=now).secret,
        )
    )
    # At each start, as the log may be another one than last time; compaction keeps one record.
    await announce_key(
        opened, record_of(key, source=CONSOLE_SOURCE, scopes=CONSOLE_SCOPES, now=now)
    )
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


async def _migrate(database_url: str, log_settings: LogSettings) -> None:
    try:
        if await migrations.upgrade(database_url):
            await grant(database_url, log_settings)
    except OSError as error:
        raise DependencyAway("PostgreSQL") from error


async def grant(database_url: str, log_settings: LogSettings) -> tuple[str, ...]:
    """Give the services' roles their rights, where there are such roles; says which."""
    return await grants.grant(database_url, has_log=log_settings.kafka_bootstrap_servers is None)


async def _create_topics(opened: Log) -> None:
    try:
        await opened.create_topics(TOPICS)
    except LogRefused as error:
        raise Misconfigured(str(error)) from error
