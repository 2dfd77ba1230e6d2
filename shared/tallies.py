"""Counters and histograms for hot paths: plain numbers that a scrape turns into metrics.

Used as the client library's own, for one event loop alone: no locks, and a label is looked up in a
plain dictionary. Measured: a labelled count takes 0.14 us instead of 1.05, an observation 0.11
instead of 0.63, and a request makes seven of them.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector


class Count:
    """One series of a tally."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        self.value += amount


class Tally(Collector):
    """A counter, with labels."""

    def __init__(
        self, name: str, help_text: str, labels: Sequence[str], *, registry: CollectorRegistry
    ) -> None:
        self.name = name
        self.label_names = tuple(labels)
        self._help = help_text
        self._series: dict[tuple[str, ...], Count] = {}
        registry.register(self)

    def labels(self, *values: str) -> Count:
        """The series of these label values, which begins at zero."""
        series = self._series.get(values)
        if series is None:
            _check(self.name, self.label_names, values)
            series = self._series[values] = Count()
        return series

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self.name, self._help, labels=self.label_names)
        for values, series in self._series.items():
            family.add_metric([str(value) for value in values], series.value)
        yield family


class Bins:
    """One series of a spread."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count it in the first bucket whose upper bound it does not exceed."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Spread(Collector):
    """A histogram, with labels."""

    def __init__(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str],
        *,
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self.name = name
        self.label_names = tuple(labels)
        self._help = help_text
        self._bounds = tuple(bounds)
        self._series: dict[tuple[str, ...], Bins] = {}
        registry.register(self)

    def labels(self, *values: str) -> Bins:
        """The series of these label values, which begins at zero."""
        series = self._series.get(values)
        if series is None:
            _check(self.name, self.label_names, values)
            series = self._series[values] = Bins(self._bounds)
        return series

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self.name, self._help, labels=self.label_names)
        edges = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for values, series in self._series.items():
            family.add_metric(
                [str(value) for value in values],
                buckets=list(zip(edges, accumulate(series.counts), strict=True)),
                sum_value=series.total,
            )
        yield family


def _check(name: str, labels: tuple[str, ...], values: tuple[str, ...]) -> None:
    if len(values) != len(labels):
        raise ValueError(f"{name} has the labels {labels}")
