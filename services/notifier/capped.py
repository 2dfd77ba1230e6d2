"""Answers of other services, read up to a limit: who is asked may be wrong, or not who it was."""

from typing import Any

import httpx


class AnswerTooLong(httpx.RequestError):
    """The other side says more than it has any reason to."""


async def asked(
    client: httpx.AsyncClient, method: str, url: str, *, most_bytes: int, **rest: Any
) -> httpx.Response:
    """The whole answer, inflated; raises AnswerTooLong as soon as it is longer.

    The caller bounds the time: the client's own limit begins anew with each piece.
    """
    async with client.stream(method, url, **rest) as answer:
        body = bytearray()
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > most_bytes:
                raise AnswerTooLong("the answer is too long", request=answer.request)
    return httpx.Response(answer.status_code, content=bytes(body), request=answer.request)
