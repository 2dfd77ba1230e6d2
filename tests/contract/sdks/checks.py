"""What each run of the script has to leave on the log."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

from shared.messages import UsageEvent
from tests.contract.sdks.python.script import ACCOUNTS, NO_ACCOUNT, USERS
from tests.contract.sdks.relay import Relay
from tests.contract.sdks.sdks import Run
from tests.contract.sdks.service import user_of

EXPORT = "report_exported"

_STORM = 20
"""Requests of one client within a second: some have six batches on their way side by side."""
_REFUSED = re.compile("401|invalid_key")

T = TypeVar("T")


def check_exports(
    events: Sequence[UsageEvent], run: Run, *, exports: int, without: int | None = None
) -> None:
    """Every export once: account, user, time and properties as they were sent."""
    found = sorted((event for event in events if event.type == EXPORT), key=_number)
    numbers = [number for number in range(exports) if number != without]
    assert [_number(event) for event in found] == numbers
    assert len({event.id for event in found}) == len(numbers)
    for number, event in zip(numbers, found, strict=True):
        assert event.account == f"acct-{number % ACCOUNTS}"
        assert event.user == user_of(f"user-{number % USERS}")
        assert event.occurred_at == event.client_at == run.first + timedelta(seconds=number)
        assert event.properties["ratio"] is None
        assert event.properties["cut"] == "caf\u00e9 \ufffd"


def others(events: Sequence[UsageEvent]) -> list[UsageEvent]:
    """The events beside the exports, by type."""
    return sorted((event for event in events if event.type != EXPORT), key=lambda e: e.type)


def check_patience(relay: Relay) -> None:
    """While all was turned away for a second, at least once and not as in a storm."""
    assert len(relay.refusals) <= relay.refused <= _STORM


def check_refused(ran: Run, relay: Relay) -> None:
    """A wrong key is told to whoever sends with it, in words of ours, and not tried again."""
    assert ran.errors
    assert all(_REFUSED.search(error) for error in ran.errors), ran.errors
    assert {passed.status for passed in relay.passed} == {401}
    assert len(relay.passed) <= len(ran.errors)


def check_quarantine(kept: Sequence[tuple[str, bytes]]) -> None:
    """The bad export, as it came."""
    code, item = only(kept)
    assert code == "invalid_account"
    assert NO_ACCOUNT.encode() in item


def only(found: Sequence[T]) -> T:
    (one,) = found
    return one


def _number(event: UsageEvent) -> int:
    number = event.properties["n"]
    assert isinstance(number, int)
    return number
