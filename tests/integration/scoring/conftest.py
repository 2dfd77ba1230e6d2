"""Scoring's collaborators on a real database, with time as the test says."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.intake import Intake
from services.scoring.metrics import ScoringMetrics
from services.scoring.models import Models
from services.scoring.partitions import Partitions
from services.scoring.sweep import Sweep
from services.scoring.tables import outbox
from shared.lifecycle import Frame
from shared.log.postgres import PostgresLog
from shared.outbox import Relay
from tests.factories import NOW


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class Behind:
    """Whether intake has work left, as a test says."""

    def __init__(self) -> None:
        self.says = False

    async def __call__(self) -> bool:
        return self.says


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def metrics(frame: Frame) -> ScoringMetrics:
    return ScoringMetrics(frame.registry)


@pytest.fixture
def partitions(engine: AsyncEngine) -> Partitions:
    return Partitions(engine, kept=timedelta(days=60))


@pytest.fixture
def intake(
    engine: AsyncEngine, partitions: Partitions, metrics: ScoringMetrics, time: Time
) -> Intake:
    return Intake(engine=engine, partitions=partitions, metrics=metrics, clock=time)


@pytest.fixture
def relay(engine: AsyncEngine, log: PostgresLog, frame: Frame) -> Relay:
    return Relay(engine=engine, log=log, table=outbox, loop=frame.loop("scoring", "relay"))


@pytest.fixture
def sweep(
    engine: AsyncEngine,
    partitions: Partitions,
    metrics: ScoringMetrics,
    relay: Relay,
    frame: Frame,
    time: Time,
    behind: Behind,
) -> Sweep:
    loop = frame.loop("scoring", "sweep")
    return Sweep(
        engine=engine,
        partitions=partitions,
        metrics=metrics,
        models=Models(
            engine=engine,
            metrics=metrics,
            yearly_churn=0.1,
            progressed=loop.progressed,
        ),
        relay=relay,
        clock=time,
        loop=loop,
        interval=timedelta(milliseconds=50),
        settle=timedelta(seconds=0),
        is_behind=behind,
        retention=timedelta(days=400),
    )
