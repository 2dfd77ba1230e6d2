"""All metrics of all services as their registries have them: what rules and dashboards may name.

`python -m tests.metric_catalogue` writes `deploy/prometheus/metrics.md` anew.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol, TypeAlias, cast

from prometheus_client import CollectorRegistry

from services.ingest.inflight import InFlight
from services.ingest.metrics import IngestMetrics
from services.notifier.metrics import NotifierMetrics
from services.scoring.metrics import ScoringMetrics
from shared.lifecycle import Frame, new_frame
from shared.readings import Readings
from shared.tallies import Spread, Tally

PAGE: Final = Path(__file__).parent.parent / "deploy" / "prometheus" / "metrics.md"

Catalogue: TypeAlias = Mapping[str, tuple[str, tuple[str, ...]]]
"""By name the type (counter, gauge, histogram) and the labels; a counter's name ends in `_total`,
a histogram's series are its name with `_bucket`, `_sum` and `_count`."""

_UNITS: Final = (
    ("_timestamp_seconds", "seconds since 1970"),
    ("_seconds", "seconds"),
    ("_bytes", "bytes"),
    ("_ratio", "ratio"),
    ("_days_ahead", "days"),
    ("_up", "0 or 1"),
    ("_info", "1"),
)
_ABOUT: Final = """\
# Metrics

Written by `python -m tests.metric_catalogue` from the registries; a test holds it current. A
counter is read with `rate()` or `increase()`; a histogram has the series `_bucket`, `_sum` and
`_count`. Every container answers on its admin port (9100) under `/metrics`; `perennial up` has one
port for all three services, so what they share carries `service`. Ages and lags are computed at
each scrape. Labels are enums or bounded by configuration: never an account, a person or a URL.
"""


class _Known(Protocol):
    """The client's own collectors."""

    _name: str
    _type: str
    _labelnames: tuple[str, ...]


def catalogue() -> Catalogue:
    return described(full_frame().registry)


def described(registry: CollectorRegistry) -> Catalogue:
    return dict(sorted(map(_described, list(registry._collector_to_names))))


def full_frame() -> Frame:
    """A process that runs all three services, of which each has its metrics."""
    frame = new_frame()
    IngestMetrics(frame.registry, InFlight(max_bytes=1, max_events=1))
    ScoringMetrics(frame.registry, frame.metrics)
    NotifierMetrics(frame.registry, frame.metrics)
    return frame


def page() -> str:
    """The catalogue for people."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    every, helps = catalogue(), _helps(full_frame().registry)
    common = set(described(new_frame().registry))
    ingest = {name for name in every if name.startswith("perennial_ingest_")}
    scoring_frame = new_frame()
    ScoringMetrics(scoring_frame.registry, scoring_frame.metrics)
    scoring = set(described(scoring_frame.registry)) - common
    yield _ABOUT
    for title, names in (
        ("All services", common),
        ("ingest", ingest),
        ("scoring", scoring),
        ("notifier", every.keys() - common - ingest - scoring),
    ):
        yield f"## {title}\n"
        yield "| metric | type | labels | unit | meaning |"
        yield "|---|---|---|---|---|"
        for name in sorted(names):
            kind, labels = every[name]
            shown = " ".join(f"`{label}`" for label in labels)
            yield f"| `{name}` | {kind} | {shown} | {_unit(name, kind)} | {helps[name]} |"
        yield ""


def _unit(name: str, kind: str) -> str:
    if kind == "counter":
        return "count"
    return next((unit for suffix, unit in _UNITS if name.endswith(suffix)), "count")


def _helps(registry: CollectorRegistry) -> Mapping[str, str]:
    return {
        f"{one.name}_total" if one.type == "counter" else one.name: one.documentation
        for one in registry.collect()
    }


def _described(collector: object) -> tuple[str, tuple[str, tuple[str, ...]]]:
    match collector:
        case Readings():
            return collector.name, ("gauge", collector.label_names)
        case Tally():
            return f"{collector.name}_total", ("counter", collector.label_names)
        case Spread():
            return collector.name, ("histogram", collector.label_names)
    if hasattr(collector, "label_names"):
        return str(collector.name), ("histogram", ())  # type: ignore[attr-defined]
    own = cast("_Known", collector)
    name = f"{own._name}_total" if own._type == "counter" else own._name
    return name, (own._type, tuple(own._labelnames))


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page())
