"""Notices: an account's open interventions, told to one destination, and kept current there.

A decision waits as a delivery until it is due, and is taken anew when it is sent: what is over by
then is not told, what came meanwhile is. What was told is written once a channel has accepted it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import agenda, items, looks, notice_rows, situations, store
from services.notifier.channels import Item, Message, Receipt, Thread
from services.notifier.composing import Claimed, Decided, DeliveryKind, address_of
from services.notifier.domain.attempts import Failure
from services.notifier.domain.decisions import Decision
from services.notifier.domain.interventions import SYSTEM
from services.notifier.domain.notice import (
    Member,
    Notice,
    Told,
    heard,
    is_outdated,
    kept_current,
    news_of,
    unsent,
    why_member,
)
from services.notifier.domain.policy import NotifyReason, SuppressReason
from services.notifier.situations import Crowds, Desk, Group, Situation
from services.notifier.store import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling(Message):
    """A message, and what its destination will have been told by it."""

    told: Mapping[UUID, Told] = field(default_factory=dict)
    shown: Mapping[UUID, str] = field(default_factory=dict)
    standing: frozenset[UUID] = frozenset()
    """All that stood, muted or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notices:
    """Composer of `DeliveryKind.NOTICE` and `DeliveryKind.UPDATE`."""

    desk: Desk

    async def lock(self, connection: AsyncConnection, held: Claimed) -> None:
        await agenda.lock(connection, [_account_of(held)])

    async def compose(
        self, connection: AsyncConnection, held: Claimed, *, now: datetime
    ) -> Message | SuppressReason:
        situation = await self._situation(connection, held, now=now)
        group = self._group(situation, held, now=now)
        if group is None:
            is_open = any(subject.is_open for subject in situation.subjects.values())
            return SuppressReason.REASSIGNED if is_open else SuppressReason.NO_LONGER_WANTED
        if held.kind is DeliveryKind.UPDATE:
            if not is_outdated(group.notice, group.members):
                return SuppressReason.ALREADY_TOLD
            return await self._update(connection, held, situation, group, now=now)
        if held.tried:
            return await self._instead(connection, held, situation, group, now=now)
        # Whoever asks again for what was given up wants it.
        group = replace(group, notice=replace(group.notice, gave_up=None))
        decision = await self._decide(connection, group, now=now)
        if decision.reason is None:
            return _why_not(decision, group)
        return await self._notice(connection, held, situation, group, decision.reason, now=now)

    async def accepted(
        self,
        connection: AsyncConnection,
        held: Claimed,
        message: Message,
        receipt: Receipt,
        *,
        now: datetime,
    ) -> Decided:
        news = [item for item in message.items if item.is_news]
        if held.kind is DeliveryKind.NOTICE:
            await tell_items(connection, held, news, now=now)
        if held.tried or not isinstance(message, Telling):
            return Decided()  # A word to somebody else changes nothing for who should have heard.
        situation = await self._situation(connection, held, now=now)
        notice = _notice_at(situation, held.destination)
        notice = replace(notice, seq=notice.seq + 1)
        if held.kind is DeliveryKind.UPDATE:
            notice = kept_current(notice, message.told, message.shown, standing=message.standing)
        else:
            notice = heard(
                notice,
                message.told,
                standing=message.standing,
                is_repeat=message.why is NotifyReason.REPEAT,
                now=now,
            )
        if message.thread is None:
            notice = begun(notice, message.shown, receipt)
        await notice_rows.save(connection, [notice])
        if not notice.told.keys() <= situation.subjects.keys():
            # It was over before anybody had been told of it, while the message was under way.
            return await looks.look(connection, [notice.account_id], self.desk, now=now)
        # Its account is locked: nothing but this notice has changed since it was read.
        found = {notice.account_id: situation.with_notice(notice)}
        return await looks.look_at(connection, found, self.desk, now=now)

    async def ended(
        self,
        connection: AsyncConnection,
        held: Claimed,
        why: SuppressReason | Failure,
        *,
        now: datetime,
    ) -> Decided:
        account_id = _account_of(held)
        known = []
        if isinstance(why, SuppressReason):
            known.append((held.destination, why))
            await _tell_ended(connection, held, Entry.SUPPRESSED, why.value, now=now)
        else:
            await _tell_ended(connection, held, Entry.NOT_DELIVERED, why.kind.value, now=now)
        if held.tried:
            return Decided()
        situation = await self._situation(connection, held, now=now)
        group = self._group(situation, held, now=now)
        notice = group.notice if group else _notice_at(situation, held.destination)
        notice = replace(notice, seq=notice.seq + 1)
        if group is not None and isinstance(why, Failure):
            notice = _given_up(notice, held, group)
        elif held.may_be_known and _was_an_end(held, why):
            # Who may have heard that it is over must hear that it is not.
            notice = unsent(notice)
        await notice_rows.save(connection, [notice])
        found = {account_id: situation.with_notice(notice)}
        return await looks.look_at(connection, found, self.desk, now=now, known=known)

    async def _situation(
        self, connection: AsyncConnection, held: Claimed, *, now: datetime
    ) -> Situation:
        account_id = _account_of(held)
        return (await situations.read(connection, [account_id], now=now))[account_id]

    def _group(self, situation: Situation, held: Claimed, *, now: datetime) -> Group | None:
        """Of the destination; of the one that refused it first, where this is a fallback."""
        destination = held.tried[0] if held.tried else held.destination
        roster = self.desk.staff.roster()
        return situations.group_at(situation, destination, self.desk, roster, now=now)

    async def _decide(
        self, connection: AsyncConnection, group: Group, *, now: datetime
    ) -> Decision:
        roster = self.desk.staff.roster()
        decision = situations.decided(group, self.desk, roster, Crowds(), now=now)
        if not situations.may_be_crowded_out(decision):
            return decision
        recipients = {group.place.recipient.lower()}
        crowded = await situations.crowds(connection, recipients, self.desk.storm, now=now)
        return situations.decided(group, self.desk, roster, crowded, now=now)

    async def _notice(
        self,
        connection: AsyncConnection,
        held: Claimed,
        situation: Situation,
        group: Group,
        reason: NotifyReason,
        *,
        now: datetime,
    ) -> Telling:
        notice = group.notice
        if reason is NotifyReason.RECOVERED:
            shown = [one for one in group.members if one.id in notice.told]
            news = {one.id for one in shown}
        else:
            shown = [one for one in group.members if one.is_visible]
            new = {one.id for one in shown if why_member(notice, one) is not None}
            news = new or {one.id for one in shown}  # A reminder is about all of them.
        found = await self.show(connection, situation, shown, news, now=now)
        return self.telling(
            held,
            group,
            found,
            why=reason,
            thread=_thread(notice) if notice.told else None,
            told={one.id: one.state for one in shown if one.is_visible},
            now=now,
        )

    async def _update(
        self,
        connection: AsyncConnection,
        held: Claimed,
        situation: Situation,
        group: Group,
        *,
        now: datetime,
    ) -> Telling:
        notice = group.notice
        shown = [one for one in group.members if one.is_visible or one.id in notice.shown]
        found = await self.show(connection, situation, shown, {one.id for one in shown}, now=now)
        telling = self.telling(
            held,
            group,
            found,
            why=NotifyReason.UPDATED,
            thread=_thread(notice),
            told={one.id: one.state for one in shown if one.is_visible},
            now=now,
        )
        return replace(telling, edit=True, shown={one.id: one.looks for one in shown})

    async def _instead(
        self,
        connection: AsyncConnection,
        held: Claimed,
        situation: Situation,
        group: Group,
        *,
        now: datetime,
    ) -> Telling | SuppressReason:
        """To somebody else, as those who should have heard could not be reached."""
        roster = self.desk.staff.roster()
        own = situations.group_at(situation, held.destination, self.desk, roster, now=now)
        # They hear of these by a message of their own, unless that has failed as well.
        hears = own is not None and own.notice.gave_up is None
        theirs = {one.id for one in own.members if one.is_here} if own and hears else set()
        visible = [one for one in group.members if one.is_visible]
        shown = [one for one in visible if one.id not in theirs]
        if not shown:
            return SuppressReason.ALREADY_TOLD if visible else SuppressReason.NO_LONGER_WANTED
        found = await self.show(connection, situation, shown, {one.id for one in shown}, now=now)
        return self.telling(
            held, group, found, why=NotifyReason.UNDELIVERED, thread=None, told={}, now=now
        )

    async def show(
        self,
        connection: AsyncConnection,
        situation: Situation,
        members: Sequence[Member],
        news: set[UUID],
        *,
        now: datetime,
    ) -> list[Item]:
        """The items of these members, in their order."""
        subjects = [situation.subjects[one.id] for one in members if one.id in situation.subjects]
        titles = await items.next_tasks(connection, subjects)
        roster = self.desk.staff.roster()
        return [
            items.item_of(
                subject,
                situation.account,
                roster,
                console_url=self.desk.console_url,
                next_task=titles.get(subject.id),
                is_news=subject.id in news,
                now=now,
            )
            for subject in subjects
        ]

    def telling(
        self,
        held: Claimed,
        group: Group,
        found: Sequence[Item],
        *,
        why: NotifyReason,
        thread: Thread | None,
        told: Mapping[UUID, Told],
        now: datetime,
    ) -> Telling:
        shown, more = items.news_first(found)
        return Telling(
            delivery_id=held.id,
            created_at=now,
            to=address_of(held.destination),
            why=why,
            items=shown,
            more=more,
            url=shown[0].url,
            root=group.notice.root,
            thread=thread,
            mention=self._mention(held, shown),
            told=told,
            shown={one.id: one.looks for one in group.members if one.id in told},
            standing=frozenset(one.id for one in group.members if one.stands),
        )

    def _mention(self, held: Claimed, shown: Sequence[Item]) -> str | None:
        """In a place that several share, whoever has the work is called by name."""
        return None if held.recipient else self.desk.staff.roster().person(shown[0].owner).slack


