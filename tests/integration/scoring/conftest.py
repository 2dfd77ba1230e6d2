"""Scoring's collaborators on a real database, with time as the test says."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.domain.rules import read_default
from services.scoring.domain.staleness import FRESH, Freshness
from services.scoring.intake import Intake
from services.scoring.metrics import ScoringMetrics
from services.scoring.models import Models
from services.scoring.partitions import Partitions
from services.scoring.sweep import Sweep
from services.scoring.tables import outbox
from shared import grants
from shared.lifecycle import Frame
from shared.log.postgres import PostgresLog
from shared.outbox import Relay
from tests.databases import as_role
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


class Trusting:
    """A watch that finds nothing wrong with the data."""

    async def beat(self, now: datetime) -> None:
        pass

    async def look(self, now: datetime) -> Freshness:  # noqa: ARG002
        return FRESH


@pytest.fixture
def database_url(owner_url: str) -> str:
    """As the service itself may: a right that it needs and has not fails a test."""
    return as_role(owner_url, grants.SCORING)


@pytest.fixture
def news(logged: Callable[[], str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """What has been logged since the last time it was asked for."""

    def since() -> str:
        found = logged()
        caplog.clear()
        return found

    return since


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def metrics(frame: Frame) -> ScoringMetrics:
    return ScoringMetrics(frame.registry, frame.metrics)


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


def make_sweep(
    engine: AsyncEngine,
    partitions: Partitions,
    metrics: ScoringMetrics,
    relay: Relay,
    frame: Frame,
    time: Time,
    behind: Behind,
) -> Sweep:
    """A replica's sweep."""
    loop = frame.loop("scoring", "sweep")
    return Sweep(
        engine=engine,
        partitions=partitions,
        metrics=metrics,
        models=Models(
            engine=engine,
            metrics=metrics,
            rules=read_default(),
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
        watch=Trusting(),
        rules=read_default(),
    )


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
    return make_sweep(engine, partitions, metrics, relay, frame, time, behind)
