"""Who is woken, who gets a mail, and which alerts a known cause mutes, by the real Alertmanager."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import yaml

from tests.processes import at_our_end, free_port
from tests.prometheus_tools import DEPLOY, alerts, require_tool, run_tool

CONFIGURATION = DEPLOY / "alertmanager" / "alertmanager.yml"
NEVER_MUTED = {
    "CountMismatch", "LogGap", "DeadDeliveries", "DeliveryLossBurn", "MassFlags", "DiskFilling",
    "IntegrationBroken", "ServiceDown", "QuarantineRate", "ModelRefused", "Heartbeat",
}  # fmt: skip
"""What says that data is wrong, lost or soon will be is heard, whatever else is known."""
_SECONDS = 20.0


def test_alertmanager_takes_the_configuration() -> None:
    done = run_tool("amtool", "check-config", CONFIGURATION)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ({"alertname": "Heartbeat", "severity": "none"}, "heartbeat"),
        ({"alertname": "ConsumerStuck", "severity": "page", "service": "scoring"}, "on-call"),
        ({"alertname": "AvailabilityBurn", "severity": "page"}, "on-call"),
        ({"alertname": "AvailabilityBurn", "severity": "ticket"}, "tickets"),
        ({"alertname": "BackupOld", "severity": "ticket"}, "tickets"),
        # Better a mail than nothing.
        ({"alertname": "Unheard", "severity": "misspelt"}, "tickets"),
        ({"alertname": "Unheard"}, "tickets"),
    ],
)
def test_each_urgency_reaches_its_receiver(labels: dict[str, str], receiver: str) -> None:
    arguments = [f"{name}={value}" for name, value in labels.items()]
    done = run_tool(
        "amtool", "config", "routes", "test", f"--config.file={CONFIGURATION}", *arguments
    )
    assert done.stdout.strip() == receiver, done.stderr


@pytest.mark.parametrize("severity", sorted({alert.severity for alert in alerts()}))
def test_every_alert_of_the_rules_has_a_receiver_of_its_urgency(severity: str) -> None:
    wanted = {"page": "on-call", "ticket": "tickets", "none": "heartbeat"}
    some = next(alert for alert in alerts() if alert.severity == severity)
    labels = [f"alertname={some.name}", *(f"{key}={one}" for key, one in some.labels.items())]
    done = run_tool("amtool", "config", "routes", "test", f"--config.file={CONFIGURATION}", *labels)
    assert done.stdout.strip() == wanted[severity]


def test_what_mutes_and_is_muted_exists() -> None:
    known = {alert.name for alert in alerts()}
    text = CONFIGURATION.read_text()
    named = {
        name for found in re.findall(r'alertname=~?"([^"]+)"', text) for name in found.split("|")
    }
    assert named <= known
    targets = {
        name
        for rule in yaml.safe_load(text)["inhibit_rules"]
        for matcher in rule["target_matchers"]
        for found in re.findall(r'alertname=~?"([^"]+)"', matcher)
        for name in found.split("|")
    }
    assert not targets & NEVER_MUTED


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The real one with our configuration, except that its receivers are on loopback."""
    program = require_tool("prometheus-alertmanager")
    folder, port = tmp_path_factory.mktemp("alertmanager"), free_port()
    nobody = free_port()
    text = re.sub(
        r"https://[a-z.]+example", f"http://127.0.0.1:{nobody}", CONFIGURATION.read_text()
    )
    (folder / "alertmanager.yml").write_text(text.replace("mail:1025", f"127.0.0.1:{nobody}"))
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            stdout=output,
            stderr=output,
        )
    watchdog = at_our_end('kill -9 "$1"', process.pid)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5) as client:
        deadline = time.monotonic() + _SECONDS
        try:
            while not _is_ready(client):
                assert process.poll() is None, (folder / "output.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield client
        finally:
            process.kill()
            process.wait(10)
            watchdog.kill()
            watchdog.communicate()


def _is_ready(client: httpx.Client) -> bool:
    with suppress(httpx.HTTPError):
        return client.get("/-/ready").status_code == 200
    return False


LOG = {"alertname": "DependencyDown", "severity": "page", "dependency": "log", "service": "ingest"}
DATABASE = LOG | {"dependency": "database", "service": "scoring"}
NO_SCORING = {"alertname": "ServiceDown", "severity": "page", "service": "scoring"}


def page(name: str, **labels: str) -> dict[str, str]:
    return {"alertname": name, "severity": "page", **labels}


def ticket(name: str, **labels: str) -> dict[str, str]:
    return {"alertname": name, "severity": "ticket", **labels}


@pytest.mark.parametrize(
    ("cause", "other", "is_muted"),
    [
        pytest.param(LOG, page("AvailabilityBurn", slo="availability"), True, id="503 by the log"),
        pytest.param(LOG, page("ConsumerStuck", service="scoring"), True, id="nothing to read"),
        pytest.param(LOG, page("LogGap", service="scoring"), False, id="a loss is heard"),
        pytest.param(LOG, page("DeliveryOldestDue"), False, id="senders need no log"),
        pytest.param(LOG, DATABASE, False, id="two causes are two"),
        pytest.param(DATABASE, page("DeliveryOldestDue", service="notifier"), True, id="no queue"),
        pytest.param(DATABASE, page("AvailabilityBurn"), False, id="ingest needs no database"),
        pytest.param(DATABASE, page("CountMismatch", service="scoring"), False, id="truth"),
        pytest.param(NO_SCORING, page("ConsumerStuck", service="scoring"), True, id="not there"),
        pytest.param(NO_SCORING, page("ConsumerStuck", service="notifier"), False, id="another"),
        pytest.param(NO_SCORING, ticket("TargetDown", instance="a"), True, id="each replica"),
        pytest.param(NO_SCORING, page("ServiceDown", service="ingest"), False, id="both are gone"),
        pytest.param(
            page("FreshnessBurn", slo="freshness"), ticket("FreshnessBurn", slo="freshness"), True,
            id="a page says what the ticket says",
        ),
        pytest.param(
            page("IntegrationBroken", channel="slack", service="notifier"),
            ticket("DeliveryFailing", channel="email", service="notifier"), False,
            id="another channel",
        ),
        pytest.param(
            page("IntegrationBroken", channel="slack", service="notifier"),
            ticket("DeliveryFailing", channel="slack", service="notifier"), True,
            id="the same channel",
        ),
    ],
)  # fmt: skip
def test_a_known_cause_mutes_its_effects_and_nothing_else(
    alertmanager: httpx.Client,
    cause: dict[str, str],
    other: dict[str, str],
    is_muted: bool,  # noqa: FBT001 - a column of the table
) -> None:
    sent = [{"labels": labels, "generatorURL": "http://127.0.0.1"} for labels in (cause, other)]
    alertmanager.post("/api/v2/alerts", content=json.dumps(sent), headers=_JSON).raise_for_status()
    try:
        muted = _muted(alertmanager)
        assert muted == ({_key(other)} if is_muted else set())
    finally:
        ended = [
            alert | {"endsAt": "2020-01-01T00:00:01Z", "startsAt": "2020-01-01T00:00:00Z"}
            for alert in sent
        ]
        alertmanager.post("/api/v2/alerts", content=json.dumps(ended), headers=_JSON)
        _wait_until_empty(alertmanager)


_JSON = {"content-type": "application/json"}


def _key(labels: dict[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


def _alerts(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/api/v2/alerts").json()
    return found


def _muted(client: httpx.Client) -> set[frozenset[tuple[str, str]]]:
    deadline = time.monotonic() + _SECONDS
    while len(found := _alerts(client)) < 2:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return {_key(alert["labels"]) for alert in found if alert["status"]["inhibitedBy"]}


def _wait_until_empty(client: httpx.Client) -> None:
    deadline = time.monotonic() + _SECONDS
    while _alerts(client):
        assert time.monotonic() < deadline
        time.sleep(0.05)
