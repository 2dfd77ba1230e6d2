"""The read API: lists of accounts, one account with its reasons, use, models, rules.

Every request needs a key with scope `accounts:read`. What is answered is assembled in `views.py`.
"""

from datetime import UTC, datetime, time
from typing import Final

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from starlette.exceptions import HTTPException as StarletteHTTPException

from services.scoring import model_store, placing_figures, queries, storm, views
from services.scoring.api_accounts import add_accounts
from services.scoring.api_goals import add_goals
from services.scoring.api_insights import add_insights
from services.scoring.api_journey import add_journey
from services.scoring.api_portfolio import add_portfolio
from services.scoring.api_rules import add_rules
from services.scoring.api_sources import (
    MOST_ROWS,
    Account,
    From,
    Limit,
    Sources,
    To,
    answer,
    refused,
)
from services.scoring.domain.features import FEATURES
from services.scoring.domain.model import ModelRejected, load
from services.scoring.domain.rules import Rules
from services.scoring.explanations import Explanations, last_complete_day
from services.scoring.openapi import answers
from services.scoring.register import Register
from shared.clock import Clock
from shared.credentials import KeyRing, Refusal, Scope, bearer
from shared.http_headers import OF_AN_API, WithHeaders

_MEANS: Final = {feature.name: feature.definition for feature in FEATURES}

_BEARER = HTTPBearer(auto_error=False, description="A key with scope accounts:read.")


def api(
    *, engine: AsyncEngine, keys: KeyRing, clock: Clock, rules: Rules, register: Register
) -> FastAPI:
    """The application; `rules` are those in force."""
    sources = Sources(
        engine=engine, clock=clock, rules=rules, explanations=Explanations(), register=register
    )

    async def authorised(request: Request) -> None:
        key = keys.check(bearer(request.headers.get("authorization")), now=clock())
        if key is Refusal.UNREAD:
            raise refused(503, "log_unavailable", "the keys are not read yet")
        if isinstance(key, Refusal):
            raise refused(401, "invalid_key", "the key is missing, unknown, expired or revoked")
        if Scope.ACCOUNTS_READ not in key.scopes:
            raise refused(403, "scope_missing", f"the key lacks the scope {Scope.ACCOUNTS_READ}")

    app = FastAPI(
        title="Perennial scoring",
        description="Accounts, their risk and the reasons. Bearer key with scope accounts:read.",
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(_BEARER), Depends(authorised)],
    )
    app.add_middleware(WithHeaders, headers=OF_AN_API)
    add_accounts(app, sources)
    # Before the account itself: an id may hold slashes.
    add_journey(app, sources)
    add_goals(app, sources)
    _add_account(app, sources)
    _add_models(app, sources)
    _add_state(app, sources)
    add_portfolio(app, sources)
    add_insights(app, sources)
    add_rules(app, sources)
    app.add_exception_handler(StarletteHTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    return app


def _add_account(app: FastAPI, sources: Sources) -> None:
    # Before the account itself: an id may hold slashes.
    @app.get("/v1/accounts/{account:path}/daily", responses=answers("daily"), tags=["accounts"])
    async def read_days(account: Account, first: From = None, last: To = None) -> Response:
        """The account's active days, the last year by default; days without use are absent."""
        start, end = sources.span(first, last)
        rows = await sources.read(
            lambda connection: queries.read_days(connection, account, start, end)
        )
        return answer({"days": [views.day(row) for row in rows]})

    @app.get("/v1/accounts/{account:path}/history", responses=answers("history"), tags=["accounts"])
    async def read_history(
        account: Account, first: From = None, last: To = None, limit: Limit = MOST_ROWS
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
        return answer({"history": [views.past(row) for row in rows]})

    @app.get("/v1/accounts/{account:path}/people", responses=answers("people"), tags=["accounts"])
    async def read_people(account: Account, limit: Limit = 100) -> Response:
        """The account's users by opaque codes, who came last first; of the days that are kept."""
        as_of = last_complete_day(sources.clock())
        found = await sources.read(
            lambda connection: queries.read_people(connection, account, as_of)
        )
        shown = [views.person(one) for one in found[:limit]]
        return answer({"people": shown, "total": len(found), "as_of": as_of})

    @app.get("/v1/accounts/{account:path}", responses=answers("account", 404), tags=["accounts"])
    async def read_account(account: Account) -> Response:
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
            raise refused(404, "unknown_account", "no event and no record names this account")
        return answer(found)


def _add_models(app: FastAPI, sources: Sources) -> None:
    @app.get("/v1/models", responses=answers("models"), tags=["models"])
    async def list_models() -> Response:
        """The models that are stored, the newest first, and which state each is in and why."""
        found = await sources.read(model_store.read_all)
        return answer({"models": [views.model(one) for one in found]})

    @app.get("/v1/models/{version}", responses=answers("model", 404, 409), tags=["models"])
    async def read_model(version: str) -> Response:
        """One model: what it was fitted on, what it weighs, how good it was and is."""

        async def card(connection: AsyncConnection) -> views.View:
            stored = await model_store.read_one(connection, version)
            health = await queries.read_health(connection, version)
            return views.model_card(stored, load(stored.document), health, _MEANS)

        try:
            return answer(await sources.read(card))
        except model_store.NoSuchModel as error:
            raise refused(404, "unknown_model", str(error)) from error
        except ModelRejected as error:
            raise refused(409, "model_refused", str(error)) from error


def _add_state(app: FastAPI, sources: Sources) -> None:
    @app.get("/v1/rules", responses=answers("rules"), tags=["state"])
    async def read_rules() -> Response:
        """The numbers of bands, flags and guards in force, and the digest that names them."""
        return answer(views.rules(sources.rules))

    @app.get("/v1/status", responses=answers("status"), tags=["state"])
    async def status() -> Response:
        """How much has been taken in, what waits to be scored, what is stale, what is held.

        `staleness`: sources that send too little; `mass_flags`: flags by reason that the storm
        guard holds until an admin releases them.
        """

        async def look(connection: AsyncConnection) -> views.View:
            row = await queries.read_status(connection)
            return views.status(row, await storm.count_held(connection))

        return answer(await sources.read(look))

    @app.get("/v1/sources/placing", responses=answers("placing"), tags=["state"])
    async def read_placing() -> Response:
        """What became of events that name no account, by source, over 24 hours and 7 days.

        Hours count as a whole. `placed` is by how the account was found, `began_to_wait` how many
        had none at first; `late` and `full` found none in time, or were the oldest of too many:
        both are in quarantine. `trouble`: `mostly_lost` where at least half of a week's (20 or
        more) have no account after an hour, `mostly_guessed` where as many have one that no
        `group` call states; none where the last 24 hours are well.
        """
        now = sources.clock()
        found = await sources.read(lambda connection: placing_figures.read_sources(connection, now))
        return answer({"as_of": now, "sources": [views.source_placing(one) for one in found]})


async def _answer_http_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, StarletteHTTPException):
        raise error
    detail = error.detail
    content = detail if isinstance(detail, dict) else {"code": "http_error", "message": str(detail)}
    told = answer(content, error.status_code)
    told.headers.update(error.headers or {})
    return told


async def _answer_invalid(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return answer({"code": "invalid_request", "message": "; ".join(problems)}, 422)
