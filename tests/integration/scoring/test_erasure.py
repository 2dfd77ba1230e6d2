"""Erasing on real PostgreSQL: what is gone stays gone, whatever is read again, in any order."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest
from sqlalchemy import Executable, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import erasure_store
from services.scoring.domain.activity import user_key
from services.scoring.intake import Intake
from services.scoring.store import SHARDS, shard_of
from services.scoring.sweep import Sweep
from services.scoring.tables import (
    account_day,
    account_features,
    account_past,
    accounts,
    dirty,
    erased_accounts,
    feature_rows,
    flag_states,
    flags,
    metadata,
    outbox,
    outcomes,
    scores,
)
from shared.lifecycle import Frame
from shared.log import TopicPartition
from shared.messages import (
    ACCOUNTS,
    DIRECTORY_CHANGES,
    ERASURE,
    FLAGS,
    OUTCOMES,
    USAGE_EVENTS,
    AccountFields,
    AccountRecord,
    DirectoryChange,
    Erasure,
    FlagEvent,
    FlagReason,
    Outcome,
    OutcomeEvent,
    OutcomeKind,
    PlacedBy,
    UsageEvent,
    decode,
)
from tests.factories import NOW, batch_of, directory_change, usage_event
from tests.integration.scoring.conftest import Time

P0 = TopicPartition(USAGE_EVENTS, 0)
D0 = TopicPartition(DIRECTORY_CHANGES, 0)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
USER = "u1:0123456789abcdef0123456789abcdef"
KEPT = {"erased_accounts", "erased_users", "seen_events"}
"""What must stay so that the account stays erased, whatever is read again."""
ERASE = directory_change(op="erase", received_at=NOW, fields=AccountFields())


async def take(intake: Intake, messages: Sequence[UsageEvent | DirectoryChange]) -> None:
    """The next records of a partition, by whoever owns it now."""
    partition = P0 if isinstance(messages[0], UsageEvent) else D0
    held = await intake.claim(partition)
    await intake.take_in(batch_of(messages, first=held.next_offset, partition=partition), held)


async def days(engine: AsyncEngine) -> dict[str, list[tuple[int, list[int]]]]:
    """Per account the events and users of its days, in the order of the days."""
    found: dict[str, list[tuple[int, list[int]]]] = {}
    async with engine.connect() as connection:
        for row in await connection.execute(select(account_day).order_by(account_day.c.day)):
            found.setdefault(row.account_id, []).append((row.events, row.users))
    return found


async def known(engine: AsyncEngine) -> dict[str, dict[str, object]]:
    async with engine.connect() as connection:
        rows = await connection.execute(select(accounts.c.account_id, accounts.c.fields))
        return {row.account_id: row.fields for row in rows}


async def sent(engine: AsyncEngine, topic: str) -> list[tuple[bytes, bytes | None, bytes]]:
    async with engine.connect() as connection:
        rows = await connection.execute(
            select(outbox).where(outbox.c.topic == topic).order_by(outbox.c.id)
        )
        return [(row.key, row.value, row.headers) for row in rows]


def before(**changes: object) -> UsageEvent:
    return usage_event(received_at=NOW - SECOND, **changes)


def after(**changes: object) -> UsageEvent:
    # A day of its own: what an erased day and a later one share is not known.
    return usage_event(**{"received_at": NOW + SECOND, "occurred_at": NOW, **changes})


async def test_nothing_is_left_of_an_erased_account(
    intake: Intake, engine: AsyncEngine, sweep: Sweep, time: Time
) -> None:
    for account in ("acme", "globex"):
        ticket = before(id="t", account=account, type="support_ticket")
        await take(
            intake, [before(account=account), ticket, before(id="g", account=account, type="group")]
        )
        await take(intake, [directory_change(account=account)])
    await sweep.maintain_when_due(time.now)
    await sweep.round(time.now)
    async with engine.begin() as connection:
        for account in ("acme", "globex"):
            for row in _rows(account):
                await connection.execute(row)
        await connection.execute(text("DELETE FROM scoring.outbox"))
    await take(intake, [before(id="waits for the sweep")])

    await take(intake, [ERASE])

    async with engine.connect() as connection:
        for table in metadata.sorted_tables:
            if "account_id" in table.c and table.name not in KEPT:
                left = await connection.scalars(select(table.c.account_id))
                assert set(left) == ({"globex"} if table is not dirty else set()), table.name
    ((key, value, headers),) = await sent(engine, ACCOUNTS)
    assert (key, value) == (b"acme", None)
    ((name, said),) = msgspec.msgpack.decode(headers, type=tuple[tuple[str, bytes], ...])
    assert name == ERASURE
    assert decode(Erasure, said) == Erasure(erased_at=NOW, flags_until=NOW)
    ((key, value, _),) = await sent(engine, FLAGS)
    cleared = decode(FlagEvent, value)
    assert (key, cleared.type, cleared.data.account) == (b"acme", "perennial.flag.cleared", "acme")
    assert (cleared.data.flag_id, cleared.data.as_of, cleared.data.summary) == ("f-acme", NOW, "")
    assert await sweep.round(time.now) == 0


async def test_a_replay_from_the_start_of_the_log_brings_nothing_back(
    intake: Intake, engine: AsyncEngine, owner: AsyncEngine, frame: Frame
) -> None:
    events = [before(), before(id="e-2", account="globex")]
    changes = [directory_change(), ERASE]
    await take(intake, events)
    await take(intake, changes)
    async with owner.begin() as connection:
        await connection.execute(
            text("TRUNCATE scoring.log_positions, scoring.seen_events, scoring.outbox")
        )

    await take(intake, changes)
    await take(intake, [before(), before(id="never seen")])

    assert list(await days(engine)) == ["globex"]
    assert await known(engine) == {}
    assert await sent(engine, ACCOUNTS) == []
    value = frame.registry.get_sample_value
    assert value("perennial_events_total", {"result": "erased"}) == 2
    assert value("perennial_directory_changes_total", {"result": "erased"}) == 2


@pytest.mark.parametrize("erased_first", [True, False], ids=["erasure first", "events first"])
async def test_events_and_erasure_may_come_in_either_order(
    intake: Intake, engine: AsyncEngine, *, erased_first: bool
) -> None:
    events = [before(), before(id="e-2", occurred_at=NOW - 9 * DAY), after(id="e-3")]
    if erased_first:
        await take(intake, [ERASE])
    await take(intake, events)
    if not erased_first:
        await take(intake, [ERASE])
    assert await days(engine) == {"acme": [(1, [user_key(USER)])]}
    async with engine.connect() as connection:
        marked = await connection.scalars(select(dirty.c.account_id))
        assert set(marked) == {"acme"}


async def test_what_was_placed_is_erased_by_the_account_that_was_found(
    intake: Intake, engine: AsyncEngine
) -> None:
    """And by when it was received, however long it has waited; its person is looked for too."""
    placed = PlacedBy.ONLY_ACCOUNT
    erase = directory_change(account="globex", op="erase", user=USER, fields=AccountFields())
    await take(intake, [ERASE, erase])
    await take(
        intake,
        [
            before(id="1", placed_by=placed),
            after(id="2", placed_by=placed),
            after(id="3", account="globex", placed_by=placed),
        ],
    )
    assert await days(engine) == {"acme": [(1, [user_key(USER)])], "globex": [(1, [])]}


async def test_a_later_change_starts_the_account_afresh_in_the_same_batch(
    intake: Intake, engine: AsyncEngine
) -> None:
    again = directory_change(
        received_at=NOW + SECOND, fields=AccountFields(plan="pro"), cleared=("seats",)
    )
    await take(intake, [directory_change(), ERASE, again])
    assert await known(engine) == {"acme": {"plan": "pro"}}
    (_, gone, _), (_, value, _) = await sent(engine, ACCOUNTS)
    assert gone is None
    assert decode(AccountRecord, value).fields == AccountFields(plan="pro")


async def test_an_erasure_of_what_was_never_known_is_remembered(
    intake: Intake, engine: AsyncEngine
) -> None:
    await take(intake, [ERASE])
    await take(intake, [before()])
    assert await days(engine) == {}


@pytest.mark.parametrize(
    ("account", "kept"), [("acme", ["globex"]), ("", [])], ids=["in one account", "in all"]
)
async def test_an_erased_person_is_taken_out_of_every_day(
    intake: Intake, engine: AsyncEngine, account: str, kept: list[str]
) -> None:
    erase = directory_change(account=account, op="erase", user=USER, fields=AccountFields())
    events = [
        usage_event(id=f"e-{number}", account=name, user=user, occurred_at=NOW - number * 40 * DAY)
        for number, user in enumerate([USER, USER, "u1:other"])
        for name in ("acme", "globex")
    ]
    await take(intake, events)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM scoring.dirty"))
    await take(intake, [erase])
    await take(intake, [erase])
    # An event of that person, new or read again, counts without a user.
    later = [usage_event(id="later", account=name, occurred_at=NOW) for name in ("acme", "globex")]
    await take(intake, later)

    found = await days(engine)
    other, person = user_key("u1:other"), user_key(USER)
    for name in ("acme", "globex"):
        mine = [person] if name in kept else []
        # e-0 and the later event are of the same day.
        assert found[name] == [(1, [other]), (1, mine), (2, mine)]
    async with engine.connect() as connection:
        marked = set(await connection.scalars(select(dirty.c.account_id)))
    # The erasure marks whom it changes; the later event changes nobody, as the day was active.
    assert marked == {"acme", "globex"} - set(kept)


async def test_an_event_being_taken_in_does_not_outlive_the_erasure(
    intake: Intake, engine: AsyncEngine
) -> None:
    """Both at once, as by two replicas: whoever is second sees the first."""
    for number in range(5):
        erase = msgspec.structs.replace(ERASE, account=f"a{number}")
        event = before(id=f"e-{number}", account=f"a{number}")
        await asyncio.gather(take(intake, [event]), take(intake, [erase]))
    assert await days(engine) == {}


async def test_an_erasure_waits_for_the_sweep_that_holds_the_account(
    intake: Intake, engine: AsyncEngine
) -> None:
    async with engine.begin() as sweeping:
        await sweeping.execute(
            text(
                "SELECT pg_advisory_xact_lock(hashtext('scoring.sweep'), g) FROM"
                f" generate_series(0, {SHARDS - 1}) AS g"
            )
        )
        erasing = asyncio.create_task(take(intake, [ERASE]))
        await _until_somebody_waits(engine)
        assert not erasing.done()
        async with asyncio.timeout(3):  # Intake does not wait for it meanwhile.
            await take(intake, [before(account="globex")])
        await sweeping.execute(
            insert(scores).values(
                account_id="acme",
                shard=shard_of("acme"),
                as_of=NOW,
                state="scored",
                short_history=False,
                latched=0,
                band_since=NOW,
                columns="",
                indicators=b"",
                cohort_ratio=1,
            )
        )
    await erasing
    async with engine.connect() as connection:
        assert (await connection.execute(select(scores.c.account_id))).all() == []


async def test_an_outcome_that_comes_during_an_erasure_waits_for_its_end(
    intake: Intake, engine: AsyncEngine
) -> None:
    partition = TopicPartition(OUTCOMES, 0)
    held = await intake.claim(partition)
    closed = OutcomeEvent(
        id="7:1:1",
        source="/perennial/notifier",
        type="dev.perennial.intervention.closed",
        subject="acme",
        time=NOW,
        data=Outcome(
            intervention_id="7",
            account="acme",
            type="risk",
            reason=FlagReason.CHURN_RISK,
            episode=1,
            revision=1,
            outcome=OutcomeKind.SAVED,
            by="person",
            closed_at=NOW,
        ),
    )
    async with engine.begin() as erasing:
        await erasure_store.hold_off_events(erasing)
        taking = asyncio.create_task(intake.take_in(batch_of([closed], partition=partition), held))
        await _until_somebody_waits(engine)
        await erasing.execute(insert(erased_accounts).values(account_id="acme", erased_at=NOW))
    await taking
    async with engine.connect() as connection:
        assert (await connection.execute(select(outcomes.c.account_id))).all() == []


async def _until_somebody_waits(engine: AsyncEngine) -> None:
    async with asyncio.timeout(10):
        while True:
            async with engine.connect() as connection:
                waiting = await connection.scalar(
                    text(
                        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                        " AND database = (SELECT oid FROM pg_database"
                        " WHERE datname = current_database())"
                    )
                )
            if waiting:
                return
            await asyncio.sleep(0.01)


def _rows(account: str) -> Sequence[Executable]:
    """One row of each kind that nothing else in the test makes."""
    of_shard = {"account_id": account, "shard": shard_of(account)}
    return (
        _flag(account),
        insert(account_past).values(first_day=NOW, last_day=NOW, active_days=1, **of_shard),
        insert(account_features).values(account_id=account, features=["reports"]),
        insert(flag_states).values(reason="churn_risk", episode=1, **of_shard),
        insert(feature_rows).values(
            account_id=account,
            as_of=NOW,
            kind="band_change",
            columns="",
            indicators=b"",
            directory={},
        ),
        insert(outcomes).values(
            account_id=account,
            intervention_id="i",
            episode=1,
            revision=1,
            reason="churn_risk",
            outcome="saved",
            closed_by="person",
            closed_at=NOW,
        ),
    )


def _flag(account: str) -> Executable:
    return insert(flags).values(
        account_id=account,
        reason="churn_risk",
        episode=1,
        flag_id=f"f-{account}",
        stage="renew",
        raised_at=NOW - DAY,
        updated_at=NOW - SECOND,
        told_at=NOW - DAY,
        summary="Acme may leave",
    )
