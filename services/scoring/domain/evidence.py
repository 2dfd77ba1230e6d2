"""What an event that names both says of its user: that the user belongs to the account."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Evidence(StrEnum):
    """By what a user is known in an account; each has its own first day."""

    GROUPED = "grouped"
    """A `group` call: "this user works for that account from now on"."""
    IDENTIFIED = "identified"
    """The traits of an `identify` call, or its context, name the account."""
    ACTIVE = "active"
    """Any other event that names both, whether it is activity or not."""


def evidence_of(event_type: str) -> Evidence:
    return _EVIDENCE.get(event_type, Evidence.ACTIVE)


_EVIDENCE: Final[Mapping[str, Evidence]] = {
    "group": Evidence.GROUPED,
    "$groupidentify": Evidence.GROUPED,
    "identify": Evidence.IDENTIFIED,
    "$identify": Evidence.IDENTIFIED,
}
