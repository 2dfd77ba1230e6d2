"""Flags that wait, are held and are released, on real PostgreSQL."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import flag_store, storm
from services.scoring.domain import rules
from services.scoring.domain.flags.states import STAGES, Decision, FlagState, Why
from services.scoring.flag_events import flag_event
from services.scoring.flag_store import FlagChange, Saved
from services.scoring.store import SHARDS, shard_of
from services.scoring.storm import Verdict
from services.scoring.tables import flag_states, flags, outbox
from shared.messages import FLAGS, Band, FlagEvent, FlagReason, decode
from tests.factories import NOW

GUARD = rules.read_default().storm_guard
CHURN, SILENT, CANCELLED = (
    FlagReason.CHURN_RISK,
    FlagReason.GONE_SILENT,
    FlagReason.CANCELLATION_INTENT,
)
MINUTE = timedelta(minutes=1)


def change(account: str, what: str, reason: FlagReason = SILENT, **state: object) -> FlagChange:
    """What the sweep hands over: the flag's first episode, raised now, at risk."""
    raised = what in {"raised", "updated"}
    decision = Decision(
        reason=reason,
        stage=STAGES[reason],
        change=what,  # type: ignore[arg-type]
        why=Why.SILENT if raised else Why.ACTIVE_AGAIN,
        state=replace(
            FlagState(episode=1, raised_at=NOW if raised else None, band=Band.AT_RISK),
            **state,  # type: ignore[arg-type]
        ),
        raised_at=NOW,
    )
    event = flag_event(
        account,
        decision,
        as_of=NOW,
        band=Band.AT_RISK,
        risk=0.5,
        value=None,
        renewal=None,
        summary=f"{what} {account}",
    )
    return FlagChange(account=account, decision=decision, event=event)


def names(count: int) -> list[str]:
    return [f"a{number:03}" for number in range(count)]


async def know(engine: AsyncEngine, accounts: int) -> None:
    """So many accounts have been looked at, all in shard 0."""
    await look_at(engine, 0, at=NOW, accounts=accounts)


async def look_at(
    engine: AsyncEngine, shard: int, *, at: datetime, model: str = "m1", accounts: int = 0
) -> None:
    """All accounts of the shard have been looked at then."""
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO scoring.shard_sweeps VALUES (:shard, :at, :model, '', :accounts)"
                " ON CONFLICT (shard) DO UPDATE SET swept_at = :at"
            ),
            {"shard": shard, "at": at, "model": model, "accounts": accounts},
        )


async def save(engine: AsyncEngine, *changes: FlagChange, now: datetime = NOW) -> Saved:
    async with engine.begin() as connection:
        await connection.execute(text("SELECT 1"))
        return await flag_store.save(connection, changes, now)


async def release(engine: AsyncEngine, after: timedelta = timedelta(0)) -> Verdict:
    async with engine.begin() as connection:
        return await storm.release(connection, NOW + after, GUARD)


async def sent(engine: AsyncEngine) -> list[tuple[str, str]]:
    async with engine.connect() as connection:
        rows = await connection.execute(
            select(outbox.c.value).where(outbox.c.topic == FLAGS).order_by(outbox.c.id)
        )
        found = [decode(FlagEvent, value).data for value in rows.scalars()]
    return [(flag.account, flag.change) for flag in found]


async def rows(engine: AsyncEngine) -> list[dict[str, object]]:
    async with engine.connect() as connection:
        found = await connection.execute(select(flags).order_by(flags.c.account_id))
        return [dict(row._mapping) for row in found]


async def test_a_usage_flag_waits_for_the_end_of_the_round_and_others_leave_at_once(
    engine: AsyncEngine,
) -> None:
    saved = await save(engine, change("b", "raised"), change("a", "raised", CANCELLED))
    assert saved.sent == [(CANCELLED, "raised")]
    assert saved.waiting == 1
    assert await sent(engine) == [("a", "raised")]
    assert (await release(engine)).sent == {SILENT: 1}
    assert await sent(engine) == [("a", "raised"), ("b", "raised")]
    assert (await release(engine)).sent == {}
    assert [(row["told_at"], row["message"], row["held_at"]) for row in await rows(engine)] == [
        (NOW, None, None),
        (NOW, None, None),
    ]


@pytest.mark.parametrize(
    ("accounts", "raised", "held"),
    [
        pytest.param(100, 20, 0, id="20 are few, whatever their share"),
        pytest.param(100, 21, 21, id="21 of 100 are many"),
        pytest.param(210, 21, 0, id="a tenth is not more than a tenth"),
        pytest.param(209, 21, 21, id="more than a tenth"),
    ],
)
async def test_more_than_a_tenth_and_more_than_20_are_held(
    engine: AsyncEngine, accounts: int, raised: int, held: int
) -> None:
    await know(engine, accounts)
    await save(engine, *(change(name, "raised") for name in names(raised)))
    verdict = await release(engine)
    assert verdict.held == held
    assert len(await sent(engine)) == raised - held


