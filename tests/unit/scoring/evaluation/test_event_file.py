"""A file is read as it is, or refused with one line that says where."""

import csv
import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.scoring.evaluation.account_file import read_accounts
from services.scoring.evaluation.event_file import UnusableFile, read_events

COLUMNS = ("event_ts", "arrival_ts", "account_id", "user_id", "product", "event_type")
HEADER = ",".join(COLUMNS) + "\n"


def written(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "events.csv"
    path.write_text(content)
    return path


def test_equal_rows_are_separate_events(tmp_path: Path) -> None:
    path = tmp_path / "events.csv.gz"
    row = ["1336106720", "1336106721", "acme", "ada", "cinder", "commit"]
    with gzip.open(path, "wt", newline="") as file:
        csv.writer(file).writerows([COLUMNS, row, row])
    read = read_events(path)
    first, second = read.events
    assert first.id != second.id
    assert first.properties == {"feature": "cinder"}
    assert first.received_at - first.occurred_at == timedelta(seconds=1)
    assert (first.user, first.type) == ("ada", "commit")
    assert read.has_arrivals
    assert read.has_times


def test_events_stand_in_the_order_of_their_arrival(tmp_path: Path) -> None:
    late, soon = "100000000,300000000,late,,,\n", "200000000,200000001,soon,,,\n"
    read = read_events(written(tmp_path, HEADER + late + soon))
    assert [event.account for event in read.events] == ["soon", "late"]


def test_columns_that_are_not_needed_may_be_missing(tmp_path: Path) -> None:
    read = read_events(written(tmp_path, "account_id,event_ts\nacme,200000000\n"))
    (event,) = read.events
    assert (event.user, event.type, event.properties) == (None, "activity", {})
    assert not read.has_arrivals


@pytest.mark.parametrize("day", ["19970630", "1997-06-30"])
def test_a_ledger_of_days_is_received_after_the_stated_lag(tmp_path: Path, day: str) -> None:
    path = written(tmp_path, f"id,date,qty,account_id\n1,{day},2,0001\n")
    read = read_events(path, lag=timedelta(days=3))
    (event,) = read.events
    assert event.occurred_at == datetime(1997, 6, 30, 12, tzinfo=UTC)
    assert event.received_at == datetime(1997, 7, 3, 12, tzinfo=UTC)
    assert (read.has_arrivals, read.has_times) == (False, False)


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        ("event_ts,arrival_ts\n1,2\n", "missing column: account_id"),
        ("account_id,user_id\n1,2\n", "missing column: event_ts"),
        ("", "missing column"),
        (HEADER, "no events"),
        (HEADER + "x,1,acme,ada,cinder,commit\n", "row 1 cannot be read"),
        (HEADER + "100000000\n", "row 1 cannot be read"),
        (HEADER + "100000000,,acme,ada,cinder,commit\n", "row 1 cannot be read"),
        (HEADER + "100000000,100000000,,ada,cinder,commit\n", "row 1 has no account_id"),
        (HEADER + "99999999999999,1,a,b,c,d\n", "row 1 cannot be read"),
        (HEADER + "1577836800000,1577836800000,a,b,c,d\n", "row 1"),
        (HEADER + "12,13,a,b,c,d\n", "between 1971 and 2200"),
        ("account_id,date\nacme,30.6.1997\n", "row 1 cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path: Path, content: str, detail: str) -> None:
    with pytest.raises(UnusableFile, match=detail):
        read_events(written(tmp_path, content))


def test_what_is_no_text_or_not_there_is_one_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "events.csv.gz"
    broken.write_bytes(b"\x1f\x8b\x08cut")
    binary = tmp_path / "events.csv"
    binary.write_bytes(b"account_id,event_ts\n\xff\xfe\x00,1\n")
    for path in (broken, binary, tmp_path / "absent.csv", tmp_path):
        with pytest.raises(UnusableFile, match=r"cannot be read|no CSV|is not a CSV"):
            read_events(path)


def test_accounts_are_read_as_the_import_reads_them(tmp_path: Path) -> None:
    path = written(tmp_path, "Account ID,Plan,seats,renewal_date,note\nacme,pro,10,2026-01-31,x\n")
    (fields,) = read_accounts(path).values()
    assert (fields.plan, fields.seats) == ("pro", 10)
    assert str(fields.contract_end) == "2026-01-31"


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        ("plan\npro\n", "missing column: account_id"),
        ("account_id,seats\nacme,many\n", "row 1: seats is not a whole number"),
        ("account_id,status\nacme,asleep\n", "row 1"),
        ("account_id,seats\n,3\n", "row 1: the account has no id"),
        ("account_id,seats\nacme\n", "row 1"),
    ],
)
def test_accounts_that_cannot_be_read_say_where(tmp_path: Path, content: str, detail: str) -> None:
    with pytest.raises(UnusableFile, match=f"--accounts: {detail}"):
        read_accounts(written(tmp_path, content))
