"""What pages show. They read; forms write (`forms` and the modules of other pages)."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from uuid import UUID

import jinja2
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import store, templates
from services.notifier.console import figures, queries, rights, words
from services.notifier.console.account import new_key
from services.notifier.console.guard import Refused
from services.notifier.console.refusals import SAID, status_of
from services.notifier.console.scoring import ScoringApi
from services.notifier.domain.interventions import Intervention
from services.notifier.domain.people import Roster
from services.notifier.stepping import Changed
from services.notifier.steps import Steps
from shared.clock import Clock
from shared.credentials import KeyRing

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FILTERS = {
    "waiting": ("pending", "sending", "restored"),
    "sent": ("sent",),
    "suppressed": ("cancelled",),
    "held": ("held",),
    "dead": ("dead",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Assets:
    """Templates and our own files, read once: serving touches no file."""

    templates: jinja2.Environment
    files: dict[str, bytes]

    def explain(self, refused: Refused) -> str:
        page = self.templates.get_template("explain.html")
        return page.render(
            viewer=None,
            title=refused.title,
            text=refused.text,
            link=refused.link,
            link_text=refused.link_text,
        )


def load_assets() -> Assets:
    environment = templates.load("services.notifier.console")
    folder = files("services.notifier.console") / "static"
    static = {entry.name: entry.read_bytes() for entry in folder.iterdir()}
    words.install(environment)
    figures.install(environment)
    environment.globals["new_key"] = new_key
    environment.globals["css_version"] = _version(static["console.css"])
    environment.globals["figures_version"] = _version(static["figures.css"])
    environment.globals["js_version"] = _version(static["console.js"])
    return Assets(templates=environment, files=static)


def _version(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """What the routes need."""

    engine: AsyncEngine
    scoring: ScoringApi
    steps: Steps
    assets: Assets
    clock: Clock
    team: Callable[[], Roster]
    """As its file says, without what people want for themselves."""
    problems: Callable[[], Mapping[str, str]]
    """Why files of `team` or `playbooks` are refused as they are now; those in force are older."""
    keys: KeyRing
    """Of all sources, and what is said of them; without secrets."""

    async def deliveries(self, show: str, before: int | None) -> Response:
        now = self.clock()
        states = _FILTERS.get(show)
        async with self.engine.connect() as connection:
            rows = await queries.recent_deliveries(connection, states=states, before=before)
            troubled = await queries.troubled_destinations(connection)
            paused = await queries.troubled_channels(connection)
        return self.page(
            "deliveries.html",
            rows=rows,
            troubled=troubled,
            paused=paused,
            show=show if show in _FILTERS else "all",
            is_first=before is None,
            last=rows[-1] if len(rows) == queries.PAGE else None,
            now=now,
        )

    async def intervention(self, intervention_id: UUID) -> Response:
        """Where links in messages lead: the account's page, at the intervention."""
        async with self.engine.connect() as connection:
            subject = await store.read(connection, intervention_id)
        if subject is None:
            return self.explain(404, "No such intervention", "The link may be cut off.")
        return _to(subject)

    def answer(self, changed: Changed) -> Response:
        """The answer to a form."""
        if isinstance(changed, Intervention):
            return _to(changed)
        subject = changed.intervention
        if subject is None:
            return self.explain(404, "No such intervention", "Nothing was changed.")
        link = f"{words.account_url(subject.account_id)}#i-{subject.id}"
        title, text = SAID[changed.refusal]
        return self.explain(status_of(changed.refusal), title, text, link, "See it as it is now")

    def explain(
        self,
        status: int,
        title: str,
        text: str,
        link: str | None = "/",
        link_text: str | None = "Today",
    ) -> Response:
        """A page that says what happened and what to do next."""
        return self.page(
            "explain.html", status=status, title=title, text=text, link=link, link_text=link_text
        )

    def page(self, template: str, *, status: int = 200, **context: object) -> Response:
        shown = {"viewer": rights.current.get(), **context}
        body = self.assets.templates.get_template(template).render(shown)
        return HTMLResponse(body, status_code=status)

    def static(self, name: str) -> Response:
        content = self.assets.files.get(name)
        if content is None:
            return self.explain(404, "No such file", "This address does not exist.")
        kind = _TYPES.get(name[name.rfind(".") :], "application/octet-stream")
        # The address carries a version, so that a new one is fetched at once.
        caching = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content, media_type=kind, headers=caching)


def _to(subject: Intervention) -> Response:
    target = f"{words.account_url(subject.account_id)}#i-{subject.id}"
    return RedirectResponse(target, status_code=303)
