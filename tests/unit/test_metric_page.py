"""The page of metrics is what the registries hold, and series start at zero."""

from prometheus_client import CollectorRegistry

from shared.telemetry import Dependency, Operation
from tests.metric_catalogue import PAGE, catalogue, full_frame, page


def test_the_page_of_metrics_is_current() -> None:
    """`python -m tests.metric_catalogue` writes it."""
    assert PAGE.read_text() == page()


def test_names_have_their_prefix_and_their_units() -> None:
    for name, (kind, labels) in catalogue().items():
        assert name.startswith("perennial_")
        assert (kind == "counter") == name.endswith("_total"), name
        assert not {"account", "account_id", "user", "url", "error", "key"} & set(labels), name


def test_each_labelled_counter_starts_with_all_its_series_at_zero() -> None:
    frame = full_frame()
    for service in ("ingest", "scoring", "notifier"):
        frame.metrics.preset(
            service, ["flags"], ["intake"], dependencies=Dependency, operations=Operation
        )
    empty = sorted(
        family.name
        for family in frame.registry.collect()
        if family.type in ("counter", "histogram") and not family.samples
    )
    # Known once there are routes, or a quarantine that says why.
    later = {
        "perennial_http_requests",
        "perennial_http_request_seconds",
        "perennial_ingest_quarantined",
        "perennial_ingest_quarantine_dropped",
    }
    assert set(empty) <= later
    assert all(value == 0 for value in _counts(frame.registry))


def _counts(registry: CollectorRegistry) -> list[float]:
    return [
        sample.value
        for family in registry.collect()
        if family.type == "counter"
        for sample in family.samples
        if sample.name.endswith("_total")
    ]
