"""Errors as the API answers them: always `{"code", "message"}`."""

from typing import Any, Final

import msgspec
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException as StarletteHTTPException

from shared import database
from shared import logging as logs

_RETRY_SECONDS: Final = 2
_CODES: Final = {404: "unknown_path", 405: "method_not_allowed"}
_ENCODER = msgspec.json.Encoder(decimal_format="string")

log = logs.get(__name__)


def answer(content: dict[str, Any], status: int = 200) -> Response:
    return Response(_ENCODER.encode(content), status, media_type="application/json")


def refused(status: int, code: str, message: str, **more: object) -> HTTPException:
    """`more`: what the caller needs besides, as the intervention as it is now."""
    headers = {"Retry-After": str(_RETRY_SECONDS)} if status == 503 else None
    return HTTPException(status, {"code": code, "message": message, **more}, headers)


def add_errors(app: FastAPI) -> None:
    async def away(_: Request, error: Exception) -> Response:
        if not database.is_away(error) and not database.is_transient(error):
            raise error
        log.warning("api.away", cause=type(error).__name__)
        found = answer({"code": "database_unavailable", "message": "try again in a minute"}, 503)
        found.headers["Retry-After"] = str(_RETRY_SECONDS)
        return found

    async def failed(_: Request, __: Exception) -> Response:
        return answer({"code": "fault", "message": "a fault of ours; it is in the log"}, 500)

    for kind in (DBAPIError, OSError, TimeoutError):
        app.add_exception_handler(kind, away)
    app.add_exception_handler(Exception, failed)
    app.add_exception_handler(StarletteHTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)


async def _http(_: Request, error: Exception) -> Response:
    if not isinstance(error, StarletteHTTPException):
        raise error
    # `refused` says more than starlette's text.
    detail: object = error.detail
    code = _CODES.get(error.status_code, "http_error")
    said = detail if isinstance(detail, dict) else {"code": code, "message": str(detail)}
    found = answer(said, error.status_code)
    found.headers.update(error.headers or {})
    return found


async def _invalid(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return answer({"code": "invalid_request", "message": "; ".join(problems)}, 422)
