"""The folder of playbooks: files in the order of their names, playbooks in the order they stand.

The first that matches is taken, so the most specific stand first. Where none of the folder is for
everything, ours closes the list: there always is one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Final, TypeVar

from yaml.nodes import MappingNode, Node

from services.notifier.domain import playbooks
from services.notifier.domain.flags import Kind
from services.notifier.domain.playbooks import (
    DEFAULT,
    DUE,
    ESCALATION,
    KINDS,
    REPEAT,
    EscalationStep,
    Match,
    Playbook,
    Playbooks,
    Sold,
    TaskRule,
    Who,
)
from services.notifier.yaml_files import LARGEST, Document, FileRejected, Problem, Section, parse
from shared.messages import Band

CHANNELS: Final = ("slack", "email", "webhook", "apprise")
_MOST_FILES = 100
_MOST_PLAYBOOKS = 100
_MOST_DAYS = 366
_MOST_VALUE = 10**9
_BANDS = tuple(DUE)

Files = Mapping[str, bytes]
"""Contents by name."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """A playbook, and where it stands."""

    document: Document
    line: int
    playbook: Playbook


def built_in() -> Files:
    """The pack that comes with Perennial."""
    folder = resources.files("services.notifier") / "playbooks"
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.name.endswith(".yaml")}


def of_folder(folder: Path) -> Files:
    """Raises OSError where it cannot be read."""
    found = (path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    paths = sorted(path for path in found if path.is_file())
    return {path.name: _beginning(path) for path in paths[: _MOST_FILES + 1]}


def of_file(path: Path) -> Files:
    """Raises OSError where it cannot be read."""
    return {path.name: _beginning(path)}


def read(files: Files) -> Playbooks:
    """Raises FileRejected with all that is wrong."""
    if not files:
        raise FileRejected([Problem(file=".", line=1, what="there is no *.yaml in the folder")])
    if len(files) > _MOST_FILES:
        raise FileRejected([Problem(file=".", line=1, what=f"more than {_MOST_FILES} files")])
    documents = [Document(name) for name in sorted(files)]
    placed = [one for document in documents for one in _placed(document, files[document.name])]
    _check_names(placed)
    problems = [problem for document in documents for problem in document.problems]
    if not problems:
        # Only now: a playbook that is read by halves would shadow others.
        _check_reach(placed)
        problems = [problem for document in documents for problem in document.problems]
    if problems:
        raise FileRejected(problems)
    ordered = [one.playbook for one in placed]
    if not any(playbooks.is_catch_all(one) for one in ordered):
        ordered.append(DEFAULT)
    return Playbooks(tuple(ordered))


def _beginning(path: Path) -> bytes:
    """The file, or enough of it to see that it is too large."""
    with path.open("rb") as file:
        return file.read(LARGEST + 1)


def _placed(document: Document, content: bytes) -> Iterable[_Placed]:
    root = parse(document, content)
    if root is None:
        return []
    section = document.section(root, ["playbooks"], needed=["playbooks"])
    return section.some("playbooks", partial(_playbook, document), most=_MOST_PLAYBOOKS)


def _playbook(document: Document, node: Node) -> _Placed | None:
    keys = Playbook.__struct_fields__
    section = document.section(node, keys, needed=("name", "title"))
    name = section.get("name", document.name_of)
    title = section.get("title", document.text)
    number = partial(document.number, most=_MOST_DAYS)
    version = section.get("version", number)
    channels = section.some("channels", partial(document.one_of, kind=CHANNELS, what="channel"))
    escalation = section.some("escalation", partial(_step, document), most=10)
    match = section.get("match", partial(_match, document))
    repeat = section.get("repeat", partial(_by_severity, document))
    playbook = Playbook(
        name=name or "",
        version=1 if version is None else version,
        title=title or "",
        match=match or Match(),
        owner=_who(section, "owner"),
        due={**DUE, **(section.get("due", partial(_by_severity, document)) or {})},
        tasks=section.some("tasks", partial(_task, document), most=20),
        channels=channels if "channels" in section.entries else DEFAULT.channels,
        repeat=dict(REPEAT) if repeat is None else repeat,
        escalation=escalation if "escalation" in section.entries else ESCALATION,
    )
    _check_steps(section, playbook)
    if name is None:
        return None
    return _Placed(document=document, line=node.start_mark.line + 1, playbook=playbook)


def _match(document: Document, node: Node) -> Match:
    section = document.section(node, Match.__struct_fields__)
    severity = section.some("severity", partial(document.one_of, kind=_BANDS, what="severity"))
    return Match(
        type=section.get("type", partial(document.one_of, kind=Kind, what="type")),
        reasons=section.some("reasons", partial(document.one_of, kind=KINDS, what="reason")),
        severity=tuple(Band(one) for one in severity),
        segment=section.some("segment", document.text),
        sold=section.get("sold", partial(document.one_of, kind=Sold, what="way of sale")),
        value=section.get("value", partial(document.number, most=_MOST_VALUE)),
    )


def _task(document: Document, node: Node) -> TaskRule | None:
    keys = TaskRule.__struct_fields__
    section = document.section(node, keys, needed=("title", "due"))
    number = partial(document.number, most=_MOST_DAYS)
    title, due = section.get("title", document.text), section.get("due", number)
    if title is None or due is None:
        return None
    return TaskRule(
        title=title,
        due=due,
        owner=_who(section, "owner"),
        before_notice=section.get("before_notice", number),
    )


def _step(document: Document, node: Node) -> EscalationStep | None:
    section = document.section(node, EscalationStep.__struct_fields__, needed=("after", "to"))
    after = section.get("after", partial(document.number, most=_MOST_DAYS))
    if after is None or "to" not in section.entries:
        return None
    return EscalationStep(after=after, to=_who(section, "to"))


def _by_severity(document: Document, node: Node) -> dict[Band, int]:
    """Working days; `{}` is none at all."""
    if not isinstance(node, MappingNode):
        document.wrong(node, f"must be days by severity, as {{{_BANDS[0]}: 1}}")
        return {}
    section = document.section(node, _BANDS)
    number = partial(document.number, most=_MOST_DAYS)
    found = {Band(key): section.get(key, number) for key in section.entries if key in _BANDS}
    return {band: days for band, days in found.items() if days is not None}


def _who(section: Section, key: str) -> Who:
    document = section.document
    found = section.get(key, partial(document.one_of, kind=Who, what="owner rule"))
    return Who.OWNER if found is None else Who(found)


def _check_steps(section: Section, playbook: Playbook) -> None:
    steps = [step.after for step in playbook.escalation]
    if steps != sorted(steps):
        section.document.wrong(section.at("escalation"), "escalation must go forward in time")
    if any(days == 0 for days in playbook.repeat.values()):
        section.document.wrong(section.at("repeat"), "repeat must be at least 1 day")
    if not playbook.channels:
        section.document.wrong(section.at("channels"), "channels must name at least one")


def _check_names(placed: Iterable[_Placed]) -> None:
    first: dict[str, _Placed] = {}
    for one in placed:
        other = first.setdefault(one.playbook.name, one)
        if other is not one:
            where = f"{other.document.name}:{other.line}"
            one.document.wrong(one.line, f"{one.playbook.name!r} is the name of {where} already")


def _check_reach(placed: Iterable[_Placed]) -> None:
    by_name = {one.playbook.name: one for one in placed}
    for playbook, before in playbooks.unreachable([one.playbook for one in by_name.values()]):
        at = by_name[playbook.name]
        if before is None:
            why = "what it asks for does not occur together"
        else:
            other = by_name[before.name]
            why = f"{before.name!r} ({other.document.name}:{other.line}) takes its work before it"
        at.document.wrong(at.line, f"nothing would ever get {playbook.name!r}: {why}")
