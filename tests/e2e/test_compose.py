"""docker-compose.yml, as far as it can be held to its word without a container engine.

What it says is checked; then the same processes are started from it (tests/containers/stack.py).
"""

import asyncio
import os
import re
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from shared.secret_files import is_secret
from tests.containers import compose, dockerfile
from tests.containers.compose import Service
from tests.containers.processes import Container
from tests.containers.stack import LEFT_OUT, Stack
from tests.databases import temporary_folder
from tests.e2e.deployments import bearer, eventually
from tests.e2e.test_main_job import daily_use
from tests.kafka_fixtures import require_kafka
from tests.standins.mail import FakeMail, fake_mail
from tests.unit.test_readme import fields

SERVICES = compose.services()
DOCUMENT = compose.document()
SECRET = {name for name, field in fields().items() if is_secret(field)}
BY_HAND = {name for name, service in SERVICES.items() if service.profiles}
# What a user writes who does not want to wait for what a working day needs.
OWN = {
    "PERENNIAL_BACKFILL_SETTLE_SECONDS": "1",
    "PERENNIAL_SWEEP_INTERVAL_SECONDS": "0.2",
    "PERENNIAL_REGISTER_SECONDS": "0.2",
    "PERENNIAL_GROUP_WAIT_SECONDS": "0",
    "PERENNIAL_GROUP_INTERVAL_SECONDS": "0",
    "PERENNIAL_DRAIN_SECONDS": "0.5",
}


