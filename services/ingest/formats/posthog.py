"""What PostHog's libraries send: V1, which tells what became of each event, and V0, which does not.

The account is a group of the event, of the type that the source names; `$groupidentify` says what
that group is called and has. Of an event's properties those with `$` are PostHog's own.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from services.ingest.answers import all_rejected, partial_failure, send_again
from services.ingest.envelope import Envelope, Shape, member_of, open_envelope
from services.ingest.items import Item, Parsed
from services.ingest.replies import RefusalCode, Refused, Reply
from services.ingest.results import Code, Decoded, Result
from services.ingest.times import is_time
from services.ingest.wire import (
    Draft,
    FormatName,
    Reading,
    Submission,
    WireFormat,
    bearer_key,
    read_item,
    without_system_keys,
)
from shared.credentials import Scope
from shared.errors import InvalidMessage
from shared.messages import Source

V1_PATH = "/i/v1/analytics/events"
V0_PATH = "/batch"

_V1_SHAPE = Shape("batch", None)
_V0_SHAPE = Shape("batch")
_SENT = b"posthog-request-timestamp"
_USUAL_GROUP = "company"
_TYPES = {"$pageview": "page_view", "$screen": "screen_view"}
_SAYS_HISTORY = re.compile(rb'"historical_migration"\s*:\s*true')
_NO_ACCOUNT = (
    "its $groups name no account, or nobody says which of them does, and no user leads to one;"
    " the source's account_group says which type is one"
)

_Outcome: TypeAlias = Literal["ok", "warning", "drop", "retry"]
_RANKS: Final[dict[_Outcome, int]] = {"ok": 0, "warning": 1, "drop": 2, "retry": 3}


class _Event(msgspec.Struct, gc=False):
    event: object = None
    uuid: object = None
    distinct_id: object = None
    timestamp: object = None
    options: object = None
    properties: object = None


class _Name(msgspec.Struct, gc=False):
    event: object = None
    uuid: object = None


class _Opening(msgspec.Struct):
    api_key: object = None
    historical_migration: object = None


class _Told(msgspec.Struct, frozen=True, omit_defaults=True):
    result: _Outcome
    details: str | None = None


class _V1Body(msgspec.Struct):
    results: dict[str, _Told]


class _Rejected(msgspec.Struct):
    index: int
    id: str | None
    code: str | None
    message: str | None


class _V0Body(msgspec.Struct):
    status: int
    accepted: int
    rejected: list[_Rejected]


_decoder = msgspec.json.Decoder(_Event)
_name_decoder = msgspec.json.Decoder(_Name)
_opening_decoder = msgspec.json.Decoder(_Opening)
_encoder = msgspec.json.Encoder()

_OK = _Told("ok")
_ALL_GOOD = Reply(status=200, body=b'{"status":1}')


def _body_key(body: bytes) -> str | None:
    key = _member(body, "api_key")
    return key.strip() if isinstance(key, str) else None


def _open_v1(body: bytes, submission: Submission, max_items: int) -> Envelope:
    is_history = _is_history(body, submission)
    items = open_envelope(body, _V1_SHAPE, max_items=max_items).items
    # The body's created_at stays the same when it is sent again: it tells nothing about the clock.
    return _sent(items, submission.headers.get(_SENT, b"").decode("latin-1"), is_history=is_history)


def _open_v0(body: bytes, submission: Submission, max_items: int) -> Envelope:
    is_history = _is_history(body, submission)
    envelope = open_envelope(body, _V0_SHAPE, max_items=max_items)
    return _sent(envelope.items, envelope.sent_at, is_history=is_history)


def _sent(items: Sequence[Item], sent_at: object, *, is_history: bool) -> Envelope:
    """A sender that states its time in a way of its own still sends good events."""
    return Envelope(items, sent_at if is_time(sent_at) else None, is_history)


def _is_history(body: bytes, submission: Submission) -> bool:
    """An import of history has to be allowed to this key as one, like by `Perennial-Backfill`."""
    if _SAYS_HISTORY.search(body) is None or _member(body, "historical_migration") is not True:
        return False
    if not submission.may_backfill:
        raise Refused(
            RefusalCode.SCOPE_MISSING,
            f"historical_migration: the key lacks the scope {Scope.BACKFILL}",
        )
    return True


def _member(body: bytes, name: Literal["api_key", "historical_migration"]) -> object:
    """Found without building the events around it, where that works."""
    try:
        return getattr(_opening_decoder.decode(body), name)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return member_of(body, name)


def _read_v1(item: bytes | Parsed, submission: Submission) -> Reading:
    try:
        event, is_suspect = read_item(item, _Event, _decoder)
    except InvalidMessage as error:
        raise _nameless() from error
    if _text(event.uuid) is None:
        raise _nameless()
    return _reading(event, submission, is_suspect=is_suspect)


def _read_v0(item: bytes | Parsed, submission: Submission) -> Reading:
    event, is_suspect = read_item(item, _Event, _decoder)
    return _reading(event, submission, is_suspect=is_suspect)


def _nameless() -> Refused:
    """The answer names events by their uuid, and what it does not name passes for stored."""
    return Refused(
        RefusalCode.INVALID_ENVELOPE, "batch: every event must be an object with a uuid of its own"
    )


def _reading(event: _Event, submission: Submission, *, is_suspect: bool) -> Reading:
    properties = event.properties if isinstance(event.properties, dict) else {}
    options = event.options if isinstance(event.options, dict) else {}
    groups = _object(properties.get("$groups"))
    described = properties.get("$group_type") if event.event == "$groupidentify" else None
    if isinstance(described, str):
        groups = {**groups, described: properties.get("$group_key")}
    group = _account_group(groups, submission.source)
    if described is not None:
        # "The only one" is too weak a reason to make an account of a project that is described.
        group = submission.source.account_group or _USUAL_GROUP
    draft = Draft(
        id=event.uuid,
        account=None if group is None else groups.get(group),
        user=_user(event, properties, options),
        type=_TYPES.get(event.event, event.event) if isinstance(event.event, str) else event.event,
        occurred_at=event.timestamp,
        properties=_kept(event),
    )
    return Reading(
        draft,
        is_suspect,
        is_corrected=True
        in (options.get("disable_skew_correction"), properties.get("$ignore_sent_at")),
        traits=_object(properties.get("$group_set"))
        if group is not None and group == described
        else None,
        fault=InvalidMessage(Code.MISSING_ACCOUNT, _NO_ACCOUNT)
        if _is_unclear(groups, group, submission.source)
        else None,
    )


def _account_group(groups: Mapping[str, object], source: Source) -> str | None:
    """Which type of group is the account: the source's own, else the usual or only one.

    Where the source names its type, no other will do: a project is no account.
    """
    if source.account_group is not None:
        return source.account_group
    if _USUAL_GROUP in groups:
        return _USUAL_GROUP
    return next(iter(groups)) if len(groups) == 1 else None


def _is_unclear(groups: Mapping[str, object], group: str | None, source: Source) -> bool:
    """Whether one of several groups may be the account: it is stated, and the user tells less.

    The event is kept as it came until somebody says which type is meant: of what is taken in no
    group is left.
    """
    return group is None and len(groups) > 1 and source.default_account is None


def _user(event: _Event, properties: Mapping[str, object], options: Mapping[str, object]) -> object:
    if (
        options.get("process_person_profile") is False
        or properties.get("$process_person_profile") is False
    ):
        return None  # Of nobody: the library made the distinct_id up.
    if event.event == "$groupidentify":
        made_up = f"${properties.get('$group_type')}_{properties.get('$group_key')}"
        return None if event.distinct_id == made_up else event.distinct_id
    return event.distinct_id


def _kept(event: _Event) -> object:
    """The properties that are the sender's own, without people's names in clear."""
    if not isinstance(event.properties, dict):
        return event.properties
    if event.event == "$create_alias":
        return {}
    kept = without_system_keys(event.properties)
    if "distinct_id" not in kept:
        return kept
    return {name: value for name, value in kept.items() if name != "distinct_id"}


def _answer_v1(decoded: Decoded, request_id: str) -> Reply:
    """Every uuid with what became of it; of equal ones the worst."""
    rejects = {reject.result.index: reject for reject in decoded.rejects}
    answers: dict[str, _Told] = {}
    for result in decoded.results:
        reject = rejects.get(result.index)
        name = None if reject is None else _named(reject.item)
        uuid = result.id if name is None else _text(name.uuid)
        if uuid is None:  # So large that nobody looked inside before.
            return _unnamed(decoded, request_id)
        told = _tell(result, name, decoded, is_dropped=reject is not None and reject.is_dropped)
        if _RANKS[told.result] >= _RANKS[answers.get(uuid, _OK).result]:
            answers[uuid] = told
    body = _V1Body(answers)
    try:
        data = _encoder.encode(body)
    except UnicodeEncodeError:  # Half a character in a uuid is told back as it came.
        data = json.dumps(msgspec.to_builtins(body)).encode("ascii")
    again = any(told.result == "retry" for told in answers.values())
    return Reply(status=200, body=data, headers=((b"retry-after", b"1"),) if again else ())


def _tell(result: Result, name: _Name | None, decoded: Decoded, *, is_dropped: bool) -> _Told:
    match result.status:
        case "accepted" if not result.warnings:
            return _OK
        case "accepted":
            warnings = (f"{warning.code}: {warning.message}" for warning in result.warnings)
            return _Told("warning", "; ".join(warnings))
        case "retry":
            return _Told("retry", f"{result.code}: {result.message}")
    why = f"{result.code}: {_why(result)}"
    if is_dropped or not _is_of_no_account(result, name):
        return _Told("drop", why)
    # Nobody hears of a warning: as in V0, it may be given only for what is safe somewhere.
    return _Told("warning" if decoded.are_rejects_kept else "retry", why)


def _unnamed(decoded: Decoded, request_id: str) -> Reply:
    if decoded.has("retry"):
        return send_again(decoded.results, request_id, shown=decoded.results)
    if decoded.has("accepted"):
        return partial_failure(decoded.results, request_id)
    return all_rejected(decoded.results, request_id, shown=decoded.results)


def _answer_v0(decoded: Decoded, request_id: str) -> Reply:
    rejected = [result for result in decoded.results if result.status == "rejected"]
    if decoded.has("retry") or (rejected and not decoded.are_rejects_kept):
        return send_again(decoded.results, request_id)
    if not rejected:
        return _ALL_GOOD
    is_lost = decoded.has_dropped()
    if len(rejected) == len(decoded.results) and (is_lost or not _are_of_no_account(decoded)):
        return all_rejected(decoded.results, request_id, shown=decoded.results)
    if is_lost:
        return partial_failure(decoded.results, request_id)
    body = _V0Body(
        status=1,
        accepted=len(decoded.results) - len(rejected),
        rejected=[_Rejected(each.index, each.id, each.code, _why(each)) for each in rejected],
    )
    return Reply(status=200, body=_encoder.encode(body))


def _why(result: Result) -> str | None:
    return _NO_ACCOUNT if result.code == Code.MISSING_ACCOUNT else result.message


def _are_of_no_account(decoded: Decoded) -> bool:
    return all(_is_of_no_account(reject.result, _named(reject.item)) for reject in decoded.rejects)


def _is_of_no_account(result: Result, name: _Name | None) -> bool:
    """A visitor's flag, or what another group is called: no activity, and nobody's.

    Libraries send these by themselves or have no parameter for a group: to report one as an error
    would blame the caller for what nobody can put right. With a person they are taken in.
    """
    return (
        result.code == Code.MISSING_ACCOUNT
        and name is not None
        and isinstance(name.event, str)
        and name.event.startswith("$")
        and name.event not in _TYPES
    )


def _named(item: bytes | Parsed | None) -> _Name | None:
    """What a rejected item calls itself, whatever is wrong with it."""
    if item is None:
        return None
    try:
        return read_item(item, _Name, _name_decoder)[0]
    except InvalidMessage:
        return None


def _text(uuid: object) -> str | None:
    """The uuid as the answer names it, however long or odd."""
    return str(uuid) if type(uuid) is int or type(uuid) is str else None


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


V1 = WireFormat(
    name=FormatName.POSTHOG, key=bearer_key, open=_open_v1, read=_read_v1, answer=_answer_v1
)
V0 = WireFormat(
    name=FormatName.POSTHOG,
    key=bearer_key,
    body_key=_body_key,
    open=_open_v0,
    read=_read_v0,
    answer=_answer_v0,
)
