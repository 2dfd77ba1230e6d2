"""Who may ask, and from where."""

import base64

import pytest
from pydantic import SecretStr
from starlette.datastructures import Headers

from services.notifier.console.guard import actor, known_hosts, why_refused

HOSTS = known_hosts(["https://console.vendor.example"])
SAME = {"host": "localhost:8082", "content-length": "10", "sec-fetch-site": "same-origin"}


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        pytest.param("GET", {"host": "localhost:8082"}, None, id="this machine"),
        pytest.param("GET", {"host": "127.0.0.1"}, None, id="its address"),
        pytest.param("GET", {"host": "[::1]:8082"}, None, id="its IPv6 address"),
        pytest.param("GET", {"host": "console.vendor.example"}, None, id="the console's name"),
        pytest.param("GET", {"host": "evil.example"}, 400, id="DNS rebinding"),
        pytest.param("GET", {"host": "localhost.evil.example"}, 400, id="looks alike"),
        pytest.param("GET", {"host": "[::1"}, 400, id="malformed"),
        pytest.param("GET", {}, 400, id="none"),
        pytest.param("POST", SAME, None, id="our own form"),
        pytest.param("POST", SAME | {"sec-fetch-site": "cross-site"}, 403, id="another site"),
        pytest.param("POST", SAME | {"sec-fetch-site": "same-site"}, 403, id="a sibling"),
        pytest.param(
            "POST",
            SAME | {"sec-fetch-site": "cross-site", "origin": "http://localhost:8082"},
            403,
            id="the browser's word counts first",
        ),
        pytest.param(
            "POST", {"host": "localhost", "content-length": "1"}, 403, id="no word at all"
        ),
        pytest.param(
            "POST",
            {"host": "localhost:1", "content-length": "1", "origin": "http://localhost:1"},
            None,
            id="an old browser: Origin",
        ),
        pytest.param(
            "POST",
            {"host": "localhost:1", "content-length": "1", "origin": "http://localhost:2"},
            403,
            id="another port",
        ),
        pytest.param(
            "POST",
            {"host": "localhost:1", "content-length": "1", "origin": "null"},
            403,
            id="a sandboxed frame",
        ),
        pytest.param("POST", SAME | {"content-length": "65537"}, 413, id="too long"),
        pytest.param("POST", SAME | {"content-length": ""}, 413, id="no length"),
    ],
)
def test_a_request_is_refused(method: str, headers: dict[str, str], status: int | None) -> None:
    refused = why_refused(method, Headers(headers), hosts=HOSTS, password=None)
    assert (refused.status if refused else None) == status


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (basic("anna", "correct horse"), None),
        (basic("", "correct horse"), None),
        (basic("anna", "wrong"), 401),
        (basic("anna", ""), 401),
        ("Bearer correct horse", 401),
        ("Basic %%%", 401),
        ("Basic /////w==", 401),
        ("", 401),
    ],
)
def test_a_password_is_asked_for(authorization: str, status: int | None) -> None:
    headers = Headers({"host": "localhost", "authorization": authorization})
    password = SecretStr("correct horse")
    refused = why_refused("GET", headers, hosts=HOSTS, password=password)
    assert (refused.status if refused else None) == status


def test_who_acts_is_the_user_name_without_control_characters() -> None:
    assert actor(Headers({"authorization": basic("anna\n\0", "x")})) == "anna"
    assert actor(Headers({})) == "console"
