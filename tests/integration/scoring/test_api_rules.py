"""Other rules asked about over the read API: checked, and tried on today's accounts."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import api_rules
from services.scoring.api import api
from services.scoring.api_rules import MOST_BYTES, add_rules
from services.scoring.api_sources import Sources
from services.scoring.domain.rules import read_default
from services.scoring.explanations import Explanations
from services.scoring.intake import Intake
from services.scoring.register import Register
from services.scoring.sweep import Sweep
from shared.credentials import KeyRing, Scope, new_key
from tests.factories import NOW
from tests.integration.scoring.test_flag_review import preview, some_accounts

SHORTER = b"[gone_silent]\nsilent_days = 14\n"
CHECK, PREVIEW = "/v1/rules/check", "/v1/rules/preview"


def register_of(engine: AsyncEngine) -> Register:
    return Register(engine=engine, clock=lambda: NOW, max_age=timedelta(0))


@pytest.fixture
async def client(engine: AsyncEngine) -> AsyncIterator[httpx.AsyncClient]:
    key, keys = new_key(source="t", scopes=[Scope.ACCOUNTS_READ], now=NOW), KeyRing()
    keys.put(key.record)
    app = api(
        engine=engine,
        keys=keys,
        clock=lambda: NOW,
        rules=read_default(),
        register=register_of(engine),
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://scoring",
        headers={"Authorization": f"Bearer {key.secret}"},
    ) as opened:
        yield opened


async def test_rules_that_would_be_accepted_say_what_they_change(
    client: httpx.AsyncClient,
) -> None:
    said = (await client.post(CHECK, content=SHORTER)).json()
    assert said["accepted"]
    assert said["changes"] == [{"path": "gone_silent.silent_days", "shipped": 28, "file": 14}]
    assert said.keys() == api_rules._CHECKED.keys()
    same = (await client.post(CHECK, content=b"")).json()
    assert (same["accepted"], same["changes"]) == (True, [])
    assert same["digest"] == read_default().digest != said["digest"]


@pytest.mark.parametrize(
    ("content", "path", "problem"),
    [
        (b"[gone_silent]\nsilent_days = -1\n", "gone_silent.silent_days", ">= 1"),
        (b"[gone_quiet]\nsilent_days = 9\n", "gone_quiet", "unknown; known here"),
        (b"gone_silent", None, "the file is not TOML"),
        (b"\xff", None, "not UTF-8"),
        (b"a = " + b"[" * 1_900, None, "nested too deeply"),
        (b"a = " + b"1" * 1_990 + b"\n" + b"b" * 9, None, "the file is not TOML"),
        (b"a" + b".a" * 30_000 + b" = 1", None, "a line is longer than 2000 bytes"),
    ],
    ids=lambda value: value[:20].decode(errors="replace") if isinstance(value, bytes) else None,
)
async def test_rules_that_would_be_refused_say_where_and_why(
    client: httpx.AsyncClient, content: bytes, path: str | None, problem: str
) -> None:
    answer = await client.post(CHECK, content=content)
    assert answer.status_code == 200
    said = answer.json()
    assert (said["accepted"], said["path"], said["changes"]) == (False, path, [])
    assert problem in said["problem"]
    refused = await client.post(PREVIEW, content=content)
    assert (refused.status_code, refused.json()["code"]) == (422, "rules_rejected")
    assert problem in refused.json()["message"]


async def test_a_preview_says_what_the_command_says(
    intake: Intake, sweep: Sweep, engine: AsyncEngine, client: httpx.AsyncClient
) -> None:
    await some_accounts(intake, sweep)
    said = (await client.post(PREVIEW, content=SHORTER)).json()
    assert said == json.loads(msgspec.json.encode(await preview(engine, SHORTER)))
    assert said["flags"]["gone_silent"]["raised_examples"] == ["nearly"]
    example = api_rules._PREVIEWED
    assert said.keys() == example.keys()
    assert said["flags"]["gone_silent"].keys() == example["flags"]["gone_silent"].keys()


@pytest.mark.parametrize("path", [CHECK, PREVIEW])
async def test_a_body_has_a_limit(client: httpx.AsyncClient, path: str) -> None:
    line = b"# a line of a comment that fills the file to its limit, and then further\n"
    fits = line * (MOST_BYTES // len(line))
    assert (await client.post(path, content=fits)).status_code == 200
    refused = await client.post(path, content=fits + line)
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")


async def test_one_preview_at_a_time(
    intake: Intake, sweep: Sweep, engine: AsyncEngine, client: httpx.AsyncClient
) -> None:
    await some_accounts(intake, sweep)
    async with engine.begin() as connection:
        # A preview reads the scores: it waits for who changes the table.
        await connection.exec_driver_sql("LOCK TABLE scoring.scores IN ACCESS EXCLUSIVE MODE")
        first = asyncio.create_task(client.post(PREVIEW, content=SHORTER))
        # Which of the two was first does not matter: one waits for the lock, the other is refused.
        second = asyncio.create_task(client.post(PREVIEW, content=SHORTER))
        done, waiting = await asyncio.wait(
            {first, second}, timeout=5, return_when=asyncio.FIRST_COMPLETED
        )
        (refused,) = (task.result() for task in done)
        assert (refused.status_code, refused.json()["code"]) == (503, "preview_busy")
        assert int(refused.headers["Retry-After"]) > 0
        # A check reads no account.
        assert (await client.post(CHECK, content=SHORTER)).status_code == 200
    (made,) = [await task for task in waiting]
    assert made.status_code == 200
    assert (await client.post(PREVIEW, content=SHORTER)).status_code == 200


async def test_a_preview_that_takes_too_long_ends_and_leaves_room_for_the_next(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await some_accounts(intake, sweep)
    app = FastAPI()
    sources = Sources(
        engine=engine,
        clock=lambda: NOW,
        rules=read_default(),
        explanations=Explanations(),
        register=register_of(engine),
    )
    add_rules(app, sources, seconds=0.2)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://scoring"
    ) as client:
        async with engine.begin() as connection:
            await connection.exec_driver_sql("LOCK TABLE scoring.scores IN ACCESS EXCLUSIVE MODE")
            for _ in range(2):
                refused = await client.post(PREVIEW, content=SHORTER)
                assert refused.status_code == 503
                assert refused.json()["detail"]["code"] == "preview_too_long"
        assert (await client.post(PREVIEW, content=b"[gone")).status_code == 422


async def test_the_body_is_described(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    for path in (CHECK, PREVIEW):
        body = paths[path]["post"]["requestBody"]
        assert body["required"]
        assert body["content"]["application/toml"]["schema"]["maxLength"] == MOST_BYTES
        assert {"200", "413", "422", "503"} <= paths[path]["post"]["responses"].keys()
    without = await client.post(CHECK, content=SHORTER, headers={"Authorization": ""})
    assert without.status_code == 401
