"""How a command runs: logging by the settings, one line for what went wrong, never a traceback."""

import logging
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
import uvloop

from shared import logging as logs
from shared.errors import Misconfigured, PerennialError
from shared.settings import ProcessSettings, Settings, read

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

log = logs.get(__name__)

T = TypeVar("T")
S = TypeVar("S", bound=Settings)

Json = Annotated[bool, typer.Option("--json", help="one line of JSON instead of text")]


def configure_logging(*, quiet: bool = False) -> None:
    settings = read_or_fail(ProcessSettings)
    level = settings.perennial_log_level
    if quiet and "PERENNIAL_LOG_LEVEL" not in os.environ:
        level = "warning"
    by_default = "console" if quiet or sys.stdout.isatty() else "json"
    logs.configure(level=level, form=settings.perennial_log_format or by_default)
    if quiet and "PERENNIAL_LOG_LEVEL" not in os.environ:
        # That Kafka is away is the command's own answer, in one sentence.
        for client in ("aiokafka", "kafka", "shared.log.kafka"):
            logging.getLogger(client).setLevel(logging.CRITICAL)


def perform(
    work: Coroutine[Any, Any, T],
    *,
    usage: type[PerennialError] = Misconfigured,
    is_service: bool = False,
) -> T:
    """Run to the end; whatever goes wrong is one line on stderr, never a traceback.

    Of a bug the log of a service has one; a command's, where PERENNIAL_LOG_LEVEL is debug.

    Exit codes: 1 it went wrong, 2 (Misconfigured or `usage`) the caller must ask otherwise.
    """
    try:
        return uvloop.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except typer.Exit:
        raise  # It has been said why; `Exit` is an error like any other.
    except Exception as error:
        first = _first(error)
        if isinstance(first, PerennialError):
            misused = isinstance(first, (Misconfigured, usage))
            fail(str(first) or type(first).__name__, code=2 if misused else 1)
        if _is_database_away(first):
            fail("PostgreSQL does not answer: `perennial doctor` says more", code=1)
        name, at = type(first).__name__, _where(first)
        if is_service:
            log.exception("process.failed", error=name, at=at)
        else:
            log.debug("command.failed", error=name, at=at, exc_info=True)
        if _is_refused(first):
            fail(
                f"PostgreSQL refuses the user of DATABASE_URL ({name}); commands that look at all"
                " services need the tables' owner: `perennial doctor` says more",
                code=1,
            )
        # Its message may hold values of the data.
        fail(f"this should not have happened: {name} at {at}; please report it", code=1)


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"


def _is_database_away(error: BaseException) -> bool:
    try:
        from shared.database import is_away  # noqa: PLC0415
    except ImportError:  # the image of ingest has no database
        return False
    return is_away(error)


def _is_refused(error: BaseException) -> bool:
    """Whether PostgreSQL does not let this user in, or not look there."""
    cause = getattr(getattr(error, "orig", None), "__cause__", None) or error
    state = getattr(cause, "sqlstate", None) or ""
    return state.startswith("28") or state in ("3D000", "42501")


def on_database(
    ask: "Callable[[AsyncConnection], Awaitable[T]]", *, prepare: bool | None = None
) -> T:
    """Ask in one transaction; `prepare`: as for `open_backends`."""
    from services.process import open_backends  # noqa: PLC0415
    from shared.database import open_engine  # noqa: PLC0415

    async def run() -> T:
        async with (
            open_backends(needs_database=True, prepare=prepare) as backends,
            open_engine(
                backends.database, application="perennial", pool_size=1, pooling=backends.pooling
            ) as engine,
            engine.begin() as connection,
        ):
            return await ask(connection)

    configure_logging(quiet=True)
    return perform(run())


def _first(error: BaseException) -> BaseException:
    """What failed first, out of the groups that tasks wrap it in."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def read_or_fail(kind: type[S]) -> S:
    try:
        return read(kind)
    except Misconfigured as error:
        fail(str(error), code=2)


def fail(message: str, *, code: int) -> NoReturn:
    typer.echo(f"perennial: {message}", err=True)
    raise typer.Exit(code)
