"""An answer of somebody else is read up to a limit, counted as it is inflated."""

import gzip

import httpx
import pytest

from services.notifier.capped import AnswerTooLong, asked


async def told(content: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=content, headers=headers))
    async with httpx.AsyncClient(transport=transport) as client:
        return await asked(client, "GET", "http://other/", most_bytes=1_000)


async def test_what_is_short_enough_is_whole() -> None:
    assert (await told(b"x" * 1_000)).content == b"x" * 1_000


async def test_what_is_longer_is_refused() -> None:
    with pytest.raises(AnswerTooLong):
        await told(b"x" * 1_001)


async def test_what_grows_when_it_is_inflated_is_refused() -> None:
    small = gzip.compress(b"x" * 1_000_000)
    assert len(small) < 2_000
    with pytest.raises(AnswerTooLong):
        await told(small, {"Content-Encoding": "gzip"})
