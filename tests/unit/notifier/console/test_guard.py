"""Who may ask, and from where."""

import pytest
from starlette.datastructures import Headers

from services.notifier.console.guard import known_hosts, why_refused

HOSTS = known_hosts(["https://console.vendor.example"])
SAME = {"host": "localhost:8082", "content-length": "10", "sec-fetch-site": "same-origin"}


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
        pytest.param("GET", {"host": "localhost/sign-in?"}, 400, id="a path in it"),
        pytest.param("GET", {"host": "evil@localhost"}, 400, id="a name before it"),
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
        pytest.param(
            "POST",
            {"host": "localhost:1", "content-length": "1", "origin": "http://["},
            403,
            id="an origin that is none",
        ),
        pytest.param("POST", SAME | {"content-length": "65537"}, 413, id="too long"),
        pytest.param("POST", SAME | {"content-length": ""}, 413, id="no length"),
    ],
)
def test_a_request_is_refused(method: str, headers: dict[str, str], status: int | None) -> None:
    refused = why_refused(method, Headers(headers), hosts=HOSTS)
    assert (refused.status if refused else None) == status
