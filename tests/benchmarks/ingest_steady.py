"""A load at a fixed rate, in a process of its own: what callers see while the service keeps up.

Open loop: each request has a time at which it is to leave, whatever became of the others, and its
latency is counted from then. Where no connection is free it waits, and the wait counts; timers come
up to a millisecond late, and that counts too (`late_p99_ms` says how much).
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections import deque
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, cast

import uvloop

from tests.benchmarks.ingest_events import Stream, make_tails

KEY_VARIABLE = "PERENNIAL_KEY"
THREAD = 1

_LAST_ANSWERS_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """Latencies in milliseconds, of the requests that were acknowledged."""

    requests: int
    connections: int
    seconds: float
    open: list[int]
    """Requests that were not acknowledged."""
    p50_ms: float
    p99_ms: float
    max_ms: float
    late_p99_ms: float


def run_steady(
    stream: Stream, *, now: datetime, port: int, key: str, rate: float, seconds: float
) -> Steady:
    """As a child process; `rate` is in events a second, `now` the time that the events state."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.benchmarks.ingest_steady"),
            *("--port", str(port), "--load", str(stream.load), "--batch", str(stream.batch)),
            *("--rate", str(rate), "--seconds", str(seconds), "--now", now.isoformat()),
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, KEY_VARIABLE: key},
        timeout=seconds + 60,
    )
    return Steady(**json.loads(done.stdout))


class _Load:
    def __init__(self, stream: Stream, *, head: bytes, rate: float, seconds: float) -> None:
        self._stream = stream
        self._head = head
        self._interval = stream.batch / rate
        self._count = round(seconds / self._interval)
        self._loop = asyncio.get_running_loop()
        self._begin = 0.0
        self._next = 0
        self._free: deque[_Connection] = deque()
        self._waiting: deque[int] = deque()
        self._open: dict[int, float] = {}
        self._latencies: list[float] = []
        self._lateness: list[float] = []
        self._failure: str | None = None
        self._ended = asyncio.Event()
        self._loop.set_exception_handler(self._fail)

    async def run(self, port: int, connections: int) -> Steady:
        for _ in range(connections):
            _, connection = await self._loop.create_connection(
                lambda: _Connection(self), "127.0.0.1", port
            )
            self._free.append(connection)
        self._begin = self._loop.time() + 0.1
        self._loop.call_at(self._begin, self._send_due)
        whole = self._count * self._interval
        try:
            async with asyncio.timeout(whole + _LAST_ANSWERS_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            pass  # What is still open then is reported so.
        if self._failure is not None:
            raise RuntimeError(self._failure)
        return Steady(
            requests=self._count,
            connections=connections,
            seconds=whole,
            open=sorted(self._open),
            p50_ms=_percentile_ms(self._latencies, 0.5),
            p99_ms=_percentile_ms(self._latencies, 0.99),
            max_ms=_percentile_ms(self._latencies, 1.0),
            late_p99_ms=_percentile_ms(self._lateness, 0.99),
        )

    def _send_due(self) -> None:
        while self._next < self._count and self._due(self._next) <= self._loop.time():
            number = self._next
            self._next += 1
            self._open[number] = self._due(number)
            if self._free:
                self._send(self._free.popleft(), number)
            else:
                self._waiting.append(number)
        if self._next < self._count:
            self._loop.call_at(self._due(self._next), self._send_due)

    def _due(self, number: int) -> float:
        return self._begin + number * self._interval

    def _send(self, connection: "_Connection", number: int) -> None:
        body = self._stream.body(THREAD, number)
        self._lateness.append(self._loop.time() - self._due(number))
        connection.send(number, self._head + body)

    def _fail(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A load that did not run as it should measures nothing."""
        self._failure = f"{context['message']}: {context.get('exception')!r}"
        self._ended.set()

    def answered(self, connection: "_Connection", number: int, *, accepted: bool) -> None:
        if accepted:
            self._latencies.append(self._loop.time() - self._open.pop(number))
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._free.append(connection)
            if self._next == self._count and not self._open:
                self._ended.set()


class _Connection(asyncio.Protocol):
    """One request at a time; the answers are ours: a head with a length, and a body."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._transport: asyncio.WriteTransport | None = None
        self._number = 0
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is no subclass

    def send(self, number: int, request: bytes) -> None:
        assert self._transport is not None
        self._number, self._data = number, b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, separator, body = self._data.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if separator and len(body) == int(length):
            accepted = head.startswith(b"HTTP/1.1 200") and b'"status":"re' not in body
            self._load.answered(self, self._number, accepted=accepted)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing: its request stays open, and the connection is not used again."""


def _percentile_ms(seconds: list[float], share: float) -> float:
    if not seconds:
        return float("nan")
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 2)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--load", type=int, required=True)
    options.add_argument("--batch", type=int, required=True)
    options.add_argument("--rate", type=float, required=True)
    options.add_argument("--seconds", type=float, required=True)
    options.add_argument("--now", type=datetime.fromisoformat, required=True)
    options.add_argument("--connections", type=int, default=64)
    chosen = options.parse_args()
    stream = Stream(chosen.load, chosen.batch, make_tails(chosen.now))
    head = (
        "POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {os.environ[KEY_VARIABLE]}\r\n"
        f"Content-Length: {len(stream.body(THREAD, 0))}\r\n\r\n"
    ).encode()

    async def run() -> Steady:
        load = _Load(stream, head=head, rate=chosen.rate, seconds=chosen.seconds)
        return await load.run(chosen.port, chosen.connections)

    sys.stdout.write(json.dumps(asdict(uvloop.run(run()))))


if __name__ == "__main__":
    main()
