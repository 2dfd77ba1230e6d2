"""The list of all accounts: by filters and words, in any order, as saved views and as a file."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, FastAPI, Form, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from services.notifier import saved_views
from services.notifier.console import fields, listing, spreadsheet, words, work
from services.notifier.console.fields import Sent, sent
from services.notifier.console.listing import Accounts, Facets, Listed, Wanted
from services.notifier.console.pages import Pages
from services.notifier.console.rights import needs, viewer_of
from services.notifier.console.scoring import Missing, ScoringApi
from services.notifier.domain.access import Right

PAGE: Final = 50
_PAGE_OF_FILE: Final = 500
_TRIES: Final = 3
VIEWS_OF: Final = "accounts"
_MAX_CURSOR: Final = 2_000
_HEAD: Final = (
    "account_id", "name", "owner", "segment", "plan", "region", "reseller", "stage", "state",
    "band", "risk", "value_at_risk", "value_currency", "value_basis", "mrr", "currency",
    "renewal", "strongest_reason", "as_of",
)  # fmt: skip

Text = Annotated[str, Form()]
Sending = Annotated[Sent, Depends(sent)]


def add_accounts(app: FastAPI, pages: Pages) -> None:
    _add_list(app, pages)
    _add_file(app, pages)
    _add_views(app, pages)


def _add_list(app: FastAPI, pages: Pages) -> None:
    @app.get("/accounts")
    async def accounts(request: Request, cursor: str = "") -> Response:
        viewer = viewer_of(request)
        wanted = listing.wanted_of(request.query_params)
        found, facets, views = await asyncio.gather(
            _ask(pages.scoring, wanted, cursor[:_MAX_CURSOR] or None, limit=PAGE),
            pages.scoring.ask(Facets, "/v1/facets", wanted.cut),
            _views(pages, viewer.address),
        )
        shown = found.accounts if isinstance(found, Accounts) else ()
        async with pages.engine.connect() as connection:
            work_of = await work.open_of(connection, [one.account_id for one in shown])
        return pages.page(
            "accounts.html",
            viewer=viewer,
            wanted=wanted,
            found=found if isinstance(found, Accounts) else None,
            missing=found.text if isinstance(found, Missing) else None,
            facets=facets if isinstance(facets, Facets) else Facets(),
            views=views,
            usual=_usual(viewer.address),
            work_of=work_of,
            is_first=not cursor,
            not_known=listing.NOT_KNOWN,
            within=listing.WITHIN,
            may_note=viewer.may(Right.NOTE),
            may_lead=viewer.may(Right.LEAD),
            today=pages.clock().date(),
        )


def _add_file(app: FastAPI, pages: Pages) -> None:
    @app.get("/accounts.csv")
    async def file(request: Request) -> Response:
        wanted = listing.wanted_of(request.query_params)
        first = await _ask(pages.scoring, wanted, None, limit=_PAGE_OF_FILE)
        if isinstance(first, Missing):
            return pages.explain(
                503,
                "No file at the moment",
                f"{first.text}. Try again in a minute.",
                f"/accounts?{wanted.query}",
                "Back to the list",
            )
        name = f"accounts-{pages.clock():%Y-%m-%d}.csv"
        return StreamingResponse(
            _file(pages.scoring, wanted, first),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


def _add_views(app: FastAPI, pages: Pages) -> None:
    @app.post("/views", dependencies=[needs(Right.NOTE)])
    async def save(
        request: Request,
        _: Sending,
        name: Text = "",
        query: Text = "",
        shared: Text = "",
    ) -> Response:
        title = (fields.line(name) or "")[:80]
        wanted = listing.wanted_of_query(query)
        back = f"/accounts?{wanted.query}"
        if not title:
            return pages.explain(
                422, "It needs a name", "Go back and name the view.", back, "Back to the list"
            )
        async with pages.engine.begin() as connection:
            is_kept = await saved_views.save(
                connection,
                viewer_of(request),
                page=VIEWS_OF,
                name=title,
                query=wanted.query,
                shared=shared == "true",
                at=pages.clock(),
            )
        if not is_kept:
            text = f"You have {saved_views.MOST} views already: remove one first."
            return pages.explain(422, "Too many views", text, back, "Back to the list")
        return RedirectResponse(back, status_code=303)

    @app.post("/views/{view_id}/remove", dependencies=[needs(Right.NOTE)])
    async def remove(request: Request, view_id: UUID, _: Sending) -> Response:
        async with pages.engine.begin() as connection:
            is_gone = await saved_views.remove(
                connection, viewer_of(request), view_id, at=pages.clock()
            )
        if not is_gone:
            return pages.explain(
                404,
                "No such view of yours",
                "It is gone already, or somebody else's. Nothing was changed.",
                "/accounts",
                "All accounts",
            )
        return RedirectResponse("/accounts", status_code=303)


def _usual(address: str) -> tuple[tuple[str, str], ...]:
    """Views that everybody has."""
    return (
        ("All", ""),
        ("Mine", Wanted(owner=address).query),
        ("Critical", Wanted(band="critical").query),
        ("At risk", Wanted(band="at_risk").query),
        ("Renewing in 90 days", Wanted(renews_within="90", sort="renewal_date", order="asc").query),
    )


async def _views(pages: Pages, address: str) -> list[saved_views.SavedView]:
    async with pages.engine.connect() as connection:
        return list(await saved_views.of_page(connection, VIEWS_OF, address))


async def _ask(
    scoring: ScoringApi, wanted: Wanted, cursor: str | None, *, limit: int
) -> Accounts | Missing:
    return await scoring.ask(Accounts, "/v1/accounts", wanted.asked(cursor=cursor, limit=limit))


async def _file(scoring: ScoringApi, wanted: Wanted, first: Accounts) -> AsyncIterator[bytes]:
    """Page by page, so that no list is too long to be held."""
    yield spreadsheet.MARK + spreadsheet.lines([_HEAD])
    found: Accounts | Missing = first
    written = 0
    while isinstance(found, Accounts):
        yield spreadsheet.lines(_rows(found.accounts))
        written += len(found.accounts)
        cursor = found.next_cursor
        if cursor is None:
            return
        for _ in range(_TRIES):
            found = await _ask(scoring, wanted, cursor, limit=_PAGE_OF_FILE)
            if isinstance(found, Accounts):
                break
    # The answer has begun: only the file itself can still say that it is cut off.
    yield spreadsheet.lines([[f"INCOMPLETE: {found.text} after {written} accounts"]])


def _rows(accounts: Iterable[Listed]) -> Iterator[tuple[spreadsheet.Cell, ...]]:
    for one in accounts:
        value = one.value_at_risk
        yield (
            one.account_id,
            one.name,
            one.owner,
            one.segment,
            one.plan,
            one.region,
            one.reseller,
            words.LIFE_STAGES.get(one.stage or "", one.stage),
            one.state,
            one.band.value if one.band else None,
            one.risk,
            value.amount if value else None,
            value.currency if value else None,
            value.basis if value else None,
            one.mrr,
            one.currency,
            one.renews,
            one.reasons[0].text if one.reasons else None,
            one.as_of,
        )
