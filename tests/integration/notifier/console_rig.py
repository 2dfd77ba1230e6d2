"""What the console's tests stand on: a fake of scoring's read API, the app, a reader of markup."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx
import msgspec
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from services.notifier.api.app import api
from services.notifier.api.desk import ApiDesk
from services.notifier.api.entrance import WithApi
from services.notifier.app import guarded
from services.notifier.console import rights
from services.notifier.console.entry import Provider
from services.notifier.console.guard import Guard, known_hosts
from services.notifier.console.pages import Pages, load_assets
from services.notifier.console.routes import create_app
from services.notifier.console.scoring import ScoringApi
from services.notifier.domain.access import Viewer
from services.notifier.settings import NotifierSettings
from shared.credentials import KeyRing
from shared.messages import Band
from tests.integration.notifier.rig import NOW, Rig, account, flag

PARTS: Mapping[str, Mapping[str, object]] = {
    "daily": {
        "days": [{"day": "2026-05-20", "events": 12, "active_users": 3, "session_seconds": 840}]
    },
    "history": {
        "history": [
            {"as_of": "2026-03-02T06:00:00Z", "kind": "weekly", "risk": 0.12, "band": "watch"},
            {"as_of": "2026-05-04T06:00:00Z", "kind": "changed", "risk": 0.31, "band": "at_risk"},
        ]
    },
    "people": {
        "people": [
            {
                "user": "00d1b2c64ca658e6",
                "first_day": "2025-10-28",
                "last_day": "2026-05-20",
                "active_days_28": 7,
                "active_days_90": 21,
                "active_days_365": 90,
            }
        ],
        "total": 4,
        "as_of": "2026-05-31",
    },
    "journey": {
        "stages": [
            {"stage": "land", "since": "2025-10-28T00:00:00Z", "until": "2026-01-04T00:00:00Z"},
            {"stage": "adopt", "since": "2026-01-04T00:00:00Z", "until": None},
        ]
    },
    "goals": {
        "goals": [
            {
                "metric": "time_to_invoice",
                "baseline": 12.0,
                "target": 10.2,
                "direction": "down",
                "due": "2027-03-01",
                "state": "on_track",
                "value": 10.6,
                "value_at": "2026-05-30T00:00:00Z",
                "improvement": 0.1167,
                "target_improvement": 0.15,
                "attained": 0.7778,
                "expected_now": 0.63,
                "values": [{"day": "2026-05-30", "value": 10.6}],
            }
        ]
    },
}
"""What is answered about any account, by the last part of the address."""


@dataclass(slots=True)
class FakeScoring:
    """Scoring's read API; `mood` changes how it answers."""

    url: str = ""
    mood: str = "well"
    asked: list[str] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    flags: list[dict[str, object]] = field(default_factory=list)
    """More flags of every account."""

    listed: list[dict[str, object]] = field(default_factory=list)
    """Accounts of the list; pages of them are cut by `limit`, and their numbers are cursors."""
    absent: set[str] = field(default_factory=set)
    """Parts of an account that are asked for in vain."""

    async def answer_list(self, request: Request) -> JSONResponse:
        self.asked.append(f"{request.url.path}?{request.url.query}")
        if self.mood == "broken" or (self.mood == "breaks" and "cursor" in request.query_params):
            return JSONResponse({}, 500)
        at = int(request.query_params.get("cursor", "0"))
        end = at + int(request.query_params["limit"])
        more = str(end) if end < len(self.listed) else None
        page: dict[str, object] = {"accounts": self.listed[at:end], "next_cursor": more}
        return JSONResponse(page | {"total": len(self.listed), "as_of": "2026-06-01T11:59:00Z"})

    async def answer_facets(self, request: Request) -> JSONResponse:
        self.asked.append(f"{request.url.path}?{request.url.query}")
        owners = [{"value": "anna@vendor.example", "accounts": 7}, {"value": None, "accounts": 2}]
        bands = [{"value": "critical", "accounts": 3}, {"value": "healthy", "accounts": 6}]
        return JSONResponse({"owner": owners, "band": bands, "more": {"owner": 0}})

    async def answer(self, request: Request, path: str) -> JSONResponse:
        self.asked.append(request.scope["raw_path"].decode())
        self.keys.add(request.headers.get("authorization"))
        part = path.rpartition("/")[2]
        match "broken" if part in self.absent else self.mood:
            case "hang":
                await asyncio.sleep(2)
            case "nonsense":
                return JSONResponse({"account_id": 7})
            case "unknown":
                return JSONResponse({"code": "unknown_account"}, 404)
            case "broken":
                return JSONResponse({}, 500)
        if part in PARTS:
            return JSONResponse(PARTS[part])
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
    keys: KeyRing | None = None,
    provider: Provider | None = None,
    **settings: Any,
) -> Guard:
    pages = _pages(rig, scoring, client, problems, keys)
    return guarded(
        pages, NotifierSettings(**settings), pages.assets, secret="s" * 32, provider=provider
    )


def signed_in(rig: Rig, scoring: FakeScoring, client: httpx.AsyncClient, viewer: Viewer) -> ASGIApp:
    """The console behind the guard, as that viewer has it."""
    app = create_app(_pages(rig, scoring, client, dict, None))

    async def let_in(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["viewer"] = viewer
        token = rights.current.set(viewer)
        try:
            await app(scope, receive, send)
        finally:
            rights.current.reset(token)

    return let_in


def _pages(
    rig: Rig,
    scoring: FakeScoring,
    client: httpx.AsyncClient,
    problems: Callable[[], Mapping[str, str]],
    keys: KeyRing | None,
) -> Pages:
    return Pages(
        engine=rig.engine,
        scoring=ScoringApi(client=client, url=scoring.url, key="prn_live_key"),
        steps=rig.steps,
        assets=load_assets(),
        clock=rig.hands,
        team=rig.desk.staff.roster,
        problems=problems,
        keys=keys or KeyRing(),
    )


def api_app(rig: Rig, ring: KeyRing, scoring: ScoringApi | None = None) -> ASGIApp:
    """The API alone: no console behind it, and by default no scoring that would answer."""
    away = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(500)))
    desk = ApiDesk(
        engine=rig.engine,
        scoring=scoring or ScoringApi(client=away, url="http://scoring", key="prn_live_key"),
        steps=rig.steps,
        clock=rig.hands,
        keys=ring,
        team=rig.desk.staff.roster,
        problems=dict,
    )

    return WithApi(
        console=PlainTextResponse("no console here", 404), api=api(desk), hosts=known_hosts([])
    )


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
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.inline.append(tag)
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        for name in ("href", "src", "action"):
            if (value := given.get(name)) and not value.startswith(("/", "#")):
                self.foreign.append(value)
        if tag == "label":
            self._labels.add(given.get("for") or "")
            self._is_in_label = True
        if given.get("aria-label"):
            return
        shown = tag == "input" and given.get("type") != "hidden" and not self._is_in_label
        if tag in ("select", "textarea") or shown:
            self._fields.add(given.get("id") or "?")

    def handle_endtag(self, tag: str) -> None:
        self._is_in_label = self._is_in_label and tag != "label"

    def close(self) -> None:
        super().close()
        self.unnamed = sorted(self._fields - self._labels)
