"""Where the way in leads, and that its cookies cannot be made up."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection
from starlette.responses import Response

from services.notifier.console.door import Door, key_of
from services.notifier.console.entry import inside
from services.notifier.domain.access import SignIn
from services.notifier.signing_in import network_of


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/", "/"),
        ("/accounts/a%2Fb?x=1&y=http://z", "/accounts/a%2Fb?x=1&y=http://z"),
        ("", "/"),
        ("accounts", "/"),
        ("//evil.example", "/"),
        ("///evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("/\t/evil.example", "/"),
        ("/\r\nSet-Cookie: a=b", "/"),
        (" /x", "/"),
        ("/sign-in?next=/x", "/"),
        ("/sign-out", "/"),
        ("/x" * 2_000, "/"),
    ],
)
def test_only_paths_of_the_console_are_gone_to(text: str, path: str) -> None:
    assert inside(text) == path


@given(st.text())
def test_whatever_is_asked_for_it_is_a_path_of_ours(text: str) -> None:
    found = inside(text)
    assert found.startswith("/")
    assert not found.startswith(("//", "/\\"))


def door(**changes: Any) -> Door:
    usual: dict[str, Any] = {
        "engine": None,
        "clock": lambda: datetime.now(UTC),
        "mode": SignIn.LOCAL,
        "may_be_open": False,
        "is_https": True,
        "key": key_of("secret"),
    }
    return Door(**usual | changes)


def test_the_cookie_is_the_hosts_alone_and_no_script_reads_it() -> None:
    answer = Response()
    door().let_in(answer, "anna@vendor.example", "token")
    [cookie, known] = answer.headers.getlist("set-cookie")
    said = {part.strip().lower() for part in cookie.split(";")}
    assert said == {
        "__host-perennial=token",
        "httponly",
        "max-age=43200",  # 12 h
        "path=/",
        "samesite=lax",
        "secure",
    }
    assert known.startswith("__Host-perennial-known=")
    plain = Response()
    door(is_https=False).let_in(plain, "anna@vendor.example", "token")
    assert plain.headers["set-cookie"].startswith("perennial=token;")
    assert "secure" not in plain.headers["set-cookie"].lower()


def cookies(value: str) -> HTTPConnection:
    header = (b"cookie", f"__Host-perennial-known={value}".encode())
    return HTTPConnection({"type": "http", "headers": [header]})


def test_a_browser_is_known_for_one_address_and_by_our_word_alone() -> None:
    answer = Response()
    door().let_in(answer, "anna@vendor.example", "token")
    value = answer.headers.getlist("set-cookie")[1].partition("=")[2].partition(";")[0]
    nonce = value.partition(".")[0]
    assert door().known_as(cookies(value), "Anna@vendor.example") == nonce
    assert door().known_as(cookies(value), "ben@vendor.example") is None
    assert door(key=key_of("other")).known_as(cookies(value), "anna@vendor.example") is None
    for forged in ("", ".", nonce, f"{nonce}.", f"x{value}"):
        assert door().known_as(cookies(forged), "anna@vendor.example") is None


def test_what_is_sealed_comes_back_and_nothing_else_does() -> None:
    sealed = door().seal(b"body")
    assert door().unseal(sealed) == b"body"
    for forged in ("", ".", sealed[:-1], f"x{sealed}", sealed.replace(".", "..")):
        assert door().unseal(forged) is None
    assert door(key=key_of("other")).unseal(sealed) is None


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", ""),
        ("", ""),
    ],
)
def test_a_client_is_an_address_or_a_network(client: str, network: str) -> None:
    assert network_of(client) == network
