"""A traceback in a log says where and what kind; what it stumbled over is not told."""

import asyncio
import gc
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest
import structlog

from shared import logging as logs
from shared.errors import InvalidMessage, Misconfigured
from shared.repeats import Unrepeated

_CANARY = "ada@acme.example"


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What a service has written."""
    logs.configure(level="info", form="json")
    root = logging.getLogger()
    stream = io.StringIO()
    handler = Unrepeated(stream)
    handler.setFormatter(root.handlers[0].formatter)
    root.handlers[:] = [handler]
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()


def _key() -> None:
    raise KeyError(_CANARY)


def _value() -> None:
    raise ValueError(f"no number: {_CANARY}")


def _number() -> None:
    int(_CANARY)


def _json() -> None:
    msgspec.json.decode(f'"{_CANARY}"', type=int)


def _text() -> None:
    (_CANARY.encode() + b"\xff").decode()


def _url() -> None:
    httpx.Response(500, request=httpx.Request("GET", f"https://{_CANARY}/hook")).raise_for_status()


def _chained() -> None:
    try:
        _key()
    except KeyError as error:
        raise RuntimeError(f"not {_CANARY}") from error


def _together() -> None:
    raise ExceptionGroup(f"of {_CANARY}", [KeyError(_CANARY), ValueError(_CANARY)])


@pytest.mark.parametrize("fail", [_key, _value, _number, _json, _text, _url, _chained, _together])
def test_no_value_is_told(
    lines: Callable[[], list[dict[str, Any]]], fail: Callable[[], None]
) -> None:
    try:
        fail()
    except Exception as error:
        logs.get("tests").exception("process.failed")
        logging.getLogger("uvicorn.error").error(  # noqa: TRY400 - as uvicorn does
            "Exception in ASGI application", exc_info=error
        )
    ours, theirs = lines()
    for line in (ours, theirs):
        assert _CANARY not in json.dumps(line)
        assert f"in {fail.__name__}" in line["exception"]
    assert (ours["event"], theirs["event"]) == ("process.failed", "Exception in ASGI application")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Misconfigured("ADMIN_PORT: not a number"), "Misconfigured: ADMIN_PORT: not a number"),
        (InvalidMessage("bad_id", "field id"), "InvalidMessage: bad_id: field id"),
        (FileNotFoundError(2, "No such file", "/x"), "No such file"),
        (AttributeError("no attribute 'x'"), "no attribute 'x'"),
    ],
)
def test_what_holds_no_value_is_told(
    lines: Callable[[], list[dict[str, Any]]], error: Exception, said: str
) -> None:
    logging.getLogger("tests").error("x", exc_info=error)
    (line,) = lines()
    assert said in line["exception"]


def test_errors_in_errors_end(lines: Callable[[], list[dict[str, Any]]]) -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    logging.getLogger("tests").error("x", exc_info=first)
    (line,) = lines()
    assert line["exception"].count("ValueError") == 2


async def test_a_task_that_nobody_asked_is_told_without_its_error(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    async def forgotten() -> None:
        raise KeyError(_CANARY)

    task = asyncio.create_task(forgotten())
    await asyncio.wait({task})
    del task
    gc.collect()
    (line,) = lines()
    assert line["event"] == "Task exception was never retrieved"
    assert "builtins.KeyError" in line["exception"]
    assert _CANARY not in json.dumps(line)
