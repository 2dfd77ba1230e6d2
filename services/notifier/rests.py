"""How long destinations, and whole channels, rest; by the database's clock.

Called last in a transaction, after all decisions: senders wait for what is locked here.
"""

from datetime import timedelta

from sqlalchemy import Interval, bindparam, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.composing import Claimed
from services.notifier.domain.attempts import Failure, Next
from services.notifier.tables import channels, destinations

_MAX_DETAIL = 300
# Made once: making and reading a statement anew costs more than running it.
_AFTER_SENT = (
    update(destinations)
    .where(
        destinations.c.destination == bindparam("place"),
        destinations.c.claim == bindparam("held"),
    )
    .values(
        claim=None,
        lease_until=None,
        next_allowed_at=func.now() + bindparam("pace", type_=Interval),
        failures=0,
        broken_since=None,
        probe_at=None,
        last_failure=None,
    )
)
# How often one message tries whether a destination that refused us still does.
_PROBE_EVERY = timedelta(minutes=15)


async def after_sent(connection: AsyncConnection, held: Claimed, *, pace: timedelta) -> None:
    """The destination works, and with it its channel."""
    ours = {"place": held.destination, "held": held.claim, "pace": pace}
    await connection.execute(_AFTER_SENT, ours)
    if held.channel_failures:
        await _mend_channel(connection, held.channel)


async def after_nothing(connection: AsyncConnection, held: Claimed) -> None:
    """Nothing was sent, so nothing is known of the destination that was not known before."""
    await free(connection, held)
    if held.channel_failures:
        await change_channel(connection, held.channel, paused_until=func.now())


async def after_failed(
    connection: AsyncConnection, held: Claimed, failure: Failure, step: Next
) -> str | None:
    """The destination rests, or the whole channel pauses; the name of what has broken just now."""
    to = destinations.c
    said = f"{failure.kind}: {failure.detail}"[:_MAX_DETAIL]
    values: dict[str, object] = {"last_failure": said}
    if step.breaks_destination:
        values["broken_since"] = func.coalesce(to.broken_since, func.now())
        values["probe_at"] = None if step.switches_off else func.now() + _PROBE_EVERY
    if step.counts:
        values["failures"] = to.failures + 1
    if not step.rests_channel:
        values["next_allowed_at"] = func.now() + step.rest
    if failure.retry_after is not None and not step.rests_channel:
        values["asked_until"] = func.now() + failure.retry_after
    newly_broken = await free(connection, held, **values)
    if step.rests_channel:
        if await _pause_channel(connection, held, step, said):
            return held.channel
    elif held.channel_failures:
        if step.counts:
            # It did not answer, so it is not known whether the channel takes messages again.
            await change_channel(connection, held.channel, paused_until=func.now() + step.rest)
        else:
            await _mend_channel(connection, held.channel)
    return held.destination if step.breaks_destination and newly_broken else None


async def reopen(connection: AsyncConnection, destination: str | None = None) -> None:
    """Try what is broken at once: somebody says that it is mended. None: everything.

    A pause that the other side has asked for goes on.
    """
    to, way = destinations.c, channels.c
    mended = update(destinations).where(or_(to.broken_since.is_not(None), to.failures > 0))
    opened = update(channels).where(way.broken_since.is_not(None))
    if destination is not None:
        mended = mended.where(to.destination == destination)
        opened = opened.where(
            way.channel == select(to.channel).where(to.destination == destination).scalar_subquery()
        )
    await connection.execute(
        mended.values(
            next_allowed_at=func.greatest(func.now(), to.asked_until),
            broken_since=None,
            probe_at=None,
            failures=0,
        )
    )
    await connection.execute(opened.values(paused_until=func.now()))


async def free(connection: AsyncConnection, held: Claimed, **values: object) -> bool:
    """Let others send to the destination; whether it is broken since this transaction."""
    to = destinations.c
    result = await connection.execute(
        update(destinations)
        .where(to.destination == held.destination, to.claim == held.claim)
        .values(claim=None, lease_until=None, **values)
        .returning(to.broken_since == func.now())
    )
    return bool(result.scalar_one_or_none())


async def _pause_channel(connection: AsyncConnection, held: Claimed, step: Next, said: str) -> bool:
    """Let the whole channel rest; whether it is broken since this transaction."""
    way = channels.c
    until = func.now() + step.rest
    breaks = step.breaks_channel
    statement = insert(channels).values(
        channel=held.channel,
        paused_until=until,
        failures=int(breaks),
        broken_since=func.now() if breaks else None,
        last_failure=said,
    )
    was_tried = held.channel_failures > 0
    values: dict[str, object] = {
        # Our own lease, as the one that tries it, need not be waited for.
        "paused_until": until if was_tried else func.greatest(way.paused_until, until),
        "last_failure": said,
    }
    if breaks:
        values["failures"] = way.failures + 1
        values["broken_since"] = func.coalesce(way.broken_since, func.now())
    result = await connection.execute(
        statement.on_conflict_do_update(index_elements=["channel"], set_=values).returning(
            way.broken_since == func.now()
        )
    )
    return bool(result.scalar_one_or_none())


async def _mend_channel(connection: AsyncConnection, channel: str) -> None:
    await change_channel(
        connection, channel, paused_until=func.now(), failures=0, broken_since=None
    )


async def change_channel(connection: AsyncConnection, channel: str, **values: object) -> None:
    await connection.execute(update(channels).where(channels.c.channel == channel).values(**values))