def begun(notice: Notice, shown: Mapping[UUID, str], receipt: Receipt) -> Notice:
    """A conversation began with the message that the receipt is for."""
    if receipt.thread is None:
        return replace(notice, thread=None, shown={})
    thread = (receipt.thread.channel, receipt.thread.ts)
    return replace(notice, thread=thread, shown=shown)


async def tell_items(
    connection: AsyncConnection, held: Claimed, told: Sequence[Item], *, now: datetime
) -> None:
    """An entry in the timeline for each item that somebody was told of."""
    for item in told:
        await store.tell_of_account(
            connection,
            item.account_id,
            Entry.NOTIFIED,
            intervention_id=item.intervention_id,
            by=SYSTEM,
            at=now,
            channel=held.channel,
            to=address_of(held.destination),
            reason=held.reason.value,
        )


def _why_not(decision: Decision, group: Group) -> SuppressReason:
    """Why nothing is sent although it was decided once."""
    if decision.held:
        return decision.held[-1].against
    if any(member.is_visible for member in group.members):
        return SuppressReason.ALREADY_TOLD
    return SuppressReason.NO_LONGER_WANTED


def _given_up(notice: Notice, held: Claimed, group: Group) -> Notice:
    """The notice after a message that could not be delivered: the same is not tried again."""
    if held.kind is DeliveryKind.UPDATE:
        looks_now = {one.id: one.looks for one in group.members}
        shown = {one: looks_now.get(one, looks) for one, looks in notice.shown.items()}
        visible = {one.id: one.looks for one in group.members if one.is_visible}
        return replace(notice, shown=shown | visible)
    if held.reason is NotifyReason.RECOVERED:
        return unsent(notice)
    return replace(notice, gave_up=news_of(group.members))


def _was_an_end(held: Claimed, why: SuppressReason | Failure) -> bool:
    """Whether it was to tell that all is over, which is not so any more."""
    return why is SuppressReason.ALREADY_TOLD and held.reason is NotifyReason.RECOVERED


def _thread(notice: Notice) -> Thread | None:
    if notice.thread is None:
        return None
    channel, ts = notice.thread
    return Thread(channel=channel, ts=ts)


async def _tell_ended(
    connection: AsyncConnection, held: Claimed, entry: Entry, reason: str, *, now: datetime
) -> None:
    if held.kind is DeliveryKind.UPDATE:
        return  # Nobody would have been bothered.
    await store.tell_of_account(
        connection,
        _account_of(held),
        entry,
        intervention_id=held.intervention_id,
        by=SYSTEM,
        at=now,
        channel=held.channel,
        to=address_of(held.destination),
        reason=reason,
    )


def _notice_at(situation: Situation, destination: str) -> Notice:
    account_id = situation.account.account_id
    return situation.notices.get(destination) or Notice(
        account_id=account_id, destination=destination
    )


def _account_of(held: Claimed) -> str:
    if held.account_id is None:
        raise LookupError("a notice is about no account")
    return held.account_id
