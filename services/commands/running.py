"""How a command runs: logging by the settings, one line for what went wrong, never a traceback."""

import logging
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
import uvloop

from shared import logging as logs
from shared.errors import Misconfigured, PerennialError
from shared.settings import ProcessSettings, Settings, read

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

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


def perform(work: Coroutine[Any, Any, T], *, usage: type[PerennialError] = Misconfigured) -> T:
    """Run to the end; what has a designed answer is one line on stderr, never a traceback.

    Exit codes: 1 it went wrong, 2 (Misconfigured or `usage`) the caller must ask otherwise.
    """
    try:
        return uvloop.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (PerennialError, BaseExceptionGroup) as error:
        first = _first(error)
        if not isinstance(first, PerennialError):
            raise
        misused = isinstance(first, (Misconfigured, usage))
        fail(str(first) or type(first).__name__, code=2 if misused else 1)


def on_database(ask: "Callable[[AsyncConnection], Awaitable[T]]") -> T:
    """Ask in one transaction."""
    from services.process import open_backends  # noqa: PLC0415
    from shared.database import open_engine  # noqa: PLC0415

    async def run() -> T:
        async with (
            open_backends(needs_database=True) as backends,
            open_engine(backends.database, application="perennial", pool_size=1) as engine,
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
