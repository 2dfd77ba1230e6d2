"""`perennial erase` as an operator runs it; a database that was restored is told by receipts."""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from services import erase, erasure_plan, receipts
from services.__main__ import app
from services.receipts import Receipt, UnusableReceipt
from services.scoring.domain.activity import user_key
from services.scoring.intake import Intake
from services.scoring.metrics import ScoringMetrics
from services.scoring.partitions import Partitions
from shared.clock import system_clock
from shared.credentials import HashedUser
from shared.lifecycle import Frame
from shared.log import Batch, TopicPartition
from shared.messages import DIRECTORY_CHANGES, USAGE_EVENTS, AccountFields, UsageEvent
from tests.factories import NOW, batch_of, directory_change, usage_event

P0, D0 = TopicPartition(USAGE_EVENTS, 0), TopicPartition(DIRECTORY_CHANGES, 0)
HOUR = timedelta(hours=1)
USER = "u1:0123456789abcdef0123456789abcdef"
ACCOUNT = Receipt(kind="account", account="acme", erased_at=NOW + HOUR, flags_until=NOW + 2 * HOUR)
PERSON = Receipt(kind="user", account="", user=USER, user_key=user_key(USER), erased_at=NOW + HOUR)


class Operator:
    """A person at the command line of this deployment."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.environment = {
            "DATABASE_URL": database_url,
            "PERENNIAL_DATA_DIR": str(folder),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }

    async def run(self, *arguments: str) -> Result:
        command = ("erase", *arguments)
        return await asyncio.to_thread(CliRunner().invoke, app, command, env=self.environment)


@pytest.fixture
def operator(database_url: str, tmp_path: Path) -> Operator:
    return Operator(database_url, tmp_path)


@pytest.fixture
def intake(engine: AsyncEngine, frame: Frame) -> Intake:
    return Intake(
        engine=engine,
        partitions=Partitions(engine, kept=timedelta(days=60)),
        metrics=ScoringMetrics(frame.registry, frame.metrics),
        clock=lambda: NOW,
    )


async def take(intake: Intake, batch: Batch) -> None:
    await intake.take_in(batch, await intake.claim(batch.partition))


async def fill(intake: Intake) -> None:
    """Acme with a person of two days, globex with the same person of one, and both records."""
    events = [
        usage_event(id="1"),
        usage_event(id="2", client_at=NOW - 48 * HOUR, occurred_at=NOW - 48 * HOUR),
        usage_event(id="3", account="globex"),
        usage_event(id="0", type="group"),
    ]
    await take(intake, batch_of(events, partition=P0))
    known = [
        directory_change(account=name, fields=AccountFields(name=f"{name} Ltd"))
        for name in ("acme", "globex")
    ]
    await take(intake, batch_of(known, partition=D0))


async def asked(engine: AsyncEngine, statement: str) -> Sequence[object]:
    async with engine.connect() as connection:
        return (await connection.execute(text(statement))).scalars().all()


async def accounts_with_days(engine: AsyncEngine) -> Sequence[object]:
    return await asked(engine, "SELECT account_id FROM scoring.account_day ORDER BY account_id")


async def test_without_yes_it_says_what_would_go_and_changes_nothing(
    operator: Operator, engine: AsyncEngine, intake: Intake
) -> None:
    await fill(intake)
    said = json.loads((await operator.run("account", "acme", "--json")).stdout)
    assert said["would_go"] == {
        "scoring.account_day": 2,
        "scoring.accounts": 1,
        "scoring.account_versions": 1,
        "scoring.dirty": 2,  # One mark of its events, one of its record.
        "scoring.group_calls": 1,
        "scoring.memberships": 1,
        "scoring.outbox": 1,
        "scoring.seen_events": 3,
    }
    assert said["erased_at"] is None
    assert await accounts_with_days(engine) == ["acme", "acme", "globex"]
    shown = (await operator.run("account", "acme")).stdout
    assert "Nothing is changed" in shown
    assert "2  scoring.account_day" in shown
    assert await asked(engine, "SELECT count(*) FROM scoring.erased_accounts") == [0]


async def test_a_person_is_looked_for_by_the_deployments_own_key_alone(
    operator: Operator, tmp_path: Path
) -> None:
    """A key that was just made knows nobody: it would say that there is nothing to erase."""
    refused = await operator.run("user", "ada@acme.example")
    assert refused.exit_code == 2
    assert "PERENNIAL_USER_HASH_KEY" in refused.stderr
    (tmp_path / "user_hash.key").write_text("k" * 40)
    found = await operator.run("user", "ada@acme.example", "--json")
    assert json.loads(found.stdout)["would_go"] == {}
    assert "ada@" not in found.stdout + found.stderr


async def test_what_a_restored_backup_brought_back_goes_again_as_of_the_first_time(
    operator: Operator, engine: AsyncEngine, intake: Intake, tmp_path: Path
) -> None:
    await fill(intake)
    await asyncio.to_thread(receipts.write, tmp_path / "kept", ACCOUNT)
    again = await operator.run("--from", str(tmp_path / "kept"), "--json")
    assert json.loads(again.stdout) == {"erased": 1, "already": 0}
    assert await accounts_with_days(engine) == ["globex"]
    [found] = json.loads((await operator.run("list", "--json")).stdout)
    assert datetime.fromisoformat(found["erased_at"]) == ACCOUNT.erased_at
    assert datetime.fromisoformat(found["flags_until"]) == ACCOUNT.flags_until
    assert found["counts"]["account_day"] == 2
    until = await asked(engine, "SELECT erased_until FROM notifier.accounts")
    assert until == [ACCOUNT.flags_until]
    # What the log brings again is older than the erasure; what came later is not.
    late = usage_event(id="4", received_at=NOW + HOUR + timedelta(seconds=1))
    await take(intake, batch_of([usage_event(id="1"), late], first=3, partition=P0))
    assert await accounts_with_days(engine) == ["acme", "globex"]
    twice = await operator.run("--from", str(tmp_path / "kept"), "--json")
    assert json.loads(twice.stdout) == {"erased": 0, "already": 1}
    assert await accounts_with_days(engine) == ["acme", "globex"]
    actions = await asked(engine, "SELECT action FROM notifier.audit")
    assert actions == ["erasures.replayed"]


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        ("acme", {"account_day": 2, "group_calls": 1, "memberships": 1}),
        ("", {"account_day": 3, "group_calls": 1, "memberships": 2, "waiting_events": 1}),
    ],
    ids=["in one account", "everywhere"],
)
async def test_what_would_go_of_a_person_is_what_goes(
    operator: Operator,
    engine: AsyncEngine,
    intake: Intake,
    account: str,
    expected: dict[str, int],
) -> None:
    await fill(intake)
    async with engine.begin() as connection:
        await connection.execute(text(_WAITS), {"user": user_key(USER), "at": NOW})
    subject = erase.Subject(account=account, user=HashedUser(USER))
    would_go = (await erasure_plan.plan(engine, subject, lambda _: None)).counts
    assert would_go == {f"scoring.{table}": n for table, n in expected.items()}
    change = directory_change(account=account, op="erase", user=USER, fields=AccountFields())
    await take(intake, batch_of([change], first=2, partition=D0))
    [found] = json.loads((await operator.run("list", "--json")).stdout)
    assert found["counts"] == expected


_WAITS = """
WITH one AS (
    INSERT INTO scoring.waiting_events
        (partition, user_key, event_day, key, log_offset, waiting_since, source, value, headers)
    VALUES (3, :user, '2026-06-15', '\\x00', 1, :at, 'app', '', '')
)
INSERT INTO scoring.waiting_counts (partition, events) VALUES (3, 1)
"""


async def test_a_person_goes_again_from_every_bucket(
    operator: Operator, engine: AsyncEngine, intake: Intake, tmp_path: Path
) -> None:
    await fill(intake)
    path = await asyncio.to_thread(receipts.write, tmp_path, PERSON)
    await operator.run("--from", str(path))
    users = await asked(engine, "SELECT cardinality(users) FROM scoring.account_day")
    assert users == [0, 0, 0]
    [found] = json.loads((await operator.run("list", "--json")).stdout)
    assert (found["user"], found["counts"]) == (
        USER,
        {"account_day": 3, "group_calls": 1, "memberships": 2},
    )
    assert found["done_at"] is not None
    twice = await operator.run("--from", str(path))
    assert twice.stdout == "0 erased again, 1 were.\n"


async def test_the_notifier_is_told_where_only_scoring_had_done_it(
    operator: Operator, engine: AsyncEngine, intake: Intake, tmp_path: Path
) -> None:
    """The backup was made in between: its tombstone waits in the outbox, or is lost."""
    await fill(intake)
    erasing = directory_change(op="erase", received_at=ACCOUNT.erased_at, fields=AccountFields())
    await take(intake, batch_of([erasing], first=2, partition=D0))
    await asyncio.to_thread(receipts.write, tmp_path, ACCOUNT)
    assert (await operator.run("--from", str(tmp_path))).stdout == "1 erased again, 0 were.\n"
    assert len(await asked(engine, "SELECT erased_until FROM notifier.accounts")) == 1
    assert (await operator.run("--from", str(tmp_path))).stdout == "0 erased again, 1 were.\n"


async def test_receipts_are_written_of_what_was_erased_over_http_too(
    operator: Operator, intake: Intake, tmp_path: Path
) -> None:
    await fill(intake)
    changes = [
        directory_change(op="erase", received_at=NOW + HOUR, fields=AccountFields()),
        directory_change(
            op="erase", account="", user=USER, received_at=NOW, fields=AccountFields()
        ),
    ]
    await take(intake, batch_of(changes, first=2, partition=D0))
    folder = tmp_path / "kept"
    assert (await operator.run("receipts", "--to", str(folder))).stdout.startswith("2 written")
    assert (await operator.run("receipts", "--to", str(folder))).stdout.startswith("0 written")
    person, account = await asyncio.to_thread(receipts.read_all, folder)
    assert (person.user, person.account, person.erased_at) == (USER, "", NOW)
    assert (account.account, account.erased_at) == ("acme", NOW + HOUR)
    assert account.counts["account_day"] == 2
    assert all(one.done_at is not None for one in (person, account))
    assert not [name for name in folder.iterdir() if "acme" in name.name]


async def test_an_older_database_takes_no_receipt_away(
    engine: AsyncEngine, intake: Intake, tmp_path: Path
) -> None:
    await asyncio.to_thread(receipts.write, tmp_path, ACCOUNT)
    await fill(intake)
    early = directory_change(op="erase", received_at=NOW, fields=AccountFields())
    await take(intake, batch_of([early], first=2, partition=D0))
    assert await erase.export(engine, tmp_path) == 0
    assert await asyncio.to_thread(receipts.read_all, tmp_path) == [ACCOUNT]


async def test_who_asks_in_vain_is_told_so_and_has_a_receipt(
    operator: Operator, engine: AsyncEngine, tmp_path: Path
) -> None:
    """Nobody runs: it waits in the log."""
    began = system_clock()
    said = await operator.run("account", "acme", "--yes", "--wait", "0", "--json")
    assert said.exit_code == 1
    found = json.loads(said.stdout)
    assert (found["pending"], found["done_at"]) == (["scoring", "notifier"], None)
    [receipt] = await asyncio.to_thread(receipts.read_all, tmp_path / "receipts")
    assert receipt.account == "acme"
    assert receipt.erased_at >= began
    audited = await asked(engine, "SELECT action || ' ' || subject FROM notifier.audit")
    assert audited == [f"account.erased {receipt.name}"]
    appended = await asked(
        engine,
        "SELECT convert_from(value, 'UTF8')::jsonb ->> 'op' FROM log.records"
        " WHERE topic = 'directory-changes'",
    )
    assert appended == ["erase"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b'{"kind": "user", "account": "", "erased_at": "2026-03-31T00:00:00Z"}'],
    ids=["empty", "nothing said", "nobody named"],
)
def test_a_file_that_is_no_receipt_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.json").write_bytes(content)
    with pytest.raises(UnusableReceipt, match=r"one\.json"):
        receipts.read_all(tmp_path)


async def test_an_event_that_came_after_the_request_is_not_counted_twice(
    engine: AsyncEngine, intake: Intake
) -> None:
    """What came after the request and before it was done stays, with its id."""
    later = usage_event(id="9", received_at=NOW + 2 * HOUR)
    await take(intake, batch_of([later], partition=P0))
    erasing = directory_change(op="erase", received_at=NOW + HOUR, fields=AccountFields())
    await take(intake, batch_of([erasing], partition=D0))
    again: UsageEvent = later
    await take(intake, batch_of([again], first=1, partition=P0))
    assert await asked(engine, "SELECT events FROM scoring.account_day") == [1]
