"""The fixture that finds blocking calls finds them, in our code alone."""

from pathlib import Path

import pytest
from blockbuster import BlockingError

from shared.embedded_postgres import immediate_stop


async def test_a_blocking_call_of_ours_fails_in_async_code(tmp_path: Path) -> None:
    with pytest.raises(BlockingError):
        immediate_stop(tmp_path)


def test_it_may_block_outside_async_code(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        immediate_stop(tmp_path)


async def test_a_test_may_block(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")  # noqa: ASYNC240 - that is what is tested
    assert (tmp_path / "file").read_text() == "x"  # noqa: ASYNC240
