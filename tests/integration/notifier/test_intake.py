"""Flags and accounts in, one transaction per batch; out come work, history and deliveries."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import store
from services.notifier.domain.interventions import Assignment, take
from services.notifier.domain.signals import of_flag
from services.notifier.tables import accounts, log_positions, outbox, timeline
from shared.errors import InvalidMessage
from shared.log.positions import Fenced
from shared.messages import FLAGS, Band, Flag, FlagReason, OutcomeEvent, Stage, decode
from tests.integration.notifier.rig import FALLBACK, NOW, OWNER, Rig, account, flag
from tests.standins.slack import FakeSlack

HOUR = timedelta(hours=1)


async def entries(rig: Rig) -> list[str]:
    async with rig.engine.connect() as connection:
        return list(await connection.scalars(select(timeline.c.kind).order_by(timeline.c.id)))


async def outgoing(rig: Rig, topic: str) -> list[bytes]:
    async with rig.engine.connect() as connection:
        statement = select(outbox.c.value).where(outbox.c.topic == topic).order_by(outbox.c.id)
        return [bytes(value) for value in await connection.scalars(statement)]


async def test_a_flag_opens_an_intervention_with_owner_and_due_date(rig: Rig) -> None:
    await rig.take(account())
    await rig.take(flag())
    (row,) = await rig.interventions()
    assert (row.owner, row.status, row.severity) == (OWNER, "open", "at_risk")
    # Monday 14:00 in Paris + 3 working days = Thursday, 18:00 there = 16:00 UTC.
    assert row.due_at.isoformat() == "2026-06-04T16:00:00+00:00"
    assert await entries(rig) == ["opened"]
    assert {one.destination for one in await rig.deliveries()} == {
        "slack:webhook",
        f"email:{OWNER}",
    }


@pytest.mark.parametrize("owner", [None, "", "  "])
async def test_without_an_owner_the_fallback_acts(rig: Rig, owner: str | None) -> None:
    await rig.take(account(owner=owner))
    await rig.take(flag())
    (row,) = await rig.interventions()
    assert row.owner == FALLBACK


async def test_an_owner_without_a_mail_address_is_none(rig: Rig) -> None:
    await rig.take(account(owner="Anna Keller"))
    await rig.take(flag())
    (row,) = await rig.interventions()
    assert row.owner == FALLBACK
    assert f"email:{FALLBACK}" in {one.destination for one in await rig.deliveries()}


async def test_replays_and_repetitions_add_nothing(rig: Rig) -> None:
    history = [
        flag(),
        flag(),
        flag(change="updated", band=Band.CRITICAL, as_of=NOW + HOUR),
        flag(flag_id="b/1", account="b"),
    ]
    await rig.take(*history)
    before = (await rig.interventions(), await rig.deliveries(), await entries(rig))
    for _ in range(2):
        await rig.take(*history)
        await rig.take(*history[:2])
    assert (await rig.interventions(), await rig.deliveries(), await entries(rig)) == before
    assert rig.metrics.flags_consumed.labels("opened")._value.get() == 2


async def test_a_batch_is_taken_in_once_even_by_two_owners(rig: Rig) -> None:
    batch = rig.batch(FLAGS, [flag()])
    first = await rig.intake.claim(batch.partition)
    second = await rig.intake.claim(batch.partition)
    with pytest.raises(Fenced):
        await rig.intake.take_in(batch, first)
    assert await rig.interventions() == []
    await rig.intake.take_in(batch, second)
    with pytest.raises(Fenced):
        await rig.intake.take_in(batch, second)
    assert len(await rig.interventions()) == 1


async def test_two_opens_at_once_meet_in_the_index(engine: AsyncEngine) -> None:
    """Both saw nothing; the index lets one in, whatever the code believes."""
    assignment = Assignment(owner=OWNER, due_at=NOW)

    async def open_one(one: Flag) -> bool:
        _, subject = take(
            None, of_flag(one), new_id=uuid4(), assignment=assignment, account_lost=False, now=NOW
        )
        assert subject is not None
        async with engine.begin() as connection:
            await barrier.wait()
            return await store.add(connection, subject)

    barrier = asyncio.Barrier(2)
    opened = await asyncio.gather(open_one(flag()), open_one(flag(flag_id="acme/other")))
    assert Counter(opened) == {True: 1, False: 1}


async def test_two_replicas_taking_the_same_account_make_one_intervention(rig: Rig) -> None:
    """Two partitions at once stand for an account that moved between them."""
    first, second = (
        rig.batch(FLAGS, [flag(flag_id=f"acme/{n}", as_of=NOW + n * HOUR)]) for n in (1, 2)
    )
    second = replace(second, partition=second.partition._replace(partition=1))
    async with rig.engine.begin() as connection:
        await connection.execute(
            log_positions.insert().values(
                topic=FLAGS, partition=1, next_offset=second.first, epoch=0
            )
        )
    await asyncio.gather(rig.intake_batch(first), rig.intake_batch(second))
    assert len(await rig.interventions()) == 1
    assert len(await rig.deliveries()) == 2


async def test_each_account_type_and_reason_has_its_own(rig: Rig) -> None:
    await rig.take(
        flag(),
        flag(flag_id="acme/s", reason=FlagReason.GONE_SILENT, stage=Stage.ADOPT),
        flag(flag_id="b/1", account="b"),
    )
    assert len(await rig.interventions()) == 3


async def test_cleared_before_anybody_acted_closes_it_and_tells_scoring(rig: Rig) -> None:
    await rig.take(flag())
    await rig.take(flag(change="cleared", as_of=NOW + HOUR))
    (row,) = await rig.interventions()
    assert (row.status, row.outcome, row.closed_by) == ("closed", "no_action_needed", "system")
    (value,) = await outgoing(rig, "outcomes")
    event = decode(OutcomeEvent, value)
    assert (event.data.by, event.data.outcome, event.data.episode) == (
        "system",
        "no_action_needed",
        1,
    )
    assert event.subject == "acme"
    assert await entries(rig) == ["opened", "closed"]


async def test_raised_again_soon_reopens_the_same_row_as_a_new_episode(
    rig: Rig, slack: FakeSlack
) -> None:
    await rig.take(flag())
    await rig.send_all()
    await rig.take(flag(change="cleared", as_of=NOW + HOUR))
    await rig.send_all()
    again = NOW + 2 * HOUR
    await rig.take(flag(flag_id="acme/2", episode=2, raised_at=again, as_of=again))
    (row,) = await rig.interventions()
    assert (row.status, row.episode, row.outcome) == ("open", 2, None)
    await rig.send_all()
    to_slack = [row.reason for row in await rig.deliveries() if row.channel == "slack"]
    assert to_slack == ["first", "recovered", "first"]
    assert len(slack.posted) == 3


async def test_flapping_before_anybody_is_told_of_the_end_is_quiet(
    rig: Rig, slack: FakeSlack
) -> None:
    await rig.take(flag())
    await rig.send_all()
    again = NOW + 2 * HOUR
    await rig.take(flag(change="cleared", as_of=NOW + HOUR))
    await rig.take(flag(flag_id="acme/2", episode=2, raised_at=again, as_of=again))
    await rig.send_all()
    assert len(slack.posted) == 1


async def test_a_lost_account_is_neither_told_nor_called_fine(rig: Rig, slack: FakeSlack) -> None:
    await rig.take(flag())
    await rig.take(account(status="churned"))
    await rig.take(flag(change="cleared", as_of=NOW + HOUR))
    await rig.send_all()
    (row,) = await rig.interventions()
    assert row.status == "open"
    assert slack.posted == []
    assert "inhibited" in {one.suppress_reason for one in await rig.deliveries()}
    assert "account_lost" in await entries(rig)


async def test_a_changed_owner_moves_to_open_interventions_only(rig: Rig) -> None:
    await rig.take(account())
    await rig.take(flag(), flag(flag_id="acme/s", reason=FlagReason.GONE_SILENT, stage=Stage.ADOPT))
    await rig.take(
        flag(
            flag_id="acme/s",
            reason=FlagReason.GONE_SILENT,
            stage=Stage.ADOPT,
            change="cleared",
            as_of=NOW + HOUR,
        )
    )
    await rig.take(account(owner="ben@vendor.example"))
    owners = {row.reason: row.owner for row in await rig.interventions()}
    assert owners == {"churn_risk": "ben@vendor.example", "gone_silent": OWNER}
    assert (await entries(rig)).count("owner_changed") == 1


async def test_an_older_account_record_changes_nothing(rig: Rig) -> None:
    await rig.take(account(name="New"))
    await rig.take(msgspec.structs.replace(account(name="Old"), updated_at=NOW - HOUR))
    async with rig.engine.connect() as connection:
        assert await connection.scalar(select(accounts.c.name)) == "New"


async def test_the_last_of_several_records_counts_and_a_tombstone_forgets(rig: Rig) -> None:
    await rig.take(account(name="First"), account(name="Second"), account(account_id="b"))
    async with rig.engine.connect() as connection:
        names = await connection.execute(select(accounts.c.account_id, accounts.c.name))
        assert {row.account_id: row.name for row in names} == {"acme": "Second", "b": "Acme Ltd"}
    await rig.intake_batch(rig.raw_batch("accounts", [None], key=b"acme"))
    async with rig.engine.connect() as connection:
        names = await connection.execute(select(accounts.c.account_id, accounts.c.name))
        assert {row.account_id: row.name for row in names} == {"acme": None, "b": "Acme Ltd"}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="no JSON"),
        pytest.param(b'{"id":"1"}', id="fields missing"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(None, id="tombstone"),
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
async def test_poison_is_refused_and_set_aside_with_its_reason(
    rig: Rig, value: bytes | None
) -> None:
    batch = rig.raw_batch(FLAGS, [value])
    held = await rig.intake.claim(batch.partition)
    with pytest.raises(InvalidMessage) as caught:
        await rig.intake.take_in(batch, held)
    await rig.intake.set_aside(batch, held, caught.value)
    async with rig.engine.connect() as connection:
        (row,) = (await connection.execute(select(outbox))).all()
        position = await connection.scalar(select(log_positions.c.next_offset))
    assert (row.topic, row.key, row.value) == ("rejected", b"acme", value)
    headers = dict(msgspec.msgpack.decode(row.headers, type=tuple[tuple[str, bytes], ...]))
    assert headers["__connect.errors.topic"] == b"flags"
    assert headers["__connect.errors.offset"] == b"0"
    assert headers["perennial.code"] == b"invalid_message"
    assert position == 1


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(flag(account=""), id="no account"),
        pytest.param(flag(account="x" * 501), id="endless account"),
        pytest.param(flag(account="a\0b"), id="NUL"),
        pytest.param(flag(episode=-1), id="episode"),
        pytest.param(flag(episode=2**40), id="huge episode"),
        pytest.param(flag(as_of=NOW.replace(tzinfo=None)), id="no zone"),
    ],
)
async def test_a_flag_that_cannot_be_stored_is_refused(rig: Rig, one: Flag) -> None:
    with pytest.raises(InvalidMessage):
        await rig.take(one)
    assert await rig.interventions() == []


async def test_hostile_texts_are_stored_as_they_are(rig: Rig, slack: FakeSlack) -> None:
    name = '<!channel> & "x"\r\nBcc:'
    await rig.take(account(name=name, owner="anna@vendor.example\r\nBcc: x@y"))
    await rig.take(flag(summary=name))
    await rig.send_all()
    assert len(slack.posted) == 1
    assert "<!" not in str(slack.posted)
