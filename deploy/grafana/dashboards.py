"""Writes the dashboards: `python deploy/grafana/dashboards.py [FOLDER]`.

What is asked stands in `boards/*.yml`; how Grafana wants it said stands here.
"""

import json
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

Json: TypeAlias = dict[str, Any]

FOLDER: Final = Path(__file__).parent
_COLUMNS: Final = 24
_SOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}


def as_json(name: str, board: Json) -> Json:
    """The dashboard as Grafana imports it; the same input gives the same text."""
    return {
        "uid": f"perennial-{name}",
        "title": board["title"],
        "description": board["description"],
        "tags": ["perennial"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": list(_variables(by_service=board.get("by_service", False)))},
        "links": [
            {
                "type": "dashboards",
                "title": "Perennial",
                "tags": ["perennial"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "annotations": {"list": []},
        "panels": list(_placed(board)),
    }


def _variables(*, by_service: bool) -> Iterator[Json]:
    yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    if by_service:
        yield {
            "name": "service",
            "label": "Service",
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": "label_values(perennial_dependency_up, service)", "refId": "A"},
            "refresh": 2,
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "current": {"text": "All", "value": "$__all"},
        }
    yield {
        "name": "runbooks",
        "label": "Runbooks at",
        "type": "textbox",
        "query": "https://runbooks.example",
        "current": {"text": "https://runbooks.example", "value": "https://runbooks.example"},
    }


def _placed(board: Json) -> Iterator[Json]:
    ids, y = count(1), 0
    for row in board["rows"]:
        panels = row["panels"]
        place = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
        yield {
            "id": next(ids),
            "type": "row",
            "title": row["question"],
            "gridPos": place,
            "panels": [],
        }
        width = _COLUMNS // len(panels)
        for number, panel in enumerate(panels):
            place = {"x": number * width, "y": y + 1, "w": width, "h": 8}
            yield {"id": next(ids), "gridPos": place, **_panel(panel)}
        y += 9


def _panel(panel: Json) -> Json:
    shown, unit = panel.get("kind", "timeseries"), panel.get("unit", "short")
    is_instant = shown in {"stat", "table"}
    defaults: Json = {"unit": unit, "thresholds": _thresholds(panel)}
    options: Json = {}
    match shown:
        case "timeseries" | "stacked":
            custom: Json = {"fillOpacity": 10, "showPoints": "never", "spanNulls": False}
            if shown == "stacked":
                custom |= {"fillOpacity": 60, "stacking": {"mode": "normal", "group": "A"}}
            if "limits" in panel:
                custom["thresholdsStyle"] = {"mode": "line"}
            defaults |= {"custom": custom, "min": 0}
            options = {"legend": {"displayMode": "list", "placement": "bottom"}}
        case "stat":
            options = {"colorMode": "background", "reduceOptions": {"calcs": ["lastNotNull"]}}
        case "heatmap":
            options = {"calculate": False, "yAxis": {"unit": unit}}
    return {
        "type": "timeseries" if shown == "stacked" else shown,
        "title": panel["title"],
        "description": panel["description"],
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _SOURCE,
                "expr": asked["expr"],
                "legendFormat": asked.get("legend", ""),
                "instant": is_instant,
                "range": not is_instant,
                "format": {"table": "table", "heatmap": "heatmap"}.get(shown, "time_series"),
            }
            for number, asked in enumerate(panel["asked"])
        ],
        "links": [
            {"title": name, "url": f"${{runbooks}}/{name}.md", "targetBlank": True}
            for name in panel.get("runbooks", ())
        ],
    }


def _thresholds(panel: Json) -> Json:
    """Steps go upwards, each its colour from its value on; the first has no value."""
    limits = sorted(panel.get("limits", {}).items(), key=lambda limit: float(limit[1]))
    colours = [colour for colour, _ in limits]
    colours = [*colours, "green"] if panel.get("is_worse_below") else ["green", *colours]
    values = [None, *(value for _, value in limits)]
    steps = [
        {"color": colour, "value": value} for colour, value in zip(colours, values, strict=True)
    ]
    return {"mode": "absolute", "steps": steps}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((FOLDER / "boards").glob("*.yml")):
        found = as_json(path.stem, yaml.safe_load(path.read_text()))
        text = json.dumps(found, indent=1, ensure_ascii=False)
        (folder / f"{path.stem}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "dashboards")
