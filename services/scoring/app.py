"""The composition root of scoring: what it is made of, wired once, straight down."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

from services.scoring import gauges, placing
from services.scoring.api import api
from services.scoring.delay import Delay
from services.scoring.horizon import Horizon
from services.scoring.intake import TOPICS, Intake
from services.scoring.metrics import ScoringMetrics
from services.scoring.models import Models
from services.scoring.partitions import Partitions
from services.scoring.placing import Placing
from services.scoring.register import Register
from services.scoring.settings import ScoringSettings
from services.scoring.staleness import Staleness
from services.scoring.sweep import Sweep
from services.scoring.tables import outbox
from services.scoring.upkeep import Upkeep
from services.scoring.upkeep import tasks as upkeep_tasks
from services.scoring.waiting import Waiting
from shared import database, transactions
from shared.clock import Clock, system_clock
from shared.credentials import KeyRing
from shared.database import READ_SECONDS, STRAIGHT, Pooling, open_engine, open_sessions
from shared.http_metrics import Measured
from shared.lifecycle import Frame, ping, run_tasks, serve
from shared.log import Log
from shared.log.patience import enter_when_reachable
from shared.log.settled import Settled
from shared.log.worker import Worker
from shared.outbox import Relay
from shared.sources import follow_keys
from shared.telemetry import Dependency, Operation
from shared.tracing import Requests
from shared.watchdog import consume_limit, round_limit

SERVICE = "scoring"

# Enough for the database and this process to work at the same time.
_BATCHES_AT_ONCE = 3
_PLACED_AT_ONCE = 2
_NEEDS = (Dependency.LOG, Dependency.DATABASE)
_RELAY_SECONDS = 5.0
_LAST_ANSWERS_SECONDS = 5
# Connections: intake, placing, waiting, horizon, sweep, relay, upkeep, register and what is seen of
# them; the read API.
_BATCHES = 12
_READERS = 4
_CONNECTIONS = _BATCHES + _READERS


async def run(
    settings: ScoringSettings,
    *,
    log: Log,
    database_url: str,
    pooling: Pooling = STRAIGHT,
    frame: Frame,
    stop: asyncio.Event,
    clock: Clock = system_clock,
) -> None:
    """Until `stop`: take in, score, publish, answer; raises what only a restart can mend."""
    metrics = ScoringMetrics(frame.registry, frame.metrics, clock)
    frame.metrics.preset(
        SERVICE,
        (*TOPICS, *placing.TOPICS),
        (
            "intake",
            "horizon",
            "placing",
            "waiting",
            "sweep",
            "relay",
            "keys",
            "upkeep",
            "register",
            "gauges",
            "pings",
        ),
        dependencies=_NEEDS,
        operations=(
            Operation.CLAIM,
            Operation.TAKE_IN,
            Operation.SET_ASIDE,
            Operation.SWEEP,
            Operation.RELEASE,
        ),
    )
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(
            open_engine(
                database_url,
                application="perennial-scoring",
                pool_size=pooling.share(_BATCHES, _CONNECTIONS),
                pooling=pooling,
            )
        )
        # Of their own: whoever reads waits for no batch, and a batch for no reader.
        reading = await stack.enter_async_context(
            open_engine(
                database_url,
                application="perennial-scoring-api",
                pool_size=pooling.share(_READERS, _CONNECTIONS),
                statement_seconds=READ_SECONDS,
                pooling=pooling,
            )
        )
        publishing = await stack.enter_async_context(
            open_sessions(
                database_url, engine, application="perennial-scoring-relay", pooling=pooling
            )
        )
        engines = (engine, reading, publishing)
        stack.enter_context(transactions.watched(engines, SERVICE, frame.metrics))
        # Of its own: a pool of which no connection comes back is no outage.
        asking = await stack.enter_async_context(
            open_engine(
                database_url, application="perennial-scoring-ping", pool_size=1, pooling=pooling
            )
        )
        # Before the watched loops are made: while the log is away, they cannot run yet.
        consumer = await enter_when_reachable(
            stack, lambda: log.consume(TOPICS, group=SERVICE), stop
        )
        if consumer is None:
            return
        unplaced = await enter_when_reachable(
            stack, lambda: log.consume(placing.TOPICS, group=placing.GROUP), stop
        )
        if unplaced is None:
            return
        partitions = Partitions(
            engine, kept=timedelta(days=settings.perennial_event_id_retention_days)
        )
        relay = Relay(
            engine=publishing,
            log=log,
            table=outbox,
            loop=frame.loop(SERVICE, "relay", limit_seconds=round_limit(), needs=_NEEDS),
        )
        interval = timedelta(seconds=settings.perennial_sweep_interval_seconds)
        sweep_loop = frame.loop(SERVICE, "sweep", limit_seconds=round_limit(interval), needs=_NEEDS)
        rules = settings.rules
        settle = timedelta(seconds=settings.perennial_backfill_settle_seconds)
        models = Models(
            engine=engine,
            metrics=metrics,
            rules=rules,
            yearly_churn=settings.perennial_expected_yearly_churn,
            progressed=sweep_loop.progressed,
        )
        frame.health.add_check("scoring.model", models.why_not_loaded)
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
            interval=interval,
            settle=settle,
            is_behind=partial(delay.is_behind, settle),
            retention=settings.retention,
            history=settings.history,
            watch=Staleness(engine=engine, metrics=metrics, rules=rules.staleness, lag=delay.lag),
            rules=rules,
        )
        worker = Worker(
            service=SERVICE,
            consumer=consumer,
            handler=delay,
            frame=frame,
            loop=frame.loop(SERVICE, "intake", limit_seconds=consume_limit(), needs=_NEEDS),
            max_records=settings.perennial_intake_batch,
            concurrency=_BATCHES_AT_ONCE,
        )
        horizon = Horizon(
            log=log,
            positions=intake.positions,
            metrics=metrics,
            clock=clock,
            loop=frame.loop(SERVICE, "horizon", limit_seconds=round_limit(), needs=_NEEDS),
        )
        told = partial(
            horizon.settled, timedelta(seconds=settings.perennial_placing_settle_seconds)
        )
        room = partial(placing.room, settings.perennial_waiting_events, unplaced)
        placing_loop = frame.loop(SERVICE, "placing", limit_seconds=consume_limit(), needs=_NEEDS)
        placer = Worker(
            service=SERVICE,
            consumer=Settled(unplaced, told, waited=placing_loop.excused, clock=clock),
            handler=Placing(
                engine=engine, log=log, metrics=metrics, clock=clock, until=told, room=room
            ),
            frame=frame,
            loop=placing_loop,
            max_records=settings.perennial_intake_batch,
            concurrency=_PLACED_AT_ONCE,
        )
        waiting = Waiting(
            engine=engine,
            log=log,
            metrics=metrics,
            clock=clock,
            loop=frame.loop(SERVICE, "waiting", limit_seconds=round_limit(), needs=_NEEDS),
            assigned=unplaced,
            until=told,
            room=room,
            wait=timedelta(hours=settings.perennial_placing_wait_hours),
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
        app = api(engine=reading, keys=keys, clock=clock, rules=rules, register=register)
        await stack.enter_async_context(
            serve(
                Requests(
                    Measured(app, service=SERVICE, frame=frame, routes=app.routes), "scoring api"
                ),
                host=settings.perennial_host,
                port=settings.scoring_port,
                name=SERVICE,
                grace_seconds=_LAST_ANSWERS_SECONDS,
            )
        )
        frame.health.started(SERVICE)
        failed = partial(frame.unhandled, SERVICE)
        written = asyncio.Event()

        async def write() -> None:
            """What writes to the outbox: its messages leave before the process does."""
            try:
                await run_tasks(
                    stop,
                    failed,
                    intake=worker.run(stop),
                    horizon=horizon.run(stop),
                    placing=placer.run(stop),
                    waiting=waiting.run(stop),
                    sweep=sweep.run(stop),
                    upkeep=upkeep.run(stop),
                    register=register.run(stop),
                )
            finally:
                written.set()
                relay.wake()

        await run_tasks(
            written,
            failed,
            seconds={"relay": _RELAY_SECONDS},
            write=write(),
            relay=relay.run(written),
            keys=follow_keys(log, keys, frame.loop(SERVICE, "keys"), written, loaded=keys_loaded),
            gauges=gauges.keep(
                engine, metrics, frame.metrics, frame.loop(SERVICE, "gauges"), written, clock
            ),
            pings=ping(
                frame,
                SERVICE,
                {
                    Dependency.LOG: log.ping,
                    Dependency.DATABASE: lambda: database.ping(asking),
                },
                frame.loop(SERVICE, "pings", limit_seconds=round_limit()),
                written,
            ),
        )
