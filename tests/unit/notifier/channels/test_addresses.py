"""Webhooks lead to the public internet, or where an admin says; nothing else is reached."""

from collections.abc import Sequence
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.channels.addresses import (
    Against,
    Guarded,
    Network,
    Refused,
    is_public,
    judge,
    networks_of,
    where,
)
from shared.errors import Misconfigured

PUBLIC = "93.184.216.34"
OTHER_PUBLIC = "2606:2800:220:1:248:1893:25c8:1946"
USUAL = httpx.URL("https://hooks.example/in")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0.0.0.0", id="unspecified, which is this machine"),
        pytest.param("10.1.2.3", id="private 10"),
        pytest.param("172.16.0.1", id="private 172.16"),
        pytest.param("172.31.255.255", id="end of private 172.16"),
        pytest.param("192.168.1.1", id="private 192.168"),
        pytest.param("100.64.0.1", id="NAT of carriers"),
        pytest.param("100.100.100.200", id="metadata of Alibaba"),
        pytest.param("127.0.0.1", id="loopback"),
        pytest.param("127.255.255.254", id="end of loopback"),
        pytest.param("169.254.169.254", id="metadata of AWS, Azure and Google"),
        pytest.param("169.254.170.2", id="credentials of ECS"),
        pytest.param("168.63.129.16", id="platform of Azure, a public number"),
        pytest.param("192.0.0.192", id="metadata of Oracle"),
        pytest.param("192.0.2.1", id="documentation"),
        pytest.param("192.88.99.1", id="relays of 6to4"),
        pytest.param("198.18.0.1", id="benchmarks"),
        pytest.param("203.0.113.7", id="documentation 3"),
        pytest.param("224.0.0.1", id="multicast"),
        pytest.param("239.255.255.250", id="multicast of UPnP"),
        pytest.param("240.0.0.1", id="reserved"),
        pytest.param("255.255.255.255", id="broadcast"),
        pytest.param("::", id="unspecified v6"),
        pytest.param("::1", id="loopback v6"),
        pytest.param("::127.0.0.1", id="IPv4-compatible"),
        pytest.param("::ffff:127.0.0.1", id="IPv4-mapped loopback"),
        pytest.param("::ffff:10.0.0.1", id="IPv4-mapped private"),
        pytest.param("::ffff:93.184.216.34", id="IPv4-mapped, even of a public one"),
        pytest.param("::ffff:0:127.0.0.1", id="IPv4-translated"),
        pytest.param("64:ff9b::7f00:1", id="NAT64 of loopback"),
        pytest.param("64:ff9b::a9fe:a9fe", id="NAT64 of metadata"),
        pytest.param("64:ff9b:1::a00:1", id="local NAT64"),
        pytest.param("2002:7f00:1::", id="6to4 of loopback"),
        pytest.param("2001:0:4136:e378:8000:63bf:80ff:fffe", id="Teredo of loopback"),
        pytest.param("2606:2800::5efe:7f00:1", id="ISATAP of loopback"),
        pytest.param("2606:2800::200:5efe:7f00:1", id="ISATAP, global bit"),
        pytest.param("2001:db8::1", id="documentation v6"),
        pytest.param("3fff::1", id="documentation v6, new"),
        pytest.param("fc00::1", id="unique local"),
        pytest.param("fd00:ec2::254", id="metadata of AWS v6"),
        pytest.param("fe80::1", id="link-local v6"),
        pytest.param("fe80::1%eth0", id="with a zone"),
        pytest.param("2606:2800::1%eth0", id="public with a zone"),
        pytest.param("fec0::1", id="site-local"),
        pytest.param("ff02::1", id="multicast v6"),
        pytest.param("ff0e::1", id="multicast v6, global scope"),
        pytest.param("100::1", id="discard"),
        pytest.param("5f00::1", id="segment routing"),
    ],
)
def test_an_address_that_is_not_the_whole_internets_is_refused(text: str) -> None:
    assert not is_public(ip_address(text))
    with pytest.raises(Refused) as caught:
        judge(USUAL, [text], allowed=())
    assert caught.value.against is Against.NOT_PUBLIC


