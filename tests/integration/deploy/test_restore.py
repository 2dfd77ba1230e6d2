"""The drill: a backup, more work, the database lost, restored, and the log read on.

The scripts are the shipped ones, with the real pg_dump and pg_restore. The log outlives the
database: what it holds is offered again from wherever the restored positions stand.
"""

import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import releasing, restored
from services.notifier.settings import NotifierSettings
from services.scoring.intake import Intake
from services.scoring.metrics import ScoringMetrics
from services.scoring.partitions import Partitions
from shared import grants
from shared.clock import system_clock
from shared.database import open_engine
from shared.lifecycle import new_frame
from shared.log import TopicPartition
from shared.messages import DIRECTORY_CHANGES, USAGE_EVENTS, AccountFields, Flag, UsageEvent
from tests.databases import DatabaseServer
from tests.factories import batch_of, directory_change, usage_event
from tests.integration.deploy.production import Production, run
from tests.integration.notifier.rig import Rig, account, flag, open_rig
from tests.integration.notifier.test_process import urgent_flag
from tests.standins.slack import FakeSlack, fake_slack

PARTITION = TopicPartition(USAGE_EVENTS, 0)
EVENTS = 600
AT_BACKUP = 350


def usage() -> list[UsageEvent]:
    """Of 7 accounts over 20 days; every tenth is a repetition of the one before it."""
    now = datetime.now(UTC)
    made = []
    for number in range(EVENTS):
        same = number - number % 10 if number % 10 == 1 else number
        day = now - timedelta(days=same % 20)
        made.append(
            usage_event(
                id=f"e-{same}",
                account=f"account-{same % 7}",
                occurred_at=day,
                client_at=day,
                received_at=now,
            )
        )
    return made


def expected(events: Sequence[UsageEvent]) -> Counter[tuple[str, str]]:
    """Each id once, in its day."""
    once = {event.id: event for event in events}
    return Counter((str(one.account), one.occurred_at.date().isoformat()) for one in once.values())


async def counted(engine: AsyncEngine) -> Counter[tuple[str, str]]:
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT account_id, day::text, events FROM scoring.account_day")
        )
        return Counter({(row[0], row[1]): row[2] for row in rows})


@asynccontextmanager
async def intake_on(engine: AsyncEngine) -> AsyncIterator[Intake]:
    frame = new_frame()
    yield Intake(
        engine=engine,
        partitions=Partitions(engine, kept=timedelta(days=60)),
        metrics=ScoringMetrics(frame.registry, frame.metrics),
        clock=system_clock,
    )


async def read_on(intake: Intake, events: Sequence[UsageEvent], until: int) -> int:
    """As the consumer does: from the stored position on; where that stood."""
    claim = await intake.claim(PARTITION)
    start = claim.next_offset
    for first in range(start, until, 90):
        batch = batch_of(events[first : min(first + 90, until)], first=first, partition=PARTITION)
        await intake.take_in(batch, claim)
        claim = claim.after(batch)
    return start


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with fake_slack() as server:
        yield server


@pytest.fixture
async def lost_and_found(
    production: Production, production_server: DatabaseServer
) -> AsyncIterator[Production]:
    """A new, empty database for the restored one."""
    beside = production.beside(f"{production.name}_new")
    made = beside.make_roles()
    assert made.returncode == 0, made.stderr
    try:
        yield beside
    finally:
        await production_server.execute(f"DROP DATABASE {beside.name} WITH (FORCE)")


async def back_up(production: Production, folder: Path) -> Path:
    owned = await production.connect()
    try:
        done = production.script("backup.sh", folder, role=grants.BACKUP)
        assert done.returncode == 0, done.stderr
        [dump] = folder.glob("perennial-*.dump")  # noqa: ASYNC240 - a test
        [record] = await owned.fetch("SELECT kind, bytes, finished_at FROM scoring.backups")
    finally:
        await owned.close()
    assert (record["kind"], record["bytes"]) == ("dump", dump.stat().st_size)
    assert dump.stat().st_mode & 0o077 == 0
    return dump


