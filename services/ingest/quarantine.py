"""Rejected items on their way to quarantine: each a record of the `rejected` topic, within a bound.

A source that sends nothing but rejects must not fill the log: what is beyond its bound is counted
and gone, and its callers are told of each item as ever.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from services.ingest.buckets import Buckets
from services.ingest.cleaning import Cleaning
from services.ingest.directory import Operation
from services.ingest.identity import account_of
from services.ingest.items import Parsed
from services.ingest.metrics import IngestMetrics
from services.ingest.results import RETRY_CODES, Code, Decoded, Reject
from services.ingest.wire import FormatName, Submission, WireFormat
from shared.credentials import HashedUser
from shared.errors import InvalidMessage, PerennialError
from shared.log import Record
from shared.quarantine import MAX_ITEM_BYTES, rejected_item


class Dropped(StrEnum):
    """Why quarantine did not keep a rejected item."""

    RATE = "rate"
    LOG = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What reading a request's items once more takes besides the items."""

    format: FormatName
    source: str
    request_id: str | None = None
    received_at: datetime | None = None
    wire: WireFormat | None = None
    """With `submission`, of events."""
    submission: Submission | None = None
    operation: Operation | None = None
    """Of changes to the directory."""
    addressed: str | None = None
    is_csv: bool = False


class Kept(NamedTuple):
    code: str
    record: Record


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

    def take(self, decoded: Decoded, origin: Origin) -> list[Kept]:
        """The records of what was rejected, as many as the source may still leave here."""
        now = self._monotonic()
        within = [
            reject for reject in decoded.rejects if self._buckets.take(origin.source, now=now)
        ]
        if dropped := len(decoded.rejects) - len(within):
            self._metrics.quarantine_dropped.labels(Dropped.RATE).inc(dropped)
        return [self._kept(reject, decoded, origin) for reject in within]

    def count(self, kept: Collection[Kept], *, are_durable: bool) -> None:
        """Once the log has answered."""
        if not are_durable:
            self._metrics.quarantine_dropped.labels(Dropped.LOG).inc(len(kept))
            return
        for code, _ in kept:
            self._metrics.quarantined.labels(code).inc()

    def _kept(self, reject: Reject, decoded: Decoded, origin: Origin) -> Kept:
        result = reject.result
        code, detail = result.code or "", result.message or ""
        account = _stated_account(reject, origin)
        cleaned = Cleaning(
            self._hash_user,
            is_account=origin.format is FormatName.DIRECTORY,
            is_csv=origin.is_csv,
        ).item(reject.item)
        said = _said(origin, decoded, result.index)
        said["account"] = account
        if not cleaned.is_whole:
            said["cut"] = str(_size(reject.item))
        key = (account or origin.source).encode()
        return Kept(code, rejected_item(key, cleaned.value, InvalidMessage(code, detail), said))


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


def _stated_account(reject: Reject, origin: Origin) -> str | None:
    """The account that the item names, where it can be a key."""
    if origin.wire is None or origin.submission is None:
        return reject.result.id
    if _size(reject.item) > MAX_ITEM_BYTES:
        return None
    try:
        return account_of(origin.wire.read(reject.item, origin.submission).draft.account)
    except PerennialError:  # The item's fault, or that of a request that names no item.
        return None


def _size(item: bytes | Parsed) -> int:
    return item.size if isinstance(item, Parsed) else len(item)
