"""The rules in force, and what others would do to today's accounts: nothing is changed here."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from fastapi import FastAPI, Form, Request
from fastapi.responses import Response

from services.notifier.console.pages import Pages
from services.notifier.console.portfolio import is_missing
from services.notifier.console.scoring import Missing, Refused
from services.notifier.domain.access import Right
from shared.messages import Band

_MAX_RULES: Final = 32_768
_SHARES: Final = ("share", "at_most", "at_least", "below")
_GUARDS: Final = ("storm_guard", "staleness")


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    digest: str
    rules: dict[str, Any]


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Of one flag: how many are up, and what would become of them."""

    raised_now: int = 0
    would_raise: int = 0
    would_wait: int = 0
    would_clear: int = 0
    would_clear_later: int = 0
    raised_examples: tuple[str, ...] = ()
    cleared_examples: tuple[str, ...] = ()


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    as_of: datetime | None
    accounts: int
    flags: dict[str, Tally]
    storm: bool = False


def add_rules(app: FastAPI, pages: Pages) -> None:
    async def show(rules: str = "", tried: Preview | Missing | Refused | None = None) -> Response:
        found = await pages.scoring.ask(InForce, "/v1/rules")
        status = 422 if isinstance(tried, Refused) else 200
        return pages.page(
            "rules.html",
            status=status,
            found=found,
            thresholds={} if isinstance(found, Missing) else _bands(found.rules),
            guards=[] if isinstance(found, Missing) else list(_guards(found.rules)),
            segments=[] if isinstance(found, Missing) else list(found.rules.get("segments", ())),
            groups=[] if isinstance(found, Missing) else list(_groups(found.rules)),
            rules=rules,
            note=Right.NOTE,
            levels=[(one.value, one) for one in reversed(Band)],
            tried=tried,
            is_missing=is_missing,
            is_refused=isinstance(tried, Refused),
        )

    @app.get("/rules")
    async def page() -> Response:
        return await show()

    @app.post("/rules")
    async def preview(
        _: Request, rules: Annotated[str, Form(max_length=_MAX_RULES)] = ""
    ) -> Response:
        return await show(rules, await pages.scoring.send(Preview, "/v1/rules/preview", rules))


def _bands(rules: Mapping[str, Any]) -> Mapping[str, Any]:
    found = rules.get("bands")
    return found if isinstance(found, dict) else {}


def _groups(rules: Mapping[str, Any]) -> Iterator[tuple[str, bool, list[tuple[str, str]]]]:
    """Each flag: its name, whether it is on, its numbers in words."""
    for name, content in rules.items():
        if isinstance(content, dict) and "enabled" in content:
            numbers = [(_name(key), _said(key, value)) for key, value in content.items()]
            yield name, bool(content["enabled"]), numbers[1:]


def _guards(rules: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """What holds back flags that our own data may have caused."""
    for name in _GUARDS:
        if isinstance(content := rules.get(name), dict):
            yield _name(name), [(_name(key), _said(key, one)) for key, one in content.items()]


def _name(key: str) -> str:
    return key.replace("_", " ")


def _said(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(one).replace("_", " ") for one in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{_name(name)} {_said(name, one)}" for name, one in value.items())
    if isinstance(value, float):
        is_share = any(word in key for word in _SHARES) and 0 < value <= 1
        return f"{value * 100:g} %" if is_share else f"{value:g}"
    return _name(str(value))
