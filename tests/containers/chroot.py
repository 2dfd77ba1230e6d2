"""Images built and run in a chroot: a Dockerfile's steps as plain commands in a clean Debian.

Every command has mounts of its own (`unshare --mount`), which end with it, however it ends.
"""

import fnmatch
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.containers import machine
from tests.containers.dockerfile import (
    ROOT,
    Dockerfile,
    ImageSettings,
    Instruction,
    Stage,
    apply,
    resolve,
)
from tests.containers.processes import Container

SUITE: Final = "bookworm"
_BASE: Final = "debian:bookworm-"
_BUILD_SECONDS: Final = 300
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# $1 is the root, $2 "ro" or "rw", the rest what becomes of this process.
_ENTER: Final = """
root=$1 mode=$2; shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
for name in null zero full random urandom; do
  touch "$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"
done
if [ "$mode" = ro ]; then
  mount -o remount,bind,ro "$root"
  mount -t tmpfs -o mode=1777,size=64m tmpfs "$root/tmp"
fi
exec chroot "$root" "$@"
"""


class BuildFailed(Exception):
    """A step failed; the message holds the step and the end of its output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    root: Path
    settings: ImageSettings

    def command(
        self, arguments: Sequence[str], environment: Mapping[str, str], *, mode: str = "ro"
    ) -> list[str]:
        """As a container of it with a read-only root and no rights would run them."""
        user, _, group = self.settings.user.partition(":")
        told = {"PATH": _PATH, **self.settings.environment, **environment}
        assignments = [f"{name}={value}" for name, value in told.items()]
        confined = [
            "setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs",
            "--bounding-set=-all", "--inh-caps=-all",
        ]  # fmt: skip
        return [
            *("unshare", "--mount", "sh", "-euc", _ENTER, "enter", str(self.root), mode),
            *("env", "-i", f"--chdir={self.settings.folder}", *assignments, *confined),
            *arguments,
        ]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(arguments, environment),
            check=False,
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
        )

    def start(self, folder: Path, **environment: str) -> Container:
        """What it runs by itself."""
        arguments = [*self.settings.entrypoint, *self.settings.command]
        return Container(
            folder,
            self.command(arguments, environment),
            os.environ,
            stop_signal=self.settings.stop_signal,
        )

    def size_megabytes(self, path: str) -> int:
        """Of a file or folder in it, as `du` counts."""
        said = subprocess.run(
            ["du", "--summarize", "--block-size=1M", str(self.root / path.lstrip("/"))],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return int(said.split()[0])


class Builder:
    """Builds targets of a Dockerfile; stages that do not ask for `SERVICE` are built once."""

    def __init__(self, folder: Path, file: Dockerfile) -> None:
        self._folder, self._file = folder, file
        self._done: dict[tuple[str, str], Image] = {}
        self.steps: list[str] = []
        """The RUN steps that were carried out."""

    def image(self, **given: str) -> Image:
        """Of the last stage; `given`: build arguments."""
        return self._stage(self._file.stages[-1], {**self._file.arguments, **given})

    def _stage(self, stage: Stage, known: Mapping[str, str]) -> Image:
        asks = any(one.rest.startswith("SERVICE") for one in stage.instructions)
        base_name = resolve(stage.base, known)
        base_stage = self._file.stage(base_name)
        base = self._stage(base_stage, known) if base_stage else self._debian(base_name)
        service = known["SERVICE"] if asks or base.root.name.endswith(known["SERVICE"]) else ""
        key = (stage.name, service)
        if stage.name == "final" or key not in self._done:
            self._done[key] = self._build(stage, base, known, f"{stage.name}-{service}")
        return self._done[key]

    def _build(self, stage: Stage, base: Image, known: Mapping[str, str], name: str) -> Image:
        settings = replace(
            base.settings,
            environment=dict(base.settings.environment),
            labels=dict(base.settings.labels),
        )
        changes = any(one.word in {"RUN", "COPY"} for one in stage.instructions)
        root = self._folder / name if changes else base.root
        if changes:
            _link(base.root, root)
        image, values = Image(root=root, settings=settings), dict[str, str]()
        for one in stage.instructions:
            here = {**settings.environment, **values}
            match one.word:
                case "ARG":
                    argument, _, default = one.rest.partition("=")
                    values[argument] = known.get(argument) or resolve(default, here)
                case "RUN":
                    self._run(image, one, values)
                case "COPY":
                    self._copy(image, one, known)
                case _:
                    apply(settings, one, here)
                    (root / settings.folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
        return image

    def _debian(self, name: str) -> Image:
        """What stands for the base image: the packages of the same release, and no others."""
        assert name.startswith(_BASE), name
        key = (name, "")
        if key not in self._done:
            root = self._folder / "debian"
            command = ["debootstrap", "--variant=minbase", SUITE, str(root), machine.mirror()]
            # Its own mounts too: where it is killed none is left.
            _check(["unshare", "--mount", *command], dict(os.environ))
            self._done[key] = Image(root=root, settings=ImageSettings())
        return self._done[key]

    def _run(self, image: Image, step: Instruction, values: Mapping[str, str]) -> None:
        self.steps.append(step.rest)
        with machine.lent_to(image.root, suite=SUITE) as lent:
            environment = {"HOME": "/root", **values, **lent}
            as_root = replace(image, settings=replace(image.settings))
            assert as_root.settings.user == "0:0", "steps run as root"
            told = {"PATH": _PATH, **image.settings.environment, **environment}
            _check(
                [
                    *("unshare", "--mount", "sh", "-euc", _ENTER, "enter", str(image.root), "rw"),
                    *("env", "-i", f"--chdir={image.settings.folder}"),
                    *(f"{name}={value}" for name, value in told.items()),
                    *("/bin/sh", "-c", step.rest),
                ],
                dict(os.environ),
                step.rest,
            )

    def _copy(self, image: Image, step: Instruction, known: Mapping[str, str]) -> None:
        *sources, target = step.rest.split()
        if (origin := step.options.get("from")) is not None:
            stage = self._file.stage(origin)
            assert stage is not None, origin
            context, allowed = self._stage(stage, known).root, None
        else:
            context, allowed = ROOT, Ignored((ROOT / ".dockerignore").read_text())
        # Docker takes a path without a slash at its end for a folder where it copies one.
        into = image.root / target.lstrip("/") if target.startswith("/") else (
            image.root / image.settings.folder.lstrip("/") / target
        )  # fmt: skip
        for pattern in sources:
            found = sorted(context.glob(pattern.lstrip("/")))
            found = [one for one in found if not (allowed and allowed.has(one))]
            if not found:
                raise BuildFailed(f"COPY {step.rest}: nothing matches {pattern}")
            for source in found:
                _copy_allowed(source, into if source.is_dir() else into / source.name, allowed)


class Ignored:
    """.dockerignore: the last pattern that fits a path, or a folder above it, decides."""

    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines()]
        self._rules = [
            (not line.startswith("!"), _pattern(line.removeprefix("!")))
            for line in lines
            if line and not line.startswith("#")
        ]

    def has(self, path: Path) -> bool:
        parts = path.relative_to(ROOT).parts
        paths = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        is_ignored = False
        for ignores, pattern in self._rules:
            if any(pattern.fullmatch(one) for one in paths):
                is_ignored = ignores
        return is_ignored


def _pattern(line: str) -> re.Pattern[str]:
    parts = [
        "(?:.*/)?" if part == "**" else fnmatch.translate(part).removesuffix(r"\Z") + "/"
        for part in line.split("/")
    ]
    # fnmatch's star crosses folders, Docker's does not.
    return re.compile("".join(parts).removesuffix("/").replace(".*", "[^/]*").replace(
        "(?:[^/]*/)?", "(?:.*/)?"
    ))  # fmt: skip


def _copy_allowed(source: Path, target: Path, allowed: Ignored | None) -> None:
    if source.is_dir() and not source.is_symlink():
        if allowed is None:
            _link(f"{source}/.", _made(target))
            return
        for path in sorted(source.rglob("*")):
            if path.is_file() and not allowed.has(path):
                _copy_allowed(path, target / path.relative_to(source), allowed)
        return
    shutil.copy2(source, _made(target.parent) / target.name)


def _link(source: Path | str, target: Path) -> None:
    """A copy without a second set of the bytes: whatever changes a file here replaces it."""
    subprocess.run(["cp", "--archive", "--link", str(source), str(target)], check=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _check(command: Sequence[str], environment: dict[str, str], step: str = "") -> None:
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        timeout=_BUILD_SECONDS,
    )
    if done.returncode != 0:
        raise BuildFailed(f"{step or command[2]}:\n{done.stdout[-3000:]}")
