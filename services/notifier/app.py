"""Composition root of the notifier: what is made here is undone here, in reverse order."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp

from services.notifier import (
    digests,
    gauges,
    preferences,
    reloading,
    rests,
    templates,
    unsubscribe,
)
from services.notifier.bell import Bell
from services.notifier.channels import Channel, apprise, named
from services.notifier.channels.addresses import networks_of
from services.notifier.channels.email import Email, server_of
from services.notifier.channels.slack_app import SlackApp, open_slack_app
from services.notifier.channels.slack_webhook import open_slack_webhook
from services.notifier.channels.webhook import open_webhooks, signers_of
from services.notifier.composers import composers
from services.notifier.console.guard import Guard, known_hosts
from services.notifier.console.pages import Assets, Pages, load_assets
from services.notifier.console.routes import create_app
from services.notifier.console.scoring import ScoringApi
from services.notifier.console.unsubscribe import Unsubscribing
from services.notifier.delivery import Sender
from services.notifier.domain import calendar
from services.notifier.domain.holdout import hold_out_of
from services.notifier.domain.people import Roster
from services.notifier.fallbacks import Chain
from services.notifier.freshness import Freshness
from services.notifier.intake import TOPICS, Intake
from services.notifier.looks import Clockwork
from services.notifier.metrics import NotifierMetrics
from services.notifier.preferences import Wishes
from services.notifier.rehearsal import desk_of
from services.notifier.routes import SLACK
from services.notifier.settings import NotifierSettings, is_loopback
from services.notifier.situations import Desk
from services.notifier.slack_clicks import Clicks
from services.notifier.slack_interactivity import Entrance, Interactivity
from services.notifier.slack_work import Work
from services.notifier.stepping import Stepping
from services.notifier.steps import Steps
from services.notifier.tables import outbox
from services.notifier.taking import Staff
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
_BATCH = 100


async def run(
    settings: NotifierSettings,
    *,
    log: Log,
    database_url: str,
    scoring_key: str,
    secret: str,
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
        loops = (
            "worker",
            "relay",
            "gauges",
            "senders",
            "overdue",
            "agenda",
            "freshness",
            "files",
            "preferences",
            "digests",
        )
        frame.metrics.preset(SERVICE, TOPICS, loops)
        team = await asyncio.to_thread(
            reloading.open_team,
            settings.perennial_team_file,
            fallback_owner=settings.perennial_fallback_owner,
        )
        playbooks = await asyncio.to_thread(reloading.open_playbooks, settings.perennial_playbooks)
        channels = await _open_channels(settings, stack, roster=team.get, clock=clock)
        relay = Relay(engine=engine, log=log, table=outbox, loop=frame.loop(SERVICE, "relay"))
        bell = Bell()

        def woken() -> None:
            bell.ring()
            relay.wake()

        client = await stack.enter_async_context(httpx.AsyncClient(timeout=1.0, trust_env=False))
        freshness = Freshness(client=client, url=settings.scoring_url, key=scoring_key)
        wishes = Wishes(engine=engine, team=team.get)
        await wishes.refresh()
        staff = Staff(
            roster=wishes.roster,
            playbooks=playbooks.get,
            hold_out=hold_out_of(secret, settings.perennial_hold_out_share),
        )
        key = unsubscribe.key_of(secret)
        links = unsubscribe.Links(key=key, console_url=settings.console_url)
        decided = await asyncio.to_thread(desk_of, settings, staff)
        desk = replace(decided, outage_since=freshness.outage_since)
        sender = _sender(settings, engine, channels, desk, links, metrics, clock)
        rounds = digests.Rounds(engine=engine, desk=desk, metrics=metrics, clock=clock, wake=woken)
        clockwork = Clockwork(engine=engine, desk=desk, metrics=metrics, clock=clock, wake=woken)
        intake = Intake(
            engine=engine,
            staff=staff,
            desk=desk,
            metrics=metrics,
            clock=clock,
            wake=woken,
        )
        stepping = Stepping(
            engine=engine, staff=staff, desk=desk, metrics=metrics, clock=clock, wake=woken
        )
        pages = Pages(
            engine=engine,
            scoring=ScoringApi(client=client, url=settings.scoring_url, key=scoring_key),
            steps=Steps(stepping),
            assets=await asyncio.to_thread(load_assets),
            clock=clock,
            team=team.get,
            problems=lambda: reloading.problems(team, playbooks),
        )
        async with engine.begin() as connection:
            # A restart is how an operator says that it is mended.
            await rests.reopen(connection)
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
                with_clicks(
                    Unsubscribing(
                        app=guarded(pages, settings, pages.assets),
                        engine=engine,
                        key=key,
                        prefer_digest=preferences.prefer_digest,
                        assets=pages.assets,
                        clock=clock,
                    ),
                    settings,
                    stepping,
                    channels,
                ),
                host=settings.perennial_host,
                port=settings.notifier_port,
                name="console",
            )
        )
        senders: dict[str, Coroutine[object, object, None]] = {}
        if channels:
            for number in range(settings.perennial_delivery_senders):
                loop = frame.loop(SERVICE, "senders", limit_seconds=_WATCHDOG_SECONDS)
                senders[f"sender_{number}"] = sender.run(stop, bell=bell, loop=loop)
            overdue = frame.loop(SERVICE, "overdue", limit_seconds=_WATCHDOG_SECONDS)
            senders["overdue"] = sender.watch(stop, loop=overdue)
        frame.health.started(SERVICE)
        await run_tasks(
            stop,
            worker=worker.run(stop),
            relay=relay.run(stop),
            agenda=clockwork.run(
                stop, loop=frame.loop(SERVICE, "agenda", limit_seconds=_WATCHDOG_SECONDS)
            ),
            digests=rounds.run(
                stop, loop=frame.loop(SERVICE, "digests", limit_seconds=_WATCHDOG_SECONDS)
            ),
            preferences=wishes.run(stop, loop=frame.loop(SERVICE, "preferences")),
            freshness=freshness.run(stop, loop=frame.loop(SERVICE, "freshness")),
            team=team.run(
                stop,
                loop=frame.loop(SERVICE, "files"),
                rejected=metrics.files_rejected.labels("team"),
            ),
            playbooks=playbooks.run(
                stop,
                loop=frame.loop(SERVICE, "files"),
                rejected=metrics.files_rejected.labels("playbooks"),
            ),
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


def with_clicks(
    console: ASGIApp,
    settings: NotifierSettings,
    stepping: Stepping,
    channels: Mapping[str, Channel],
) -> ASGIApp:
    """The console, and beside it, where there is a Slack app, where Slack tells of clicks."""
    slack, secret = channels.get(SLACK), settings.slack_signing_secret
    if not isinstance(slack, SlackApp) or secret is None:
        return console
    clicks = Clicks(
        work=Work(stepping=stepping),
        roster=stepping.staff.roster,
        slack=slack,
        clock=stepping.clock,
    )
    interactivity = Interactivity(clicks=clicks, secret=secret, clock=stepping.clock)
    return Entrance(console=console, interactivity=interactivity)


async def _open_channels(
    settings: NotifierSettings,
    stack: AsyncExitStack,
    *,
    roster: Callable[[], Roster],
    clock: Clock,
) -> dict[str, Channel]:
    limit = timedelta(seconds=settings.perennial_delivery_timeout_seconds)
    forms = await asyncio.to_thread(templates.load, "services.notifier.channels")
    channels: dict[str, Channel] = {}
    pace = timedelta(seconds=settings.perennial_slack_pace_seconds)
    if settings.slack_bot_token is not None:
        channels["slack"] = await stack.enter_async_context(
            open_slack_app(
                settings.slack_bot_token,
                url=settings.perennial_slack_api_url,
                pace=pace,
                limit=limit,
            )
        )
    elif settings.slack_webhook_url is not None:
        channels["slack"] = await stack.enter_async_context(
            open_slack_webhook(settings.slack_webhook_url, pace=pace, limit=limit)
        )
    if settings.smtp_url is not None:
        channels["email"] = Email(
            server_of(settings.smtp_url),
            sender=settings.perennial_mail_from,
            templates=forms,
            limit=limit,
        )
    if settings.perennial_webhook_secrets is not None:
        secrets = await asyncio.to_thread(
            named.read, "PERENNIAL_WEBHOOK_SECRETS", settings.perennial_webhook_secrets
        )
        channels["webhook"] = await stack.enter_async_context(
            open_webhooks(
                urls=lambda: {one.name: one.url for one in roster().webhooks},
                signers=signers_of(secrets),
                allowed=networks_of(settings.perennial_webhook_allow),
                limit=limit,
                clock=clock,
            )
        )
    urls = await asyncio.to_thread(
        named.read, "PERENNIAL_APPRISE_URLS", settings.perennial_apprise_urls
    )
    if urls:
        targets = await asyncio.to_thread(apprise.load, urls)
        channels["apprise"] = apprise.Apprise(targets, templates=forms, limit=limit)
    return channels


def _sender(
    settings: NotifierSettings,
    engine: AsyncEngine,
    channels: dict[str, Channel],
    desk: Desk,
    links: unsubscribe.Links,
    metrics: NotifierMetrics,
    clock: Clock,
) -> Sender:
    return Sender(
        engine=engine,
        channels=channels,
        composers=composers(desk),
        links=links,
        fallbacks=Chain(roster=desk.staff.roster, ways=desk.ways),
        patience=settings.patience,
        lease=settings.lease,
        metrics=metrics,
        clock=clock,
    )
