"""What time does to stored work, what people feel, and accounts that leave and return."""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import sentiments
from services.notifier.domain.refusals import Refusal
from services.notifier.domain.sentiments import Mood, Sentiment
from services.notifier.intervention_rows import AnyRow
from services.notifier.stepping import NotTaken
from services.notifier.tables import outbox, timeline
from shared.messages import (
    AccountRecord,
    FlagReason,
    OutcomeEvent,
    OutcomeKind,
    Stage,
    ValueAtRisk,
    decode,
)
from tests.integration.notifier.rig import NOW, OWNER, Rig, account, boss, flag, open_rig

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SILENT = {"flag_id": "acme/s", "reason": FlagReason.GONE_SILENT, "stage": Stage.ADOPT}


@pytest.fixture
async def rig(engine: AsyncEngine) -> AsyncIterator[Rig]:
    """Nobody is told anything here."""
    async with open_rig(engine) as opened:
        yield opened


async def kinds(rig: Rig) -> list[str]:
    async with rig.engine.connect() as connection:
        statement = select(timeline.c.kind).order_by(timeline.c.id)
        return list(await connection.scalars(statement.where(timeline.c.kind != "suppressed")))


async def outcomes_of(rig: Rig) -> list[OutcomeEvent]:
    async with rig.engine.connect() as connection:
        statement = select(outbox.c.value).where(outbox.c.topic == "outcomes").order_by(outbox.c.id)
        return [decode(OutcomeEvent, value) for value in await connection.scalars(statement)]


async def by_reason(rig: Rig) -> dict[str, AnyRow]:
    return {row.reason: row for row in await rig.interventions()}


async def open_one(rig: Rig) -> UUID:
    await rig.take(account())
    await rig.take(flag())
    (row,) = await rig.interventions()
    return UUID(str(row.id))


def at(days: float, **fields: object) -> AccountRecord:
    """The account's record so many days after the first."""
    return msgspec.structs.replace(account(**fields), updated_at=NOW + days * DAY)


async def test_a_snooze_over_what_was_cleared_closes_it_quietly(rig: Rig) -> None:
    one = await open_one(rig)
    await rig.steps.snooze(one, version=1, until=NOW + 5 * DAY, reason="ill", by=boss("anna"))
    await rig.take(flag(change="cleared", as_of=NOW + HOUR))
    await rig.pass_time(5 * DAY - HOUR)
    (row,) = await rig.interventions()
    assert (row.status, row.recovered_at) == ("open", NOW)
    await rig.pass_time(HOUR)
    (row,) = await rig.interventions()
    assert (row.status, row.outcome, row.closed_by) == ("closed", "no_action_needed", "system")
    assert [event.data.by for event in await outcomes_of(rig)] == ["system"]
    assert await kinds(rig) == ["opened", "snoozed", "recovered", "closed"]


async def test_a_snooze_over_what_still_stands_is_told_of_once(rig: Rig) -> None:
    one = await open_one(rig)
    await rig.steps.snooze(one, version=1, until=NOW + 5 * DAY, reason="ill", by=boss("anna"))
    for _ in range(3):
        await rig.pass_time(5 * DAY)
    (row,) = await rig.interventions()
    assert (row.status, row.snooze_ended_at) == ("open", NOW + 5 * DAY)
    assert await kinds(rig) == ["opened", "snoozed", "snooze_ended"]


async def test_work_that_nobody_touches_is_open_again_in_a_new_round(rig: Rig) -> None:
    one = await open_one(rig)
    await rig.steps.acknowledge(one, version=1, by=boss("anna"))
    # Seven working days after Monday, 1 June, 12:00 are Wednesday, 10 June, 12:00.
    await rig.pass_time(9 * DAY - HOUR)
    assert (await rig.interventions())[0].status == "acknowledged"
    await rig.pass_time(HOUR)
    (row,) = await rig.interventions()
    assert (row.status, row.round, row.round_began_at) == ("open", 2, NOW + 9 * DAY)
    assert (await kinds(rig))[-1] == "unacknowledged"


async def test_two_replicas_that_look_at_once_let_a_snooze_end_once(rig: Rig) -> None:
    one = await open_one(rig)
    await rig.steps.snooze(one, version=1, until=NOW + DAY, reason="ill", by=boss("anna"))
    rig.hands.now += DAY
    await rig.clockwork.look_once()
    await rig.clockwork.look_once()
    assert (await kinds(rig)).count("snooze_ended") == 1


