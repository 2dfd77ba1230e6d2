"""Composition root of the notifier: what is made here is undone here, in reverse order."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
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
from shared.credentials import KeyRing
from shared.errors import Misconfigured
from shared.lifecycle import Frame, run_tasks, serve
from shared.log import Log
from shared.log.patience import enter_when_reachable
from shared.log.worker import Worker
from shared.outbox import Relay
from shared.sources import follow_keys

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
            "keys",
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
        keys, keys_loaded = KeyRing(is_complete=False), asyncio.Event()
        frame.health.add_check(
            "notifier.keys", lambda: None if keys_loaded.is_set() else "keys are being loaded"
        )
        pages = Pages(
            engine=engine,
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
            loop=frame.loop(SERVICE, "worker", limit_seconds=_WATCHDOG_SECONDS),
            max_records=_BATCH,
        )
        await stack.enter_async_context(
            serve(
                with_clicks(
                    with_api(
                        Unsubscribing(
                            app=guarded(
                                pages, settings, pages.assets, secret=secret, provider=provider
                            ),
                            engine=engine,
                            key=key,
                            prefer_digest=preferences.prefer_digest,
                            assets=pages.assets,
                            clock=clock,
                        ),
                        pages,
                        settings,
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
            keys=follow_keys(log, keys, frame.loop(SERVICE, "keys"), stop, loaded=keys_loaded),
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
            secret_file=settings.perennial_oidc_client_secret_file,
            clock=clock,
        )
    )


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
