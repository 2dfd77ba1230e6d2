"""What is due for the models is done once, by one replica, in a process that ends with it."""

import asyncio
import sys
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.metrics import ScoringMetrics
from services.scoring.tables import model_health, upkeep
from services.scoring.upkeep import Task, Upkeep, tasks
from shared.lifecycle import Frame
from tests.contract.log.reading import eventually
from tests.factories import NOW
from tests.integration.scoring.conftest import Time

DAY = timedelta(days=1)
DAILY = Task(arguments=("7",), every=DAY, after_failure=timedelta(hours=1))
SAYS = "import sys; print('all', 'is well'); sys.exit(int(sys.argv[1]) - 7)"

MakeUpkeep = Callable[[str], Upkeep]


@pytest.fixture
def make(
    engine: AsyncEngine, database_url: str, metrics: ScoringMetrics, frame: Frame, time: Time
) -> MakeUpkeep:
    """One replica's upkeep, which runs a program instead of ours."""

    def made(program: str) -> Upkeep:
        return Upkeep(
            engine=engine,
            database_url=database_url,
            metrics=metrics,
            clock=time,
            loop=frame.loop("scoring", "upkeep"),
            tasks={},
            program=(sys.executable, "-c", program),
        )

    return made


async def noted(engine: AsyncEngine, name: str) -> tuple[datetime, str]:
    async with engine.connect() as connection:
        row = (
            await connection.execute(
                select(upkeep.c.due_at, upkeep.c.result).where(upkeep.c.task == name)
            )
        ).one()
    return row.due_at, row.result


async def test_a_task_is_done_when_it_is_due_by_one_replica(
    engine: AsyncEngine, make: MakeUpkeep, time: Time
) -> None:
    stop = asyncio.Event()
    one, other = make(SAYS), make(SAYS)
    assert not await one.do_if_due("look", DAILY, stop)  # New: the first time is in an hour.
    time.now = NOW + timedelta(hours=1)
    done = await asyncio.gather(
        one.do_if_due("look", DAILY, stop), other.do_if_due("look", DAILY, stop)
    )
    assert sorted(done) == [False, True]
    assert await noted(engine, "look") == (NOW + timedelta(hours=25), "all is well")
    assert not await other.do_if_due("look", DAILY, stop)


async def test_a_task_that_failed_is_tried_again_sooner(
    engine: AsyncEngine, make: MakeUpkeep, time: Time
) -> None:
    stop = asyncio.Event()
    failing = Task(arguments=("8",), every=DAY, after_failure=timedelta(hours=1))
    await make(SAYS).do_if_due("look", failing, stop)
    time.now = NOW + timedelta(hours=1)
    assert await make(SAYS).do_if_due("look", failing, stop)
    assert await noted(engine, "look") == (NOW + timedelta(hours=2), "all is well")


async def test_work_ends_with_the_process_and_is_due_at_once_for_the_next(
    engine: AsyncEngine, make: MakeUpkeep, time: Time
) -> None:
    stop = asyncio.Event()
    forever = make("import threading; threading.Event().wait()")
    await forever.do_if_due("look", DAILY, stop)
    time.now = NOW + timedelta(hours=1)
    working = asyncio.create_task(forever.do_if_due("look", DAILY, stop))

    async def is_claimed() -> bool:
        return (await noted(engine, "look"))[0] > time.now

    await eventually(is_claimed)
    stop.set()
    async with asyncio.timeout(10):
        assert await working
    assert await noted(engine, "look") == (time.now, "stopped with the process")
    assert await make(SAYS).do_if_due("look", DAILY, asyncio.Event())


async def test_the_work_is_on_the_database_of_the_service(
    engine: AsyncEngine, make: MakeUpkeep, time: Time, database_url: str
) -> None:
    says = make("import os; print(os.environ['DATABASE_URL'])")
    stop = asyncio.Event()
    await says.do_if_due("look", DAILY, stop)
    time.now = NOW + timedelta(hours=1)
    await says.do_if_due("look", DAILY, stop)
    assert (await noted(engine, "look"))[1] == database_url


async def test_the_last_look_is_on_the_gauges(
    engine: AsyncEngine, make: MakeUpkeep, metrics: ScoringMetrics
) -> None:
    findings = {"psi_max": 0.31, "calibration_ratio": None}
    async with engine.begin() as connection:
        await connection.execute(
            insert(model_health).values(looked_at=NOW, version="own90-x", findings=findings)
        )
    stop = asyncio.Event()
    running = asyncio.create_task(make(SAYS).run(stop))

    async def is_shown() -> bool:
        return bool(metrics.model_psi_max._value.get() == 0.31)

    await eventually(is_shown)
    stop.set()
    await running
    ratio = metrics.model_calibration_ratio._value.get()
    assert ratio != ratio  # noqa: PLR0124 - NaN: nobody can tell yet


def test_training_is_left_out_where_it_is_switched_off() -> None:
    assert set(tasks(retrain=True)) == {"shadow", "drift", "insights", "training"}
    assert set(tasks(retrain=False)) == {"shadow", "drift", "insights"}
