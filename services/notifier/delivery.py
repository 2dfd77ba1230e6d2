"""Sends what was decided; the only place that tries again.

Order of effects: 1 claim and lease, committed; 2 is it still wanted; 3 send; 4 record, by
compare-and-set on the claim, together with what the destination has now been told. A sender that
dies between 3 and 4 leaves a message that is sent twice; no other place does.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.notifier import ledger, notices, queue, store
from services.notifier.channels import Channel, DeliveryError, Message
from services.notifier.domain import calendar
from services.notifier.domain.attempts import Class, Failure, Patience, after
from services.notifier.domain.interventions import Intervention
from services.notifier.domain.policy import SuppressReason, Told, still_wanted, told_by
from services.notifier.ledger import Recorded
from services.notifier.metrics import NotifierMetrics
from services.notifier.notices import Routes
from services.notifier.queue import Claimed
from services.notifier.store import Account
from shared import database, failpoints
from shared import logging as logs
from shared.clock import Clock
from shared.lifecycle import Loop, stopped_within
from shared.messages import AccountFields

_IDLE_SECONDS = 0.5
_AWAY_SECONDS = 1.0

log = logs.get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a delivery is about, as it is now."""

    intervention: Intervention
    account: Account
    told: Told | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Claims, sends, records; several may run, in one process or in many."""

    engine: AsyncEngine
    channels: Mapping[str, Channel]
    routes: Routes
    patience: Patience
    lease: timedelta
    metrics: NotifierMetrics
    clock: Clock
    console_url: str
    jitter: Callable[[], float] = random.random

    async def run(self, stop: asyncio.Event, *, wake: asyncio.Event, loop: Loop) -> None:
        """Until `stop`; ends after the message in hand is recorded."""
        while not stop.is_set():
            try:
                busy = await self.send_one(stop)
            except Exception as error:
                if not database.is_away(error) and not database.is_transient(error):
                    raise
                log.warning("delivery.away", cause=type(error).__name__)
                await stopped_within(stop, _AWAY_SECONDS)
                busy = True
            loop.progressed()
            if not busy:
                wake.clear()
                await _first_of(stop, wake, _IDLE_SECONDS)

    async def send_one(self, stop: asyncio.Event | None = None) -> bool:
        """Send the next delivery that is due; False where there is none."""
        async with self.engine.begin() as connection:
            held = await queue.claim(connection, tuple(self.channels), lease=self.lease)
        if held is None:
            return False
        claimed_at = time.monotonic()
        if held.lease_lost:
            self.metrics.ambiguous.labels(held.channel).inc()
            log.warning("delivery.lease_lost", delivery=str(held.id), channel=held.channel)
        failpoints.reach("notifier.after_claim")
        if stop is not None and stop.is_set():
            async with self.engine.begin() as connection:
                await queue.release(connection, held)
            return False
        await self._send_and_record(held, claimed_at)
        return True

    async def _send_and_record(self, held: Claimed, claimed_at: float) -> None:
        async with self.engine.connect() as connection:
            subject = await self._read(connection, held)
        if (against := self._against(held, subject)) is not None:
            record = partial(
                ledger.suppressed,
                held=held,
                against=against,
                version=subject.intervention.version,
                routes=self.routes,
                at=self.clock(),
            )
            await self._record(claimed_at, record)
            self.metrics.suppressed.labels(against.value).inc()
            return
        channel = self.channels[held.channel]
        try:
            receipt = await channel.send(self._message(held, subject))
        except DeliveryError as error:
            await self._failed(held, error.failure, subject, claimed_at)
            return
        failpoints.reach("notifier.after_accept")
        waited = held.waited.total_seconds() + time.monotonic() - claimed_at
        self.metrics.attempts.labels(held.channel, Class.SENT.value).inc()
        self.metrics.flag_to_delivery.labels(held.channel).observe(waited)
        record = partial(
            ledger.sent,
            held=held,
            receipt=receipt,
            told=told_by(subject.intervention),
            pace=channel.pace,
            routes=self.routes,
            at=self.clock(),
        )
        await self._record(claimed_at, record)
        failpoints.reach("notifier.after_record")

    async def _failed(
        self, held: Claimed, failure: Failure, subject: Subject, claimed_at: float
    ) -> None:
        self.metrics.attempts.labels(held.channel, failure.kind.value).inc()
        if failure.kind is Class.AMBIGUOUS:
            self.metrics.ambiguous.labels(held.channel).inc()
        fallback = self.routes.fallback_of(held.destination)
        step = after(
            failure,
            self.patience,
            plain=held.plain,
            failures=held.failures,
            waited=held.waited,
            has_fallback=fallback is not None,
            jitter=self.jitter(),
        )
        log.warning(
            "delivery.failed",
            delivery=str(held.id),
            channel=held.channel,
            failure=failure.kind.value,
            attempt=held.attempt,
            dead=step.dead,
            rest_seconds=round(step.rest.total_seconds(), 1),
        )
        record = partial(
            ledger.failed,
            held=held,
            failure=failure,
            step=step,
            fallback=fallback,
            version=subject.intervention.version,
            routes=self.routes,
            at=self.clock(),
        )
        await self._record(claimed_at, record)
        if step.dead:
            self.metrics.dead.labels(held.channel).inc()

    async def _read(self, connection: AsyncConnection, held: Claimed) -> Subject:
        intervention = await store.read(connection, held.intervention_id)
        if intervention is None:
            raise LookupError("a delivery outlived its intervention")
        account = await store.read_account(connection, held.account_id)
        told = await store.read_told(connection, held.intervention_id)
        return Subject(
            intervention=intervention,
            account=account or Account(account_id=held.account_id, fields=AccountFields()),
            told=told.get(held.destination),
        )

    def _against(self, held: Claimed, subject: Subject) -> SuppressReason | None:
        return still_wanted(
            subject.intervention,
            subject.told,
            reason=held.reason,
            account_lost=subject.account.is_lost,
            for_owner=self.routes.reach(subject.intervention.owner, held.destination),
        )

    def _message(self, held: Claimed, subject: Subject) -> Message:
        intervention, account = subject.intervention, subject.account
        return Message(
            delivery_id=held.id,
            intervention_id=intervention.id,
            created_at=self.clock(),
            to=notices.address_of(held.destination),
            why=held.reason,
            account_id=account.account_id,
            account_name=account.name,
            reason=intervention.reason,
            severity=intervention.severity,
            summary=intervention.summary,
            owner=intervention.owner,
            due_at=intervention.due_at,
            zone=calendar.zone_of(account.fields.timezone),
            # The id of ours, not the account's: short, and inert in every format.
            url=f"{self.console_url}/interventions/{intervention.id}",
            risk=intervention.risk,
            value_at_risk=intervention.value_at_risk,
            renewal_date=intervention.renewal_date,
            reasons=intervention.reasons,
            plain=held.plain,
        )

    async def _record(
        self, claimed_at: float, record: Callable[[AsyncConnection], Awaitable[Recorded]]
    ) -> Recorded:
        """Record, trying on while the database is away: a lost record is a second message."""
        lease_ends = claimed_at + self.lease.total_seconds()
        while True:
            try:
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


async def _first_of(stop: asyncio.Event, wake: asyncio.Event, seconds: float) -> None:
    """Wait until one of them is set, or for so long."""
    waits = [asyncio.create_task(event.wait()) for event in (stop, wake)]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
