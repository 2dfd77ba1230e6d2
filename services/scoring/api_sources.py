"""What all parts of the read API share: where answers come from, parameters, refusals."""

from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from fastapi import Depends, HTTPException, Path, Query, Response
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring.domain.cuts import Cut
from services.scoring.domain.ledger import Ledger
from services.scoring.domain.rules import Rules
from services.scoring.explanations import Explanations
from services.scoring.recent import Recent
from services.scoring.register import Register
from shared import database
from shared.clock import Clock

_DEFAULT_DAYS: Final = 365
_MOST_DAYS: Final = 30 * 366
MOST_ROWS: Final = 1_000
_RETRY_SECONDS: Final = 2
_ENCODER = msgspec.json.Encoder(decimal_format="string")
T = TypeVar("T")

Account = Annotated[str, Path(pattern=r"^[^\x00]*$")]
"""PostgreSQL's text holds no NUL, so no account's id does."""
From = Annotated[date | None, Query(alias="from", description="first day, UTC")]
To = Annotated[date | None, Query(alias="to", description="last day, UTC; default: today")]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS)]
_Text = Annotated[str | None, Query(max_length=500, description="empty: not known")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where answers come from."""

    engine: AsyncEngine
    clock: Clock
    rules: Rules
    explanations: Explanations
    register: Register
    recent: Recent = field(default_factory=Recent)

    async def read(self, query: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async def asked() -> T:
            async with self.engine.begin() as connection:
                # The driver's own queries run in the transaction only once it has begun.
                await connection.exec_driver_sql("SET TRANSACTION READ ONLY")
                return await query(connection)

        return await _unless_away(asked)

    async def ledger(self) -> Ledger:
        """All accounts, as they were a few seconds ago."""
        return await _unless_away(self.register.current)

    async def tell(
        self, ledger: Ledger, question: Hashable, compute: Callable[[], dict[str, Any]]
    ) -> Response:
        """What follows of the ledger for the question, as JSON; computed in a thread, and kept
        until the register has read again.
        """
        content = await self.recent.answer(ledger, question, lambda: _ENCODER.encode(compute()))
        return Response(content, media_type="application/json")

    def span(self, first: date | None, last: date | None) -> tuple[date, date]:
        """The days asked for; the last year by default."""
        end = last or self.clock().astimezone(UTC).date()
        start = first or end - timedelta(days=_DEFAULT_DAYS - 1)
        if start > end or (end - start).days >= _MOST_DAYS:
            raise refused(422, "invalid_range", "`from` must not be after `to`, 30 years at most")
        return start, end


def _wanted(
    owner: _Text = None,
    segment: _Text = None,
    plan: _Text = None,
    region: _Text = None,
    reseller: _Text = None,
    sales: Literal["", "direct", "indirect"] | None = None,
    stage: Literal["", "trial", "land", "adopt", "expand", "renew", "lost"] | None = None,
) -> dict[Cut, str]:
    given = {
        Cut.OWNER: owner,
        Cut.SEGMENT: segment,
        Cut.PLAN: plan,
        Cut.REGION: region,
        Cut.RESELLER: reseller,
        Cut.SALES: sales,
        Cut.STAGE: stage,
    }
    return {cut: value for cut, value in given.items() if value is not None}


Wanted = Annotated[dict[Cut, str], Depends(_wanted)]
"""The filters of a request, as `cuts.matching` takes them."""


def filters_of(wanted: Mapping[Cut, str]) -> Hashable:
    """The filters as part of a question."""
    return tuple(sorted(wanted.items()))


async def _unless_away(asked: Callable[[], Awaitable[T]]) -> T:
    try:
        return await asked()
    except Exception as error:
        if not database.is_away(error) and not database.is_transient(error):
            raise
        raise refused(503, "database_unavailable", "PostgreSQL does not answer") from error


def answer(content: dict[str, Any], status: int = 200) -> Response:
    """As JSON; amounts as strings."""
    return Response(_ENCODER.encode(content), status, media_type="application/json")


def refused(status: int, code: str, message: str) -> HTTPException:
    headers = {"Retry-After": str(_RETRY_SECONDS)} if status == 503 else None
    return HTTPException(status, {"code": code, "message": message}, headers)


def moment(micros: int) -> datetime:
    """Epoch microseconds, as the ledger counts, for an answer."""
    return _EPOCH + timedelta(microseconds=micros)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
