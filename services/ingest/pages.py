"""The pages around the API: its description, and the error body for whatever is not served."""

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from services.ingest.openapi import document
from services.ingest.replies import RefusalCode, error_reply, request_id_of
from shared.http_headers import OF_AN_API, WithHeaders


def create_pages(*, with_docs: bool) -> FastAPI:
    """`/openapi.json`, `/docs` where it is wanted; everything else is answered with 404 or 405."""
    pages = FastAPI(
        title=document.TITLE,
        version=document.VERSION,
        description=document.DESCRIPTION,
        docs_url="/docs" if with_docs else None,
        redoc_url=None,
        redirect_slashes=False,
    )
    if not with_docs:
        pages.add_middleware(WithHeaders, headers=OF_AN_API)
    # The write routes are bare ASGI, so their description is written by hand, and tests execute it.
    pages.openapi = document.describe  # type: ignore[method-assign]

    @pages.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> Response:
        code, message = RefusalCode.NOT_FOUND, "nothing is served at this path"
        if error.status_code == 405:
            code, message = RefusalCode.METHOD_NOT_ALLOWED, "this method is not served here"
        header = request.headers.get("x-request-id")
        request_id = request_id_of(None if header is None else header.encode("latin-1"))
        reply = error_reply(code, message, request_id)
        return Response(
            reply.body,
            status_code=reply.status,
            media_type="application/json",
            headers={**(error.headers or {}), "x-request-id": request_id},
        )

    return pages
