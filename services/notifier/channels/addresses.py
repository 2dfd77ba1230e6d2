"""Where a webhook may lead: public addresses over https, and networks that an admin allows.

A receiver's name is resolved once per attempt, all its addresses are judged, and the connection
goes to one of those very addresses. A name that means something else a moment later is not asked
again, so it changes nothing (DNS rebinding). What cannot be seen from here: a NAT64 prefix of the
network's own outside 64:ff9b::/96 and 64:ff9b:1::/48; only egress rules help against that.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeAlias

import httpx

from shared.errors import Misconfigured, PerennialError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""A name and a port to all its addresses as text; raises OSError where there are none."""

_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9-]{1,63}")
# A last label like these makes the resolver read the whole as a number: 2130706433, 0x7f.1, 127.1.
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data"})

# Python's `is_global` is true of several of these, and changes with its patch versions.
_REFUSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network; 0.0.0.0 is this machine
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT; Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's platform, from inside only
        "169.254.0.0/16",  # link-local: metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # special purposes; Oracle's metadata
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",  # Teredo and other special purposes
        "2001:db8::/32",
        "2002::/16",  # 6to4: holds an IPv4 address
        "3fff::/20",
    )
)
# Everything else is unspecified, loopback, IPv4-mapped, NAT64, unique local, link-local, multicast.
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})


class Against(StrEnum):
    """Why a webhook may not lead there."""

    NO_HTTP = "no_http"
    NOT_HTTPS = "not_https"
    OTHER_PORT = "other_port"
    CREDENTIALS = "credentials"
    ODD_HOST = "odd_host"
    METADATA = "metadata"
    NOT_PUBLIC = "not_public"


class Refused(PerennialError):
    """A webhook's URL leads where it may not."""

    def __init__(self, against: Against) -> None:
        super().__init__(against.value)
        self.against = against


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What a URL asks for."""

    host: str
    port: int
    is_usual: bool
    """Whether it is https on port 443, as every receiver's is that no admin has allowed."""


def networks_of(text: str) -> tuple[Network, ...]:
    """The networks in PERENNIAL_WEBHOOK_ALLOW, such as `10.20.0.0/16, fd00:1::/64`."""
    try:
        return tuple(ipaddress.ip_network(one.strip()) for one in text.split(",") if one.strip())
    except ValueError as error:
        raise Misconfigured(f"PERENNIAL_WEBHOOK_ALLOW: {error}") from None


def where(url: httpx.URL) -> Where:
    """What may be said of a URL without asking the resolver; raises Refused."""
    host = url.host.lower().removesuffix(".")
    if url.scheme not in ("http", "https") or not host:
        raise Refused(Against.NO_HTTP)
    if url.userinfo:
        raise Refused(Against.CREDENTIALS)
    if host in _METADATA_NAMES:
        raise Refused(Against.METADATA)
    if _literal(host) is None and (
        _NAME.fullmatch(host) is None or _NUMBER.fullmatch(host.rpartition(".")[2])
    ):
        raise Refused(Against.ODD_HOST)
    port = url.port or (443 if url.scheme == "https" else 80)
    return Where(host=host, port=port, is_usual=(url.scheme, port) == ("https", 443))


def is_public(address: Address) -> bool:
    """Whether it is the whole internet's, and neither holds nor leads to another address."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None or address not in _GLOBAL_IPV6:
            return False
        if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
            return False
    return not any(address in network for network in _REFUSED)


def judge(url: httpx.URL, found: Iterable[str], *, allowed: Sequence[Network]) -> list[Address]:
    """The addresses to connect to, all of `found`; raises Refused where a single one is wrong.

    `found`: what the host's name has been resolved to.
    """
    asked = where(url)
    addresses = [_address(text) for text in found]
    if not addresses:
        raise Refused(Against.NOT_PUBLIC)
    if all(any(one in network for network in allowed) for one in addresses):
        return addresses
    if not all(any(one in network for network in allowed) or is_public(one) for one in addresses):
        raise Refused(Against.NOT_PUBLIC)
    if not asked.is_usual:
        is_secure = url.scheme == "https"
        raise Refused(Against.OTHER_PORT if is_secure else Against.NOT_HTTPS)
    return addresses


async def resolve(host: str, port: int) -> Sequence[str]:
    """By the machine's resolver, in the order in which they are to be tried."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


class Guarded(httpx.AsyncBaseTransport):
    """Connects to the address that was judged; `Host` and the name in TLS stay the receiver's.

    `limit`: for the name alone. `inner` must keep no connection alive: its pool would take two
    names of one address for one.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        *,
        allowed: Sequence[Network],
        limit: timedelta,
        resolve: Resolve = resolve,
    ) -> None:
        self._inner = inner
        self._allowed = allowed
        self._limit = limit.total_seconds()
        self._resolve = resolve

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        asked = where(request.url)
        try:
            async with asyncio.timeout(self._limit):
                found = await self._resolve(asked.host, asked.port)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise httpx.ConnectError(f"no address: {type(error).__name__}") from error
        addresses = judge(request.url, found, allowed=self._allowed)
        *others, last = addresses
        for address in others:
            try:
                return await self._inner.handle_async_request(_pinned(request, asked, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                # Nothing was written: the next of its addresses may answer.
                continue
        return await self._inner.handle_async_request(_pinned(request, asked, last))

    async def aclose(self) -> None:
        await self._inner.aclose()


def _pinned(request: httpx.Request, asked: Where, address: Address) -> httpx.Request:
    """The request with the address in place of the name; its headers name the host already."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": asked.host},
    )


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _address(text: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise Refused(Against.NOT_PUBLIC) from None
