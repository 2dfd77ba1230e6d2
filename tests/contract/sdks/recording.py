"""What an SDK sends, kept: to be sent to ingest later, in whatever order."""

import gzip
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from shared.lifecycle import serve

_OF_THE_CONNECTION = {"host", "connection", "transfer-encoding", "content-length", "keep-alive"}
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One request, byte for byte."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def items(self) -> Sequence[dict[str, Any]]:
        body = gzip.decompress(self.body) if self.body.startswith(_GZIP) else self.body
        found: Sequence[dict[str, Any]] = msgspec.json.decode(body)["batch"]
        return found


@dataclass(slots=True)
class Recorder:
    """The ASGI application that SDKs take for their service: it says yes to everything."""

    url: str = ""
    requests: list[Recorded] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        headers = {k: v for k, v in request.headers.items() if k not in _OF_THE_CONNECTION}
        self.requests.append(
            Recorded(path=request.url.path, headers=headers, body=await request.body())
        )
        await JSONResponse({"success": True})(scope, receive, send)

    def of_user(self, user: str) -> list[Recorded]:
        """Those that are about one user alone, in the order of their coming."""
        return [
            one for one in self.requests if {item.get("userId") for item in one.items} == {user}
        ]


@asynccontextmanager
async def recording() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    async with serve(recorder, host="127.0.0.1", port=0, name="recorder") as port:
        recorder.url = f"http://127.0.0.1:{port}"
        yield recorder
