"""A tombstone on `accounts`: nothing of the account is left, and nothing old brings it back."""

import asyncio
import dataclasses
from datetime import timedelta
from functools import partial
from uuid import UUID

import httpx
import msgspec
import pytest
from sqlalchemy import exists, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier.digests import Rounds
from services.notifier.domain.people import Mode, Person
from services.notifier.domain.refusals import Refusal
from services.notifier.domain.sentiments import Mood, Sentiment
from services.notifier.routes import Ways
from services.notifier.stepping import NotTaken
from services.notifier.tables import accounts, metadata, outbox, timeline
from services.scoring.intake import Intake as ScoringIntake
from services.scoring.metrics import ScoringMetrics
from services.scoring.partitions import Partitions
from services.scoring.tables import outbox as scoring_outbox
from shared.lifecycle import Frame
from shared.log import Batch, StoredRecord, TopicPartition
from shared.log.postgres import PostgresLog
from shared.messages import (
    ACCOUNTS,
    DIRECTORY_CHANGES,
    ERASURE,
    AccountFields,
    Erasure,
    Message,
    OutcomeKind,
    encode,
)
from shared.outbox import Relay
from tests.factories import batch_of, directory_change
from tests.integration.notifier.queue_rig import Meanwhile
from tests.integration.notifier.rig import FALLBACK, NOW, OWNER, Rig, account, boss, flag, open_rig

HOUR = timedelta(hours=1)
ERASED = Erasure(erased_at=NOW + HOUR, flags_until=NOW + 2 * HOUR)


async def erase(
    rig: Rig, *, header: bool = True, then: Message | None = None, erasure: Erasure = ERASED
) -> None:
    """Hand the tombstone to intake, and a record of the same account after it."""
    partition = TopicPartition(ACCOUNTS, 0)
    headers = ((ERASURE, encode(erasure)),) if header else ()
    first = rig.offsets.get(partition, 0)
    values = [(None, headers)] + ([] if then is None else [(encode(then), ())])
    rig.offsets[partition] = first + len(values)
    records = [
        StoredRecord(
            offset=first + i, key=b"acme", value=value, headers=one, appended_at=NOW + 3 * HOUR
        )
        for i, (value, one) in enumerate(values)
    ]
    await rig.intake_batch(Batch(partition=partition, records=records, generation=1))


async def everything(rig: Rig) -> str:
    """All rows of all tables of the notifier, as text."""
    found: list[str] = []
    async with rig.engine.connect() as connection:
        for table in metadata.tables:
            rows = await connection.execute(text(f"SELECT t::text FROM {table} AS t"))
            found.extend(f"{table}: {row[0]}" for row in rows)
    return "\n".join(found)


def split(rows: str, start: str) -> tuple[str, str]:
    """Those that begin so, and the others."""
    lines = rows.splitlines()
    ours = [line for line in lines if line.startswith(start)]
    return "\n".join(ours), "\n".join(line for line in lines if not line.startswith(start))


@pytest.mark.parametrize("header", [True, False], ids=["with its moment", "without"])
async def test_nothing_of_an_erased_account_is_left(rig: Rig, *, header: bool) -> None:
    await rig.take(account(), account(account_id="globex", name="Globex", owner=FALLBACK))
    await rig.take(flag(), flag(account="globex", flag_id="globex/1"))
    await rig.send_all()
    before = await everything(rig)

    await erase(rig, header=header)

    left = await everything(rig)
    of_acme = [line for line in left.splitlines() if "globex" not in line]
    for gone in ("Acme Ltd", OWNER, "Churn risk 31", "12340.50"):
        assert gone in before
        assert not [line for line in of_acme if gone in line]
    rows = {row.account_id: row for row in await rig.interventions()}
    acme, globex = rows[""], rows["globex"]
    assert (acme.status, acme.outcome, acme.closed_by) == (
        "closed",
        OutcomeKind.NO_ACTION_NEEDED,
        "system",
    )
    assert (acme.summary, acme.reasons, acme.owner) == ("", [], "")
    assert (globex.status, globex.owner) == ("open", FALLBACK)
    assert {row.account_id for row in await rig.deliveries()} == {"globex"}
    async with rig.engine.connect() as connection:
        kinds = await connection.scalars(
            select(timeline.c.kind).where(timeline.c.account_id == "acme")
        )
        assert kinds.all() == ["erased"]
        assert (await connection.execute(select(outbox.c.id))).all() == []
    # The id alone, where it says that it is erased.
    named = {line.partition(":")[0] for line in of_acme if "acme" in line}
    assert named == {"notifier.accounts", "notifier.agenda", "notifier.timeline"}


