"""Outcomes of interventions, taken in as labels: once, by the highest revision, until erased."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.intake import TOPICS, Intake
from services.scoring.tables import outbox, outcomes
from shared.log import TopicPartition
from shared.messages import (
    DIRECTORY_CHANGES,
    OUTCOMES,
    REJECTED,
    AccountFields,
    FlagReason,
    Outcome,
    OutcomeEvent,
    OutcomeKind,
)
from tests.factories import NOW, batch_of, directory_change

O0 = TopicPartition(OUTCOMES, 0)
D0 = TopicPartition(DIRECTORY_CHANGES, 0)


def outcome(**changes: Any) -> OutcomeEvent:
    one = msgspec.structs.replace(
        Outcome(
            intervention_id="7",
            account="acme",
            type="risk",
            reason=FlagReason.CHURN_RISK,
            episode=1,
            revision=1,
            outcome=OutcomeKind.SAVED,
            by="person",
            closed_at=NOW,
            risk_at_open=0.4,
        ),
        **changes,
    )
    return OutcomeEvent(
        id=f"{one.intervention_id}:{one.episode}:{one.revision}",
        source="/perennial/notifier",
        type="dev.perennial.intervention.closed",
        subject=one.account,
        time=one.closed_at,
        data=one,
    )


async def take(intake: Intake, messages: Sequence[msgspec.Struct | bytes]) -> None:
    held = await intake.claim(O0)
    await intake.take_in(batch_of(messages, first=held.next_offset, partition=O0), held)


async def known(engine: AsyncEngine) -> list[tuple[str, str, int, int, str]]:
    columns = outcomes.c
    async with engine.connect() as connection:
        rows = await connection.execute(
            select(
                columns.account_id,
                columns.intervention_id,
                columns.episode,
                columns.revision,
                columns.outcome,
            ).order_by(columns.account_id, columns.intervention_id, columns.episode)
        )
        return [tuple(row) for row in rows]


def test_scoring_listens_to_outcomes() -> None:
    assert OUTCOMES in TOPICS


async def test_the_highest_revision_counts_whatever_the_order(
    intake: Intake, engine: AsyncEngine
) -> None:
    corrected = outcome(revision=2, outcome=OutcomeKind.CHURNED)
    await take(intake, [corrected, outcome()])
    assert await known(engine) == [("acme", "7", 1, 2, "churned")]
    await take(intake, [outcome()])
    assert await known(engine) == [("acme", "7", 1, 2, "churned")]
    await take(intake, [corrected])
    assert await known(engine) == [("acme", "7", 1, 2, "churned")]
    await take(intake, [outcome(revision=3, outcome=OutcomeKind.FALSE_ALARM)])
    assert await known(engine) == [("acme", "7", 1, 3, "false_alarm")]


async def test_episodes_and_interventions_are_apart(intake: Intake, engine: AsyncEngine) -> None:
    await take(intake, [outcome(), outcome(episode=2), outcome(intervention_id="8")])
    assert [row[1:3] for row in await known(engine)] == [("7", 1), ("7", 2), ("8", 1)]


async def test_what_cannot_be_read_goes_to_quarantine_and_stops_nothing(
    intake: Intake, engine: AsyncEngine
) -> None:
    await take(intake, [b"not JSON", outcome()])
    assert len(await known(engine)) == 1
    async with engine.connect() as connection:
        topics = (await connection.execute(select(outbox.c.topic))).scalars().all()
    assert topics == [REJECTED]


async def test_an_erased_account_has_no_outcomes_and_gets_no_older_ones(
    intake: Intake, engine: AsyncEngine
) -> None:
    await take(intake, [outcome(), outcome(account="beta")])
    held = await intake.claim(D0)
    erase = directory_change(op="erase", received_at=NOW, fields=AccountFields())
    await intake.take_in(batch_of([erase], first=held.next_offset, partition=D0), held)
    assert [row[0] for row in await known(engine)] == ["beta"]
    await take(intake, [outcome(revision=2)])  # Closed before the erasure, told after it.
    assert [row[0] for row in await known(engine)] == ["beta"]
    await take(intake, [outcome(revision=3, closed_at=NOW + timedelta(days=1))])
    assert [row[0] for row in await known(engine)] == ["acme", "beta"]
