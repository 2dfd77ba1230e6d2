"""Makes what Kubernetes needs of the alert rules and dashboards; `--check` only compares.

The rules are written once, for Prometheus itself (deploy/prometheus/rules); the operator wants the
same in a resource each. Dashboards stay where they are: kustomize wants their names.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DEPLOY: Final = Path(__file__).resolve().parents[1]
RULES: Final = DEPLOY / "prometheus" / "rules"
DASHBOARDS: Final = DEPLOY / "grafana" / "dashboards"

_NOTE = "# Made by deploy/kubernetes/monitoring.py, do not edit: `make manifests`.\n"


def manifests() -> Mapping[Path, str]:
    """What each file should hold."""
    return {
        DEPLOY / "kubernetes" / "components" / "monitoring" / "rules.yaml": _NOTE
        + "".join(_rule(path) for path in sorted(RULES.glob("*.yml"))),
        DASHBOARDS.parent / "kustomization.yaml": _NOTE + _dashboards(),
    }


def _rule(path: Path) -> str:
    """One file of rules as a resource: its text as it is, two columns further right."""
    head, found, groups = path.read_text(encoding="utf-8").partition("\ngroups:\n")
    if not found:
        raise SystemExit(f"{path}: no line `groups:`")
    indented = [f"  {line}" if line else "" for line in ("groups:", *groups.splitlines())]
    return (
        f"---\n{head}\n"
        "apiVersion: monitoring.coreos.com/v1\n"
        "kind: PrometheusRule\n"
        "metadata:\n"
        f"  name: perennial-{path.stem}\n"
        "  namespace: perennial\n"
        "  labels:\n"
        "    app.kubernetes.io/name: perennial\n"
        "spec:\n" + "\n".join(indented) + "\n"
    )


def _dashboards() -> str:
    files = "".join(
        f"      - dashboards/{path.name}\n" for path in sorted(DASHBOARDS.glob("*.json"))
    )
    return (
        "apiVersion: kustomize.config.k8s.io/v1beta1\n"
        "kind: Kustomization\n"
        "\n"
        "# Grafana's sidecar takes every ConfigMap with this label.\n"
        "generatorOptions:\n"
        "  disableNameSuffixHash: true\n"
        "  labels:\n"
        '    grafana_dashboard: "1"\n'
        "\n"
        "configMapGenerator:\n"
        "  - name: dashboards\n"
        "    namespace: perennial\n" + (f"    files:\n{files}" if files else "")
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1: out of date")
    only_check = parser.parse_args().check
    stale = [
        path
        for path, text in manifests().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        if only_check:
            sys.stderr.write(f"{path.relative_to(DEPLOY.parent)} is out of date: make manifests\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(manifests()[path], encoding="utf-8")
    return int(bool(stale) and only_check)


if __name__ == "__main__":
    sys.exit(main())
