"""Reads files that people write: every mistake is told with its file and line, all at once.

Only the tree of nodes is read, never a constructed object: what a plain word means is ours to say
(`NO` is a country, 18:00 is a time). No tags, anchors or aliases; sizes are bounded.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, time
from enum import StrEnum
from typing import Final, TypeVar

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from services.notifier.domain.people import is_mail_address
from shared.errors import PerennialError

LARGEST: Final = 512 * 1024
"""Bytes of one file."""
_DEEPEST = 12
_MOST_PROBLEMS = 20
_LONGEST_TEXT = 200

_NUMBER = re.compile(r"[0-9]{1,9}")
_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


class FileRejected(PerennialError):
    """Files that people write are wrong; the message has one line for each problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda one: (one.file, one.line)))
        super().__init__("\n".join(str(one) for one in self.problems))


@dataclass(slots=True)
class Document:
    """One file under reading. What is wrong is noted and read as if it were left out."""

    name: str
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, node: Node | int, what: str) -> None:
        line = node if isinstance(node, int) else node.start_mark.line + 1
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(Problem(file=self.name, line=line, what=what))

    def section(self, node: Node, known: Iterable[str], *, needed: Iterable[str] = ()) -> "Section":
        """A mapping with no other keys than `known`."""
        known = list(known)
        entries: dict[str, Node] = {}
        for key, value in self.pairs(node):
            entries[key.value] = value
            if key.value not in known:
                what = f"unknown key {_shown(key.value)}; known: {', '.join(known)}"
                self.wrong(key, what)
        for name in needed:
            if name not in entries and isinstance(node, MappingNode):
                self.wrong(node, f"{name} is missing")
        return Section(document=self, node=node, entries=entries)

    def pairs(self, node: Node) -> Iterator[tuple[ScalarNode, Node]]:
        """Of a mapping whose keys people choose; each key once."""
        if not isinstance(node, MappingNode):
            self.wrong(node, "must be keys with values (`key: value`)")
            return
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self.wrong(key, "a key must be one word")
            elif key.value in seen:
                self.wrong(key, f"{_shown(key.value)} stands there twice")
            else:
                seen.add(key.value)
                yield key, value

    def items(self, node: Node, *, most: int = 500) -> list[Node]:
        """Of a list; a single value counts as a list of one."""
        if _is_empty(node):
            return []
        if not isinstance(node, SequenceNode):
            return [node]
        if len(node.value) > most:
            self.wrong(node, f"more than {most} entries")
        return list(node.value[:most])

    def text(self, node: Node) -> str | None:
        if not isinstance(node, ScalarNode) or _is_empty(node):
            self.wrong(node, "must be a text")
        elif len(node.value) > _LONGEST_TEXT or not node.value.isprintable():
            self.wrong(node, f"must be one line of at most {_LONGEST_TEXT} characters")
        else:
            return str(node.value)
        return None

    def name_of(self, node: Node) -> str | None:
        return self._as(node, _NAME, str, "a name: small letters, digits, - and _, at most 60")

    def address(self, node: Node) -> str | None:
        text = self.text(node)
        if text is not None and not is_mail_address(text):
            self.wrong(node, f"{_shown(text)} must be an e-mail address")
            return None
        return text

    def number(self, node: Node, *, most: int) -> int | None:
        found = self._as(node, _NUMBER, int, f"a whole number from 0 to {most}")
        if found is not None and found > most:
            self.wrong(node, f"{found} must be a whole number from 0 to {most}")
            return None
        return found

    def time_of_day(self, node: Node) -> time | None:
        def read(text: str) -> time:
            hours, minutes = text.split(":")
            return time(int(hours), int(minutes))

        return self._as(node, _TIME, read, "a time, as 09:30")

    def day(self, node: Node) -> date | None:
        text = self.text(node)
        try:
            return None if text is None else date.fromisoformat(text)
        except ValueError:
            self.wrong(node, f"{_shown(text or '')} must be a day, as 2026-12-24")
            return None

    def truth(self, node: Node) -> bool | None:
        found = self.one_of(node, ("true", "false"), "value")
        return None if found is None else found == "true"

    def one_of(self, node: Node, kind: Iterable[str], what: str) -> str | None:
        text = self.text(node)
        known = [str(one) for one in kind]
        if text is not None and text not in known:
            self.wrong(node, f"unknown {what} {_shown(text)}; known: {', '.join(known)}")
            return None
        return text

    def _as(
        self, node: Node, pattern: re.Pattern[str], read: Callable[[str], T], what: str
    ) -> T | None:
        text = self.text(node)
        if text is None:
            return None
        if pattern.fullmatch(text) is None:
            self.wrong(node, f"{_shown(text)} must be {what}")
            return None
        return read(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A mapping of which the keys are known to us."""

    document: Document
    node: Node
    entries: dict[str, Node]

    def get(self, key: str, read: Callable[[Node], T | None]) -> T | None:
        node = self.entries.get(key)
        return None if node is None else read(node)

    def some(self, key: str, read: Callable[[Node], T | None], *, most: int = 500) -> tuple[T, ...]:
        """The entries of a list that can be read."""
        node = self.entries.get(key)
        found = [] if node is None else [read(one) for one in self.document.items(node, most=most)]
        return tuple(one for one in found if one is not None)

    def at(self, key: str) -> Node:
        """Where to look for what is wrong with it."""
        return self.entries.get(key, self.node)


def parse(document: Document, content: bytes) -> Node | None:
    """The tree of a file; None where there is none, which is noted."""
    if len(content) > LARGEST:
        document.wrong(1, f"larger than {LARGEST // 1024} KiB")
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        document.wrong(content.count(b"\n", 0, error.start) + 1, "is not UTF-8")
        return None
    node = _tree(document, text)
    if not document.problems and (node is None or _is_empty(node)):
        document.wrong(1, "is empty")
    return None if document.problems else node


def _tree(document: Document, text: str) -> Node | None:
    try:
        if _is_plain(document, text):
            return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        # It names no line, and counts characters.
        document.wrong(text.count("\n", 0, error.position) + 1, "holds a control character")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        document.wrong(line, f"is not YAML: {error.problem or error.context}")
    return None


def _is_plain(document: Document, text: str) -> bool:
    """Whether it nests no deeper than people do, and repeats nothing by reference."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            document.wrong(line, "anchors and aliases (& and *) are not allowed")
            return False
        if getattr(event, "tag", None) is not None:
            document.wrong(line, "tags (!) are not allowed")
            return False
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            document.wrong(line, f"is nested more than {_DEEPEST} deep")
            return False
    return True


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _shown(text: str) -> str:
    """Cut, and harmless on a terminal."""
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
