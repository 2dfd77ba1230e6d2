"""What kustomize makes of an overlay, and how its pods and network rules are read."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import yaml

ROOT: Final = Path(__file__).resolve().parents[3]
OVERLAYS: Final = ("small", "production")
SERVICES: Final = ("ingest", "scoring", "notifier")
TOOLS: Final = ROOT / ".venv-checks" / "bin"

COMPONENT: Final = "app.kubernetes.io/component"

Resource: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """The pods that a Deployment, Job or CronJob makes, as one of their containers."""

    kind: str
    name: str
    """Of what makes them; `name/container` of each container but the first."""
    labels: Mapping[str, str]
    spec: Resource
    container: Resource

    @property
    def owner(self) -> str:
        return self.name.partition("/")[0]

    def mounted(self, path: str) -> Resource | None:
        """The volume whose folder holds that path."""
        for mount in self.container.get("volumeMounts", []):
            if path.startswith(mount["mountPath"] + "/"):
                volumes: Sequence[Resource] = self.spec["volumes"]
                return next(one for one in volumes if one["name"] == mount["name"])
        return None


def require(tool: str | None, what: str) -> None:
    """Skip loudly where a tool is not there; fail where the run must be complete (CI=true)."""
    if tool is not None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not here: run make check-deploy", pytrace=False)
    pytest.skip(f"SKIPPED MANIFESTS: {what} is not here; make check-deploy brings it")


@cache
def _kustomize() -> tuple[str, ...] | None:
    pinned = TOOLS / "kustomize"
    if pinned.exists():
        return (str(pinned), "build")
    if shutil.which("kubectl"):
        version = subprocess.run(
            ["kubectl", "version", "--client"], check=False, capture_output=True, text=True
        )
        if "Kustomize Version: v5" in version.stdout:
            return ("kubectl", "kustomize")
    return None


@cache
def rendered(overlay: str) -> Sequence[Resource]:
    command = _kustomize()
    require(command[0] if command else None, "kustomize")
    assert command is not None
    done = subprocess.run(
        [*command, str(ROOT / "deploy" / "kubernetes" / "overlays" / overlay)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, kind: str) -> dict[str, Resource]:
    return {one["metadata"]["name"]: one for one in rendered(overlay) if one["kind"] == kind}


def pods(overlay: str) -> Mapping[str, Pod]:
    found = {}
    for one in rendered(overlay):
        match one["kind"]:
            case "Deployment" | "Job":
                template = one["spec"]["template"]
            case "CronJob":
                template = one["spec"]["jobTemplate"]["spec"]["template"]
            case _:
                continue
        owner = one["metadata"]["name"]
        for number, container in enumerate(template["spec"]["containers"]):
            name = f"{owner}/{container['name']}" if number else owner
            found[name] = Pod(
                kind=one["kind"],
                name=name,
                labels=template["metadata"]["labels"],
                spec=template["spec"],
                container=container,
            )
    return found


def environment(overlay: str, pod: Pod) -> dict[str, str]:
    """Its variables as the container sees them."""
    values: dict[str, str] = {}
    for source in pod.container.get("envFrom", []):
        values |= of_kind(overlay, "ConfigMap")[source["configMapRef"]["name"]]["data"]
    return values | {one["name"]: one["value"] for one in pod.container.get("env", [])}


def selects(selector: Resource, labels: Mapping[str, str]) -> bool:
    """A label selector with matchLabels and `In` expressions; empty selects all."""
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def policies(overlay: str, pod: Pod, direction: str) -> Iterator[Resource]:
    """The network policies that bound this pod in that direction (Ingress, Egress)."""
    for policy in of_kind(overlay, "NetworkPolicy").values():
        spec = policy["spec"]
        if direction in spec["policyTypes"] and selects(spec["podSelector"], pod.labels):
            yield spec


def egress(overlay: str, pod: Pod) -> set[tuple[str, int]]:
    """Where to and to which port it may go: `any`, a network, a namespace, a component."""
    return {
        (place, port["port"])
        for policy in policies(overlay, pod, "Egress")
        for rule in policy.get("egress", [])
        for place in _places(rule.get("to"))
        for port in rule["ports"]
    }


def ingress(overlay: str, pod: Pod) -> set[tuple[str, int]]:
    """Where from it is reached, and on which port."""
    return {
        (place, port["port"])
        for policy in policies(overlay, pod, "Ingress")
        for rule in policy.get("ingress", [])
        for place in _places(rule.get("from"))
        for port in rule["ports"]
    }


def _places(peers: Sequence[Resource] | None) -> Iterator[str]:
    if peers is None:
        yield "any"
        return
    for peer in peers:
        match peer:
            case {"ipBlock": {"cidr": cidr}}:
                yield cidr
            case {"podSelector": {"matchLabels": labels}}:
                yield f"pod {labels[COMPONENT]}"
            case {"namespaceSelector": {"matchLabels": labels}}:
                yield f"namespace {next(iter(labels.values()))}"
            case {"namespaceSelector": {}}:
                yield "every namespace"
            case _:
                raise AssertionError(peer)
