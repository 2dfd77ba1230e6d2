"""A limit ends what takes too long, and nothing else."""

import asyncio

import pytest

from shared.limit import Limit

_LONG = 60.0


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def test_it_raises_where_the_time_is_over() -> None:
    with pytest.raises(TimeoutError), Limit(0.01):
        await _for_ever()
    # The task is as good as before.
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_what_ends_in_time_is_left_alone() -> None:
    with Limit(0.01):
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)


async def test_it_can_be_moved() -> None:
    async def work() -> None:
        with Limit(_LONG) as limit:
            limit.move(0.01)
            await _for_ever()

    with pytest.raises(TimeoutError):
        await work()
    with Limit(0.01) as limit:
        limit.move(_LONG)
        await asyncio.sleep(0.02)


async def test_the_inner_of_two_is_the_first_to_end() -> None:
    with Limit(_LONG), pytest.raises(TimeoutError), Limit(0.01):
        await _for_ever()


async def test_a_task_that_is_cancelled_is_cancelled() -> None:
    async def work() -> None:
        with Limit(_LONG):
            await _for_ever()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_inside_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError), Limit(_LONG):
        raise KeyError
