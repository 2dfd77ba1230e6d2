"""`perennial flags` as an operator runs it, on what intake and sweep have stored."""

import asyncio
import json
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from services.__main__ import app
from services.quarantine import operator
from services.scoring.intake import Intake
from services.scoring.sweep import Sweep
from services.scoring.tables import flags
from tests.factories import NOW
from tests.integration.scoring.test_outages import look, sent, take_in, use


class Operator:
    """A person at the command line of this deployment."""

    def __init__(self, database_url: str) -> None:
        self.environment = {"DATABASE_URL": database_url, "COLUMNS": "200", "NO_COLOR": "1"}

    async def run(self, *arguments: str, **environment: str) -> Result:
        result = await asyncio.to_thread(
            CliRunner().invoke,
            app,
            ("flags", *arguments),
            env=self.environment | environment,
        )
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result


@pytest.fixture
def person(database_url: str) -> Operator:
    return Operator(database_url)


async def test_an_account_is_explained_in_words_and_as_json(
    intake: Intake, sweep: Sweep, person: Operator
) -> None:
    await take_in(intake, use(["gone"], range(-60, -35)))
    await look(sweep, NOW)
    said = await person.run("explain", "gone")
    assert said.exit_code == 0
    assert "gone_silent          raised since" in said.stdout
    assert "usage_drop           not raised" in said.stdout
    assert "days since the last active day: 35 days (wanted: < 28 days)" in said.stdout
    told = json.loads((await person.run("explain", "gone", "--json")).stdout)
    assert told["account"] == "gone"
    standing = {one["reason"]: one["stands"] for one in told["rules"]}
    assert standing["gone_silent"] == "raised"
    assert standing["cancellation_intent"] == "not_raised"
    unknown = await person.run("explain", "nobody")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert "no account nobody has been scored" in unknown.stderr


async def test_a_preview_counts_and_changes_nothing(
    intake: Intake, sweep: Sweep, person: Operator, tmp_path: Path, engine: AsyncEngine
) -> None:
    await take_in(intake, use(["nearly"], range(-60, -20)))
    await look(sweep, NOW)
    rules = tmp_path / "rules.toml"
    rules.write_text("[gone_silent]\nsilent_days = 14\n")
    said = await person.run("preview", "--rules", str(rules))
    assert said.exit_code == 0
    assert "gone_silent raised, for example: nearly" in said.stdout
    assert "Nothing was changed." in said.stdout
    assert "storm guard" not in said.stdout
    told = json.loads((await person.run("preview", "--rules", str(rules), "--json")).stdout)
    assert told["accounts"] == 1
    assert told["flags"]["gone_silent"]["would_raise"] == 1
    assert await sent(engine) == []
    # With the file in force the review of the account says the same.
    explained = await person.run("explain", "nearly", "--json", PERENNIAL_RULES_FILE=str(rules))
    [silent] = [
        one for one in json.loads(explained.stdout)["rules"] if one["reason"] == "gone_silent"
    ]
    assert silent["why"] == "silent"


async def test_a_preview_says_when_the_storm_guard_would_hold_what_it_raises(
    intake: Intake, sweep: Sweep, person: Operator, tmp_path: Path
) -> None:
    await take_in(intake, use([f"a{n}" for n in range(21)], range(-60, -20)))
    await look(sweep, NOW)
    rules = tmp_path / "rules.toml"
    rules.write_text("[gone_silent]\nsilent_days = 14\n")
    assert "by the storm guard" in (await person.run("preview", "--rules", str(rules))).stdout


async def test_a_database_without_accounts_has_nothing_to_preview(
    person: Operator, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("")
    said = await person.run("preview", "--rules", str(rules))
    assert (said.exit_code, said.stdout) == (0, "No account has been scored.\n")


async def test_held_flags_are_listed_and_released_once_in_the_admins_name(
    intake: Intake, sweep: Sweep, person: Operator, engine: AsyncEngine
) -> None:
    await take_in(intake, use([f"a{n}" for n in range(30)], range(-60, -35)))
    await look(sweep, NOW)
    assert await sent(engine) == []
    said = await person.run("list", "--held", "--limit", "5")
    assert said.exit_code == 0
    assert said.stdout.count("gone_silent") >= 6
    assert "30 gone_silent" in said.stdout
    assert "Only the newest 5 are shown" in said.stdout
    told = json.loads((await person.run("list", "--json")).stdout)
    assert told["held"]["gone_silent"] == 30
    said = await person.run("release", "--reason", "gone_silent")
    assert (said.exit_code, said.stdout) == (0, "30 released: 30 gone_silent.\n")
    assert len(await sent(engine)) == 30
    said = await person.run("release", "--reason", "gone_silent")
    assert (said.exit_code, said.stdout) == (0, "No flag was released.\n")
    async with engine.connect() as connection:
        names = await connection.execute(
            select(flags.c.released_by).distinct().where(flags.c.reason == "gone_silent")
        )
        assert names.scalars().all() == [operator()]


async def test_dropping_tells_nobody(
    intake: Intake, sweep: Sweep, person: Operator, engine: AsyncEngine
) -> None:
    await take_in(intake, use([f"a{n}" for n in range(30)], range(-60, -35)))
    await look(sweep, NOW)
    told = json.loads((await person.run("release", "--all", "--drop", "--json")).stdout)
    assert told["dropped"]["gone_silent"] == 30
    assert await sent(engine) == []
    assert f"dropped by {operator()}" in (await person.run("list")).stdout
