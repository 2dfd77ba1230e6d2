"""What people ask about flags, from what the sweep has stored."""

import asyncio
from datetime import timedelta

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import flag_review, storm
from services.scoring.domain.flags.states import Why
from services.scoring.domain.rules import load, read_default
from services.scoring.flag_review import Preview
from services.scoring.intake import Intake
from services.scoring.sweep import Sweep
from services.scoring.tables import flag_states, flags, outbox
from shared.messages import FlagReason
from tests.factories import NOW
from tests.integration.scoring.test_outages import look, take_in, use

SILENT = FlagReason.GONE_SILENT
RULES = read_default()
DAY = timedelta(days=1)


async def some_accounts(intake: Intake, sweep: Sweep) -> None:
    """On NOW: `gone` silent for 35 days, `nearly` for 20, and ten that come every day."""
    await take_in(intake, use(["gone"], range(-60, -35)))
    await take_in(intake, use(["nearly"], range(-60, -20)))
    await take_in(intake, use([f"busy{n}" for n in range(10)], range(-200, 1, 2)))
    await look(sweep, NOW)


async def preview(engine: AsyncEngine, content: bytes = b"") -> Preview:
    rules = await asyncio.to_thread(load, content) if content else RULES
    async with engine.connect() as connection:
        await connection.execute(text("SET TRANSACTION READ ONLY"))
        return await flag_review.preview(connection, rules)


async def test_the_rules_in_force_would_change_nothing(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await some_accounts(intake, sweep)
    found = await preview(engine)
    assert (found.accounts, found.as_of) == (12, NOW)
    for tally in found.flags.values():
        assert (tally.would_raise, tally.would_clear) == (0, 0)
    assert found.flags[SILENT].raised_now == 1


async def test_a_shorter_silence_would_raise_and_no_rule_clear_and_nothing_is_written(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await some_accounts(intake, sweep)

    async def stored() -> list[int | None]:
        async with engine.connect() as connection:
            return [
                await connection.scalar(select(func.count()).select_from(table))
                for table in (flags, flag_states, outbox)
            ]

    before = await stored()
    shorter = (await preview(engine, b"[gone_silent]\nsilent_days = 14\n")).flags[SILENT]
    assert (shorter.raised_now, shorter.would_raise, shorter.would_clear) == (1, 1, 0)
    assert shorter.raised_examples == ["nearly"]
    off = (await preview(engine, b"[gone_silent]\nenabled = false\n")).flags[SILENT]
    assert (off.would_raise, off.would_clear) == (0, 1)
    assert off.cleared_examples == ["gone"]
    waits = (await preview(engine, b"[gone_silent]\nsilent_days = 14\nfor_days = 7\n")).flags[
        SILENT
    ]
    assert (waits.would_raise, waits.would_wait) == (0, 1)
    assert await stored() == before


async def test_lower_bands_would_raise_churn_risk(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    """The prior gives everybody some risk: bands a little above nothing hold them all."""
    await some_accounts(intake, sweep)
    low = b"".join(
        f"[bands.{band}]\ntimes_base = {1.01 + n / 100}\nat_most = {(n + 1) / 10_000}\n".encode()
        for n, band in enumerate(("watch", "at_risk", "critical"))
    )
    tally = (await preview(engine, low)).flags[FlagReason.CHURN_RISK]
    now = (await preview(engine)).flags[FlagReason.CHURN_RISK].raised_now
    assert tally.would_raise > 0
    assert tally.would_raise + now <= 12


async def test_a_review_says_of_each_flag_where_it_stands_and_why(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await some_accounts(intake, sweep)
    async with engine.connect() as connection:
        gone = await flag_review.review_account(connection, "gone", RULES)
        nearly = await flag_review.review_account(connection, "nearly", RULES)
        assert await flag_review.review_account(connection, "nobody", RULES) is None
    assert gone is not None
    assert nearly is not None
    assert [one.reason for one in gone.rules] == list(FlagReason)
    standing = {one.reason: one for one in gone.rules}
    assert standing[SILENT].stands == "raised"
    assert standing[SILENT].since == NOW
    assert [(one.reason, one.told_at) for one in gone.open if one.reason == SILENT] == [
        (SILENT, NOW)
    ]
    standing = {one.reason: one for one in nearly.rules}
    assert standing[SILENT].stands == "not_raised"
    [silent] = standing[SILENT].raises
    assert silent.why is Why.SILENT
    # A is yesterday: 19 complete days since the last active one, which lies 21 days before today.
    texts = [clause.text for clause in silent.clauses]
    assert any("20 days" in one and ">= 28 days" in one for one in texts)
    assert not nearly.data_stale


async def test_stale_sources_are_said_of_the_account(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await some_accounts(intake, sweep)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO scoring.outages (source, began_at, noticed_at, seen_at, why,"
                " missing_days) VALUES ('app', :now, :now, :now, 'silent', '{}')"
            ),
            {"now": NOW},
        )
        found = await flag_review.review_account(connection, "nearly", RULES)
    assert found is not None
    assert found.data_stale


async def test_open_flags_say_whether_anybody_has_heard_of_them(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await take_in(intake, use([f"a{n}" for n in range(30)], range(-60, -35)))
    await look(sweep, NOW)
    async with engine.begin() as connection:
        held = await flag_review.read_open(connection, held=True)
        assert len(held) == sum((await storm.count_held(connection)).values()) >= 30
        assert {one.held_at for one in held} == {NOW}
        await storm.release_held(connection, NOW + DAY, by="ann", reason=SILENT, drop=True)
        dropped = [one for one in await flag_review.read_open(connection) if one.reason == SILENT]
        assert {(one.dropped_by, one.told_at) for one in dropped} == {("ann", None)}
        assert len(await flag_review.read_open(connection, limit=3)) == 3
        assert [one.reason for one in await flag_review.read_open(connection, held=True)].count(
            SILENT
        ) == 0


async def test_while_the_model_in_service_cannot_be_read_the_bands_are_those_that_are_shown(
    intake: Intake, sweep: Sweep, engine: AsyncEngine
) -> None:
    await some_accounts(intake, sweep)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE scoring.models SET document = 'of another version'"))
    assert (await preview(engine)).accounts == 12
