"""One message about many accounts: what a storm brought, or what quiet hours held back.

Which accounts it is about stands in their notices (`bundled`) until it is composed; of each the
most urgent intervention is shown. It counts as told for all of them, those that it only counts
included: whoever has read it knows that they are in the console.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import agenda, items, looks, notice_rows, situations, store
from services.notifier.channels import Item, Message, Receipt
from services.notifier.composing import Claimed, Decided, address_of
from services.notifier.domain.attempts import Failure
from services.notifier.domain.notice import Member, Notice, has_news, heard, news_of
from services.notifier.domain.policy import NotifyReason, SuppressReason
from services.notifier.notices import Notices, Telling, begun, tell_items
from services.notifier.situations import Desk, Group, opening_of

# The queue goes by another clock: what is due at the opening must not come too early for ours.
_SOON = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview(Message):
    """A message, and what its destination will have been told by it of each account."""

    tellings: Mapping[str, Telling] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summaries:
    """Composer of `DeliveryKind.SUMMARY`."""

    desk: Desk
    notices: Notices

    async def lock(self, connection: AsyncConnection, held: Claimed) -> None:
        destination = held.tried[0] if held.tried else held.destination
        await agenda.lock(connection, await notice_rows.bundled_at(connection, destination))

    async def compose(
        self, connection: AsyncConnection, held: Claimed, *, now: datetime
    ) -> Message | SuppressReason:
        origin = held.tried[0] if held.tried else held.destination
        accounts = await notice_rows.bundled_at(connection, origin)
        found = await situations.read(connection, accounts, now=now)
        roster = self.desk.staff.roster()
        if held.recipient and opening_of(held.recipient, roster, now=now + _SOON):
            return SuppressReason.QUIET_HOURS
        shown: list[tuple[float, Item]] = []
        tellings: dict[str, Telling] = {}
        for account_id, situation in found.items():
            group = situations.group_at(situation, origin, self.desk, roster, now=now)
            visible = [one for one in group.members if one.is_visible] if group else []
            if group is None or not visible:
                continue
            news = {one.id for one in visible}
            of_account = await self.notices.show(connection, situation, visible, news, now=now)
            shown += [(one.priority, item) for one, item in zip(visible, of_account, strict=True)]
            tellings[account_id] = self.notices.telling(
                held,
                group,
                of_account,
                why=_why(group, visible),
                thread=None,
                told={one.id: one.state for one in visible},
                now=now,
            )
        if not shown:
            return SuppressReason.NO_LONGER_WANTED
        ordered = [item for _, item in sorted(shown, key=lambda one: -one[0])]
        first, more = items.news_first(ordered)
        return Overview(
            delivery_id=held.id,
            created_at=now,
            to=address_of(held.destination),
            why=NotifyReason.SUMMARY,
            items=first,
            more=more,
            url=f"{self.desk.console_url}/",
            root=held.id,
            tellings=tellings,
        )

    async def accepted(
        self,
        connection: AsyncConnection,
        held: Claimed,
        message: Message,
        receipt: Receipt,
        *,
        now: datetime,
    ) -> Decided:
        if not isinstance(message, Overview):
            return Decided()
        message = await still_known(connection, message)
        await tell_items(connection, held, message.items, now=now)
        told = sorted(message.tellings)
        if held.tried:
            await notice_rows.unbundle(connection, held.tried[0], told)
            return await self._look(connection, held, told, now=now)
        await take_as_told(connection, held, message, receipt, now=now)
        return await self._look(connection, held, told, now=now)

    async def ended(
        self,
        connection: AsyncConnection,
        held: Claimed,
        why: SuppressReason | Failure,
        *,
        now: datetime,
    ) -> Decided:
        if held.tried:
            return Decided()
        if isinstance(why, Failure):
            # It goes on to its fallback, which needs to know what it is about.
            await self._give_up(connection, held, now=now)
            return Decided()
        left = await notice_rows.bundled_at(connection, held.destination)
        await notice_rows.unbundle(connection, held.destination, left)
        return await self._look(connection, held, left, now=now)

    async def _give_up(self, connection: AsyncConnection, held: Claimed, *, now: datetime) -> None:
        """What could not be told is not tried again before it changes."""
        left = await notice_rows.bundled_at(connection, held.destination)
        roster = self.desk.staff.roster()
        changed = []
        for situation in (await situations.read(connection, left, now=now)).values():
            at = held.destination
            group = situations.group_at(situation, at, self.desk, roster, now=now)
            if group is not None:
                changed.append(replace(group.notice, gave_up=news_of(group.members)))
        await notice_rows.save(connection, changed)

    async def _look(
        self,
        connection: AsyncConnection,
        held: Claimed,
        told: Collection[str],
        *,
        now: datetime,
    ) -> Decided:
        # Accounts that joined while it was under way wait for the next one.
        left = await notice_rows.bundled_at(connection, held.destination)
        accounts = sorted({*told, *left})
        await agenda.lock(connection, accounts)
        return await looks.look(connection, accounts, self.desk, now=now)


async def still_known(connection: AsyncConnection, message: Overview) -> Overview:
    """The message without what was erased while it was under way; its accounts are locked."""
    await agenda.lock(connection, message.tellings)
    ids = [one for telling in message.tellings.values() for one in telling.standing]
    gone = await store.erased(connection, ids)
    if not gone:
        return message
    return replace(
        message,
        items=tuple(one for one in message.items if one.intervention_id not in gone),
        tellings={
            account_id: replace(
                telling,
                told={one: state for one, state in telling.told.items() if one not in gone},
                shown={one: looks for one, looks in telling.shown.items() if one not in gone},
                standing=telling.standing - gone,
            )
            for account_id, telling in message.tellings.items()
            if not telling.told.keys() <= gone
        },
    )


async def take_as_told(
    connection: AsyncConnection,
    held: Claimed,
    message: Overview,
    receipt: Receipt,
    *,
    now: datetime,
) -> None:
    """Write what the destination knows now of each account; they are locked."""
    known = {
        notice.account_id: notice
        for notice in await notice_rows.of_accounts(connection, sorted(message.tellings))
        if notice.destination == held.destination
    }
    changed = []
    for account_id, telling in message.tellings.items():
        notice = known.get(account_id) or Notice(
            account_id=account_id, destination=held.destination
        )
        after = heard(
            replace(notice, seq=notice.seq + 1),
            telling.told,
            standing=telling.standing,
            is_repeat=telling.why is NotifyReason.REPEAT,
            now=now,
        )
        if not notice.told or notice.thread is None:
            # What is about several accounts is no place to go on about one.
            own = receipt if len(message.tellings) == 1 else Receipt()
            after = begun(after, telling.shown, own)
        changed.append(after)
    await notice_rows.save(connection, changed)


def _why(group: Group, visible: Sequence[Member]) -> NotifyReason:
    """Of one of the accounts: a reminder counts as one, whatever message it comes with."""
    return NotifyReason.SUMMARY if has_news(group.notice, visible) else NotifyReason.REPEAT
