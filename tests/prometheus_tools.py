"""What the rules and dashboards of `deploy` say, read for tests; Prometheus' own tools, run."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

DEPLOY: Final = Path(__file__).resolve().parent.parent / "deploy"
RULES: Final = DEPLOY / "prometheus" / "rules"
PROMTOOL_TESTS: Final = DEPLOY / "prometheus" / "tests"
OPTIONAL: Final = "infrastructure.yml"
"""Rules about metrics of others, which an installation may not have."""

_WORDS: Final = frozenset({"and", "or", "unless", "offset", "bool", "inf", "nan"})
_GROUPING: Final = re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR: Final = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_MATCHER: Final = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_NAME: Final = re.compile(r"(?<![\w.$])([a-zA-Z_:][\w:]*)(?![\w:]|\s*\()")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    metric: str
    label: str
    operator: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What an expression names."""

    metrics: frozenset[str]
    matchers: Sequence[Matcher]
    grouped_by: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A rule that alerts; its name and its own labels tell it from all others."""

    file: str
    name: str
    expression: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def severity(self) -> str:
        return self.labels.get("severity", "")


def require_tool(name: str) -> str:
    """Its path; skips loudly where it is missing, and fails where the run must be complete."""
    found = shutil.which(name)
    if found is None:
        missing = f"no `{name}` on the PATH (Debian: prometheus, prometheus-alertmanager)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing, pytrace=False)
        pytest.skip(f"SKIPPED {name.upper()}: {missing}")
    return found


def run_tool(
    name: str, *arguments: object, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    command = [require_tool(name), *map(str, arguments)]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=300, input=given
    )


def rules() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each rule, with the name of its file."""
    for path in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield path.name, rule


def alerts() -> list[Alert]:
    return [
        Alert(
            file=file,
            name=rule["alert"],
            expression=rule["expr"],
            labels=rule.get("labels", {}),
            annotations=rule.get("annotations", {}),
        )
        for file, rule in rules()
        if "alert" in rule
    ]


def said_by(expression: str) -> Said:
    """The metrics, matchers and labels to group by that a PromQL expression names."""
    selectors = _SELECTOR.findall(expression)
    rest = _SELECTOR.sub(lambda found: found[1], expression)
    grouped = {
        label.strip()
        for labels in _GROUPING.findall(rest)
        for label in labels.split(",")
        if label.strip()
    }
    rest = re.sub(r'\[[^\]]*\]|"[^"]*"', " ", _GROUPING.sub(" ", rest))
    return Said(
        metrics=frozenset(name for name in _NAME.findall(rest) if name.lower() not in _WORDS),
        matchers=[
            Matcher(metric=metric, label=label, operator=operator, value=value)
            for metric, inside in selectors
            for label, operator, value in _MATCHER.findall(inside)
        ],
        grouped_by=frozenset(grouped),
    )


def seconds_of(duration: str) -> float:
    """`1h15m` in seconds, as Prometheus writes durations."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
    parts = re.findall(r"(\d+)(ms|[smhdwy])", duration)
    if not parts or "".join(map("".join, parts)) != duration:
        raise ValueError(f"no duration: {duration}")
    return sum(int(number) * units[unit] for number, unit in parts)


def states_shown(alert: Alert, tests: Sequence[dict[str, Any]]) -> set[str]:
    """Which of `silent`, `fires`, `resolves` the promtool tests show of this very rule."""
    shown = set()
    for group in tests:
        looks = sorted(
            (seconds_of(str(look["eval_time"])), _expects(look, alert))
            for look in group.get("alert_rule_test", ())
            if look["alertname"] == alert.name
        )
        fires_at = [moment for moment, fires in looks if fires]
        if fires_at:
            shown.add("fires")
            if any(not fires and moment > fires_at[0] for moment, fires in looks):
                shown.add("resolves")
        if any(not fires and not (fires_at and moment > fires_at[0]) for moment, fires in looks):
            shown.add("silent")
    return shown


def _expects(look: Mapping[str, Any], alert: Alert) -> bool:
    return any(
        alert.labels.items() <= expected["exp_labels"].items()
        for expected in look.get("exp_alerts", ())
    )
