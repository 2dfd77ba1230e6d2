"""All checks, each in its turn and within a limit; what one raises is a finding of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services import keys
from services.doctor import care, database, messages, placing, scoring, surroundings
from services.doctor import keys as key_checks
from services.doctor import log as log_checks
from services.doctor.findings import Area, Finding, State, failed, skipped
from services.doctor.surroundings import Known
from services.opened_log import open_log
from shared import embedded_postgres
from shared.clock import Clock
from shared.credentials import KeyRing
from shared.database import STRAIGHT, Pooling, open_engine
from shared.errors import PerennialError
from shared.log import Log

_SECONDS: Final = 30.0


@dataclass(slots=True, kw_only=True)
class Examination:
    """One look at a deployment, as its environment names it."""

    clock: Clock
    only: Collection[Area]
    on_progress: Callable[[str], None]
    findings: list[Finding] = field(default_factory=list)

    async def run(self) -> list[Finding]:
        self.on_progress("settings")
        known = await asyncio.to_thread(surroundings.look)
        self._keep(known.findings)
        async with AsyncExitStack() as stack:
            url = await self._database_url(stack, known)
            pooling = STRAIGHT if known.database is None else known.database.pooling
            engine = None if url is None else await self._engine(stack, url, pooling)
            direct = None if url is None or engine is None else pooling.direct(url)
            log = await self._log(stack, known, direct)
            if log is not None and engine is not None:
                await self._look(Area.INTAKE, log_checks.look_at_reading(log, engine, self.clock))
            if engine is not None:
                await self._look_at_rows(engine)
            ring = None if log is None else await self._look_at_keys(log, known)
            if engine is not None:
                await self._look_at_placing(engine, ring)
        if known.notifier is not None:
            await self._look(Area.MESSAGES, messages.look(known.notifier))
        return [finding for finding in self.findings if finding.area in self.only]

    async def _database_url(self, stack: AsyncExitStack, known: Known) -> str | None:
        if known.database is None or known.process is None:
            self._keep([skipped(Area.DATABASE, "its settings are wrong")])
            return None
        if known.database.database_url is not None:
            return known.database.database_url.get_secret_value()
        folder = known.process.perennial_data_dir / "postgres"
        if not folder.exists():
            self._keep(
                [
                    failed(
                        Area.DATABASE,
                        f"DATABASE_URL is not set, and there is no embedded database in {folder}",
                        "perennial up makes it; or set DATABASE_URL",
                    )
                ]
            )
            return None
        self._keep(care.look_at_disk(folder))
        url: list[str] = []

        async def start() -> list[Finding]:
            url.append(await stack.enter_async_context(embedded_postgres.embedded_postgres(folder)))
            return []

        await self._look(Area.DATABASE, start())
        return url[0] if url else None

    async def _engine(
        self, stack: AsyncExitStack, url: str, pooling: Pooling
    ) -> AsyncEngine | None:
        """None: nothing can be read there, or not as this program knows it."""
        engine = await stack.enter_async_context(
            open_engine(url, application="perennial-doctor", pool_size=2, pooling=pooling)
        )
        found = await self._look(Area.DATABASE, database.look(engine, url, self.clock))
        if any(finding.state is State.FAILED for finding in found):
            self._keep(
                skipped(area, "the database is not as it must be")
                for area in (Area.SCORING, Area.INTAKE, Area.CARE)
            )
            return None
        return engine

    async def _log(self, stack: AsyncExitStack, known: Known, url: str | None) -> Log | None:
        settings = known.log
        if settings is None:
            self._keep([skipped(Area.LOG, "its settings are wrong")])
            return None
        brokers = settings.kafka_bootstrap_servers
        if brokers is None and url is None:
            self._keep([skipped(Area.LOG, "the log is in the database")])
            return None
        name = "the embedded log" if brokers is None else f"Kafka at {brokers}"
        opened: list[Log] = []

        async def look() -> list[Finding]:
            log = await stack.enter_async_context(open_log(settings, url))
            found = await log_checks.look(log, name=name)
            if all(finding.state is State.OK for finding in found):
                opened.append(log)
            return found

        await self._look(Area.LOG, look())
        if opened:
            return opened[0]
        self._keep(
            skipped(area, "the log is not as it must be") for area in (Area.INTAKE, Area.KEYS)
        )
        return None

    async def _look_at_rows(self, engine: AsyncEngine) -> None:
        checks: tuple[tuple[Area, Callable[[AsyncConnection], Awaitable[list[Finding]]]], ...] = (
            (Area.INTAKE, lambda one: log_checks.look_at_outboxes(one, self.clock)),
            (Area.SCORING, lambda one: scoring.look(one, self.clock)),
            (Area.MESSAGES, lambda one: messages.look_at_queue(one, self.clock)),
            (Area.CARE, lambda one: care.look(one, self.clock())),
        )
        for area, check in checks:

            async def ask(
                check: Callable[[AsyncConnection], Awaitable[list[Finding]]] = check,
            ) -> list[Finding]:
                async with engine.connect() as connection:
                    return await check(connection)

            await self._look(area, ask())

    async def _look_at_placing(self, engine: AsyncEngine, ring: KeyRing | None) -> None:
        described = [] if ring is None else ring.sources()
        served = {one.name for one in described if one.default_account is not None}

        async def look() -> list[Finding]:
            async with engine.connect() as connection:
                return await placing.look(connection, self.clock(), served=served)

        await self._look(Area.SCORING, look())

    async def _look_at_keys(self, log: Log, known: Known) -> KeyRing | None:
        """What the log says of sources and keys; None where it cannot be read."""
        secret = known.process.perennial_scoring_key if known.process is not None else None
        key = None if secret is None else secret.get_secret_value()
        found: list[KeyRing] = []

        async def look() -> list[Finding]:
            ring: KeyRing = await keys.read_ring(log)
            found.append(ring)
            now = self.clock()
            return [*key_checks.look(ring, now), *key_checks.look_at_console_key(ring, key, now)]

        await self._look(Area.KEYS, look())
        if known.notifier is not None:
            url = known.notifier.scoring_url
            await self._look(Area.KEYS, key_checks.look_at_read_api(url, key))
        return found[0] if found else None

    async def _look(self, area: Area, check: Awaitable[list[Finding]]) -> list[Finding]:
        self.on_progress(area)
        try:
            async with asyncio.timeout(_SECONDS):
                found = await check
        except TimeoutError:
            found = [failed(area, f"no answer within {_SECONDS:.0f} s", "look at it by hand")]
        except PerennialError as error:
            found = [failed(area, str(error), "see the message")]
        except Exception as error:  # noqa: BLE001 - a check that fails must not hide the others
            found = [_of_failure(area, error)]
        self._keep(found)
        return found

    def _keep(self, found: Iterable[Finding]) -> None:
        self.findings.extend(found)


def _of_failure(area: Area, error: Exception) -> Finding:
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
    if isinstance(cause, asyncpg.InsufficientPrivilegeError):
        return skipped(area, "this user of PostgreSQL may not look there: the tables' owner may")
    said = f"this check itself failed: {type(error).__name__}: {error}"
    return failed(area, said, "please report it")
