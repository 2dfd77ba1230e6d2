"""A TCP proxy in front of a broker, to break what the network breaks and a signal cannot.

The broker's `advertised.listeners` must name the proxy's port, else clients go around it.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto

_CHUNK = 256 * 1024


class Network(Enum):
    """What the proxy does with connections; a broken one stays as it was broken."""

    WHOLE = auto()
    BLACKHOLE = auto()
    """Both sides' bytes vanish without a sign; new connections open, and stay as silent."""
    RESET = auto()
    """Every connection is reset (RST), a new one as soon as it opens."""
    HALF_CLOSED = auto()
    """Clients see the end of the stream (FIN); what they still send vanishes."""


class Proxy:
    """Connections to one loopback port, led to another one."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._network = Network.WHOLE
        self._links: set[_Link] = set()
        self.latency_seconds = 0.0
        """Held back in each direction; later bytes wait behind."""

    def switch(self, network: Network) -> None:
        """Break what is open and whatever opens from now on; WHOLE mends only the latter."""
        self._network = network
        for link in self._links:
            link.suffer(network)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, writer)
        self._links.add(link)
        try:
            link.suffer(self._network)
            await link.run(reader, self._target)
        finally:
            self._links.discard(link)

    def close(self) -> None:
        for link in self._links:
            link.abort()


class _Link:
    """One client's connection and the one that leads on to the broker."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = client
        self._broker: asyncio.StreamWriter | None = None
        self._swallows = False

    def suffer(self, network: Network) -> None:
        match network:
            case Network.WHOLE:
                return
            case Network.RESET:
                self.abort()
            case Network.HALF_CLOSED:
                with suppress(OSError):
                    self._client.write_eof()
            case Network.BLACKHOLE:
                pass
        self._swallows = True

    def abort(self) -> None:
        """Close at once; with no time to linger that is a reset."""
        for writer in (self._client, self._broker):
            if writer is not None and not writer.transport.is_closing():
                there: socket.socket = writer.get_extra_info("socket")
                there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    async def run(self, reader: asyncio.StreamReader, target: int) -> None:
        try:
            from_broker, self._broker = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            self.abort()
            return
        pumps = [
            asyncio.create_task(self._pump(reader, self._broker)),
            asyncio.create_task(self._pump(from_broker, self._client)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if self._swallows:  # silence has no end; only the client can end it
                await pumps[0]
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)
            self._client.close()
            self._broker.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self._proxy.latency_seconds:
                    await asyncio.sleep(self._proxy.latency_seconds)
                if not self._swallows:
                    writer.write(data)
                    await writer.drain()


@asynccontextmanager
async def running_proxy(port: int, target: int) -> AsyncIterator[Proxy]:
    """Leads connections to `port` on to `target`, on loopback."""
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", port)
    try:
        yield proxy
    finally:
        server.close()
        proxy.close()
        await server.wait_closed()
