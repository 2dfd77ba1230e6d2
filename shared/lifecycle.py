"""The frame of a process: named loops that are watched, health, the admin port, serving HTTP."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import uvicorn
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    disable_created_metrics,
    generate_latest,
)
from starlette.types import ASGIApp, Receive, Scope, Send

from shared import logging as logs
from shared.errors import PerennialError
from shared.http import Connection, Edge, EdgeConfig
from shared.telemetry import CommonMetrics, Dependency
from shared.watchdog import Loop, Outages, WatchdogExpired, log_state

log = logs.get(__name__)

_EDGE = Edge()
_LAST_REQUESTS_SECONDS = 0.2
"""From the last connection to the end of all."""
_STOP_SECONDS = 10.0
_CUT_SECONDS = 1.0
"""For a task that was cancelled to undo what it holds."""
_DELAY_EVERY_SECONDS = 0.25
_PING_SECONDS = 4.0
"""Both sides keep a limit of their own; one that does not keep it is away."""
_PING_EVERY_SECONDS = 5.0
_PING_AWAY_SECONDS = 1.0

Check: TypeAlias = Callable[[], str | None]
"""Says what is wrong, or None."""


class Health:
    """What /livez and /readyz answer; shared by the services of one process."""

    def __init__(self) -> None:
        self.loops: list[Loop] = []
        self._ready: dict[str, Check] = {}
        self._alive: dict[str, Check] = {}
        self._starting: set[str] = set()
        self.draining = False

    def starting(self, service: str) -> None:
        """The process is not ready before the service has said `started`."""
        self._starting.add(service)

    def started(self, service: str) -> None:
        self._starting.discard(service)

    def add_loop(self, loop: Loop) -> Loop:
        self.loops.append(loop)
        return loop

    def add_check(self, name: str, check: Check) -> None:
        """Readiness is about this process alone: an outage that all share is no reason."""
        self._ready[name] = check

    def add_watch(self, name: str, check: Check) -> None:
        """What only a restart can mend; it ends the process as a watchdog that expires."""
        self._alive[name] = check

    def why_dead(self) -> list[str]:
        reasons = [f"{name}: {why}" for name, check in self._alive.items() if (why := check())]
        return reasons + [reason for loop in self.loops if (reason := loop.overdue())]

    def why_unready(self) -> list[str]:
        reasons = [f"{name}: {why}" for name, check in self._ready.items() if (why := check())]
        reasons += [f"{service} is starting" for service in sorted(self._starting)]
        return [*reasons, "draining"] if self.draining else reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a process gives each service it runs."""

    registry: CollectorRegistry
    metrics: CommonMetrics
    health: Health
    outages: Outages

    def loop(
        self,
        service: str,
        name: str,
        *,
        limit_seconds: float | None = None,
        needs: tuple[Dependency, ...] = (),
    ) -> Loop:
        """`needs`: while one of them is known to be away, the loop's silence does not count."""
        return self.health.add_loop(
            Loop(
                service=service,
                name=name,
                metrics=self.metrics,
                limit_seconds=limit_seconds,
                needs=needs,
                outages=self.outages,
            )
        )

    def unhandled(self, service: str, name: str) -> None:
        """Count an error that nobody expected."""
        self.metrics.unhandled_errors.labels(service, name).inc()


def new_frame() -> Frame:
    # Half of all series, and nobody asks for them.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    metrics = CommonMetrics(registry)
    return Frame(registry=registry, metrics=metrics, health=Health(), outages=Outages(metrics))


async def run_tasks(
    stop: asyncio.Event,
    failed: Callable[[str], None] = lambda _: None,
    /,
    *,
    seconds: Mapping[str, float] = MappingProxyType({}),
    **tasks: Coroutine[object, object, None],
) -> None:
    """Run named tasks until all end; the first failure cancels the rest and is raised.

    A task that ends before `stop` is set is a failure too: none dies unseen. One that has not ended
    so many `seconds` after `stop` (10 where nothing is said) is cut: no await holds a process up.
    """

    async def watched(name: str, task: Coroutine[object, object, None]) -> None:
        try:
            await _cut_after(stop, seconds.get(name, _STOP_SECONDS), task, name=name)
        except ExceptionGroup:
            raise  # of tasks inside, which have been counted
        except Exception:
            failed(name)
            raise
        if not stop.is_set():
            raise RuntimeError(f"task {name} ended by itself")

    async with asyncio.TaskGroup() as group:
        for name, task in tasks.items():
            group.create_task(watched(name, task), name=f"{name}:watched")


