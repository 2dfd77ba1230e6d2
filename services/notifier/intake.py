"""Takes flags and account records in; the handler of the worker's loop.

Order of effects, one transaction per batch: 1 position, 2 intervention, 3 timeline, 4 delivery rows
and outcomes. Counters and the senders hear of it after the commit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import NAMESPACE_URL, UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.notifier import erasure, notices, outcomes, store
from services.notifier.domain import calendar, interventions
from services.notifier.domain.interventions import SYSTEM, Assignment, Intervention, Taken
from services.notifier.metrics import NotifierMetrics
from services.notifier.notices import Decided, Routes
from services.notifier.store import Account, Entry
from services.notifier.tables import log_positions, outbox
from shared import outbox as outboxes
from shared.clock import Clock
from shared.errors import InvalidMessage
from shared.log import Batch, StoredRecord, TopicPartition
from shared.log.positions import Claim, advance, claim
from shared.messages import (
    ACCOUNTS,
    ERASURE,
    FLAGS,
    REJECTED,
    AccountFields,
    AccountRecord,
    Erasure,
    Flag,
    FlagEvent,
    decode,
)
from shared.quarantine import rejected

TOPICS = (FLAGS, ACCOUNTS)

# Keys of unique indexes: PostgreSQL refuses index rows over 2.7 kB, which is no data error.
_MAX_ID = 500
_MAX_AMOUNT = Decimal(10) ** 15
_MAX_NUMBER = 2**31 - 1
_SCORING = "scoring"

_ENTRIES = {
    Taken.OPENED: Entry.OPENED,
    Taken.REOPENED: Entry.REOPENED,
    Taken.WORSENED: Entry.WORSENED,
    Taken.RECOVERED: Entry.RECOVERED,
    Taken.CLOSED: Entry.CLOSED,
    Taken.ACCOUNT_LOST: Entry.ACCOUNT_LOST,
}


@dataclass(slots=True, kw_only=True)
class _Effects:
    """What a transaction did, told to the counters once it is committed."""

    taken: list[Taken] = field(default_factory=list)
    closed: list[Intervention] = field(default_factory=list)
    decided: Decided = field(default_factory=Decided)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Handler of the topics `flags` and `accounts` (see `shared.log.worker.Handler`)."""

    engine: AsyncEngine
    routes: Routes
    metrics: NotifierMetrics
    clock: Clock
    wake: Callable[[], None]
    """Called after each commit that may have queued something."""

    async def claim(self, partition: TopicPartition) -> Claim:
        async with self.engine.begin() as connection:
            return await claim(connection, log_positions, partition)

    async def take_in(self, batch: Batch, held: Claim) -> None:
        effects = _Effects()
        async with self.engine.begin() as connection:
            await advance(connection, log_positions, batch, held)
            if batch.partition.topic == ACCOUNTS:
                await self._take_accounts(connection, batch.records, effects)
            else:
                await erasure.hold_off(connection)
                for flag in [_flag(record) for record in batch.records]:
                    await self._take_flag(connection, flag, effects)
        self._count(effects)
        self.wake()

    async def set_aside(self, batch: Batch, held: Claim, error: InvalidMessage) -> None:
        async with self.engine.begin() as connection:
            await advance(connection, log_positions, batch, held)
            record = rejected(batch.records[0], batch.partition, error, stage="notifier.intake")
            await outboxes.put(connection, outbox, REJECTED, [record])
        self.wake()

    async def _take_flag(self, connection: AsyncConnection, flag: Flag, effects: _Effects) -> None:
        account = await store.read_account(connection, flag.account)
        if account is not None and account.was_erased_after(flag.as_of):
            effects.taken.append(Taken.ERASED)
            return
        taken, subject = await self._apply(connection, flag, account)
        effects.taken.append(taken)
        if subject is None:
            return
        if entry := _ENTRIES.get(taken):
            by = SYSTEM if taken is Taken.CLOSED else _SCORING
            detail = {
                "summary": subject.summary,
                "severity": subject.severity.value,
                "outcome": None if subject.outcome is None else subject.outcome.value,
            }
            await store.tell(connection, subject, entry, by=by, at=self.clock(), **detail)
        if taken is Taken.CLOSED:
            await outcomes.publish(connection, subject)
            effects.closed.append(subject)
        await self._decide(connection, subject, account, effects)

    async def _apply(
        self, connection: AsyncConnection, flag: Flag, account: Account | None
    ) -> tuple[Taken, Intervention | None]:
        now = self.clock()
        fields = account.fields if account else AccountFields()
        due = calendar.due_at(
            interventions.severity_of(flag), now=now, zone=calendar.zone_of(fields.timezone)
        )
        assignment = Assignment(owner=self._owner(fields), due_at=due)
        # The second try sees what another replica has committed since the first look.
        for _ in range(2):
            current = await store.newest(
                connection, account_id=flag.account, kind=flag.stage, reason=flag.reason
            )
            if current and account and account.was_erased_after(current.seen.as_of):
                current = None  # What was erased is not reopened: the account starts afresh.
            taken, subject = interventions.take(
                current,
                flag,
                new_id=_id(flag),
                assignment=assignment,
                account_lost=account is not None and account.is_lost,
                now=now,
            )
            if subject is None:
                return taken, None
            save = store.add if taken is Taken.OPENED else store.change
            if await save(connection, subject):
                return taken, subject
        raise RuntimeError("an intervention changed although it was locked")

    async def _take_accounts(
        self, connection: AsyncConnection, records: Sequence[StoredRecord], effects: _Effects
    ) -> None:
        newest: dict[str, AccountRecord] = {}
        erasures: dict[str, Erasure] = {}
        for record in records:
            if record.value is None:
                account_id = record.key.decode("utf-8", "replace")
                _check_id("account", account_id)
                newest.pop(account_id, None)
                erasures[account_id] = _erasure(record)
                continue
            message = _account(record)
            newest[message.account] = message
        if erasures:
            await erasure.erase_accounts(connection, erasures, now=self.clock())
        # One order in every transaction, so that two of them cannot wait for each other.
        ordered = [newest[account_id] for account_id in sorted(newest)]
        saved = await store.save_accounts(connection, ordered)
        for subject in await store.open_of_accounts(connection, sorted(saved)):
            account = saved[subject.account_id]
            await self._reassign(connection, subject, account, effects)

    async def _reassign(
        self,
        connection: AsyncConnection,
        subject: Intervention,
        account: Account,
        effects: _Effects,
    ) -> None:
        moved = interventions.reassign(subject, owner=self._owner(account.fields))
        if moved is None or not await store.change(connection, moved):
            return
        detail = {"from": subject.owner, "to": moved.owner}
        await store.tell(
            connection, moved, Entry.OWNER_CHANGED, by=_SCORING, at=self.clock(), **detail
        )
        await self._decide(connection, moved, account, effects)

    async def _decide(
        self,
        connection: AsyncConnection,
        subject: Intervention,
        account: Account | None,
        effects: _Effects,
    ) -> None:
        decided = await notices.decide(
            connection,
            subject,
            routes=self.routes,
            account_lost=account is not None and account.is_lost,
        )
        effects.decided = effects.decided.plus(decided)

    def _owner(self, fields: AccountFields) -> str:
        return (fields.owner or "").strip() or self.routes.fallback_owner

    def _count(self, effects: _Effects) -> None:
        for taken in effects.taken:
            self.metrics.flags_consumed.labels(taken.value).inc()
        for subject in effects.closed:
            self.metrics.outcomes.labels(str(subject.outcome), subject.reason.value).inc()
        self.metrics.decided(effects.decided)


