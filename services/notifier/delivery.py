"""Sends what was decided; the only place that tries again.

Order of effects: 0 what is due is announced to its destination; 1 claim and lease, committed; 2 it
is composed, which also asks whether it is still wanted; 3 send; 4 record, by compare-and-set on the
claim, together with what the destination has now been told. A sender that dies between 3 and 4
leaves a message that is sent twice, or held for a person (`OnAmbiguous`); no other place does.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from traceback import extract_tb

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.notifier import ledger, queue
from services.notifier.bell import Bell
from services.notifier.channels import Channel, DeliveryError, Message
from services.notifier.composing import Claimed, Composer, DeliveryKind, Fallbacks, Place
from services.notifier.domain.attempts import (
    Attempt,
    Class,
    Failure,
    Next,
    Patience,
    State,
    after,
    holds,
)
from services.notifier.domain.policy import SuppressReason
from services.notifier.ledger import Recorded
from services.notifier.metrics import NotifierMetrics
from services.notifier.queue import Limit
from services.notifier.routes import SLACK
from services.notifier.unsubscribe import Links
from shared import database, failpoints, traceparent, tracing
from shared import logging as logs
from shared.clock import Clock
from shared.lifecycle import stopped_within
from shared.telemetry import Operation
from shared.watchdog import Loop

_IDLE_SECONDS = 0.5
_ANNOUNCE_SECONDS = 0.1
_AWAY_SECONDS = 1.0
_OVERDUE_SECONDS = 15.0
_OVERDUE_PAGE = 200
# Kinds that nobody else is told of: an edit bothers nobody, the rest is about the place itself.
_STAYS = frozenset({DeliveryKind.UPDATE, DeliveryKind.OUTAGE, DeliveryKind.TEST})

# What the daily digest stands for.
_SINGLE = frozenset({DeliveryKind.NOTICE, DeliveryKind.SUMMARY})

log = logs.get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Claims, sends, records; several may run, in one process or in many."""

    engine: AsyncEngine
    channels: Mapping[str, Channel]
    composers: Mapping[DeliveryKind, Composer]
    fallbacks: Fallbacks
    patience: Mapping[str, Patience]
    """Of each channel."""
    lease: timedelta
    metrics: NotifierMetrics
    clock: Clock
    links: Links | None = None
    """Under which people ask for fewer e-mails."""
    jitter: Callable[[], float] = random.random
    despite_hold: bool = False
    """It works on a restored database although nobody has released it."""

    async def run(self, stop: asyncio.Event, *, bell: Bell, loop: Loop) -> None:
        """Until `stop`, which is seen within a moment; the message in hand is recorded first."""
        while not stop.is_set():
            # What has become due may be more urgent than what is already there.
            if bell.takes_turn(_ANNOUNCE_SECONDS):
                await self._unless_away(stop, partial(self._announce_by, bell))
            busy = await self._unless_away(stop, partial(self._send_next, stop))
            loop.progressed()
            if not busy:
                await bell.heard(_IDLE_SECONDS)

    async def watch(self, stop: asyncio.Event, *, loop: Loop) -> None:
        """Until `stop`: give up, in time, what waits behind a destination that does not answer."""
        while not stop.is_set():
            await self._unless_away(stop, partial(self.give_up_overdue, loop.progressed))
            loop.progressed()
            await stopped_within(stop, _OVERDUE_SECONDS)

    async def send_one(self, stop: asyncio.Event | None = None) -> bool:
        """Send the next delivery that is due; False where there is none."""
        if await self._send_next(stop):
            return True
        if stop is not None and stop.is_set():
            return False
        return await self.announce() > 0 and await self._send_next(stop)

    async def _send_next(self, stop: asyncio.Event | None = None) -> bool:
        """As `send_one`, of what is announced already."""
        held = await self._claim()
        if held is None:
            return False
        claimed_at = time.monotonic()
        if held.lease_lost:
            self.metrics.ambiguous.labels(held.channel).inc()
            log.warning("delivery.lease_lost", delivery=str(held.id), channel=held.channel)
        failpoints.reach("notifier.after_claim")
        if stop is not None and stop.is_set():
            await self._release(held, claimed_at)
            return False
        with (
            tracing.one(
                f"deliver {held.channel}",
                held.traceparent,
                links=held.links,
                kind=tracing.Kind.CLIENT,
                attempt=held.attempt,
                why=held.reason.value,
            ),
            logs.bound(delivery=str(held.id), channel=held.channel, **_account_of(held)),
        ):
            await self._send_and_record(held, claimed_at)
        return True

    async def _release(self, held: Claimed, claimed_at: float) -> None:
        async def record(connection: AsyncConnection) -> Recorded:
            await queue.release(connection, held)
            return Recorded(mine=True)

        await self._record(claimed_at, record)

    async def announce(self) -> int:
        """Tell destinations what has become due; how many heard of something."""
        async with self.engine.begin() as connection:
            return await queue.announce(connection)

    async def _announce_by(self, bell: Bell) -> bool:
        heard = await self.announce()
        bell.ring(heard)
        return heard > 0

    async def _claim(self) -> Claimed | None:
        async with self.engine.begin() as connection:
            return await queue.claim(
                connection,
                tuple(self.channels),
                lease=self.lease,
                despite_hold=self.despite_hold,
            )

    async def give_up_overdue(self, progressed: Callable[[], None] = lambda: None) -> bool:
        """Whether there was anything: it goes on to its fallback, although nobody tries it now.

        After hours of an outage there may be many: `progressed` hears of each.
        """
        limits = {
            name: Limit(urgent=patience.dead_after_urgent, usual=patience.dead_after)
            for name, patience in self.patience.items()
            if not patience.schedule
        }
        beyond, found = 0, False
        while True:
            async with self.engine.connect() as connection:
                waiting, beyond = await queue.overdue(
                    connection, limits, beyond=beyond, most=_OVERDUE_PAGE
                )
            if not waiting:
                return found
            for held in waiting:
                failure = Failure(kind=Class.TRANSIENT, detail="not tried again in time")
                step, fallback = self._next(held, failure)
                if step.dead:
                    found = True
                    await self._give_up(held, failure, step, fallback)
                progressed()

    async def _send_and_record(self, held: Claimed, claimed_at: float) -> None:
        composer = self.composers[held.kind]
        # It only reads, and is judged again when it is recorded.
        reading = database.without_transaction(self.engine)
        try:
            async with reading.connect() as connection:
                message = await composer.compose(connection, held, now=self.clock())
        except Exception as error:
            if database.is_away(error) or database.is_transient(error):
                # Nothing was sent: left to its lease, it would look as if it might have been.
                await self._release(held, claimed_at)
            raise
        if isinstance(message, SuppressReason):
            record = partial(
                ledger.suppressed,
                composer=composer,
                held=held,
                against=message,
                now=self.clock(),
            )
            await self._record(claimed_at, record)
            self.metrics.suppressed.labels(message.value).inc()
            return
        if (failure := self._failed_before(held)) is not None:
            step, fallback = self._next(held, failure)
            if step.state is not State.PENDING:
                await self._give_up(held, failure, step, fallback, claimed_at=claimed_at)
                return
        message = self._signed(_formed(message, held), held)
        message = replace(message, traceparent=traceparent.current())
        channel = self.channels[held.channel]
        try:
            receipt = await channel.send(message)
        except DeliveryError as error:
            await self._failed(held, error.failure, claimed_at)
            return
        except Exception as error:  # noqa: BLE001 - below
            # A fault of ours about this one message: to end here would only send it here again.
            # Not the error's text: it may repeat an address that is a secret.
            log.error(  # noqa: TRY400 - not the text
                "delivery.unexpected",
                cause=type(error).__name__,
                at="{0.filename}:{0.lineno}".format(extract_tb(error.__traceback__)[-1]),
            )
            self.metrics.unexpected("senders")
            unexpected = Failure(kind=Class.BAD_MESSAGE, detail=type(error).__name__)
            await self._failed(held, unexpected, claimed_at)
            return
        failpoints.reach("notifier.after_accept")
        waited = held.waited.total_seconds() + time.monotonic() - claimed_at
        self.metrics.attempts.labels(held.channel, Class.SENT.value).inc()
        self.metrics.flag_to_delivery.labels(held.channel).observe(waited)
        if held.took is not None:
            whole = max(0.0, held.took.total_seconds()) + waited
            self.metrics.event_to_delivery.labels(held.channel).observe(whole)
        record = partial(
            ledger.sent,
            composer=composer,
            held=held,
            message=message,
            receipt=receipt,
            pace=channel.pace,
            now=self.clock(),
        )
        await self._record(claimed_at, record)
        log.info(
            "delivery.sent",
            attempt=held.attempt,
            waited_seconds=round(waited, 3),
            # Elsewhere it is the other side's own words.
            **({"message_ts": receipt.provider_id} if held.channel == SLACK else {}),
        )
        failpoints.reach("notifier.after_record")

    def _signed(self, message: Message, held: Claimed) -> Message:
        """With a way out: to whoever gets single messages by e-mail."""
        if self.links is None or held.channel != "email" or held.kind not in _SINGLE:
            return message
        url = self.links.digest(message.to, now=self.clock())
        return replace(message, unsubscribe_url=url)

    def _failed_before(self, held: Claimed) -> Failure | None:
        """What is known without trying."""
        if held.is_broken and held.kind is not DeliveryKind.TEST:
            return Failure(kind=Class.DESTINATION_BROKEN, detail="known to refuse messages")
        if held.lease_lost and holds(self.patience[held.channel], self._attempt(held)):
            return Failure(kind=Class.AMBIGUOUS, detail="its sender was not heard of again")
        return None

    async def _failed(self, held: Claimed, failure: Failure, claimed_at: float) -> None:
        tracing.fail(failure.kind.value)
        self.metrics.attempts.labels(held.channel, failure.kind.value).inc()
        if failure.kind is Class.AMBIGUOUS:
            self.metrics.ambiguous.labels(held.channel).inc()
        step, fallback = self._next(held, failure)
        log.warning(
            "delivery.failed",
            failure=failure.kind.value,
            attempt=held.attempt,
            state=step.state.value,
            rest_seconds=round(step.rest.total_seconds(), 1),
        )
        is_channel = step.breaks_channel
        record = partial(
            ledger.failed,
            composer=self.composers[held.kind],
            held=held,
            failure=failure,
            step=step,
            fallback=fallback,
            admin=self.fallbacks.admin(held.channel if is_channel else held.destination),
            now=self.clock(),
        )
        await self._record(claimed_at, record)
        self._count_end(held, step)

    async def _give_up(
        self,
        held: Claimed,
        failure: Failure,
        step: Next,
        fallback: Place | None,
        *,
        claimed_at: float | None = None,
    ) -> None:
        """End a delivery that is not tried, by what is known; None: nobody has claimed it."""
        record = partial(
            ledger.given_up,
            composer=self.composers[held.kind],
            held=held,
            failure=failure,
            step=step,
            fallback=fallback,
            is_claimed=claimed_at is not None,
            now=self.clock(),
        )
        begun = time.monotonic() if claimed_at is None else claimed_at
        if (await self._record(begun, record)).mine:
            self._count_end(held, step)

    def _count_end(self, held: Claimed, step: Next) -> None:
        if step.dead and held.kind is not DeliveryKind.TEST:
            self.metrics.dead.labels(held.channel).inc()

    def _next(self, held: Claimed, failure: Failure) -> tuple[Next, Place | None]:
        """What follows, and who is told instead where it is the end."""
        fallback = None if held.kind in _STAYS else self.fallbacks.after(held)
        attempt = replace(self._attempt(held), has_fallback=fallback is not None)
        step = after(failure, self.patience[held.channel], attempt, jitter=self.jitter())
        return step, fallback

    def _attempt(self, held: Claimed) -> Attempt:
        return Attempt(
            waited=held.waited,
            failures=held.failures,
            channel_failures=held.channel_failures,
            urgent=held.urgent,
            plain=held.plain,
            threadless=held.threadless,
            is_edit=held.kind is DeliveryKind.UPDATE,
            is_test=held.kind is DeliveryKind.TEST,
        )

    async def _record(
        self, claimed_at: float, record: Callable[[AsyncConnection], Awaitable[Recorded]]
    ) -> Recorded:
        """Record, trying on while the database is away: a lost record is a second message."""
        lease_ends = claimed_at + self.lease.total_seconds()
        while True:
            try:
                with self.metrics.measured(Operation.RECORD):
                    async with self.engine.begin() as connection:
                        recorded = await record(connection)
            except Exception as error:
                known = database.is_away(error) or database.is_transient(error)
                if not known or time.monotonic() > lease_ends:
                    raise
                await asyncio.sleep(0.1 + self.jitter() * 0.4)
            else:
                self.metrics.decided(recorded.decided)
                if not recorded.mine:
                    log.warning("delivery.taken_over")
                return recorded

    async def _unless_away(self, stop: asyncio.Event, work: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await work()
        except Exception as error:
            if not database.is_away(error) and not database.is_transient(error):
                raise
            log.warning("delivery.away", cause=type(error).__name__)
            await stopped_within(stop, _AWAY_SECONDS)
            return True


def _account_of(held: Claimed) -> dict[str, str]:
    return {} if held.account_id is None else {"account_ref": logs.account_ref(held.account_id)}


def _formed(message: Message, held: Claimed) -> Message:
    """As it must be sent after what has failed before."""
    formed = replace(message, plain=held.plain)
    return replace(formed, thread=None, edit=False) if held.threadless else formed