async def test_what_people_did_and_said_is_gone_too(rig: Rig) -> None:
    await rig.take(account())
    await rig.take(flag())
    (row,) = await rig.interventions()
    one = UUID(str(row.id))
    await rig.steps.mark_task(one, 1, done=True, by=boss("carla"), key="secret-click")
    await rig.steps.snooze(
        one, version=None, until=NOW + HOUR, reason="Their wedding", by=boss("carla")
    )
    await rig.steps.reassign(one, version=None, owner="carla@vendor.example", by=boss("carla"))
    said = await rig.steps.say(
        "acme", mood=Mood.BAD, note="They shouted", expires_at=NOW + 9 * HOUR, by=boss("carla")
    )
    assert isinstance(said, Sentiment)
    before = await everything(rig)
    # An erasure of flags up to an earlier moment takes what people said since, all the same.
    early = Erasure(erased_at=NOW + HOUR, flags_until=NOW)
    await erase(rig, erasure=early)
    audited, left = split(await everything(rig), "notifier.audit: ")
    for gone in ("secret-click", "wedding", "carla", "shouted", "Read the reasons", OWNER):
        assert gone in before
        assert gone not in left
    # Who did something stays, and when: to what, and how, is gone.
    assert audited.count("carla") == audited.count("notifier.audit: ") == 4
    assert "wedding" not in audited
    assert {row.status for row in await rig.interventions()} == {"closed"}
    refused = await rig.steps.correct(
        one, version=None, outcome=OutcomeKind.SAVED, note="", by=boss("carla")
    )
    assert refused == NotTaken(refusal=Refusal.UNKNOWN)


async def test_a_message_that_waits_is_not_sent_any_more(rig: Rig) -> None:
    await rig.take(account())
    await rig.take(flag())
    await erase(rig)
    assert await rig.send_all() == 0


async def test_an_erasure_that_comes_twice_changes_nothing(rig: Rig) -> None:
    await rig.take(account())
    await rig.take(flag())
    await erase(rig)
    before = [tuple(row) for row in await rig.interventions()]
    await erase(rig)
    assert [tuple(row) for row in await rig.interventions()] == before


async def test_a_flag_raised_before_the_erasure_comes_too_late(rig: Rig) -> None:
    await rig.take(account())
    await erase(rig)
    await rig.take(flag(as_of=ERASED.flags_until), flag(change="cleared", as_of=NOW))
    assert await rig.interventions() == []
    assert rig.metrics.flags_consumed.labels("erased")._value.get() == 2


async def test_an_erasure_flags_and_people_at_once_wait_for_each_other_in_one_order(
    rig: Rig,
) -> None:
    names = ("aaa", "acme", "zzz")
    await rig.take(*(account(account_id=name) for name in names))
    await rig.take(*(flag(account=name, flag_id=name) for name in names))
    ids = [UUID(str(row.id)) for row in await rig.interventions()]
    async with asyncio.timeout(60):
        for number in range(1, 6):
            later = NOW + number * HOUR
            await asyncio.gather(
                erase(
                    rig, then=msgspec.structs.replace(account(account_id="aaa"), updated_at=later)
                ),
                rig.take(
                    *(
                        flag(account=name, flag_id=name, change="updated", as_of=later)
                        for name in reversed(names)
                    )
                ),
                *(
                    rig.steps.reassign(
                        one, version=None, owner=f"p{number}@x.example", by=boss("a")
                    )
                    for one in ids
                ),
            )
    rows = await rig.interventions()
    assert {row.account_id for row in rows if row.status == "open"} >= {"aaa", "zzz"}
    # Flags as of two hours later and before are gone with the account, whoever came first.
    assert not [
        row for row in rows if row.account_id == "acme" and row.flag_as_of <= ERASED.flags_until
    ]
    assert [row.owner for row in rows if not row.account_id] == [""]


async def test_an_old_record_that_comes_again_brings_nothing_back(rig: Rig) -> None:
    await rig.take(account())
    await erase(rig)
    await rig.take(account())
    async with rig.engine.connect() as connection:
        (row,) = (await connection.execute(select(accounts))).all()
    assert (row.account_id, row.name, row.owner, row.fields) == ("acme", None, None, {})


async def test_the_account_starts_afresh(rig: Rig) -> None:
    await rig.take(account())
    await rig.take(flag())
    later = account(name="Acme again")
    await erase(
        rig, then=type(later)(account="acme", updated_at=NOW + 2 * HOUR, fields=later.fields)
    )
    again = ERASED.flags_until + timedelta(microseconds=1)
    # The same flag id: scoring has forgotten its episodes too.
    await rig.take(flag(as_of=again, raised_at=again))
    old, new = sorted(await rig.interventions(), key=lambda row: row.flag_as_of)
    assert (old.status, old.owner, new.status, new.owner) == ("closed", "", "open", OWNER)
    assert new.episode == 1
    await rig.take(flag(change="cleared", as_of=again + HOUR, raised_at=again))
    assert {row.status for row in await rig.interventions()} == {"closed"}


