"""From records to the log, and from the log's word to the result of each item.

Order of effects: 1 hold room for the items, 2 append, 3 the log says what is durable, 4 append what
was rejected, unless the caller will send all of it again, 5 answer. Killed before 2, nothing is
stored and nobody was told; between 2 and 5, the caller was not told and sends again under the same
ids, which scoring counts once; what was rejected may then be in quarantine twice.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from prometheus_client import Gauge

from services.ingest.inflight import Held
from services.ingest.metrics import IngestMetrics
from services.ingest.results import Code, Decoded, Parcel, Result
from shared import failpoints, traceparent, tracing
from shared import logging as logs
from shared.limit import Limit
from shared.log import Appended, LogBusy, LogUnavailable, Record, TopicMissing
from shared.messages import REJECTED

_GRACE_SECONDS = 1.0
"""The log keeps the deadline itself; a log that hangs must not hang the request."""

_LEAST_DEADLINE = timedelta(seconds=1)
"""Of the append to quarantine, however long the one before it took."""

_CALM_SECONDS = 5.0
"""Without a failure for so long, the log is there: where one topic or partition fails and others
answer, each request would contradict the one before it."""

_RETRY_MESSAGES = {
    Code.OVERLOADED: "not stored: too much waits for the log; send again",
    Code.NOT_DURABLE: "not known to be stored in time; send again with the same id",
    Code.LOG_UNAVAILABLE: "not stored: the log cannot be reached; send again",
}

log = logs.get(__name__)


class AppendLog(Protocol):
    """What ingest needs of the log; the methods are those of `shared.log.Log`."""

    async def append(
        self, topic: str, records: Sequence[Record], *, deadline: timedelta
    ) -> Sequence[Appended]: ...

    async def ping(self) -> bool: ...


class Publisher:
    def __init__(
        self,
        *,
        target: AppendLog,
        deadline: timedelta,
        metrics: IngestMetrics,
        dependency_up: Gauge,
    ) -> None:
        self._log = target
        self._deadline = deadline
        self._metrics = metrics
        self._dependency_up = dependency_up
        self._is_up = True
        self._failed_at = 0.0
        dependency_up.set(1)

    async def publish(self, decoded: Decoded, held: Held, *, wire_format: str) -> None:
        """Append the records and settle their results; raises Refused where too much waits."""
        parcels = decoded.parcels
        if parcels:
            held.add_events(sum(len(parcel.records) for parcel in parcels.values()))
            started = time.monotonic()
            failpoints.reach("ingest.before_append")
            if len(parcels) == 1:
                [(topic, parcel)] = parcels.items()
                _note_failures(parcel, await self._append(topic, parcel.records, self._deadline))
            else:
                await self._append_all(parcels)
            failpoints.reach("ingest.before_ack")
            self._metrics.append_seconds.observe(time.monotonic() - started)
            self._settle(decoded, wire_format)
        for result, first in decoded.duplicates:
            result.status, result.code, result.message = first.status, first.code, first.message

    async def set_aside(self, rejects: Sequence[Record], *, waited: timedelta) -> bool:
        """Append to quarantine; whether all of it is durable.

        Callers do not wait twice: what they have `waited` already counts against the deadline.
        """
        deadline = max(self._deadline - waited, min(self._deadline, _LEAST_DEADLINE))
        outcome = await self._append(REJECTED, rejects, deadline)
        return not isinstance(outcome, Code) and all(each is Appended.DURABLE for each in outcome)

    async def _append_all(self, parcels: Mapping[str, Parcel]) -> None:
        """Each topic at the same time, under the same deadline."""
        outcomes = await asyncio.gather(
            *(self._append(topic, each.records, self._deadline) for topic, each in parcels.items())
        )
        for parcel, outcome in zip(parcels.values(), outcomes, strict=True):
            _note_failures(parcel, outcome)

    async def _append(
        self, topic: str, records: Sequence[Record], deadline: timedelta
    ) -> Sequence[Appended] | Code:
        try:
            if tracing.is_on():
                outcome = await self._append_traced(topic, records, deadline)
            else:
                with Limit(deadline.total_seconds() + _GRACE_SECONDS):
                    outcome = await self._log.append(topic, records, deadline=deadline)
        except LogBusy:
            return Code.OVERLOADED  # It is there, and slower than we are.
        except LogUnavailable:
            self._note(is_up=False)
            return Code.LOG_UNAVAILABLE
        except TopicMissing as error:
            log.warning("log.topic_missing", topic=topic, detail=str(error))
            self._note(is_up=False)
            return Code.LOG_UNAVAILABLE
        except TimeoutError:
            outcome = [Appended.UNKNOWN] * len(records)
        if Appended.DURABLE not in outcome:
            self._note(is_up=False)
        elif not self._is_up and Appended.UNKNOWN not in outcome:
            self._note(is_up=True)
        return outcome

    async def _append_traced(
        self, topic: str, records: Sequence[Record], deadline: timedelta
    ) -> Sequence[Appended]:
        kind, trace = tracing.Kind.PRODUCER, traceparent.current()
        with (
            tracing.one("append", trace, kind=kind, topic=topic, records=len(records)),
            Limit(deadline.total_seconds() + _GRACE_SECONDS),
        ):
            return await self._log.append(topic, records, deadline=deadline)

    def _settle(self, decoded: Decoded, wire_format: str) -> None:
        """What no append failed for is accepted."""
        has_failed = False
        for parcel in decoded.parcels.values():
            for result in parcel.pending:
                if result.code is None:
                    result.status = "accepted"
                else:
                    has_failed = True
        if has_failed:
            unknown = sum(result.code is Code.NOT_DURABLE for result in decoded.results)
            self._metrics.unknown.labels(wire_format).inc(unknown)

    async def probe(self) -> None:
        """Ask the log whether it is there, so that silence is told from an outage."""
        self._note(is_up=await self._log.ping())

    def _note(self, *, is_up: bool) -> None:
        now = time.monotonic()
        if not is_up:
            self._failed_at = now
        elif now - self._failed_at < _CALM_SECONDS:
            return
        if is_up is not self._is_up:
            self._is_up = is_up
            self._dependency_up.set(int(is_up))
            if is_up:
                log.info("log.back")
            else:
                log.warning("log.away")


def _note_failures(parcel: Parcel, outcome: Sequence[Appended] | Code) -> None:
    if isinstance(outcome, Code):
        for result in parcel.pending:
            _retry(result, outcome)
    else:
        for result, appended in zip(parcel.pending, outcome, strict=True):
            if appended is not Appended.DURABLE:
                _retry(result, Code.NOT_DURABLE)


def _retry(result: Result, code: Code) -> None:
    result.code, result.message = code, _RETRY_MESSAGES[code]
