"""Who looks at a page, and what they may do there: stated at each route, refused as a 403 page.

A route that states nothing more may be read by everybody who is signed in; what is sent to it needs
the right to take notes, so that a viewer changes nothing anywhere.
"""

from contextvars import ContextVar
from typing import Any, Final

from fastapi import Depends, Request

from services.notifier.domain.access import Right, Viewer
from shared.errors import PerennialError

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PUBLIC: Final = ("/sign-in", "/sign-out", "/welcome/", "/static/")
"""What is there for who is not signed in (yet): these paths, and those below them."""

current: ContextVar[Viewer | None] = ContextVar("viewer", default=None)
"""Of the request under way, for the head of each page; decisions take it from the request."""


class Forbidden(PerennialError):
    """The viewer's role has no right to this."""

    def __init__(self, right: Right) -> None:
        super().__init__(right.value)
        self.right = right


def is_public(path: str) -> bool:
    return any(path == one.rstrip("/") or path.startswith(f"{one.rstrip('/')}/") for one in PUBLIC)


def viewer_of(request: Request) -> Viewer:
    """Who asks; the guard has seen to it that there is somebody."""
    found = getattr(request.state, "viewer", None)
    if not isinstance(found, Viewer):
        raise Forbidden(Right.READ)
    return found


def require(request: Request, right: Right) -> Viewer:
    """Who asks, who has the right; raises Forbidden."""
    viewer = viewer_of(request)
    if not viewer.may(right):
        raise Forbidden(right)
    return viewer


def needs(right: Right) -> Any:
    """For `dependencies` of a route: asked before what is sent to it is looked at."""

    async def check(request: Request) -> None:
        require(request, right)

    return Depends(check)


async def by_default(request: Request) -> None:
    """What every route needs that is not public."""
    # As the guard and the routes have it; `url` is put together with what the caller says of hosts.
    if not is_public(request.scope["path"]):
        require(request, Right.READ if request.method in SAFE else Right.NOTE)
