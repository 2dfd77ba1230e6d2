"""The frame of a process: named loops that are watched, health, the admin port, serving HTTP."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from shared import logging as logs
from shared.errors import PerennialError
from shared.http import Connection, Edge, EdgeConfig
from shared.telemetry import CommonMetrics

log = logs.get(__name__)

_EDGE = Edge()
_LAST_REQUESTS_SECONDS = 0.2
"""From the last connection to the end of all."""

Check: TypeAlias = Callable[[], str | None]
"""Says what is wrong, or None."""


class WatchdogExpired(PerennialError):
    """A loop made no progress for too long although nothing it needs is away."""


@dataclass(slots=True)
class Loop:
    """A background loop: it reports progress, and a watchdog may expire on its silence."""

    service: str
    name: str
    metrics: CommonMetrics
    limit_seconds: float | None = None
    last_progress: float = field(default_factory=time.monotonic)

    def progressed(self) -> None:
        self.last_progress = time.monotonic()
        self.metrics.loop_progress.labels(self.service, self.name).set_to_current_time()

    def overdue(self) -> str | None:
        if self.limit_seconds is None:
            return None
        silent = time.monotonic() - self.last_progress
        if silent <= self.limit_seconds:
            return None
        return f"{self.service}.{self.name} made no progress for {silent:.0f} s"


class Health:
    """What /livez and /readyz answer; shared by the services of one process."""

    def __init__(self) -> None:
        self._loops: list[Loop] = []
        self._ready: dict[str, Check] = {}
        self._starting: set[str] = set()
        self.draining = False

    def starting(self, service: str) -> None:
        """The process is not ready before the service has said `started`."""
        self._starting.add(service)

    def started(self, service: str) -> None:
        self._starting.discard(service)

    def add_loop(self, loop: Loop) -> Loop:
        self._loops.append(loop)
        return loop

    def add_check(self, name: str, check: Check) -> None:
        """Readiness is about this process alone: an outage that all share is no reason."""
        self._ready[name] = check

    def why_dead(self) -> list[str]:
        return [reason for loop in self._loops if (reason := loop.overdue())]

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

    def loop(self, service: str, name: str, *, limit_seconds: float | None = None) -> Loop:
        return self.health.add_loop(
            Loop(service=service, name=name, metrics=self.metrics, limit_seconds=limit_seconds)
        )


def new_frame() -> Frame:
    registry = CollectorRegistry()
    return Frame(registry=registry, metrics=CommonMetrics(registry), health=Health())


async def run_tasks(stop: asyncio.Event, **tasks: Coroutine[object, object, None]) -> None:
    """Run named tasks until all end; the first failure cancels the rest and is raised.

    A task that ends before `stop` is set is a failure too: none dies unseen.
    """

    async def watched(name: str, task: Coroutine[object, object, None]) -> None:
        await task
        if not stop.is_set():
            raise RuntimeError(f"task {name} ended by itself")

    async with asyncio.TaskGroup() as group:
        for name, task in tasks.items():
            group.create_task(watched(name, task), name=name)


async def watch(health: Health, stop: asyncio.Event) -> None:
    """Ends the process, by raising WatchdogExpired, when a loop stands still."""
    while not await stopped_within(stop, 1.0):
        if reasons := health.why_dead():
            raise WatchdogExpired("; ".join(reasons))


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
        await asyncio.wait({task}, timeout=grace_seconds + 5)
        listener.close()


class PortTaken(PerennialError):
    """A port cannot be listened on; the message says which one and why."""


def admin_app(frame: Frame, refresh: Callable[[], Awaitable[None]] | None = None) -> ASGIApp:
    """/livez (alias /healthz), /readyz and /metrics; asks no dependency."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        match scope["path"].rstrip("/"):
            case "/livez" | "/healthz":
                reasons = frame.health.why_dead()
                status, body = (503 if reasons else 200), "\n".join(reasons) or "ok"
            case "/readyz":
                reasons = frame.health.why_unready()
                status, body = (503 if reasons else 200), "\n".join(reasons) or "ok"
            case "/metrics":
                if refresh is not None:
                    await refresh()
                status, body = 200, generate_latest(frame.registry).decode()
            case _:
                status, body = 404, "not found"
        kind = CONTENT_TYPE_LATEST if scope["path"] == "/metrics" else "text/plain; charset=utf-8"
        headers = [(b"content-type", kind.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body.encode()})

    return app
