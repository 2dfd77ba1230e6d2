"""Takes signals in: what they do to the accounts that a transaction has locked.

Order of effects for each signal: 1 intervention, 2 tasks, 3 timeline, 4 outcome. The look, which
decides who is told, comes after all signals of the transaction.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import agenda, endings, outcomes, store, tasks
from services.notifier.domain import interventions
from services.notifier.domain.holdout import NOBODY, HoldOut
from services.notifier.domain.interventions import SYSTEM, Assignment, Intervention, Taken
from services.notifier.domain.openings import move_tasks, opening, plan_tasks
from services.notifier.domain.people import Roster
from services.notifier.domain.playbooks import Playbooks
from services.notifier.domain.priority import notice_by, prioritised
from services.notifier.domain.signals import Signal
from services.notifier.metrics import NotifierMetrics
from services.notifier.store import Account, Entry, Key, key_of
from shared.messages import AccountFields

_ENTRIES = {
    Taken.OPENED: Entry.OPENED,
    Taken.REOPENED: Entry.REOPENED,
    Taken.WORSENED: Entry.WORSENED,
    Taken.RECOVERED: Entry.RECOVERED,
    Taken.CLOSED: Entry.CLOSED,
    Taken.ACCOUNT_LOST: Entry.ACCOUNT_LOST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff:
    """Who works here and how; both are read anew for each transaction, as files may change."""

    roster: Callable[[], Roster]
    playbooks: Callable[[], Playbooks]
    hold_out: HoldOut = NOBODY


@dataclass(slots=True, kw_only=True)
class Effects:
    """What a transaction did, told to the counters once it is committed."""

    taken: list[Taken] = field(default_factory=list)
    closed: list[Intervention] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    """Accounts to look at."""

    def count(self, metrics: NotifierMetrics) -> None:
        for taken in self.taken:
            metrics.flags_consumed.labels(taken.value).inc()
        for subject in self.closed:
            metrics.outcomes.labels(str(subject.outcome), subject.reason.value).inc()


@dataclass(slots=True, kw_only=True)
class Locked:
    """What is known of accounts about which nobody else decides until the transaction ends."""

    connection: AsyncConnection
    accounts: dict[str, Account]
    newest: dict[Key, Intervention]
    roster: Roster
    playbooks: Playbooks
    open_counts: dict[str, int]
    now: datetime
    hold_out: HoldOut = NOBODY
    effects: Effects = field(default_factory=Effects)

    def fields_of(self, account_id: str) -> AccountFields:
        account = self.accounts.get(account_id)
        return account.fields if account else AccountFields()

    def is_lost(self, account_id: str) -> bool:
        account = self.accounts.get(account_id)
        return account is not None and account.is_lost

    def open_of(self, account_id: str) -> Sequence[Intervention]:
        return [one for one in self.newest.values() if one.account_id == account_id and one.is_open]

    async def take(self, signal: Signal, *, by: str) -> tuple[Taken, Intervention | None]:
        """Apply the signal; `by`: whose it is, for the timeline."""
        account = self.accounts.get(signal.account_id)
        current = self.newest.get(key_of(signal))
        if current and account and account.was_erased_after(current.seen.as_of):
            current = None  # What was erased is not reopened: the account starts afresh.
        assignment = opening(
            signal,
            current,
            fields=self.fields_of(signal.account_id),
            roster=self.roster,
            playbooks=self.playbooks,
            open_counts=self.open_counts,
            hold_out=self.hold_out,
            now=self.now,
        )
        taken, subject = interventions.take(
            current,
            signal,
            new_id=_id(signal),
            assignment=assignment,
            account_lost=self.is_lost(signal.account_id),
            now=self.now,
        )
        if subject is None:
            return taken, None
        if taken is Taken.OPENED:
            subject = await self._add(subject)
        else:
            subject = await self.change(subject)
        if taken in (Taken.OPENED, Taken.REOPENED):
            await self._begin(subject, assignment)
        await self._tell(taken, current, subject, assignment, by=by)
        return taken, subject

    async def change(self, subject: Intervention) -> Intervention:
        """Store the next version of an intervention of a locked account."""
        subject = self._with_facts(subject)
        if not await store.change(self.connection, subject):
            raise RuntimeError("an intervention changed although its account was locked")
        self._keep(subject)
        return subject

    async def settle(self, taken: Taken, subject: Intervention) -> None:
        """Store what follows of what was cleared before: it ends, or proposes an end."""
        await self._tell(taken, None, await self.change(subject), None, by=SYSTEM)

    async def move_tasks(self, subject: Intervention) -> None:
        """Let what is not done follow the intervention to its new owner."""
        moved = move_tasks(
            await tasks.of_episode(self.connection, subject),
            subject,
            fields=self.fields_of(subject.account_id),
            roster=self.roster,
        )
        await tasks.hand_over(self.connection, moved)

    async def publish(self, subject: Intervention) -> None:
        """Let the outcome of what was closed, or corrected, leave with the transaction."""
        await outcomes.publish(self.connection, subject)
        self.effects.closed.append(subject)

    async def _add(self, subject: Intervention) -> Intervention:
        subject = self._with_facts(subject)
        if not await store.add(self.connection, subject):
            raise RuntimeError("an intervention opened although its account was locked")
        self._keep(subject)
        return subject

    def _with_facts(self, subject: Intervention) -> Intervention:
        deadline = notice_by(self.fields_of(subject.account_id))
        today = self.now.astimezone(UTC).date()
        return prioritised(replace(subject, notice_by=deadline), today=today)

    def _keep(self, subject: Intervention) -> None:
        self.newest[key_of(subject)] = subject
        self.effects.changed.add(subject.account_id)

    async def _begin(self, subject: Intervention, assignment: Assignment) -> None:
        fields = self.fields_of(subject.account_id)
        await tasks.add(self.connection, plan_tasks(subject, fields=fields, roster=self.roster))
        if assignment.held_out is not None:
            today = self.now.astimezone(UTC).date()
            await endings.draw(
                self.connection, subject.account_id, held_out=assignment.held_out, today=today
            )
        owner = subject.owner.lower()
        self.open_counts[owner] = self.open_counts.get(owner, 0) + 1

    async def _tell(
        self,
        taken: Taken,
        before: Intervention | None,
        subject: Intervention,
        assignment: Assignment | None,
        *,
        by: str,
    ) -> None:
        began = taken in (Taken.OPENED, Taken.REOPENED)
        because = assignment.because if assignment and began else ""
        if entry := _ENTRIES.get(taken):
            await store.tell(
                self.connection,
                subject,
                entry,
                by=SYSTEM if taken is Taken.CLOSED else by,
                at=self.now,
                summary=subject.summary,
                severity=subject.severity.value,
                outcome=None if subject.outcome is None else subject.outcome.value,
                owner=subject.owner if began else None,
                because=because or None,
                playbook=subject.playbook.name if began and subject.playbook else None,
            )
        if before and _broke_through(before, subject):
            await store.tell(self.connection, subject, Entry.SNOOZE_BROKEN, by=SYSTEM, at=self.now)
        if taken is Taken.CLOSED:
            await self.publish(subject)


async def lock(
    connection: AsyncConnection, account_ids: Collection[str], staff: Staff, *, now: datetime
) -> Locked:
    """Lock the accounts (see `agenda`), and read what is decided upon."""
    await agenda.lock(connection, account_ids)
    roster = staff.roster()
    counts = await store.open_counts(connection) if _by_count(roster) else {}
    return Locked(
        connection=connection,
        accounts=await store.read_accounts(connection, account_ids),
        newest=await store.newest_of(connection, account_ids),
        roster=roster,
        playbooks=staff.playbooks(),
        open_counts=counts,
        now=now,
        hold_out=staff.hold_out,
    )


def _by_count(roster: Roster) -> bool:
    """Whether somebody's work is given to the member of a team who has the least."""
    return any(roster.team(rule.to) is not None for rule in roster.assignments)


def _broke_through(before: Intervention, subject: Intervention) -> bool:
    had = before.snooze.broken_at if before.snooze else None
    has = subject.snooze.broken_at if subject.snooze else None
    return has is not None and had is None


def _id(signal: Signal) -> UUID:
    """The same signal opens the same intervention, however often it is replayed."""
    seen = signal.seen
    parts = (signal.account_id, signal.type, signal.reason, seen.flag_id, seen.as_of.isoformat())
    return uuid5(NAMESPACE_URL, "\0".join(("perennial:intervention", *parts)))