def image_of(service: Service) -> dockerfile.ImageSettings:
    assert service.build is not None
    return dockerfile.settings_of(dockerfile.read(), SERVICE=service.build)


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_every_container_is_confined_and_limited(service: Service) -> None:
    raw = service.raw
    assert raw["read_only"] is True
    assert raw["cap_drop"] == ["ALL"]
    assert raw["security_opt"] == ["no-new-privileges:true"]
    assert not {"cap_add", "privileged", "pid", "ipc", "devices"} & set(raw)
    user, _, group = raw["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert {"mem_limit", "cpus", "pids_limit"} <= set(raw)
    options = raw["logging"]["options"]
    assert {"max-size", "max-file"} <= set(options)
    assert service.grace_seconds >= 45
    assert any(entry.startswith("/tmp:") for entry in raw["tmpfs"])
    assert all("size=" in entry for entry in raw["tmpfs"])


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_images_of_others_are_pinned_and_ours_are_built_here(service: Service) -> None:
    if service.is_ours:
        assert service.image.partition(":")[0] == f"perennial-{service.build}"
        assert service.raw["build"]["dockerfile"] == "deploy/Dockerfile"
    else:
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+[\w.-]*@sha256:[0-9a-f]{64}", service.image)


def test_our_images_have_one_version_the_one_of_the_program() -> None:
    project = (dockerfile.ROOT / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    assert version is not None
    ours = {service.image.partition(":")[2] for service in SERVICES.values() if service.is_ours}
    assert ours == {version[1]}


def test_the_base_of_our_images_is_pinned() -> None:
    base = dockerfile.read().arguments["BASE"]
    assert re.fullmatch(r"debian:bookworm-\d{8}-slim@sha256:[0-9a-f]{64}", base)


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_what_runs_on_is_restarted_and_says_how_it_is(service: Service) -> None:
    if service.is_one_shot:
        assert service.health is None
        return
    assert service.raw["restart"] == "unless-stopped"
    assert service.health or image_of(service).health


def test_ports_are_published_on_loopback_alone_and_never_the_admin_port() -> None:
    ports = [port for service in SERVICES.values() for port in service.ports]
    assert len(ports) == len({port.split(":")[1] for port in ports}) == 7
    for port in ports:
        host, published, inside = port.split(":")
        assert host == "127.0.0.1"
        assert (published, published) == (inside, inside)
        assert inside != "9100"


@pytest.mark.parametrize("name", ["ingest", "scoring", "notifier"])
def test_a_published_port_is_the_one_the_service_listens_on(name: str) -> None:
    service = SERVICES[name]
    default = fields()[f"{name.upper()}_PORT"].default
    assert service.ports == [f"127.0.0.1:{default}:{default}"]
    assert image_of(service).exposed == [default, fields()["ADMIN_PORT"].default]
    assert service.command == image_of(service).command == ["up", "--service", name]


def test_kafka_and_postgresql_are_reached_from_nowhere_outside() -> None:
    assert DOCUMENT["networks"]["back"]["internal"] is True
    for name in ("kafka", "postgres"):
        assert SERVICES[name].raw["networks"] == ["back"]
        assert SERVICES[name].ports == []


@pytest.mark.parametrize(
    "service", [one for one in SERVICES.values() if one.is_ours], ids=lambda one: one.name
)
def test_every_variable_of_ours_is_a_setting_that_exists(service: Service) -> None:
    known = set(fields())
    known |= {
        f"{name}_FILE" for name, field in fields().items() if "Secret" in str(field.annotation)
    }
    named = {**service.files, **service.environment, **image_of(service).environment}
    ours = {name for name in named if not name.startswith(("PYTHON", "LANG", "PATH"))}
    assert ours - known == set()


def test_no_secret_is_in_the_file_and_each_comes_from_the_volume() -> None:
    # Where mail goes is one because a URL may hold a password; this one does not.
    secret = SECRET - {"SMTP_URL"}
    for service in SERVICES.values():
        given = {**service.files, **service.environment}
        assert secret & set(given) == set()
        for name, value in given.items():
            if "PASSWORD" in name or name.removesuffix("_FILE") in secret:
                assert name.endswith("_FILE"), name
                assert value.startswith("/var/lib/perennial/secrets/"), name
        assert "@" not in service.files.get("SMTP_URL", "")


def test_only_the_container_that_makes_the_secrets_can_write_them() -> None:
    writers = []
    for service in SERVICES.values():
        for mount in service.mounts:
            if mount.source == "secrets":
                if not mount.read_only:
                    writers.append(service.name)
                # An image that has nothing there must not give the empty volume to root.
                assert mount.copies is (service.name == "secrets")
                # A file of mode 0600 is for its user.
                assert service.raw["user"] == "10001:10001"
    assert writers == ["secrets"]


def test_files_that_are_mounted_exist_and_cannot_be_changed() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.mounts if mount.is_path]
    assert mounts
    for mount in mounts:
        assert mount.read_only
        assert (dockerfile.ROOT / mount.source).exists(), mount.source


def test_every_volume_that_is_named_is_used_and_the_other_way_round() -> None:
    used = {
        mount.source
        for service in SERVICES.values()
        for mount in service.mounts
        if not mount.is_path
    }
    assert used == set(DOCUMENT["volumes"])


def test_whoever_is_waited_for_can_say_that_it_is_ready() -> None:
    for service in SERVICES.values():
        for name, condition in service.depends_on.items():
            other = SERVICES[name]
            if condition == "service_completed_successfully":
                assert other.is_one_shot
            if condition == "service_healthy":
                assert other.health or image_of(other).health
    # `up --wait` waits for a one-shot to end only where somebody depends on its end.
    waited = {
        name
        for service in SERVICES.values()
        if not service.profiles
        for name, condition in service.depends_on.items()
        if condition == "service_completed_successfully"
    }
    shots = {one.name for one in SERVICES.values() if one.is_one_shot and not one.profiles}
    assert waited == shots


def test_prometheus_asks_services_that_exist_on_the_port_they_answer_on() -> None:
    mounted = {mount.target: mount.source for mount in SERVICES["prometheus"].mounts}
    path = mounted["/etc/prometheus/prometheus.yml"]
    config = yaml.safe_load((dockerfile.ROOT / path).read_text())
    asked: dict[str, int] = {}
    for job in config["scrape_configs"]:
        for found in job.get("dns_sd_configs", []):
            asked |= dict.fromkeys(found["names"], found["port"])
    admin = fields()["ADMIN_PORT"].default
    assert asked == dict.fromkeys(("ingest", "scoring", "notifier"), admin)
    for name in asked:
        assert set(SERVICES[name].raw["networks"]) & set(SERVICES["prometheus"].raw["networks"])
    (alerting,) = config["alerting"]["alertmanagers"]
    assert alerting["static_configs"][0]["targets"] == ["alertmanager:9093"]
    assert all(pattern.startswith("rules/") for pattern in config["rule_files"])
    assert mounted["/etc/prometheus/rules"] == "./deploy/prometheus/rules"


def test_grafana_finds_its_dashboards_and_asks_services_that_exist() -> None:
    mounted = {mount.target: mount.source for mount in SERVICES["grafana"].mounts}
    provisioning = dockerfile.ROOT / mounted["/etc/grafana/provisioning"]
    for path in (provisioning / "dashboards").iterdir():
        for provider in yaml.safe_load(path.read_text())["providers"]:
            folder = dockerfile.ROOT / mounted[provider["options"]["path"]]
            assert list(folder.glob("*.json"))
    for path in (provisioning / "datasources").iterdir():
        for source in yaml.safe_load(path.read_text())["datasources"]:
            name, _, port = source["url"].removeprefix("http://").partition(":")
            (published,) = SERVICES[name].ports
            assert published.endswith(f":{port}")


def test_alertmanager_starts_as_it_says_and_its_health_check_can_tell(tmp_path: Path) -> None:
    program = shutil.which("prometheus-alertmanager")  # Debian's name
    if program is None or shutil.which("amtool") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no `prometheus-alertmanager` or `amtool` on the PATH", pytrace=False)
        pytest.skip("SKIPPED ALERTMANAGER: it is not on the PATH")
    stack = Stack(tmp_path, own={})
    assert stack.why_unhealthy("alertmanager") is not None
    listen = f"--web.listen-address={stack.addresses['alertmanager']}:9093"
    command = [program, *stack.words("alertmanager"), listen]
    container = Container(tmp_path / "alertmanager", command, os.environ)
    try:
        deadline = time.monotonic() + SERVICES["alertmanager"].health_seconds
        while (why := stack.why_unhealthy("alertmanager")) is not None:
            assert container.is_running(), container.output.read_text()
            assert time.monotonic() < deadline, why
        code, _ = container.stop(SERVICES["alertmanager"].grace_seconds)
        assert code == 0
    finally:
        container.end()


@pytest.fixture
async def stack() -> AsyncIterator[tuple[Stack, FakeMail]]:
    require_kafka()
    async with AsyncExitStack() as opened:
        folder = opened.enter_context(temporary_folder())
        stack = Stack(folder, own=OWN)
        opened.callback(stack.end)
        mail = await opened.enter_async_context(fake_mail(host=stack.addresses["mail"], port=1025))
        yield stack, mail


async def test_it_comes_up_works_is_restarted_and_ends_as_it_says(
    stack: tuple[Stack, FakeMail],
) -> None:
    compose_stack, mail = stack
    await asyncio.to_thread(compose_stack.up)
    started = compose_stack.started
    assert started[0] == "secrets"
    assert started.index("migrate") > max(started.index("kafka"), started.index("postgres"))
    assert started.index("notifier") > started.index("scoring") > started.index("migrate")
    assert set(started) == set(SERVICES) - LEFT_OUT - {"mail"} - BY_HAND
    secrets_are_private_and_unsaid(compose_stack)

    async with httpx.AsyncClient(timeout=10) as client:
        key = await asyncio.to_thread(new_key, compose_stack)
        await one_account_wants_to_leave(compose_stack, client, key)
        await eventually(lambda: mail.taken, what="the mail arrives")
        assert "Acme" in str(mail.taken[0]["Subject"])
        await everybody_must_sign_in(compose_stack, client)
        await what_prometheus_asks_is_answered(compose_stack, client)

        code, _ = await asyncio.to_thread(compose_stack.stop, "scoring")
        assert code == 0, compose_stack.output("scoring")[-3000:]
        await asyncio.to_thread(compose_stack.start, "scoring")
        before = await taken_in(compose_stack, client, key)
        await send(compose_stack, client, key, [{"account_id": "acme", "type": "login"}])
        await eventually(
            lambda: is_taken_in(compose_stack, client, key, before + 1), what="it goes on"
        )

    # As an operator's next `up` does: nothing is made anew, nothing fails.
    assert "already" in await asyncio.to_thread(
        compose_stack.run, "secrets", *SERVICES["secrets"].command
    )
    await asyncio.to_thread(compose_stack.run, "migrate", "migrate")
    await asyncio.to_thread(what_is_lost_is_restored, compose_stack)
    async with httpx.AsyncClient(timeout=10) as client:
        assert await status_of(compose_stack, client, key, "acme") == 200
        # It was in the dump, and was erased after it.
        assert await status_of(compose_stack, client, key, "globex") == 404

    ended = await asyncio.to_thread(compose_stack.down)
    assert {name: code for name, (code, _) in ended.items() if name != "kafka"} == {
        "notifier": 0, "scoring": 0, "ingest": 0, "postgres": 0,
    }  # fmt: skip
    assert ended["kafka"][0] == 143  # 128 + SIGTERM: how a JVM ends that was asked to


def what_is_lost_is_restored(stack: Stack) -> None:
    """Word for word as deploy/postgresql/README.md has it for compose."""
    stack.run("backup")
    (dump,) = stack.volume("backups").iterdir()
    assert dump.read_bytes().startswith(b"PGDMP")
    stack.run("tools", "erase", "account", "globex", "--yes")
    stack.run("receipts")
    (receipt,) = (stack.volume("tools") / "receipts").iterdir()
    assert receipt.stat().st_mode & 0o077 == 0

    for name in ("notifier", "scoring"):
        stack.stop(name)
    rename = "ALTER DATABASE perennial RENAME TO perennial_before"
    stack.execute("postgres", "psql", "-U", "postgres", "-d", "postgres", "-c", rename)
    stack.execute("postgres", "sh", "/docker-entrypoint-initdb.d/roles.sh")
    stack.run("restore", "sh", "/scripts/restore.sh", f"/var/lib/postgresql/{dump.name}")
    stack.run("tools", "migrate")
    said = stack.run("tools", "erase", "--from", "/var/lib/perennial/state/receipts")
    assert said.startswith("1 erased again")
    for name in ("scoring", "notifier"):
        stack.start(name)
    stack.run("tools", "notify", "release-restored", "--as-told")


def secrets_are_private_and_unsaid(stack: Stack) -> None:
    folder = stack.volume("secrets")
    secrets = {path.name: path.read_text() for path in folder.iterdir()}
    named = {
        Path(value).name
        for service in SERVICES.values()
        for value in service.environment.values()
        if value.startswith("/var/lib/perennial/secrets/")
    }
    assert named <= set(secrets)
    said = "".join(stack.output(name) for name in set(stack.started))
    assert [name for name, secret in secrets.items() if secret in said] == []


def new_key(stack: Stack) -> str:
    scopes = ("events:write", "backfill", "accounts:write", "accounts:read")
    options = [option for scope in scopes for option in ("--scope", scope)]
    return stack.run("tools", "keys", "create", "--source", "app", *options, "--plain").split()[-1]


async def send(
    stack: Stack, client: httpx.AsyncClient, key: str, events: list[dict[str, Any]]
) -> None:
    answer = await client.post(
        f"{stack.url('ingest')}/v1/events",
        headers=bearer(key, **{"Perennial-Backfill": "true"}),
        json=events,
    )
    assert answer.status_code == 200, answer.text
    assert {result["status"] for result in answer.json()["results"]} == {"accepted"}


async def one_account_wants_to_leave(stack: Stack, client: httpx.AsyncClient, key: str) -> None:
    now = datetime.now(UTC)
    answer = await client.put(
        f"{stack.url('ingest')}/v1/accounts/acme",
        headers=bearer(key),
        json={
            "name": "Acme", "owner": "csm@example.com", "mrr": "900", "currency": "EUR",
            "status": "active", "contract_end": (now.date() + timedelta(days=60)).isoformat(),
        },
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    for account in ("acme", "globex", "initech"):
        await send(stack, client, key, daily_use(account, first=60, last=0))
    effective = (now.date() + timedelta(days=60)).isoformat()
    cancelled = {
        "id": "leaving", "account_id": "acme", "type": "cancellation_requested",
        "properties": {"effective_on": effective},
    }  # fmt: skip
    await send(stack, client, key, [cancelled])

    async def flagged() -> bool:
        url = f"{stack.url('scoring')}/v1/accounts/acme"
        found = (await client.get(url, headers=bearer(key))).json()
        reasons = {flag["reason"] for flag in found.get("flags", [])}
        return bool(reasons)

    await eventually(flagged, seconds=60, what="the account is flagged")


async def everybody_must_sign_in(stack: Stack, client: httpx.AsyncClient) -> None:
    console, headers = stack.url("notifier"), {"Host": "localhost:8082"}
    refused = await client.get(f"{console}/", headers=headers)
    assert refused.status_code in (303, 401)
    said = await asyncio.to_thread(
        stack.run, "tools", "users", "add", "ada@vendor.example", "--role", "admin"
    )
    link = re.search(r"http://localhost:8082(/welcome/\S+)", said)
    assert link is not None
    welcome = await client.get(f"{console}{link[1]}", headers=headers)
    assert welcome.status_code == 200
    assert "password" in welcome.text.lower()


async def what_prometheus_asks_is_answered(stack: Stack, client: httpx.AsyncClient) -> None:
    for name in ("ingest", "scoring", "notifier"):
        page = await client.get(f"http://{stack.addresses[name]}:9100/metrics")
        assert page.status_code == 200
        assert "perennial_build_info" in page.text


async def taken_in(stack: Stack, client: httpx.AsyncClient, key: str) -> int:
    answer = await client.get(f"{stack.url('scoring')}/v1/status", headers=bearer(key))
    return int(answer.raise_for_status().json()["events_taken_in"])


async def status_of(stack: Stack, client: httpx.AsyncClient, key: str, account: str) -> int:
    url = f"{stack.url('scoring')}/v1/accounts/{account}"
    return (await client.get(url, headers=bearer(key))).status_code


async def is_taken_in(stack: Stack, client: httpx.AsyncClient, key: str, wanted: int) -> bool:
    return await taken_in(stack, client, key) >= wanted
