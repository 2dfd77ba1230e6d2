"""The keys and settings of all sources in memory, kept current from the compacted `sources` topic.

No database stands between a key and a request: ingest outlives an outage of PostgreSQL.
"""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

from shared import logging as logs
from shared.credentials import KeyRing
from shared.errors import InvalidMessage
from shared.log import Log, LogUnavailable
from shared.log.patience import enter_when_reachable
from shared.messages import SOURCES, Source, WriteKey, decode
from shared.watchdog import Loop

_WAIT = timedelta(milliseconds=500)
_FIRST_WAIT = timedelta(milliseconds=50)
_SOURCE = "source/"
_SURE_EVERY_SECONDS = 5.0

log = logs.get(__name__)


async def follow_keys(
    source: Log, ring: KeyRing, loop: Loop, stop: asyncio.Event, *, loaded: asyncio.Event
) -> None:
    """Keep `ring` current until `stop`; sets `loaded` once it has read all there was."""
    clock = asyncio.get_running_loop().time
    sure_at = clock()
    async with AsyncExitStack() as stack:
        stack.enter_context(
            loop.metrics.keys_age.told_by(lambda: [((loop.service,), clock() - sure_at)])
        )
        consumer = await enter_when_reachable(
            stack, lambda: source.follow(SOURCES), stop, progressed=loop.progressed
        )
        if consumer is None:
            return
        while not stop.is_set():
            # Until all is read there is no time to wait for more.
            wait = _WAIT if loaded.is_set() else _FIRST_WAIT
            batches = await consumer.fetch(max_records=1_000, wait=wait)
            for batch in batches:
                for record in batch.records:
                    _apply(ring, record.key, record.value)
            loop.progressed()
            # Nothing fetched says little: a log that is away has nothing either.
            if not loaded.is_set() or clock() - sure_at > _SURE_EVERY_SECONDS:
                try:
                    behind = await consumer.lag()
                except LogUnavailable:
                    continue
                if not any(lag.records for lag in behind.values()):
                    sure_at = clock()
                    ring.is_complete = True
                    loaded.set()


def key_of(source: str) -> bytes:
    """The key under which a source's settings lie in the topic, apart from those of the keys."""
    return f"{_SOURCE}{source}".encode()


def _apply(ring: KeyRing, key: bytes, value: bytes | None) -> None:
    name = key.decode("utf-8", "replace")
    try:
        if name.startswith(_SOURCE):
            if value is None:
                ring.remove_source(name.removeprefix(_SOURCE))
            else:
                ring.put_source(decode(Source, value))
        elif value is None:
            ring.remove(name)
        else:
            ring.put(decode(WriteKey, value))
    except InvalidMessage as error:
        # One broken record must not lock everybody out; it stays visible in the log.
        log.warning("sources.invalid", detail=error.detail)