@pytest.mark.parametrize("text", [PUBLIC, OTHER_PUBLIC, "1.1.1.1", "2a00:1450:4001::200e"])
def test_a_public_address_passes(text: str) -> None:
    assert judge(USUAL, [text], allowed=()) == [ip_address(text)]


@given(st.ip_addresses())
def test_nothing_is_public_that_python_calls_private(
    address: IPv4Address | IPv6Address,
) -> None:
    special = address.is_private or address.is_loopback or address.is_link_local
    if special or address.is_multicast or address.is_reserved or address.is_unspecified:
        assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_hides_in_an_ipv6_one(address: IPv4Address) -> None:
    number = int(address)
    hidden = (
        (0xFFFF << 32) | number,
        (0x64FF9B << 96) | number,
        (0x2002 << 112) | (number << 80),
        (0x2001 << 112) | (~number & 0xFFFFFFFF),
    )
    assert not any(is_public(IPv6Address(one)) for one in hidden)


@pytest.mark.parametrize(
    ("url", "against"),
    [
        pytest.param("ftp://hooks.example/", Against.NO_HTTP, id="another scheme"),
        pytest.param("https:///in", Against.NO_HTTP, id="no host"),
        pytest.param("https://me:word@hooks.example/", Against.CREDENTIALS, id="credentials"),
        pytest.param("https://2130706433/", Against.ODD_HOST, id="decimal loopback"),
        pytest.param("https://0x7f000001/", Against.ODD_HOST, id="hexadecimal loopback"),
        pytest.param("https://0x7f.1/", Against.ODD_HOST, id="hexadecimal, short"),
        pytest.param("https://127.1/", Against.ODD_HOST, id="short loopback"),
        pytest.param("https://0300.0250.1/", Against.ODD_HOST, id="octal private, short"),
        pytest.param("https://127.0.0.0x1/", Against.ODD_HOST, id="hexadecimal at the end"),
        pytest.param("https://hooks.example.1/", Against.ODD_HOST, id="a name that ends in digits"),
        pytest.param("https://hooks%2eexample/", Against.ODD_HOST, id="percent in the name"),
        pytest.param("https://hooks..example/", Against.ODD_HOST, id="empty label"),
        pytest.param("https://metadata.google.internal/", Against.METADATA, id="metadata"),
        pytest.param("https://METADATA.google.internal./", Against.METADATA, id="metadata, odd"),
    ],
)
def test_a_url_is_refused_before_any_name_is_asked_for(url: str, against: Against) -> None:
    with pytest.raises(Refused) as caught:
        where(httpx.URL(url))
    assert caught.value.against is against


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://0177.0.0.1/", id="octal loopback"),
        pytest.param("https://１２７.0.0.1/", id="digits of another script"),
    ],
)
def test_what_is_no_url_for_the_client_is_none_for_anybody(url: str) -> None:
    with pytest.raises(httpx.InvalidURL):
        httpx.URL(url)


