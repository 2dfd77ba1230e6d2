"""A notifier without its loops: batches in by hand, one delivery at a time, real servers around."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import msgspec
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import templates
from services.notifier.channels import Channel
from services.notifier.channels.email import Email, server_of
from services.notifier.channels.slack_webhook import open_slack_webhook
from services.notifier.composers import composers
from services.notifier.delivery import Sender
from services.notifier.domain import calendar
from services.notifier.domain.access import Role, Viewer
from services.notifier.domain.attempts import Patience
from services.notifier.domain.decisions import Timing
from services.notifier.domain.people import Person, Roster
from services.notifier.domain.playbooks import Playbooks
from services.notifier.domain.policy import Storm
from services.notifier.fallbacks import Chain
from services.notifier.intake import Intake
from services.notifier.intervention_rows import AnyRow
from services.notifier.looks import Clockwork
from services.notifier.metrics import NotifierMetrics
from services.notifier.routes import Ways
from services.notifier.situations import Desk
from services.notifier.stepping import Stepping
from services.notifier.steps import Steps
from services.notifier.tables import deliveries, interventions
from services.notifier.taking import Staff
from shared.log import Batch, StoredRecord, TopicPartition
from shared.messages import (
    ACCOUNTS,
    FLAGS,
    AccountFields,
    AccountRecord,
    Band,
    Flag,
    FlagEvent,
    FlagReason,
    Message,
    Reason,
    Stage,
    ValueAtRisk,
    encode,
)
from shared.telemetry import CommonMetrics
from tests.standins.mail import FakeMail
from tests.standins.slack import FakeSlack

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
FALLBACK = "lead@vendor.example"
OWNER = "anna@vendor.example"
PATIENCE = Patience(
    retry_first=timedelta(seconds=0.05),
    retry_last=timedelta(seconds=0.2),
    dead_after=timedelta(hours=4),
)

ANNA = Person(address=OWNER, zone="Europe/Paris")
# Nothing is waited for, so that a test can be short.
AT_ONCE = Timing(wait=timedelta(0), interval=timedelta(0), debounce=timedelta(0))


def boss(address: str) -> Viewer:
    """Somebody who may act on everything."""
    return Viewer(address=address, role=Role.ADMIN, way="local")


def flag(**changes: object) -> Flag:
    """A raised flag about an account at risk."""
    reason = Reason(
        family="regularity",
        indicator="active_days_90",
        text="Active on 9 of 90 days; a year ago 38, segment 41: +0.8.",
        value=9,
        unit="days",
        baseline=38,
        baseline_of="own",
        change=-0.76,
        window_days=90,
        weight=0.8,
        as_of=date(2026, 5, 31),
        peer_median=41,
        peer_segment="mid-market",
    )
    usual = Flag(
        flag_id="acme/churn_risk/1",
        account="acme",
        reason=FlagReason.CHURN_RISK,
        stage=Stage.RENEW,
        change="raised",
        episode=1,
        as_of=NOW,
        raised_at=NOW,
        band=Band.AT_RISK,
        risk=0.31,
        value_at_risk=ValueAtRisk(amount=Decimal("12340.50"), currency="EUR", basis="margin"),
        renewal_date=date(2026, 9, 1),
        summary="Churn risk 31 % (at risk).",
        reasons=(reason,),
    )
    return msgspec.structs.replace(usual, **changes)


def account(**fields: object) -> AccountRecord:
    usual: dict[str, object] = {"name": "Acme Ltd", "owner": OWNER, "timezone": "Europe/Paris"}
    account_id = str(fields.pop("account_id", "acme"))
    known = msgspec.convert(usual | fields, AccountFields)
    return AccountRecord(account=account_id, updated_at=NOW, fields=known)


@dataclass(slots=True)
class Hands:
    """A clock that a test moves."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass(slots=True, kw_only=True)
