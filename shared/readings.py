"""Gauges that are read at each scrape: ages and lags go on where a loop stands still.

Whoever knows some of the series tells them while it lives; what nobody tells any more is gone, so
that a partition given to another replica leaves no number behind.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Reading: TypeAlias = tuple[Sequence[str], float]
"""Label values and the value now."""
Teller: TypeAlias = Callable[[], Iterable[Reading]]
"""Answers at once, from memory: a scrape waits for no dependency."""


class Readings(Collector):
    """A gauge, with labels; of two tellers of the same series the last one holds."""

    def __init__(
        self, name: str, help_text: str, labels: Sequence[str], *, registry: CollectorRegistry
    ) -> None:
        self.name = name
        self.label_names = tuple(labels)
        self._help = help_text
        self._tellers: list[Teller] = []
        registry.register(self)

    def add(self, teller: Teller) -> None:
        self._tellers.append(teller)

    @contextmanager
    def told_by(self, teller: Teller) -> Iterator[None]:
        """The teller is asked while the context is open."""
        self._tellers.append(teller)
        try:
            yield
        finally:
            self._tellers.remove(teller)

    def collect(self) -> Iterator[Metric]:
        found: dict[tuple[str, ...], float] = {}
        for teller in self._tellers:
            for values, value in teller():
                found[tuple(values)] = value
        family = GaugeMetricFamily(self.name, self._help, labels=self.label_names)
        for values, value in sorted(found.items()):
            family.add_metric(values, value)
        yield family
