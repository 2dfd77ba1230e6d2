"""The read API: accounts by risk, one account with its reasons, its days of use.

Every request needs a key with scope `accounts:read`. Cursors are opaque, pages by keyset: page n
costs what page 1 costs.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from datetime import UTC, date, timedelta
from typing import Annotated, Any, Final, TypeVar

import asyncpg
import msgspec
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from starlette.exceptions import HTTPException as StarletteHTTPException

from services.scoring import queries
from services.scoring.queries import After, Sort
from shared import database
from shared.clock import Clock
from shared.credentials import KeyRing, Refusal, Scope, bearer
from shared.messages import Band

_DEFAULT_DAYS: Final = 365
_MOST_DAYS: Final = 30 * 366
_RETRY_SECONDS: Final = 2

_ENCODER = msgspec.json.Encoder(decimal_format="string")
T = TypeVar("T")


def api(  # noqa: C901 - the routes stand together
    *, engine: AsyncEngine, keys: KeyRing, clock: Clock
) -> FastAPI:
    """The application; what it answers is assembled from stored JSON, not from models."""
    app = FastAPI(
        title="Perennial scoring",
        description="Accounts, their risk and the reasons. Bearer key with scope accounts:read.",
        docs_url=None,
        redoc_url=None,
    )

    async def authorised(request: Request) -> None:
        key = keys.check(bearer(request.headers.get("authorization")), now=clock())
        if key is Refusal.UNREAD:
            raise _refused(503, "log_unavailable", "the keys are not read yet")
        if isinstance(key, Refusal):
            raise _refused(401, "invalid_key", "the key is missing, unknown, expired or revoked")
        if Scope.ACCOUNTS_READ not in key.scopes:
            raise _refused(403, "scope_missing", f"the key lacks the scope {Scope.ACCOUNTS_READ}")

    async def reading(query: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        try:
            async with engine.begin() as connection:
                # The driver's own queries run in the transaction only once it has begun.
                await connection.exec_driver_sql("SET TRANSACTION READ ONLY")
                return await query(connection)
        except Exception as error:
            if not database.is_away(error) and not database.is_transient(error):
                raise
            raise _refused(503, "database_unavailable", "PostgreSQL does not answer") from error

    guarded = [Depends(authorised)]

    @app.get("/v1/accounts", dependencies=guarded)
    async def list_accounts(
        band: Band | None = None,
        sort: Sort = Sort.RISK,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        cursor: Annotated[str | None, Query(max_length=1000)] = None,
    ) -> Response:
        """Accounts by risk, by value at risk, or by id, one page at a time."""
        after = _read_cursor(cursor)
        rows = await reading(
            lambda connection: queries.list_accounts(
                connection, band=band, sort=sort, after=after, limit=limit
            )
        )
        page = [_listed(row) for row in rows[:limit]]
        more = _cursor(rows[limit - 1], sort) if len(rows) > limit else None
        return _json({"accounts": page, "next_cursor": more})

    @app.get("/v1/accounts/{account:path}/daily", dependencies=guarded)
    async def read_days(
        account: str,
        first: Annotated[date | None, Query(alias="from")] = None,
        last: Annotated[date | None, Query(alias="to")] = None,
    ) -> Response:
        """The account's active days; days without use are absent."""
        end = last or clock().astimezone(UTC).date()
        start = first or end - timedelta(days=_DEFAULT_DAYS - 1)
        if start > end or (end - start).days >= _MOST_DAYS:
            raise _refused(422, "invalid_range", "`from` must not be after `to`, 30 years at most")
        rows = await reading(lambda connection: queries.read_days(connection, account, start, end))
        return _json({"days": [_day(row) for row in rows]})

    @app.get("/v1/accounts/{account:path}", dependencies=guarded)
    async def read_account(account: str) -> Response:
        """All that is known of one account: directory, indicators, risk, reasons, flags."""
        row = await reading(lambda connection: queries.read_account(connection, account))
        if row is None:
            raise _refused(404, "unknown_account", "no event and no record names this account")
        flags = await reading(lambda connection: queries.read_flags(connection, account))
        return _json(_account(row, flags))

    @app.get("/v1/status", dependencies=guarded)
    async def status() -> Response:
        """How much has been taken in, and what waits to be scored."""
        row = await reading(queries.read_status)
        return _json(
            {
                "events_taken_in": row["events"],
                "accounts": row["accounts"],
                "dirty": row["dirty"],
                "backfill_settling": row["backfill_settling"],
                "bands": msgspec.Raw(row["bands"].encode()),
                "flags_open": row["flags_open"],
                "outbox": row["outbox"],
            }
        )

    app.add_exception_handler(StarletteHTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    return app


def _account(row: asyncpg.Record, flags: list[asyncpg.Record]) -> dict[str, Any]:
    return {
        "account_id": row["account_id"],
        "fields": _raw(row["fields"], "{}"),
        "state": row["state"],
        "short_history": row["short_history"],
        "risk": row["risk"],
        "band": row["band"],
        "value_at_risk": _value(row),
        "model": {
            "version": row["model_version"],
            "prior": (row["model_version"] or "").startswith("prior"),
        },
        "reasons": _raw(row["reasons"], "[]"),
        "indicators": _raw(row["indicators"], "{}"),
        "flags": [dict(flag) for flag in flags],
        "as_of": row["as_of"],
    }


def _listed(row: asyncpg.Record) -> dict[str, Any]:
    fields = msgspec.json.decode(row["fields"] or "{}")
    return {
        "account_id": row["account_id"],
        "name": fields.get("name"),
        "owner": fields.get("owner"),
        "segment": fields.get("segment"),
        "plan": fields.get("plan"),
        "renewal_date": fields.get("contract_end"),
        "state": row["state"],
        "short_history": row["short_history"],
        "risk": row["risk"],
        "band": row["band"],
        "value_at_risk": _value(row),
        "flags": row["flags"],
        "reasons": _raw(row["reasons"], "[]"),
        "as_of": row["as_of"],
    }


def _value(row: asyncpg.Record) -> dict[str, str] | None:
    if row["value_at_risk"] is None:
        return None
    return {
        "amount": str(row["value_at_risk"]),
        "currency": row["currency"],
        "basis": row["value_basis"],
    }


def _day(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "day": row["day"],
        "events": row["events"],
        "active_users": row["active_users"],
        "session_seconds": round(row["milliseconds"] / 1000),
    }


def _cursor(row: asyncpg.Record, sort: Sort) -> str:
    value = {
        Sort.RISK: repr(row["sort_risk"]),
        Sort.VALUE_AT_RISK: str(row["sort_value"]),
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


def _raw(document: str | None, default: str) -> msgspec.Raw:
    return msgspec.Raw((document or default).encode())


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
