"""What callers say about accounts becomes changes to the directory, as they came.

Ingest merges nothing and keeps nothing: a change says what it sets and what it clears, and scoring
applies it. A field that breaks its rule rejects the account, and every such field is named.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, TypeAlias

import msgspec

from services.ingest import traits
from services.ingest.envelope import Shape, open_envelope, open_lines, parse_item
from services.ingest.identity import account_of
from services.ingest.items import Item, Parsed
from services.ingest.replies import RefusalCode, Refused
from services.ingest.results import Code, Decoded, ItemWarning, Result, WarningCode
from shared.errors import InvalidMessage
from shared.log import Record
from shared.messages import DIRECTORY_CHANGES, AccountFields, DirectoryChange, encode
from shared.traceparent import RecordHeaders

Operation: TypeAlias = Literal["put", "patch"]

_SHAPE = Shape("accounts")
_IDS = ("id", "account_id", "tenant_id")
_NAMED_TRAITS = 10
_MAX_TRAIT_NAME = 50
_OWN_WORDS = frozenset(AccountFields.__struct_fields__)
_ALIASES = {"renewal_date": "contract_end"}
_TRAIT_ALIASES = {"monthly_spend": "mrr", "csm": "owner"}
_MIDNIGHT = re.compile(
    r"(\d{4}-\d{2}-\d{2})[T ]00:00(:00(\.0{1,9})?)?(Z|[+-]\d{2}:?\d{2})?", re.ASCII
)


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
    trace: RecordHeaders = ()
    """The headers of all its records."""


@dataclass(slots=True, kw_only=True)
class Statement:
    """What somebody says of an account, field by field, after each field's rule."""

    fields: dict[str, object] = field(default_factory=dict)
    cleared: set[str] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    """The field, and the rule that it breaks."""


def decode(body: bytes, rules: DirectoryRules, submission: DirectorySubmission) -> Decoded:
    """One result per account; raises Refused where there are none to speak of."""
    if submission.lines:
        envelope = open_lines(body, noun=_SHAPE.items, max_items=rules.max_items)
    else:
        envelope = open_envelope(body, _SHAPE, max_items=rules.max_items)
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


def patch_from_traits(
    account: str, said: Mapping[str, object], *, source: str, received_at: datetime
) -> tuple[DirectoryChange, ItemWarning | None]:
    """What an SDK says of a group, as a patch; `account` must have passed its own rule.

    Names as in the directory, or the same in camelCase; null is as absent, since SDKs write it for
    what they do not know. What cannot be kept is dropped, and the one warning names it: a trait is
    no reason to lose the rest. An empty patch is one too: it makes the account known.
    """
    fields: dict[str, object] = {}
    dropped: list[str] = []
    # The directory's own word for a field counts before every other word for it.
    for name, stated in sorted(said.items(), key=lambda trait: trait[0] not in _OWN_WORDS):
        if stated is None or (name in _IDS and _names(stated, account)):
            continue
        meant = _TRAIT_FIELDS.get(name)
        if meant is None:
            dropped.append(_shown(name))
            continue
        try:
            read = traits.FIELDS[meant](_without_midnight(stated))
        except ValueError as error:
            dropped.append(f"{name} ({error})")
            continue
        if read is not None and fields.setdefault(meant, read) != read:
            dropped.append(f"{name} (differs from {meant})")
    for name, why in _contradictions(fields):
        del fields[name]
        dropped.append(f"{name} ({why})")
    change = DirectoryChange(
        account=account,
        op="patch",
        source=source,
        received_at=received_at,
        fields=msgspec.convert(fields, AccountFields),
    )
    return change, unknown_warning(dropped) if dropped else None


def read_fields(stated: Mapping[str, object]) -> Statement:
    """Each field of the directory by its own rule; null clears, and ids are not looked at."""
    said = Statement()
    for name, value in stated.items():
        reader = traits.FIELDS.get(name)
        if reader is None:
            if name not in _IDS:
                said.unknown.append(_shown(name))
            continue
        try:
            read = None if value is None else reader(value)
        except ValueError as error:
            said.problems.append((name, str(error)))
            continue
        meant = _ALIASES.get(name, name)
        if meant in said.fields and said.fields[meant] != read:
            said.problems.append(("renewal_date", "differs from contract_end"))
        elif read is None:
            said.cleared.add(meant)
        else:
            said.fields[meant] = read
    said.problems.extend(_contradictions(said.fields))
    return said


