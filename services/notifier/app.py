"""Composition root of the notifier: what is made here is undone here, in reverse order."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import gauges, queue, templates
from services.notifier.channels import Channel
from services.notifier.channels.email import Email, server_of
from services.notifier.channels.slack import open_slack
from services.notifier.console.actions import Actions
from services.notifier.console.guard import Guard, known_hosts
from services.notifier.console.pages import Assets, Pages, create_app, load_assets
from services.notifier.console.scoring import ScoringApi
from services.notifier.delivery import Sender
from services.notifier.domain import calendar
from services.notifier.domain.attempts import Patience
from services.notifier.intake import TOPICS, Intake
from services.notifier.metrics import NotifierMetrics
from services.notifier.notices import Routes
from services.notifier.settings import NotifierSettings, is_loopback
from services.notifier.tables import outbox
from shared import database
from shared.clock import Clock, system_clock
from shared.errors import Misconfigured
from shared.lifecycle import Frame, run_tasks, serve
from shared.log import Log
from shared.log.patience import enter_when_reachable
from shared.log.worker import Worker
from shared.outbox import Relay

SERVICE = "notifier"
_GROUP = "notifier"
_WATCHDOG_SECONDS = 120
# One transaction holds its rows while each flag is decided: keep it far below a second or two.
_BATCH = 200


async def run(
    settings: NotifierSettings,
    *,
    log: Log,
    database_url: str,
    scoring_key: str,
    frame: Frame,
    stop: asyncio.Event,
    clock: Clock = system_clock,
) -> None:
    """Run until `stop`; the message in hand is sent and recorded, then the console closes."""
    check(settings)
    await asyncio.to_thread(calendar.known_zones)
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(
            database.open_engine(
                database_url,
                application=SERVICE,
                pool_size=settings.perennial_delivery_senders + 8,
            )
        )
        metrics = NotifierMetrics(frame.registry)
        loops = ("worker", "relay", "gauges", "senders")
        frame.metrics.preset(SERVICE, TOPICS, loops)
        channels = await _open_channels(settings, stack)
        routes = Routes(
            slack="slack" in channels,
            email="email" in channels,
            fallback_owner=settings.perennial_fallback_owner,
        )
        relay = Relay(engine=engine, log=log, table=outbox, loop=frame.loop(SERVICE, "relay"))
        wake = asyncio.Event()

        def woken() -> None:
            wake.set()
            relay.wake()

        sender = _sender(settings, engine, channels, routes, metrics, clock)
        intake = Intake(
            engine=engine,
            routes=routes,
            metrics=metrics,
            clock=clock,
            wake=woken,
        )
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=1.0, trust_env=False))
        pages = Pages(
            engine=engine,
            scoring=ScoringApi(client=client, url=settings.scoring_url, key=scoring_key),
            actions=Actions(engine=engine, metrics=metrics, clock=clock, wake=woken),
            assets=await asyncio.to_thread(load_assets),
            clock=clock,
        )
        async with engine.begin() as connection:
            await queue.mend_broken(connection)
        consumer = await enter_when_reachable(
            stack, lambda: log.consume(TOPICS, group=_GROUP), stop
        )
        if consumer is None:
            return
        worker = Worker(
            service=SERVICE,
            consumer=consumer,
            handler=intake,
            frame=frame,
            loop=frame.loop(SERVICE, "worker", limit_seconds=_WATCHDOG_SECONDS),
            max_records=_BATCH,
        )
        await stack.enter_async_context(
            serve(
                guarded(pages, settings, pages.assets),
                host=settings.perennial_host,
                port=settings.notifier_port,
                name="console",
            )
        )
        senders: dict[str, Coroutine[object, object, None]] = {}
        if channels:
            for number in range(settings.perennial_delivery_senders):
                loop = frame.loop(SERVICE, "senders", limit_seconds=_WATCHDOG_SECONDS)
                senders[f"sender_{number}"] = sender.run(stop, wake=wake, loop=loop)
        frame.health.started(SERVICE)
        await run_tasks(
            stop,
            worker=worker.run(stop),
            relay=relay.run(stop),
            gauges=gauges.measure(engine, metrics, frame.loop(SERVICE, "gauges"), stop, clock),
            **senders,
        )


def check(settings: NotifierSettings) -> None:
    """Refuse what would publish the console to everybody."""
    open_to_all = not is_loopback(settings.perennial_host)
    if open_to_all and settings.perennial_console_password is None:
        raise Misconfigured(
            f"PERENNIAL_HOST is {settings.perennial_host}, which others can reach:"
            " set PERENNIAL_CONSOLE_PASSWORD, or PERENNIAL_HOST to 127.0.0.1"
        )


def guarded(pages: Pages, settings: NotifierSettings, assets: Assets) -> Guard:
    return Guard(
        app=create_app(pages),
        hosts=known_hosts([settings.console_url]),
        password=settings.perennial_console_password,
        explain=assets.explain,
    )


async def _open_channels(settings: NotifierSettings, stack: AsyncExitStack) -> dict[str, Channel]:
    limit = timedelta(seconds=settings.perennial_delivery_timeout_seconds)
    channels: dict[str, Channel] = {}
    if settings.slack_webhook_url is not None:
        channels["slack"] = await stack.enter_async_context(
            open_slack(
                settings.slack_webhook_url,
                pace=timedelta(seconds=settings.perennial_slack_pace_seconds),
                limit=limit,
            )
        )
    if settings.smtp_url is not None:
        channels["email"] = Email(
            server_of(settings.smtp_url),
            sender=settings.perennial_mail_from,
            templates=await asyncio.to_thread(templates.load, "services.notifier.channels"),
            limit=limit,
        )
    return channels


def _sender(
    settings: NotifierSettings,
    engine: AsyncEngine,
    channels: dict[str, Channel],
    routes: Routes,
    metrics: NotifierMetrics,
    clock: Clock,
) -> Sender:
    return Sender(
        engine=engine,
        channels=channels,
        routes=routes,
        patience=Patience(
            retry_first=timedelta(seconds=settings.perennial_delivery_retry_first_seconds),
            retry_last=timedelta(seconds=settings.perennial_delivery_retry_last_seconds),
            dead_after=timedelta(seconds=settings.perennial_delivery_dead_after_seconds),
        ),
        lease=settings.lease,
        metrics=metrics,
        clock=clock,
        console_url=settings.console_url,
    )
