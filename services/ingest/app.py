"""The composition root of ingest: straight down, each undoing beside its making."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

from services.ingest.admission import Admission
from services.ingest.bodies import BodyLimits
from services.ingest.buckets import Buckets
from services.ingest.directory import DirectoryRules
from services.ingest.handlers import Desk
from services.ingest.inflight import InFlight
from services.ingest.metrics import IngestMetrics
from services.ingest.overflow import Overflow
from services.ingest.pages import create_pages
from services.ingest.publisher import Publisher
from services.ingest.quarantine import Quarantine
from services.ingest.routes import Routes
from services.ingest.settings import IngestSettings
from services.ingest.traits import known_zones
from services.ingest.wire import EventRules
from shared import logging as logs
from shared.clock import Clock, system_clock
from shared.credentials import HashedUser, KeyRing, user_hasher
from shared.errors import Misconfigured
from shared.http_metrics import Measured
from shared.lifecycle import Frame, run_tasks, serve, stopped_within
from shared.log import Log
from shared.sources import follow_keys
from shared.telemetry import Dependency
from shared.traceparent import HEADER_BYTES
from shared.watchdog import Loop, round_limit

SERVICE = "ingest"

_KEYS_LIMIT_SECONDS = 60.0
_PROBE_SECONDS = 5.0
_LAST_REPLIES_SECONDS = 2
"""After the flush: for replies to reach their callers."""


async def run(
    settings: IngestSettings,
    *,
    log: Log,
    user_key: bytes,
    frame: Frame,
    stop: asyncio.Event,
    clock: Clock = system_clock,
) -> None:
    """Serve until `stop`, then drain; ready once all keys are read.

    After `stop` it serves on, unready, for the drain seconds, so that no balancer sends to a closed
    port; then it answers 503 `shutting_down` and waits for what is in flight.
    """
    check_limits(settings, log)
    ring = KeyRing(is_complete=False)
    loaded = asyncio.Event()
    ended = asyncio.Event()
    inflight = InFlight(
        max_bytes=settings.ingest_max_inflight_bytes,
        max_events=settings.ingest_max_inflight_events,
    )
    metrics = IngestMetrics(frame.registry, inflight)
    publisher = Publisher(
        target=log,
        deadline=settings.append_deadline,
        metrics=metrics,
        dependency_up=frame.metrics.dependency_up.labels(SERVICE, "log"),
    )
    app = create_app(
        settings,
        ring=ring,
        publisher=publisher,
        inflight=inflight,
        metrics=metrics,
        user_key=user_key,
        frame=frame,
        clock=clock,
    )
    frame.metrics.preset(SERVICE, (), ("keys", "probe", "drain"), dependencies=[Dependency.LOG])
    frame.health.add_check("ingest", lambda: _why_unready(loaded, stop))
    frame.health.add_check("ingest.publisher", log.why_no_append)
    keys_loop = frame.loop(SERVICE, "keys", limit_seconds=_KEYS_LIMIT_SECONDS)
    probe_loop = frame.loop(SERVICE, "probe", limit_seconds=round_limit())
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(known_zones)  # Now, so that no request waits for the disk.
        await stack.enter_async_context(
            serve(
                app,
                host=settings.perennial_host,
                port=settings.ingest_port,
                name=SERVICE,
                grace_seconds=_LAST_REPLIES_SECONDS,
            )
        )
        frame.health.started(SERVICE)
        await run_tasks(
            ended,
            partial(frame.unhandled, SERVICE),
            # Keys are followed to the end: the last requests are checked against current ones.
            keys=follow_keys(log, ring, keys_loop, ended, loaded=loaded),
            probe=_probe(log, publisher, metrics, probe_loop, ended),
            drain=_drain(settings, inflight, stop, ended),
        )


def create_app(
    settings: IngestSettings,
    *,
    ring: KeyRing,
    publisher: Publisher,
    inflight: InFlight,
    metrics: IngestMetrics,
    user_key: bytes,
    frame: Frame,
    clock: Clock,
) -> Routes:
    admission = Admission(
        ring=ring,
        buckets=Buckets(rate=settings.ingest_rate_per_second, burst=settings.ingest_rate_burst),
        limits=BodyLimits(
            max_bytes=settings.ingest_max_body_bytes,
            max_inflated_bytes=settings.ingest_max_inflated_bytes,
            stall_seconds=settings.ingest_body_stall_seconds,
            total_seconds=settings.ingest_body_total_seconds,
        ),
        metrics=metrics,
        clock=clock,
    )
    hashed = user_hasher(user_key)
    desk = Desk(
        ring=ring,
        admission=admission,
        publisher=publisher,
        metrics=metrics,
        quarantine=Quarantine(
            hash_user=hashed,
            buckets=Buckets(
                rate=settings.ingest_quarantine_rate_per_second,
                burst=settings.ingest_quarantine_burst,
            ),
            metrics=metrics,
        ),
        event_rules=event_rules(settings, hashed),
        directory_rules=directory_rules(settings),
        overflow=_overflow(settings),
    )
    described = create_pages(with_docs=settings.ingest_docs)
    pages = Measured(described, service=SERVICE, frame=frame, routes=described.routes)
    return Routes(desk=desk, inflight=inflight, pages=pages)


def event_rules(settings: IngestSettings, hash_user: Callable[[str], HashedUser]) -> EventRules:
    return EventRules(
        hash_user=hash_user,
        max_items=settings.ingest_max_items,
        max_item_bytes=settings.ingest_max_item_bytes,
        max_record_bytes=settings.ingest_max_record_bytes,
        max_depth=settings.ingest_max_depth,
        max_age=settings.max_event_age,
    )


def directory_rules(settings: IngestSettings) -> DirectoryRules:
    return DirectoryRules(
        max_items=settings.ingest_max_items,
        max_item_bytes=settings.ingest_max_item_bytes,
        max_record_bytes=settings.ingest_max_record_bytes,
    )


def _overflow(settings: IngestSettings) -> Overflow | None:
    rate = settings.ingest_account_rate_per_second
    if not rate:
        return None
    return Overflow(Buckets(rate=rate, burst=settings.ingest_account_rate_burst))


def check_limits(settings: IngestSettings, target: Log) -> None:
    """Nobody but us checks a record's size before it is sent: the log must take what we accept."""
    most = target.max_record_bytes - HEADER_BYTES
    if settings.ingest_max_record_bytes > most:
        raise Misconfigured(f"INGEST_MAX_RECORD_BYTES: the log takes at most {most}")


def _why_unready(loaded: asyncio.Event, stop: asyncio.Event) -> str | None:
    if stop.is_set():
        return "draining"
    return None if loaded.is_set() else "the keys are not read yet"


async def _probe(
    log: Log, publisher: Publisher, metrics: IngestMetrics, loop: Loop, ended: asyncio.Event
) -> None:
    while not await stopped_within(ended, _PROBE_SECONDS):
        await publisher.probe()
        metrics.publisher_rebuilds.labels().value = log.rebuilds
        metrics.publisher_up.set(log.why_no_append() is None)
        loop.progressed()


async def _drain(
    settings: IngestSettings, inflight: InFlight, stop: asyncio.Event, ended: asyncio.Event
) -> None:
    await stop.wait()
    inflight.draining = True
    await asyncio.sleep(settings.drain_seconds)
    if not await inflight.drain(settings.ingest_flush_seconds):
        logs.get(__name__).warning(
            "drain.unknown", requests=inflight.requests, events=inflight.events
        )
    ended.set()
