"""A ring wakes one sender, and none is lost."""

import asyncio

from services.notifier.bell import Bell


async def test_each_ring_wakes_one_of_those_who_wait() -> None:
    bell = Bell()
    waiting = [asyncio.create_task(bell.heard(0.2)) for _ in range(4)]
    await asyncio.sleep(0)
    bell.ring(2)
    assert sorted(await asyncio.gather(*waiting)) == [False, False, True, True]


async def test_a_ring_that_nobody_waits_for_is_heard_by_the_next() -> None:
    bell = Bell()
    bell.ring()
    assert await bell.heard(0)
    assert not await bell.heard(0)


async def test_more_rings_than_anybody_waits_for_are_no_error() -> None:
    bell = Bell()
    bell.ring(1_000)
    assert await bell.heard(0)


def test_of_many_who_ask_at_once_one_takes_the_turn() -> None:
    bell = Bell()
    assert [bell.takes_turn(60) for _ in range(3)] == [True, False, False]
    assert bell.takes_turn(0)
