"""A client that sends any bytes, in any rhythm, and reads what comes until the server closes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

READ_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RawReply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        decoded: dict[str, object] = json.loads(self.body)
        return decoded


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *parts: bytes, pause: float = 0.0) -> None:
        """Each part on its own; ends early, without an error, where the server has closed."""
        with contextlib.suppress(ConnectionError):
            for number, part in enumerate(parts):
                if number and pause:
                    await asyncio.sleep(pause)
                if self._reader.at_eof():
                    return
                self._writer.write(part)
                await self._writer.drain()

    async def reply(self) -> RawReply | None:
        """The next reply, or None where the connection ended; what only stalls is an error."""
        async with asyncio.timeout(READ_SECONDS):
            try:
                head = await self._reader.readuntil(b"\r\n\r\n")
                status, *lines = head.decode("latin-1").split("\r\n")[:-2]
                headers = dict(line.lower().split(": ", 1) for line in lines)
                body = await self._reader.readexactly(int(headers.get("content-length", "0")))
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
        return RawReply(status=int(status.split(" ")[1]), headers=headers, body=body)

    async def replies(self) -> list[RawReply]:
        """All until the server closes."""
        found: list[RawReply] = []
        while (reply := await self.reply()) is not None:
            found.append(reply)
        return found

    def close(self) -> None:
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[RawClient]:
    client = RawClient(*await asyncio.open_connection("127.0.0.1", port, limit=2**20))
    try:
        yield client
    finally:
        client.close()


async def exchange(port: int, *parts: bytes, pause: float = 0.0) -> list[RawReply]:
    """Send the parts on a connection of their own; all replies until the server closes it."""
    async with connected(port) as client:
        sending = asyncio.create_task(client.send(*parts, pause=pause))
        try:
            return await client.replies()
        finally:
            sending.cancel()
            await asyncio.wait({sending})


def request(
    method: str = "POST", target: str = "/", body: bytes | None = None, /, **headers: str
) -> bytes:
    """A request with its body's length; names in `headers` have `_` for `-`."""
    lines = [f"{method} {target} HTTP/1.1", "host: test"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
