"""What is old is forgotten, in batches; what is open, or young, or belongs to it, is not."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import retention as retentions
from services.notifier.retention import Retention
from shared.lifecycle import new_frame
from shared.messages import OutcomeKind
from shared.watchdog import Loop
from tests.integration.notifier.rig import NOW, Rig, account, boss, flag

DAY = timedelta(days=1)
HISTORY = timedelta(days=1_098)


def retention(rig: Rig) -> Retention:
    return Retention(engine=rig.engine, clock=rig.hands, history=HISTORY)


async def counts(engine: AsyncEngine, *tables: str) -> Sequence[int]:
    async with engine.connect() as connection:
        return [
            int(await connection.scalar(text(f"SELECT count(*) FROM notifier.{table}")) or 0)
            for table in tables
        ]


_WORK = ("interventions", "timeline", "tasks", "endings", "deliveries", "audit")


async def test_ended_work_goes_after_three_years_with_all_that_belongs_to_it(rig: Rig) -> None:
    await rig.take(account(), account(account_id="globex"))
    await rig.take(flag(), flag(account="globex", flag_id="globex/1"))
    await rig.send_all()
    acme = next(row for row in await rig.interventions() if row.account_id == "acme")
    await rig.steps.close(
        UUID(str(acme.id)), version=None, outcome=OutcomeKind.SAVED, note="", by=boss("carla")
    )
    await rig.send_all()
    async with rig.engine.begin() as connection:
        # By the server's clock, else.
        await connection.execute(text("UPDATE notifier.deliveries SET ended_at = :at"), {"at": NOW})
    before = await counts(rig.engine, *_WORK)
    just = retention(rig)
    assert "interventions" not in await just.forget(NOW + HISTORY)
    assert (await counts(rig.engine, *_WORK))[0] == before[0] == 2

    await just.forget(NOW + HISTORY + DAY)

    assert [row.account_id for row in await rig.interventions()] == ["globex"]
    async with rig.engine.connect() as connection:
        open_id = await connection.scalar(text("SELECT id FROM notifier.interventions"))
        for table in ("timeline", "tasks"):
            left = await connection.scalars(
                text(f"SELECT DISTINCT intervention_id FROM notifier.{table}")
            )
            assert left.all() == [open_id], f"what is open keeps its {table}"
    assert await counts(rig.engine, "endings", "audit", "deliveries") == [0, 0, 0]


async def test_more_than_a_batch_goes_in_several_and_the_young_stay(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retentions, "_PAUSE_SECONDS", 0.0)
    old, young = 2 * retentions.BATCH + 1, 3
    async with rig.engine.begin() as connection:
        for count, at in ((old, NOW - HISTORY - DAY), (young, NOW - HISTORY + DAY)):
            await connection.execute(
                text(
                    "INSERT INTO notifier.audit (at, actor, role, way, action, subject, detail)"
                    " SELECT :at, 'a', '', '', 'x', '', '{}' FROM generate_series(1, :count)"
                ),
                {"at": at, "count": count},
            )
    assert await retention(rig).forget(NOW) == {"audit": old}
    assert await counts(rig.engine, "audit") == [young]


@pytest.mark.parametrize(
    ("table", "columns", "values"),
    [
        ("invitations", "token_sha256, address, expires_at", "'{at}', 'a@x.example', :at"),
        (
            "sign_ins",
            "token_sha256, address, by, began_at, seen_at, ends_at",
            "'{at}', 'a', 'local', :at, :at, :at",
        ),
        ("sign_in_attempts", "key, failures, next_at", "'{at}', 1, :at - interval '2 days'"),
        (
            "silences",
            "id, matchers, starts_at, ends_at, author, comment, created_at",
            "gen_random_uuid(), '{{}}', :at, :at - interval '1098 days', 'a', '', :at",
        ),
        (
            "sentiments",
            "id, account_id, mood, note, by, at, expires_at",
            "gen_random_uuid(), 'acme', 'bad', '', 'a', :at, :at - interval '1098 days'",
        ),
        (
            "digests",
            "recipient, kind, local_date, items, at",
            "'{at}', 'team', '2026-01-01', 0, :at - interval '1098 days'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)
async def test_each_goes_when_its_time_is_over(
    rig: Rig, table: str, columns: str, values: str
) -> None:
    moments: tuple[datetime, ...] = (NOW - timedelta(seconds=1), NOW + 3 * DAY)
    async with rig.engine.begin() as connection:
        for at in moments:
            await connection.execute(
                text(
                    f"INSERT INTO notifier.{table} ({columns})"
                    f" SELECT {values.format(at=at)}".replace(":at", "CAST(:at AS timestamptz)")
                ),
                {"at": at},
            )
    assert await retention(rig).forget(NOW) == {table: 1}
    assert await counts(rig.engine, table) == [1]


async def test_it_runs_until_it_is_stopped(rig: Rig) -> None:
    stop = asyncio.Event()
    loop = Loop(service="notifier", name="retention", metrics=new_frame().metrics)
    running = asyncio.create_task(retention(rig).run(stop, loop=loop))
    stop.set()
    await asyncio.wait_for(running, 10)
