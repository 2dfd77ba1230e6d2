"""Items from quarantine read once more, after an operator has removed the cause."""

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from services.ingest import account_rows, directory
from services.ingest.app import directory_rules, event_rules
from services.ingest.decoding import decode
from services.ingest.directory import DirectorySubmission
from services.ingest.envelope import Envelope
from services.ingest.events import placed
from services.ingest.identity import account_of
from services.ingest.items import Parsed
from services.ingest.replies import Refused
from services.ingest.results import Code, Decoded
from services.ingest.routes import EVENT_PATHS
from services.ingest.settings import IngestSettings
from services.ingest.wire import FormatName, Reading, Submission, WireFormat
from shared import messages, traceparent
from shared.credentials import HashedUser, KeyRing
from shared.errors import InvalidMessage
from shared.log import Record
from shared.messages import UNPLACED_EVENTS, USAGE_EVENTS, UnplacedEvent, encode
from shared.quarantine import Rejected
from shared.traceparent import RecordHeaders

_HASHED = re.compile(r"u1:[0-9a-f]{32}", re.ASCII)


class Replayer:
    """Decodes items as of their arrival, by today's rules and today's settings of their sources.

    However often that is done, source, id and times come out the same: it counts once. An item
    without an id takes the one that its request gave it, else that of its place in quarantine. An
    operator who replays may do so with events of any age.
    """

    def __init__(
        self, settings: IngestSettings, ring: KeyRing, *, may_change_accounts: Collection[str]
    ) -> None:
        """`may_change_accounts` names the sources that may now; others where their key could."""
        self._event_rules = event_rules(settings, _already_hashed)
        self._directory_rules = directory_rules(settings)
        self._ring = ring
        self._may_change_accounts = may_change_accounts

    def records(self, rejected: Rejected) -> Sequence[tuple[str, Record]]:
        """What the item becomes, by topic; raises InvalidMessage where it is rejected again."""
        said = rejected.said
        try:
            received_at = datetime.fromisoformat(said["received_at"])
            skew = (
                timedelta(seconds=float(said["skew_seconds"])) if "skew_seconds" in said else None
            )
            is_account = said["format"] == FormatName.DIRECTORY
            wire = None if is_account else EVENT_PATHS[said["path"]]
        except (KeyError, ValueError) as error:
            raise InvalidMessage("unknown_origin", "it does not say how to read it") from error
        try:
            if wire is None:
                decoded = self._account(rejected, received_at)
            else:
                sent_at = None if skew is None else received_at - skew
                decoded = self._event(rejected, wire, received_at, sent_at)
        except Refused as error:
            raise InvalidMessage(error.code, error.message) from error
        for result in decoded.results:
            if result.status == "rejected":
                raise InvalidMessage(result.code or "", result.message or "")
        return [
            (topic, record)
            for topic, parcel in decoded.parcels.items()
            for record in parcel.records
        ]

    def of_user_alone(self, rejected: Rejected) -> tuple[str, Record]:
        """An event that named no account and found none: as it was, unless its source has one now.

        Raises InvalidMessage where that account is none.
        """
        account = self._ring.source(rejected.source or "").default_account
        if account is None:
            as_it_was = Record(key=rejected.key, value=rejected.value, headers=rejected.own_headers)
            return UNPLACED_EVENTS, as_it_was
        event = placed(messages.decode(UnplacedEvent, rejected.value), account_of(account))
        key = event.account.encode()
        return USAGE_EVENTS, Record(key=key, value=encode(event), headers=rejected.own_headers)

    def _event(
        self,
        rejected: Rejected,
        wire: WireFormat,
        received_at: datetime,
        sent_at: datetime | None,
    ) -> Decoded:
        said = rejected.said
        own_id = said.get("id", f"quarantine-{rejected.id}")

        def read(item: bytes | Parsed, submission: Submission) -> Reading:
            reading = wire.read(item, submission)
            stated = reading.draft.id
            if stated is None or (isinstance(stated, float) and not math.isfinite(stated)):
                reading.draft.id = own_id
            return reading

        def open_item(body: bytes, _submission: Submission, _max_items: int) -> Envelope:
            return Envelope([body], None if sent_at is None else sent_at.isoformat())

        submission = Submission(
            source=self._ring.source(rejected.source or ""),
            received_at=received_at,
            trace=_trace(rejected),
            may_backfill=True,
            may_change_accounts=rejected.source in self._may_change_accounts
            or "accounts_write" in said,
            marks_backfill="backfill" in said,
            path=said["path"],
        )
        one = replace(wire, open=open_item, read=read)
        return decode(one, rejected.value or b"", submission, self._event_rules)

    def _account(self, rejected: Rejected, received_at: datetime) -> Decoded:
        said, item = rejected.said, rejected.value or b""
        submission = DirectorySubmission(
            source=rejected.source or "",
            received_at=received_at,
            trace=_trace(rejected),
            operation="put" if said.get("operation") == "put" else "patch",
            # As a line of its own: what is no JSON cannot become two accounts.
            lines=True,
        )
        if "csv" in said:
            return account_rows.decode(item, self._directory_rules, submission)
        if "addressed" in said:
            return directory.decode_one(item, said["addressed"], self._directory_rules, submission)
        return directory.decode(item.replace(b"\n", b" "), self._directory_rules, submission)


def _trace(rejected: Rejected) -> RecordHeaders:
    """What is taken in again goes on in the trace of its request."""
    return traceparent.headers_of(traceparent.of_headers(rejected.own_headers))


def _already_hashed(user: str) -> HashedUser:
    """People in quarantine are hashed on their way in, so a hash there cannot be a caller's."""
    if _HASHED.fullmatch(user) is None:
        raise InvalidMessage(Code.INVALID_FIELD, "user_id: quarantine did not find and hash it")
    return HashedUser(user)
