"""How to reach the brokers, and what every part needs to live with aiokafka 0.14."""

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

_STOP_SECONDS = 3.0
_CANCEL_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """Who we are to the brokers, by SASL."""

    mechanism: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The brokers, our prefix before every topic's name, and how we speak to them."""

    bootstrap_servers: str
    topic_prefix: str
    tls: ssl.SSLContext | None = None
    """None: in plain text."""
    sign_in: SignIn | None = None

    def name_of(self, topic: str) -> str:
        return self.topic_prefix + topic

    def topic_of(self, name: str) -> str:
        return name.removeprefix(self.topic_prefix)

    @property
    def protocol(self) -> str:
        transport = "PLAINTEXT" if self.tls is None else "SSL"
        return transport if self.sign_in is None else f"SASL_{transport}"

    def connection(self, *, request_timeout: timedelta) -> Mapping[str, object]:
        """The keyword arguments that producer, consumer and admin client share."""
        options: dict[str, object] = {
            "bootstrap_servers": self.bootstrap_servers.split(","),
            "client_id": "perennial",
            "request_timeout_ms": milliseconds(request_timeout),
            "metadata_max_age_ms": 60_000,
            "ssl_context": self.tls,
            "security_protocol": self.protocol,
        }
        if self.sign_in is not None:
            options |= {
                "sasl_mechanism": self.sign_in.mechanism,
                "sasl_plain_username": self.sign_in.username,
                "sasl_plain_password": self.sign_in.password,
            }
        return options


class Stoppable(Protocol):
    """The part of aiokafka's clients that is needed to be rid of them."""

    async def stop(self) -> None: ...


async def stopped(client: Stoppable) -> None:
    """Stop an aiokafka client for good, whatever state it is in, within a few seconds.

    Its `stop()` may hang (brokers that are gone) or raise a CancelledError that nobody sent. What
    still runs then is cancelled by hand: a heartbeat left behind would hold partitions for nobody.
    """
    await ended(client.stop(), within=_STOP_SECONDS)
    leftovers = background_tasks(client)
    for task in leftovers:
        task.cancel()
    if leftovers:
        await asyncio.wait(leftovers, timeout=_CANCEL_SECONDS)
    connections = getattr(client, "_client", None) or getattr(client, "client", None)
    if connections is not None:
        await ended(connections.close(), within=_CANCEL_SECONDS)


def background_tasks(client: object) -> set[asyncio.Task[None]]:
    """The tasks that keep an aiokafka client alive and still run.

    Private names of aiokafka 0.14: one that ends leaves a client that looks well and stands still
    (#1154), and the library offers no other way to see it.
    """
    paths = (
        "_client._sync_task",
        "client._sync_task",
        "_sender._sender_task",
        "_fetcher._fetch_task",
        "_coordinator._coordination_task",
        "_coordinator._heartbeat_task",
        "_coordinator._commit_refresh_task",
        "_coordinator._reset_committed_task",
    )
    found = {_reach(client, path) for path in paths}
    return {task for task in found if isinstance(task, asyncio.Task) and not task.done()}


async def ended(work: Coroutine[object, object, None], *, within: float) -> None:
    """Await a clean-up that may hang or raise, but not for longer than `within` seconds."""
    # asyncio.wait, not wait_for: a CancelledError raised inside stays inside.
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=within)
    finally:
        task.cancel()
    await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
    if task.done() and not task.cancelled():
        task.exception()  # retrieved, so that asyncio does not report it


async def answers(cluster: Cluster, *, within: float) -> bool:
    """Whether a new connection reaches a broker, whatever becomes of those that there are."""
    client = AIOKafkaClient(**cluster.connection(request_timeout=timedelta(seconds=within)))
    try:
        async with asyncio.timeout(within):
            await client.bootstrap()
    except (KafkaError, OSError, TimeoutError):
        return False
    else:
        return True
    finally:
        await ended(client.close(), within=_CANCEL_SECONDS)


def _reach(client: object, path: str) -> object:
    found: object = client
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


async def until(event: asyncio.Event, loop_time: float) -> None:
    """Wait for the event, but not beyond that time of the loop."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(loop_time):
            await event.wait()


async def cancelled(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks of ours and wait for their end; an error they died of is raised."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
