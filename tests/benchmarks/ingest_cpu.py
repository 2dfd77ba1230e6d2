"""What an event costs ingest in CPU time, without sockets and without a broker.

From the ASGI call to a filled Kafka batch and the answer, in one process: small enough a figure to
compare two versions of the code on a machine that others use as well. Run it by turns, of the two.
`--kinds`: the native format, Segment's, and Segment's of events that name no account.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta

from aiokafka.producer.message_accumulator import BatchBuilder
from starlette.types import Message, Scope

from shared.log import Appended, Record, sizes_of
from shared.log.kafka import appender
from tests.unit.ingest.api import NOW, Api, open_api

_PARTITIONS = 12
_BATCH_BYTES = 256 * 1024
_ROUNDS = 7
_INCOMING = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class _Batches:
    """A log that does all of an append but send it."""

    async def append(
        self, topic: str, records: Sequence[Record], *, deadline: timedelta
    ) -> Sequence[Appended]:
        ends_at = asyncio.get_running_loop().time() + deadline.total_seconds()
        assert ends_at
        call = appender._Call([Appended.DURABLE] * len(records), asyncio.Future())
        sizes = sizes_of(records)
        for parcel in appender._parcels(call, topic, records, sizes, _PARTITIONS).values():
            waiting = deque([parcel])
            while waiting:
                builder = BatchBuilder(_BATCH_BYTES, 4, is_transactional=False)
                if appender._add(builder, waiting[0]):
                    waiting.popleft()
                builder.close()
        return call.outcomes

    async def ping(self) -> bool:
        return True


_PATHS = {"native": "/v1/events", "segment": "/v1/batch", "alone": "/v1/batch"}


def _body(kind: str, events: int) -> bytes:
    """`alone` as `segment`, but of events that name their user and no account."""
    if kind == "native":
        return json.dumps([_native(number) for number in range(events)]).encode()
    return json.dumps({"batch": [_track(kind, number) for number in range(events)]}).encode()


def _native(number: int) -> object:
    return {
        "id": f"event-{number:012d}",
        "account_id": f"account-{number % 40}",
        "user_id": f"user-{number % 200}@example.com",
        "type": "feature_used",
        "occurred_at": NOW.isoformat(),
        "properties": {"feature": "reports", "filler": "x" * 180},
    }


def _track(kind: str, number: int) -> object:
    """As the Python library sends it."""
    group = {} if kind == "alone" else {"groupId": f"account-{number % 40}"}
    return {
        "type": "track",
        "messageId": f"event-{number:012d}",
        "userId": f"user-{number % 200}@example.com",
        "anonymousId": None,
        "event": "Report Exported",
        "timestamp": NOW.isoformat(),
        "context": {**group, "library": {"name": "analytics-python", "version": "2.3.3"}},
        "integrations": {},
        "properties": {"feature": "reports", "filler": "x" * 180},
    }


async def _once(api: Api, scope: Scope, body: bytes) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200

    await api.app(scope, receive, send)


async def _measure(api: Api, kind: str, *, events: int, requests: int, traced: bool) -> float:
    """Microseconds of CPU time an event: the best round, as the others were disturbed."""
    headers = [(name.encode(), value.encode()) for name, value in api.key().items()]
    headers += [(b"host", b"ingest"), (b"content-type", b"application/json")]
    if traced:
        headers.append((b"traceparent", _INCOMING))
    scope = {
        "type": "http",
        "method": "POST",
        "path": _PATHS[kind],
        "raw_path": _PATHS[kind].encode(),
        "query_string": b"",
        "headers": headers,
    }
    body = _body(kind, events)
    best = float("inf")
    for _ in range(_ROUNDS):
        started = time.process_time()
        for _ in range(requests):
            # As the server does: each request has a task, and so a context, of its own.
            await asyncio.create_task(_once(api, scope, body))
        best = min(best, time.process_time() - started)
    return best / (events * requests) * 1e6


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--kinds", nargs="+", choices=_PATHS, default=[*_PATHS])
    wanted = parser.parse_args()
    async with open_api(_Batches(), ingest_rate_per_second=0) as api:
        for kind in wanted.kinds:
            for events, requests in ((100, wanted.requests), (1, wanted.requests * 10)):
                for traced in (False, True):
                    cost = await _measure(
                        api, kind, events=events, requests=requests, traced=traced
                    )
                    given = "traceparent given" if traced else "none given"
                    line = f"{kind:7s} {events:3d}, {given:17s}: {cost:7.2f} us CPU an event"
                    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    asyncio.run(main())
