"""Composition root of the notifier: what is made here is undone here, in reverse order."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from urllib.parse import urlsplit

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
from services.notifier.api.app import api
from services.notifier.api.desk import ApiDesk
from services.notifier.api.entrance import WithApi
from services.notifier.bell import Bell
from services.notifier.channels import Channel, apprise, named
from services.notifier.channels.addresses import networks_of
from services.notifier.channels.email import Email, server_of
from services.notifier.channels.slack_app import SlackApp, open_slack_app
from services.notifier.channels.slack_webhook import open_slack_webhook
from services.notifier.channels.webhook import open_webhooks, signers_of
from services.notifier.composers import composers
from services.notifier.console.door import Door, key_of
from services.notifier.console.entry import Provider, add_entry
from services.notifier.console.guard import Guard, known_hosts
from services.notifier.console.pages import Assets, Pages, load_assets
from services.notifier.console.routes import create_app
from services.notifier.console.scoring import ScoringApi
from services.notifier.console.unsubscribe import Unsubscribing
from services.notifier.console.users import add_users
from services.notifier.delivery import Sender
from services.notifier.domain import calendar
from services.notifier.domain.access import SignIn
from services.notifier.domain.holdout import hold_out_of
from services.notifier.domain.people import Roster
from services.notifier.fallbacks import Chain
from services.notifier.freshness import Freshness
from services.notifier.intake import TOPICS, Intake
from services.notifier.looks import Clockwork
from services.notifier.metrics import NotifierMetrics
from services.notifier.preferences import Wishes
from services.notifier.rehearsal import desk_of
from services.notifier.retention import Retention
from services.notifier.routes import SLACK
from services.notifier.settings import NotifierSettings
from services.notifier.situations import Desk
from services.notifier.slack_clicks import Clicks
from services.notifier.slack_interactivity import Entrance, Interactivity
from services.notifier.slack_work import Work
from services.notifier.stepping import Stepping
from services.notifier.steps import Steps
from services.notifier.tables import outbox
from services.notifier.taking import Staff
from shared import database, transactions
from shared.clock import Clock, system_clock
from shared.credentials import KeyRing
from shared.database import READ_SECONDS, STRAIGHT, Pooling, open_engine, open_sessions
from shared.errors import Misconfigured
from shared.hosts import is_loopback
from shared.http_metrics import Measured, routes_of
from shared.lifecycle import Frame, ping, run_tasks, serve
from shared.log import Log
from shared.log.patience import enter_when_reachable
from shared.log.worker import Worker
from shared.outbox import Relay
from shared.sources import follow_keys
from shared.telemetry import Dependency, Operation
from shared.tracing import Requests
from shared.watchdog import Loop, consume_limit, round_limit

SERVICE = "notifier"
_GROUP = "notifier"
_NEEDS = (Dependency.LOG, Dependency.DATABASE)
_ROUND_SECONDS = 120.0
"""Of loops that look at much at once."""
_LAST_SENDS_SECONDS = 15.0
_RELAY_SECONDS = 5.0
_LAST_ANSWERS_SECONDS = 3
# One transaction holds its rows while each flag is decided: keep it far below a second or two.
_BATCH = 100
# Connections beside one for each sender: for what decides and looks, and for the console.
_LOOPS = 6
_READERS = 4


async def run(  # noqa: PLR0915 - wired once, straight down
    settings: NotifierSettings,
    *,
    log: Log,
    database_url: str,
    pooling: Pooling = STRAIGHT,
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
        engine, reading, publishing = await _open_engines(settings, stack, database_url, pooling)
        stack.enter_context(
            transactions.watched([engine, reading, publishing], SERVICE, frame.metrics)
        )
        # Of its own: a pool of which no connection comes back is no outage.
        asking = await stack.enter_async_context(
            open_engine(database_url, application=f"{SERVICE}-ping", pool_size=1, pooling=pooling)
        )
        metrics = NotifierMetrics(frame.registry, frame.metrics)
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
            "keys",
            "retention",
            "pings",
        )
        frame.metrics.preset(
            SERVICE,
            TOPICS,
            loops,
            dependencies=(*_NEEDS, Dependency.SCORING_API),
            operations=(
                Operation.CLAIM,
                Operation.TAKE_IN,
                Operation.SET_ASIDE,
                Operation.RECORD,
                Operation.LOOK,
            ),
        )
        team = await asyncio.to_thread(
            reloading.open_team,
            settings.perennial_team_file,
            fallback_owner=settings.perennial_fallback_owner,
        )
        playbooks = await asyncio.to_thread(reloading.open_playbooks, settings.perennial_playbooks)
        channels = await _open_channels(settings, stack, roster=team.get, clock=clock)
        relay = Relay(
            engine=publishing,
            log=log,
            table=outbox,
            loop=frame.loop(SERVICE, "relay", limit_seconds=round_limit(), needs=_NEEDS),
        )
        bell = Bell()

        def woken() -> None:
            bell.ring()
            relay.wake()

        client = await stack.enter_async_context(httpx.AsyncClient(timeout=1.0, trust_env=False))
        freshness = Freshness(
            client=client,
            url=settings.scoring_url,
            key=scoring_key,
            outages=frame.outages,
        )
        wishes = Wishes(engine=engine, team=team.get)
        await wishes.refresh()
        staff = Staff(
            roster=wishes.roster,
            playbooks=playbooks.get,
            hold_out=hold_out_of(secret, settings.perennial_hold_out_share),
        )
        key = unsubscribe.key_of(secret)
        links = unsubscribe.Links(key=key, console_url=settings.console_url)
        decided = desk_of(settings, staff)
        desk = replace(decided, outage_since=freshness.outage_since)
        sender = _sender(settings, engine, channels, desk, links, metrics, clock)
        retention = Retention(engine=engine, clock=clock, history=settings.history)
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
        keys, keys_loaded = KeyRing(is_complete=False), asyncio.Event()
        frame.health.add_check(
            "notifier.keys", lambda: None if keys_loaded.is_set() else "keys are being loaded"
        )
        pages = Pages(
            engine=reading,
            scoring=ScoringApi(client=client, url=settings.scoring_url, key=scoring_key),
            steps=Steps(stepping),
            assets=await asyncio.to_thread(load_assets),
            clock=clock,
            team=team.get,
            problems=lambda: reloading.problems(team, playbooks),
            keys=keys,
        )
        provider = await _open_provider(settings, stack, clock=clock)
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
            loop=frame.loop(SERVICE, "worker", limit_seconds=consume_limit(), needs=_NEEDS),
            max_records=_BATCH,
        )
        console = guarded(pages, settings, pages.assets, secret=secret, provider=provider)
        unsubscribing = Unsubscribing(
            app=console,
            engine=engine,
            key=key,
            prefer_digest=preferences.prefer_digest,
            assets=pages.assets,
            clock=clock,
        )
        with_keys = with_api(unsubscribing, pages, settings)
        await stack.enter_async_context(
            serve(
                Requests(
                    Measured(
                        with_clicks(with_keys, settings, stepping, channels),
                        service=SERVICE,
                        frame=frame,
                        routes=[*routes_of(console.app), *routes_of(with_keys.api)],
                    ),
                    "console",
                ),
                host=settings.perennial_host,
                port=settings.notifier_port,
                name="console",
                grace_seconds=_LAST_ANSWERS_SECONDS,
            )
        )
        senders: dict[str, Coroutine[object, object, None]] = {}
        if channels:
            for number in range(settings.perennial_delivery_senders):
                sending = frame.loop(
                    SERVICE,
                    "senders",
                    limit_seconds=max(round_limit(), settings.longest_send.total_seconds()),
                    needs=(Dependency.DATABASE,),
                )
                senders[f"sender_{number}"] = sender.run(stop, bell=bell, loop=sending)
            senders["overdue"] = sender.watch(stop, loop=_rounds(frame, "overdue"))
        frame.health.started(SERVICE)
        failed = partial(frame.unhandled, SERVICE)
        written = asyncio.Event()

        async def write() -> None:
            """What writes to the outbox: its messages leave before the process does."""
            try:
                await run_tasks(
                    stop,
                    failed,
                    seconds=dict.fromkeys(senders, _LAST_SENDS_SECONDS),
                    worker=worker.run(stop),
                    agenda=clockwork.run(stop, loop=_rounds(frame, "agenda")),
                    digests=rounds.run(stop, loop=_rounds(frame, "digests")),
                    **senders,
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
            retention=retention.run(written, loop=frame.loop(SERVICE, "retention")),
            preferences=wishes.run(written, loop=frame.loop(SERVICE, "preferences")),
            keys=follow_keys(log, keys, frame.loop(SERVICE, "keys"), written, loaded=keys_loaded),
            freshness=freshness.run(written, loop=frame.loop(SERVICE, "freshness")),
            team=team.run(
                written,
                loop=frame.loop(SERVICE, "files"),
                rejected=metrics.files_rejected.labels("team"),
            ),
            playbooks=playbooks.run(
                written,
                loop=frame.loop(SERVICE, "files"),
                rejected=metrics.files_rejected.labels("playbooks"),
            ),
            gauges=gauges.measure(engine, metrics, frame.loop(SERVICE, "gauges"), written, clock),
        )


def _rounds(frame: Frame, name: str) -> Loop:
    return frame.loop(SERVICE, name, limit_seconds=_ROUND_SECONDS, needs=(Dependency.DATABASE,))


def check(settings: NotifierSettings) -> None:
    """Refuse what would publish the console to everybody, or passwords to the network."""
    mode = settings.perennial_console_sign_in
    if mode is SignIn.OPEN and not settings.is_private:
        raise Misconfigured(
            "PERENNIAL_CONSOLE_SIGN_IN is open, and PERENNIAL_HOST or PERENNIAL_CONSOLE_URL let"
            " others reach the console: set it to local or oidc"
        )
    url = urlsplit(settings.console_url)
    if mode is not SignIn.OPEN and url.scheme != "https" and not is_loopback(url.hostname or ""):
        raise Misconfigured(
            "PERENNIAL_CONSOLE_URL must begin with https:// (a proxy before the console speaks"
            " it), else passwords and sign-ins could be read on their way"
        )
    if mode is SignIn.OIDC and settings.oidc is None:
        raise Misconfigured(
            "PERENNIAL_CONSOLE_SIGN_IN is oidc: set PERENNIAL_OIDC_ISSUER and"
            " PERENNIAL_OIDC_CLIENT_ID"
        )
    if mode is not SignIn.OIDC and settings.perennial_oidc_issuer is not None:
        raise Misconfigured(
            "PERENNIAL_OIDC_ISSUER is set: set PERENNIAL_CONSOLE_SIGN_IN to oidc, or unset it"
        )


def guarded(
    pages: Pages,
    settings: NotifierSettings,
    assets: Assets,
    *,
    secret: str,
    provider: Provider | None = None,
) -> Guard:
    """The console behind its door; `secret` signs cookies."""
    door = Door(
        engine=pages.engine,
        clock=pages.clock,
        mode=settings.perennial_console_sign_in,
        may_be_open=settings.is_private,
        is_https=settings.console_url.startswith("https://"),
        key=key_of(secret),
    )
    app = create_app(pages)
    add_entry(app, pages, door, console_url=settings.console_url, provider=provider)
    add_users(app, pages, door, console_url=settings.console_url)
    return Guard(
        app=app,
        hosts=known_hosts([settings.console_url]),
        door=door,
        explain=assets.explain,
    )


def with_api(console: ASGIApp, pages: Pages, settings: NotifierSettings) -> WithApi:
    """The console, and beside it, for keys, the JSON API."""
    desk = ApiDesk(
        engine=pages.engine,
        scoring=pages.scoring,
        steps=pages.steps,
        clock=pages.clock,
        keys=pages.keys,
        team=pages.team,
        problems=pages.problems,
    )
    return WithApi(console=console, api=api(desk), hosts=known_hosts([settings.console_url]))


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


async def _open_provider(
    settings: NotifierSettings, stack: AsyncExitStack, *, clock: Clock
) -> Provider | None:
    if settings.oidc is None:
        return None
    # Only where there is a provider: its libraries cost every other start time and memory.
    from services.notifier.oidc import open_provider  # noqa: PLC0415

    return await stack.enter_async_context(
        open_provider(
            settings.oidc,
            secret=settings.perennial_oidc_client_secret,
            clock=clock,
        )
    )


async def _open_engines(
    settings: NotifierSettings, stack: AsyncExitStack, database_url: str, pooling: Pooling
) -> tuple[AsyncEngine, AsyncEngine, AsyncEngine]:
    """For the work, for who waits for an answer, and for who holds a lock of a session."""
    batches = settings.perennial_delivery_senders + _LOOPS
    engine = await stack.enter_async_context(
        open_engine(
            database_url,
            application="perennial-notifier",
            pool_size=pooling.share(batches, batches + _READERS),
            pooling=pooling,
        )
    )
    reading = await stack.enter_async_context(
        open_engine(
            database_url,
            application="perennial-notifier-api",
            pool_size=pooling.share(_READERS, batches + _READERS),
            statement_seconds=READ_SECONDS,
            pooling=pooling,
        )
    )
    publishing = await stack.enter_async_context(
        open_sessions(database_url, engine, application="perennial-notifier-relay", pooling=pooling)
    )
    return engine, reading, publishing


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
        secrets = named.read("PERENNIAL_WEBHOOK_SECRETS", settings.perennial_webhook_secrets)
        channels["webhook"] = await stack.enter_async_context(
            open_webhooks(
                urls=lambda: {one.name: one.url for one in roster().webhooks},
                signers=signers_of(secrets),
                allowed=networks_of(settings.perennial_webhook_allow),
                limit=limit,
                clock=clock,
            )
        )
    urls = named.read("PERENNIAL_APPRISE_URLS", settings.perennial_apprise_urls)
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
