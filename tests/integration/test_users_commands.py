"""`perennial users` as an operator runs it."""

import asyncio
import json
import re
from dataclasses import dataclass

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from services.__main__ import app
from services.notifier import audit, users
from services.notifier.domain.access import Role
from shared.clock import system_clock

ADA = "ada@vendor.example"
URL = "https://console.vendor.example"


@dataclass(frozen=True, slots=True)
class Operator:
    database_url: str

    async def run(self, *arguments: str) -> Result:
        environment = {"DATABASE_URL": self.database_url, "PERENNIAL_CONSOLE_URL": URL}
        return await asyncio.to_thread(
            CliRunner().invoke, app, ["users", *arguments], env=environment
        )


@pytest.fixture
def operator(database_url: str) -> Operator:
    return Operator(database_url)


async def test_the_first_admin_has_a_link(operator: Operator, engine: AsyncEngine) -> None:
    added = await operator.run("add", "Ada@vendor.example", "--role", "admin")
    assert added.exit_code == 0, added.output
    found = re.search(rf"{URL}/welcome/([\w-]{{43}})$", added.output, re.MULTILINE)
    assert found is not None
    async with engine.connect() as connection:
        assert await users.invited(connection, found[1], now=system_clock()) == ADA
        [told] = await audit.read(connection)
    assert (told.actor, told.way, told.action, told.subject) == (
        "command line",
        "command",
        "user.added",
        ADA,
    )


@pytest.mark.parametrize("action", ["add", "reset"])
async def test_a_link_that_cannot_be_told_is_not_made(
    operator: Operator, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    role = ("--role", "admin") if action == "add" else ()
    if action == "reset":
        assert (await operator.run("add", ADA, "--role", "admin")).exit_code == 0
    async with engine.connect() as connection:
        before = await users.read_all(connection), await audit.read(connection)
    monkeypatch.setenv("PERENNIAL_OIDC_ISSUER", "http://id.vendor.example")
    refused = await operator.run(action, ADA, *role)
    assert (refused.exit_code, "OIDC_ISSUER" in refused.output) == (2, True)
    async with engine.connect() as connection:
        assert (await users.read_all(connection), await audit.read(connection)) == before


async def test_everything_is_said_as_json_too(operator: Operator, engine: AsyncEngine) -> None:
    added = json.loads((await operator.run("add", ADA, "--role", "csm", "--json")).stdout)
    assert added.keys() == {"address", "link", "until"}
    reset = json.loads((await operator.run("reset", ADA, "--json")).stdout)
    assert reset["link"] != added["link"]
    for arguments, state, role in (
        (("role", ADA, "manager"), "invited", "manager"),
        (("disable", ADA), "disabled", "manager"),
        (("enable", ADA), "invited", "manager"),
    ):
        said = json.loads((await operator.run(*arguments, "--json")).stdout)
        assert (said["state"], said["role"]) == (state, role)
    [one] = json.loads((await operator.run("list", "--json")).stdout)
    assert (one["address"], one["last_seen_at"]) == (ADA, None)
    assert ADA in (await operator.run("list")).stdout
    async with engine.connect() as connection:
        user = await users.read(connection, ADA)
    assert user is not None
    assert user.role is Role.MANAGER


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("add", "ada", "--role", "admin"), 2, "e-mail address"),
        (("add", ADA, "--role", "boss"), 2, "viewer, csm, manager, admin"),
        (("add", "there@vendor.example", "--role", "csm"), 1, "a user already"),
        (("role", ADA, "csm"), 1, "no user"),
        (("disable", ADA), 1, "no user"),
        (("reset", ADA), 1, "no user"),
    ],
)
async def test_what_cannot_be_is_said_in_one_line(
    operator: Operator, arguments: tuple[str, ...], code: int, said: str
) -> None:
    if code == 1 and arguments[0] == "add":
        await operator.run(*arguments)
    result = await operator.run(*arguments)
    assert (result.exit_code, said in result.output) == (code, True), result.output
