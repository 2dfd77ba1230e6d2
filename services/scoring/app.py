"""The composition root of scoring: what it is made of, wired once, straight down."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

from services.scoring import gauges
from services.scoring.api import api
from services.scoring.delay import Delay
from services.scoring.intake import TOPICS, Intake
from services.scoring.metrics import ScoringMetrics
from services.scoring.models import Models
from services.scoring.partitions import Partitions
from services.scoring.register import Register
from services.scoring.settings import ScoringSettings
from services.scoring.staleness import Staleness
from services.scoring.sweep import Sweep
from services.scoring.tables import outbox
from services.scoring.upkeep import Upkeep
from services.scoring.upkeep import tasks as upkeep_tasks
from shared.clock import Clock, system_clock
from shared.credentials import KeyRing
from shared.database import open_engine
from shared.lifecycle import Frame, run_tasks, serve
from shared.log import Log
from shared.log.patience import enter_when_reachable
from shared.log.worker import Worker
from shared.outbox import Relay
from shared.sources import follow_keys

SERVICE = "scoring"

# Enough for the database and this process to work at the same time.
_BATCHES_AT_ONCE = 3


async def run(
    settings: ScoringSettings,
    *,
    log: Log,
    database_url: str,
    frame: Frame,
    stop: asyncio.Event,
    clock: Clock = system_clock,
) -> None:
    """Until `stop`: take in, score, publish, answer; raises what only a restart can mend."""
    metrics = ScoringMetrics(frame.registry)
    frame.metrics.preset(SERVICE, TOPICS, ("intake", "sweep", "relay", "keys", "upkeep"))
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(
            open_engine(database_url, application="perennial-scoring")
        )
        # Before the watched loops are made: while the log is away, they cannot run yet.
        consumer = await enter_when_reachable(
            stack, lambda: log.consume(TOPICS, group=SERVICE), stop
        )
        if consumer is None:
            return
        partitions = Partitions(
            engine, kept=timedelta(days=settings.perennial_event_id_retention_days)
        )
        relay = Relay(
            engine=engine,
            log=log,
            table=outbox,
            loop=frame.loop(SERVICE, "relay", limit_seconds=60),
        )
        sweep_loop = frame.loop(SERVICE, "sweep", limit_seconds=120)
        rules = settings.rules
        settle = timedelta(seconds=settings.perennial_backfill_settle_seconds)
        models = Models(
            engine=engine,
            metrics=metrics,
            rules=rules,
            yearly_churn=settings.perennial_expected_yearly_churn,
            progressed=sweep_loop.progressed,
        )
        intake = Intake(engine=engine, partitions=partitions, metrics=metrics, clock=clock)
        delay = Delay(intake, consumer, clock=clock)
        sweep = Sweep(
            engine=engine,
            partitions=partitions,
            metrics=metrics,
            models=models,
            relay=relay,
            clock=clock,
            loop=sweep_loop,
            interval=timedelta(seconds=settings.perennial_sweep_interval_seconds),
            settle=settle,
            is_behind=partial(delay.is_behind, settle),
            retention=settings.retention,
            watch=Staleness(engine=engine, metrics=metrics, rules=rules.staleness, lag=delay.lag),
            rules=rules,
        )
        worker = Worker(
            service=SERVICE,
            consumer=consumer,
            handler=delay,
            frame=frame,
            loop=frame.loop(SERVICE, "intake", limit_seconds=120),
            max_records=settings.perennial_intake_batch,
            concurrency=_BATCHES_AT_ONCE,
        )
        upkeep = Upkeep(
            engine=engine,
            database_url=database_url,
            metrics=metrics,
            clock=clock,
            loop=frame.loop(SERVICE, "upkeep"),
            tasks=upkeep_tasks(retrain=settings.perennial_retrain == "auto"),
        )
        register = Register(
            engine=engine,
            clock=clock,
            max_age=timedelta(seconds=settings.perennial_register_seconds),
        )
        keys, keys_loaded = KeyRing(is_complete=False), asyncio.Event()
        frame.health.add_check(
            "scoring.keys", lambda: None if keys_loaded.is_set() else "keys are being loaded"
        )
        await stack.enter_async_context(
            serve(
                api(engine=engine, keys=keys, clock=clock, rules=rules, register=register),
                host=settings.perennial_host,
                port=settings.scoring_port,
                name=SERVICE,
            )
        )
        frame.health.started(SERVICE)
        await run_tasks(
            stop,
            intake=worker.run(stop),
            sweep=sweep.run(stop),
            relay=relay.run(stop),
            upkeep=upkeep.run(stop),
            keys=follow_keys(log, keys, frame.loop(SERVICE, "keys"), stop, loaded=keys_loaded),
            register=register.run(stop),
            gauges=gauges.keep(engine, metrics, frame.metrics, stop),
        )
