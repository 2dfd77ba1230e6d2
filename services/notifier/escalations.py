"""Steps of an escalation: somebody hears that nobody has taken an intervention on."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import agenda, items, looks, notice_rows, situations, store
from services.notifier.channels import Message, Receipt
from services.notifier.composing import Claimed, Decided, address_of
from services.notifier.domain.attempts import Failure
from services.notifier.domain.interventions import SYSTEM, Intervention, Status
from services.notifier.domain.policy import NotifyReason, SuppressReason
from services.notifier.notices import tell_items
from services.notifier.situations import Desk
from services.notifier.store import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalations:
    """Composer of `DeliveryKind.STEP`; its subject names the episode and the round."""

    desk: Desk

    async def lock(self, connection: AsyncConnection, held: Claimed) -> None:
        await agenda.lock(connection, [held.account_id or ""])

    async def compose(
        self, connection: AsyncConnection, held: Claimed, *, now: datetime
    ) -> Message | SuppressReason:
        subject = await self._read(connection, held)
        if not subject.is_open or not subject.is_raised or subject.recovered_at is not None:
            return SuppressReason.NO_LONGER_WANTED
        if subject.status is not Status.OPEN or not _is_same_round(subject, held):
            return SuppressReason.ACKNOWLEDGED
        found = await situations.read(connection, [subject.account_id], now=now)
        situation = found[subject.account_id]
        if mute := situations.mute_of(situation, subject, self.desk, now=now):
            return mute.against
        titles = await items.next_tasks(connection, [subject])
        item = items.item_of(
            subject,
            situation.account,
            self.desk.staff.roster(),
            console_url=self.desk.console_url,
            next_task=titles.get(subject.id),
            is_news=True,
            now=now,
        )
        return Message(
            delivery_id=held.id,
            created_at=now,
            to=address_of(held.destination),
            why=NotifyReason.ESCALATED,
            items=(item,),
            url=item.url,
            root=subject.id,
        )

    async def accepted(
        self,
        connection: AsyncConnection,
        held: Claimed,
        message: Message,
        receipt: Receipt,  # noqa: ARG002 - a composer's
        *,
        now: datetime,
    ) -> Decided:
        await tell_items(connection, held, message.items, now=now)
        account_id = held.account_id or ""
        for notice in await notice_rows.of_accounts(connection, [account_id]):
            # Two rules, one person: who was reminded now is not reminded again right after.
            if notice.destination == held.destination and held.intervention_id in notice.told:
                await notice_rows.save(connection, [replace(notice, told_at=now)])
        return await looks.look(connection, [account_id], self.desk, now=now)

    async def ended(
        self,
        connection: AsyncConnection,
        held: Claimed,
        why: SuppressReason | Failure,
        *,
        now: datetime,
    ) -> Decided:
        is_failure = isinstance(why, Failure)
        await store.tell_of_account(
            connection,
            held.account_id or "",
            Entry.NOT_DELIVERED if is_failure else Entry.SUPPRESSED,
            intervention_id=held.intervention_id,
            by=SYSTEM,
            at=now,
            channel=held.channel,
            to=address_of(held.destination),
            reason=why.kind.value if isinstance(why, Failure) else why.value,
        )
        return Decided()

    async def _read(self, connection: AsyncConnection, held: Claimed) -> Intervention:
        subject = (
            await store.read(connection, held.intervention_id) if held.intervention_id else None
        )
        if subject is None:
            raise LookupError("a delivery outlived its intervention")
        return subject


def _is_same_round(subject: Intervention, held: Claimed) -> bool:
    return (subject.episode, subject.round) == (held.subject["episode"], held.subject["round"])