async def test_what_is_held_stays_so_when_the_hour_has_passed_and_later_flags_go_out(
    engine: AsyncEngine, news: Callable[[], str]
) -> None:
    await know(engine, 100)
    await save(engine, *(change(name, "raised") for name in names(30)))
    await release(engine)
    assert "storm.began" in news()
    await save(engine, change("b", "raised"), now=NOW + 61 * MINUTE)
    verdict = await release(engine, 61 * MINUTE)
    assert (verdict.sent, verdict.held) == ({SILENT: 1}, 0)
    assert await sent(engine) == [("b", "raised")]
    assert "storm.began" not in news()


async def test_flags_that_come_bit_by_bit_within_the_hour_are_held_from_the_21st_on(
    engine: AsyncEngine,
) -> None:
    await know(engine, 100)
    for minute, name in enumerate(names(25)):
        await save(engine, change(name, "raised"), now=NOW + minute * MINUTE)
        await release(engine, minute * MINUTE)
    assert len(await sent(engine)) == 20


async def test_a_cancellation_goes_out_during_a_storm(engine: AsyncEngine) -> None:
    await know(engine, 100)
    await save(
        engine,
        *(change(name, "raised") for name in names(30)),
        change("b", "raised", CANCELLED),
    )
    assert (await release(engine)).held == 30
    assert await sent(engine) == [("b", "raised")]


async def test_the_first_shards_of_a_wave_wait_for_the_others(engine: AsyncEngine) -> None:
    """21 of 400 are no storm, but another replica is still at shard 1: 100 of 400 would be."""
    await know(engine, 400)
    await look_at(engine, 1, at=NOW - timedelta(days=1))
    await save(engine, *(change(name, "raised") for name in names(21)))
    assert await release(engine) == Verdict()
    await save(engine, *(change(name, "raised") for name in names(100)[21:]))
    await look_at(engine, 1, at=NOW)
    assert (await release(engine)).held == 100


async def test_a_shard_that_is_never_done_does_not_hold_up_flags_for_ever(
    engine: AsyncEngine,
) -> None:
    await know(engine, 400)
    await look_at(engine, 1, at=NOW, model="m2")
    await save(engine, *(change(name, "raised") for name in names(21)))
    assert await release(engine, 9 * MINUTE) == Verdict()
    assert (await release(engine, 10 * MINUTE)).sent == {SILENT: 21}


async def test_a_held_flag_that_ends_is_never_heard_of(engine: AsyncEngine) -> None:
    await know(engine, 100)
    await save(engine, *(change(name, "raised") for name in names(30)))
    await release(engine)
    await save(engine, change("a000", "cleared"), now=NOW + MINUTE)
    assert await sent(engine) == []
    async with engine.begin() as connection:
        assert await storm.count_held(connection) == {SILENT: 29}
        await storm.release_held(connection, NOW + 2 * MINUTE, by="ann")
    assert ("a000", "raised") not in await sent(engine)
    assert (await rows(engine))[0]["cleared_at"] == NOW + MINUTE


async def test_a_held_flag_leaves_with_what_is_known_by_then_and_as_news(
    engine: AsyncEngine,
) -> None:
    await know(engine, 100)
    await save(engine, *(change(name, "raised", CHURN) for name in names(30)))
    await release(engine)
    worse = change("a007", "updated", CHURN, band=Band.CRITICAL)
    await save(engine, worse, now=NOW + MINUTE)
    assert await sent(engine) == []
    async with engine.begin() as connection:
        await storm.release_held(connection, NOW + 2 * MINUTE, by="ann", reason=CHURN)
    assert sorted(await sent(engine)) == [(name, "raised") for name in names(30)]
    async with engine.connect() as connection:
        values = (await connection.execute(select(outbox.c.value))).scalars()
        told = {event.subject: event for event in (decode(FlagEvent, one) for one in values)}
    assert told["a007"].data.summary == "updated a007"
    assert told["a007"].type == "perennial.flag.raised"
    await save(engine, change("a007", "cleared", CHURN), now=NOW + 3 * MINUTE)
    assert (await sent(engine))[-1] == ("a007", "cleared")


async def test_a_release_by_an_admin_is_kept_on_the_row_and_lets_the_batch_pass(
    engine: AsyncEngine,
) -> None:
    await know(engine, 100)
    await save(engine, *(change(name, "raised") for name in names(30)))
    await release(engine)
    async with engine.begin() as connection:
        assert await storm.release_held(connection, NOW + MINUTE, by="ann", reason=CHURN) == {}
        assert await storm.release_held(connection, NOW + MINUTE, by="ann") == {SILENT: 30}
    assert len(await sent(engine)) == 30
    [row, *_] = await rows(engine)
    assert (row["held_at"], row["told_at"], row["released_at"], row["released_by"]) == (
        NOW,
        NOW + MINUTE,
        NOW + MINUTE,
        "ann",
    )
    # The batch counts no more: the next 20 of the hour are few.
    await save(engine, *(change(f"b{n}", "raised") for n in range(20)), now=NOW + 2 * MINUTE)
    assert (await release(engine, 2 * MINUTE)).sent == {SILENT: 20}


