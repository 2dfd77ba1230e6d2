"""One person may have the work of more accounts than one statement has parameters."""

import asyncio
from datetime import timedelta

from sqlalchemy import func, select

from services.notifier import agenda, notice_rows, queue, situations
from services.notifier.composing import DeliveryKind, Planned
from services.notifier.domain.notice import Notice
from services.notifier.domain.policy import NotifyReason, SuppressReason
from services.notifier.tables import deliveries
from tests.integration.notifier.rig import NOW, Rig

MANY = 40_000
ACCOUNTS = [f"a{number}" for number in range(MANY)]


async def test_their_accounts_are_locked_and_read_at_once(rig: Rig) -> None:
    async with rig.engine.begin() as connection:
        await agenda.lock(connection, ACCOUNTS)
        await agenda.lock(connection, ACCOUNTS)
        found = await situations.read(connection, ACCOUNTS, now=NOW)
        assert len(found) == MANY


async def test_what_they_were_told_is_stored_at_once(rig: Rig) -> None:
    destination = "email:lead@vendor.example"
    wanted = [
        Notice(account_id=one, destination=destination, bundled=SuppressReason.STORM)
        for one in ACCOUNTS[:5_000]
    ]
    async with rig.engine.begin() as connection:
        await notice_rows.save(connection, wanted)
        stored = await notice_rows.of_accounts(connection, ACCOUNTS)
        await notice_rows.unbundle(connection, destination, ACCOUNTS)
        left = await notice_rows.bundled_at(connection, destination)
    assert (len(stored), list(left)) == (5_000, [])


async def test_what_is_decided_for_them_is_queued_at_once(rig: Rig) -> None:
    wanted = [
        Planned(
            kind=DeliveryKind.NOTICE,
            dedupe_key=f"notice:{one}",
            group_key=f"notice:{one}",
            channel="email",
            destination="email:lead@vendor.example",
            recipient="lead@vendor.example",
            reason=NotifyReason.FIRST,
            due_at=NOW + timedelta(hours=1),
        )
        for one in ACCOUNTS[:5_000]
    ]
    async with rig.engine.begin() as connection:
        assert len(await queue.put_all(connection, wanted)) == 5_000
        assert await queue.put_all(connection, wanted) == []
        assert await connection.scalar(select(func.count()).select_from(deliveries)) == 5_000


async def test_two_that_add_to_the_same_messages_do_so_in_one_order(rig: Rig) -> None:
    one, other = (
        Planned(
            kind=DeliveryKind.SUMMARY,
            dedupe_key=f"summary:{to}",
            group_key=f"summary:{to}",
            channel="email",
            destination=f"email:{to}@vendor.example",
            recipient=f"{to}@vendor.example",
            reason=NotifyReason.SUMMARY,
            due_at=NOW,
        )
        for to in ("anna", "ben")
    )
    async with rig.engine.begin() as first, rig.engine.begin() as second, asyncio.timeout(30):
        await queue.put_all(first, [one])
        # It waits for the first before it has anything that the first could wait for.
        waiting = asyncio.create_task(queue.put_all(second, [other, one]))
        await asyncio.wait([waiting], timeout=0.3)
        await queue.put_all(first, [other])
        await first.commit()
        await waiting