async def test_the_priority_follows_the_days_and_the_version_stays(rig: Rig) -> None:
    await rig.take(account(contract_end=date(2026, 12, 1), notice_days=93))
    await rig.take(
        flag(value_at_risk=ValueAtRisk(amount=Decimal(1000), currency="EUR", basis="mrr"))
    )
    (row,) = await rig.interventions()
    # Notice by 30 August, in 90 days: 1.5 x 1,000 x (1 + 2 x (1 - 90/180)).
    assert (row.notice_by, row.priority, row.version) == (date(2026, 8, 30), 3000, 1)
    await rig.pass_time(9 * DAY)
    (row,) = await rig.interventions()
    # 81 days: 1,500 x (1 + 2 x (1 - 81/180)).
    assert (row.priority, row.version) == (pytest.approx(1500 * 2.1), 1)
    await rig.take(at(9, contract_end=date(2026, 12, 1), notice_days=174))
    (row,) = await rig.interventions()
    # Notice by today: 1,500 x 3.
    assert (row.notice_by, row.priority) == (NOW.date() + 9 * DAY, 4500)


async def test_an_owners_work_is_read_from_an_index_in_its_order(rig: Rig) -> None:
    await open_one(rig)
    page = (
        "EXPLAIN SELECT id FROM notifier.interventions WHERE status <> 'closed' AND owner = 'a'"
        " AND (priority, id) < (5, '00000000-0000-4000-8000-000000000000')"
        " ORDER BY priority DESC, id LIMIT 50"
    )
    async with rig.engine.begin() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        await connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        plan = "\n".join(str(row[0]) for row in await connection.execute(text(page)))
    assert "open_interventions_by_owner" in plan
    assert "Sort" not in plan


@pytest.mark.parametrize(
    ("index", "columns"),
    [
        (
            "open_interventions_by_owner",
            (
                "owner, id, priority, type, reason, status, severity, held_out, due_at, opened_at,"
                " recovered_at, snoozed_until, snooze_ended_at"
            ),
        ),
        (
            "one_open_intervention",
            "account_id, severity, held_out, value_amount, value_currency",
        ),
    ],
)
async def test_open_work_is_counted_and_summed_without_reading_rows(
    rig: Rig, index: str, columns: str
) -> None:
    await open_one(rig)
    query = (
        f"EXPLAIN SELECT {columns} FROM notifier.interventions WHERE status <> 'closed' ORDER BY 1"
    )
    async with rig.engine.begin() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        await connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        plan = "\n".join(str(row[0]) for row in await connection.execute(text(query)))
    assert f"Index Only Scan using {index}" in plan


async def say(rig: Rig, mood: Mood, *, days: int = 30, key: str | None = None) -> Sentiment:
    said = await rig.steps.say(
        "acme",
        mood=mood,
        note="They are angry",
        expires_at=rig.hands.now + days * DAY,
        by=boss("anna"),
        key=key,
    )
    assert isinstance(said, Sentiment), said
    return said


async def test_a_bad_sentiment_is_work_and_stands_beside_the_risk(rig: Rig) -> None:
    await open_one(rig)
    said = await say(rig, Mood.BAD, key="form-1")
    assert await say(rig, Mood.BAD, key="form-1") == said
    rows = await by_reason(rig)
    assert set(rows) == {"churn_risk", "sentiment"}
    mine = rows["sentiment"]
    assert (mine.type, mine.owner, mine.summary, mine.risk) == (
        "adopt",
        OWNER,
        "They are angry",
        None,
    )
    assert rows["churn_risk"].version == 1
    async with rig.engine.connect() as connection:
        assert await sentiments.history(connection, "acme") == [said]
        assert await sentiments.holding(connection, "acme", now=NOW) == said
        assert await sentiments.holding(connection, "acme", now=NOW + 30 * DAY) is None
    assert await kinds(rig) == ["opened", "sentiment", "opened"]


