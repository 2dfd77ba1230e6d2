"""`perennial erase`: what would go, asking for it, and doing it again in a restored database.

An erasure is a change of the directory, whoever asks for it: scoring does it, and tells the
notifier. Order of effects of a request: 1 append it, 2 write the receipt, 3 wait until both have
done it, 4 write the receipt with what went. Killed between 1 and 2, scoring knows of it, and
`erase receipts` writes it.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal, TypeAlias

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services import receipts
from services.notifier import agenda
from services.notifier import erasure as notifier_erasure
from services.notifier.tables import accounts as notifier_accounts
from services.receipts import Receipt
from services.scoring import erasure, erasure_store, store
from services.scoring.domain.activity import user_key
from services.scoring.tables import erased_accounts, erased_users
from shared import database
from shared.credentials import HashedUser
from shared.errors import DependencyAway, PerennialError
from shared.log import Appended, Log, LogUnavailable, Record
from shared.messages import DIRECTORY_CHANGES, DirectoryChange, Erasure, encode

SOURCE: Final = "perennial-erase"

_DEADLINE: Final = timedelta(seconds=10)
_LOOK_SECONDS: Final = 0.3

OnProgress: TypeAlias = Callable[[str], None]
Place: TypeAlias = Literal["scoring", "notifier"]


class NotErased(PerennialError):
    """The request could not be stored: nothing is erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom or what to erase: an account, or a person in one (`account` empty: in all)."""

    account: str
    user: HashedUser | None = None

    @property
    def kind(self) -> Literal["account", "user"]:
        return "account" if self.user is None else "user"

    @property
    def user_key(self) -> int | None:
        return None if self.user is None else user_key(self.user)

    def change(self, received_at: datetime) -> DirectoryChange:
        return DirectoryChange(
            account=self.account,
            op="erase",
            user=self.user,
            source=SOURCE,
            received_at=received_at,
        )

    def receipt(self, erased_at: datetime) -> Receipt:
        return Receipt(
            kind=self.kind,
            account=self.account,
            user=self.user,
            user_key=self.user_key,
            erased_at=erased_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The receipt, and who has not done it by now."""

    receipt: Receipt
    pending: tuple[Place, ...]


@dataclass(slots=True, kw_only=True)
class Replayed:
    """What became of receipts in a restored database."""

    erased: int = 0
    already: int = 0


async def request(log: Log, subject: Subject, folder: Path, *, now: datetime) -> Receipt:
    """Ask for it, durably; from here on it will be done, whatever happens to this process."""
    change = subject.change(now)
    key = subject.account or subject.user or ""
    try:
        [appended] = await log.append(
            DIRECTORY_CHANGES, [Record(key=key.encode(), value=encode(change))], deadline=_DEADLINE
        )
    except LogUnavailable as error:
        raise DependencyAway("the log") from error
    if appended is not Appended.DURABLE:
        raise NotErased("it is not known to be stored: ask again")
    receipt = subject.receipt(now)
    await asyncio.to_thread(receipts.write, folder, receipt)
    return receipt


async def wait(
    engine: AsyncEngine,
    asked: Receipt,
    folder: Path,
    *,
    limit: timedelta,
    on_progress: OnProgress,
) -> Outcome:
    """Until scoring and the notifier have done it, or the limit is over."""
    over = time.monotonic() + limit.total_seconds()
    subject = Subject(
        account=asked.account, user=None if asked.user is None else HashedUser(asked.user)
    )
    while True:
        found = await known(engine, subject)
        is_scored = found is not None and found.erased_at >= asked.erased_at
        if asked.kind == "user":
            is_scored = await _is_user_done(engine, subject, asked.erased_at)
        is_told = asked.kind == "user" or (
            is_scored
            and found is not None
            and await _is_told(engine, asked.account, found.flags_until)
        )
        if is_scored and is_told and found is not None and found.done_at is not None:
            await asyncio.to_thread(receipts.write, folder, found)
            return Outcome(receipt=found, pending=())
        pending: tuple[Place, ...] = ("notifier",) if is_scored else ("scoring", "notifier")
        if asked.kind == "user":
            pending = ("scoring",)
        if time.monotonic() > over:
            return Outcome(receipt=found if found and is_scored else asked, pending=pending)
        on_progress(f"waiting for {' and '.join(pending)}")
        await asyncio.sleep(_LOOK_SECONDS)


async def read(connection: AsyncConnection) -> Sequence[Receipt]:
    """All erasures that scoring knows of, done or under way; the oldest first."""
    rows = await connection.execute(select(erased_accounts))
    people = await connection.execute(select(erased_users))
    found = [
        Receipt(
            kind="account",
            account=row.account_id,
            erased_at=row.erased_at,
            flags_until=row.flags_until,
            done_at=row.done_at,
            counts=row.counts or {},
        )
        for row in rows
    ]
    found += [
        Receipt(
            kind="user",
            account=row.account_id,
            user=row.user_hash,
            user_key=row.user_key,
            erased_at=row.erased_at,
            done_at=row.done_at,
            counts=row.counts or {},
        )
        for row in people
    ]
    return sorted(found, key=lambda one: one.erased_at)