@pytest.mark.parametrize(
    ("url", "found", "allowed", "against"),
    [
        pytest.param("https://a.example/", [PUBLIC], "", None, id="public"),
        pytest.param("http://a.example/", [PUBLIC], "", Against.NOT_HTTPS, id="http"),
        pytest.param("https://a.example:8443/", [PUBLIC], "", Against.OTHER_PORT, id="port"),
        pytest.param("https://a.example:443/", [PUBLIC], "", None, id="port 443 is the usual one"),
        pytest.param("https://a.example/", [], "", Against.NOT_PUBLIC, id="no address at all"),
        pytest.param(
            "https://a.example/", [PUBLIC, "10.0.0.1"], "", Against.NOT_PUBLIC, id="one private"
        ),
        pytest.param(
            "https://a.example/", [PUBLIC, "::1"], "", Against.NOT_PUBLIC, id="one loopback v6"
        ),
        pytest.param("https://a.example/", ["10.0.0.1"], "10.0.0.0/8", None, id="allowed network"),
        pytest.param("http://a.example:81/", ["10.0.0.1"], "10.0.0.0/8", None, id="all allowed"),
        pytest.param(
            "https://a.example/", ["10.0.0.1", PUBLIC], "10.0.0.0/8", None, id="allowed and public"
        ),
        pytest.param(
            "http://a.example/",
            ["10.0.0.1", PUBLIC],
            "10.0.0.0/8",
            Against.NOT_HTTPS,
            id="http because one is allowed",
        ),
        pytest.param(
            "https://a.example/",
            ["11.0.0.1", "127.0.0.1"],
            "10.0.0.0/8",
            Against.NOT_PUBLIC,
            id="another network is allowed",
        ),
        pytest.param(
            "https://a.example/",
            ["::ffff:10.0.0.1"],
            "10.0.0.0/8",
            Against.NOT_PUBLIC,
            id="a mapped form is not what was allowed",
        ),
        pytest.param(
            "https://a.example/", ["64:ff9b::1.1.1.1"], "64:ff9b::/96", None, id="NAT64 allowed"
        ),
        pytest.param("https://[::1]/", ["::1"], "", Against.NOT_PUBLIC, id="literal"),
    ],
)
def test_all_addresses_of_a_name_are_judged(
    url: str, found: list[str], allowed: str, against: Against | None
) -> None:
    if against is None:
        assert judge(httpx.URL(url), found, allowed=networks_of(allowed))
        return
    with pytest.raises(Refused) as caught:
        judge(httpx.URL(url), found, allowed=networks_of(allowed))
    assert caught.value.against is against


def test_allowed_networks_are_named_where_they_are_wrong() -> None:
    assert networks_of(" 10.0.0.0/8, fd00::/8 ") == (
        ip_network("10.0.0.0/8"),
        ip_network("fd00::/8"),
    )
    assert networks_of("") == ()
    with pytest.raises(Misconfigured, match="PERENNIAL_WEBHOOK_ALLOW"):
        networks_of("10.0.0.1/8")


class Resolver:
    """Gives each answer once: a name server that rebinds between two questions."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)

    async def __call__(self, _host: str, _port: int) -> Sequence[str]:
        return self.answers.pop(0)


def guarded(
    resolver: Resolver, *, dead: Sequence[str] = (), allowed: Sequence[Network] = ()
) -> tuple[Guarded, list[httpx.Request]]:
    """The guard over a network in which the addresses `dead` take no connection."""
    seen: list[httpx.Request] = []

    def connect(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.host in dead:
            raise httpx.ConnectError("refused")
        return httpx.Response(200)

    inner = httpx.MockTransport(connect)
    limit = timedelta(seconds=1)
    return Guarded(inner, allowed=allowed, limit=limit, resolve=resolver), seen


async def test_the_connection_goes_to_the_address_that_was_judged() -> None:
    """The second answer is never asked for: it would lead to this machine."""
    resolver = Resolver([PUBLIC], ["127.0.0.1"])
    guard, seen = guarded(resolver)
    async with httpx.AsyncClient(transport=guard) as client:
        await client.post(USUAL)
        assert resolver.answers == [["127.0.0.1"]]
        [request] = seen
        assert request.url.host == PUBLIC
        assert request.headers["host"] == "hooks.example"
        assert request.extensions["sni_hostname"] == "hooks.example"
        with pytest.raises(Refused):
            await client.post(USUAL)
    assert len(seen) == 1


async def test_the_next_address_is_tried_where_one_takes_no_connection() -> None:
    guard, seen = guarded(Resolver([OTHER_PUBLIC, PUBLIC]), dead=[OTHER_PUBLIC])
    async with httpx.AsyncClient(transport=guard) as client:
        answer = await client.post(USUAL, content=b"whole")
    assert answer.status_code == 200
    assert [one.url.host for one in seen] == [OTHER_PUBLIC, PUBLIC]
    assert seen[1].content == b"whole"


async def test_a_name_without_an_address_is_no_connection() -> None:
    async def unknown(_host: str, _port: int) -> Sequence[str]:
        raise OSError("no such name")

    inner = httpx.MockTransport(lambda _: httpx.Response(200))
    guard = Guarded(inner, allowed=(), limit=timedelta(seconds=1), resolve=unknown)
    async with httpx.AsyncClient(transport=guard) as client:
        with pytest.raises(httpx.ConnectError):
            await client.post(USUAL)