@pytest.mark.parametrize("mood", [Mood.GOOD, Mood.NEUTRAL])
async def test_a_better_one_ends_it_and_says_nothing(rig: Rig, mood: Mood) -> None:
    await rig.take(account())
    await say(rig, Mood.BAD)
    rig.hands.now += DAY
    await say(rig, mood)
    (row,) = await rig.interventions()
    assert (row.status, row.outcome) == ("closed", "no_action_needed")


async def test_a_bad_sentiment_expires_by_itself(rig: Rig) -> None:
    await rig.take(account())
    await say(rig, Mood.BAD)
    await rig.pass_time(30 * DAY - HOUR)
    assert (await rig.interventions())[0].status == "open"
    await rig.pass_time(HOUR)
    assert (await rig.interventions())[0].status == "closed"


@pytest.mark.parametrize(
    ("account_id", "note", "days", "refusal"),
    [
        pytest.param("nobody", "x", 30, Refusal.UNKNOWN, id="no such account"),
        pytest.param("acme", " \0", 30, Refusal.NOTE_MISSING, id="bad, and no word why"),
        pytest.param("acme", "x", 0, Refusal.PAST, id="expired as it is said"),
        pytest.param("acme", "x", 367, Refusal.TOO_LONG, id="for ever"),
    ],
)
async def test_a_sentiment_is_refused(
    rig: Rig, account_id: str, note: str, days: int, refusal: Refusal
) -> None:
    await rig.take(account())
    said = await rig.steps.say(
        account_id, mood=Mood.BAD, note=note, expires_at=NOW + days * DAY, by=boss("anna"), key="k"
    )
    assert said == NotTaken(refusal=refusal)
    assert await rig.interventions() == []
    assert await kinds(rig) == []


async def test_an_account_that_leaves_is_to_be_won_back_once(rig: Rig) -> None:
    await rig.take(account())
    await rig.take(flag())
    lost = at(1, status="churned", churned_at=date(2026, 6, 1))
    for _ in range(2):
        await rig.take(lost)
        await rig.take(at(2, status="churned", churned_at=date(2026, 6, 1), seats=3))
    rows = await by_reason(rig)
    assert {reason: row.status for reason, row in rows.items()} == {
        "churn_risk": "open",
        "account_lost": "open",
    }
    mine = rows["account_lost"]
    assert (mine.type, mine.owner, mine.severity) == ("win_back", OWNER, "watch")
    assert mine.summary == "Left on 2026-06-01."
    assert await kinds(rig) == ["opened", "account_lost", "opened"]

    closed = await rig.steps.close(
        UUID(str(mine.id)), version=1, outcome=OutcomeKind.CHURNED, note="Gone", by=boss("anna")
    )
    assert not isinstance(closed, NotTaken)
    await rig.take(at(3, status="churned", churned_at=date(2026, 6, 1), seats=2))
    assert (await by_reason(rig))["account_lost"].status == "closed"


async def test_an_account_that_comes_back_needs_no_winning(rig: Rig) -> None:
    await rig.take(account())
    await rig.take(flag(), flag(**SILENT))
    await rig.take(at(1, status="churned"))
    await rig.take(flag(change="cleared", as_of=NOW + DAY))
    assert (await by_reason(rig))["churn_risk"].status == "open"
    await rig.take(at(2, status="active"))
    found = {reason: row.status for reason, row in (await by_reason(rig)).items()}
    assert found == {"churn_risk": "closed", "gone_silent": "open", "account_lost": "closed"}
    assert {event.data.outcome for event in await outcomes_of(rig)} == {"no_action_needed"}
    # Lost again within 14 days: the same work goes on.
    await rig.take(at(3, status="churned"))
    row = (await by_reason(rig))["account_lost"]
    assert (row.status, row.episode) == ("open", 2)


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([at(0, status="churned")], id="it came as lost"),
        pytest.param(
            [at(0), at(1, status="churned", churned_at=date(2025, 1, 1))], id="it left long ago"
        ),
    ],
)
async def test_what_is_history_is_no_work(rig: Rig, records: list[AccountRecord]) -> None:
    for record in records:
        await rig.take(record)
    assert await rig.interventions() == []


async def test_the_playbook_is_kept_as_it_was_at_the_opening(rig: Rig) -> None:
    await open_one(rig)
    (row,) = await rig.interventions()
    assert (row.playbook["name"], row.playbook["version"]) == ("default", 1)
    assert len(row.playbook["tasks"]) == 2
