"""Each alert says whom it hurts and what to do, is tried by promtool, and names what exists."""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from services.__main__ import app
from services.ingest.wire import FormatName
from services.notifier.domain.attempts import Class
from services.notifier.routes import CHANNELS
from services.scoring.metrics import GivenUp
from shared.telemetry import Dependency
from tests.metric_catalogue import Catalogue, catalogue
from tests.prometheus_tools import (
    DEPLOY,
    OPTIONAL,
    PROMTOOL_TESTS,
    Alert,
    alerts,
    rules,
    run_tool,
    said_by,
    states_shown,
)

ALERTS = alerts()
RUNBOOKS = DEPLOY / "runbooks"
SECTIONS = ["Symptom", "Impact", "Checks", "Mitigation", "Verify"]
# Of a target, not of ours.
TARGET_LABELS = {"job", "instance"}
OTHERS = {"up": TARGET_LABELS, "ALERTS": {"alertname", "alertstate", "severity", "service"}}
NOT_USED = {
    "perennial_fence_missed_total": "counts only where a test has switched the fence off",
}
"""Metrics that neither a rule nor a dashboard names, and why not."""


def each(found: list[Alert]) -> list[Any]:
    return [
        pytest.param(alert, id=f"{alert.name} {'-'.join(alert.labels.values())}") for alert in found
    ]


@cache
def recorded() -> dict[str, set[str]]:
    """The series that our rules make, by name, with their labels."""
    return {
        rule["record"]: set(rule.get("labels", {})) | {"slo"}
        for _, rule in rules()
        if "record" in rule
    }


@cache
def promtool_tests() -> list[dict[str, Any]]:
    return [
        group
        for path in PROMTOOL_TESTS.glob("*.yml")
        for group in yaml.safe_load(path.read_text())["tests"]
    ]


def labels_of(name: str, known: Catalogue) -> set[str] | None:
    """The labels that a series of this name has; None: there is none."""
    if name in known and known[name][0] != "histogram":
        return set(known[name][1]) | TARGET_LABELS
    for suffix in ("_bucket", "_sum", "_count"):
        family = name.removesuffix(suffix)
        if family != name and family in known and known[family][0] == "histogram":
            return set(known[family][1]) | TARGET_LABELS | {"le"}
    return recorded().get(name) or OTHERS.get(name)


def complaints(expression: str, known: Catalogue) -> Iterator[str]:
    """What an expression names and what is not there."""
    said = said_by(expression)
    allowed = set(re.findall(r'"(\w+)", "[\w-]+", "", ""', expression))
    for name in said.metrics:
        labels = labels_of(name, known)
        if labels is None:
            yield f"there is no {name}"
        else:
            allowed |= labels
    for matcher in said.matchers:
        labels = labels_of(matcher.metric, known)
        if labels is not None and matcher.label not in labels:
            yield f"{matcher.metric} has no label {matcher.label}"
    for label in said.grouped_by - allowed:
        yield f"nothing there has the label {label}"


def expressions() -> Iterator[tuple[str, str]]:
    """Each expression of our own rules and dashboards, and where it stands."""
    for file, rule in rules():
        if file != OPTIONAL:
            yield f"{file}: {rule.get('alert') or rule.get('record')}", rule["expr"]
    for path in sorted((DEPLOY / "grafana" / "boards").glob("*.yml")):
        for row in yaml.safe_load(path.read_text())["rows"]:
            for panel in row["panels"]:
                for asked in panel["asked"]:
                    yield f"{path.name}: {panel['title']}", asked["expr"]
    for path in sorted(RUNBOOKS.glob("*.md")):
        for block in re.findall(r"```promql\n(.*?)```", path.read_text(), re.DOTALL):
            for line in block.strip().splitlines():
                yield path.name, line


def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    done = run_tool("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.name) for path in sorted(PROMTOOL_TESTS.glob("*.yml"))]
)
def test_alerts_fire_stay_silent_and_resolve_as_promtool_plays_it(path: Path) -> None:
    done = run_tool("promtool", "test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", each([one for one in ALERTS if one.name != "Heartbeat"]))
