"""Requests to erase an account or a person, as changes to the directory.

What is erased stays so: scoring remembers when, and skips what was received before it, whoever
replays it. A person leaves ingest as everywhere, as a keyed hash.
"""

from collections.abc import Callable
from datetime import datetime

from services.ingest.identity import account_of, user_of
from services.ingest.results import Code, Decoded, Result
from shared.credentials import HashedUser
from shared.errors import InvalidMessage
from shared.log import Record
from shared.messages import DIRECTORY_CHANGES, DirectoryChange, encode
from shared.traceparent import RecordHeaders


def erase_account(
    account: str, *, source: str, received_at: datetime, trace: RecordHeaders = ()
) -> Decoded:
    """The one account that the address names."""
    try:
        known = account_of(account, "the id in the address")
    except InvalidMessage as error:
        return _rejected(error)
    change = DirectoryChange(account=known, op="erase", source=source, received_at=received_at)
    return _asked(known, known, change, trace)


def erase_user(
    user_id: str,
    account: str | None,
    *,
    hash_user: Callable[[str], HashedUser],
    source: str,
    received_at: datetime,
    trace: RecordHeaders = (),
) -> Decoded:
    """One person in one account; in all of them where `account` is None."""
    try:
        person = _person(user_id)
        known = "" if account is None else account_of(account, "account_id")
    except InvalidMessage as error:
        return _rejected(error)
    hashed = hash_user(person)
    change = DirectoryChange(
        account=known, op="erase", user=hashed, source=source, received_at=received_at
    )
    return _asked(person, known or hashed, change, trace)


def _person(user_id: str) -> str:
    person = user_of(user_id)
    if person is None:
        raise InvalidMessage(Code.INVALID_FIELD, "user_id: is a placeholder, not a person")
    return person


def _asked(item_id: str, key: str, change: DirectoryChange, trace: RecordHeaders) -> Decoded:
    decoded = Decoded()
    record = Record(key=key.encode(), value=encode(change), headers=trace)
    decoded.wait_for(Result(0, item_id, "retry"), DIRECTORY_CHANGES, record)
    return decoded


def _rejected(error: InvalidMessage) -> Decoded:
    # Not for quarantine: there is no body to keep, and nobody may replay it by the way.
    return Decoded(results=[Result(0, None, "rejected", error.code, error.detail)])
