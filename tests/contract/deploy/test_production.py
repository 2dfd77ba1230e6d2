"""What the production overlay adds: it outlives a node, scales, is watched, and speaks TLS."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.scoring import app as scoring
from services.scoring import placing
from shared.log.topics import TOPICS
from shared.messages import UNPLACED_EVENTS, USAGE_EVENTS, USAGE_EVENTS_OVERFLOW
from shared.settings import LogSettings
from tests.contract.deploy.manifests import (
    OVERLAYS,
    ROOT,
    SERVICES,
    TOOLS,
    egress,
    environment,
    of_kind,
    pods,
    rendered,
    require,
    selects,
)

OPERATORS = {"ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule"}


def scaling() -> dict[str, Any]:
    (only,) = of_kind("production", "ScaledObject").values()
    spec: dict[str, Any] = only["spec"]
    return spec


def least_replicas(service: str) -> int:
    autoscaled = {
        one["spec"]["scaleTargetRef"]["name"]: one["spec"]["minReplicas"]
        for one in of_kind("production", "HorizontalPodAutoscaler").values()
    } | {scaling()["scaleTargetRef"]["name"]: scaling()["minReplicaCount"]}
    stated = of_kind("production", "Deployment")[service]["spec"].get("replicas")
    # What both an autoscaler and a manifest set is set back at each `kubectl apply`.
    assert (stated is None) == (service in autoscaled), service
    replicas: int = autoscaled[service] if stated is None else stated
    return replicas


@pytest.mark.parametrize("service", SERVICES)
def test_one_replica_may_go_and_another_is_elsewhere(service: str) -> None:
    assert least_replicas(service) >= 2
    (budget,) = [
        one["spec"]
        for one in of_kind("production", "PodDisruptionBudget").values()
        if selects(one["spec"]["selector"], pods("production")[service].labels)
    ]
    assert budget["maxUnavailable"] == 1
    spread = pods("production")[service].spec["topologySpreadConstraints"]
    assert {(one["topologyKey"], one["whenUnsatisfiable"]) for one in spread} == {
        ("kubernetes.io/hostname", "DoNotSchedule"),
        ("topology.kubernetes.io/zone", "ScheduleAnyway"),
    }
    for one in spread:
        assert selects(one["labelSelector"], pods("production")[service].labels)
        assert set(one["matchLabelKeys"]) == {"app.kubernetes.io/component", "pod-template-hash"}


def test_a_small_installation_runs_one_of_each() -> None:
    found = of_kind("small", "Deployment")
    assert {name: one["spec"]["replicas"] for name, one in found.items()} == {
        "ingest": 1,
        "scoring": 1,
        "notifier": 1,
    }


def test_a_small_installation_needs_no_operator() -> None:
    assert not {one["kind"] for one in rendered("small")} & OPERATORS


def test_ingest_scales_by_its_processor() -> None:
    spec = of_kind("production", "HorizontalPodAutoscaler")["ingest"]["spec"]
    (metric,) = spec["metrics"]
    assert metric["resource"] == {
        "name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 60},
    }
    # A process uses one core: 60 % of another request would be another load.
    assert pods("production")["ingest"].container["resources"]["requests"]["cpu"] == "1"


def test_scoring_scales_by_lag_in_small_steps() -> None:
    spec = scaling()
    assert spec["cooldownPeriod"] == 300
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    steps = [
        policy["value"]
        for direction in ("scaleUp", "scaleDown")
        for policy in behavior[direction]["policies"]
    ]
    assert all(step <= 2 for step in steps)
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 300
    assert spec["minReplicaCount"] >= 2


def test_scoring_never_has_more_replicas_than_partitions() -> None:
    partitions = {topic.name: topic.partitions for topic in TOPICS}
    prefix = LogSettings.model_fields["perennial_topic_prefix"].default
    triggers = scaling()["triggers"]
    for trigger in triggers:
        assert trigger["metadata"]["allowIdleConsumers"] == "false"
        assert trigger["metadata"]["offsetResetPolicy"] == "earliest"
        name = trigger["metadata"]["topic"].removeprefix(prefix)
        assert scaling()["maxReplicaCount"] <= partitions[name]
    said = [(one["metadata"]["consumerGroup"], one["metadata"]["topic"]) for one in triggers]
    assert said == [
        (scoring.SERVICE, prefix + USAGE_EVENTS),
        (scoring.SERVICE, prefix + USAGE_EVENTS_OVERFLOW),
        (placing.GROUP, prefix + UNPLACED_EVENTS),
    ]


def test_keda_speaks_to_kafka_as_scoring_does() -> None:
    own = environment("production", pods("production")["scoring"])
    for trigger in scaling()["triggers"]:
        said = trigger["metadata"]
        assert said["bootstrapServers"] == own["KAFKA_BOOTSTRAP_SERVERS"]
        assert said["sasl"] == own["KAFKA_SASL_MECHANISM"].lower().replace("-", "_").replace(
            "sha_", "sha"
        )
        assert said["tls"] == "enable"
    (authentication,) = of_kind("production", "TriggerAuthentication").values()
    (user,) = authentication["spec"]["env"]
    assert (user["name"], user["containerName"]) == ("KAFKA_SASL_USERNAME", "scoring")


def test_production_is_said_and_means_tls() -> None:
    for pod in pods("production").values():
        own = environment("production", pod)
        if pod.name == "backup":
            assert own["PGSSLMODE"] == "verify-full"
        if pod.owner == "backup":  # the other one goes by its URL, and speaks to nothing else
            continue
        assert own["PERENNIAL_PRODUCTION"] == "true"
        assert own["KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
        assert "PERENNIAL_ALLOW_PLAINTEXT" not in own
    notifier = environment("production", pods("production")["notifier"])
    assert notifier["PERENNIAL_CONSOLE_URL"].startswith("https://")


def test_each_part_signs_in_to_kafka_as_its_access_rules_name_it() -> None:
    users = {
        pod.name: environment("production", pod).get("KAFKA_SASL_USERNAME")
        for pod in pods("production").values()
    }
    assert users == {
        "ingest": "ingest",
        "scoring": "scoring",
        "notifier": "notifier",
        "migrate": "migrate",
        "training": "scoring",
        "tools": "operator",
        "backup": None,
        "backup/receipts": None,
    }


def test_what_has_a_metric_is_scraped() -> None:
    (monitor,) = of_kind("production", "PodMonitor").values()
    scraped = [
        pod.name
        for pod in pods("production").values()
        if selects(monitor["spec"]["selector"], pod.labels)
    ]
    assert sorted(scraped) == sorted(SERVICES)
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("admin", "/metrics")


def test_what_is_made_of_rules_and_dashboards_is_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "kubernetes" / "monitoring.py", "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_operator_gets_every_group_of_rules() -> None:
    written = [
        in_one_line(group)
        for path in sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    ]
    given = [
        in_one_line(group)
        for one in of_kind("production", "PrometheusRule").values()
        for group in one["spec"]["groups"]
    ]
    assert sorted(given, key=name_of) == sorted(written, key=name_of)
    assert written


def name_of(group: dict[str, Any]) -> str:
    return str(group["name"])


def in_one_line(group: dict[str, Any]) -> dict[str, Any]:
    """Without the line breaks of expressions: kustomize writes some twice, PromQL needs none."""
    rules = [{**rule, "expr": " ".join(rule["expr"].split())} for rule in group["rules"]]
    return {**group, "rules": rules}


def test_every_dashboard_is_in_a_config_map_that_grafana_takes() -> None:
    one = of_kind("production", "ConfigMap")["dashboards"]
    assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
    folder = ROOT / "deploy" / "grafana" / "dashboards"
    assert {name: json.loads(text) for name, text in (one.get("data") or {}).items()} == {
        path.name: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")
    }
    # A ConfigMap holds 1 MiB.
    assert sum(map(len, (one.get("data") or {}).values())) < 1_000_000


def operators_resources(folder: Path) -> list[Path]:
    paths = []
    for number, one in enumerate(rendered("production")):
        if one["kind"] in OPERATORS:
            path = folder / f"{one['kind']}-{number}.json"
            path.write_text(json.dumps(one))
            paths.append(path)
    return paths


def validate(paths: list[Path]) -> subprocess.CompletedProcess[str]:
    tool = TOOLS / "check-jsonschema"
    require(str(tool) if tool.exists() else None, "check-jsonschema")
    schema = ROOT / "deploy" / "checks" / "operators.schema.json"
    return subprocess.run(
        [tool, "--schemafile", schema, *paths], check=False, capture_output=True, text=True
    )


def test_what_operators_read_has_the_fields_that_they_know(tmp_path: Path) -> None:
    paths = operators_resources(tmp_path)
    assert {path.name.partition("-")[0] for path in paths} == OPERATORS
    done = validate(paths)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("ScaledObject", "maxReplicas"),
        ("TriggerAuthentication", "secretRef"),
        ("PodMonitor", "endpoints"),
        ("PrometheusRule", "rules"),
    ],
)
def test_a_field_that_an_operator_does_not_know_is_found(
    kind: str, field: str, tmp_path: Path
) -> None:
    path = next(one for one in operators_resources(tmp_path) if one.name.startswith(kind))
    wrong = json.loads(path.read_text())
    wrong["spec"][field] = 1
    path.write_text(json.dumps(wrong))
    assert f"'{field}' was unexpected" in validate([path]).stdout


def test_every_overlay_is_tested() -> None:
    folder = ROOT / "deploy" / "kubernetes" / "overlays"
    assert {path.name for path in folder.iterdir()} == set(OVERLAYS)


def test_who_signed_postgresqls_certificate_is_where_the_urls_say() -> None:
    page = (ROOT / "deploy" / "kubernetes" / "README.md").read_text(encoding="utf-8")
    (path,) = set(re.findall(r"sslrootcert=([^'&]+)'", page))
    with_database = [
        pod for pod in pods("production").values() if ("any", 5432) in egress("production", pod)
    ]
    assert len(with_database) == 7
    for pod in with_database:
        volume = pod.mounted(path)
        assert volume is not None, pod.name
        assert volume["secret"]["secretName"] == "postgresql", pod.name
