"""Bills of materials are what is locked; an audit without advisories does not call itself one."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.deploy.manifests import ROOT, TOOLS, require

SCRIPT = ROOT / "deploy" / "checks" / "supply.py"
IMAGES = ("ingest", "scoring", "notifier", "notifier-apprise", "tools")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )


def count_of(image: str) -> int:
    lock = (ROOT / f"requirements-{image}.txt").read_text(encoding="utf-8")
    return len(re.findall(r"^[\w.-]+(?:\[[\w,-]+\])?==", lock, re.MULTILINE))


def test_each_image_has_a_valid_bill_of_all_that_is_locked(tmp_path: Path) -> None:
    tool = TOOLS / "cyclonedx-py"
    require(str(tool) if tool.exists() else None, "cyclonedx-py")
    done = run("--tools", TOOLS, "sbom", "--folder", tmp_path)
    assert done.returncode == 0, done.stderr
    for image in IMAGES:
        bill = json.loads((tmp_path / f"perennial-{image}.cdx.json").read_text())
        assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
        assert bill["metadata"]["component"]["name"] == f"perennial-{image}"
        assert len(bill["components"]) == count_of(image)
        for component in bill["components"]:
            name, version = component["name"], component["version"]
            assert component["purl"].startswith(f"pkg:pypi/{name.lower()}@{version}")
            assert component["externalReferences"][0]["hashes"]


@pytest.fixture
def pip_audit(tmp_path: Path) -> Path:
    """Stands in for pip-audit, answering as it does: by what ANSWERS says of a name."""
    path = tmp_path / "pip-audit"
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib, re, sys\n"
        "answers = json.loads((pathlib.Path(__file__).parent / 'answers.json').read_text())\n"
        "lock = pathlib.Path(sys.argv[sys.argv.index('--requirement') + 1]).read_text()\n"
        "found = []\n"
        "pins = re.findall(r'^([\\w.-]+)(?:\\[[\\w,-]+\\])?==([\\w.]+)', lock, re.MULTILINE)\n"
        "for name, version in pins:\n"
        "    answer = answers.get(name, answers['*'])\n"
        "    if answer is not None:\n"
        "        found.append({'name': name, 'version': version, **answer})\n"
        "print(json.dumps({'dependencies': found, 'fixes': []}))\n"
    )
    path.chmod(0o755)
    return path


CLEAN: dict[str, list[str]] = {"vulns": []}
VULNERABLE = {"vulns": [{"id": "PYSEC-1", "fix_versions": ["9.9"]}]}
SKIPPED = {"skip_reason": "Dependency not found on PyPI and could not be audited"}
CANARY = {"jinja2": VULNERABLE}


@pytest.mark.parametrize(
    ("answers", "code", "says"),
    [
        pytest.param({"*": SKIPPED}, 3, "NOT AUDITED", id="no advisories is no audit"),
        pytest.param({"*": CLEAN}, 3, "NOT AUDITED", id="nor are advisories that know nothing"),
        pytest.param(
            {**CANARY, "*": CLEAN}, 1, "jinja2 3.1.6: PYSEC-1, fixed in 9.9", id="a finding fails"
        ),
        pytest.param(
            {**CANARY, "*": CLEAN, "httpx": SKIPPED},
            1,
            "1 packages were not audited",
            id="one that was left out fails",
        ),
        pytest.param(
            {**CANARY, "*": CLEAN, "httpx": None},
            1,
            "1 packages were not audited",
            id="one that is not spoken of fails",
        ),
    ],
)
def test_an_audit_says_what_it_has_seen(
    answers: dict[str, object], code: int, says: str, pip_audit: Path
) -> None:
    (pip_audit.parent / "answers.json").write_text(json.dumps(answers))
    done = run("--tools", pip_audit.parent, "audit")
    assert done.returncode == code
    assert says in done.stdout + done.stderr


def test_where_nobody_can_be_asked_a_build_goes_on_but_says_so(pip_audit: Path) -> None:
    (pip_audit.parent / "answers.json").write_text(json.dumps({"*": SKIPPED}))
    done = run("--tools", pip_audit.parent, "audit", "--where-possible")
    assert done.returncode == 0
    assert "NOT AUDITED" in done.stderr


def test_the_images_are_those_of_the_dockerfile() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    stages = set(re.findall(r"^FROM runtime AS (\w+)$", dockerfile, re.MULTILINE))
    assert stages | {"notifier-apprise"} == set(IMAGES)


def test_every_stage_of_the_dockerfile_begins_with_an_image_that_cannot_change() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^ARG BASE=[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}$", dockerfile, re.MULTILINE)
    froms = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", dockerfile, re.MULTILINE)
    stages = {name for _, name in froms}
    assert {image for image, _ in froms} <= stages | {"${BASE}", "${SERVICE}"}