async def export(engine: AsyncEngine, folder: Path) -> int:
    """Write the receipts that the folder lacks; how many those are. It never loses one."""
    async with engine.connect() as connection:
        every = await read(connection)
    return await asyncio.to_thread(_write_missing, folder, every)


def _write_missing(folder: Path, every: Sequence[Receipt]) -> int:
    written = 0
    for receipt in every:
        there = receipts.find(folder, receipt)
        if receipts.newest(receipt, there) != there:
            receipts.write(folder, receipt)
            written += 1
    return written


async def replay(
    engine: AsyncEngine, found: Sequence[Receipt], *, now: datetime, on_progress: OnProgress
) -> Replayed:
    """Erase again what a restored database still has, as of the first time; all else stays.

    Straight in the database, before the services start.
    """
    done = Replayed()
    for number, receipt in enumerate(found, 1):
        on_progress(f"{number:,} of {len(found):,} receipts")
        if receipt.kind == "account":
            is_new = await _erase_account(engine, receipt, now)
        else:
            is_new = await _erase_user(engine, receipt, now)
        done.erased += is_new
        done.already += not is_new
    return done


async def _erase_account(engine: AsyncEngine, receipt: Receipt, now: datetime) -> bool:
    account, erased_at = receipt.account, receipt.erased_at
    async with engine.begin() as connection:
        before = await erasure_store.read_erased_accounts(connection, [account])
        is_new = account not in before or before[account] < erased_at
        if is_new:
            remaining = await erasure.erase_accounts(
                connection,
                {account: erased_at},
                now=now,
                flags_until=receipt.flags_until or erased_at,
            )
            await store.mark_dirty(connection, store.marks_at(dict.fromkeys(remaining, now)))
        until = await connection.scalar(
            select(erased_accounts.c.flags_until).where(erased_accounts.c.account_id == account)
        )
    # Also where scoring knew: the backup may have been made before it had told the notifier.
    until = until or erased_at
    async with engine.begin() as connection:
        if not await _is_forgotten(connection, account, until):
            await notifier_erasure.begin(connection)
            await agenda.lock(connection, [account])
            again = Erasure(erased_at=erased_at, flags_until=until)
            await notifier_erasure.erase_accounts(connection, {account: again}, now=now)
            is_new = True
    return is_new


async def _erase_user(engine: AsyncEngine, receipt: Receipt, now: datetime) -> bool:
    assert receipt.user_key is not None  # noqa: S101 - reading it has looked at that
    row = erased_users.c
    async with engine.connect() as connection:
        is_done = await connection.scalar(
            select(row.done_at.is_not(None)).where(
                row.user_key == receipt.user_key, row.account_id == receipt.account
            )
        )
    if is_done:
        return False
    person = (receipt.account, receipt.user_key)
    await erasure.erase_users(engine, {person: (receipt.user, receipt.erased_at)}, now=now)
    return True


async def known(engine: AsyncEngine, subject: Subject) -> Receipt | None:
    """What scoring says of its erasure, asked for now or earlier."""
    async with engine.connect() as connection:
        if subject.user is None:
            row = (
                await connection.execute(
                    select(erased_accounts).where(erased_accounts.c.account_id == subject.account)
                )
            ).one_or_none()
        else:
            row = (
                await connection.execute(
                    select(erased_users).where(
                        erased_users.c.user_key == subject.user_key,
                        erased_users.c.account_id == subject.account,
                    )
                )
            ).one_or_none()
    if row is None:
        return None
    return Receipt(
        kind=subject.kind,
        account=subject.account,
        user=subject.user,
        user_key=subject.user_key,
        erased_at=row.erased_at,
        flags_until=row.flags_until if subject.user is None else None,
        done_at=row.done_at,
        counts=row.counts or {},
    )


async def _is_user_done(engine: AsyncEngine, subject: Subject, asked_at: datetime) -> bool:
    row = erased_users.c
    async with engine.connect() as connection:
        return bool(
            await connection.scalar(
                select(row.done_at.is_not(None) & (row.asked_at >= asked_at)).where(
                    row.user_key == subject.user_key, row.account_id == subject.account
                )
            )
        )


async def _is_told(engine: AsyncEngine, account: str, until: datetime | None) -> bool:
    if until is None:
        return False
    try:
        async with engine.connect() as connection:
            return await _is_forgotten(connection, account, until)
    except DBAPIError as error:
        if not is_refused(error):
            raise
        return False


async def _is_forgotten(connection: AsyncConnection, account: str, until: datetime) -> bool:
    row = notifier_accounts.c
    found = await connection.scalar(
        select(row.erased_until >= until).where(row.account_id == account)
    )
    return bool(found)


def is_refused(error: DBAPIError) -> bool:
    """Whether this role may not look there, or there is no such schema."""
    return not database.is_away(error) and not database.is_transient(error)
