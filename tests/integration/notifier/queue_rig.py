"""The delivery queue with a made-up kind of message, and channels that answer by a script."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.notifier import queue
from services.notifier.channels import DeliveryError, Message, Receipt, Thread
from services.notifier.composing import Claimed, Decided, DeliveryKind, Place, Planned
from services.notifier.delivery import Sender
from services.notifier.domain.attempts import Class, Failure, Patience
from services.notifier.domain.policy import NotifyReason, SuppressReason
from services.notifier.intervention_rows import AnyRow
from services.notifier.metrics import NotifierMetrics
from services.notifier.tables import channels, deliveries, destinations
from shared.telemetry import CommonMetrics

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
QUICK = Patience(retry_first=timedelta(seconds=0.01), retry_last=timedelta(seconds=0.02))


_TIMES = {
    "deliveries": ("due_at", "created_at"),
    "destinations": (
        "due_at",
        "lease_until",
        "next_allowed_at",
        "probe_at",
        "asked_until",
        "broken_since",
    ),
    "channels": ("paused_until", "broken_since"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """Taken, but only after so long."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Until:
    """Taken, but not before this happens."""

    event: asyncio.Event


Turn: TypeAlias = Failure | Slow | Until


def failing(kind: Class, *, pause: float | None = None) -> Failure:
    after = None if pause is None else timedelta(seconds=pause)
    return Failure(kind=kind, detail="as scripted", retry_after=after)


class Overlap(BaseException):
    """A sender must not take this for one more failure of a channel."""


@dataclass(slots=True)
class Post:
    """A channel whose other side answers by a script, per destination or for all (`""`)."""

    name: str
    pace: timedelta = timedelta(0)
    edits: bool = True
    script: dict[str, deque[Turn]] = field(default_factory=dict)
    asked: list[tuple[float, str]] = field(default_factory=list)
    taken: list[Message] = field(default_factory=list)
    under_way: set[str] = field(default_factory=set)

    def will(self, *turns: Turn, to: str = "") -> None:
        self.script.setdefault(to, deque()).extend(turns)

    async def send(self, message: Message) -> Receipt:
        self.asked.append((time.monotonic(), message.to))
        if message.to in self.under_way:
            raise Overlap(f"two messages to {message.to} at once")
        self.under_way.add(message.to)
        try:
            for name in (message.to, ""):
                if turns := self.script.get(name):
                    await _act(turns.popleft())
                    break
        finally:
            self.under_way.discard(message.to)
        self.taken.append(message)
        return Receipt(provider_id="1", thread=Thread(channel="C1", ts="1.0"))

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.taken]


@dataclass(slots=True)
class Meanwhile(Post):
    """Something happens while a message is under way."""

    deed: Callable[[], Awaitable[None]] | None = None

    async def send(self, message: Message) -> Receipt:
        deed, self.deed = self.deed, None
        if deed is not None:
            await deed()
        return await Post.send(self, message)


def _said(held: Claimed) -> str:
    return str(held.subject.get("text", held.subject.get("broken")))


async def _act(turn: Turn) -> None:
    match turn:
        case Failure():
            raise DeliveryError(turn)
        case Slow():
            await asyncio.sleep(turn.seconds)
        case Until():
            await turn.event.wait()


@dataclass(slots=True)
class Letters:
    """A composer whose messages say what their subject holds, until it is not wanted any more."""

    unwanted: set[str] = field(default_factory=set)
    accepted_texts: list[str] = field(default_factory=list)
    ends: list[tuple[str, SuppressReason | Class]] = field(default_factory=list)

    async def lock(self, connection: AsyncConnection, held: Claimed) -> None:
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": held.group_key}
        )

    async def compose(
        self, _connection: AsyncConnection, held: Claimed, *, now: datetime
    ) -> Message | SuppressReason:
        said = _said(held)
        if said in self.unwanted:
            return SuppressReason.NO_LONGER_WANTED
        return Message(
            delivery_id=held.id,
            created_at=now,
            to=held.destination.partition(":")[2],
            why=held.reason,
            items=(),
            url="http://localhost",
            root=held.id,
            text=said,
            thread=Thread(channel="C1", ts="0.1"),
            edit=held.kind is DeliveryKind.UPDATE,
        )

    async def accepted(
        self,
        _connection: AsyncConnection,
        _held: Claimed,
        message: Message,
        _receipt: Receipt,
        *,
        now: datetime,
    ) -> Decided:
        assert now == NOW
        self.accepted_texts.append(message.text)
        return Decided()

    async def ended(
        self,
        _connection: AsyncConnection,
        held: Claimed,
        why: SuppressReason | Failure,
        *,
        now: datetime,
    ) -> Decided:
        assert now == NOW
        reason = why if isinstance(why, SuppressReason) else why.kind
        self.ends.append((_said(held), reason))
        return Decided()


