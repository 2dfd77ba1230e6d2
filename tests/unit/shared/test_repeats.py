"""A line that repeats is told once a minute and counted; another error is never hidden by it."""

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from shared import logging as logs
from shared.repeats import Unrepeated


@dataclass(slots=True)
class Hands:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Written:
    stream: io.StringIO
    hands: Hands
    handler: Unrepeated

    def lines(self) -> list[dict[str, Any]]:
        text = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def written() -> Iterator[Written]:
    """Lines as a service writes them, on a clock that the test moves."""
    logs.configure(level="info", form="json")
    root = logging.getLogger()
    formatter = root.handlers[0].formatter
    stream, hands = io.StringIO(), Hands()
    handler = Unrepeated(stream, clock=hands)
    handler.setFormatter(formatter)
    root.handlers[:] = [handler]
    yield Written(stream, hands, handler)
    structlog.reset_defaults()


def away(error: str = "refused", **fields: object) -> None:
    logs.get("tests").warning("log.away", error=error, **fields)


def test_a_line_is_told_once_a_minute_and_the_others_are_counted(written: Written) -> None:
    for second in range(0, 60, 2):
        written.hands.now = second
        away(seconds=second)
    assert [line["event"] for line in written.lines()] == ["log.away"]
    written.hands.now = 60
    away()
    first, *others = written.lines()
    # 30 were said: one at once, one now, 28 between them.
    assert (first["event"], first["seconds"], first["repeated"]) == ("log.away", 58, 28)
    assert others == []


def test_what_was_left_out_comes_with_the_next_line_of_any_kind(written: Written) -> None:
    away()
    away()
    away()
    written.lines()
    written.hands.now = 61
    logs.get("tests").info("process.ready")
    told = [(line["event"], line.get("repeated")) for line in written.lines()]
    assert told == [("log.away", 1), ("process.ready", None)]


def test_what_was_left_out_is_told_at_the_end(written: Written) -> None:
    away()
    away()
    written.lines()
    written.handler.close()
    assert [line["event"] for line in written.lines()] == ["log.away"]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"error": "wrong password"}, id="error"),
        pytest.param({"topic": "flags"}, id="field"),
        pytest.param({"status": 503}, id="status"),
    ],
)
def test_another_error_is_told_at_once(written: Written, other: dict[str, Any]) -> None:
    away()
    away(**other)
    assert len(written.lines()) == 2


def test_levels_and_libraries_are_told_apart(written: Written) -> None:
    log, library = logs.get("tests"), logging.getLogger("aiokafka")
    log.warning("log.away")
    log.error("log.away")
    for _ in range(3):
        library.error("Unable connect to node with id %s: %s", 1, "refused")
    library.error("Unable connect to node with id %s: %s", 1, "certificate")
    assert len(written.lines()) == 4
    written.hands.now = 61
    log.info("process.ready")
    assert any("(repeated 1 times)" in line["event"] for line in written.lines())


def test_whom_it_is_about_does_not_make_it_another_line(written: Written) -> None:
    for number in range(5):
        away(
            request_id=f"r-{number}", trace_id=f"t-{number}", account_ref=str(number), offset=number
        )
    assert len(written.lines()) == 1


def test_errors_of_other_kinds_are_told_apart(written: Written) -> None:
    library = logging.getLogger("asyncio")
    for error in (KeyError("a"), ValueError("a"), ValueError("b"), ValueError("b")):
        library.error("Task failed", exc_info=error)
    assert len(written.lines()) == 3


def test_the_memory_of_lines_is_bounded(written: Written) -> None:
    for number in range(2_500):
        away(error=f"error {number}")
    assert len(written.lines()) == 2_500
    assert len(written.handler._told) == 1_000


def test_the_services_log_so() -> None:
    logs.configure(level="info", form="json")
    assert isinstance(logging.getLogger().handlers[0], Unrepeated)
