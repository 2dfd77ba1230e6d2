"""Failpoints: refused outside tests; inside, they strike where and when they were told to."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared import failpoints
from shared.errors import Misconfigured

_PASSING = """
from shared import failpoints
for round in range(1, 8):
    failpoints.reach("scoring.other")
    print(round, flush=True)
    failpoints.reach("scoring.after_commit")
"""


@pytest.mark.parametrize("name", ["PERENNIAL_FAILPOINT", "PERENNIAL_SWITCHED_OFF"])
@pytest.mark.parametrize("testing", [{}, {"PERENNIAL_TESTING": "0"}, {"PERENNIAL_TESTING": "true"}])
def test_a_fault_outside_a_test_is_refused_by_name(name: str, testing: dict[str, str]) -> None:
    wanted = {"PERENNIAL_FAILPOINT": "a.b:kill9:nth=1", "PERENNIAL_SWITCHED_OFF": "fence"}
    with pytest.raises(Misconfigured, match=name):
        failpoints.check_environment({name: wanted[name], **testing})
    failpoints.check_environment({name: wanted[name], "PERENNIAL_TESTING": "1"})


def test_without_a_fault_nothing_is_refused() -> None:
    failpoints.check_environment({})
    failpoints.check_environment({"PERENNIAL_FAILPOINT": "", "PERENNIAL_SWITCHED_OFF": ""})


@pytest.mark.parametrize(
    "form", ["a.b", "a.b:kill9", "a.b:kill9:nth=0", "a.b:kill9:nth=x", "a.b:explode:nth=1", "A:b"]
)
def test_a_form_that_is_none_is_refused(form: str) -> None:
    with pytest.raises(Misconfigured, match="PERENNIAL_FAILPOINT"):
        failpoints.check_environment({"PERENNIAL_FAILPOINT": form, "PERENNIAL_TESTING": "1"})


def test_a_fault_in_the_environment_alone_strikes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERENNIAL_TESTING", raising=False)
    monkeypatch.setenv("PERENNIAL_FAILPOINT", "scoring.after_commit:kill9:nth=1")
    monkeypatch.setenv("PERENNIAL_SWITCHED_OFF", "fence")
    failpoints._wanted.cache_clear()
    with pytest.raises(Misconfigured):
        failpoints.reach("scoring.after_commit")
    with pytest.raises(Misconfigured):
        failpoints.switched_off("fence")


def test_a_safeguard_is_switched_off_by_its_whole_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERENNIAL_TESTING", "1")
    monkeypatch.setenv("PERENNIAL_SWITCHED_OFF", "dedupe,fences")
    assert failpoints.switched_off("dedupe")
    assert not failpoints.switched_off("fence")


@pytest.mark.parametrize(("when", "passed"), [("nth=3", 3), ("every=2", 2), ("nth=1", 1)])
def test_it_kills_at_that_passing(when: str, passed: int) -> None:
    done = _pass_by(f"scoring.after_commit:kill9:{when}")
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == [str(number) for number in range(1, passed + 1)]


@pytest.mark.parametrize("name", ["scoring.after", "scoring.after_commit_of_another"])
def test_another_place_is_not_meant(name: str) -> None:
    done = _pass_by(f"{name}:kill9:nth=1")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 7


def _pass_by(failpoint: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _PASSING],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PERENNIAL_TESTING": "1", "PERENNIAL_FAILPOINT": failpoint},
        cwd=Path(__file__).parents[3],
    )