@dataclass(frozen=True, slots=True, kw_only=True)
class Instead:
    """`chain`: where a message goes on, in this order; the admin reads `email:admin`."""

    chain: Sequence[str] = ()

    def after(self, held: Claimed) -> Place | None:
        tried = {*held.tried, held.destination}
        found = next((one for one in self.chain if one not in tried), None)
        return None if found is None else place(found)

    def admin(self, broken: str) -> Place | None:
        return None if broken in ("email", "email:admin") else place("email:admin")


def place(destination: str) -> Place:
    return Place(
        channel=destination.partition(":")[0], destination=destination, recipient="somebody"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRig:
    engine: AsyncEngine
    posts: Mapping[str, Post]
    letters: Letters
    sender: Sender

    async def put(self, said: str, destination: str = "slack:one", **changes: Any) -> bool:
        """Queue a message that says so; each of a group of its own by default."""
        usual = Planned(
            kind=DeliveryKind.NOTICE,
            dedupe_key=f"{said}:{destination}",
            group_key=said,
            channel=destination.partition(":")[0],
            destination=destination,
            recipient="",
            reason=NotifyReason.FIRST,
            due_at=NOW,
            account_id="acme",
            subject={"text": said},
        )
        async with self.engine.begin() as connection:
            return await queue.put(connection, replace(usual, **changes))

    async def send_all(self) -> int:
        """Send until nothing can be claimed at this moment."""
        sent = 0
        while await self.sender.send_one():
            sent += 1
        return sent

    async def until_quiet(self, *, seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while any(row.state in ("pending", "sending") for row in await self.rows()):
            assert time.monotonic() < end, [tuple(row) for row in await self.rows()]
            if not await self.sender.send_one():
                await asyncio.sleep(0.01)

    async def rows(self) -> Sequence[AnyRow]:
        return await self._all(select(deliveries).order_by(deliveries.c.number))

    async def states(self) -> dict[str, str]:
        return {
            f"{row.subject.get('text')}>{row.destination}": row.state for row in await self.rows()
        }

    async def destination(self, name: str = "slack:one") -> AnyRow:
        found = await self._all(select(destinations).where(destinations.c.destination == name))
        return found[0]

    async def channel(self, name: str = "slack") -> AnyRow | None:
        found = await self._all(select(channels).where(channels.c.channel == name))
        return found[0] if found else None

    async def age(self, by: timedelta) -> None:
        """As if all that happened had happened so much earlier."""
        async with self.engine.begin() as connection:
            for table, columns in _TIMES.items():
                earlier = ", ".join(
                    f"{column} = {column} - CAST(:by AS interval)" for column in columns
                )
                await connection.execute(text(f"UPDATE notifier.{table} SET {earlier}"), {"by": by})

    async def _all(self, statement: Any) -> Sequence[AnyRow]:
        async with self.engine.connect() as connection:
            return (await connection.execute(statement)).all()


def queue_rig(
    engine: AsyncEngine,
    *,
    chain: Sequence[str] = (),
    lease: timedelta = timedelta(seconds=60),
    patience: Patience = QUICK,
    posts: Mapping[str, Post] | None = None,
) -> QueueRig:
    ways = posts or {name: Post(name=name) for name in ("slack", "email", "webhook")}
    letters = Letters()
    return QueueRig(
        engine=engine,
        posts=ways,
        letters=letters,
        sender=Sender(
            engine=engine,
            channels=dict(ways),
            composers=dict.fromkeys(DeliveryKind, letters),
            fallbacks=Instead(chain=chain),
            patience=dict.fromkeys(ways, patience),
            lease=lease,
            metrics=_metrics(),
            clock=lambda: NOW,
            jitter=lambda: 1.0,
        ),
    )


def _metrics() -> NotifierMetrics:
    registry = CollectorRegistry()
    return NotifierMetrics(registry, CommonMetrics(registry))
