"""What must be there before a service starts: a schema that is new enough, and the topics.

Where a job makes both, a process may come before it, or into an outage: it waits, unready, and says
for what. What waiting does not mend is raised.
"""

import asyncio

from shared import database, migrations
from shared import logging as logs
from shared.errors import Misconfigured, PerennialError
from shared.lifecycle import Health, stopped_within
from shared.log import Log, LogRefused, LogUnavailable
from shared.log.topics import TOPICS

_PAUSE_SECONDS = 2.0

log = logs.get(__name__)


class TopicsWrong(PerennialError):
    """A topic is missing or has other settings; the message says which, and what to do."""


class Prepared:
    """Why a process cannot start yet; a reason of /readyz."""

    def __init__(self, health: Health) -> None:
        self._why: str | None = "not looked at yet"
        health.add_check("prepared", lambda: self._why)

    async def wait(self, opened: Log, database_url: str | None, stop: asyncio.Event) -> bool:
        """Until schema and topics are there; False where `stop` came first."""
        while not stop.is_set():
            why = None if database_url is None else await _why_no_schema(database_url)
            why = why or await _why_no_topics(opened)
            if why != self._why:
                self._why = why
                if why is not None:
                    log.warning("start.waits", why=why)
            if why is None:
                return True
            await stopped_within(stop, _PAUSE_SECONDS)
        return False


async def _why_no_schema(database_url: str) -> str | None:
    engine = database.plain_engine(database_url)
    try:
        async with engine.connect() as connection:
            found = await connection.run_sync(migrations.current)
    except Exception as error:
        if not database.is_away(error):
            raise
        return "the database does not answer"
    finally:
        await engine.dispose()
    # A revision that nobody here knows is newer: the schema only grows.
    return await asyncio.to_thread(_why_too_old, found)


def _why_too_old(found: str | None) -> str | None:
    newest = migrations.newest()
    if found == newest or (found is not None and found not in migrations.known()):
        return None
    return f"the schema is {found or 'not there'}, this needs {newest}: run `perennial migrate`"


async def _why_no_topics(opened: Log) -> str | None:
    try:
        wrong = await opened.check_topics(TOPICS)
    except LogRefused as error:
        raise Misconfigured(str(error)) from error
    except LogUnavailable:
        return "the log does not answer"
    if wrong:
        raise TopicsWrong("; ".join(wrong))
    return None
