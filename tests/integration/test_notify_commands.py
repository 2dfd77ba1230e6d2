"""`perennial notify` as an operator runs it."""

import asyncio
import json
from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from services.__main__ import app
from services.notifier.domain.attempts import Class
from services.notifier.tables import agenda, deliveries, interventions, timeline
from tests.integration.notifier.queue_rig import QueueRig, failing, queue_rig
from tests.integration.notifier.rig import OWNER, account, flag, open_rig


@dataclass(frozen=True, slots=True)
class Operator:
    """A person at the command line of this deployment."""

    database_url: str

    async def run(self, *arguments: str, **environment: str) -> Result:
        usual = {
            "DATABASE_URL": self.database_url,
            "COLUMNS": "200",
            "NO_COLOR": "1",
            "SLACK_WEBHOOK_URL": "http://127.0.0.1:1/services/x",
            "SMTP_URL": "smtp://127.0.0.1:1",
        }
        return await asyncio.to_thread(
            CliRunner().invoke, app, ["notify", *arguments], env=usual | environment
        )

    async def run_beside(self, rig: QueueRig, *arguments: str) -> Result:
        """While a notifier sends."""
        running = asyncio.create_task(self.run(*arguments))
        while not running.done():
            if not any(row.kind == "test" for row in await rig.rows()):
                await asyncio.sleep(0.02)
                continue
            if not await rig.sender.send_one():
                await asyncio.sleep(0.02)
        return running.result()


@pytest.fixture
def operator(database_url: str) -> Operator:
    return Operator(database_url)


async def test_a_test_goes_by_the_queue_and_comes_first(
    operator: Operator, engine: AsyncEngine
) -> None:
    rig = queue_rig(engine)
    for number in range(3):
        await rig.put(str(number), "slack:webhook", urgent=True, priority=1e9)
    found = await operator.run_beside(rig, "test", "slack:webhook")
    assert (found.exit_code, found.stdout) == (0, "slack:webhook has taken it.\n")
    assert rig.posts["slack"].taken[0].delivery_id == (await rig.rows())[3].id


async def test_a_test_that_is_refused_says_how_and_is_not_tried_again(
    operator: Operator, engine: AsyncEngine
) -> None:
    rig = queue_rig(engine, chain=["email:lead"])
    rig.posts["slack"].will(failing(Class.DESTINATION_BROKEN))
    found = await operator.run_beside(rig, "test", "slack:C1", "--json")
    assert found.exit_code == 1
    said = json.loads(found.stdout)
    assert said == {"state": "dead", "class": "destination_broken", "detail": "as scripted"}
    await rig.send_all()
    assert len(rig.posts["slack"].asked) == 1
    assert rig.sender.metrics.dead.labels("slack")._value.get() == 0


async def test_a_test_mends_what_was_broken(operator: Operator, engine: AsyncEngine) -> None:
    rig = queue_rig(engine, chain=["email:lead"])
    slack = rig.posts["slack"]
    slack.will(failing(Class.DESTINATION_BROKEN))
    await rig.put("a")
    await rig.send_all()
    await operator.run_beside(rig, "test", "slack:one")
    await rig.put("b")
    await rig.send_all()
    assert [message.text for message in slack.taken][1:] == ["b"]
    assert (await rig.destination()).broken_since is None


async def test_a_test_does_not_shorten_a_pause(operator: Operator, engine: AsyncEngine) -> None:
    rig = queue_rig(engine)
    rig.posts["slack"].will(failing(Class.PAUSE, pause=3_600))
    await rig.put("a")
    await rig.send_all()
    found = await operator.run_beside(rig, "test", "slack:one", "--wait", "1")
    assert found.exit_code == 1
    assert "it may not be asked before" in found.stdout
    await rig.age(timedelta(hours=2))
    await rig.send_all()
    assert rig.posts["slack"].texts == ["a"]  # Nobody waits for the test any more.


@pytest.mark.parametrize("destination", ["slack", "slack:", "pigeon:anna", ""])
async def test_a_destination_that_is_none_is_refused(operator: Operator, destination: str) -> None:
    assert (await operator.run("test", destination)).exit_code == 2


async def test_a_rehearsal_says_who_would_be_told_and_stores_nothing(
    operator: Operator, engine: AsyncEngine
) -> None:
    async with open_rig(engine) as rig:
        await rig.take(account())
    before = await _counts(engine)
    found = await operator.run("route", "acme", "--json")
    assert found.exit_code == 0, found.stderr
    said = json.loads(found.stdout)
    assert (said["is_known"], said["taken"], said["owner"]) == (True, "opened", OWNER)
    assert (said["because"], bool(said["playbook"])) == ("account", True)
    assert {word["destination"] for word in said["words"]} <= {"slack:webhook", f"email:{OWNER}"}
    assert "slack:webhook" in [word["destination"] for word in said["words"]]
    assert await _counts(engine) == before
    text = (await operator.run("route", "acme")).stdout
    assert f"Owner: {OWNER} (account)." in text
    assert text.endswith("Nothing was stored.\n")


async def test_a_rehearsal_says_what_speaks_against_it(
    operator: Operator, engine: AsyncEngine
) -> None:
    async with open_rig(engine) as rig:
        await rig.take(account())
    found = await operator.run("route", "acme", SLACK_WEBHOOK_URL="", SMTP_URL="")
    assert "not sent: no_destination" in found.stdout


async def test_a_rehearsal_of_what_is_open_says_so(operator: Operator, engine: AsyncEngine) -> None:
    async with open_rig(engine) as rig:
        await rig.take(account())
        await rig.take(flag())
    said = json.loads((await operator.run("route", "acme", "--json")).stdout)
    assert said["taken"] != "opened"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--reason", "bad_weather"), id="no such reason"),
        pytest.param(("--severity", "worst"), id="no such severity"),
        pytest.param(("--reason", "sentiment", "--severity", "critical"), id="never so severe"),
    ],
)
async def test_a_rehearsal_of_nonsense_is_refused(
    operator: Operator, arguments: tuple[str, ...]
) -> None:
    assert (await operator.run("route", "acme", *arguments)).exit_code == 2


async def test_what_was_given_up_is_listed_and_sent_again(
    operator: Operator, engine: AsyncEngine
) -> None:
    rig = queue_rig(engine)
    rig.posts["slack"].will(*[failing(Class.BAD_MESSAGE)] * 2)
    await rig.put("a")
    await rig.send_all()
    (listed,) = (await operator.run("list", "--json")).stdout.splitlines()
    dead = json.loads(listed)
    assert (dead["state"], dead["last_class"]) == ("dead", "bad_message")
    assert dead["id"] in (await operator.run("list")).stdout
    assert (await operator.run("again", dead["id"])).exit_code == 0
    await rig.send_all()
    assert rig.posts["slack"].texts == ["a"]
    assert (await operator.run("again", dead["id"])).exit_code == 1
    assert (await operator.run("again", "that one")).exit_code == 2
    assert (await operator.run("list")).stdout == "None is dead.\n"


async def _counts(engine: AsyncEngine) -> list[int | None]:
    async with engine.connect() as connection:
        return [
            await connection.scalar(select(func.count()).select_from(table))
            for table in (agenda, deliveries, interventions, timeline)
        ]