def test_promtool_shows_all_three_states_of_each_alert(alert: Alert) -> None:
    assert states_shown(alert, promtool_tests()) == {"silent", "fires", "resolves"}


def test_budgets_burn_by_the_same_rule_for_each_objective() -> None:
    """But for the objective's name, and the traffic below which nothing is said."""
    shapes: dict[str, set[str]] = {"page": set(), "ticket": set()}
    objectives = set()
    for alert in (one for one in ALERTS if one.name.endswith("Burn")):
        [objective] = set(re.findall(r'slo="(\w+)"', alert.expression))
        objectives.add(objective)
        assert alert.name == "".join(map(str.title, objective.split("_"))) + "Burn"
        said = alert.expression.replace(f'slo="{objective}"', "")
        shapes[alert.severity].add(re.sub(r"(:5m\]\)) > (10|20|60)\)", r"\1)", said))
    assert [len(found) for found in shapes.values()] == [1, 1]
    budgets = {rule["labels"]["slo"] for _, rule in rules() if "budget" in rule.get("record", "")}
    assert objectives == budgets


def test_a_test_that_leaves_out_a_state_is_noticed() -> None:
    alert = Alert(file="", name="A", expression="", labels={"severity": "page"}, annotations={})
    fires = {"eval_time": "5m", "alertname": "A", "exp_alerts": [{"exp_labels": alert.labels}]}
    ticket = {"exp_labels": {"severity": "ticket"}}
    assert states_shown(alert, [{"alert_rule_test": [fires]}]) == {"fires"}
    later = {"eval_time": "1h5m", "alertname": "A", "exp_alerts": [ticket]}
    assert states_shown(alert, [{"alert_rule_test": [later, fires]}]) == {"fires", "resolves"}
    before = {"eval_time": "1m", "alertname": "A"}
    assert states_shown(alert, [{"alert_rule_test": [before]}]) == {"silent"}


@pytest.mark.parametrize("alert", each(ALERTS))
def test_an_alert_says_how_urgent_it_is_and_whom_it_hurts(alert: Alert) -> None:
    assert alert.severity in {"page", "ticket", "none"}
    assert (alert.severity == "none") == (alert.name == "Heartbeat")
    summary, description = alert.annotations["summary"], alert.annotations["description"]
    # Whoever is woken reads what users notice before any number or name of ours.
    assert 20 <= len(summary) <= 90, len(summary)
    assert not re.search(r"\$value|perennial_", summary)
    assert "$value" in description or alert.name in {
        "Heartbeat", "ServiceDown", "TargetDown", "DependencyDown", "MassFlags", "DataStale",
        "IntegrationBroken", "FilesRejected", "BackupOld",
    }  # fmt: skip
    assert alert.annotations["runbook_url"] == f"deploy/runbooks/{alert.name}.md"


@pytest.mark.parametrize("name", sorted({alert.name for alert in ALERTS}))
def test_a_runbook_has_all_sections_with_something_in_them(name: str) -> None:
    parts = re.split(r"^## (.*)$", (RUNBOOKS / f"{name}.md").read_text(), flags=re.MULTILINE)
    assert parts[0].strip() == f"# {name}"
    assert parts[1::2] == SECTIONS
    assert all(len(text.split()) >= 3 for text in parts[2::2])
    assert "```sh" in parts[2 * SECTIONS.index("Checks") + 2]


def test_there_is_no_runbook_without_an_alert() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == {alert.name for alert in ALERTS}


def test_runbooks_name_only_commands_that_exist() -> None:
    known = _commands(typer.main.get_command(app))
    found = {
        (path.name, match[1])
        for path in RUNBOOKS.glob("*.md")
        for match in re.finditer(
            r"(?:^|`|-- )perennial ((?:[a-z]+ ?)+)", path.read_text(), re.MULTILINE
        )
    }
    assert len(found) > 20
    assert not _is_command(["no", "such"], known)
    assert not _is_command(["quarantine", "lose"], known)
    wrong = [one for one in found if not _is_command(one[1].split(), known)]
    assert not wrong


