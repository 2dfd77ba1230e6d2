"""The dashboards in the repository are what the script writes, and Grafana can draw them."""

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.prometheus_tools import DEPLOY, alerts

GRAFANA = DEPLOY / "grafana"
WRITTEN = sorted((GRAFANA / "dashboards").glob("*.json"))


def opened(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def panels_of(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


each_board = pytest.mark.parametrize("path", [pytest.param(one, id=one.stem) for one in WRITTEN])


def test_the_dashboards_are_what_the_script_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, GRAFANA / "dashboards.py", tmp_path], check=True)
    made = {path.name: path.read_text() for path in tmp_path.glob("*.json")}
    assert made == {path.name: path.read_text() for path in WRITTEN}, (
        "run: python deploy/grafana/dashboards.py"
    )
    assert len(made) == 6


def test_no_two_dashboards_share_an_address() -> None:
    assert len({opened(path)["uid"] for path in WRITTEN}) == len(WRITTEN)


@each_board
def test_panels_have_numbers_and_places_of_their_own(path: Path) -> None:
    board = opened(path)
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    places = [panel["gridPos"] for panel in board["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


@each_board
def test_a_row_asks_a_question_and_has_few_panels(path: Path) -> None:
    for row in yaml.safe_load((GRAFANA / "boards" / f"{path.stem}.yml").read_text())["rows"]:
        assert row["question"].endswith("?")
        assert 2 <= len(row["panels"]) <= 4


@each_board
def test_a_panel_says_what_it_shows_and_from_where(path: Path) -> None:
    board = opened(path)
    variables = {one["name"] for one in board["templating"]["list"]}
    assert {"datasource", "runbooks"} <= variables
    for panel in panels_of(board):
        assert panel["type"] in {"timeseries", "stat", "table", "heatmap"}
        assert len(panel["description"].split()) >= 3, panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"]
        refs = [target["refId"] for target in panel["targets"]]
        assert refs
        assert len(set(refs)) == len(refs)
        for target in panel["targets"]:
            assert target["instant"] != target["range"]
            assert "$service" not in target["expr"] or "service" in variables


@each_board
def test_limits_rise_and_the_first_has_no_value(path: Path) -> None:
    for panel in panels_of(opened(path)):
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        values = [step["value"] for step in steps]
        assert values[0] is None
        assert values[1:] == sorted(values[1:])
        assert "green" in {steps[0]["color"], steps[-1]["color"]}


@each_board
def test_links_lead_to_runbooks_that_exist(path: Path) -> None:
    names = {alert.name for alert in alerts()}
    for panel in panels_of(opened(path)):
        for link in panel["links"]:
            assert link["url"] == f"${{runbooks}}/{link['title']}.md"
            assert link["title"] in names


def test_every_alert_is_reached_from_a_dashboard_that_shows_it() -> None:
    linked = {
        link["title"] for path in WRITTEN for panel in panels_of(opened(path))
        for link in panel["links"]
    }  # fmt: skip
    # What no metric of ours shows while it happens.
    assert {alert.name for alert in alerts()} - linked == {"Heartbeat"}


def test_grafana_is_told_where_prometheus_and_the_dashboards_are() -> None:
    sources = yaml.safe_load(
        (GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text()
    )
    assert {one["type"]: one["url"] for one in sources["datasources"]} == {
        "prometheus": "http://prometheus:9090",
        "alertmanager": "http://alertmanager:9093",
    }
    providers = yaml.safe_load(
        (GRAFANA / "provisioning" / "dashboards" / "perennial.yml").read_text()
    )
    assert [one["options"]["path"] for one in providers["providers"]] == ["/etc/grafana/dashboards"]
