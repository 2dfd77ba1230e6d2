"""What is counted in plain numbers is scraped as the client library's own metrics are."""

import random
import re

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from shared.tallies import Spread, Tally

_BOUNDS = (0.005, 0.1, 1, 2.5)


def test_they_look_like_the_library_s_own() -> None:
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    counters = (
        Counter("app_items", "Items.", ["status"], registry=theirs),
        Tally("app_items", "Items.", ["status"], registry=ours),
    )
    histograms = (
        Histogram("app_seconds", "Seconds.", ["stage"], buckets=_BOUNDS, registry=theirs),
        Spread("app_seconds", "Seconds.", ["stage"], bounds=_BOUNDS, registry=ours),
    )
    random.seed(1)
    values = [*_BOUNDS, 0, 7, *(random.uniform(0, 4) for _ in range(50))]
    for counter in counters:
        counter.labels("accepted").inc()
        counter.labels('re"jected').inc(3)
        counter.labels("never")
    for histogram in histograms:
        histogram.labels("idle")
        for value in values:
            histogram.labels("sent").observe(value)

    def text(registry: CollectorRegistry) -> list[str]:
        lines = generate_latest(registry).decode().splitlines()
        # When a series began: nobody reads it, and we do not keep it.
        return sorted(line for line in lines if not re.search("_created", line))

    assert text(ours) == text(theirs)


def test_labels_are_complete_or_refused() -> None:
    tally = Tally("app_items", "Items.", ["format", "status"], registry=CollectorRegistry())
    with pytest.raises(ValueError, match="format"):
        tally.labels("native")