def _id(flag: Flag) -> UUID:
    """The same flag opens the same intervention, however often it is replayed."""
    parts = (flag.account, flag.stage, flag.reason, flag.flag_id, flag.as_of.isoformat())
    return uuid5(NAMESPACE_URL, "\0".join(("perennial:intervention", *parts)))


def _flag(record: StoredRecord) -> Flag:
    flag = decode(FlagEvent, record.value).data
    _check_id("account", flag.account)
    _check_id("flag_id", flag.flag_id)
    if not 0 <= flag.episode <= _MAX_NUMBER:
        raise InvalidMessage("invalid_flag", "episode is out of range")
    for name in ("as_of", "raised_at"):
        if getattr(flag, name).tzinfo is None:
            raise InvalidMessage("invalid_flag", f"{name} has no time zone")
    value = flag.value_at_risk
    if value is not None and not (value.amount.is_finite() and abs(value.amount) < _MAX_AMOUNT):
        raise InvalidMessage("invalid_flag", "value_at_risk.amount is out of range")
    return flag


def _account(record: StoredRecord) -> AccountRecord:
    message = decode(AccountRecord, record.value)
    _check_id("account", message.account)
    if message.updated_at.tzinfo is None:
        raise InvalidMessage("invalid_account", "updated_at has no time zone")
    return message


def _erasure(record: StoredRecord) -> Erasure:
    """What the record without a value says; the log's own time where it says nothing."""
    for name, value in record.headers:
        if name == ERASURE:
            return decode(Erasure, value)
    return Erasure(erased_at=record.appended_at, flags_until=record.appended_at)


def _check_id(name: str, value: str) -> None:
    if not value or len(value) > _MAX_ID or "\0" in value:
        raise InvalidMessage("invalid_id", f"{name} is empty, too long or holds NUL")