async def test_an_erasure_in_scoring_reaches_the_notifier_through_the_log(
    rig: Rig, owner: AsyncEngine, log: PostgresLog, frame: Frame
) -> None:
    engine = rig.engine
    scoring = ScoringIntake(
        engine=owner,
        partitions=Partitions(owner, kept=timedelta(days=60)),
        metrics=ScoringMetrics(frame.registry, frame.metrics),
        clock=lambda: NOW,
    )
    partition = TopicPartition(DIRECTORY_CHANGES, 0)
    known = directory_change(received_at=NOW, fields=AccountFields(name="Acme Ltd", owner=OWNER))
    erase = directory_change(op="erase", received_at=NOW + HOUR, fields=AccountFields())
    held = await scoring.claim(partition)
    first = batch_of([known], partition=partition)
    await scoring.take_in(first, held)
    await pass_on(rig, owner, log, frame)
    assert "Acme Ltd" in await everything(rig)

    held = held.after(first)
    await scoring.take_in(batch_of([erase], first=1, partition=partition), held)
    await pass_on(rig, owner, log, frame)

    assert "Acme Ltd" not in await everything(rig)
    async with engine.connect() as connection:
        (row,) = (await connection.execute(select(accounts))).all()
    assert (row.updated_at, row.erased_until) == (NOW + HOUR, NOW)


async def pass_on(rig: Rig, owner: AsyncEngine, log: PostgresLog, frame: Frame) -> None:
    """What scoring has let out, through the log, to the notifier: what it has not seen yet."""
    stop = asyncio.Event()
    relay = Relay(engine=owner, log=log, table=scoring_outbox, loop=frame.loop("scoring", "relay"))
    running = asyncio.create_task(relay.run(stop))
    await _until_all_is_out(owner)
    stop.set()
    await running
    async with log.follow(ACCOUNTS) as consumer:
        while batches := await consumer.fetch(max_records=100, wait=timedelta(milliseconds=100)):
            for batch in batches:
                claim = await rig.intake.claim(batch.partition)
                fresh = [one for one in batch.records if one.offset >= claim.next_offset]
                if fresh:
                    await rig.intake.take_in(dataclasses.replace(batch, records=fresh), claim)


async def _until_all_is_out(owner: AsyncEngine) -> None:
    async with asyncio.timeout(10):
        while True:
            async with owner.connect() as connection:
                if not await connection.scalar(select(exists().select_from(scoring_outbox))):
                    return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("mode", [Mode.DAILY, Mode.REAL_TIME], ids=["digest", "summary"])
async def test_what_was_under_way_when_it_was_erased_is_not_remembered(
    engine: AsyncEngine, mode: Mode
) -> None:
    post = Meanwhile("slack")
    anna = Person(address=OWNER, zone="Europe/Paris", slack="UANNA", mode=mode)
    ways = Ways(slack_bot=True)
    async with open_rig(engine, people=(anna,), more={"slack": post}, ways=ways) as rig:
        await rig.take(account())
        rig.hands.now = NOW + 8 * HOUR  # At night.
        await rig.take(flag())
        await rig.pass_time(11 * HOUR)
        rounds = Rounds(
            engine=engine, desk=rig.desk, metrics=rig.metrics, clock=rig.hands, wake=lambda: None
        )
        await rounds.look_once()
        post.deed = partial(erase, rig)
        await rig.send_all()
        await rig.pass_time(HOUR)
        await rig.send_all()
        assert len(post.taken) == 1
        assert "notices" not in await everything(rig)


async def test_views_and_notes_that_name_it_are_gone_and_no_note_comes_after(
    rig: Rig, api: httpx.AsyncClient
) -> None:
    await rig.take(account(), account(account_id="globex", name="Globex"))
    for name, query in (("Theirs", "q=acme%20LTD"), ("Acme Ltd", "band=watch"), ("Big", "q=glob")):
        saved = await api.post("/api/v1/views", json={"name": name, "query": query})
        assert saved.status_code == 200
    said = await api.post("/api/v1/accounts/acme/notes", json={"text": "Acme Ltd is merging"})
    assert said.status_code == 200
    await erase(rig)
    left = (await everything(rig)).casefold()
    for gone in ("acme ltd", "acme+ltd", "merging"):
        assert gone not in left
    views = (await api.get("/api/v1/views")).json()["views"]
    assert [(one["name"], one["query"]) for one in views] == [("Big", "q=glob")]
    rig.hands.now += 4 * HOUR
    late = await api.post("/api/v1/accounts/acme/notes", json={"text": "They were called Acme"})
    assert (late.status_code, late.json()["code"]) == (404, "unknown_account")
