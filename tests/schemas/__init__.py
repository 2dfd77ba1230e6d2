"""What the APIs have promised: each path, parameter and field of `/v1`, a line each.

After a change that is wanted: `PERENNIAL_UPDATE_SCHEMAS=1 pytest -k promised`, look at what
differs, and say in CHANGELOG.md what callers must change. What is gone breaks them.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
_METHODS = frozenset({"get", "put", "post", "patch", "delete"})
_DEEPEST = 12


def promised(document: Mapping[str, Any], name: str) -> tuple[set[str], set[str]]:
    """What is gone, and what is new, against what was committed."""
    path = _FOLDER / f"{name}.txt"
    lines = sorted(set(_lines(document)))
    if os.environ.get("PERENNIAL_UPDATE_SCHEMAS") == "1":
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    known = set(path.read_text(encoding="utf-8").splitlines())
    return known - set(lines), set(lines) - known


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in _METHODS:
                yield method.upper(), path, operation


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    for method, path, operation in operations(document):
        name = f"{method} {path}"
        yield name
        for one in operation.get("parameters", ()):
            given = _resolved(document, one)
            must = " required" if given.get("required") else ""
            yield f"{name} {given['in']} {given['name']}{must}"
        body = _resolved(document, operation.get("requestBody", {}))
        for media, content in body.get("content", {}).items():
            for field in _fields(document, content):
                yield f"{name} body {media} {field}"
        for status, answer in operation["responses"].items():
            yield f"{name} {status}"
            for media, content in _resolved(document, answer).get("content", {}).items():
                for field in _fields(document, content):
                    yield f"{name} {status} {media} {field}"


def _fields(document: Mapping[str, Any], content: Mapping[str, Any]) -> Iterator[str]:
    yield from _of_schema(document, content.get("schema", {}), "", 0)
    if "example" in content:
        yield from _of_example(content["example"], "")


def _of_schema(
    document: Mapping[str, Any], schema: Mapping[str, Any], at: str, depth: int
) -> Iterator[str]:
    found = _resolved(document, schema)
    if depth > _DEEPEST:
        return
    for kind in ("oneOf", "anyOf", "allOf"):
        for one in found.get(kind, ()):
            yield from _of_schema(document, one, at, depth + 1)
    if "items" in found:
        yield from _of_schema(document, found["items"], f"{at}[]", depth + 1)
    needed = set(found.get("required", ()))
    for field, value in found.get("properties", {}).items():
        kind = _resolved(document, value).get("type", "any")
        yield f"{at}.{field} {kind}{' required' if field in needed else ''}"
        yield from _of_schema(document, value, f"{at}.{field}", depth + 1)


def _of_example(example: object, at: str) -> Iterator[str]:
    """Where the answer is described by an example, its names are the promise."""
    match example:
        case dict():
            for field, value in example.items():
                yield f"{at}.{field}"
                yield from _of_example(value, f"{at}.{field}")
        case list():
            for one in example:
                yield from _of_example(one, f"{at}[]")


def _resolved(document: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in part:
        found: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name.replace("~1", "/").replace("~0", "~")]
        part = found
    return part
