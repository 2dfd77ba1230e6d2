"""Callers of ingest who remember: what was attempted, what was answered, what must be in the log.

Each attempt is noted before its first byte is sent, and its end as it was seen: a whole answer, or
how the connection ended without one. They speak HTTP by hand, so that half an answer is seen.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import msgspec

IN_FULL = int(os.environ.get("FAULT_SEEDS", "1")) > 1
"""`make faults`; a test run takes the short way."""

PATH = "/v1/events"
ANSWER_SECONDS = 5.0 + 1.0 + 1.0
"""The append's deadline, the publisher's grace, and a second for a busy machine."""

_GIVE_UP_SECONDS = 20.0
AWAY = frozenset({"log_unavailable", "not_durable", "overloaded"})
"""The codes of 503 while the log is away."""

_ACCOUNTS = 500


class Ended(Enum):
    """How an exchange ended that got no whole answer."""

    REFUSED = auto()
    """No connection: nothing was sent."""
    CLOSED = auto()
    """Sent, and closed without a byte of an answer."""
    CUT = auto()
    """Part of an answer."""
    HUNG = auto()
    """Nothing for longer than any deadline."""


class Unanswered(Exception):
    def __init__(self, how: Ended) -> None:
        super().__init__(how.name)
        self.how = how


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body; empty where it is no JSON object."""
        found: dict[str, Any] = {}
        with suppress(msgspec.DecodeError):
            found = msgspec.json.decode(self.body, type=dict[str, Any])
        return found

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One request; times are the event loop's."""

    ids: Sequence[str]
    sent_at: float
    ended_at: float | None = None
    answer: Answer | None = None
    ended: Ended | None = None
    accepted: Sequence[str] = ()

    @property
    def seconds(self) -> float:
        return 0.0 if self.ended_at is None else self.ended_at - self.sent_at

    @property
    def status(self) -> int | None:
        return None if self.answer is None else self.answer.status

    @property
    def code(self) -> str | None:
        if self.answer is None or self.answer.status == 200:
            return None
        found: str = self.answer.json.get("code", "")
        return found

    @property
    def outcome(self) -> str:
        """The status with its code, or how it ended without one."""
        if self.answer is None:
            return self.ended.name.lower() if self.ended else "open"
        if self.answer.status == 200 and len(self.accepted) < len(self.ids):
            return "200 mixed"
        return f"{self.answer.status} {self.code or ''}".rstrip()

    def why_wrong(self, codes: Collection[str]) -> str | None:
        """What the answer breaks of the contract, where 503 may come with one of `codes`."""
        if self.answer is None:
            return f"no answer: {self.ended}"
        body = self.answer.json
        if self.answer.status == 200:
            rows = body.get("results", ())
            is_true = [row["id"] for row in rows] == self.ids and all(
                row["status"] == "accepted" or (row["status"] == "retry" and row["code"] in codes)
                for row in rows
            )
            return None if is_true and self.accepted else f"200: {self.answer.body[:300]!r}"
        words = [body.get(key) for key in ("code", "message", "detail", "error", "request_id")]
        retry_after = self.answer.headers.get("retry-after", "")
        if (
            self.answer.status != 503
            or body.get("code") not in codes
            or not all(isinstance(word, str) and word for word in words)
            or not retry_after.isdecimal()
            or not 1 <= int(retry_after) <= 30
            or self.accepted
        ):
            return f"{self.answer.status} Retry-After {retry_after!r}: {self.answer.body[:300]!r}"
        return None


@dataclass(slots=True)
class Ledger:
    """Every attempt of all callers, in the order of sending."""

    attempts: list[Attempt] = field(default_factory=list)

    @property
    def accepted(self) -> set[str]:
        return {one for attempt in self.attempts for one in attempt.accepted}

    def since(self, moment: float) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.sent_at >= moment]

    def wrong(self, codes: Collection[str] = AWAY) -> list[str]:
        """Each answer that is late, incomplete or not as the contract says."""
        found = []
        for attempt in self.attempts:
            why = attempt.why_wrong(codes)
            if why is None and attempt.seconds > ANSWER_SECONDS:
                why = f"late: {attempt.seconds:.1f} s"
            if why is not None:
                found.append(why)
        return found

    def first_accepted_after(self, moment: float) -> float | None:
        """When the first request that was sent after `moment` was accepted."""
        times = [one.ended_at for one in self.since(moment) if one.accepted and one.ended_at]
        return min(times, default=None)

    def counts(self) -> Counter[str]:
        """Attempts by how they ended: a status with its code, or none."""
        return Counter(attempt.outcome for attempt in self.attempts)


