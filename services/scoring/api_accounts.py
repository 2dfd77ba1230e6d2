"""Lists of accounts over HTTP: filtered, searched, sorted, page by page, and what there is of each.

Which accounts, and in what order, says the register; what is shown of the page's is as it is stored
now. Cursors are opaque, pages by keyset: page n costs what page 1 costs.
"""

import asyncio
import base64
import binascii
from typing import Annotated, Final, Literal

import msgspec
from fastapi import FastAPI, Query, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring import queries, views
from services.scoring.api_sources import (
    Limit,
    Sources,
    Wanted,
    answer,
    filters_of,
    moment,
    refused,
)
from services.scoring.domain import listing
from services.scoring.domain.indicators import State
from services.scoring.domain.ledger import Ledger
from services.scoring.domain.listing import FALLING, After, Asked, Names, Order, Sort, Value
from services.scoring.openapi import answers
from shared.messages import Band

_MOST_DAYS: Final = 3660


def add_accounts(app: FastAPI, sources: Sources) -> None:
    names = _Names()

    @app.get("/v1/accounts", responses=answers("list"), tags=["accounts"])
    async def list_accounts(
        wanted: Wanted,
        band: Band | None = None,
        state: State | None = None,
        q: Annotated[
            str, Query(max_length=200, description="part of a name or an id, in whatever case")
        ] = "",
        renews_within: Annotated[
            int | None, Query(ge=0, le=_MOST_DAYS, description="days from today")
        ] = None,
        sort: Sort = Sort.RISK,
        order: Annotated[
            Literal["asc", "desc"] | None,
            Query(description="default: risks and amounts fall, dates and names rise"),
        ] = None,
        limit: Limit = 50,
        cursor: Annotated[str | None, Query(max_length=2000)] = None,
    ) -> Response:
        """Accounts that match all that is asked, sorted, one page at a time.

        `next_cursor` of one page is `cursor` of the next; null on the last one. Who has no value to
        sort by comes last in both orders. `total` match in all. Which accounts are listed, and
        where, is as of `as_of`, some seconds ago at most. `renewal_date` of a monthly contract is
        the end of the running period; a lost account has none.
        """
        after = _read_cursor(cursor, sort)
        ledger = await sources.ledger()
        now = sources.clock()
        found = await asyncio.to_thread(
            listing.page,
            ledger,
            await names.of(ledger),
            Asked(wanted=wanted, band=band, state=state, text=q, renews_within_days=renews_within),
            order=Order(sort=sort, falling=(sort in FALLING) if order is None else order == "desc"),
            after=after,
            limit=limit,
            today=now.date().toordinal(),
        )
        accounts = [ledger.accounts[place] for place in found.accounts.tolist()]

        async def page(connection: AsyncConnection) -> list[views.View]:
            rows = await queries.read_listed(connection, accounts)
            scores = [score for row in rows if (score := views.stored_score(row))]
            why = await sources.explanations.read(connection, scores)
            return [views.listed(row, why.get(row["account_id"]), now.date()) for row in rows]

        return answer(
            {
                "accounts": await sources.read(page),
                "total": found.total,
                "as_of": moment(ledger.as_of),
                "next_cursor": found.next_after and _cursor(found.next_after),
            }
        )

    @app.get("/v1/facets", responses=answers("facets"), tags=["accounts"])
    async def count_facets(wanted: Wanted) -> Response:
        """How many accounts have each value, most first; null is "not known".

        Each is counted among the accounts that match the other filters: what one could choose. Of
        200 values the rest is left out; `more` says how many values that are.
        """
        ledger = await sources.ledger()

        def compute() -> views.View:
            found = listing.facets(ledger, wanted)
            return {
                name: [{"value": value, "accounts": count} for value, count in facet.values]
                for name, facet in found.items()
            } | {
                "more": {name: facet.more for name, facet in found.items()},
                "as_of": moment(ledger.as_of),
            }

        return await sources.tell(ledger, ("facets", filters_of(wanted)), compute)


class _Names:
    """The names of the ledger that was asked last: they change more seldom than the rest."""

    def __init__(self) -> None:
        self._made: tuple[tuple[str, ...], Names] | None = None
        self._making = asyncio.Lock()

    async def of(self, ledger: Ledger) -> Names:
        async with self._making:
            if self._made is None or self._made[0] is not ledger.titles:
                self._made = ledger.titles, await asyncio.to_thread(listing.names_of, ledger)
            return self._made[1]


def _cursor(after: After) -> str:
    content = msgspec.json.encode([after.value, after.account])
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _read_cursor(cursor: str | None, sort: Sort) -> After | None:
    if cursor is None:
        return None
    try:
        content = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        value, account = msgspec.json.decode(content, type=tuple[Value, str])
    except (binascii.Error, ValueError) as error:
        raise _invalid_cursor() from error
    if value is not None and isinstance(value, str) != (sort is Sort.NAME):
        raise _invalid_cursor()
    return After(value=value, account=account)


def _invalid_cursor() -> Exception:
    return refused(422, "invalid_cursor", "the cursor is none that this list gave")
