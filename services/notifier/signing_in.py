"""The ways in: by a password, by a one-time link, by the identity provider's word.

Order of effects of a password: 1 the attempt is counted as a failure, and committed, so that many
at once wait for one another; 2 the slow comparison, outside of any transaction; 3 the sign-in and
its audit entry, and the attempt is taken back; or the refusal's audit entry.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.notifier import audit, passwords, sign_ins, users
from services.notifier.domain.access import Role, Viewer
from services.notifier.domain.identity import (
    Claims,
    NotLetIn,
    Registration,
    address_of,
    role_of,
)
from services.notifier.domain.throttle import ADDRESS, CLIENT, KNOWN, Throttle
from services.notifier.passwords import Passwords
from services.notifier.users import User
from shared.clock import Clock

_LOCAL = "local"
_OIDC = "oidc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """Where somebody comes from."""

    client: str
    """The address of the connection: behind a proxy, the proxy's."""
    token: str
    """Of the sign-in until now, which ends with the next; empty: none."""
    known: str | None = None
    """Its own name, where that person has signed in with it before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    address: str
    token: str


@dataclass(frozen=True, slots=True)
class Wait:
    """There were failures before: nothing was compared."""

    time: timedelta


async def by_password(
    engine: AsyncEngine,
    checker: Passwords,
    address: str,
    password: str,
    *,
    browser: Browser,
    clock: Clock,
) -> Entered | Wait | None:
    """None: not this address with this password, whichever of them is wrong."""
    keys = _throttles(address, browser)
    async with engine.begin() as connection:
        wait = await sign_ins.attempt(connection, keys, now=clock())
    if wait is not None:
        return Wait(wait)
    async with engine.connect() as connection:
        seen = await users.read(connection, address)
    stored = None if seen is None or seen.is_disabled else seen.password
    is_right = await checker.is_right(password, stored)
    renewed = None
    if is_right and stored is not None and passwords.is_outdated(stored):
        renewed = await checker.make(password)
    async with engine.begin() as connection:
        now = clock()
        user = await users.read(connection, address) if is_right else None
        # Somebody may have disabled them, or reset the password, while it was compared.
        if user is None or user.is_disabled or user.password != stored:
            # Who is no user may be anybody, and nobody could erase what names them.
            named = "" if seen is None else seen.address
            await audit.write_refused(
                connection, named, way=_LOCAL, at=now, client=network_of(browser.client)
            )
            return None
        if renewed is not None:
            await users.renew_password(connection, address, renewed)
        forgiven = next(key for key in keys if not key.startswith("client:"))
        others = {key: rule for key, rule in keys.items() if key != forgiven}
        await sign_ins.succeeded(connection, forgiven, others, now=now)
        return await _enter(connection, user, browser, way=_LOCAL, now=now)


async def by_link(
    engine: AsyncEngine, token: str, password: str, *, browser: Browser, now: datetime
) -> Entered | None:
    """`password`: as it is stored. None: the link is not valid any more."""
    async with engine.begin() as connection:
        user = await users.choose_password(connection, token, password, now=now)
        if user is None or user.is_disabled:
            return None
        await sign_ins.forgive(connection, _address_key(user.address))
        return await _enter(connection, user, browser, way=_LOCAL, now=now)


async def by_claims(
    engine: AsyncEngine,
    claims: Claims,
    registration: Registration,
    *,
    browser: Browser,
    now: datetime,
) -> Entered | NotLetIn:
    async with engine.begin() as connection:
        address = address_of(claims, registration)
        if isinstance(address, NotLetIn):
            await audit.write_refused(connection, "", way=_OIDC, at=now, because=address.value)
            return address
        known = await users.read(connection, address)
        role = role_of(claims, registration, known_as=known.role if known else None)
        user = None if role is None else await users.admit(connection, address, role, now=now)
        if user is None:
            because = NotLetIn.NO_ROLE if role is None else NotLetIn.DISABLED
            await audit.write_refused(connection, address, way=_OIDC, at=now, because=because)
            return because
        return await _enter(connection, user, browser, way=_OIDC, now=now)


async def out(engine: AsyncEngine, token: str, *, way: str, now: datetime) -> None:
    async with engine.begin() as connection:
        address = await sign_ins.end(connection, token)
        user = None if address is None else await users.read(connection, address)
        if user is not None:
            await audit.write(connection, _viewer(user, way), "sign_out", user.address, at=now)


def network_of(client: str) -> str:
    """An IPv6 client has a whole network of addresses."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return client
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network(f"{address}/64", strict=False))


async def _enter(
    connection: AsyncConnection, user: User, browser: Browser, *, way: str, now: datetime
) -> Entered:
    token = await sign_ins.begin(
        connection, user.address, way=way, now=now, instead_of=browser.token
    )
    viewer = _viewer(user, way)
    client = network_of(browser.client)
    await audit.write(connection, viewer, "sign_in", user.address, at=now, client=client)
    return Entered(address=user.address, token=token)


def _viewer(user: User, way: str) -> Viewer:
    return Viewer(address=user.address, role=Role(user.role), way=way)


def _throttles(address: str, browser: Browser) -> Mapping[str, Throttle]:
    if browser.known is not None:
        return {f"known:{users.digest(browser.known)[:32]}": KNOWN}
    client = f"client:{network_of(browser.client)}"
    return {_address_key(address): ADDRESS, client: CLIENT}


def _address_key(address: str) -> str:
    # Hashed: people type their password into the wrong field.
    return f"address:{users.digest(address.lower())[:32]}"
