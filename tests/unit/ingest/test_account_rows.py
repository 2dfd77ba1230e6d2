"""Accounts as CSV: what each spreadsheet writes, and what is wrong with a row, by its line."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest import account_rows
from services.ingest.account_rows import is_csv
from services.ingest.directory import DirectoryRules, DirectorySubmission, Operation
from services.ingest.replies import Refused
from services.ingest.results import Decoded
from shared.messages import DIRECTORY_CHANGES, AccountFields, DirectoryChange, Goal, decode
from tests.unit.ingest.decoded import records

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
RULES = DirectoryRules(max_items=100, max_item_bytes=2_000, max_record_bytes=98_304)


def take(content: bytes | str, operation: Operation = "patch") -> Decoded:
    body = content if isinstance(content, bytes) else content.encode()
    submission = DirectorySubmission(source="crm", received_at=NOW, operation=operation)
    return account_rows.decode(body, RULES, submission)


def changes(decoded: Decoded) -> list[DirectoryChange]:
    return [decode(DirectoryChange, record.value) for record in records(decoded, DIRECTORY_CHANGES)]


def messages(decoded: Decoded) -> list[str | None]:
    return [result.message for result in decoded.results]


ACME = AccountFields(name="Acme", seats=40, mrr=Decimal("1200.50"), contract_end=date(2027, 3, 31))


@pytest.mark.parametrize(
    "content",
    [
        "id,name,seats,mrr,contract_end\nacme,Acme,40,1200.50,2027-03-31\n",
        "account_id;name;seats;mrr;renewal_date\r\nacme;Acme;40;1200,50;2027-03-31\r\n",
        "tenant_id\tname\tseats\tmrr\tcontract_end\nacme\tAcme\t40\t1200.50\t2027-03-31",
        "\ufeffid;name;seats;mrr;contract_end\nacme;Acme;40;1200,50;2027-03-31\n",
        '"Account ID","Name",Seats,Monthly Spend,contractEnd\n"acme","Acme",40,1200.5,"2027-03-31"',
        "\nid,name,seats,mrr,contract_end\n\nacme, Acme ,40,1200.50,2027-03-31\n\n",
    ],
    ids=["comma", "French", "tab", "byte order mark", "quotes and a CRM's names", "blank lines"],
)
def test_a_spreadsheets_row_is_a_change(content: str) -> None:
    decoded = take(content)
    (change,) = changes(decoded)
    assert (change.account, change.op, change.source, change.received_at) == (
        "acme",
        "patch",
        "crm",
        NOW,
    )
    assert change.fields == ACME
    (result,) = decoded.results
    assert (result.index, result.id, result.warnings) == (0, "acme", ())


@pytest.mark.parametrize("operation", ["patch", "put"])
def test_an_empty_cell_says_nothing_of_its_field(operation: Operation) -> None:
    (change,) = changes(take("id,plan,owner\nacme,team,\n", operation))
    assert (change.op, change.fields, change.cleared) == (
        operation,
        AccountFields(plan="team"),
        (),
    )


def test_goals_are_json_in_their_cell() -> None:
    goals = json.dumps([{"metric": "exports", "baseline": 1, "target": 2}]).replace('"', '""')
    (change,) = changes(take(f'id,goals\nacme,"{goals}"\n'))
    assert change.fields.goals == (Goal(metric="exports", baseline=1, target=2),)


def test_unknown_columns_are_named_once() -> None:
    decoded = take("id,plan,Industry,,plan_code\n,x,,,\nacme,x,steel,?,7\nglobex,y,,,\n")
    assert [result.status for result in decoded.results] == ["rejected", "retry", "retry"]
    (warning,) = decoded.results[1].warnings
    assert (warning.code, warning.message) == (
        "unknown_trait",
        "not kept: Industry, column 4, plan_code",
    )
    assert decoded.results[2].warnings == ()


@pytest.mark.parametrize(
    ("header", "row", "code", "message"),
    [
        ("id,seats", "acme,many", "invalid_field", "seats: is not a whole number"),
        ("id,seats", "acme,-1", "invalid_field", "seats: is not a whole number"),
        ("id,Seats", "acme,9999999999", "invalid_field", "Seats: must be a whole number"),
        ("id,mrr", 'acme,"1,50"', "invalid_field", "mrr: is not a plain decimal"),
        ("id;mrr", "acme;1.234", "invalid_field", "mrr: is not a plain decimal"),
        ("id;mrr", "acme;1 234,50", "invalid_field", "mrr: is not a plain decimal"),
        ("id,mrr", "acme,-1", "invalid_field", "mrr: must be 0 or more"),
        ("id,Renewal Date", "acme,31.12.2026", "invalid_field", "Renewal Date: is not a date"),
        ("id,contract_end", "acme,2026-02-30", "invalid_field", "contract_end: "),
        ("id,status", "acme,churned", "invalid_field", "status: churned needs churned_at"),
        ("id,goals", "acme,many", "invalid_field", "goals: is not JSON"),
        ("id,seats,owner", "acme,x,y", "invalid_field", "seats: is not a whole number; owner: "),
        ("id,plan", ",team", "missing_account", "id: the cell is empty"),
        ("id,plan", "null,team", "invalid_account", "id: is a placeholder"),
        ("id,plan", "acme", "invalid_field", "the row has 1 columns, the header 2"),
        ("id,plan", "acme,team,x", "invalid_field", "the row has 3 columns, the header 2"),
        ("id,plan", 'acme,"team', "invalid_field", "a quote or a line break is misplaced"),
        ("id,plan", 'acme,"te"am', "invalid_field", "a quote or a line break is misplaced"),
        ("id,plan", "acme," + "x" * 2_000, "event_too_large", "it takes more than 2000 bytes"),
        ("id,plan", "acme,te\0am", "invalid_text", "plan: the cell is not UTF-8, or holds NUL"),
    ],
)
def test_a_bad_row_is_rejected_alone_by_its_line(
    header: str, row: str, code: str, message: str
) -> None:
    separator = ";" if ";" in header else ","
    rest = separator * header.count(separator)
    decoded = take(f"{header}\nfirst{rest}\n{row}\nlast{rest}\n")
    assert [change.account for change in changes(decoded)] == ["first", "last"]
    bad = decoded.results[1]
    assert (bad.index, bad.code) == (1, code)
    assert (bad.message or "").startswith(f"line 3: {message}")
    (reject,) = decoded.rejects
    assert (reject.header, reject.item) == (f"{header}\n".encode(), f"{row}\n".encode())


def test_a_row_over_several_lines_is_named_by_its_first() -> None:
    decoded = take('id,name,seats\na,"Acme\n& Co",1\nb,"x\ny",many\nc,,x\n')
    assert messages(decoded) == [
        None,
        "line 4: seats: is not a whole number",
        "line 6: seats: is not a whole number",
    ]


def test_a_cell_in_another_encoding_is_named_and_the_others_are_kept() -> None:
    decoded = take(b"id,name\na,Caf\xe9\nb,Cafe\n")
    assert messages(decoded) == ["line 2: name: the cell is not UTF-8, or holds NUL", None]
    [reject] = decoded.rejects
    assert (reject.header, reject.item) == (b"id,name\n", b"a,Caf\xe9\n")


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"", "invalid_envelope", "must name the columns"),
        (b"id,plan\n", "invalid_envelope", "no accounts"),
        (b"name,plan\nAcme,x\n", "invalid_envelope", "account_id or tenant_id or id"),
        (b"id,plan,plan\na,x,y\n", "invalid_envelope", "names plan more than once"),
        (b"id,contract_end,Renewal Date\na,,\n", "invalid_envelope", "contract_end, Renewal Date"),
        (b"id,tenant_id\na,b\n", "invalid_envelope", "columns id, tenant_id all mean id"),
        (b'"id,plan\na,x\n', "invalid_envelope", "the header cannot be read"),
        (b"id,caf\xe9\na,x\n", "invalid_envelope", "the header is not UTF-8"),
        ("id,plan\na,x\n".encode("utf-16"), "invalid_envelope", "the header is not UTF-8"),
        (b"id," + b",".join(b"c%d" % n for n in range(1_000)), "invalid_envelope", "1000 columns"),
        (b"id\n" + b"a\n" * 101, "too_many_items", "more than 100 accounts"),
        (b"id\n" + b"\n" * 100_001, "too_many_items", "more than 100000 lines"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_as_a_whole(
    content: bytes, code: str, message: str
) -> None:
    with pytest.raises(Refused) as refused:
        take(content)
    assert refused.value.code == code
    assert message in refused.value.message


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"text/csv", True),
        (b'Text/CSV; header=present; charset="UTF-8"', True),
        (b"application/json", False),
        (None, False),
    ],
)
def test_csv_is_known_by_its_media_type(content_type: bytes | None, *, expected: bool) -> None:
    assert is_csv(content_type) is expected


def test_csv_in_another_charset_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        is_csv(b"text/csv; charset=iso-8859-1")
    assert refused.value.code == "invalid_encoding"


LINES = st.lists(st.text(st.sampled_from('id,;"\n\r\tx1\0é'), max_size=12), max_size=6)


@given(LINES | st.binary(max_size=60))
def test_any_file_gives_one_result_a_row_or_is_refused(content: list[str] | bytes) -> None:
    body = content if isinstance(content, bytes) else "\n".join(["id,mrr", *content]).encode()
    try:
        decoded = take(body)
    except Refused:
        return
    assert [result.index for result in decoded.results] == list(range(len(decoded.results)))
    assert len(changes(decoded)) + len(decoded.rejects) == len(decoded.results)
    msgspec.json.encode(decoded.results)
