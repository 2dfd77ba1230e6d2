"""A file's events through the real intake and the real sweep, on a clock that follows them.

Each look at the accounts (`now`) comes after every event that was received before it, and before
every one that was not: what is logged then is what a vendor would have known. Events go straight to
`Intake.take_in` as batches of one partition of the log, with their positions; what HTTP and the
broker would add is proven elsewhere and would only cost time here.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.domain.rules import read_default
from services.scoring.domain.staleness import FRESH, Freshness
from services.scoring.domain.table import columns_hash, unpack
from services.scoring.evaluation.replayed import Look, RaisedFlag, Replayed
from services.scoring.feature_log import Rhythm
from services.scoring.intake import Intake
from services.scoring.metrics import ScoringMetrics
from services.scoring.models import Models
from services.scoring.partitions import Partitions
from services.scoring.settings import ScoringSettings
from services.scoring.sweep import Sweep
from services.scoring.tables import outbox
from shared.database import driver, open_engine
from shared.lifecycle import new_frame
from shared.log import Batch, StoredRecord, TopicPartition
from shared.log.positions import Claim
from shared.log.postgres import open_postgres_log
from shared.messages import (
    DIRECTORY_CHANGES,
    USAGE_EVENTS,
    AccountFields,
    DirectoryChange,
    Message,
    UsageEvent,
    encode,
)
from shared.outbox import Relay

BATCH: Final = 5_000
_DAY: Final = timedelta(days=1)

Progressed = Callable[[int], None]
"""Told how many events have been taken in since it was told last."""


async def replay(
    database_url: str,
    events: Sequence[UsageEvent],
    directory: Mapping[str, AccountFields],
    days: Sequence[date],
    progressed: Progressed = lambda _: None,
    *,
    everyone: bool = False,
) -> Replayed:
    """Take everything in and look at all accounts as of the end of each of `days` (ascending).

    What is logged are the accounts that get a risk; `everyone`: read all that were looked at.
    `database_url` is a migrated database that is for this alone. What comes after the last of the
    days changes no look, and is left out.
    """
    async with _open_scoring(database_url) as scoring:
        await scoring.put(directory, events[0].received_at)
        position = 0
        looks = []
        for day in days:
            # As of the end of T: then T is the last complete day.
            now = datetime.combine(day, datetime.min.time(), UTC) + _DAY
            end = position
            while end < len(events) and events[end].received_at < now:
                end += 1
            for batch in _batches(events[position:end]):
                await scoring.take_in(batch)
                progressed(len(batch))
            position = end
            looks.append(await scoring.look(now, day, everyone=everyone))
        progressed(len(events) - position)
        return Replayed(looks=tuple(looks), flags=await scoring.flags())


class _Scoring:
    """Intake and sweep on one clock, as `app.run` wires them."""

    def __init__(
        self, *, engine: AsyncEngine, intake: Intake, sweep: Sweep, clock: "_Clock"
    ) -> None:
        self._engine = engine
        self._intake = intake
        self._sweep = sweep
        self._clock = clock
        self._claims: dict[TopicPartition, Claim] = {}

    async def put(self, directory: Mapping[str, AccountFields], at: datetime) -> None:
        """The directory as it stands from the start; what ends an account is not known yet."""
        self._clock.now = at
        changes = [
            DirectoryChange(
                account=account,
                op="put",
                source="file",
                received_at=at,
                fields=msgspec.structs.replace(fields, status=None, churned_at=None),
            )
            for account, fields in sorted(directory.items())
        ]
        for start in range(0, len(changes), BATCH):
            await self._append(DIRECTORY_CHANGES, changes[start : start + BATCH], at)

    async def take_in(self, events: Sequence[UsageEvent]) -> None:
        self._clock.now = events[-1].received_at
        await self._append(USAGE_EVENTS, events, self._clock.now)

    async def look(self, now: datetime, day: date, *, everyone: bool) -> Look:
        self._clock.now = now
        await self._sweep.maintain_when_due(now)
        # As its loop does: one round may leave accounts for the next.
        while await self._sweep.round(now):
            pass
        return await _logged(self._engine, now, day, everyone=everyone)

    async def flags(self) -> tuple[RaisedFlag, ...]:
        async with self._engine.connect() as connection:
            rows = await (await driver(connection)).fetch(
                "SELECT account_id, reason, raised_at, cleared_at FROM scoring.flags"
                " ORDER BY raised_at, account_id, reason"
            )
        return tuple(
            RaisedFlag(account=row[0], reason=row[1], raised_at=row[2], cleared_at=row[3])
            for row in rows
        )

    async def _append(self, topic: str, messages: Sequence[Message], at: datetime) -> None:
        partition = TopicPartition(topic, 0)
        held = self._claims.get(partition) or await self._intake.claim(partition)
        records = [
            StoredRecord(offset=offset, key=b"", value=encode(one), headers=(), appended_at=at)
            for offset, one in enumerate(messages, start=held.next_offset)
        ]
        batch = Batch(partition=partition, records=records, generation=0)
        await self._intake.take_in(batch, held)
        self._claims[partition] = held.after(batch)


class _Clock:
    """The moment that the replay has come to."""

    def __init__(self) -> None:
        self.now = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@asynccontextmanager
async def _open_scoring(database_url: str) -> AsyncIterator[_Scoring]:
    # The defaults of the program, whatever this machine's environment says.
    settings = ScoringSettings.model_construct()
    rules, frame, clock = read_default(), new_frame(), _Clock()
    metrics = ScoringMetrics(frame.registry, frame.metrics)
    async with (
        open_engine(database_url, application="perennial-evaluate") as engine,
        open_postgres_log(database_url) as log,
    ):
        partitions = Partitions(
            engine, kept=timedelta(days=settings.perennial_event_id_retention_days)
        )
        loop = frame.loop("scoring", "sweep")
        settle = timedelta(seconds=settings.perennial_backfill_settle_seconds)
        sweep = Sweep(
            engine=engine,
            partitions=partitions,
            metrics=metrics,
            models=Models(
                engine=engine,
                metrics=metrics,
                rules=rules,
                yearly_churn=settings.perennial_expected_yearly_churn,
                progressed=loop.progressed,
            ),
            # Never run: what the sweep would tell the notifier stays in the scratch database.
            relay=Relay(engine=engine, log=log, table=outbox, loop=frame.loop("scoring", "relay")),
            clock=clock,
            loop=loop,
            interval=timedelta(seconds=settings.perennial_sweep_interval_seconds),
            settle=settle,
            is_behind=_never,
            retention=settings.retention,
            watch=_Trusting(),
            rules=rules,
            rhythm=Rhythm(every_days=1),  # Whatever day it is, a look is logged.
        )
        intake = Intake(engine=engine, partitions=partitions, metrics=metrics, clock=clock)
        yield _Scoring(engine=engine, intake=intake, sweep=sweep, clock=clock)


async def _never() -> bool:
    return False


class _Trusting:
    """A file has no outages: what did not happen in it did not happen."""

    async def beat(self, now: datetime) -> None:
        pass

    async def look(self, now: datetime) -> Freshness:  # noqa: ARG002 - as the sweep asks
        return FRESH


def _batches(events: Sequence[UsageEvent]) -> Iterator[Sequence[UsageEvent]]:
    for start in range(0, len(events), BATCH):
        yield events[start : start + BATCH]


async def _logged(engine: AsyncEngine, now: datetime, day: date, *, everyone: bool) -> Look:
    """What the sweep logged at `now`; of accounts without a risk, what it wrote beside them."""
    async with engine.connect() as connection:
        rows = await (await driver(connection)).fetch(
            "SELECT account_id, indicators FROM scoring.scores WHERE as_of = $1 AND columns = $2"
            " ORDER BY account_id"
            if everyone
            else "SELECT account_id, indicators FROM scoring.feature_rows WHERE as_of = $1"
            " AND columns = $2 AND kind <> 'recomputed' ORDER BY account_id",
            now,
            columns_hash(),
        )
    accounts = tuple(row[0] for row in rows)
    return Look(day=day, accounts=accounts, table=unpack(day, [row[1] for row in rows]))
