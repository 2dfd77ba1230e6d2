"""What a check has found."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How bad it is; in the order of `worst`."""

    OK = "ok"
    SKIPPED = "skipped"
    """Not looked at: something it needs is wrong, or not used here."""
    WARNING = "warning"
    """It works, or will not be missed today; somebody should look."""
    FAILED = "failed"
    """Something that was promised does not hold now."""


class Area(StrEnum):
    """What a finding is about; `--only` takes them."""

    SETTINGS = "settings"
    DATABASE = "database"
    LOG = "log"
    INTAKE = "intake"
    SCORING = "scoring"
    KEYS = "keys"
    MESSAGES = "messages"
    CARE = "care"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fact, and what to do about it where it is not as it should be."""

    area: Area
    state: State
    what: str
    do: str = ""

    def as_json(self) -> dict[str, str]:
        return {"area": self.area, "state": self.state, "what": self.what, "do": self.do}


def ok(area: Area, what: str) -> Finding:
    return Finding(area=area, state=State.OK, what=what)


def skipped(area: Area, what: str) -> Finding:
    return Finding(area=area, state=State.SKIPPED, what=what)


def warning(area: Area, what: str, do: str) -> Finding:
    return Finding(area=area, state=State.WARNING, what=what, do=do)


def failed(area: Area, what: str, do: str) -> Finding:
    return Finding(area=area, state=State.FAILED, what=what, do=do)


def worst(findings: Sequence[Finding]) -> State:
    order = list(State)
    return max((finding.state for finding in findings), key=order.index, default=State.OK)
