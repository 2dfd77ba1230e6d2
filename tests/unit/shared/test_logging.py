"""Log lines: each says when, how grave, who and what, and to which request and trace it belongs."""

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import TypeAlias

import pytest
import structlog

from shared import logging as logs
from shared.traceparent import GoingOn
from tests.unit.shared.test_traceparent import GIVEN

Lines: TypeAlias = Callable[[], list[dict[str, object]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Logging as `perennial up` has it, and what it has written; afterwards as it was before."""
    root, output = logging.getLogger(), io.StringIO()
    before, level = root.handlers[:], root.level
    with redirect_stdout(output):
        logs.configure(level="info", form="json")
    yield lambda: [json.loads(line) for line in output.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_every_line_begins_alike(lines: Lines) -> None:
    structlog.stdlib.get_logger("ours").info("delivery.sent", attempt=2)
    logging.getLogger("theirs").warning("a library's %s", "words")
    ours, theirs = lines()
    first = ["ts", "level", "service", "version", "event"]
    assert list(ours) == [*first, "attempt"]
    assert list(theirs)[:5] == first
    assert (ours["service"], ours["event"], ours["level"]) == ("perennial", "delivery.sent", "info")
    assert (theirs["event"], theirs["level"]) == ("a library's words", "warning")


async def test_lines_say_what_is_bound_where_they_are_written(lines: Lines) -> None:
    log = structlog.stdlib.get_logger("ours")

    async def service(name: str) -> None:
        logs.bind(service=name)
        await asyncio.create_task(work())

    async def work() -> None:
        with logs.bound(topic="flags", partition=1), GoingOn(GIVEN):
            log.info("inside", partition=2)
        log.info("outside")

    await asyncio.gather(service("scoring"), service("notifier"))
    log.info("elsewhere")
    *found, elsewhere = lines()
    assert elsewhere["service"] == "perennial"
    for name in ("scoring", "notifier"):
        inside, outside = (one for one in found if one["service"] == name)
        assert inside["trace_id"] == GIVEN[3:35]
        # What the line says itself counts before what is bound.
        assert (inside["topic"], inside["partition"]) == ("flags", 2)
        assert outside.keys() == {"ts", "level", "service", "version", "event"}


def test_an_account_is_told_apart_but_not_told() -> None:
    assert logs.account_ref("acme") == logs.account_ref("acme") != logs.account_ref("globex")
    assert "acme" not in logs.account_ref("acme")
    assert len(logs.account_ref("half \ud83d of a character")) == 12
