"""The read API: accounts by risk, one account with its reasons, use, models, rules.

Every request needs a key with scope `accounts:read`. Cursors are opaque, pages by keyset: page n
costs what page 1 costs. What is answered is assembled in `views.py`.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final, TypeVar

import asyncpg
import msgspec
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from starlette.exceptions import HTTPException as StarletteHTTPException

from services.scoring import model_store, queries, storm, views
from services.scoring.domain.features import FEATURES
from services.scoring.domain.model import ModelRejected, load
from services.scoring.domain.rules import Rules
from services.scoring.explanations import Explanations, last_complete_day
from services.scoring.openapi import answers
from services.scoring.queries import After, Sort
from shared import database
from shared.clock import Clock
from shared.credentials import KeyRing, Refusal, Scope, bearer
from shared.messages import Band

_DEFAULT_DAYS: Final = 365
_MOST_DAYS: Final = 30 * 366
_MOST_ROWS: Final = 1_000
_RETRY_SECONDS: Final = 2
_MEANS: Final = {feature.name: feature.definition for feature in FEATURES}

_ENCODER = msgspec.json.Encoder(decimal_format="string")
_BEARER = HTTPBearer(auto_error=False, description="A key with scope accounts:read.")
T = TypeVar("T")

From = Annotated[date | None, Query(alias="from", description="first day, UTC")]
To = Annotated[date | None, Query(alias="to", description="last day, UTC; default: today")]
Limit = Annotated[int, Query(ge=1, le=_MOST_ROWS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where answers come from."""

    engine: AsyncEngine
    clock: Clock
    rules: Rules
    explanations: Explanations

    async def read(self, query: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        try:
            async with self.engine.begin() as connection:
                # The driver's own queries run in the transaction only once it has begun.
                await connection.exec_driver_sql("SET TRANSACTION READ ONLY")
                return await query(connection)
        except Exception as error:
            if not database.is_away(error) and not database.is_transient(error):
                raise
            raise _refused(503, "database_unavailable", "PostgreSQL does not answer") from error

    def span(self, first: date | None, last: date | None) -> tuple[date, date]:
        """The days asked for; the last year by default."""
        end = last or self.clock().astimezone(UTC).date()
        start = first or end - timedelta(days=_DEFAULT_DAYS - 1)
        if start > end or (end - start).days >= _MOST_DAYS:
            raise _refused(422, "invalid_range", "`from` must not be after `to`, 30 years at most")
        return start, end


def api(*, engine: AsyncEngine, keys: KeyRing, clock: Clock, rules: Rules) -> FastAPI:
    """The application; `rules` are those in force."""
    sources = Sources(engine=engine, clock=clock, rules=rules, explanations=Explanations())

    async def authorised(request: Request) -> None:
        key = keys.check(bearer(request.headers.get("authorization")), now=clock())
        if key is Refusal.UNREAD:
            raise _refused(503, "log_unavailable", "the keys are not read yet")
        if isinstance(key, Refusal):
            raise _refused(401, "invalid_key", "the key is missing, unknown, expired or revoked")
        if Scope.ACCOUNTS_READ not in key.scopes:
            raise _refused(403, "scope_missing", f"the key lacks the scope {Scope.ACCOUNTS_READ}")

    app = FastAPI(
        title="Perennial scoring",
        description="Accounts, their risk and the reasons. Bearer key with scope accounts:read.",
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(_BEARER), Depends(authorised)],
    )
    _add_accounts(app, sources)
    _add_account(app, sources)
    _add_models(app, sources)
    _add_state(app, sources)
    app.add_exception_handler(StarletteHTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    return app


def _add_accounts(app: FastAPI, sources: Sources) -> None:
    @app.get("/v1/accounts", responses=answers("list"), tags=["accounts"])
    async def list_accounts(
        band: Band | None = None,
        sort: Sort = Sort.RISK,
        limit: Limit = 50,
        cursor: Annotated[str | None, Query(max_length=1000)] = None,
    ) -> Response:
        """Accounts by risk, by value at risk, or by id, one page at a time.

        `next_cursor` of one page is `cursor` of the next; null on the last one.
        """
        after = _read_cursor(cursor)

        async def page(connection: AsyncConnection) -> tuple[list[views.View], str | None]:
            rows = await queries.list_accounts(
                connection, band=band, sort=sort, after=after, limit=limit
            )
            shown = rows[:limit]
            scores = [score for row in shown if (score := views.stored_score(row))]
            why = await sources.explanations.read(connection, scores)
            more = _cursor(shown[-1], sort) if len(rows) > limit else None
            return [views.listed(row, why.get(row["account_id"])) for row in shown], more

        accounts, more = await sources.read(page)
        return _json({"accounts": accounts, "next_cursor": more})


def _add_account(app: FastAPI, sources: Sources) -> None:
    # Before the account itself: an id may hold slashes.
    @app.get("/v1/accounts/{account:path}/daily", responses=answers("daily"), tags=["accounts"])
    async def read_days(account: str, first: From = None, last: To = None) -> Response:
        """The account's active days, the last year by default; days without use are absent."""
        start, end = sources.span(first, last)
        rows = await sources.read(
            lambda connection: queries.read_days(connection, account, start, end)
        )
        return _json({"days": [views.day(row) for row in rows]})

    @app.get("/v1/accounts/{account:path}/history", responses=answers("history"), tags=["accounts"])
    async def read_history(
        account: str, first: From = None, last: To = None, limit: Limit = _MOST_ROWS
    ) -> Response:
        """The account's risk as it was known then, the last year by default.

        One row each week and one at each change of the band; of more than `limit` the newest.
        """
        start, end = sources.span(first, last)
        since = datetime.combine(start, time.min, UTC)
        until = datetime.combine(end, time.max, UTC)
        rows = await sources.read(
            lambda connection: queries.read_history(connection, account, since, until, limit)
        )
        return _json({"history": [views.past(row) for row in rows]})

    @app.get("/v1/accounts/{account:path}/people", responses=answers("people"), tags=["accounts"])
    async def read_people(account: str, limit: Limit = 100) -> Response:
        """The account's users by opaque codes, who came last first; of the days that are kept."""
        as_of = last_complete_day(sources.clock())
        found = await sources.read(
            lambda connection: queries.read_people(connection, account, as_of)
        )
        shown = [views.person(one) for one in found[:limit]]
        return _json({"people": shown, "total": len(found), "as_of": as_of})

    @app.get("/v1/accounts/{account:path}", responses=answers("account", 404), tags=["accounts"])
    async def read_account(account: str) -> Response:
        """All that is known of one account: directory, indicators, risk, reasons, flags.

        `reasons` are the parts of the risk worth showing; `log_odds` are all of them: the base
        and the families sum to ln(risk / (1 - risk)). `waiting` are rules whose condition holds,
        but not for long enough yet.
        """

        async def whole(connection: AsyncConnection) -> views.View | None:
            row = await queries.read_account(connection, account)
            if row is None:
                return None
            score = views.stored_score(row)
            why = await sources.explanations.read(connection, [score] if score else [])
            flags = await queries.read_flags(connection, account)
            waiting = await queries.read_waiting(connection, account)
            return views.account(row, why.get(account), flags, waiting)

        found = await sources.read(whole)
        if found is None:
            raise _refused(404, "unknown_account", "no event and no record names this account")
        return _json(found)


def _add_models(app: FastAPI, sources: Sources) -> None:
    @app.get("/v1/models", responses=answers("models"), tags=["models"])
    async def list_models() -> Response:
        """The models that are stored, the newest first, and which state each is in and why."""
        found = await sources.read(model_store.read_all)
        return _json({"models": [views.model(one) for one in found]})

    @app.get("/v1/models/{version}", responses=answers("model", 404, 409), tags=["models"])
    async def read_model(version: str) -> Response:
        """One model: what it was fitted on, what it weighs, how good it was and is."""

        async def card(connection: AsyncConnection) -> views.View:
            stored = await model_store.read_one(connection, version)
            health = await queries.read_health(connection, version)
            return views.model_card(stored, load(stored.document), health, _MEANS)

        try:
            return _json(await sources.read(card))
        except model_store.NoSuchModel as error:
            raise _refused(404, "unknown_model", str(error)) from error
        except ModelRejected as error:
            raise _refused(409, "model_refused", str(error)) from error


def _add_state(app: FastAPI, sources: Sources) -> None:
    @app.get("/v1/rules", responses=answers("rules"), tags=["state"])
    async def read_rules() -> Response:
        """The numbers of bands, flags and guards in force, and the digest that names them."""
        return _json(views.rules(sources.rules))

    @app.get("/v1/status", responses=answers("status"), tags=["state"])
    async def status() -> Response:
        """How much has been taken in, what waits to be scored, what is stale, what is held.

        `staleness`: sources that send too little; `mass_flags`: flags by reason that the storm
        guard holds until an admin releases them.
        """

        async def look(connection: AsyncConnection) -> views.View:
            row = await queries.read_status(connection)
            return views.status(row, await storm.count_held(connection))

        return _json(await sources.read(look))


def _cursor(row: asyncpg.Record, sort: Sort) -> str:
    at_risk = row["value_at_risk"]
    value = {
        Sort.RISK: repr(row["sort_risk"]),
        Sort.VALUE_AT_RISK: None if at_risk is None else str(at_risk),
        Sort.ACCOUNT: None,
    }[sort]
    content = msgspec.json.encode([value, row["account_id"]])
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _read_cursor(cursor: str | None) -> After | None:
    if cursor is None:
        return None
    try:
        content = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        value, account = msgspec.json.decode(content, type=tuple[str | None, str])
        if value is not None:
            float(value)
    except (binascii.Error, ValueError) as error:
        raise _refused(422, "invalid_cursor", "the cursor is none that this API gave") from error
    return After(value=value, account=account)


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(_ENCODER.encode(content), status, media_type="application/json")


def _refused(status: int, code: str, message: str) -> HTTPException:
    headers = {"Retry-After": str(_RETRY_SECONDS)} if status == 503 else None
    return HTTPException(status, {"code": code, "message": message}, headers)


async def _answer_http_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, StarletteHTTPException):
        raise error
    detail = error.detail
    content = detail if isinstance(detail, dict) else {"code": "http_error", "message": str(detail)}
    answer = _json(content, error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def _answer_invalid(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return _json({"code": "invalid_request", "message": "; ".join(problems)}, 422)
