"""A Dockerfile, read: stages, their instructions, and the settings that an image ends up with."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
DOCKERFILE: Final = ROOT / "deploy" / "Dockerfile"

_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_OPTION: Final = re.compile(r"--([a-z-]+)=(\S+)\s+")
_ASSIGNMENT: Final = re.compile(r'([\w.]+)=("[^"]*"|\S+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    word: str
    options: Mapping[str, str]
    rest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    arguments: dict[str, str]
    """Those before the first stage, with their defaults."""
    stages: list[Stage]

    def stage(self, name: str) -> Stage | None:
        return next((stage for stage in self.stages if stage.name == name), None)


@dataclass(slots=True, kw_only=True)
class ImageSettings:
    """What an image says of the containers that are made of it."""

    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    exposed: list[int] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] | None = None
    health_options: Mapping[str, str] = field(default_factory=dict)
    user: str = "0:0"
    folder: str = "/"
    stop_signal: str = "SIGTERM"


def read(path: Path = DOCKERFILE) -> Dockerfile:
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    found = Dockerfile(arguments={}, stages=[])
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.stages.append(Stage(name=name.strip() or "final", base=base.strip()))
        elif not found.stages:
            assert word == "ARG", f"{word} before the first FROM"
            name, _, default = rest.partition("=")
            found.arguments[name] = default
        else:
            options, rest = _options(rest.strip())
            found.stages[-1].instructions.append(
                Instruction(word=word, options=options, rest=" ".join(rest.split()))
            )
    return found


def resolve(text: str, values: Mapping[str, str]) -> str:
    """`${NAME}` and `$NAME` as Docker fills them in; a name without a value is an error here."""
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], text)


def assignments(text: str, values: Mapping[str, str]) -> dict[str, str]:
    """Of ENV and LABEL."""
    return {match[1]: resolve(match[2].strip('"'), values) for match in _ASSIGNMENT.finditer(text)}


def settings_of(file: Dockerfile, **given: str) -> ImageSettings:
    """What the image of the last stage says, without building it; `given`: build arguments."""
    known = {**file.arguments, **given}
    settings = ImageSettings()

    def take(stage: Stage) -> None:
        base = file.stage(resolve(stage.base, known))
        if base is not None:
            take(base)
        values: dict[str, str] = {}
        for instruction in stage.instructions:
            if instruction.word == "ARG":
                name, _, default = instruction.rest.partition("=")
                values[name] = known.get(name) or resolve(default, values)
            apply(settings, instruction, {**settings.environment, **values})

    take(file.stages[-1])
    return settings


def apply(  # noqa: C901 - a table of words
    settings: ImageSettings, instruction: Instruction, values: Mapping[str, str]
) -> None:
    """Change what an instruction sets; RUN, COPY and ARG set nothing."""
    rest = instruction.rest
    match instruction.word:
        case "ENV":
            settings.environment |= assignments(rest, values)
        case "LABEL":
            settings.labels |= assignments(rest, values)
        case "EXPOSE":
            settings.exposed = [int(port) for port in rest.split()]
        case "USER":
            settings.user = rest
        case "WORKDIR":
            settings.folder = rest
        case "STOPSIGNAL":
            settings.stop_signal = rest
        case "ENTRYPOINT":
            settings.entrypoint = json.loads(rest)
        case "CMD":
            settings.command = json.loads(rest)
        case "HEALTHCHECK":
            said = rest.removeprefix("CMD ")
            settings.health = None if rest == "NONE" else json.loads(said)
            settings.health_options = instruction.options
        case "RUN" | "COPY" | "ARG":
            pass
        case word:
            raise AssertionError(f"{word} is not known here")


def _options(rest: str) -> tuple[dict[str, str], str]:
    found: dict[str, str] = {}
    while match := _OPTION.match(rest):
        found[match[1]] = match[2]
        rest = rest[match.end() :]
    return found, rest