async def _cut_after(
    stop: asyncio.Event, seconds: float, work: Coroutine[object, object, None], *, name: str
) -> None:
    task = asyncio.create_task(work, name=name)
    stopping = asyncio.create_task(stop.wait(), name=f"{name}:stop")
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            log.warning("task.cut", task=name, seconds=seconds)
    finally:
        stopping.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CUT_SECONDS)
    if task.done() and not task.cancelled():
        await task  # raises what it died of


async def watch(frame: Frame, stop: asyncio.Event) -> None:
    """Ends the process, by raising WatchdogExpired, when a loop stands still."""
    while not await stopped_within(stop, 1.0):
        if reasons := frame.health.why_dead():
            log_state(reasons, frame.health.loops, frame.outages)
            raise WatchdogExpired("; ".join(reasons))


async def measure_delay(frame: Frame, stop: asyncio.Event) -> None:
    """Measure, until `stop`, how late this process comes to what is due: how busy its loop is."""
    clock = asyncio.get_running_loop().time
    while not stop.is_set():
        due = clock() + _DELAY_EVERY_SECONDS
        await asyncio.sleep(_DELAY_EVERY_SECONDS)
        frame.metrics.event_loop_delay.observe(clock() - due)


async def ping(
    frame: Frame,
    service: str,
    asked: Mapping[Dependency, Callable[[], Awaitable[bool]]],
    loop: Loop,
    stop: asyncio.Event,
) -> None:
    """Ask what the service needs, each in its own time, whether it is there, until `stop`."""

    async def ask(dependency: Dependency, answers: Callable[[], Awaitable[bool]]) -> None:
        try:
            async with asyncio.timeout(_PING_SECONDS):
                is_up = await answers()
        except TimeoutError:
            is_up = False
        if is_up is frame.outages.is_away(service, dependency):
            log.info("dependency.changed", service=service, dependency=dependency, is_up=is_up)
        frame.outages.note(service, dependency, is_up=is_up)

    while not stop.is_set():
        await asyncio.gather(*(ask(name, answers) for name, answers in asked.items()))
        loop.progressed()
        some_away = any(frame.outages.is_away(service, name) for name in asked)
        await stopped_within(stop, _PING_AWAY_SECONDS if some_away else _PING_EVERY_SECONDS)


async def stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    """Wait up to `seconds`; True as soon as `stop` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: it would close at once, and the process has its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    name: str,
    grace_seconds: int = 15,
    edge: Edge = _EDGE,
) -> AsyncIterator[int]:
    """Serve `app` while the context is open; yields the port (chosen by the system for port 0).

    Leaving stops accepting, waits for requests in flight up to `grace_seconds`, then cuts them.
    """
    # The protocol is named: asyncio sets TCP_NODELAY only on sockets that say they are TCP, and
    # without it each answer waits 40 ms for the other side's delayed acknowledgement.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTaken(f"{name}: cannot listen on {host}:{port}: {error.strerror}") from error
    bound: int = listener.getsockname()[1]
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        # Connections inherit it. Without it, a client that reads no answer is waited for for ever.
        unread = int(edge.unread_seconds * 1000)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unread)
    config = EdgeConfig(
        app,
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        # Nothing of ours believes a forwarded address, and parsing it costs every request.
        proxy_headers=False,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=grace_seconds,
    )
    config.edge = edge
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name=f"http:{name}")
    try:
        while not server.started:
            if task.done():
                await task
                raise RuntimeError(f"{name} did not start serving")
            await asyncio.sleep(0.01)
        log.info("http.listening", name=name, host=host, port=bound)
        yield bound
    finally:
        # Accept no more, but answer who is connected: uvicorn would close on both at once.
        if server.started:
            for accepting in server.servers:
                accepting.close()
            await asyncio.sleep(_LAST_REQUESTS_SECONDS)
        server.should_exit = True
        await asyncio.wait({task}, timeout=grace_seconds + _CUT_SECONDS)
        listener.close()


class PortTaken(PerennialError):
    """A port cannot be listened on; the message says which one and why."""


def admin_app(frame: Frame) -> ASGIApp:
    """/livez (alias /healthz), /readyz and /metrics; asks no dependency, so it answers in time."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        kind = "text/plain; charset=utf-8"
        match scope["path"].rstrip("/"):
            case "/livez" | "/healthz":
                reasons = frame.health.why_dead()
                status, body = (503 if reasons else 200), "\n".join(reasons).encode() or b"ok"
            case "/readyz":
                reasons = frame.health.why_unready()
                status, body = (503 if reasons else 200), "\n".join(reasons).encode() or b"ok"
            case "/metrics":
                status, body, kind = 200, generate_latest(frame.registry), CONTENT_TYPE_LATEST
            case _:
                status, body = 404, b"not found"
        headers = [(b"content-type", kind.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app
