"""Who is signed in, and who has failed to: the rows of sign-ins; functions on a connection.

A sign-in is a random token in a cookie, here as its SHA-256. It says who, never in which role: that
is read from the user at every request.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.domain.access import Role, Viewer
from services.notifier.domain.throttle import FORGOTTEN, Throttle
from services.notifier.tables import sign_in_attempts, sign_ins, users
from services.notifier.users import digest, new_token

LONGEST: Final = timedelta(hours=12)
IDLE: Final = timedelta(hours=2)
# Not at every request: a page would write where it only reads.
_SEEN_EVERY: Final = timedelta(minutes=1)


async def begin(
    connection: AsyncConnection, address: str, *, way: str, now: datetime, instead_of: str = ""
) -> str:
    """The cookie's token. `instead_of`: the browser's token until now, which ends."""
    row = sign_ins.c
    await connection.execute(
        delete(sign_ins).where(
            or_(
                row.ends_at <= now,
                row.seen_at <= now - IDLE,
                row.token_sha256 == digest(instead_of),
            )
        )
    )
    await connection.execute(
        delete(sign_in_attempts).where(sign_in_attempts.c.next_at <= now - FORGOTTEN)
    )
    token = new_token()
    await connection.execute(
        insert(sign_ins).values(
            token_sha256=digest(token),
            address=address.lower(),
            by=way,
            began_at=now,
            seen_at=now,
            ends_at=now + LONGEST,
        )
    )
    await connection.execute(
        update(users).where(users.c.address == address.lower()).values(last_seen_at=now)
    )
    return token


async def end(connection: AsyncConnection, token: str) -> str | None:
    """Sign out; whose sign-in it was."""
    ended: str | None = await connection.scalar(
        delete(sign_ins)
        .where(sign_ins.c.token_sha256 == digest(token))
        .returning(sign_ins.c.address)
    )
    return ended


async def viewer_of(
    connection: AsyncConnection, token: str, *, way: str, now: datetime
) -> Viewer | None:
    """Who is signed in by that token, as they are now; None: nobody, or not any more."""
    row, user = sign_ins.c, users.c
    found = (
        await connection.execute(
            select(user.address, user.role, row.seen_at)
            .join(users, user.address == row.address)
            .where(
                row.token_sha256 == digest(token),
                # What another way of signing in let in does not outlive it.
                row.by == way,
                row.ends_at > now,
                row.seen_at > now - IDLE,
                user.disabled_at.is_(None),
            )
        )
    ).one_or_none()
    if found is None:
        return None
    if found.seen_at <= now - _SEEN_EVERY:
        mine = row.token_sha256 == digest(token)
        await connection.execute(update(sign_ins).where(mine).values(seen_at=now))
        seen = update(users).where(user.address == found.address).values(last_seen_at=now)
        await connection.execute(seen)
    return Viewer(address=found.address, role=Role(found.role), way=way)


async def attempt(
    connection: AsyncConnection, keys: Mapping[str, Throttle], *, now: datetime
) -> timedelta | None:
    """Count a failure before it is one, so that many at once are not one; how long to wait.

    None: go ahead, and call `succeeded` if it was none.
    """
    row = sign_in_attempts.c
    ordered = sorted(keys)
    await connection.execute(
        insert(sign_in_attempts)
        .values([{"key": key, "failures": 0, "next_at": now} for key in ordered])
        .on_conflict_do_nothing()
    )
    found = (
        await connection.execute(
            select(sign_in_attempts).where(row.key.in_(ordered)).order_by(row.key).with_for_update()
        )
    ).all()
    waits: list[timedelta] = [one.next_at - now for one in found if one.next_at > now]
    if waits:
        return max(waits)
    for one in found:
        failures = 1 if one.next_at <= now - FORGOTTEN else one.failures + 1
        await connection.execute(
            update(sign_in_attempts)
            .where(row.key == one.key)
            .values(failures=failures, next_at=now + keys[one.key].wait(failures))
        )
    return None


async def succeeded(
    connection: AsyncConnection, forgiven: str, others: Mapping[str, Throttle], *, now: datetime
) -> None:
    """`forgiven`: who has shown who they are; of `others` only this attempt is taken back."""
    row = sign_in_attempts.c
    await connection.execute(delete(sign_in_attempts).where(row.key == forgiven))
    await connection.execute(
        update(sign_in_attempts)
        .where(row.key.in_(sorted(others)), row.failures > 0)
        .values(failures=row.failures - 1, next_at=now)
    )


async def forgive(connection: AsyncConnection, key: str) -> None:
    """Who comes by a link need not wait for what others did to their address."""
    await connection.execute(delete(sign_in_attempts).where(sign_in_attempts.c.key == key))
