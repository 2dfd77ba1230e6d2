"""Rejected items on their way to quarantine: each a record of the `rejected` topic, within a bound.

A source that sends nothing but rejects must not fill the log, and one request must not keep the
others waiting: what is beyond these bounds is counted and gone, and its callers hear of a failure.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

from services.ingest.buckets import Buckets
from services.ingest.cleaning import Cleaned, Cleaning
from services.ingest.directory import Operation
from services.ingest.identity import account_of
from services.ingest.items import Parsed
from services.ingest.metrics import IngestMetrics
from services.ingest.results import RETRY_CODES, Code, Decoded, Reject, Result
from services.ingest.wire import FormatName, Submission, WireFormat
from shared.credentials import HashedUser
from shared.errors import InvalidMessage, PerennialError
from shared.log import Record
from shared.quarantine import rejected_item
from shared.traceparent import RecordHeaders

_HEADER_BYTES = 1024
"""Of a record's headers and key, about."""


class Dropped(StrEnum):
    """Why quarantine did not keep a rejected item."""

    RATE = "rate"
    """Its source has left too many."""
    SIZE = "size"
    """Its request holds too much to be cleaned."""
    LOG = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What reading a request's items once more takes besides the items."""

    format: FormatName
    source: str
    request_id: str | None = None
    trace: RecordHeaders = ()
    received_at: datetime | None = None
    wire: WireFormat | None = None
    """With `submission`, of events."""
    submission: Submission | None = None
    operation: Operation | None = None
    """Of changes to the directory."""
    addressed: str | None = None
    is_csv: bool = False


class Quarantine:
    """Makes the records; so many items a source and second, the rest is counted and gone."""

    def __init__(
        self,
        *,
        hash_user: Callable[[str], HashedUser],
        buckets: Buckets,
        metrics: IngestMetrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hash_user = hash_user
        self._buckets = buckets
        self._metrics = metrics
        self._monotonic = monotonic
        for code in Code:
            if code not in RETRY_CODES:
                metrics.quarantined.labels(code)
        for reason in Dropped:
            metrics.quarantine_dropped.labels(reason)

    def take(self, decoded: Decoded, origin: Origin) -> "Aside":
        """What was rejected as records, as many as the source may still leave here.

        From here on the items themselves are forgotten: whoever waits for the log waits with less.
        """
        now = self._monotonic()
        cleaning = Cleaning(
            self._hash_user,
            is_account=origin.format is FormatName.DIRECTORY,
            is_csv=origin.is_csv,
        )
        aside = Aside(self, origin.source)
        for reject in decoded.rejects:
            if not self._buckets.take(origin.source, now=now):
                aside.drop(reject, Dropped.RATE)
            elif (cleaned := cleaning.item(reject.item, reject.header)) is None:
                self._buckets.charge(origin.source, -1, now=now)
                aside.drop(reject, Dropped.SIZE)
            else:
                aside.keep(reject, _record(reject, cleaned, decoded, origin))
            reject.forget()
        return aside

    def give_back(self, source: str, count: int) -> None:
        self._buckets.charge(source, -count, now=self._monotonic())

    def count_kept(self, codes: Mapping[str, int]) -> None:
        for code, count in codes.items():
            self._metrics.quarantined.labels(code).inc(count)

    def count_dropped(self, reason: Dropped, count: int) -> None:
        self._metrics.quarantine_dropped.labels(reason).inc(count)


class Aside:
    """What one request leaves in quarantine; unless it is settled, nothing of it counts."""

    def __init__(self, quarantine: Quarantine, source: str) -> None:
        self._quarantine = quarantine
        self._source = source
        self._codes: Counter[str] = Counter()
        self._dropped: Counter[Dropped] = Counter()
        self._is_settled = False
        self.records: list[Record] = []
        self.size = 0
        """About as many bytes as the records hold."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if not self._is_settled:
            # It will be sent again: a source must not pay for the same item each time.
            self._quarantine.give_back(self._source, len(self.records))

    def keep(self, reject: Reject, record: Record) -> None:
        self.records.append(record)
        self.size += len(record.value or b"") + _HEADER_BYTES
        self._codes[reject.result.code or ""] += 1

    def drop(self, reject: Reject, reason: Dropped) -> None:
        reject.is_dropped = True
        self._dropped[reason] += 1

    def settle(self, *, are_durable: bool) -> None:
        """Once the log has answered: what it has is counted, and what is gone."""
        if are_durable:
            self._is_settled = True
            self._quarantine.count_kept(self._codes)
        else:
            self._quarantine.count_dropped(Dropped.LOG, len(self.records))
        for reason, count in self._dropped.items():
            self._quarantine.count_dropped(reason, count)


def _record(reject: Reject, cleaned: Cleaned, decoded: Decoded, origin: Origin) -> Record:
    result = reject.result
    account = _stated_account(result, cleaned, origin)
    said = _said(origin, decoded, result.index)
    said["account"] = account
    if not cleaned.is_whole:
        said["cut"] = str(_size(reject))
    key = (account or origin.source).encode()
    error = InvalidMessage(result.code or "", result.message or "")
    return rejected_item(key, cleaned.value, error, said, trace=origin.trace)


def _said(origin: Origin, decoded: Decoded, index: int) -> dict[str, str | None]:
    said = {
        "v": "1",
        "format": str(origin.format),
        "source": origin.source,
        "request_id": origin.request_id,
        "received_at": None if origin.received_at is None else origin.received_at.isoformat(),
        "skew_seconds": None if decoded.skew_seconds is None else repr(decoded.skew_seconds),
        "operation": origin.operation,
        "addressed": origin.addressed,
        "csv": "true" if origin.is_csv else None,
    }
    if (submission := origin.submission) is not None:
        key = submission.idempotency_key
        said |= {
            "path": submission.path,
            "id": None if key is None else f"{key}-{index}",
            "backfill": "true" if submission.marks_backfill else None,
            "accounts_write": "true" if submission.may_change_accounts else None,
        }
    return said


def _stated_account(result: Result, cleaned: Cleaned, origin: Origin) -> str | None:
    """The account that the item names, where it can be a key."""
    if origin.wire is None or origin.submission is None:
        return result.id
    if cleaned.read is None:
        return None
    try:
        return account_of(origin.wire.read(cleaned.read, origin.submission).draft.account)
    except PerennialError:  # The item's fault, or that of a request that names no item.
        return None


def _size(reject: Reject) -> int:
    item = reject.item
    return len(reject.header) + (item.size if isinstance(item, Parsed) else len(item))
