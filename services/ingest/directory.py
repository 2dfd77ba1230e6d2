"""What callers say about accounts becomes changes to the directory, as they came.

Ingest merges nothing and keeps nothing: a change says what it sets and what it clears, and scoring
applies it. A field that breaks its rule rejects the account, and every such field is named.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, TypeAlias

import msgspec

from services.ingest import traits
from services.ingest.envelope import Item, Parsed, open_envelope, parse_item
from services.ingest.identity import account_of
from services.ingest.replies import RefusalCode, Refused
from services.ingest.results import Code, Decoded, ItemWarning, Result, WarningCode
from shared.errors import InvalidMessage
from shared.log import Record
from shared.messages import AccountFields, DirectoryChange, encode

NAME = "directory"

Operation: TypeAlias = Literal["put", "patch"]

_IDS = ("id", "account_id", "tenant_id")
_NAMED_TRAITS = 10
_MAX_TRAIT_NAME = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryRules:
    """What holds for all requests of this process."""

    max_items: int
    max_item_bytes: int
    max_record_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySubmission:
    """What one request says about all its accounts."""

    source: str
    received_at: datetime
    operation: Operation
    lines: bool = False


def decode(body: bytes, rules: DirectoryRules, submission: DirectorySubmission) -> Decoded:
    """One result per account; raises Refused where there are none to speak of."""
    envelope = open_envelope(body, "accounts", lines=submission.lines, max_items=rules.max_items)
    decoded = Decoded()
    for index, item in enumerate(envelope.items):
        _decode_item(decoded, item, index=index, rules=rules, submission=submission)
    return decoded


def decode_one(
    body: bytes, account: str, rules: DirectoryRules, submission: DirectorySubmission
) -> Decoded:
    """The one account that the address names; the body may name it again, but no other."""
    decoded = Decoded()
    item = _whole(body) if len(body) <= rules.max_item_bytes else Parsed(None, len(body))
    _decode_item(decoded, item, addressed=account, rules=rules, submission=submission)
    return decoded


def _whole(body: bytes) -> Parsed:
    try:
        value = parse_item(body)
    except InvalidMessage as error:
        raise Refused(RefusalCode.INVALID_JSON, f"the body is not JSON: {error.detail}") from error
    if not isinstance(value, dict):
        raise Refused(RefusalCode.INVALID_ENVELOPE, "the body must be one object")
    return Parsed(value, len(body))


def _decode_item(
    decoded: Decoded,
    item: Item,
    *,
    index: int = 0,
    addressed: str | None = None,
    rules: DirectoryRules,
    submission: DirectorySubmission,
) -> None:
    account = None
    try:
        value = _object(item, rules)
        account = _account(value, addressed)
        change, unknown = _change(value, account, submission)
        record = _record(change, rules)
    except InvalidMessage as error:
        decoded.reject(index, account, error.code, error.detail)
        return
    warnings = (_unknown_warning(unknown),) if unknown else ()
    decoded.wait_for(Result(index, account, "retry", None, None, warnings), record)


def _object(item: Item, rules: DirectoryRules) -> dict[str, object]:
    size = item.size if isinstance(item, Parsed) else len(bytes(item))
    if size > rules.max_item_bytes:
        raise InvalidMessage(
            Code.EVENT_TOO_LARGE, f"it takes more than {rules.max_item_bytes} bytes"
        )
    value = parse_item(item)
    if not isinstance(value, dict):
        raise InvalidMessage(Code.INVALID_FIELD, "an account must be an object")
    return value


def _record(change: DirectoryChange, rules: DirectoryRules) -> Record:
    key, value = change.account.encode(), encode(change)
    if len(key) + len(value) > rules.max_record_bytes:
        raise InvalidMessage(
            Code.EVENT_TOO_LARGE, f"as a record it takes more than {rules.max_record_bytes} bytes"
        )
    return Record(key=key, value=value)


def _account(value: dict[str, object], addressed: str | None) -> str:
    named = {name: value[name] for name in _IDS if value.get(name) is not None}
    accounts = {account_of(stated, name) for name, stated in named.items()}
    if addressed is not None:
        accounts.add(account_of(addressed, "the id in the address"))
    if len(accounts) > 1:
        raise InvalidMessage(Code.CONFLICTING_ACCOUNT, "it names two different accounts")
    return accounts.pop() if accounts else account_of(None, "id")


def _change(
    value: dict[str, object], account: str, submission: DirectorySubmission
) -> tuple[DirectoryChange, list[str]]:
    fields: dict[str, object] = {}
    cleared: set[str] = set()
    unknown: list[str] = []
    problems: list[str] = []
    for name, stated in value.items():
        reader = traits.FIELDS.get(name)
        if reader is None:
            if name not in _IDS:
                unknown.append(name)
            continue
        try:
            read = None if stated is None else reader(stated)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        field = "contract_end" if name == "renewal_date" else name
        if field in fields and fields[field] != read:
            problems.append("renewal_date: differs from contract_end")
        elif read is None:
            cleared.add(field)
        else:
            fields[field] = read
    problems.extend(_contradictions(fields))
    if problems:
        raise InvalidMessage(Code.INVALID_FIELD, "; ".join(problems))
    is_patch = submission.operation == "patch"
    change = DirectoryChange(
        account=account,
        op=submission.operation,
        source=submission.source,
        received_at=submission.received_at,
        fields=msgspec.convert(fields, AccountFields),
        # A put replaces the whole record: what it does not set is cleared anyway.
        cleared=tuple(sorted(cleared - fields.keys())) if is_patch else (),
    )
    return change, unknown


def _contradictions(fields: dict[str, object]) -> list[str]:
    problems = []
    if fields.get("status") == "churned" and "churned_at" not in fields:
        problems.append("status: churned needs churned_at")
    start, end = fields.get("contract_start"), fields.get("contract_end")
    if isinstance(start, date) and isinstance(end, date) and end < start:
        problems.append("contract_end: lies before contract_start")
    return problems


def _unknown_warning(names: Sequence[str]) -> ItemWarning:
    shown = ", ".join(
        name[:_MAX_TRAIT_NAME].encode("utf-8", "replace").decode() for name in names[:_NAMED_TRAITS]
    )
    more = len(names) - _NAMED_TRAITS
    return ItemWarning(
        WarningCode.UNKNOWN_TRAIT,
        f"not kept: {shown}" + (f" and {more} more" if more > 0 else ""),
    )