async def test_what_is_dropped_is_heard_of_neither_now_nor_when_it_ends(
    engine: AsyncEngine,
) -> None:
    await know(engine, 100)
    await save(engine, *(change(name, "raised") for name in names(30)))
    await release(engine)
    async with engine.begin() as connection:
        await storm.release_held(connection, NOW + MINUTE, by="ann", drop=True)
        assert await storm.count_held(connection) == {}
    await save(engine, change("a001", "updated"), change("a000", "cleared"), now=NOW + 2 * MINUTE)
    await release(engine, 2 * MINUTE)
    assert await sent(engine) == []
    [row, *_] = await rows(engine)
    assert (row["told_at"], row["released_by"]) == (None, "ann")


async def test_two_replicas_that_release_at_once_let_each_flag_out_once(
    engine: AsyncEngine,
) -> None:
    await know(engine, 400)
    await save(engine, *(change(name, "raised") for name in names(39)))
    verdicts = await asyncio.gather(*(release(engine) for _ in range(4)))
    assert sum(verdict.sent.get(SILENT, 0) for verdict in verdicts) == 39
    assert sorted(await sent(engine)) == [(name, "raised") for name in names(39)]


async def test_two_admins_that_release_at_once_let_each_flag_out_once(
    engine: AsyncEngine,
) -> None:
    await know(engine, 100)
    await save(engine, *(change(name, "raised") for name in names(30)))
    await release(engine)

    async def by(name: str) -> int:
        async with engine.begin() as connection:
            return sum((await storm.release_held(connection, NOW, by=name)).values())

    assert sorted(await asyncio.gather(by("ann"), by("bob"))) == [0, 30]
    assert len(await sent(engine)) == 30


async def test_a_flag_that_is_cleared_while_it_is_released_is_told_both_or_neither(
    engine: AsyncEngine,
) -> None:
    await know(engine, 100)
    await save(engine, *(change(name, "raised") for name in names(15)))
    await asyncio.gather(
        release(engine), *(save(engine, change(name, "cleared")) for name in names(15)[::-1])
    )
    told = await sent(engine)
    for name in names(15):
        assert [what for account, what in told if account == name] in (
            [],
            ["raised", "cleared"],
        )


async def test_states_are_read_as_they_were_saved_and_idle_ones_are_no_rows(
    engine: AsyncEngine,
) -> None:
    anchored = change("a", "raised", CANCELLED, anchor={"contract_end": 739_000.0})
    waiting = change("a", "raised", CHURN)
    await save(engine, anchored, waiting, change("b", "raised"))
    since = FlagState(wanted_since=NOW)
    held_back = FlagChange(
        account="a",
        decision=replace(
            waiting.decision,
            reason=FlagReason.USAGE_DROP,
            change=None,
            state=since,
            why=Why.NOT_LONG_ENOUGH,
        ),
        event=None,
    )
    assert (await save(engine, held_back)).held_back == [Why.NOT_LONG_ENOUGH]
    async with engine.connect() as connection:
        found = await flag_store.read_states(connection, None, ["a", "c"])
        everybody = [await flag_store.read_states(connection, shard) for shard in range(SHARDS)]
    assert found == {
        "a": {
            CANCELLED: anchored.decision.state,
            CHURN: waiting.decision.state,
            FlagReason.USAGE_DROP: since,
        }
    }
    assert [set(one) for one in everybody if one] == [{name} for name in sorted("ab", key=shard_of)]

    idle = replace(held_back, decision=replace(held_back.decision, state=FlagState()))
    ended = change("b", "cleared", over_since=None, band=None)
    await save(engine, idle, ended)
    async with engine.connect() as connection:
        kept = await connection.execute(
            select(flag_states.c.account_id, flag_states.c.reason, flag_states.c.episode).order_by(
                flag_states.c.account_id, flag_states.c.reason
            )
        )
        assert [tuple(row) for row in kept] == [
            ("a", CANCELLED, 1),
            ("a", CHURN, 1),
            ("b", SILENT, 1),  # its episodes are counted on
        ]


async def test_a_state_that_stays_is_not_written_again(engine: AsyncEngine) -> None:
    one = change("a", "raised", anchor={"told": 1.0})
    same = FlagChange(account="a", decision=replace(one.decision, change=None), event=None)
    await save(engine, one)

    async def version() -> object:
        async with engine.connect() as connection:
            return await connection.scalar(text("SELECT xmin FROM scoring.flag_states"))

    before = await version()
    await save(engine, same)
    assert await version() == before