class Connection:
    """One keep-alive connection, opened when it is needed."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes, *, hold: asyncio.Event | None = None) -> Answer:
        """Send and read the answer; with `hold`, half of the body waits for that event.

        An answer that comes before it ends the wait, and the body.
        """
        reader, writer = await self._open()
        reading = asyncio.create_task(_read(reader))
        try:
            writer.write(self.head(len(body)))
            if hold is not None:
                half = len(body) // 2
                writer.write(body[:half])
                await _first(reading, hold)
                body = b"" if reading.done() else body[half:]
            writer.write(body)
            answer = await reading
        except BaseException:
            reading.cancel()
            self.abort()
            raise
        if answer.closes:
            self.abort()
        return answer

    def head(self, length: int) -> bytes:
        return (
            f"POST {PATH} HTTP/1.1\r\nhost: ingest\r\nauthorization: Bearer {self._key}\r\n"
            f"content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        ).encode()

    async def send_and_hang_up(self, body: bytes, *, when: asyncio.Event) -> None:
        _, writer = await self._open()
        writer.write(self.head(len(body)) + body)
        await writer.drain()
        await when.wait()
        self.abort()

    def abort(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and self._streams[0].at_eof():
            self.abort()
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError as error:
                raise Unanswered(Ended.REFUSED) from error
        return self._streams


async def attempt(
    ledger: Ledger,
    connection: Connection,
    events: Sequence[dict[str, object]],
    *,
    hold: asyncio.Event | None = None,
) -> Attempt:
    """Send the events once and note what came of it."""
    now = asyncio.get_running_loop().time
    made = Attempt(ids=[str(event["id"]) for event in events], sent_at=now())
    ledger.attempts.append(made)
    try:
        async with asyncio.timeout(_GIVE_UP_SECONDS):
            made.answer = await connection.post(msgspec.json.encode(events), hold=hold)
        made.accepted = _accepted(made.answer)
    except Unanswered as unanswered:
        made.ended = unanswered.how
    except OSError:
        made.ended = Ended.CLOSED
    except TimeoutError:
        made.ended = Ended.HUNG
    made.ended_at = now()
    return made


def new_events(name: str, count: int, choose: random.Random) -> list[dict[str, object]]:
    return [
        {
            "id": f"{name}-{number}",
            "account_id": f"account-{choose.randrange(_ACCOUNTS)}",
            "user_id": f"user-{choose.randrange(50)}",
            "type": "feature_used",
            "properties": {"feature": "export"},
        }
        for number in range(count)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many callers send how much; each waits for its answer before it sends again."""

    callers: int = 8
    sizes: tuple[int, int] = (1, 50)
    pause_seconds: float = 0.04
    """Between an answer and the next request, give or take."""
    seed: int = 1

    async def call(
        self, number: int, port: int, key: str, ledger: Ledger, stop: asyncio.Event
    ) -> None:
        """Send, again under the same ids what was not accepted, until `stop` or the port's end."""
        choose = random.Random(f"{self.seed} {number}")
        connection = Connection(port, key)
        turn = 0
        try:
            while not stop.is_set():
                count = choose.randint(*self.sizes)
                events = new_events(f"{self.seed}-{number}-{turn}", count, choose)
                turn += 1
                while events:
                    made = await attempt(ledger, connection, events)
                    if stop.is_set() or made.ended is Ended.REFUSED:
                        return
                    taken = set(made.accepted)
                    events = [event for event in events if event["id"] not in taken]
                    await asyncio.sleep(choose.uniform(0, 2) * self.pause_seconds)
        finally:
            connection.abort()


@asynccontextmanager
async def calling(load: Load, *, port: int, key: str, ledger: Ledger) -> AsyncIterator[None]:
    """Callers at work while the context is open; leaving waits for their last answers."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number in range(load.callers):
            group.create_task(load.call(number, port, key, ledger, stop))
        try:
            yield
        finally:
            stop.set()


async def _first(reading: asyncio.Task[Answer], hold: asyncio.Event) -> None:
    """Until the event is set, or an answer has come before it."""
    waiting = asyncio.create_task(hold.wait())
    await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


async def _read(reader: asyncio.StreamReader) -> Answer:
    """A whole answer, by its Content-Length."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        raise Unanswered(Ended.CUT if error.partial else Ended.CLOSED) from error
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = {
        name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
    }
    try:
        body = await reader.readexactly(int(headers["content-length"]))
    except (asyncio.IncompleteReadError, OSError) as error:
        raise Unanswered(Ended.CUT) from error
    return Answer(status=int(first.split()[1]), headers=headers, body=body)


def _accepted(answer: Answer) -> Sequence[str]:
    if answer.status != 200:
        return ()
    rows = answer.json.get("results", ())
    return [row["id"] for row in rows if row["status"] == "accepted"]
