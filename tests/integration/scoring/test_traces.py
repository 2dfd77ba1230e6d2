"""One event, step by step on real PostgreSQL: its trace is the same from request to message."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import queue
from services.notifier.composing import DeliveryKind, Planned
from services.notifier.domain.policy import NotifyReason
from services.notifier.tables import deliveries
from services.notifier.tables import outbox as notifier_outbox
from services.scoring.intake import Intake
from services.scoring.sweep import Sweep
from services.scoring.tables import dirty, flags, outbox
from shared import traceparent
from shared.log import Batch, StoredRecord, TopicPartition
from shared.log.postgres import PostgresLog
from shared.messages import (
    ACCOUNTS,
    DIRECTORY_CHANGES,
    FLAGS,
    OUTCOMES,
    USAGE_EVENTS,
    OutcomeKind,
    encode,
)
from shared.traceparent import HEADER, GoingOn, Traceparent
from tests.factories import NOW, batch_of, directory_change, usage_event
from tests.integration.notifier.rig import boss, flag, open_rig
from tests.integration.scoring.conftest import Time
from tests.integration.scoring.test_sweep import use
from tests.standins.mail import fake_mail
from tests.standins.slack import fake_slack
from tests.unit.ingest.api import NOW as INGEST_NOW
from tests.unit.ingest.api import open_api

A = Traceparent("00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-b7ad6b7169203331-01")
B = Traceparent("00-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-b7ad6b7169203331-00")
P0 = TopicPartition(USAGE_EVENTS, 0)
D0 = TopicPartition(DIRECTORY_CHANGES, 0)


def traced(batch: Batch, *traces: Traceparent | None, key: bytes = b"acme") -> Batch:
    """The same records, each with its trace and the key of an account."""
    records = [
        StoredRecord(
            offset=one.offset,
            key=key,
            value=one.value,
            headers=traceparent.headers_of(trace),
            appended_at=one.appended_at,
        )
        for one, trace in zip(batch.records, traces, strict=True)
    ]
    return Batch(partition=batch.partition, records=records, generation=1)


async def marks(engine: AsyncEngine) -> dict[str, list[str | None]]:
    async with engine.connect() as connection:
        rows = await connection.execute(select(dirty).order_by(dirty.c.id))
        found: dict[str, list[str | None]] = {}
        for row in rows:
            found.setdefault(row.account_id, []).append(row.traceparent)
        return found


async def rows_of(engine: AsyncEngine, topic: str) -> list[StoredRecord]:
    """What waits in scoring's outbox, as the relay would publish it."""
    async with engine.connect() as connection:
        rows = await connection.execute(
            select(outbox).where(outbox.c.topic == topic).order_by(outbox.c.id)
        )
        return [
            StoredRecord(
                offset=number,
                key=row.key,
                value=row.value,
                headers=msgspec.msgpack.decode(row.headers, type=tuple[tuple[str, bytes], ...]),
                appended_at=NOW,
            )
            for number, row in enumerate(rows)
        ]


def traces_of(records: Sequence[StoredRecord]) -> list[str | None]:
    found = [traceparent.of_headers(record.headers) for record in records]
    return [one and traceparent.trace_id(one) for one in found]


async def test_from_the_request_to_the_message(
    intake: Intake,
    sweep: Sweep,
    engine: AsyncEngine,
    owner: AsyncEngine,
    log: PostgresLog,
    time: Time,
    logged: Callable[[], str],
) -> None:
    trace = traceparent.trace_id(A)
    time.now = INGEST_NOW
    event = {"id": "e-1", "account_id": "acme", "type": "cancellation_requested"}
    async with open_api(log) as api:
        answer = await api.client.post(
            "/v1/events", json=event, headers={**api.key(), "traceparent": A}
        )
    assert answer.status_code == 200
    assert answer.headers["traceresponse"][3:35] == trace

    async with log.follow(USAGE_EVENTS) as consumer:
        [batch] = await consumer.fetch(max_records=10, wait=timedelta(seconds=5))
    [record] = batch.records
    said = traceparent.of_headers(record.headers)
    assert said is not None
    assert (said[3:35], said[-2:]) == (trace, "01")
    assert traceparent.span_id(said) != traceparent.span_id(A)  # ours, not the caller's

    await intake.take_in(batch, await intake.claim(batch.partition))
    assert await marks(engine) == {"acme": [said]}

    await sweep.round(time.now)
    told = await rows_of(engine, FLAGS)
    assert traces_of(told) == [trace]

    async with fake_mail() as mail, open_rig(owner, mail=mail) as rig:
        flags_in = Batch(partition=TopicPartition(FLAGS, 0), records=told, generation=1)
        await rig.intake_batch(flags_in)
        [row] = await rig.deliveries()
        assert row.traceparent[3:35] == trace
        assert await rig.send_all() == 1
        [letter] = mail.taken
        assert letter["X-Perennial-Trace"] == trace
    assert "delivery.sent" in logged()


