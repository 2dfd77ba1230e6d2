"""Flags, outcomes and outages that ended years ago are forgotten; what is open is not."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import history_store
from tests.factories import NOW

DAY = timedelta(days=1)
_FLAG = """
INSERT INTO scoring.flags (account_id, reason, episode, flag_id, stage, raised_at, updated_at,
    cleared_at, summary)
SELECT 'acme', 'gone_silent', n, n::text, 'live', CAST(:raised AS timestamptz), :raised,
    CAST(:cleared AS timestamptz), '' FROM generate_series(CAST(:first AS int), :last) AS n
"""
_OUTCOME = """
INSERT INTO scoring.outcomes (account_id, intervention_id, episode, revision, reason, outcome,
    closed_by, closed_at) VALUES ('acme', :id, 1, 1, 'gone_silent', 'saved', 'a', :at)
"""
_OUTAGE = """
INSERT INTO scoring.outages (source, began_at, noticed_at, ended_at, seen_at, why, missing_days)
VALUES (:source, :at, :at, :ended, :at, 'silent', '{}')
"""


async def test_what_ended_before_goes_and_what_is_open_stays(engine: AsyncEngine) -> None:
    many = history_store.BATCH + 1
    async with engine.begin() as connection:
        old, young = NOW - DAY, NOW + DAY
        for first, last, cleared in ((1, many, old), (many + 1, many + 1, young)):
            await connection.execute(
                text(_FLAG), {"raised": old, "cleared": cleared, "first": first, "last": last}
            )
        await connection.execute(
            text(_FLAG), {"raised": old, "cleared": None, "first": many + 2, "last": many + 2}
        )
        for name, at in (("old", old), ("young", young)):
            await connection.execute(text(_OUTCOME), {"id": name, "at": at})
        for name, ended in (("old", old), ("open", None)):
            await connection.execute(text(_OUTAGE), {"source": name, "at": old, "ended": ended})
    steps: list[None] = []
    gone = await history_store.forget(engine, NOW, progressed=lambda: steps.append(None))
    # Two of flags, one each of the others: a watchdog hears of each.
    assert len(steps) == 4
    assert gone == {"flags": many, "outcomes": 1, "outages": 1}
    assert await history_store.forget(engine, NOW) == {}
    async with engine.connect() as connection:
        left = await connection.scalars(text("SELECT episode FROM scoring.flags ORDER BY episode"))
        assert left.all() == [many + 1, many + 2]
