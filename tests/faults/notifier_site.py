"""Two notifiers on one database and log, the servers that they send to, and who kills them."""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from shared.log import Appended, Record
from shared.log.postgres import PostgresLog, open_postgres_log
from shared.messages import ACCOUNTS, FLAGS
from tests.databases import DatabaseServer
from tests.faults.notifier_load import Load, new_load
from tests.faults.notifier_weather import Arrived, StormyMail, StormySlack, Weather
from tests.processes import PerennialProcess
from tests.standins.mail import fake_mail
from tests.standins.slack import SIGNING_SECRET, TOKEN, fake_slack

PACE_SECONDS = 0.05
LEASE_SECONDS = 9
"""In the storm: short, so that what a dead one had in hand is taken up again soon."""
RANDOM = "random"
_REPLICAS = 2
_CHUNK = 200
_LOOK_SECONDS = 0.1
_DEADLINE = timedelta(seconds=10)
_KNOWN = "SELECT count(*) FROM notifier.accounts"
_POSITION = """
    SELECT coalesce(sum(next_offset), 0) FROM notifier.log_positions WHERE topic = 'flags'
"""
# What quiet hours hold is due much later.
_TO_SEND = """
    SELECT count(*) FROM notifier.deliveries
    WHERE state IN ('pending', 'sending') AND due_at < now() + interval '20 s'
"""
_MISCOUNTED = """
    SELECT told.account_id, told.destination FROM notifier.notices AS told
    LEFT JOIN notifier.deliveries AS one
        ON one.account_id = told.account_id AND one.destination = told.destination
        AND one.kind IN ('notice', 'update') AND one.attempts > 0
        AND one.state NOT IN ('pending', 'sending')
    GROUP BY told.account_id, told.destination, told.seq HAVING told.seq <> count(one.id)
"""
_TO_LOOK_AT = "SELECT count(*) FROM notifier.agenda WHERE look_at < now() + interval '20 s'"
_USUAL = {
    "SLACK_BOT_TOKEN": TOKEN,
    "SLACK_SIGNING_SECRET": SIGNING_SECRET,
    "PERENNIAL_SCORING_URL": "http://127.0.0.1:1",
    "PERENNIAL_LOG_LEVEL": "warning",
    "PERENNIAL_SLACK_PACE_SECONDS": str(PACE_SECONDS),
    # Two batches of intake must not be further apart, on the slowest machine.
    "PERENNIAL_GROUP_WAIT_SECONDS": "4",
    "PERENNIAL_GROUP_INTERVAL_SECONDS": "1",
    "PERENNIAL_UPDATE_DEBOUNCE_SECONDS": "0.5",
    "PERENNIAL_DELIVERY_RETRY_FIRST_SECONDS": "0.2",
    "PERENNIAL_DELIVERY_RETRY_LAST_SECONDS": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A row of the queue."""

    id: str
    kind: str
    account: str
    destination: str
    state: str
    suppressed: str | None
    reason: str
    ambiguous: int
    provider_id: str | None
    waits_seconds: float


@dataclass(slots=True, kw_only=True)
class Killer:
    """Ends notifiers by `kill -9` and starts them again, until `ways` is used up."""

    site: "Site"
    ways: deque[str]
    """A place in the code (`notifier.after_claim:kill9:nth=3`), or `RANDOM`.

    Whoever freezes there is thawed when its lease is over, and killed then."""
    choose: random.Random
    kills: list[tuple[float, str]] = field(default_factory=list)
    thawed: list[float] = field(default_factory=list)
    feeding: bool = True

    async def look_after(self, number: int) -> None:
        """One replica, over all its lives; the last one lives on."""
        while self.ways:
            way = self.ways.popleft()
            process = self.site.process(number, "" if way == RANDOM else way)
            await asyncio.to_thread(process.start, wait=way == RANDOM)
            if ":freeze:" in way and await self._until_frozen(process):
                # The other one takes over what it has in hand; then it is back, and knows nothing.
                await asyncio.sleep(LEASE_SECONDS + 3)
                self.thawed.append(time.monotonic())
                await asyncio.to_thread(process.thaw)
            if ":kill9:" in way:
                way = await self._until_dead(process, way)
            else:
                await asyncio.sleep(self.choose.uniform(0.2, 2.0))
                way = await asyncio.to_thread(_kill, process, way)
            self.kills.append((time.monotonic(), way))
        await asyncio.to_thread(self.site.process(number).start)

    async def _until_frozen(self, process: PerennialProcess) -> bool:
        """Whether it has come there: there may be nothing left to do that would lead it there."""
        while self.feeding:
            assert process.is_running(), process.output()[-3000:]
            if process.is_frozen():
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    async def _until_dead(self, process: PerennialProcess, way: str) -> str:
        patience = 0.0
        while process.is_running():
            await asyncio.sleep(_LOOK_SECONDS)
            # There may be nothing left to do that would lead it there.
            patience += 0 if self.feeding else _LOOK_SECONDS
            if patience > 5:
                return await asyncio.to_thread(_kill, process, f"{RANDOM} for {way}")
        assert process.is_well(), process.output()[-3000:]
        process.stop()
        return way


@dataclass(slots=True, kw_only=True)
class Site:
    load: Load
    database_url: str
    log: PostgresLog
    connection: "asyncpg.Connection[asyncpg.Record]"
    slack: StormySlack
    mail: StormyMail
    folder: Path
    environment: Mapping[str, str]
    processes: dict[int, PerennialProcess] = field(default_factory=dict)
    lives: Counter[int] = field(default_factory=Counter)
    published: int = 0

    def process(self, number: int, failpoint: str = "") -> PerennialProcess:
        """The next life of a replica; not started yet."""
        self.lives[number] += 1
        environment = {"PERENNIAL_FAILPOINT": failpoint} if failpoint else {}
        self.processes[number] = PerennialProcess(
            self.folder / f"notifier-{number}-{self.lives[number]}",
            "--service",
            "notifier",
            **(_USUAL | dict(self.environment) | environment),
            DATABASE_URL=self.database_url,
            SMTP_URL=self.mail.url,
            PERENNIAL_SLACK_API_URL=self.slack.api_url,
            PERENNIAL_TEAM_FILE=str(self.folder / "team.yaml"),
        )
        return self.processes[number]

    def stop(self) -> None:
        for process in self.processes.values():
            process.stop()

    async def announce_accounts(self) -> None:
        await self._append(ACCOUNTS, self.load.accounts())
        await self._until(_KNOWN, len(self.load.plots), seconds=60)

    async def publish(self, records: Sequence[Record]) -> None:
        await self._append(FLAGS, records)
        self.published += len(records)

    async def settled(self, *, seconds: float) -> None:
        """Wait until all flags are taken in and nothing is left to send or to look at for long."""
        async with asyncio.timeout(seconds):
            while True:
                await self._until(_POSITION, self.published, seconds=seconds)
                await self._until(_TO_LOOK_AT, 0, seconds=seconds)
                await self._until(_TO_SEND, 0, seconds=seconds)
                if not await self.connection.fetchval(_TO_LOOK_AT):
                    return

    async def miscounted(self) -> Sequence[tuple[str, str]]:
        """Where the end of some delivery was written down twice, or not at all."""
        return [(row[0], row[1]) for row in await self.connection.fetch(_MISCOUNTED)]

    async def deliveries(self) -> Sequence[Delivery]:
        rows = await self.connection.fetch(
            "SELECT *, extract(epoch FROM due_at - now())::float AS waits"
            " FROM notifier.deliveries ORDER BY number"
        )
        return [
            Delivery(
                id=str(row["id"]),
                kind=row["kind"],
                account=row["account_id"] or "",
                destination=row["destination"],
                state=row["state"],
                suppressed=row["suppress_reason"],
                reason=row["reason"],
                ambiguous=row["ambiguous"],
                provider_id=row["provider_id"],
                waits_seconds=row["waits"],
            )
            for row in rows
        ]

    def answers_lost(self) -> int:
        """How often a sender did not hear whether its message was taken, and lived to say so."""
        return sum(
            '"failure": "ambiguous"' in line
            for output in self.folder.glob("notifier-*/output.log")
            for line in output.read_text(errors="replace").splitlines()
        )

    def arrived(self) -> Sequence[Arrived]:
        return [*self.slack.arrived, *self.mail.arrived()]

    async def _append(self, topic: str, records: Sequence[Record]) -> None:
        for first in range(0, len(records), _CHUNK):
            some = records[first : first + _CHUNK]
            assert set(await self.log.append(topic, some, deadline=_DEADLINE)) == {Appended.DURABLE}

    async def _until(self, query: str, wanted: int, *, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while await self.connection.fetchval(query) != wanted:
                for process in self.processes.values():
                    assert process.is_well(), process.output()[-3000:]
                await asyncio.sleep(_LOOK_SECONDS)


@asynccontextmanager
async def notifier_site(
    database_server: DatabaseServer, folder: Path, *, owners: int, seed: int, **environment: str
) -> AsyncIterator[Site]:
    """Everything but the notifiers, which are still to be started."""
    load = new_load(owners, now=datetime.now(UTC))
    weather = Weather(choose=random.Random(seed))
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(database_server.copy_of_template())
        log = await stack.enter_async_context(open_postgres_log(url))
        connection = await asyncpg.connect(url)
        stack.push_async_callback(connection.close)
        slack, mail = StormySlack(weather=weather), StormyMail(choose=random.Random(seed))
        await stack.enter_async_context(fake_slack(slack=slack))
        await stack.enter_async_context(fake_mail(mail=mail))
        await asyncio.to_thread((folder / "team.yaml").write_text, load.team())
        site = Site(
            load=load,
            database_url=url,
            log=log,
            connection=connection,
            slack=slack,
            mail=mail,
            folder=folder,
            environment=environment,
        )
        stack.callback(site.stop)
        yield site


async def start_both(site: Site) -> None:
    for number in range(_REPLICAS):
        await asyncio.to_thread(site.process(number).start)


async def storm(site: Site, ways: Sequence[str], *, choose: random.Random) -> Killer:
    """Publish all flags in a row of slices while both replicas are killed in these ways."""
    killer = Killer(site=site, ways=deque(ways), choose=choose)
    async with asyncio.TaskGroup() as group:
        for number in range(_REPLICAS):
            group.create_task(killer.look_after(number))
        await site.announce_accounts()
        records = site.load.mixed(choose)
        size = -(-len(records) // (len(ways) + 1))
        for number, first in enumerate(range(0, len(records), size)):
            await site.publish(records[first : first + size])
            # So that there is work for each life; a slow start must not hold the others up.
            until = time.monotonic() + 10
            while (  # noqa: ASYNC110 - a process dies: no event tells
                len(killer.kills) <= number < len(ways) and time.monotonic() < until
            ):
                await asyncio.sleep(_LOOK_SECONDS)
        killer.feeding = False
    return killer


def _kill(process: PerennialProcess, way: str) -> str:
    process.kill9()
    return way