async def test_a_mark_keeps_the_trace_of_the_first_new_event(
    intake: Intake, engine: AsyncEngine
) -> None:
    held = await intake.claim(P0)
    known = traced(batch_of([usage_event(id="known")]), B)
    await intake.take_in(known, held)
    events = [usage_event(id="known"), usage_event(id="first"), usage_event(id="second")]
    third = traced(batch_of(events, first=1), B, A, B)
    await intake.take_in(third, held.after(known))
    # The first of its batch is a repetition: it is not what is to be looked at.
    assert await marks(engine) == {"acme": [B, A]}


async def test_records_without_a_trace_or_with_a_broken_one_are_taken_in(
    intake: Intake, sweep: Sweep, engine: AsyncEngine, time: Time
) -> None:
    held = await intake.claim(P0)
    event = usage_event(type="cancellation_requested", occurred_at=NOW, client_at=NOW)
    plain = traced(batch_of([event]), None)
    broken = StoredRecord(
        offset=1,
        key=b"globex",
        value=encode(usage_event(account="globex", id="2", type="cancellation_requested")),
        headers=((HEADER, b"\xff\x00; DROP"),),
        appended_at=NOW,
    )
    both = Batch(partition=P0, records=[*plain.records, broken], generation=1)
    await intake.take_in(both, held)
    assert await marks(engine) == {"acme": [None], "globex": [None]}
    await sweep.round(time.now)
    # What has none is given one where it is first told.
    assert all(traces_of(await rows_of(engine, FLAGS)))


async def test_the_directory_goes_on_in_the_trace_of_its_change(
    intake: Intake, engine: AsyncEngine
) -> None:
    held = await intake.claim(D0)
    changes = batch_of([directory_change(), directory_change(op="erase")], partition=D0)
    await intake.take_in(traced(changes, B, A), held)
    assert traces_of(await rows_of(engine, ACCOUNTS)) == [traceparent.trace_id(A)]
    again = batch_of([directory_change(received_at=NOW + timedelta(days=1))], first=2, partition=D0)
    await intake.take_in(traced(again, B), held.after(changes))
    assert traces_of(await rows_of(engine, ACCOUNTS))[1:] == [traceparent.trace_id(B)]
    assert (await marks(engine))["acme"] == [B]


async def test_a_flag_by_the_clock_has_a_trace_of_its_own_which_the_storm_guard_keeps(
    intake: Intake, sweep: Sweep, engine: AsyncEngine, time: Time
) -> None:
    events = use("acme", *range(40))
    await intake.take_in(traced(batch_of(events), *[A] * len(events)), await intake.claim(P0))
    await sweep.round(time.now)
    time.now = NOW + timedelta(days=29)
    await sweep.round(time.now)
    [silent] = await rows_of(engine, FLAGS)
    [own] = traces_of([silent])
    assert own not in (None, traceparent.trace_id(A))
    async with engine.connect() as connection:
        # It waited in its row until the end of the round.
        kept = await connection.scalar(select(flags.c.traceparent))
    assert kept == traceparent.of_headers(silent.headers)


async def test_what_joins_a_waiting_message_is_linked_to_it(owner: AsyncEngine) -> None:
    planned = Planned(
        kind=DeliveryKind.SUMMARY,
        dedupe_key="one",
        group_key="summary:slack:webhook",
        channel="slack",
        destination="slack:webhook",
        recipient="",
        reason=NotifyReason.SUMMARY,
        due_at=NOW,
        traceparent=A,
    )
    async with owner.begin() as connection:
        for key, trace in (("one", A), ("two", B), ("three", B), ("four", A)):
            await queue.put(connection, replace(planned, dedupe_key=key, traceparent=trace))
    async with owner.connect() as connection:
        [row] = (await connection.execute(select(deliveries))).all()
    assert (row.traceparent, row.trace_links) == (A, [B])


async def test_who_closes_it_is_why_its_outcome_leaves(owner: AsyncEngine) -> None:
    async with fake_slack() as slack, open_rig(owner, slack=slack) as rig:
        await rig.intake_batch(
            traced(rig.batch(FLAGS, [flag(), flag(account="globex", flag_id="g")]), A, A)
        )
        opened = {row.account_id: row for row in await rig.interventions()}
        assert {row.traceparent for row in opened.values()} == {A}
        with GoingOn(B):  # a click
            await rig.steps.close(
                opened["acme"].id,
                version=None,
                outcome=OutcomeKind.SAVED,
                note="",
                by=boss("anna@vendor.example"),
            )
        async with owner.connect() as connection:
            [row] = (await connection.execute(select(notifier_outbox))).all()
    headers = msgspec.msgpack.decode(row.headers, type=tuple[tuple[str, bytes], ...])
    assert (row.topic, traceparent.of_headers(headers)) == (OUTCOMES, B)
