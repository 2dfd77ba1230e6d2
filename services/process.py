"""One operating-system process: which services it runs, on which log and which database.

`perennial up` runs all three on what it starts itself; a container runs one of them on Kafka and a
PostgreSQL server. The services cannot tell the difference.
"""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
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
from shared.lifecycle import Frame, admin_app, new_frame, serve, watch
from shared.log import Appended, Log, Record
from shared.log.postgres import open_postgres_log
from shared.log.topics import TOPICS
from shared.messages import SOURCES, WriteKey, encode
from shared.settings import DatabaseSettings, LogSettings, ProcessSettings, read

_HARD_STOP_SECONDS: Final = 40
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
    settings = read(ProcessSettings)
    failpoints.check_environment()
    frame = new_frame()
    frame.metrics.build_info.labels(version("perennial")).set(1)
    needs_database = bool({Service.SCORING, Service.NOTIFIER} & set(services))
    async with AsyncExitStack() as stack:
        # The admin port first: a slow start is seen as "not ready", not as "not there".
        for service in services:
            frame.health.starting(service)
        await stack.enter_async_context(
            serve(
                admin_app(frame), host=admin_host(), port=settings.admin_port, name="admin",
                grace_seconds=1,
            )
        )  # fmt: skip
        backends = await stack.enter_async_context(
            open_backends(
                needs_database=needs_database,
                prepare=settings.perennial_prepare,
                settings=settings,
            )
        )
        if not settings.perennial_prepare:
            await _check_topics(backends.log)
        await run_services(services, backends, settings, frame, stop)
    log.info("process.stopped")


async def run_services(
    services: Collection[Service],
    backends: Backends,
    settings: ProcessSettings,
    frame: Frame,
    stop: asyncio.Event,
) -> None:
    """Each service in a task; one that fails stops the others, then its failure is raised."""
    starts: dict[Service, Callable[[], Coroutine[object, object, None]]] = {
        Service.INGEST: lambda: _run_ingest(backends, settings, frame, stop),
        Service.SCORING: lambda: _run_scoring(backends, frame, stop),
        Service.NOTIFIER: lambda: _run_notifier(backends, settings, frame, stop),
    }
    tasks = [asyncio.create_task(starts[one](), name=one) for one in sorted(services)]
    watchdog = asyncio.create_task(watch(frame.health, stop), name="watchdog")
    await asyncio.wait([*tasks, watchdog], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    results = await asyncio.gather(*tasks, watchdog, return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures:
        raise failures[0]


async def _run_ingest(
    backends: Backends, settings: ProcessSettings, frame: Frame, stop: asyncio.Event
) -> None:
    from services.ingest.app import run  # noqa: PLC0415 - an image carries one service's extra
    from services.ingest.settings import IngestSettings  # noqa: PLC0415

    ingest = read(IngestSettings)
    if ingest.perennial_drain_seconds is None and backends.is_embedded:
        # No balancer stands before one machine: nobody needs to be told before the port closes.
        ingest = ingest.model_copy(update={"perennial_drain_seconds": 0.0})
    await run(
        ingest,
        log=backends.log,
        user_key=user_hash_key(settings),
        frame=frame,
        stop=stop,
    )


async def _run_scoring(backends: Backends, frame: Frame, stop: asyncio.Event) -> None:
    from services.scoring.app import run  # noqa: PLC0415
    from services.scoring.settings import ScoringSettings  # noqa: PLC0415

    await run(
        read(ScoringSettings),
        log=backends.log,
        database_url=backends.database,
        frame=frame,
        stop=stop,
    )


async def _run_notifier(
    backends: Backends, settings: ProcessSettings, frame: Frame, stop: asyncio.Event
) -> None:
    from services.notifier.app import run  # noqa: PLC0415
    from services.notifier.settings import NotifierSettings  # noqa: PLC0415

    await run(
        read(NotifierSettings),
        log=backends.log,
        database_url=backends.database,
        scoring_key=await console_key(settings, backends.log),
        frame=frame,
        stop=stop,
    )


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


def admin_host() -> str:
    """The admin port follows PERENNIAL_HOST: a container's is reached from outside it."""
    return os.environ.get("PERENNIAL_HOST") or "127.0.0.1"


def user_hash_key(settings: ProcessSettings) -> bytes:
    if settings.perennial_user_hash_key is not None:
        return settings.perennial_user_hash_key.get_secret_value().encode()
    return _kept_secret(
        settings.perennial_data_dir / "user_hash.key", lambda: secrets.token_urlsafe(48)
    ).encode()


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
    appended = await opened.append(
        SOURCES,
        [Record(key=record.key_id.encode(), value=encode(record))],
        deadline=_DEADLINE,
    )
    if appended[0] is not Appended.DURABLE:
        raise DependencyAway("the log")


def _kept_secret(path: Path, make: Callable[[], str]) -> str:
    """A secret that this deployment made once and keeps, readable by its user alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Written aside and linked: another process never reads half a secret.
        new = path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(make())
        try:
            os.link(new, path)
        finally:
            new.unlink()
    except FileExistsError:
        pass
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