def test_runbooks_name_only_lines_of_logs_that_exist() -> None:
    code = "".join(
        path.read_text()
        for part in ("services", "shared")
        for path in (DEPLOY.parent / part).rglob("*.py")
    )
    named = {
        match[1]
        for path in RUNBOOKS.glob("*.md")
        for match in re.finditer(r"`([a-z]+\.[a-z_]+)`", path.read_text())
    }
    assert "horizon.log_ends_before_positions" in named
    assert not [one for one in named if f'"{one}"' not in code]


def _commands(command: object) -> dict[str, Any]:
    """By name, each with its own."""
    found: dict[str, object] = getattr(command, "commands", {})
    return {name: _commands(one) for name, one in found.items()}


def _is_command(words: list[str], known: Mapping[str, Any]) -> bool:
    """Words after a command without commands of its own are its arguments; a group may be named."""
    if not words or not known:
        return True
    return words[0] in known and _is_command(words[1:], known[words[0]])


def test_rules_dashboards_and_runbooks_name_only_metrics_and_labels_that_exist() -> None:
    known = catalogue()
    wrong = [f"{place}: {why}" for place, text in expressions() for why in complaints(text, known)]
    assert not wrong


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("sum(perennial_no_such_total)", "there is no perennial_no_such_total"),
        ("perennial_batch_seconds > 1", "there is no perennial_batch_seconds"),
        ('perennial_mass_flags{channel="x"}', "perennial_mass_flags has no label channel"),
        ("sum by (route) (perennial_accounts)", "nothing there has the label route"),
    ],
)
def test_a_metric_or_label_that_does_not_exist_is_noticed(expression: str, why: str) -> None:
    assert list(complaints(expression, catalogue())) == [why]


def test_each_metric_is_on_a_dashboard_or_in_a_rule_or_excused() -> None:
    known = catalogue()
    named = {
        name
        for place, text in expressions()
        if not place.endswith(".md")
        for name in said_by(text).metrics
    }
    unused = {
        metric
        for metric in known
        if not named & {metric, f"{metric}_bucket", f"{metric}_sum", f"{metric}_count"}
    }
    assert unused == NOT_USED.keys()


def test_only_the_optional_rules_ask_for_metrics_of_others() -> None:
    names = {
        name for file, rule in rules() if file == OPTIONAL for name in said_by(rule["expr"]).metrics
    }
    assert names == {
        "kubelet_volume_stats_available_bytes",
        "kubelet_volume_stats_capacity_bytes",
        "node_filesystem_avail_bytes",
        "node_filesystem_size_bytes",
    }


def test_labels_are_compared_with_values_that_exist() -> None:
    """A misspelt value matches nothing, and nobody would ever notice."""
    values: dict[str, set[str]] = {
        "class": _values(Class),
        "dependency": _values(Dependency),
        "format": _values(FormatName),
        "channel": set(CHANNELS),
        "why": _values(GivenUp),
        "service": {"ingest", "scoring", "notifier"},
    }
    seen = set()
    for place, text in expressions():
        for matcher in said_by(text).matchers:
            if matcher.label in values and "$" not in matcher.value:
                seen.add(matcher.label)
                wrong = set(matcher.value.split("|")) - values[matcher.label]
                assert not wrong, f"{place}: {matcher.label} is never {wrong}"
    assert {"class", "dependency", "format", "service", "why"} <= seen


def _values(enum: type[StrEnum]) -> set[str]:
    return {one.value for one in enum}


def test_every_expression_is_promql(tmp_path: Path) -> None:
    """Promtool parses rules: each expression becomes one."""
    found = [
        {"record": f"expression:{number}", "expr": as_rule(text)}
        for number, (_, text) in enumerate(expressions())
    ]
    path = tmp_path / "expressions.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": found}]}))
    done = run_tool("promtool", "check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def as_rule(text: str) -> str:
    """Without Grafana's variables."""
    return text.replace("$__rate_interval", "5m").replace("$__interval", "5m")
