"""What the console's tests stand on: a fake of scoring's read API, the app, a reader of markup."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx
import msgspec
from fastapi.responses import JSONResponse
from starlette.requests import Request

from services.notifier.app import guarded
from services.notifier.console.guard import Guard
from services.notifier.console.pages import Pages, load_assets
from services.notifier.console.scoring import ScoringApi
from services.notifier.settings import NotifierSettings
from shared.messages import Band
from tests.integration.notifier.rig import NOW, Rig, account, flag


@dataclass(slots=True)
class FakeScoring:
    """Scoring's read API; `mood` changes how it answers."""

    url: str = ""
    mood: str = "well"
    asked: list[str] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    flags: list[dict[str, object]] = field(default_factory=list)
    """More flags of every account."""

    async def answer(self, request: Request, path: str) -> JSONResponse:
        self.asked.append(request.scope["raw_path"].decode())
        self.keys.add(request.headers.get("authorization"))
        match self.mood:
            case "hang":
                await asyncio.sleep(2)
            case "nonsense":
                return JSONResponse({"account_id": 7})
            case "unknown":
                return JSONResponse({"code": "unknown_account"}, 404)
            case "broken":
                return JSONResponse({}, 500)
        if path.endswith("/daily"):
            day = {"day": "2026-05-20", "events": 12, "active_users": 3, "session_seconds": 840}
            return JSONResponse({"days": [day]})
        one = flag()
        shown = {"reason": one.reason, "stage": one.stage, "episode": 1, "raised_at": NOW}
        scored = {
            "account_id": path,
            "fields": account(plan="Team").fields,
            "state": "scored",
            "short_history": False,
            "risk": 0.42,
            "band": Band.CRITICAL,
            "value_at_risk": one.value_at_risk,
            "model": {"version": "prior-1", "prior": True},
            "reasons": one.reasons,
            "indicators": {},
            "flags": [
                {**shown, "cleared_at": None, "summary": one.summary, "evidence": one.reasons},
                *self.flags,
            ],
            "as_of": NOW,
        }
        return JSONResponse(msgspec.to_builtins(scored))


def console_app(
    rig: Rig,
    scoring: FakeScoring,
    client: httpx.AsyncClient,
    problems: Callable[[], Mapping[str, str]] = dict,
    **settings: Any,
) -> Guard:
    pages = Pages(
        engine=rig.engine,
        scoring=ScoringApi(client=client, url=scoring.url, key="prn_live_key"),
        steps=rig.steps,
        assets=load_assets(),
        clock=rig.hands,
        team=rig.desk.staff.roster,
        problems=problems,
    )
    return guarded(pages, NotifierSettings(**settings), pages.assets)


class Markup(HTMLParser):
    """Collects what a strict policy or a reader without JavaScript would stumble over."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.inline: list[str] = []
        self.foreign: list[str] = []
        self.unnamed: list[str] = []
        self._labels: set[str] = set()
        self._fields: set[str] = set()
        self._is_in_label = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        for name in ("href", "src", "action"):
            if (value := given.get(name)) and not value.startswith(("/", "#")):
                self.foreign.append(value)
        if tag == "label":
            self._labels.add(given.get("for") or "")
            self._is_in_label = True
        shown = tag == "input" and given.get("type") != "hidden" and not self._is_in_label
        if tag in ("select", "textarea") or shown:
            self._fields.add(given.get("id") or "?")

    def handle_endtag(self, tag: str) -> None:
        self._is_in_label = self._is_in_label and tag != "label"

    def close(self) -> None:
        super().close()
        self.unnamed = sorted(self._fields - self._labels)
