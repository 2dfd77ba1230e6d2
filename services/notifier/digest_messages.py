"""What a digest says: the open work of one person, or of their people, the most urgent first."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import chain
from uuid import UUID

from sqlalchemy import Text, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import agenda, items, situations
from services.notifier.channels import Item, Message, Receipt
from services.notifier.composing import Claimed, Decided, address_of
from services.notifier.domain.attempts import Failure
from services.notifier.domain.digests import DigestKind, reports_of
from services.notifier.domain.flags import is_opportunity
from services.notifier.domain.interventions import Intervention, Status
from services.notifier.domain.people import Mode
from services.notifier.domain.policy import NotifyReason, SuppressReason
from services.notifier.notices import Notices, Telling, tell_items
from services.notifier.situations import Desk, Situation
from services.notifier.summaries import Overview, still_known, take_as_told
from services.notifier.tables import among, interventions
from shared.messages import Band


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """Composer of `DeliveryKind.DIGEST`.

    Who wants no messages in real time learns of their work by the digest: what it shows counts as
    told. For everybody else it is an overview, and changes nothing.
    """

    desk: Desk
    notices: Notices

    async def lock(self, connection: AsyncConnection, held: Claimed) -> None:
        if self._tells(held):
            await agenda.lock(connection, await _accounts_of(connection, self._whose(held)))

    async def compose(
        self, connection: AsyncConnection, held: Claimed, *, now: datetime
    ) -> Message | SuppressReason:
        whose = self._whose(held)
        found = await situations.read(connection, await _accounts_of(connection, whose), now=now)
        visible = {name: self._visible(one, whose, now=now) for name, one in found.items()}
        titles = await items.next_tasks(connection, chain.from_iterable(visible.values()))
        shown: list[tuple[Intervention, Item]] = []
        tellings: dict[str, Telling] = {}
        for account_id, situation in found.items():
            ours = self._show(situation, visible[account_id], titles, now=now)
            shown += ours
            if self._tells(held) and (told := self._telling(held, situation, ours, now=now)):
                tellings[account_id] = told
        if not shown:
            return SuppressReason.NO_LONGER_WANTED
        shown.sort(key=lambda one: (-one[0].priority, str(one[0].id)))
        first = tuple(item for _, item in shown[: items.MOST])
        return Overview(
            delivery_id=held.id,
            created_at=now,
            to=address_of(held.destination),
            why=NotifyReason.DIGEST,
            items=first,
            more=len(shown) - len(first),
            url=f"{self.desk.console_url}/",
            root=held.id,
            text=overview([subject for subject, _ in shown], now=now),
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
        if isinstance(message, Overview) and message.tellings and not held.tried:
            message = await still_known(connection, message)
            await tell_items(connection, held, message.items, now=now)
            await take_as_told(connection, held, message, receipt, now=now)
        return Decided()

    async def ended(
        self,
        connection: AsyncConnection,  # noqa: ARG002
        held: Claimed,  # noqa: ARG002
        why: SuppressReason | Failure,  # noqa: ARG002
        *,
        now: datetime,  # noqa: ARG002
    ) -> Decided:
        """The next one says it all."""
        return Decided()

    def _whose(self, held: Claimed) -> Collection[str]:
        if held.subject["digest"] == DigestKind.TEAM.value:
            return reports_of(held.recipient, self.desk.staff.roster())
        return {held.recipient.lower()}

    def _tells(self, held: Claimed) -> bool:
        person = self.desk.staff.roster().person(held.recipient)
        is_own = held.subject["digest"] != DigestKind.TEAM.value
        return is_own and person.mode_at(held.channel) is not Mode.REAL_TIME

    def _visible(
        self, situation: Situation, whose: Collection[str], *, now: datetime
    ) -> Sequence[Intervention]:
        return [
            subject
            for subject in situation.subjects.values()
            if subject.is_open
            and subject.owner.lower() in whose
            and not situations.is_muted(situation, subject, self.desk, now=now)
        ]

    def _show(
        self,
        situation: Situation,
        subjects: Sequence[Intervention],
        titles: Mapping[UUID, str],
        *,
        now: datetime,
    ) -> list[tuple[Intervention, Item]]:
        roster = self.desk.staff.roster()
        return [
            (
                subject,
                items.item_of(
                    subject,
                    situation.account,
                    roster,
                    console_url=self.desk.console_url,
                    next_task=titles.get(subject.id),
                    is_news=True,
                    now=now,
                ),
            )
            for subject in subjects
        ]

    def _telling(
        self,
        held: Claimed,
        situation: Situation,
        shown: Sequence[tuple[Intervention, Item]],
        *,
        now: datetime,
    ) -> Telling | None:
        roster = self.desk.staff.roster()
        group = situations.group_at(situation, held.destination, self.desk, roster, now=now)
        ours = [item for _, item in shown]
        if group is None or not ours:
            return None
        visible = {one.id: one.state for one in group.members if one.is_visible}
        return self.notices.telling(
            held, group, ours, why=NotifyReason.DIGEST, thread=None, told=visible, now=now
        )


def overview(subjects: Sequence[Intervention], *, now: datetime) -> str:
    """The sentence of it all; of an account's value the largest counts, currencies apart."""
    bands = Counter(one.severity for one in subjects if not is_opportunity(one.reason))
    late = sum(one.due_at < now for one in subjects)
    parts = [f"{len(subjects)} open"]
    named = ((Band.CRITICAL, "critical"), (Band.AT_RISK, "at risk"))
    parts += [f"{bands[band]} {name}" for band, name in named if bands[band]]
    parts += [f"{late} overdue"] if late else []
    values: dict[str, dict[str, Decimal]] = defaultdict(dict)
    for one in subjects:
        value = one.value_at_risk
        if value is not None:
            known = values[value.currency].get(one.account_id, Decimal(0))
            values[value.currency][one.account_id] = max(known, value.amount)
    sums = [f"{name} {sum(known.values()):,.0f}" for name, known in sorted(values.items())]
    said = ", ".join(parts)
    return f"{said}; {' and '.join(sums)} at risk." if sums else f"{said}."


async def _accounts_of(connection: AsyncConnection, whose: Collection[str]) -> Sequence[str]:
    row = interventions.c
    found = await connection.scalars(
        select(row.account_id)
        .where(
            row.status != Status.CLOSED.value,
            among(func.lower(row.owner, type_=Text()), sorted(whose)),
        )
        .distinct()
        .order_by(row.account_id)
    )
    return found.all()