def change_of(account: str, said: Statement, submission: DirectorySubmission) -> DirectoryChange:
    """The change that is asked for; raises InvalidMessage, naming all fields at fault."""
    if said.problems:
        raise InvalidMessage(
            Code.INVALID_FIELD, "; ".join(f"{name}: {why}" for name, why in said.problems)
        )
    is_patch = submission.operation == "patch"
    return DirectoryChange(
        account=account,
        op=submission.operation,
        source=submission.source,
        received_at=submission.received_at,
        fields=msgspec.convert(said.fields, AccountFields),
        # A put replaces the whole record: what it does not set is cleared anyway.
        cleared=tuple(sorted(said.cleared - said.fields.keys())) if is_patch else (),
    )


def record_of(
    change: DirectoryChange, rules: DirectoryRules, submission: DirectorySubmission
) -> Record:
    """The change as a record of its account; raises InvalidMessage where it is too large."""
    key, value = change.account.encode(), encode(change)
    if len(key) + len(value) > rules.max_record_bytes:
        raise InvalidMessage(
            Code.EVENT_TOO_LARGE, f"as a record it takes more than {rules.max_record_bytes} bytes"
        )
    return Record(key=key, value=value, headers=submission.trace)


def unknown_warning(names: Sequence[str]) -> ItemWarning:
    more = len(names) - _NAMED_TRAITS
    return ItemWarning(
        WarningCode.UNKNOWN_TRAIT,
        f"not kept: {', '.join(names[:_NAMED_TRAITS])}" + (f" and {more} more" if more > 0 else ""),
    )


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
        said = read_fields(value)
        record = record_of(change_of(account, said, submission), rules, submission)
    except InvalidMessage as error:
        kept = item if isinstance(item, Parsed) else bytes(item)
        decoded.reject(index, account, error.code, error.detail, kept)
        return
    warnings = (unknown_warning(said.unknown),) if said.unknown else ()
    result = Result(index, account, "retry", None, None, warnings)
    decoded.wait_for(result, DIRECTORY_CHANGES, record)


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


def _account(value: dict[str, object], addressed: str | None) -> str:
    named = {name: value[name] for name in _IDS if value.get(name) is not None}
    accounts = {account_of(stated, name) for name, stated in named.items()}
    if addressed is not None:
        accounts.add(account_of(addressed, "the id in the address"))
    if len(accounts) > 1:
        raise InvalidMessage(Code.CONFLICTING_ACCOUNT, "it names two different accounts")
    return accounts.pop() if accounts else account_of(None, "id")


def _contradictions(fields: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Each field that cannot stand beside the others, and why."""
    if fields.get("status") == "churned" and "churned_at" not in fields:
        yield "status", "churned needs churned_at"
    start, end = fields.get("contract_start"), fields.get("contract_end")
    if isinstance(start, date) and isinstance(end, date) and end < start:
        yield "contract_end", "lies before contract_start"


def _names(stated: object, account: str) -> bool:
    return type(stated) in (int, str) and str(stated) == account


def _without_midnight(value: object) -> object:
    """SDKs write a date as a moment: midnight, as written, is that day. No other time is a date."""
    if isinstance(value, str) and (match := _MIDNIGHT.fullmatch(value)):
        return match[1]
    return value


def _shown(name: str) -> str:
    """A name as a message may hold it: short, and without half a character."""
    return name[:_MAX_TRAIT_NAME].encode("utf-8", "replace").decode()


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


_TRAIT_FIELDS = {
    spelled: meant
    for name, meant in {
        **{name: _ALIASES.get(name, name) for name in traits.FIELDS},
        **_TRAIT_ALIASES,
    }.items()
    for spelled in (name, _camel(name))
}
