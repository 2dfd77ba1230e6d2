"""One item of any wire format becomes a usage event on the log, or is rejected with a reason.

One that names a user and no account becomes an unplaced event: scoring finds its account.

A format fills a `Draft`; all rules of the wire page about single events stand here and in
`identity` and `times`, once.
"""

import math
import uuid
from collections.abc import Mapping

from services.ingest.identity import account_of, event_id_of, type_of, user_of
from services.ingest.repair import Repair, is_storable
from services.ingest.results import WARNINGS, Code, ItemWarning, Result, WarningCode
from services.ingest.times import TimeRules
from services.ingest.wire import Draft, EventRules, Reading, Submission
from shared.errors import InvalidMessage
from shared.log import Record
from shared.messages import (
    UNPLACED_EVENTS,
    USAGE_EVENTS,
    PlacedBy,
    UnplacedEvent,
    UsageEvent,
    encode,
)

MAX_PROPERTIES = 100
MAX_DURATION_SECONDS = 86_400

_MAX_PLACED_BYTES = 2_048
"""What an account adds to an event, as key and in the value, once it is found: at most 200
characters of eight bytes together, the names of the fields, and by what it was found."""

_SCALARS = frozenset({str, int, float, bool, type(None)})
"""Properties of these types alone are as flat as can be: nothing to walk through."""

_FEEDBACK_KEPT = ("scale", "score")


class EventReader:
    """Reads the items of one request."""

    def __init__(
        self, rules: EventRules, submission: Submission, times: TimeRules, *, wire_format: str
    ) -> None:
        self._rules = rules
        self._submission = submission
        self._times = times
        self._format = wire_format
        self._type_map = submission.source.type_map

    def read(
        self, reading: Reading, index: int, times: TimeRules | None = None
    ) -> tuple[Result, str, Record]:
        """The event's record and its topic, and its result as it stands until the log has it.

        `times` are the item's own, where it says itself when it was sent. Raises InvalidMessage.
        """
        draft = reading.draft
        is_suspect = reading.is_suspect
        warnings: list[ItemWarning] = []
        if is_suspect:
            _null_what_is_no_number(draft, warnings)
        event_id = self._id(draft.id, index, warnings, is_suspect=is_suspect)
        submission = self._submission
        stated = draft.account
        if stated is None or stated == "":
            stated = submission.source.default_account or stated
        try:
            account: str | None = account_of(stated)
        except InvalidMessage as error:
            account = self._account_of_none(reading, error)
        event_type = type_of(draft.type)
        # A group call by another name would say of nobody where he or she works.
        if self._type_map and reading.traits is None:
            event_type = self._type_map.get(event_type, event_type)
        user = self._user(draft.user, warnings)
        properties = self._properties(draft.properties, event_type, warnings, is_suspect=is_suspect)
        occurred_at, client_at, is_old = (times or self._times).place(
            draft.occurred_at, warnings, is_corrected=reading.is_corrected
        )
        if is_old:
            self._allow_old(has_id=event_id is not None)
        if event_id is None:
            event_id = str(uuid.uuid4())
        event = UsageEvent(
            id=event_id,
            source=submission.source.name,
            account=account or "",
            user=user,
            type=event_type,
            occurred_at=occurred_at,
            client_at=client_at,
            received_at=submission.received_at,
            format=self._format,
            backfill=is_old or submission.marks_backfill,
            properties=properties,
        )
        if account is None and user is not None:
            topic, key, value = UNPLACED_EVENTS, user.encode(), encode(_unplaced(event, user))
            size = len(key) + len(value) + _MAX_PLACED_BYTES
        else:
            topic, key, value = USAGE_EVENTS, event.account.encode(), encode(event)
            size = len(key) + len(value)
        if size > self._rules.max_record_bytes:
            raise InvalidMessage(
                Code.EVENT_TOO_LARGE,
                f"as a record it takes more than {self._rules.max_record_bytes} bytes",
            )
        result = Result(index, event_id, "retry", None, None, tuple(warnings))
        return result, topic, Record(key=key, value=value, headers=submission.trace)

    def _account_of_none(self, reading: Reading, error: InvalidMessage) -> str | None:
        """None where a user leads to it; raises InvalidMessage where it was stated, but badly."""
        if error.code != Code.MISSING_ACCOUNT:
            raise error
        if (default := self._submission.source.default_account) is not None:
            return account_of(default)
        if reading.traits is not None:
            why = f"{error.detail}: it describes an account"
        elif reading.draft.user is None or user_of(reading.draft.user) is None:
            why = f"{error.detail}: it names no user either"
        else:
            return None
        raise InvalidMessage(Code.MISSING_ACCOUNT, why) from error

    def _id(
        self, value: object, index: int, warnings: list[ItemWarning], *, is_suspect: bool
    ) -> str | None:
        if value is None:
            if (key := self._submission.idempotency_key) is not None:
                return f"{key}-{index}"
            warnings.append(WARNINGS[WarningCode.ID_MISSING])
            return None
        event_id = event_id_of(value)
        if is_suspect and not is_storable(event_id):
            raise InvalidMessage(Code.INVALID_TEXT, "id: holds NUL or half a character")
        return event_id

    def _user(self, value: object, warnings: list[ItemWarning]) -> str | None:
        if value is None:
            return None
        user = user_of(value)
        if user is None:
            warnings.append(WARNINGS[WarningCode.PLACEHOLDER_USER])
            return None
        return self._rules.hash_user(user)

    def _properties(
        self, value: object, event_type: str, warnings: list[ItemWarning], *, is_suspect: bool
    ) -> dict[str, object]:
        if value is None:
            properties: dict[str, object] = {}
        elif isinstance(value, dict):
            properties = value
        else:
            raise InvalidMessage(Code.INVALID_PROPERTIES, "properties: must be an object")
        if len(properties) > MAX_PROPERTIES:
            raise InvalidMessage(
                Code.INVALID_PROPERTIES, f"properties: must have at most {MAX_PROPERTIES} keys"
            )
        if is_suspect or not _SCALARS.issuperset(map(type, properties.values())):
            repair = Repair(max_depth=self._rules.max_depth)
            properties = repair.object(properties, 1)
            if repair.text:
                warnings.append(WARNINGS[WarningCode.TEXT_REPAIRED])
            if repair.number and WARNINGS[WarningCode.NUMBER_REPAIRED] not in warnings:
                warnings.append(WARNINGS[WarningCode.NUMBER_REPAIRED])
        if event_type == "session_end":
            return _with_duration(properties, warnings)
        if event_type == "feedback":
            # What people write in a comment is theirs; scoring reads the score alone.
            return {name: properties[name] for name in _FEEDBACK_KEPT if name in properties}
        return properties

    def _allow_old(self, *, has_id: bool) -> None:
        days = self._rules.max_age.days
        if not self._submission.may_backfill:
            raise InvalidMessage(
                Code.TOO_OLD, f"occurred_at: older than {days} days; the key needs scope backfill"
            )
        if not has_id:
            raise InvalidMessage(
                Code.TOO_OLD, f"occurred_at: older than {days} days; it needs an id"
            )


