"""Who may speak to whom, by the network policies of each overlay."""

import pytest

from tests.contract.deploy.manifests import (
    OVERLAYS,
    SERVICES,
    egress,
    ingress,
    of_kind,
    pods,
    policies,
)

NAMES = {("namespace kube-system", 53), ("169.254.20.10/32", 53)}
LOG = {("any", 9092), ("any", 9093)}
DATABASE = {("any", 5432), ("any", 6432)}
PUBLIC = {("0.0.0.0/0", 443), ("::/0", 443)}
MAIL = {("any", 465), ("any", 587)}
PROMETHEUS = {("namespace monitoring", 9100)}
CONTROLLER = "namespace ingress-nginx"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_speaks_to_anybody_unless_a_rule_says_so(overlay: str) -> None:
    deny = of_kind(overlay, "NetworkPolicy")["default-deny"]["spec"]
    # All pods of the namespace, whoever else may put one there.
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for pod in pods(overlay).values():
        assert deny in list(policies(overlay, pod, "Ingress")), pod.name
        assert deny in list(policies(overlay, pod, "Egress")), pod.name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_pod_reaches_what_its_work_needs_and_nothing_else(overlay: str) -> None:
    channels = PUBLIC | MAIL if overlay == "production" else set()
    assert {pod.name: egress(overlay, pod) for pod in pods(overlay).values()} == {
        # Without a database: it outlives that.
        "ingest": NAMES | LOG,
        "scoring": NAMES | LOG | DATABASE,
        "notifier": NAMES | LOG | DATABASE | {("pod scoring", 8081)} | channels,
        "migrate": NAMES | LOG | DATABASE,
        "training": NAMES | LOG | DATABASE,
        "backup": NAMES | DATABASE,
        "backup/receipts": NAMES | DATABASE,
        "tools": NAMES | LOG | DATABASE | {("pod scoring", 8081), ("pod ingest", 8080)},
    }


def test_the_way_to_public_addresses_leads_into_no_network_of_ours() -> None:
    (rule,) = of_kind("production", "NetworkPolicy")["notifier-to-slack"]["spec"]["egress"]
    blocks = [peer["ipBlock"] for peer in rule["to"]]
    # Where cloud providers tell machines their credentials, and RFC 1918.
    assert {"169.254.0.0/16", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} <= set(
        blocks[0]["except"]
    )
    assert {"fc00::/7", "fe80::/10"} <= set(blocks[1]["except"])


@pytest.mark.parametrize(
    ("overlay", "events", "console"),
    [
        ("small", {("every namespace", 8080)}, {("every namespace", 8082)}),
        (
            "production",
            {(CONTROLLER, 8080), ("namespace true", 8080), ("pod tools", 8080)},
            {(CONTROLLER, 8082)},
        ),
    ],
    ids=OVERLAYS,
)
def test_each_pod_is_reached_by_whom_it_serves_and_nobody_else(
    overlay: str, events: set[tuple[str, int]], console: set[tuple[str, int]]
) -> None:
    assert {pod.name: ingress(overlay, pod) for pod in pods(overlay).values()} == {
        "ingest": events | PROMETHEUS,
        "scoring": {("pod notifier", 8081), ("pod tools", 8081)} | PROMETHEUS,
        "notifier": console | PROMETHEUS,
        "migrate": set(),
        "training": set(),
        "backup": set(),
        "backup/receipts": set(),
        "tools": set(),
    }


def test_only_events_console_and_clicks_come_from_outside_and_by_tls() -> None:
    seen = set()
    for one in of_kind("production", "Ingress").values():
        spec = one["spec"]
        hosts = {host for tls in spec["tls"] for host in tls["hosts"]}
        for rule in spec["rules"]:
            assert rule["host"] in hosts
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                seen.add((rule["host"], path["path"], path["pathType"], service["name"]))
                assert service["port"] == {"name": "http"}
    assert seen == {
        ("events.vendor.example", "/", "Prefix", "ingest"),
        ("perennial.vendor.example", "/", "Prefix", "notifier"),
        ("perennial.vendor.example", "/slack/interactivity", "Exact", "notifier"),
    }


def test_a_small_installation_is_not_published() -> None:
    assert not of_kind("small", "Ingress")


@pytest.mark.parametrize("service", SERVICES)
def test_prometheus_alone_reaches_the_admin_port(service: str) -> None:
    for overlay in OVERLAYS:
        reached = ingress(overlay, pods(overlay)[service])
        assert {place for place, port in reached if port == 9100} == {"namespace monitoring"}
