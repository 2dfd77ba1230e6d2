"""What would happen if a flag came now: everything is done as it would be, and then undone.

The transaction is rolled back, so nobody is told and nothing is stored; until then, some
milliseconds, the account is locked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import looks, taking
from services.notifier.channels import named
from services.notifier.domain.flags import WorkReason
from services.notifier.domain.interventions import Taken
from services.notifier.domain.openings import opening
from services.notifier.domain.playbooks import KINDS
from services.notifier.domain.signals import Seen, Signal
from services.notifier.routes import Ways
from services.notifier.settings import NotifierSettings
from services.notifier.situations import Desk
from services.notifier.tables import deliveries
from services.notifier.taking import Staff
from shared.messages import Band


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One destination: told when and why, or why not."""

    destination: str
    reason: str
    due_at: datetime
    urgent: bool
    against: str | None
    """What suppresses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    is_known: bool
    """Whether the directory has named the account."""
    taken: Taken
    """What the flag would do; `duplicate` and the like: nothing."""
    owner: str
    because: str
    playbook: str
    due_at: datetime
    words: Sequence[Word]


def desk_of(settings: NotifierSettings, staff: Staff) -> Desk:
    """As the service decides, but for what it hears of scoring."""
    return Desk(
        staff=staff,
        ways=Ways(
            slack_webhook=settings.slack_bot_token is None
            and settings.slack_webhook_url is not None,
            slack_bot=settings.slack_bot_token is not None,
            email=settings.smtp_url is not None,
            webhook=settings.perennial_webhook_secrets is not None,
            apprise=tuple(named.read("PERENNIAL_APPRISE_URLS", settings.perennial_apprise_urls)),
        ),
        timing=settings.timing,
        storm=settings.storm,
        value_from=settings.perennial_urgent_value,
        console_url=settings.console_url,
    )


async def rehearse(
    connection: AsyncConnection,
    account_id: str,
    desk: Desk,
    *,
    reason: WorkReason,
    severity: Band,
    now: datetime,
) -> Rehearsal:
    """Roll the connection's transaction back afterwards."""
    signal = Signal(
        account_id=account_id,
        type=KINDS[reason],
        reason=reason,
        seen=Seen(
            flag_id=f"rehearsal/{uuid4()}", episode=1, raised_at=now, as_of=now, change="raised"
        ),
        severity=severity,
        summary="A rehearsal.",
    )
    last = await connection.scalar(select(func.max(deliveries.c.number))) or 0
    locked = await taking.lock(connection, [account_id], desk.staff, now=now)
    fields = locked.fields_of(account_id)
    given = opening(
        signal,
        None,
        fields=fields,
        roster=locked.roster,
        playbooks=locked.playbooks,
        open_counts=locked.open_counts,
        now=now,
    )
    taken, subject = await locked.take(signal, by="rehearsal")
    await looks.look(connection, [account_id], desk, now=now)
    return Rehearsal(
        is_known=account_id in locked.accounts,
        taken=taken,
        owner=given.owner if subject is None else subject.owner,
        because=given.because,
        playbook=given.playbook.name if given.playbook else "",
        due_at=given.due_at if subject is None else subject.due_at,
        words=await _words(connection, account_id, beyond=last),
    )


async def _words(connection: AsyncConnection, account_id: str, *, beyond: int) -> Sequence[Word]:
    """What this transaction has queued for the account, or suppressed."""
    row = deliveries.c
    rows = await connection.execute(
        select(deliveries)
        .where(row.account_id == account_id, row.number > beyond)
        .order_by(row.number)
    )
    return [
        Word(
            destination=found.destination,
            reason=found.reason,
            due_at=found.due_at,
            urgent=found.urgent,
            against=found.suppress_reason,
        )
        for found in rows
    ]
