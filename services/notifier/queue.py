"""The delivery queue's statements. Leases, due times and pauses go by the database's clock.

A delivery waits until it is due; then a sender tells its destination (`announce`), where it is
claimed in the order of urgency. Lock order everywhere: agenda, intervention, delivery, destination,
channel. Whoever decides locks no destination, so that senders never wait for a long decision; and
claims skip what is locked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from sqlalchemy import ARRAY, Text, any_, bindparam, case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningInsert

from services.notifier import rests, statements
from services.notifier.channels import Receipt
from services.notifier.composing import Claimed, DeliveryKind, Planned
from services.notifier.domain.attempts import Class, Failure, Next, State
from services.notifier.domain.policy import NotifyReason, SuppressReason
from services.notifier.intervention_rows import AnyRow
from services.notifier.tables import among, channels, deliveries, destinations
from shared import traceparent

_WAITING = (State.PENDING.value, State.SENDING.value)
# Made once: making and reading a statement anew costs more than running it.
_row = deliveries.c
_KNOWN = select(_row.dedupe_key).where(
    _row.dedupe_key == any_(bindparam("keys", type_=ARRAY(Text)))
)
_JOINABLE = select(_row.group_key, _row.destination).where(
    _row.group_key == any_(bindparam("groups", type_=ARRAY(Text))), _row.state.in_(_WAITING)
)
_ADD = insert(deliveries).on_conflict_do_nothing().returning(_row.dedupe_key)
_ADD_ENDED = (
    insert(deliveries)
    .values(ended_at=func.now())
    .on_conflict_do_nothing()
    .returning(_row.dedupe_key)
)
_is_due = select(_row.id).where(
    _row.destination == bindparam("place"), _row.state.in_(_WAITING), _row.is_due
)
# Where something is due after all, somebody changes it right now: look again soon.
_PASS_OVER = (
    update(destinations)
    .where(destinations.c.destination == bindparam("place"))
    .values(due_at=case((_is_due.exists(), func.now() + timedelta(milliseconds=50))))
)
_RECORD_SENT = (
    update(deliveries)
    .where(_row.id == bindparam("delivery"), _row.claim == bindparam("held"))
    .values(
        claim=None,
        state=State.SENT.value,
        last_class=Class.SENT.value,
        last_detail=None,
        provider_id=bindparam("receipt"),
        ended_at=func.now(),
    )
)
_MAX_DETAIL = 300
# At once a transaction of some ten milliseconds, and far more than anybody sends in one.
_ANNOUNCED = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """When somebody else is told instead, where a destination or its channel fails."""

    urgent: timedelta
    usual: timedelta


def delivery_id(dedupe_key: str) -> UUID:
    """The same decision has the same id for ever, and with it the same Message-ID."""
    return uuid5(NAMESPACE_URL, f"perennial:{dedupe_key}")


async def put(connection: AsyncConnection, planned: Planned) -> bool:
    """Store a decision; False where it is known already, or joins one of its group that waits.

    The one that waits is then due when the earlier of both is, and as urgent as the more urgent.
    Where it is under way already, its composer must decide anew when it is recorded.
    """
    values = _values(planned)
    return (await connection.execute(statements.PUT, values)).rowcount == 1


async def put_all(connection: AsyncConnection, planned: Sequence[Planned]) -> Sequence[Planned]:
    """As `put`, of at most one per group and destination: those that were stored."""
    if not planned:
        return []
    # In one order, or two that add to the same messages about many accounts wait for each other.
    planned = sorted(planned, key=lambda one: (one.destination, one.group_key))
    keys, groups = [one.dedupe_key for one in planned], [one.group_key for one in planned]
    known = set(await connection.scalars(_KNOWN, {"keys": keys}))
    rows = await connection.execute(_JOINABLE, {"groups": groups})
    waiting = {(one.group_key, one.destination) for one in rows}
    unknown = [one for one in planned if one.dedupe_key not in known]
    joining = [one for one in unknown if (one.group_key, one.destination) in waiting]
    stored = [one for one in joining if await put(connection, one)]
    fresh = [one for one in unknown if (one.group_key, one.destination) not in waiting]
    added = await _insert_all(
        connection, _ADD, [_values(one, state=State.PENDING.value) for one in fresh]
    )
    return [*stored, *(one for one in fresh if one.dedupe_key in added)]


async def anew(connection: AsyncConnection, planned: Sequence[Planned]) -> list[Planned]:
    """The same, but under a key of its own whatever was cancelled: it has not been told yet."""
    row = deliveries.c
    found = {one.dedupe_key: one for one in planned}
    while found:
        cancelled = await connection.scalars(
            select(row.dedupe_key).where(
                among(row.dedupe_key, list(found)), row.state == State.CANCELLED.value
            )
        )
        again = [found.pop(key) for key in cancelled]
        if not again:
            break
        found |= {one.dedupe_key: one for one in map(_once_more, again)}
    return list(found.values())


async def suppress_all(
    connection: AsyncConnection, suppressed: Sequence[tuple[Planned, SuppressReason]]
) -> Sequence[tuple[Planned, SuppressReason]]:
    """As `suppress`: those that were not known already."""
    added = await _insert_all(
        connection,
        _ADD_ENDED,
        [
            _values(one, state=State.CANCELLED.value, suppress_reason=against.value)
            for one, against in {one.dedupe_key: (one, why) for one, why in suppressed}.values()
        ],
    )
    found = {one.dedupe_key: (one, against) for one, against in suppressed}
    return [pair for key, pair in found.items() if key in added]


async def suppress(connection: AsyncConnection, planned: Planned, against: SuppressReason) -> bool:
    """Store that it is not sent, and why; False where that is known already."""
    return bool(await suppress_all(connection, [(planned, against)]))


async def announce(connection: AsyncConnection) -> int:
    """Tell destinations what has become due; how many of them heard of something."""
    return (await connection.execute(statements.ANNOUNCE, {"most": _ANNOUNCED})).rowcount


async def claim(
    connection: AsyncConnection,
    names: Sequence[str],
    *,
    lease: timedelta,
    despite_hold: bool = False,
) -> Claimed | None:
    """Take the most urgent, then oldest, delivery of one destination that may be sent to now.

    `names`: of the channels. None while a restored database is held, unless `despite_hold`.
    """
    asked = {"channels": list(names), "despite_hold": despite_hold}
    while True:
        place = (await connection.execute(statements.CLAIMABLE, asked)).one_or_none()
        if place is None:
            return None
        first = {"destination": place.destination}
        found = (await connection.execute(statements.FIRST_OF_DESTINATION, first)).one_or_none()
        if found is None:
            await _pass_over(connection, place.destination)
        elif place.channel_failures and not await _is_probe(connection, place.channel, lease):
            return None
        else:
            return await _take(connection, place, found, lease=lease)


async def overdue(
    connection: AsyncConnection, limits: Mapping[str, Limit], *, beyond: int, most: int
) -> tuple[Sequence[Claimed], int]:
    """Deliveries over their limit whose destination, or channel, fails or rests; nobody's yet.

    In the order of their numbers, from `beyond` on; and where to go on. `limits`: per channel.
    """
    asked = {
        "channels": list(limits),
        "urgent": [limit.urgent for limit in limits.values()],
        "usual": [limit.usual for limit in limits.values()],
        "beyond": beyond,
        "most": most,
    }
    rows = (await connection.execute(statements.OVERDUE, asked)).all()
    return [_claimed(row) for row in rows], rows[-1].number if rows else beyond


async def take_over(connection: AsyncConnection, held: Claimed) -> bool:
    """Make a delivery that nobody has in hand ours, in the transaction that ends it."""
    result = await connection.execute(
        update(deliveries)
        .where(deliveries.c.id == held.id, deliveries.c.state == State.PENDING.value)
        .values(claim=held.claim)
    )
    return result.rowcount == 1


async def release(connection: AsyncConnection, held: Claimed) -> None:
    """Give the delivery back untried, so that another sender need not wait for the lease.

    Of what the sender before us left half done, it is still not known whether it was sent.
    """
    row, lost = deliveries.c, held.lease_lost
    state = State.SENDING if lost else State.PENDING
    taken_back = {"attempts": row.attempts - 1, "ambiguous": row.ambiguous - int(lost)}
    await _end(connection, held, state=state.value, **taken_back)
    await rests.free(connection, held)
    if held.channel_failures:
        await rests.change_channel(connection, held.channel, paused_until=func.now())


async def record_sent(connection: AsyncConnection, held: Claimed, receipt: Receipt) -> bool:
    """False where the lease was lost and another sender has the delivery now."""
    ours = {"delivery": held.id, "held": held.claim, "receipt": receipt.provider_id}
    return (await connection.execute(_RECORD_SENT, ours)).rowcount == 1


async def record_suppressed(
    connection: AsyncConnection, held: Claimed, against: SuppressReason
) -> bool:
    return await _end(
        connection,
        held,
        state=State.CANCELLED.value,
        suppress_reason=against.value,
        ended_at=func.now(),
    )


async def record_failed(
    connection: AsyncConnection, held: Claimed, failure: Failure, step: Next
) -> bool:
    return await _end(
        connection,
        held,
        state=step.state.value,
        plain=step.plain,
        threadless=step.threadless,
        ambiguous=deliveries.c.ambiguous + int(failure.kind is Class.AMBIGUOUS),
        last_class=failure.kind.value,
        last_detail=failure.detail[:_MAX_DETAIL],
        ended_at=None if step.state is State.PENDING else func.now(),
    )


async def again(connection: AsyncConnection, delivery: UUID) -> bool:
    """Send what was given up, or is held, once more; False where there is no such delivery.

    So too where a newer one of its group waits: it says all that this one would.
    """
    row, other = deliveries.c, deliveries.alias("other")
    waits = select(other.c.id).where(
        other.c.group_key == row.group_key,
        other.c.destination == row.destination,
        other.c.state.in_(_WAITING),
    )
    result = await connection.execute(
        update(deliveries)
        .where(
            row.id == delivery,
            row.state.in_((State.DEAD.value, State.HELD.value)),
            ~waits.exists(),
        )
        .values(
            state=State.PENDING.value,
            due_at=func.greatest(row.created_at, func.now()),
            is_due=False,
            plain=False,
            ended_at=None,
        )
    )
    return result.rowcount == 1


async def in_state(connection: AsyncConnection, state: str, *, limit: int) -> Sequence[AnyRow]:
    """Deliveries, the newest first."""
    rows = await connection.execute(
        select(deliveries)
        .where(deliveries.c.state == state)
        .order_by(deliveries.c.number.desc())
        .limit(limit)
    )
    return rows.all()


async def _insert_all(
    connection: AsyncConnection,
    statement: ReturningInsert[tuple[str]],
    rows: Sequence[Mapping[str, object]],
) -> set[str]:
    """The keys of those that were not there."""
    if not rows:
        return set()
    return set(await connection.scalars(statement, rows))


def _values(planned: Planned, **values: object) -> dict[str, object]:
    return {
        "id": delivery_id(planned.dedupe_key),
        "dedupe_key": planned.dedupe_key,
        "kind": planned.kind.value,
        "group_key": planned.group_key,
        "intervention_id": planned.intervention_id,
        "account_id": planned.account_id,
        "channel": planned.channel,
        "destination": planned.destination,
        "recipient": planned.recipient,
        "reason": planned.reason.value,
        "subject": dict(planned.subject),
        "urgent": planned.urgent,
        "priority": planned.priority,
        "due_at": planned.due_at,
        "tried": list(planned.tried),
        "traceparent": planned.traceparent or traceparent.begun(),
        "received_at": planned.received_at,
        **values,
    }


def _once_more(planned: Planned) -> Planned:
    return replace(planned, dedupe_key=f"{planned.dedupe_key}:again")


async def _pass_over(connection: AsyncConnection, destination: str) -> None:
    """Nothing can be claimed: forget the destination until something is announced to it."""
    await connection.execute(_PASS_OVER, {"place": destination})


async def _is_probe(connection: AsyncConnection, channel: str, lease: timedelta) -> bool:
    """Whether we are the one that tries a channel that failed; the others wait."""
    way = channels.c
    result = await connection.execute(
        update(channels)
        .where(way.channel == channel, way.paused_until <= func.now())
        .values(paused_until=func.now() + lease)
    )
    return result.rowcount == 1


async def _take(
    connection: AsyncConnection, place: AnyRow, found: AnyRow, *, lease: timedelta
) -> Claimed:
    held = _claimed(found, place)
    taken = {
        "id": held.id,
        "claim": held.claim,
        "lost": int(held.lease_lost),
        "destination": held.destination,
        "lease": lease,
    }
    await connection.execute(statements.TAKE, taken)
    return held


def _claimed(row: AnyRow, place: AnyRow | None = None) -> Claimed:
    return Claimed(
        id=row.id,
        claim=uuid4(),
        kind=DeliveryKind(row.kind),
        group_key=row.group_key,
        channel=row.channel,
        destination=row.destination,
        recipient=row.recipient,
        reason=NotifyReason(row.reason),
        urgent=row.urgent,
        priority=row.priority,
        account_id=row.account_id,
        intervention_id=row.intervention_id,
        subject=row.subject,
        tried=tuple(row.tried),
        attempt=row.attempts + 1,
        plain=row.plain,
        threadless=row.threadless,
        failures=0 if place is None else place.failures,
        is_broken=place is not None and place.is_broken,
        channel_failures=0 if place is None else place.channel_failures or 0,
        lease_lost=row.state == State.SENDING.value,
        may_be_known=row.ambiguous > 0 or row.state == State.SENDING.value,
        waited=row.waited,
        received_at=row.received_at,
        took=None if row.received_at is None else row.created_at - row.received_at,
        traceparent=traceparent.parse(row.traceparent),
        links=tuple(link for one in row.trace_links if (link := traceparent.parse(one))),
    )


async def _end(connection: AsyncConnection, held: Claimed, **values: object) -> bool:
    result = await connection.execute(
        update(deliveries)
        .where(deliveries.c.id == held.id, deliveries.c.claim == held.claim)
        .values(claim=None, **values)
    )
    return result.rowcount == 1
