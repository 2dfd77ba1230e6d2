"""The audit log of what an operator's command changed: written after it is done, where the
database is there; where it is not, the command says so and goes on.
"""

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime
from typing import TYPE_CHECKING

import typer

from services.process import Backends
from services.quarantine import operator
from shared.settings import DatabaseSettings, read

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_SECONDS = 10


async def audit(
    backends: "Backends | AsyncEngine",
    action: str,
    subject: str,
    *,
    at: datetime,
    account_id: str | None = None,
    **detail: str,
) -> bool:
    """Write that this user of the machine did it; False: it is not written, and stderr says so.

    `action` as `key.revoked`, `subject` by its id; no free text, no secret, nothing of a person.
    """
    why = await _why_not(backends, action, subject, at, account_id, detail)
    if why is not None:
        typer.echo(f"perennial: this is not in the audit log: {why}", err=True)
    return why is None


async def _why_not(
    backends: "Backends | AsyncEngine",
    action: str,
    subject: str,
    at: datetime,
    account_id: str | None,
    detail: dict[str, str],
) -> str | None:
    try:
        from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

        from services.notifier import audit as log  # noqa: PLC0415
        from services.notifier.domain.access import Role, Viewer  # noqa: PLC0415
        from shared.database import is_away, open_engine  # noqa: PLC0415
    except ImportError:
        return "this image knows no database"
    by = Viewer(address=f"cli:{operator()}", role=Role.ADMIN, way="command")
    try:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(asyncio.timeout(_SECONDS))
            if isinstance(backends, Backends):
                url = backends.database_url or _configured()
                if url is None:
                    return "DATABASE_URL is not set"
                engine = await stack.enter_async_context(
                    open_engine(
                        url,
                        application="perennial",
                        pool_size=1,
                        pooling=read(DatabaseSettings).pooling,
                    )
                )
            else:
                engine = backends
            connection = await stack.enter_async_context(engine.begin())
            await log.write(connection, by, action, subject, at=at, account_id=account_id, **detail)
    except (DBAPIError, OSError, TimeoutError) as error:
        if is_away(error):
            return "the database is away"
        cause = getattr(getattr(error, "orig", None), "__cause__", None) or error
        return f"the database refuses ({type(cause).__name__})"
    return None


def _configured() -> str | None:
    url = read(DatabaseSettings).database_url
    return None if url is None else url.get_secret_value()
