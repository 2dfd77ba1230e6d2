"""`perennial keys`: the keys are records of the `sources` topic; there is no other store."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from services.process import CONSOLE_SCOPES, CONSOLE_SOURCE, announce_key
from shared.credentials import KeyRing, NewKey, Scope, Secret, new_key, record_of
from shared.errors import DependencyAway, Misconfigured, PerennialError
from shared.lifecycle import new_frame
from shared.log import Log
from shared.messages import WriteKey
from shared.sources import follow_keys
from shared.watchdog import Loop

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


async def rotate(
    log: Log, *, key_id: str, now: datetime, overlap: timedelta, valid: timedelta | None
) -> tuple[NewKey, WriteKey]:
    """A new key like that one, which from now on lives for `overlap` only: the new and the old."""
    old = await _find(log, key_id)
    if not is_live(old, now):
        raise UnknownKey(f"{key_id} is not live any more: `perennial keys create` makes another")
    made = await create(
        log,
        source=old.source,
        scopes=[Scope(scope) for scope in old.scopes],
        now=now,
        valid=valid,
    )
    ends = now + overlap
    if old.expires_at is not None:
        ends = min(ends, old.expires_at)
    ending = msgspec.structs.replace(old, expires_at=ends)
    await announce_key(log, ending)
    return made, ending


async def announce_console(log: Log, secret: Secret, *, now: datetime) -> bool:
    """Let every service know the console's key; False where it is known, also as revoked."""
    try:
        record = record_of(secret, source=CONSOLE_SOURCE, scopes=CONSOLE_SCOPES, now=now)
    except ValueError as error:
        raise Misconfigured(f"PERENNIAL_SCORING_KEY is {error}") from None
    if any(key.key_id == record.key_id for key in await read_all(log)):
        return False
    await announce_key(log, record)
    return True


async def revoke(log: Log, *, key_id: str, now: datetime) -> WriteKey:
    """End a key; it is refused within a second."""
    key = await _find(log, key_id)
    ended = msgspec.structs.replace(key, revoked_at=key.revoked_at or now)
    await announce_key(log, ended)
    return ended


async def _find(log: Log, key_id: str) -> WriteKey:
    for key in await read_all(log):
        if key.key_id == key_id:
            return key
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
