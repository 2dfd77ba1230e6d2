"""The fixture that finds blocking calls finds them, in our code alone."""

import os
from pathlib import Path

import pytest
from blockbuster import BlockingError

from shared.embedded_postgres import _serves


async def test_a_blocking_call_of_ours_fails_in_async_code(tmp_path: Path) -> None:
    with pytest.raises(BlockingError):
        _serves(os.getpid(), tmp_path)


def test_it_may_block_outside_async_code(tmp_path: Path) -> None:
    assert not _serves(os.getpid(), tmp_path)


async def test_a_test_may_block(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert (tmp_path / "file").read_text() == "x"
