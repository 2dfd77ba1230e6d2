"""Who works here as it is in force, and what each wants for themselves."""

from collections.abc import Mapping, Sequence
from datetime import time
from typing import Annotated, Final

from fastapi import Depends, FastAPI, Form, Request
from fastapi.responses import RedirectResponse, Response

from services.notifier import preferences
from services.notifier.console import fields, words
from services.notifier.console.fields import Sent, sent
from services.notifier.console.pages import Pages
from services.notifier.console.rights import needs, require
from services.notifier.domain.access import Right
from services.notifier.domain.calendar import known_zones
from services.notifier.domain.people import (
    Mode,
    Person,
    Preference,
    Roster,
    is_mail_address,
    is_same,
    preferring,
)
from services.notifier.routes import CHANNELS
from services.notifier.team import strangers

PAGE: Final = 100

Text = Annotated[str, Form()]


class _Wrong(Exception):
    """A field that cannot be taken; the text says which, and why."""


def add_people(app: FastAPI, pages: Pages) -> None:
    @app.get("/people")
    async def listed(page: int = 0) -> Response:
        team = pages.team()
        async with pages.engine.connect() as connection:
            wanted = await preferences.read_all(connection)
        people = everybody(team, wanted)
        first = min(max(page, 0), len(people) // PAGE) * PAGE
        return pages.page(
            "people.html",
            people=people[first : first + PAGE],
            total=len(people),
            wanted=wanted,
            team=team,
            has_file=bool(team.people),
            problem=pages.problems().get("team"),
            page=first // PAGE,
            is_last=first + PAGE >= len(people),
            today=pages.clock().date(),
        )

    @app.get("/people/{address:path}")
    async def person(address: str) -> Response:
        if not is_mail_address(address):
            return _nobody(pages)
        team = pages.team()
        async with pages.engine.connect() as connection:
            wanted = (await preferences.read_all(connection)).get(address.lower(), Preference())
        return pages.page(
            "person.html",
            # Without what they want: it is what holds for the fields that they leave open.
            usual=team.person(address),
            wanted=wanted,
            all_channels=CHANNELS,
            zones=sorted(known_zones()),
        )

    @app.post("/people/{address:path}", dependencies=[needs(Right.NOTE)])
    async def prefer(
        request: Request,
        address: str,
        sending: Annotated[Sent, Depends(sent)],
        mode: Text = "",
        email: Text = "",
        channels: Annotated[tuple[str, ...], Form()] = (),
        zone: Text = "",
        opens: Text = "",
        closes: Text = "",
        digest_at: Text = "",
    ) -> Response:
        if not is_mail_address(address):
            return _nobody(pages)
        if not is_same(address, sending.by):
            require(request, Right.LEAD)
        try:
            wanted = Preference(
                mode=_mode(mode),
                email=_mode(email),
                channels=_channels(channels),
                zone=_zone(zone),
                opens=_time(opens),
                closes=_time(closes),
                digest_at=_time(digest_at),
            )
            _check_hours(wanted)
        except _Wrong as wrong:
            link = f"/people/{words.quoted(address)}"
            return pages.explain(
                422, "Not saved", f"{wrong} Nothing was changed.", link, "Choose again"
            )
        async with pages.engine.begin() as connection:
            await preferences.save(connection, address, wanted, by=sending.viewer, at=pages.clock())
        return RedirectResponse("/people", status_code=303)


def everybody(team: Roster, wanted: Mapping[str, Preference]) -> Sequence[Person]:
    """In the order of the file; then those whom it only names, or who chose something."""
    roster = preferring(team, wanted)
    known = {one.address.lower() for one in roster.people}
    others = [roster.person(one) for one in strangers(team) if one not in known]
    return [*roster.people, *others]


def _nobody(pages: Pages) -> Response:
    return pages.explain(
        404, "Nobody by that address", "It is no e-mail address.", "/people", "All people"
    )


def _mode(text: str) -> Mode | None:
    found = fields.choice(Mode, text)
    if text and found is None:
        raise _Wrong("Choose how often from the list.")
    return found


def _channels(chosen: Sequence[str]) -> tuple[str, ...] | None:
    """None ticked: as the team file says, for nobody can choose to be unreachable."""
    if not set(chosen) <= set(CHANNELS):
        raise _Wrong("Choose channels from the list.")
    return tuple(one for one in CHANNELS if one in chosen) or None


def _zone(text: str) -> str | None:
    named = text.strip()
    if named and named not in known_zones():
        raise _Wrong("The time zone must be one of IANA, such as Europe/Berlin.")
    return named or None


def _time(text: str) -> time | None:
    found = fields.time_of_day(text)
    if text.strip() and found is None:
        raise _Wrong("Times look like 09:00.")
    return found


def _check_hours(wanted: Preference) -> None:
    if (wanted.opens is None) != (wanted.closes is None):
        # With one alone, a change of the team file could turn the day around.
        raise _Wrong("Give both the beginning and the end of your hours, or neither.")
    if wanted.opens is not None and wanted.closes is not None and wanted.opens >= wanted.closes:
        raise _Wrong("Your hours must begin before they end.")
