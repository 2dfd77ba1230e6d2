"""`perennial keys`: the keys are records of the `sources` topic; there is no other store."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from services.process import announce_key
from shared.credentials import KeyRing, NewKey, Scope, new_key
from shared.errors import DependencyAway, PerennialError
from shared.lifecycle import Loop, new_frame
from shared.log import Log
from shared.messages import WriteKey
from shared.sources import follow_keys

_MOST_LIVE_PER_SOURCE: Final = 2
_READ_SECONDS: Final = 15


class TooManyKeys(PerennialError):
    """A source has two live keys, enough to rotate: revoke one first (`perennial keys list`)."""


class UnknownKey(PerennialError):
    """No key has this id: `perennial keys list` shows them all."""


async def create(
    log: Log, *, source: str, scopes: Sequence[Scope], now: datetime, valid: timedelta | None
) -> NewKey:
    """A key that works as soon as the services have read of it (within a second)."""
    live = [key for key in await read_all(log) if key.source == source and is_live(key, now)]
    if len(live) >= _MOST_LIVE_PER_SOURCE:
        raise TooManyKeys(
            f"source {source} has two live keys ({', '.join(key.key_id for key in live)}), enough"
            " to rotate: revoke one first"
        )
    made = new_key(
        source=source, scopes=scopes, now=now, expires_at=None if valid is None else now + valid
    )
    await announce_key(log, made.record)
    return made


async def revoke(log: Log, *, key_id: str, now: datetime) -> WriteKey:
    """End a key; it is refused within a second."""
    for key in await read_all(log):
        if key.key_id == key_id:
            ended = msgspec.structs.replace(key, revoked_at=key.revoked_at or now)
            await announce_key(log, ended)
            return ended
    raise UnknownKey(f"no key has the id {key_id}: `perennial keys list` shows them all")


async def read_all(log: Log) -> list[WriteKey]:
    """Every key that was ever made, the oldest first."""
    return (await read_ring(log)).records()


async def read_ring(log: Log) -> KeyRing:
    """All that the `sources` topic says now."""
    ring, stop, loaded = KeyRing(), asyncio.Event(), asyncio.Event()
    loop = Loop(service="cli", name="keys", metrics=new_frame().metrics)
    following = asyncio.create_task(follow_keys(log, ring, loop, stop, loaded=loaded))
    reading = asyncio.create_task(loaded.wait())
    try:
        async with asyncio.timeout(_READ_SECONDS):
            await asyncio.wait({following, reading}, return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError as error:
        raise DependencyAway("the log") from error
    finally:
        reading.cancel()
        following.cancel()
        results = await asyncio.gather(following, return_exceptions=True)
    if not loaded.is_set() and isinstance(results[0], Exception):
        raise results[0]
    return ring


def is_live(key: WriteKey, now: datetime) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now)
