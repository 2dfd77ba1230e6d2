"""What pages show. They read; forms write (`forms` and the modules of other pages)."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from uuid import UUID

import jinja2
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.notifier import sentiments, store, tasks, templates
from services.notifier.console import plot, queries, words
from services.notifier.console.account import new_key, shown, zones_of
from services.notifier.console.guard import Refused
from services.notifier.console.queries import After, Wanted
from services.notifier.console.refusals import SAID, status_of
from services.notifier.console.scoring import ScoringApi, View
from services.notifier.domain.interventions import Intervention
from services.notifier.domain.people import Roster
from services.notifier.domain.sentiments import MAX_SENTIMENT, Mood
from services.notifier.domain.steps import MAX_SNOOZE
from services.notifier.stepping import Changed
from services.notifier.steps import Steps
from shared.clock import Clock

_MAX_ID = 500
_CSS = "console.css"
_TYPES = {".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_FILTERS = {
    "waiting": ("pending", "sending"),
    "sent": ("sent",),
    "suppressed": ("cancelled",),
    "held": ("held",),
    "dead": ("dead",),
}
_SENTIMENT_DAYS = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Assets:
    """Templates and our own files, read once: serving touches no file."""

    templates: jinja2.Environment
    files: dict[str, bytes]

    def explain(self, refused: Refused) -> str:
        page = self.templates.get_template("explain.html")
        return page.render(title=refused.title, text=refused.text, link=None, link_text=None)


def load_assets() -> Assets:
    environment = templates.load("services.notifier.console")
    folder = files("services.notifier.console") / "static"
    static = {entry.name: entry.read_bytes() for entry in folder.iterdir()}
    words.install(environment)
    environment.globals["new_key"] = new_key
    environment.globals["css_version"] = hashlib.sha256(static[_CSS]).hexdigest()[:12]
    return Assets(templates=environment, files=static)


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

    async def work(self, wanted: Wanted, after: After | None) -> Response:
        now = self.clock()
        roster = self.steps.stepping.staff.roster()
        async with self.engine.connect() as connection:
            found = await queries.open_work(connection, wanted, after=after, now=now)
            totals = await queries.totals(connection, owner=wanted.owner, now=now)
            owners = await queries.owners(connection)
            trouble = await self._trouble(connection, now)
        return self.page(
            "work.html",
            work=found,
            zones=zones_of(roster),
            fallback_owner=roster.fallback_owner,
            totals=totals,
            owners=owners,
            wanted=wanted,
            shows=queries.SHOWS,
            is_first=after is None,
            last=found[-1].intervention if len(found) == queries.PAGE else None,
            now=now,
            today=now.astimezone(UTC).date(),
            trouble=trouble,
        )

    async def account(self, account_id: str) -> Response:
        if not account_id or len(account_id) > _MAX_ID or "\0" in account_id:
            return self._unknown_account()
        now = self.clock()
        today = now.astimezone(UTC).date()
        async with self.engine.connect() as connection:
            known = await store.read_account(connection, account_id)
            found = await queries.interventions_of(connection, account_id)
            entries = await queries.timeline_of(connection, account_id)
            to_do = await tasks.of_interventions(connection, [one.id for one in found])
            said = await sentiments.history(connection, account_id)
        first = today - timedelta(days=plot.DAYS - 1)
        view = await self.scoring.view(account_id, first=first, last=today)
        if known is None and not found and view.account is None:
            return self._unknown_account(view.missing)
        fields = view.account.fields if view.account else known.fields if known else None
        newest = found[0] if found else None
        roster = self.steps.stepping.staff.roster()
        zone = known.fields.timezone if known else None
        zones = zones_of(roster)
        lost = known is not None and known.is_lost
        return self.page(
            "account.html",
            account_id=account_id,
            name=(fields.name if fields else None) or account_id,
            fields=fields,
            facts=words.facts(fields) if fields else (),
            scored=view.account,
            missing=view.missing,
            newest=newest,
            reasons=view.account.reasons if view.account else newest.reasons if newest else (),
            work=[
                shown(
                    one,
                    to_do,
                    roster,
                    zone=zones.of(one.owner, zone),
                    account_lost=lost,
                    now=now,
                )
                for one in found
                if one.is_open
            ],
            closed=[one for one in found if not one.is_open],
            sentiment=next((one for one in said[:1] if now < one.expires_at), None),
            sentiments=said,
            moods=list(Mood),
            sentiment_until=today + timedelta(days=_SENTIMENT_DAYS),
            sentiment_last=today + MAX_SENTIMENT - timedelta(days=1),
            snooze_last=today + MAX_SNOOZE,
            colleagues=words.colleagues(roster),
            entries=entries,
            zone=zone,
            now=now,
            today=today,
            usage=_usage(view, today),
        )

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
        link_text: str | None = "All open interventions",
    ) -> Response:
        """A page that says what happened and what to do next."""
        return self.page(
            "explain.html", status=status, title=title, text=text, link=link, link_text=link_text
        )

    def page(self, template: str, *, status: int = 200, **context: object) -> Response:
        body = self.assets.templates.get_template(template).render(context)
        return HTMLResponse(body, status_code=status)

    def static(self, name: str) -> Response:
        content = self.assets.files.get(name)
        if content is None:
            return self.explain(404, "No such file", "This address does not exist.")
        kind = _TYPES.get(name[name.rfind(".") :], "application/octet-stream")
        # The address carries a version, so that a new one is fetched at once.
        caching = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content, media_type=kind, headers=caching)

    async def _trouble(self, connection: AsyncConnection, now: datetime) -> dict[str, int]:
        return {
            "dead": await queries.count_given_up(connection, since=now - timedelta(days=1)),
            "destinations": len(await queries.troubled_destinations(connection)),
            "channels": len(await queries.troubled_channels(connection)),
        }

    def _unknown_account(self, missing: str | None = None) -> Response:
        text = "Neither a flag nor the directory names it: check the id in the address."
        return self.explain(404, "No such account", f"{text} {missing}." if missing else text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The same days drawn wide and narrow, and as a table."""

    wide: plot.Plot
    narrow: plot.Plot
    weeks: tuple[plot.Week, ...]


def _usage(view: View, today: date) -> Usage | None:
    if view.days is None:
        return None
    flagged = [one.raised_at.date() for one in view.account.flags] if view.account else []
    return Usage(
        wide=plot.plot(view.days, last=today, width=960, raised=flagged),
        narrow=plot.plot(view.days, last=today, width=358, heights=(110, 60), raised=flagged),
        weeks=plot.weeks(view.days, last=today),
    )


def _to(subject: Intervention) -> Response:
    target = f"{words.account_url(subject.account_id)}#i-{subject.id}"
    return RedirectResponse(target, status_code=303)
