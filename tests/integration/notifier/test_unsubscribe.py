"""The link in an e-mail, through HTTP: who may follow it, what it changes, and what it tells."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.notifier.console.door import Door
from services.notifier.console.guard import Guard
from services.notifier.console.pages import load_assets
from services.notifier.console.unsubscribe import Unsubscribing
from services.notifier.domain.access import SignIn
from services.notifier.unsubscribe import VALID_FOR, Links, key_of
from shared.database import open_engine
from tests.integration.notifier.console_rig import Markup
from tests.unit.notifier.factories import NOW

KEY = key_of("a secret of the vendor's")
LINKS = Links(key=KEY, console_url="http://localhost")
ONE_CLICK = {"List-Unsubscribe": "One-Click"}
ANNA = "anna@vendor.example"


@dataclass(slots=True)
class Preferences:
    """Stands where the preferences are kept; asks the database, as they do."""

    told: list[tuple[str, datetime]] = field(default_factory=list)

    async def prefer_digest(self, connection: AsyncConnection, address: str, now: datetime) -> None:
        await connection.exec_driver_sql("SELECT 1")
        self.told.append((address, now))


@pytest.fixture
def preferences() -> Preferences:
    return Preferences()


@pytest.fixture
async def anybody(preferences: Preferences) -> AsyncIterator[httpx.AsyncClient]:
    """A program that is not signed in, has no cookies and comes from nowhere; no database."""
    async with (
        open_engine("postgresql://nobody@127.0.0.1:1/none", application="t") as nowhere,
        opened(nowhere, preferences) as client,
    ):
        yield client


@pytest.fixture
async def clicking(
    engine: AsyncEngine, preferences: Preferences
) -> AsyncIterator[httpx.AsyncClient]:
    async with opened(engine, preferences) as client:
        yield client


@asynccontextmanager
async def opened(engine: AsyncEngine, preferences: Preferences) -> AsyncIterator[httpx.AsyncClient]:
    assets = load_assets()
    console = Guard(
        app=FastAPI(),
        hosts=frozenset({"localhost"}),
        door=Door(
            engine=engine,
            clock=lambda: NOW,
            mode=SignIn.LOCAL,
            may_be_open=False,
            is_https=False,
            key=b"k",
        ),
        explain=assets.explain,
    )
    app = Unsubscribing(
        app=console,
        engine=engine,
        key=KEY,
        prefer_digest=preferences.prefer_digest,
        assets=assets,
        clock=lambda: NOW,
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def test_looking_at_the_page_changes_nothing(
    anybody: httpx.AsyncClient, preferences: Preferences
) -> None:
    for method in ("GET", "HEAD"):
        answer = await anybody.request(method, LINKS.digest(ANNA, now=NOW))
        assert answer.status_code == 200
    assert preferences.told == []
    page = (await anybody.get(LINKS.digest(ANNA, now=NOW))).text
    assert '<form method="post">' in page
    # The mail may have been forwarded: its new reader learns no address.
    assert "anna" not in page
    assert "a…@vendor.example" in page


@pytest.mark.parametrize("encoding", ["urlencoded", "multipart"])
async def test_one_click_of_a_mail_server_is_enough(
    clicking: httpx.AsyncClient, preferences: Preferences, encoding: str
) -> None:
    url = LINKS.digest(ANNA, now=NOW)
    headers = {"Origin": "null", "Sec-Fetch-Site": "cross-site"}
    if encoding == "urlencoded":
        answer = await clicking.post(url, data=ONE_CLICK, headers=headers)
    else:
        files = {"List-Unsubscribe": (None, "One-Click")}
        answer = await clicking.post(url, files=files, headers=headers)
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert preferences.told == [(ANNA, NOW)]


async def test_a_second_click_says_the_same(
    clicking: httpx.AsyncClient, preferences: Preferences
) -> None:
    url = LINKS.digest(ANNA, now=NOW)
    first, second = [await clicking.post(url, data=ONE_CLICK) for _ in range(2)]
    assert first.text == second.text
    assert preferences.told == [(ANNA, NOW)] * 2


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(b"", {}, 400, id="empty"),
        pytest.param(b"List-Unsubscribe=Perhaps", {}, 400, id="something else"),
        pytest.param(b"List-Unsubscribe=One-Click", {"Content-Type": "text/plain"}, 400, id="text"),
        pytest.param(b"x" * 5_000, {}, 400, id="too long"),
        pytest.param(
            b"--x\r\nnonsense",
            {"Content-Type": "multipart/form-data; boundary=x"},
            400,
            id="broken",
        ),
        pytest.param(b"", {"Content-Type": "multipart/form-data"}, 400, id="no boundary"),
        pytest.param(b"\xff\xfe=\xff", {}, 400, id="not UTF-8"),
    ],
)
async def test_what_is_no_click_changes_nothing(
    anybody: httpx.AsyncClient,
    preferences: Preferences,
    body: bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    usual = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await anybody.post(LINKS.digest(ANNA, now=NOW), content=body, headers=usual | headers)
    assert answer.status_code == status
    assert preferences.told == []


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("/unsubscribe/", id="no token"),
        pytest.param("/unsubscribe/AAAA", id="nonsense"),
        pytest.param("/unsubscribe/" + "A" * 10_000, id="endless"),
        pytest.param("/unsubscribe/%ff%00/../x", id="bytes"),
        pytest.param(LINKS.digest(ANNA, now=NOW) + "A", id="longer"),
        pytest.param(LINKS.digest(ANNA, now=NOW)[:-2], id="cut off"),
        pytest.param(
            LINKS.digest(ANNA, now=NOW - VALID_FOR - timedelta(days=1)), id="of last year"
        ),
        pytest.param(
            Links(key=key_of("another"), console_url="").digest(ANNA, now=NOW), id="forged"
        ),
    ],
)
async def test_a_link_that_is_not_ours_does_nothing(
    anybody: httpx.AsyncClient, preferences: Preferences, url: str
) -> None:
    for answer in (await anybody.get(url), await anybody.post(url, data=ONE_CLICK)):
        assert answer.status_code == 404
    assert preferences.told == []


async def test_other_methods_are_refused(
    anybody: httpx.AsyncClient, preferences: Preferences
) -> None:
    answer = await anybody.put(LINKS.digest(ANNA, now=NOW), data=ONE_CLICK)
    assert answer.status_code == 405
    assert preferences.told == []


async def test_everything_else_still_asks_for_a_sign_in(anybody: httpx.AsyncClient) -> None:
    for path in ("/", "/unsubscribe", "/deliveries"):
        answer = await anybody.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in")


async def test_the_page_runs_nothing_and_tells_nobody_its_address(
    anybody: httpx.AsyncClient,
) -> None:
    answer = await anybody.get(LINKS.digest(ANNA, now=NOW))
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    markup = Markup()
    markup.feed(answer.text)
    assert (markup.inline, markup.foreign, "script" in markup.tags) == ([], [], False)
    style = await anybody.get("/unsubscribe/console.css")
    assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")


async def test_a_database_that_is_away_is_said_and_can_be_tried_again(
    anybody: httpx.AsyncClient, preferences: Preferences
) -> None:
    answer = await anybody.post(LINKS.digest(ANNA, now=NOW), data=ONE_CLICK)
    assert answer.status_code == 503
    assert "One digest a day</button>" in answer.text
    assert preferences.told == []