def placed(event: UnplacedEvent, account: str) -> UsageEvent:
    """As scoring would have placed it: it may have by now, and the second is then a repeat."""
    return UsageEvent(
        id=event.id,
        source=event.source,
        account=account,
        user=event.user,
        type=event.type,
        occurred_at=event.occurred_at,
        client_at=event.client_at,
        received_at=event.received_at,
        format=event.format,
        backfill=event.backfill,
        properties=event.properties,
        placed_by=PlacedBy.ONLY_ACCOUNT,
    )


def _unplaced(event: UsageEvent, user: str) -> UnplacedEvent:
    return UnplacedEvent(
        id=event.id,
        source=event.source,
        user=user,
        type=event.type,
        occurred_at=event.occurred_at,
        client_at=event.client_at,
        received_at=event.received_at,
        format=event.format,
        backfill=event.backfill,
        properties=event.properties,
    )


def _null_what_is_no_number(draft: Draft, warnings: list[ItemWarning]) -> None:
    for name in ("id", "account", "user", "type", "occurred_at"):
        value = getattr(draft, name)
        if isinstance(value, float) and not math.isfinite(value):
            setattr(draft, name, None)
            if not warnings:
                warnings.append(WARNINGS[WarningCode.NUMBER_REPAIRED])


def stated_id(value: object) -> str | None:
    """The id of an item that is rejected, where it has one that can be told back."""
    try:
        text = event_id_of(value)
    except InvalidMessage:
        return None
    return text if is_storable(text) else None


def has_duration(properties: Mapping[str, object]) -> bool:
    seconds = properties.get("duration_seconds")
    return (type(seconds) is int or type(seconds) is float) and 0 <= seconds <= MAX_DURATION_SECONDS


def _with_duration(properties: dict[str, object], warnings: list[ItemWarning]) -> dict[str, object]:
    if has_duration(properties):
        return properties
    warnings.append(WARNINGS[WarningCode.INVALID_DURATION])
    return {name: value for name, value in properties.items() if name != "duration_seconds"}
