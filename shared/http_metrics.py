"""Requests by the template of their path, counted around an ASGI application.

A template is bounded by the code; a path is not: whatever no route serves is one series.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.lifecycle import Frame
from shared.telemetry import HTTP_LOOP

_NO_ROUTE: Final = "none"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER: Final = "other"


class Measured:
    """An ASGI application around another; `routes` are those whose failures start at zero."""

    def __init__(
        self, app: ASGIApp, *, service: str, frame: Frame, routes: Iterable[BaseRoute] = ()
    ) -> None:
        self._app = app
        self._service = service
        self._frame = frame
        self._requests = frame.metrics.http_requests
        self._seconds = frame.metrics.http_request_seconds
        for path, method in _served(routes):
            self._requests.labels(service, path, method, "500")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            # Its answer was sent already, where there is one: the server only writes it down.
            self._frame.unhandled(self._service, HTTP_LOOP)
            status = status or 500
            raise
        finally:
            route = getattr(scope.get("route"), "path", _NO_ROUTE)
            method = scope["method"] if scope["method"] in _METHODS else _OTHER
            # Without a status the client has gone before its answer.
            self._requests.labels(self._service, route, method, str(status or "gone")).inc()
            self._seconds.labels(self._service, route).observe(time.monotonic() - started)


def routes_of(app: ASGIApp) -> Sequence[BaseRoute]:
    """The routes of an application that has any."""
    return app.routes if isinstance(app, Starlette) else ()


def _served(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str]]:
    for route in routes:
        if isinstance(route, Route):
            for method in sorted((route.methods or set()) & _METHODS):
                yield route.path, method
