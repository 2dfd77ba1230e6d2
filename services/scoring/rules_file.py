"""The vendor's own rules: read from a file, and compared with the shipped ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from services.scoring.domain.rules import Rules, load, read_default

_SEGMENTS: Final = "segments"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleChange:
    """An entry that differs from the shipped one, as TOML names it."""

    path: str
    ours: object
    theirs: object

    def as_json(self) -> dict[str, object]:
        return {"path": self.path, "shipped": self.ours, "file": self.theirs}


def read(path: Path) -> Rules:
    """The shipped rules, overlaid with the file's; raises OSError and RulesRejected."""
    return load(path.read_bytes())


def changes(rules: Rules) -> list[RuleChange]:
    """What the rules change, for everybody and for the accounts of a segment."""
    ours, theirs = msgspec.to_builtins(read_default()), msgspec.to_builtins(rules)
    found = _differences("", {**ours, _SEGMENTS: {}}, {**theirs, _SEGMENTS: {}})
    for name, own in sorted(theirs[_SEGMENTS].items()):
        found += _differences(f"{_SEGMENTS}.{name}.", theirs, own)
    return found


def _differences(
    prefix: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> list[RuleChange]:
    found = []
    for name, value in theirs.items():
        if isinstance(value, dict):
            found += _differences(f"{prefix}{name}.", ours[name], value)
        elif value != ours[name]:
            found.append(RuleChange(path=prefix + name, ours=ours[name], theirs=value))
    return found
