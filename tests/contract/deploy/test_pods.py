"""Each pod of each overlay: bounded, locked up, probed, and given only what exists."""

import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from services.__main__ import app as command_line
from services.deployment_secrets import Database, make_missing
from services.ingest.settings import IngestSettings
from services.notifier.settings import NotifierSettings
from services.scoring.settings import ScoringSettings
from shared.secret_files import SUFFIX, is_secret
from shared.settings import DatabaseSettings, LogSettings, ProcessSettings, Settings, read
from tests.contract.deploy.manifests import (
    COMPONENT,
    OVERLAYS,
    ROOT,
    SERVICES,
    environment,
    of_kind,
    pods,
    rendered,
)

SHARED: tuple[type[Settings], ...] = (ProcessSettings, LogSettings, DatabaseSettings)
OWN: Mapping[str, type[Settings]] = {
    "ingest": IngestSettings,
    "scoring": ScoringSettings,
    "notifier": NotifierSettings,
}
PORTS = {
    "ingest": IngestSettings.model_fields["ingest_port"].default,
    "scoring": ScoringSettings.model_fields["scoring_port"].default,
    "notifier": NotifierSettings.model_fields["notifier_port"].default,
}
ADMIN = ProcessSettings.model_fields["admin_port"].default
HARD_STOP_SECONDS = 40
"""As services/process.py cuts what does not end."""
LIBPQ = {"PGHOST", "PGDATABASE", "PGPASSWORD_FILE", "PGSSLMODE", "PGSSLROOTCERT"}

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


def fields() -> dict[str, FieldInfo]:
    return {
        name.upper(): info
        for kind in (*SHARED, *OWN.values())
        for name, info in kind.model_fields.items()
    }


def test_all_services_and_jobs_are_there(overlay: str) -> None:
    assert {name: pod.kind for name, pod in pods(overlay).items()} == {
        "ingest": "Deployment",
        "scoring": "Deployment",
        "notifier": "Deployment",
        "migrate": "Job",
        "backup": "CronJob",
        "backup/receipts": "CronJob",
        "training": "CronJob",
        "tools": "CronJob",
    }


def test_each_container_says_what_it_needs_and_may_have(overlay: str) -> None:
    for pod in pods(overlay).values():
        for share in ("requests", "limits"):
            assert set(pod.container["resources"][share]) >= {"cpu", "memory"}, (pod.name, share)


def test_each_pod_is_nobody_and_writes_nowhere_else(overlay: str) -> None:
    for pod in pods(overlay).values():
        outer, inner = pod.spec["securityContext"], pod.container["securityContext"]
        assert (outer["runAsNonRoot"], outer["runAsUser"], outer["runAsGroup"]) == (
            True,
            10001,
            10001,
        )
        assert outer["seccompProfile"] == {"type": "RuntimeDefault"}
        assert inner == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec)
        writable = {
            mount["mountPath"]
            for mount in pod.container["volumeMounts"]
            if not mount.get("readOnly")
        }
        assert writable <= {"/tmp", "/backups"}, pod.name
        for volume in pod.spec["volumes"]:
            assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}), (pod.name, volume)
            assert "hostPath" not in volume


def test_no_pod_can_ask_the_cluster_for_anything(overlay: str) -> None:
    accounts = of_kind(overlay, "ServiceAccount")
    for pod in pods(overlay).values():
        assert pod.spec["serviceAccountName"] == pod.owner
        assert accounts[pod.owner]["automountServiceAccountToken"] is False
        assert pod.spec["automountServiceAccountToken"] is False
    assert not {one["kind"] for one in rendered(overlay)} & {"Role", "ClusterRole", "RoleBinding"}


def test_services_of_the_same_name_give_no_variables(overlay: str) -> None:
    # A Service `scoring` would set SCORING_PORT=tcp://..., and no number could be read from it.
    for pod in pods(overlay).values():
        assert pod.spec["enableServiceLinks"] is False, pod.name


