"""`perennial train` and `perennial models` as an operator runs them."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from services.__main__ import app
from services.scoring.domain.features import FEATURES
from services.scoring.domain.model import dump, with_golden
from services.scoring.model_store import State
from tests.factories import NOW
from tests.integration.scoring.logged import log_vendor, put_scores
from tests.integration.scoring.test_model_lifecycle import DAY, own, put, states
from tests.unit.scoring.factories import model
from tests.unit.scoring.vendors import vendor


class Operator:
    """A person at the command line of this deployment."""

    def __init__(self, database_url: str) -> None:
        self._environment = {"DATABASE_URL": database_url, "COLUMNS": "200", "NO_COLOR": "1"}

    async def run(self, *arguments: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=self._environment)


@pytest.fixture
def operator(database_url: str) -> Operator:
    return Operator(database_url)


async def test_training_stores_a_model_and_says_what_it_is_worth(
    operator: Operator, engine: AsyncEngine
) -> None:
    logged, evidence = vendor()
    await log_vendor(engine, logged, evidence)
    await put_scores(engine, logged.names[:300], logged.table[:300])
    found = await operator.run("train", "--activate", "--json")
    said = json.loads(found.stdout)
    assert (found.exit_code, said["state"], said["passed"]) == (0, "active", True)
    assert 0.45 < said["shuffled_auc"] < 0.55
    (listed,) = json.loads((await operator.run("models", "list", "--json")).stdout)
    assert (listed["version"], listed["state"]) == (said["version"], "active")

    shown = json.loads((await operator.run("models", "show", said["version"], "--json")).stdout)
    assert shown["metrics"]["served"]["auc"] == said["served"]["auc"]
    assert len(shown["model"]["features"]) == len(FEATURES)

    drift = await operator.run("models", "drift", "--json")
    assert drift.exit_code == 0
    assert set(json.loads(drift.stdout)["psi"]) == {feature.name for feature in FEATURES}
    assert "PSI" in (await operator.run("models", "drift")).stdout

    told = await operator.run("train")
    assert told.exit_code == 0
    assert "GATE pass  calibration error" in told.stdout
    assert "is shadow: passed the gate; compared for 7 days" in told.stdout
    compared = await operator.run("models", "shadow")
    assert "0 of 300 accounts would change their band; it stays in shadow." in compared.stdout


async def test_too_few_losses_are_one_line_and_exit_code_1(operator: Operator) -> None:
    found = await operator.run("train")
    assert found.exit_code == 1
    assert found.stderr.strip().splitlines()[-1] == (
        "perennial: 0 accounts were lost in what is logged; a model needs 100"
    )


async def test_a_horizon_that_we_do_not_know_is_a_mistake(operator: Operator) -> None:
    found = await operator.run("train", "--horizon", "60")
    assert (found.exit_code, found.stderr) == (
        2,
        "perennial: --horizon is one of: 28, 90, 180\n",
    )


async def test_a_model_is_activated_and_rolled_back_by_one_command_each(
    operator: Operator, engine: AsyncEngine
) -> None:
    await put(engine, own("own-1"), State.ACTIVE)
    await put(engine, own("own-2"), State.SHADOW, NOW + DAY)
    assert (await operator.run("models", "activate", "own-2")).exit_code == 0
    assert await states(engine) == {"own-2": "active", "own-1": "retired"}
    back = await operator.run("models", "rollback")
    assert back.stdout == "own-1 is in service again, instead of own-2.\n"
    assert await states(engine) == {"own-2": "refused", "own-1": "active"}
    again = await operator.run("models", "rollback")
    assert (again.exit_code, again.stderr) == (
        1,
        "perennial: no other model was in service: nothing to roll back to\n",
    )


async def test_what_was_refused_needs_force(operator: Operator, engine: AsyncEngine) -> None:
    await put(engine, own("own-1"), State.REFUSED, reason="the gate: calibration error")
    found = await operator.run("models", "activate", "own-1")
    assert found.exit_code == 1
    assert "was refused (the gate: calibration error): --force serves it" in found.stderr
    assert (await operator.run("models", "activate", "own-1", "--force")).exit_code == 0
    assert await states(engine) == {"own-1": "active"}


async def test_a_model_of_another_version_of_the_program_is_not_activated(
    operator: Operator, engine: AsyncEngine
) -> None:
    await put(engine, own("own-1"), State.ACTIVE)
    await put(engine, replace(own("own-2"), schema_sha256="0" * 64), State.CANDIDATE)
    found = await operator.run("models", "activate", "own-2", "--force")
    assert found.exit_code == 1
    assert "own-2: fitted on other features than this version computes" in found.stderr
    assert (await states(engine))["own-1"] == "active"


async def test_an_unknown_version_is_one_line(operator: Operator) -> None:
    for command in (("show",), ("activate",), ("export", "nowhere.json")):
        verb, *rest = command
        found = await operator.run("models", verb, "nothing", *rest)
        assert (found.exit_code, found.stderr) == (
            1,
            "perennial: no model nothing: see `perennial models list`\n",
        )


async def test_a_model_travels_by_its_file(
    operator: Operator, engine: AsyncEngine, tmp_path: Path
) -> None:
    await put(engine, own("own-1"), State.ACTIVE)
    file = tmp_path / "model.json"
    assert (await operator.run("models", "export", "own-1", str(file))).exit_code == 0
    twice = await operator.run("models", "import", str(file))
    assert (twice.exit_code, twice.stderr) == (1, "perennial: own-1 is stored already\n")

    other = with_golden(replace(model(), version="from elsewhere"))
    await asyncio.to_thread(file.write_bytes, dump(other))
    assert (await operator.run("models", "import", str(file))).exit_code == 0
    assert (await states(engine))["from elsewhere"] == "candidate"

    await asyncio.to_thread(file.write_bytes, dump(other).replace(b"prior", b"Prior"))
    spoilt = await operator.run("models", "import", str(file))
    assert spoilt.exit_code == 2
    assert spoilt.stderr.endswith("the digest does not match: the file was changed or cut\n")


async def test_without_any_model_there_is_nothing_to_look_at(operator: Operator) -> None:
    assert "No model yet" in (await operator.run("models", "list")).stdout
    assert (await operator.run("models", "shadow")).stdout == "No model is in shadow.\n"
    found = await operator.run("models", "drift")
    assert (found.exit_code, found.stderr) == (1, "perennial: no model is in service yet\n")
