"""Who may use the console, in which role; functions on a connection, each change audited in it.

Addresses are kept in lower case. A person who comes by the identity provider has no password.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, exists, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import audit
from services.notifier.domain.access import Role, Viewer
from services.notifier.intervention_rows import AnyRow
from services.notifier.tables import invitations, sign_ins, users

INVITED_FOR: Final = timedelta(hours=24)
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    address: str
    role: Role
    password: str | None
    """As `passwords` stores it."""
    created_at: datetime
    created_by: str
    disabled_at: datetime | None
    last_seen_at: datetime | None

    @property
    def is_disabled(self) -> bool:
        return self.disabled_at is not None

    @property
    def state(self) -> str:
        if self.is_disabled:
            return "disabled"
        return "active" if self.password is not None or self.last_seen_at else "invited"


async def is_any(connection: AsyncConnection) -> bool:
    return bool(await connection.scalar(select(exists().select_from(users))))


async def read(connection: AsyncConnection, address: str) -> User | None:
    row = (
        await connection.execute(select(users).where(users.c.address == address.lower()))
    ).one_or_none()
    return None if row is None else _user_of(row)


async def read_all(connection: AsyncConnection) -> Sequence[User]:
    rows = await connection.execute(select(users).order_by(users.c.address))
    return [_user_of(row) for row in rows]


async def add(
    connection: AsyncConnection, address: str, role: Role, *, by: Viewer, now: datetime
) -> str | None:
    """The token of a link by which they choose a password; None: there is such a user already."""
    made = await connection.scalar(
        insert(users)
        .values(address=address.lower(), role=role.value, created_at=now, created_by=by.address)
        .on_conflict_do_nothing()
        .returning(users.c.address)
    )
    if made is None:
        return None
    await audit.write(connection, by, "user.added", made, at=now, role=role.value)
    return await _invite(connection, made, now=now)


async def reset(
    connection: AsyncConnection, address: str, *, by: Viewer, now: datetime
) -> str | None:
    """A link to choose another password by; the old one, and who is signed in with it, is out."""
    known = await _change(connection, address, password=None)
    if known is None:
        return None
    await end_all(connection, known)
    await audit.write(connection, by, "user.reset", known, at=now)
    return await _invite(connection, known, now=now)


async def set_role(
    connection: AsyncConnection, address: str, role: Role, *, by: Viewer, now: datetime
) -> bool:
    """It holds from their next request on; False: there is no such user."""
    known = await _change(connection, address, role=role.value)
    if known is None:
        return False
    await audit.write(connection, by, "user.role", known, at=now, role=role.value)
    return True


async def disable(connection: AsyncConnection, address: str, *, by: Viewer, now: datetime) -> bool:
    """They are out at once, and no link lets them in."""
    known = await _change(connection, address, disabled_at=now)
    if known is None:
        return False
    await end_all(connection, known)
    await connection.execute(delete(invitations).where(invitations.c.address == known))
    await audit.write(connection, by, "user.disabled", known, at=now)
    return True


async def enable(connection: AsyncConnection, address: str, *, by: Viewer, now: datetime) -> bool:
    known = await _change(connection, address, disabled_at=None)
    if known is None:
        return False
    await audit.write(connection, by, "user.enabled", known, at=now)
    return True


async def invited(connection: AsyncConnection, token: str, *, now: datetime) -> str | None:
    """Whose link it is; None: used, over, or none of ours."""
    row = invitations.c
    found: str | None = await connection.scalar(
        select(row.address).where(row.token_sha256 == digest(token), row.expires_at > now)
    )
    return found


async def choose_password(
    connection: AsyncConnection, token: str, password: str, *, now: datetime
) -> User | None:
    """Use the link up; `password` as it is stored. None: the link is not valid any more."""
    row = invitations.c
    address = await connection.scalar(
        delete(invitations)
        .where(row.token_sha256 == digest(token), row.expires_at > now)
        .returning(row.address)
    )
    if address is None or await _change(connection, address, password=password) is None:
        return None
    await connection.execute(
        delete(invitations).where((row.address == address) | (row.expires_at <= now))
    )
    await end_all(connection, address)
    user = await read(connection, address)
    if user is not None:
        by = Viewer(address=address, role=user.role, way="local")
        await audit.write(connection, by, "user.password_chosen", address, at=now)
    return user


async def renew_password(connection: AsyncConnection, address: str, password: str) -> None:
    """The same one, stored by the settings of today."""
    await _change(connection, address, password=password)


async def admit(
    connection: AsyncConnection, address: str, role: Role, *, now: datetime
) -> User | None:
    """Whom the identity provider sent, in that role from now on; None: they are disabled here."""
    before = await read(connection, address)
    if before is not None and before.is_disabled:
        return None
    by = Viewer(address=address.lower(), role=role, way="oidc")
    if before is None:
        await connection.execute(
            insert(users)
            .values(address=by.address, role=role.value, created_at=now, created_by="oidc")
            .on_conflict_do_nothing()
        )
        await audit.write(connection, by, "user.added", by.address, at=now, role=role.value)
    elif before.role is not role:
        await set_role(connection, address, role, by=by, now=now)
    return await read(connection, address)


async def end_all(connection: AsyncConnection, address: str) -> None:
    """Sign them out everywhere."""
    await connection.execute(delete(sign_ins).where(sign_ins.c.address == address.lower()))


def digest(token: str) -> str:
    """Tokens are random, so that a plain hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def new_token() -> str:
    return secrets.token_urlsafe(_TOKEN_BYTES)


async def _change(connection: AsyncConnection, address: str, **values: object) -> str | None:
    changed: str | None = await connection.scalar(
        update(users)
        .where(users.c.address == address.lower())
        .values(**values)
        .returning(users.c.address)
    )
    return changed


async def _invite(connection: AsyncConnection, address: str, *, now: datetime) -> str:
    """The newest link alone works."""
    row = invitations.c
    await connection.execute(
        delete(invitations).where((row.address == address) | (row.expires_at <= now))
    )
    token = new_token()
    await connection.execute(
        insert(invitations).values(
            token_sha256=digest(token), address=address, expires_at=now + INVITED_FOR
        )
    )
    return token


def _user_of(row: AnyRow) -> User:
    return User(
        address=row.address,
        role=Role(row.role),
        password=row.password,
        created_at=row.created_at,
        created_by=row.created_by,
        disabled_at=row.disabled_at,
        last_seen_at=row.last_seen_at,
    )
