"""Changes fold to the record that a plain model has, whatever the operations; erasure is final."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import reduce
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.activity import user_key
from services.scoring.domain.directory import (
    ChangeResult,
    Erasures,
    Known,
    apply,
    without_erased,
)
from shared.messages import AccountFields, DirectoryChange
from tests.factories import NOW, directory_change, usage_event

SECOND = timedelta(seconds=1)
FIELDS: dict[str, st.SearchStrategy[object]] = {
    "name": st.sampled_from(["Acme", "Acme & Co"]),
    "seats": st.integers(0, 3),
    "mrr": st.sampled_from([Decimal(1), Decimal("2.50")]),
    "contract_end": st.sampled_from([date(2026, 12, 31), date(2027, 12, 31)]),
}
Model: TypeAlias = dict[str, object] | None


@st.composite
def logs(draw: st.DrawFn) -> list[DirectoryChange]:
    """What one process of ingest wrote: in the order of arrival, often in the same moment."""
    log = []
    received_at = NOW
    for _ in range(draw(st.integers(0, 8))):
        received_at += draw(st.sampled_from([timedelta(0), SECOND]))
        op = draw(st.sampled_from(["put", "patch", "patch", "erase"]))
        set_ = draw(st.fixed_dictionaries({}, optional=FIELDS)) if op != "erase" else {}
        cleared = draw(st.sets(st.sampled_from(sorted(FIELDS)))) if op == "patch" else set()
        log.append(
            directory_change(
                op=op,
                received_at=received_at,
                fields=msgspec.convert(set_, AccountFields),
                cleared=tuple(sorted(cleared - set_.keys())),
            )
        )
    return log


def plain(log: list[DirectoryChange]) -> Model:
    """The same with a dict: what a reader of the wire page would write."""
    record: Model = None
    erased_at: datetime | None = None
    for change in log:
        if erased_at is not None and change.received_at <= erased_at:
            continue
        if change.op == "erase":
            record, erased_at = None, change.received_at
            continue
        kept = {} if record is None or change.op == "put" else record
        kept = {name: value for name, value in kept.items() if name not in change.cleared}
        said = msgspec.structs.asdict(change.fields)
        record = kept | {name: value for name, value in said.items() if value is not None}
    return record


def fold(log: list[DirectoryChange], start: Known | None = None) -> Known:
    return reduce(lambda known, change: apply(known, change)[0], log, start or Known())


@given(logs())
def test_changes_fold_to_the_record_of_a_plain_model(log: list[DirectoryChange]) -> None:
    expected = plain(log)
    fields = fold(log).fields
    assert fields == (None if expected is None else msgspec.convert(expected, AccountFields))


@given(logs())
def test_the_log_read_again_from_its_start_ends_in_the_same_record(
    log: list[DirectoryChange],
) -> None:
    once = fold(log)
    again = fold(log, once)
    assert (again.fields, again.erased_at) == (once.fields, once.erased_at)


def test_a_replay_from_the_start_brings_nothing_back() -> None:
    log = [directory_change(), directory_change(op="erase", received_at=NOW + SECOND)]
    erased = fold(log)
    assert erased == Known(erased_at=NOW + SECOND)
    assert fold(log, erased) == erased
    assert [apply(erased, change)[1] for change in log] == [ChangeResult.ERASED] * 2


def test_a_later_change_starts_the_account_afresh() -> None:
    later = directory_change(received_at=NOW + 2 * SECOND, fields=AccountFields(plan="pro"))
    log = [directory_change(), directory_change(op="erase", received_at=NOW + SECOND), later]
    assert fold(log).fields == AccountFields(plan="pro")


def test_what_an_erasure_removed_counts_as_older_though_its_clock_was_ahead() -> None:
    ahead = directory_change(received_at=NOW + SECOND)
    erase = directory_change(op="erase", received_at=NOW)
    assert fold([ahead, erase, ahead]) == Known(erased_at=NOW + SECOND)


@pytest.mark.parametrize(
    ("received_at", "counts"), [(NOW - SECOND, False), (NOW, False), (NOW + SECOND, True)]
)
def test_events_received_until_the_erasure_are_skipped(
    received_at: datetime, *, counts: bool
) -> None:
    event = usage_event(received_at=received_at)
    erasures = Erasures(accounts={"acme": NOW}, users=set())
    assert without_erased({1: event}, erasures) == ({1: event} if counts else {})


@pytest.mark.parametrize(
    ("account", "user"),
    [("acme", None), ("", None), ("globex", "u1:1")],
    ids=["in this account", "in all accounts", "in another account"],
)
def test_an_erased_person_counts_without_a_name(account: str, user: str | None) -> None:
    erasures = Erasures(accounts={}, users={(account, user_key("u1:1"))})
    events = {1: usage_event(user="u1:1"), 2: usage_event(user="u1:2")}
    counted = without_erased(events, erasures)
    assert {key: event.user for key, event in counted.items()} == {1: user, 2: "u1:2"}