@pytest.mark.parametrize("service", SERVICES)
def test_probes_ask_the_admin_port(overlay: str, service: str) -> None:
    container = pods(overlay)[service].container
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": PORTS[service], "admin": ADMIN}
    asked = {
        probe: container[probe]["httpGet"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert asked == {
        "startupProbe": {"path": "/livez", "port": "admin"},
        "livenessProbe": {"path": "/livez", "port": "admin"},
        "readinessProbe": {"path": "/readyz", "port": "admin"},
    }


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_ends_by_itself_before_it_is_killed(overlay: str, service: str) -> None:
    assert pods(overlay)[service].spec["terminationGracePeriodSeconds"] >= HARD_STOP_SECONDS + 5


@pytest.mark.parametrize("service", SERVICES)
def test_a_new_version_comes_before_the_old_one_goes(overlay: str, service: str) -> None:
    strategy = of_kind(overlay, "Deployment")[service]["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_leads_to_its_pods_and_never_to_the_admin_port(
    overlay: str, service: str
) -> None:
    spec = of_kind(overlay, "Service")[service]["spec"]
    assert spec.get("type", "ClusterIP") == "ClusterIP"
    assert [(port["port"], port["targetPort"]) for port in spec["ports"]] == [
        (PORTS[service], "http")
    ]
    led_to = [
        pod.name for pod in pods(overlay).values() if spec["selector"].items() <= pod.labels.items()
    ]
    assert led_to == [service]


def test_there_are_no_other_services(overlay: str) -> None:
    assert set(of_kind(overlay, "Service")) == set(SERVICES)


def test_what_a_deployment_selects_are_its_own_pods(overlay: str) -> None:
    for name, one in of_kind(overlay, "Deployment").items():
        selected = one["spec"]["selector"]["matchLabels"]
        assert selected[COMPONENT] == name
        assert selected.items() <= pods(overlay)[name].labels.items()


def test_each_variable_is_a_setting(overlay: str) -> None:
    known = fields()
    given = known | {name + SUFFIX: info for name, info in known.items() if is_secret(info)}
    for pod in pods(overlay).values():
        # The backup is PostgreSQL's own programs: variables of libpq.
        allowed = LIBPQ if pod.name == "backup" else set(given)
        assert set(environment(overlay, pod)) - allowed == set(), pod.name


def test_no_secret_stands_in_a_manifest(overlay: str) -> None:
    assert not of_kind(overlay, "Secret")
    secret = {name for name, info in fields().items() if is_secret(info)}
    for pod in pods(overlay).values():
        assert secret & set(environment(overlay, pod)) == set(), pod.name
        assert not [one for one in pod.container.get("env", []) if "valueFrom" in one]
    assert not re.search(r"postgres(ql)?://|prn_live_|xoxb-|PRIVATE KEY", str(rendered(overlay)))


def test_each_file_that_a_variable_names_is_mounted(overlay: str) -> None:
    configs = of_kind(overlay, "ConfigMap")
    for pod in pods(overlay).values():
        for name, value in environment(overlay, pod).items():
            if not value.startswith("/") or name == "PERENNIAL_DATA_DIR":
                continue
            volume = pod.mounted(value)
            assert volume is not None, (pod.name, name, value)
            file = Path(value).name
            if "configMap" in volume:
                assert file in configs[volume["configMap"]["name"]]["data"], (pod.name, name)
            elif items := volume["secret"].get("items"):
                assert file in [item["path"] for item in items], (pod.name, name)


def test_secrets_are_those_that_perennial_makes(overlay: str, tmp_path: Path) -> None:
    made = make_missing(
        tmp_path / "secrets",
        Database(host="db", port=5432, name="perennial"),
        now=datetime(2026, 3, 1, tzinfo=UTC),
    )
    for pod in pods(overlay).values():
        for volume in pod.spec["volumes"]:
            if volume.get("secret", {}).get("secretName") == "perennial":
                asked = {item["key"] for item in volume["secret"]["items"]}
                assert asked <= set(made), pod.name


def test_each_pod_has_the_secrets_of_its_own_work_only(overlay: str) -> None:
    held = {
        pod.name: {
            item["key"]
            for volume in pod.spec["volumes"]
            for item in volume.get("secret", {}).get("items", [])
            if volume["secret"]["secretName"] == "perennial"
        }
        for pod in pods(overlay).values()
    }
    assert held == {
        "ingest": {"user_hash.key"},
        "scoring": {"postgres_scoring.url"},
        "notifier": {"postgres_notifier.url", "notifier.key", "scoring.key"},
        "migrate": {"postgres_owner.url", "scoring.key"},
        "backup": {"postgres_backup.password", "postgres_backup.url"},
        "backup/receipts": {"postgres_backup.password", "postgres_backup.url"},
        "training": {"postgres_scoring.url"},
        "tools": {"postgres_owner.url", "user_hash.key", "notifier.key", "scoring.key"},
    }


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_accepts_its_settings(
    overlay: str, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in fields():
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name + SUFFIX, raising=False)
    pod = pods(overlay)[service]
    for name, value in environment(overlay, pod).items():
        if value.startswith("/"):
            # The file as the cluster puts it there, with content of the right kind.
            volume = pod.mounted(value)
            assert volume is not None
            config = volume.get("configMap")
            content = (
                of_kind(overlay, "ConfigMap")[config["name"]]["data"][Path(value).name]
                if config
                else SAMPLES.get(name, "s" * 40)
            )
            path = tmp_path / name
            path.write_text(content)
            monkeypatch.setenv(name, str(path))
        else:
            monkeypatch.setenv(name, value)
    for kind in (*SHARED, OWN[service]):
        read(kind)
    assert read(ProcessSettings).perennial_prepare is False
    assert read(LogSettings).kafka_bootstrap_servers
    if service == "notifier":
        assert read(NotifierSettings).scoring_url == f"http://scoring:{PORTS['scoring']}"


SAMPLES = {
    "DATABASE_URL_FILE": "postgresql://perennial_scoring:s3cr3t@db/perennial?sslmode=verify-full",
    "SMTP_URL_FILE": "smtp://perennial:s3cr3t@mail.vendor.example:587",
    "SLACK_BOT_TOKEN_FILE": "xoxb-1",
}


def test_images_are_of_this_version_and_named_in_one_place(overlay: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ours: set[tuple[str, str]] = set()
    others: set[tuple[str, str]] = set()
    for pod in pods(overlay).values():
        name, _, tag = pod.container["image"].partition(":")
        (ours if name.startswith("perennial-") else others).add((name, tag))
    assert {tag for _, tag in ours} == {project["version"]}
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    stages = set(re.findall(r"^FROM runtime AS (\w+)$", dockerfile, re.MULTILINE))
    assert {name.removeprefix("perennial-") for name, _ in ours} <= stages
    assert all("@sha256:" in tag for _, tag in others), others


def test_the_backup_is_made_by_the_same_postgresql_as_docker_compose(overlay: str) -> None:
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert f"image: {pods(overlay)['backup'].container['image']}\n" in compose


def test_receipts_of_erasures_are_kept_where_the_backups_are(overlay: str) -> None:
    backup, receipts = (pods(overlay)[name].container for name in ("backup", "backup/receipts"))
    *_, folder = backup["command"]
    assert receipts["args"] == ["erase", "receipts", "--to", f"{folder}/receipts"]
    for container in (backup, receipts):
        mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        assert mounts["backups"] == folder


def test_config_maps_and_claims_that_pods_name_exist(overlay: str) -> None:
    configs, claims = of_kind(overlay, "ConfigMap"), of_kind(overlay, "PersistentVolumeClaim")
    for pod in pods(overlay).values():
        for volume in pod.spec["volumes"]:
            if "configMap" in volume:
                assert volume["configMap"]["name"] in configs
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims


def test_a_file_that_is_read_again_is_no_part_of_a_restart(overlay: str) -> None:
    # The notifier reads its team file again: its name must not change. What is read at start
    # alone carries a hash.
    names = of_kind(overlay, "ConfigMap")
    assert "team" in names
    assert "settings" not in names
    assert "rules" not in names
    mounts = pods(overlay)["notifier"].container["volumeMounts"]
    assert not [mount for mount in mounts if "subPath" in mount]


def test_each_pod_runs_a_command_that_there_is(overlay: str) -> None:
    for pod in pods(overlay).values():
        if arguments := pod.container.get("args"):
            assert CliRunner().invoke(command_line, [*arguments, "--help"]).exit_code == 0, pod.name
        else:
            assert pod.container["command"][0] in ("sh", "sleep"), pod.name


def test_what_is_prepared_first_has_no_pods(overlay: str) -> None:
    # README.md applies what has no component label before the migration, and the rest after it.
    prepared = {
        one["kind"]
        for one in rendered(overlay)
        if COMPONENT not in one["metadata"].get("labels", {})
    }
    assert not prepared & {"Deployment", "Job", "CronJob", "Service"}
    assert {"Namespace", "ConfigMap", "ServiceAccount", "NetworkPolicy"} <= prepared


def test_jobs_by_the_clock_never_overlap(overlay: str) -> None:
    for name, one in of_kind(overlay, "CronJob").items():
        assert one["spec"]["concurrencyPolicy"] == "Forbid", name
        assert one["spec"]["timeZone"] == "Etc/UTC", name
        assert one["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"], name


def test_the_pod_for_commands_starts_only_by_hand_and_ends_by_itself(overlay: str) -> None:
    spec = of_kind(overlay, "CronJob")["tools"]["spec"]
    assert spec["suspend"] is True
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] <= 3600


def test_all_is_in_one_namespace_that_wants_restricted_pods(overlay: str) -> None:
    (namespace,) = of_kind(overlay, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for one in rendered(overlay):
        if one["kind"] != "Namespace":
            assert one["metadata"]["namespace"] == namespace["metadata"]["name"], one["metadata"]
