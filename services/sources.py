"""`perennial sources`: how each source's events are read, as records of the `sources` topic."""

from services.keys import read_ring
from services.process import publish_source
from shared.log import Log
from shared.messages import Source


async def describe(log: Log, source: Source) -> None:
    """From now on; what was sent before stays as it was."""
    await publish_source(log, source)


async def read_all(log: Log) -> list[Source]:
    """All sources that have settings, and those that only have keys."""
    ring = await read_ring(log)
    names = {key.source for key in ring.records()} | {source.name for source in ring.sources()}
    return [ring.source(name) for name in sorted(names)]
