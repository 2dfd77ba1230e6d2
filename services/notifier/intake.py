"""Takes flags and account records in; the handler of the worker's loop.

Order of effects, one transaction per batch: 1 position, 2 the accounts are locked, 3 signals (see
`taking`), 4 the look, which stores deliveries. Counters and senders hear of it after the commit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import NAMESPACE_URL, UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.notifier import agenda, erasure, looks, store, taking
from services.notifier.composing import Decided
from services.notifier.domain import signals, steps
from services.notifier.domain.interventions import Taken, come_back
from services.notifier.domain.openings import new_owner
from services.notifier.domain.priority import notice_by
from services.notifier.metrics import NotifierMetrics
from services.notifier.situations import Desk
from services.notifier.store import Account, Entry
from services.notifier.tables import log_positions, outbox
from services.notifier.taking import Locked, Staff
from shared import outbox as outboxes
from shared import traceparent
from shared.clock import Clock
from shared.errors import InvalidMessage
from shared.log import Batch, StoredRecord, TopicPartition
from shared.log.positions import Claim, advance, claim, read
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
from shared.traceparent import GoingOn

TOPICS = (FLAGS, ACCOUNTS)

# Keys of unique indexes: PostgreSQL refuses index rows over 2.7 kB, which is no data error.
_MAX_ID = 500
_MAX_AMOUNT = Decimal(10) ** 15
_MAX_NUMBER = 2**31 - 1
_SCORING = "scoring"
_DIRECTORY = "directory"

_WIN_BACK_WITHIN = timedelta(days=90)
"""Who left before that is history: a directory that comes with it is no work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Handler of the topics `flags` and `accounts` (see `shared.log.worker.Handler`)."""

    engine: AsyncEngine
    staff: Staff
    desk: Desk
    metrics: NotifierMetrics
    clock: Clock
    wake: Callable[[], None]
    """Called after each commit that may have queued something."""

    async def positions(self) -> Mapping[TopicPartition, int]:
        async with self.engine.connect() as connection:
            return await read(connection, log_positions)

    async def claim(self, partition: TopicPartition) -> Claim:
        async with self.engine.begin() as connection:
            return await claim(connection, log_positions, partition)

    async def take_in(self, batch: Batch, held: Claim) -> None:
        async with self.engine.begin() as connection:
            await advance(connection, log_positions, batch, held)
            if batch.partition.topic == ACCOUNTS:
                locked, decided = await self._take_accounts(connection, batch.records)
            else:
                locked, decided = await self._take_flags(connection, batch.records)
        locked.effects.count(self.metrics)
        self.metrics.decided(decided)
        self.wake()

    async def set_aside(self, batch: Batch, held: Claim, error: InvalidMessage) -> None:
        async with self.engine.begin() as connection:
            await advance(connection, log_positions, batch, held)
            record = rejected(batch.records[0], batch.partition, error, stage="notifier.intake")
            await outboxes.put(connection, outbox, REJECTED, [record])
        self.wake()

    async def _take_flags(
        self, connection: AsyncConnection, records: Sequence[StoredRecord]
    ) -> tuple[Locked, Decided]:
        flags = [_flag(record) for record in records]
        traces = [traceparent.of_headers(record.headers) for record in records]
        await erasure.hold_off(connection)
        now = self.clock()
        ids = {flag.account for flag in flags}
        locked = await taking.lock(connection, ids, self.staff, now=now)
        for flag, trace in zip(flags, traces, strict=True):
            account = locked.accounts.get(flag.account)
            if account is not None and account.was_erased_after(flag.as_of):
                locked.effects.taken.append(Taken.ERASED)
                continue
            with GoingOn(trace):
                signal = signals.of_flag(flag, traceparent=trace)
                taken, _ = await locked.take(signal, by=_SCORING)
            locked.effects.taken.append(taken)
        changed = sorted(locked.effects.changed)
        # Of several the first: the message tells of all.
        received = {flag.account: flag.received_at for flag in reversed(flags) if flag.received_at}
        return locked, await looks.look(connection, changed, self.desk, now=now, received=received)

    async def _take_accounts(
        self, connection: AsyncConnection, records: Sequence[StoredRecord]
    ) -> tuple[Locked, Decided]:
        newest, erasures = _sorted_out(records)
        now = self.clock()
        # All at once, in one order, so that two transactions cannot wait for each other.
        ids = {*newest, *erasures}
        if erasures:
            await erasure.begin(connection)
            await agenda.lock(connection, ids)
            await erasure.erase_accounts(connection, erasures, now=now)
        locked = await taking.lock(connection, ids, self.staff, now=now)
        traces = traceparent.by_key(records)
        ordered = [newest[account_id] for account_id in sorted(newest)]
        before = dict(locked.accounts)
        saved = await store.save_accounts(connection, ordered)
        locked.accounts.update(saved)
        for account_id, account in sorted(saved.items()):
            old = before.get(account_id)
            known = old if old and old.fields != AccountFields() else None
            with GoingOn(traces.get(account_id.encode())):
                await _follow_directory(locked, known, account)
                await _follow_loss(locked, known, account, newest[account_id])
        changed = sorted(erasures.keys() | {one for one in saved if locked.open_of(one)})
        return locked, await looks.look(connection, changed, self.desk, now=now)


async def _follow_directory(locked: Locked, before: Account | None, account: Account) -> None:
    """A new owner, and a new last day for notice, go on to what is open."""
    for subject in locked.open_of(account.account_id):
        owner = new_owner(
            subject,
            before=before.fields if before else AccountFields(),
            after=account.fields,
            roster=locked.roster,
            open_counts=locked.open_counts,
            now=locked.now,
        )
        moved = None if owner is None else steps.hand_over(subject, owner=owner)
        if moved is not None:
            moved = await locked.change(moved)
            await locked.move_tasks(moved)
            detail = {"from": subject.owner, "to": moved.owner}
            await store.tell(
                locked.connection,
                moved,
                Entry.OWNER_CHANGED,
                by=_DIRECTORY,
                at=locked.now,
                **detail,
            )
        elif subject.notice_by != notice_by(account.fields):
            await locked.change(replace(subject, version=subject.version + 1))


async def _follow_loss(
    locked: Locked, before: Account | None, account: Account, record: AccountRecord
) -> None:
    """An account that leaves is to be won back; what was open about one that returns goes on."""
    was_lost = before is not None and before.is_lost
    # What came with the directory as lost was lost before anybody watched it.
    if before is None or was_lost == account.is_lost:
        return
    entry = Entry.ACCOUNT_LOST if account.is_lost else Entry.ACCOUNT_BACK
    for subject in locked.open_of(account.account_id):
        await store.tell(locked.connection, subject, entry, by=_DIRECTORY, at=locked.now)
        if not account.is_lost and (step := come_back(subject, now=locked.now)):
            await locked.settle(*step)
    if account.is_lost and _is_history(account.fields, locked.now):
        return
    signal = signals.of_loss(
        account.account_id,
        account.fields,
        change_id=_loss_id(record),
        is_lost=account.is_lost,
        at=record.updated_at,
        traceparent=traceparent.current(),
    )
    await locked.take(signal, by=_DIRECTORY)


def _is_history(fields: AccountFields, now: datetime) -> bool:
    left = fields.churned_at
    return left is not None and left < (now - _WIN_BACK_WITHIN).date()


def _loss_id(record: AccountRecord) -> UUID:
    """The same record says the same, however often it comes."""
    name = f"perennial:loss:{record.account}\0{record.updated_at.isoformat()}"
    return uuid5(NAMESPACE_URL, name)


def _sorted_out(
    records: Sequence[StoredRecord],
) -> tuple[dict[str, AccountRecord], dict[str, Erasure]]:
    """The newest record of each account, and the erasures that came before it."""
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
    return newest, erasures


def _flag(record: StoredRecord) -> Flag:
    flag = decode(FlagEvent, record.value).data
    _check_id("account", flag.account)
    _check_id("flag_id", flag.flag_id)
    if not 0 <= flag.episode <= _MAX_NUMBER:
        raise InvalidMessage("invalid_flag", "episode is out of range")
    for name in ("as_of", "raised_at"):
        if getattr(flag, name).tzinfo is None:
            raise InvalidMessage("invalid_flag", f"{name} has no time zone")
    if flag.received_at is not None and flag.received_at.tzinfo is None:
        raise InvalidMessage("invalid_flag", "received_at has no time zone")
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
