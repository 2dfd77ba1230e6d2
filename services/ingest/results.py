"""What became of each item of a request: the codes, the results, and what waits for the log."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias

import msgspec

from services.ingest.items import Parsed
from shared.log import Record


class Code(StrEnum):
    """Why an item is not accepted. The last three say: resend; the others blame the item, or its
    key.
    """

    MISSING_ACCOUNT = "missing_account"
    CONFLICTING_ACCOUNT = "conflicting_account"
    INVALID_ACCOUNT = "invalid_account"
    MISSING_TYPE = "missing_type"
    INVALID_TYPE = "invalid_type"
    INVALID_ID = "invalid_id"
    INVALID_TIME = "invalid_time"
    TOO_OLD = "too_old"
    INVALID_PROPERTIES = "invalid_properties"
    INVALID_TEXT = "invalid_text"
    TOO_DEEP = "too_deep"
    EVENT_TOO_LARGE = "event_too_large"
    INVALID_JSON = "invalid_json"
    INVALID_FIELD = "invalid_field"
    SCOPE_MISSING = "scope_missing"
    OVERLOADED = "overloaded"
    NOT_DURABLE = "not_durable"
    LOG_UNAVAILABLE = "log_unavailable"


_MAX_NAME = 1_000

RETRY_CODES = (Code.OVERLOADED, Code.NOT_DURABLE, Code.LOG_UNAVAILABLE)


class WarningCode(StrEnum):
    """What was changed or noticed about an item that is taken all the same."""

    ID_MISSING = "id_missing"
    DUPLICATE_IN_REQUEST = "duplicate_in_request"
    SKEW_CORRECTED = "skew_corrected"
    CLOCK_AHEAD = "clock_ahead"
    INVALID_DURATION = "invalid_duration"
    TEXT_REPAIRED = "text_repaired"
    NUMBER_REPAIRED = "number_repaired"
    PLACEHOLDER_USER = "placeholder_user"
    UNKNOWN_TRAIT = "unknown_trait"


class ItemWarning(msgspec.Struct, frozen=True):
    code: WarningCode
    message: str


WARNINGS = {
    code: ItemWarning(code, message)
    for code, message in {
        WarningCode.ID_MISSING: "without an id a repeated event counts twice",
        WarningCode.DUPLICATE_IN_REQUEST: "the same id stands earlier in this request",
        WarningCode.SKEW_CORRECTED: "the sender's clock is off: occurred_at was corrected",
        WarningCode.CLOCK_AHEAD: "occurred_at lies ahead: the time of arrival is used",
        WarningCode.INVALID_DURATION: "duration_seconds is not a number from 0 to 86400: no time",
        WarningCode.TEXT_REPAIRED: "characters that cannot be stored were replaced by U+FFFD",
        WarningCode.NUMBER_REPAIRED: "a number that JSON cannot hold became null",
        WarningCode.PLACEHOLDER_USER: "user_id is a placeholder: the event counts without a user",
    }.items()
}

Status: TypeAlias = Literal["accepted", "rejected", "retry"]


class Result(msgspec.Struct, omit_defaults=True, gc=False):
    """The answer about one item. It starts as `retry`: only the log makes it `accepted`."""

    index: int
    id: str | None
    status: Status
    code: str | None = None
    message: str | None = None
    warnings: tuple[ItemWarning, ...] = ()


@dataclass(slots=True)
class Parcel:
    """Records for one topic, and the result that each of them decides."""

    records: list[Record] = field(default_factory=list)
    pending: list[Result] = field(default_factory=list)


@dataclass(slots=True)
class Reject:
    """A rejected item as it came, and what quarantine did with it."""

    result: Result
    item: bytes | Parsed
    header: bytes = b""
    """The first line of its file, where that says what the item means."""
    is_dropped: bool = False
    """It is beyond the bounds of quarantine, and so is nowhere."""

    def forget(self) -> None:
        """Of values only those that an answer may name the item by: they take much memory."""
        if isinstance(self.item, Parsed):
            self.item = Parsed(_names(self.item.value), 0)


@dataclass(slots=True, kw_only=True)
class Decoded:
    """All items of a request, in order, and the records of the good ones."""

    results: list[Result] = field(default_factory=list)
    parcels: dict[str, Parcel] = field(default_factory=dict)
    """By topic. An item is accepted once all of its records are durable."""
    duplicates: list[tuple[Result, Result]] = field(default_factory=list)
    """A result, and the earlier one of the same id whose end it shares."""
    rejects: list[Reject] = field(default_factory=list)
    are_rejects_kept: bool = True
    """False where quarantine could not take them: the log did not answer. Sent again, they are."""
    is_history: bool = False
    """The body itself said that all of it is from long ago."""
    skew_seconds: float | None = None
    """How far the sender's clock is off, where it said when it sent."""

    def reject(
        self,
        index: int,
        item_id: str | None,
        code: str,
        message: str,
        item: bytes | Parsed | None = None,
        header: bytes = b"",
    ) -> None:
        """Its bytes, where there are any, go to quarantine."""
        result = Result(index, item_id, "rejected", code, message)
        self.results.append(result)
        if item is not None:
            self.rejects.append(Reject(result, item, header))

    def wait_for(self, result: Result, topic: str, record: Record) -> None:
        self.results.append(result)
        self.append(result, topic, record)

    def append(self, result: Result, topic: str, record: Record) -> None:
        """`record` has to be durable before `result` may say accepted."""
        parcel = self.parcels.get(topic)
        if parcel is None:
            parcel = self.parcels[topic] = Parcel()
        parcel.records.append(record)
        parcel.pending.append(result)

    def has(self, status: Status) -> bool:
        return any(result.status == status for result in self.results)

    def has_dropped(self) -> bool:
        """Whether a rejected item is nowhere; sent again, it would not be kept either."""
        return any(reject.is_dropped for reject in self.rejects)


def _names(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        return {}
    stated = {name: value.get(name) for name in ("event", "uuid")}
    return {
        name: part
        for name, part in stated.items()
        if isinstance(part, int) or (isinstance(part, str) and len(part) <= _MAX_NAME)
    }