def restore(target: Production, dump: Path, *receipts: Path) -> str:
    done = target.script(
        "restore.sh", dump, *receipts, role=grants.OWNER, DATABASE_URL=target.url()
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


async def test_a_restored_database_and_the_log_make_every_count_exact(
    production: Production, lost_and_found: Production, tmp_path: Path
) -> None:
    events = usage()
    async with open_engine(production.url(grants.SCORING), application="test") as engine:
        async with intake_on(engine) as intake:
            assert await read_on(intake, events, AT_BACKUP) == 0
            dump = await back_up(production, tmp_path)
            await read_on(intake, events, EVENTS)
        assert await counted(engine) == expected(events)

    assert "release-restored" in restore(lost_and_found, dump)

    async with open_engine(lost_and_found.url(grants.SCORING), application="test") as engine:
        assert await counted(engine) == expected(events[:AT_BACKUP])
        async with intake_on(engine) as intake:
            assert await read_on(intake, events, EVENTS) == AT_BACKUP
        # 0 lost, 0 double: 600 events of which 60 are repetitions.
        assert await counted(engine) == expected(events)
        assert (await counted(engine)).total() == 540


async def test_what_was_erased_since_the_backup_is_gone_after_the_restore_and_stays_so(
    production: Production, lost_and_found: Production, tmp_path: Path
) -> None:
    events = usage()
    kept, directory = tmp_path / "receipts", TopicPartition(DIRECTORY_CHANGES, 0)
    async with (
        open_engine(production.url(grants.SCORING), application="test") as engine,
        intake_on(engine) as intake,
    ):
        await read_on(intake, events, AT_BACKUP)
        dump = await back_up(production, tmp_path)
        # Over HTTP, so that nobody has a receipt but by the step that belongs to each backup.
        erased = directory_change(
            op="erase", account="account-3", received_at=datetime.now(UTC), fields=AccountFields()
        )
        await intake.take_in(batch_of([erased], partition=directory), await intake.claim(directory))
    done = run(
        [sys.executable, "-m", "services", "erase", "receipts", "--to", str(kept)],
        {"DATABASE_URL": production.url(grants.BACKUP), "PERENNIAL_PREPARE": "false"},
    )
    assert (done.returncode, done.stdout) == (0, f"1 written to {kept}.\n"), done.stderr

    restore(lost_and_found, dump, kept)

    without = Counter({key: n for key, n in expected(events).items() if key[0] != "account-3"})
    async with open_engine(lost_and_found.url(grants.SCORING), application="test") as engine:
        assert "account-3" not in {name for name, _ in await counted(engine)}
        async with intake_on(engine) as intake:
            await read_on(intake, events, EVENTS)
        assert await counted(engine) == without


async def test_receipts_that_nobody_could_apply_are_refused_before_anything_is_restored(
    production: Production, lost_and_found: Production, tmp_path: Path
) -> None:
    dump = await back_up(production, tmp_path)
    done = lost_and_found.script("restore.sh", dump, tmp_path, role=grants.OWNER, PERENNIAL="")
    assert done.returncode == 2
    done = lost_and_found.script("restore.sh", dump, role=grants.OWNER, PERENNIAL="")
    assert (done.returncode, "perennial erase --from" in done.stderr) == (0, True)
    owned = await lost_and_found.connect()
    try:
        assert await owned.fetchval("SELECT count(*) FROM notifier.restores") == 1
    finally:
        await owned.close()


@pytest.mark.parametrize("as_told", [False, True], ids=["sent again", "as told"])
async def test_after_a_restore_nobody_is_told_before_an_operator_says_so(
    production: Production,
    lost_and_found: Production,
    slack: FakeSlack,
    tmp_path: Path,
    as_told: bool,  # noqa: FBT001 - a parameter
) -> None:
    before = [urgent_flag()]
    waiting = [flag_of("birch")]
    after = [flag_of("cedar")]
    async with notifier(production, slack) as rig:
        await rig.take(*[account(account_id=one) for one in ("acme", "birch", "cedar", "dogwood")])
        await rig.take(*before)
        assert await rig.send_all() == 1
        await rig.take(*waiting)
        dump = await back_up(production, tmp_path)
        await rig.send_all()
        await rig.take(*after)
        await rig.send_all()
        assert len(slack.posted) == 3

    restore(lost_and_found, dump)

    async with notifier(lost_and_found, slack) as rig:
        assert [one.state for one in await rig.deliveries()] == ["sent", "restored"]
        # The log again, from the restored position on.
        rig.offsets[TopicPartition("flags", 0)] = len(before) + len(waiting)
        await rig.take(*after)
        assert await rig.send_all() == 0
        assert len(slack.posted) == 3
        async with rig.engine.connect() as connection:
            held = await restored.waiting(connection)
        assert held is not None
        assert (held.restored, held.decided) == (1, 1)

        settings = NotifierSettings(slack_webhook_url=slack.url)
        found = await releasing.release(rig.engine, settings, as_told=as_told, clock=system_clock)
        assert found == held
        await rig.send_all()
        await rig.pass_time(timedelta(minutes=10))
        await rig.send_all()
        # birch and cedar once more, but somebody said so; or neither.
        assert len(slack.posted) == (3 if as_told else 5)
        states = Counter(one.state for one in await rig.deliveries())
        assert states == ({"sent": 1, "cancelled": 2} if as_told else {"sent": 3})

        rig.hands.now = datetime.now(UTC)
        await rig.take(flag_of("dogwood"))
        await rig.send_all()
        assert "dogwood" in str(slack.posted[-1])
        again = await releasing.release(rig.engine, settings, as_told=as_told, clock=system_clock)
        assert again is None


async def test_a_database_that_is_not_empty_is_left_alone(
    production: Production, tmp_path: Path
) -> None:
    dump = await back_up(production, tmp_path)
    done = production.script("restore.sh", dump, role=grants.OWNER, DATABASE_URL=production.url())
    assert done.returncode == 2
    assert "is not empty" in done.stderr


async def test_a_dump_that_was_cut_short_restores_nothing(
    production: Production, lost_and_found: Production, tmp_path: Path
) -> None:
    dump = await back_up(production, tmp_path)
    dump.write_bytes(dump.read_bytes()[:-2_000])
    done = lost_and_found.script(
        "restore.sh", dump, role=grants.OWNER, DATABASE_URL=lost_and_found.url()
    )
    assert done.returncode == 1
    owned = await lost_and_found.connect()
    try:
        assert await owned.fetchval("SELECT to_regnamespace('scoring')") is None
    finally:
        await owned.close()


async def test_a_backup_that_fails_leaves_no_file_and_drops_none(
    production: Production, tmp_path: Path
) -> None:
    old = tmp_path / "perennial-20200101T000000Z.dump"
    old.write_bytes(b"the last one")
    nowhere = production.beside("no_such_database")
    done = nowhere.script("backup.sh", tmp_path, role=grants.BACKUP, BACKUP_KEEP_DAYS="0")
    assert done.returncode != 0
    assert [one.name for one in tmp_path.iterdir()] == [old.name]  # noqa: ASYNC240


@asynccontextmanager
async def notifier(production: Production, slack: FakeSlack) -> AsyncIterator[Rig]:
    async with (
        open_engine(production.url(grants.NOTIFIER), application="test") as engine,
        open_rig(engine, slack=slack) as rig,
    ):
        rig.hands.now = datetime.now(UTC)
        yield rig


def flag_of(name: str) -> Flag:
    now = datetime.now(UTC)
    return flag(account=name, flag_id=f"{name}/churn_risk/1", as_of=now, raised_at=now)