class Rig:
    engine: AsyncEngine
    intake: Intake
    sender: Sender
    steps: Steps
    clockwork: Clockwork
    desk: Desk
    metrics: NotifierMetrics
    hands: Hands
    offsets: dict[TopicPartition, int] = field(default_factory=dict)

    async def take(self, *messages: Message) -> None:
        """Hand messages of one kind to intake, as the worker would."""
        topic = ACCOUNTS if isinstance(messages[0], AccountRecord) else FLAGS
        await self.intake_batch(self.batch(topic, messages))

    async def intake_batch(self, batch: Batch) -> None:
        claim = await self.intake.claim(batch.partition)
        await self.intake.take_in(batch, claim)

    def batch(self, topic: str, messages: Sequence[Message]) -> Batch:
        return self.raw_batch(topic, [value_of(message) for message in messages])

    def raw_batch(self, topic: str, values: Sequence[bytes | None], key: bytes = b"acme") -> Batch:
        partition = TopicPartition(topic, 0)
        first = self.offsets.get(partition, 0)
        self.offsets[partition] = first + len(values)
        records = [
            StoredRecord(offset=first + i, key=key, value=value, headers=(), appended_at=NOW)
            for i, value in enumerate(values)
        ]
        return Batch(partition=partition, records=records, generation=1)

    async def send_all(self) -> int:
        """Send until nothing is due at this moment."""
        sent = 0
        while await self.sender.send_one():
            sent += 1
        return sent

    async def pass_time(self, span: timedelta) -> None:
        """Let so much time pass at once, and look at what it has brought about."""
        self.hands.now += span
        while await self.clockwork.look_once():
            pass

    async def deliveries(self) -> Sequence[AnyRow]:
        async with self.engine.connect() as connection:
            statement = select(deliveries).order_by(deliveries.c.number)
            return (await connection.execute(statement)).all()

    async def interventions(self) -> Sequence[AnyRow]:
        async with self.engine.connect() as connection:
            statement = select(interventions).order_by(interventions.c.opened_at)
            return (await connection.execute(statement)).all()

    def another_sender(self, *, lease: timedelta | None = None) -> Sender:
        return replace(self.sender, lease=lease or self.sender.lease)


@asynccontextmanager
async def open_rig(
    engine: AsyncEngine,
    *,
    slack: FakeSlack | None = None,
    mail: FakeMail | None = None,
    lease: timedelta = timedelta(seconds=60),
    patience: Patience = PATIENCE,
    limit: timedelta = timedelta(seconds=5),
    timing: Timing = AT_ONCE,
    storm: Storm | None = None,
    people: Sequence[Person] = (ANNA,),
    more: Mapping[str, Channel] | None = None,
    ways: Ways | None = None,
) -> AsyncIterator[Rig]:
    """`more`: channels besides, or instead of, those of the servers; `ways`: who is reached how."""
    registry = CollectorRegistry()
    metrics = NotifierMetrics(registry, CommonMetrics(registry))
    await asyncio.to_thread(calendar.known_zones)
    hands = Hands()
    roster = Roster(fallback_owner=FALLBACK, fallback_lead=FALLBACK, people=tuple(people))
    playbooks = Playbooks(())
    staff = Staff(roster=lambda: roster, playbooks=lambda: playbooks)
    async with AsyncExitStack() as stack:
        channels: dict[str, Channel] = {}
        if slack is not None:
            channels["slack"] = await stack.enter_async_context(
                open_slack_webhook(SecretStr(slack.url), pace=timedelta(0), limit=limit)
            )
        if mail is not None:
            channels["email"] = Email(
                server_of(SecretStr(mail.url)),
                sender="perennial@vendor.example",
                templates=templates.load("services.notifier.channels"),
                limit=limit,
            )
        channels |= more or {}
        desk = Desk(
            staff=staff,
            ways=ways or Ways(slack_webhook="slack" in channels, email="email" in channels),
            timing=timing,
            storm=storm or Storm(),
            console_url="http://localhost:8082",
        )
        yield Rig(
            engine=engine,
            metrics=metrics,
            desk=desk,
            hands=hands,
            steps=Steps(
                Stepping(
                    engine=engine,
                    staff=staff,
                    desk=desk,
                    metrics=metrics,
                    clock=hands,
                    wake=lambda: None,
                )
            ),
            clockwork=Clockwork(
                engine=engine, desk=desk, metrics=metrics, clock=hands, wake=lambda: None
            ),
            intake=Intake(
                engine=engine,
                staff=staff,
                desk=desk,
                metrics=metrics,
                clock=hands,
                wake=lambda: None,
            ),
            sender=Sender(
                engine=engine,
                channels=channels,
                composers=composers(desk),
                fallbacks=Chain(roster=staff.roster, ways=desk.ways),
                patience=dict.fromkeys(channels, patience),
                lease=lease,
                metrics=metrics,
                clock=hands,
            ),
        )


def value_of(message: Message) -> bytes:
    if isinstance(message, Flag):
        event = FlagEvent(
            id=f"{message.flag_id}:{message.change}",
            source="/perennial/scoring",
            type="dev.perennial.flag",
            subject=message.account,
            time=message.as_of,
            data=message,
        )
        return encode(event)
    return encode(message)
