"""Accounts in: each field's rule, and what a change sets and clears."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest import directory
from services.ingest.directory import DirectoryRules, DirectorySubmission, Operation
from services.ingest.replies import Refused
from services.ingest.results import Decoded
from services.ingest.traits import FIELDS
from shared.messages import DIRECTORY_CHANGES, AccountFields, DirectoryChange, Goal, decode
from tests.unit.ingest.decoded import records
from tests.unit.ingest.test_native_envelopes import JSON

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
RULES = DirectoryRules(max_items=2_000, max_item_bytes=65_536, max_record_bytes=98_304)


def take(value: object, operation: Operation = "patch") -> Decoded:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    submission = DirectorySubmission(source="crm", received_at=NOW, operation=operation)
    return directory.decode(body, RULES, submission)


def put(value: object, account: str = "acme") -> Decoded:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    submission = DirectorySubmission(source="crm", received_at=NOW, operation="put")
    return directory.decode_one(body, account, RULES, submission)


def changes(decoded: Decoded) -> list[DirectoryChange]:
    return [decode(DirectoryChange, record.value) for record in records(decoded, DIRECTORY_CHANGES)]


@pytest.mark.parametrize(
    ("field", "stated", "kept"),
    [
        ("name", " Acme ", "Acme"),
        ("plan", 3, "3"),
        ("segment", "smb", "smb"),
        ("reseller", "Partner", "Partner"),
        ("seats", 40, 40),
        ("seats", 40.0, 40),
        ("mrr", 1200.5, Decimal("1200.5")),
        ("mrr", "1200.50", Decimal("1200.50")),
        ("mrr", 100 / 3, Decimal("33.3333")),
        ("mrr", 0, Decimal(0)),
        ("margin_per_month", -12.25, Decimal("-12.25")),
        ("currency", "eur", "EUR"),
        ("region", "fr-bre", "FR-BRE"),
        ("timezone", "Europe/Paris", "Europe/Paris"),
        ("owner", "csm@example.com", "csm@example.com"),
        ("contract_start", "2026-01-01", date(2026, 1, 1)),
        ("notice_days", 90, 90),
        ("billing_period", "Year", "year"),
        ("status", "trial", "trial"),
        (
            "goals",
            [{"metric": "exports", "baseline": 1, "target": 2.5, "due": "2026-12-31"}],
            (Goal(metric="exports", baseline=1, target=2.5, due=date(2026, 12, 31)),),
        ),
    ],
)
def test_a_field_is_kept(field: str, stated: object, kept: object) -> None:
    (change,) = changes(take([{"id": "acme", field: stated}]))
    assert getattr(change.fields, field) == kept


@pytest.mark.parametrize(
    ("field", "stated", "says"),
    [
        ("name", "n" * 201, "200"),
        ("name", ["Acme"], "text"),
        ("name", "a\0b", "NUL"),
        ("name", "a\ud83d", "NUL or half"),
        ("seats", -1, "whole number"),
        ("seats", 1.5, "whole number"),
        ("seats", "40", "whole number"),
        ("seats", True, "whole number"),
        ("mrr", -1, "0 or more"),
        ("mrr", "12,50", "decimal"),
        ("mrr", "1_000", "decimal"),
        ("mrr", "NaN", "decimal"),
        ("mrr", float("nan"), "decimal"),
        ("mrr", 1e30, "decimal"),
        ("mrr", True, "decimal"),
        ("currency", "EURO", "4217"),
        ("currency", "ZZZ", "4217"),
        ("region", "France", "3166"),
        ("region", "ZZ", "3166"),
        ("timezone", "Paris", "IANA"),
        ("owner", "csm", "e-mail"),
        ("owner", "a b@example.com", "e-mail"),
        ("contract_end", "31.12.2026", "date"),
        ("contract_end", "2026-02-30", "calendar"),
        ("contract_end", "20260228", "date"),
        ("contract_end", "0001-01-01", "between"),
        ("contract_end", "9999-12-31", "between"),
        ("contract_end", 20270228, "date"),
        ("notice_days", 10_000, "whole number"),
        ("billing_period", "weekly", "one of"),
        ("status", "gone", "one of"),
        ("status", "churned", "churned_at"),
        ("goals", {"metric": "x"}, "list"),
        ("goals", [{"metric": "x", "baseline": 1}], "goal 0"),
        ("goals", [{"baseline": 1, "target": 1}], "metric"),
        ("goals", ["x"], "goal 0"),
        ("goals", [{"metric": "x", "baseline": 1, "target": 1}] * 21, "20"),
    ],
)
def test_a_field_that_breaks_its_rule_is_named(field: str, stated: object, says: str) -> None:
    decoded = take([{"id": "good"}, {"id": "bad", field: stated}])

    assert [result.status for result in decoded.results] == ["retry", "rejected"]
    bad = decoded.results[1]
    assert (bad.id, bad.code) == ("bad", "invalid_field")
    assert (bad.message or "").startswith(f"{field}: ")
    assert says in (bad.message or "")


def test_every_broken_field_is_named_at_once() -> None:
    (result,) = take([{"id": "acme", "seats": -1, "owner": "x"}]).results
    assert "seats: " in (result.message or "")
    assert "owner: " in (result.message or "")


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"name": "Acme"}, "missing_account"),
        ({"id": "null"}, "invalid_account"),
        ({"id": "a\0"}, "invalid_text"),
        ({"id": "a", "account_id": "b"}, "conflicting_account"),
        ({"id": "a", "x": "y" * 70_000}, "event_too_large"),
        ("acme", "invalid_field"),
        (
            {"id": "a", "contract_start": "2026-02-01", "contract_end": "2026-01-01"},
            "invalid_field",
        ),
        ({"id": "a", "renewal_date": "2026-02-01", "contract_end": "2026-01-01"}, "invalid_field"),
    ],
)
def test_a_bad_account_is_rejected_alone(bad: object, code: str) -> None:
    decoded = take({"accounts": [{"id": "good"}, bad]})
    assert [result.code for result in decoded.results] == [None, code]


def test_a_patch_clears_what_is_null_and_leaves_what_is_absent() -> None:
    (change,) = changes(take([{"id": "a", "plan": "team", "owner": None, "reseller": ""}]))
    assert (change.op, change.source, change.received_at) == ("patch", "crm", NOW)
    assert change.fields == AccountFields(plan="team")
    assert change.cleared == ("owner", "reseller")


def test_a_put_clears_by_leaving_out() -> None:
    (change,) = changes(put({"plan": "team", "owner": None}))
    assert (change.op, change.account, change.cleared) == ("put", "acme", ())
    assert change.fields == AccountFields(plan="team")


def test_the_renewal_date_is_the_end_of_the_contract() -> None:
    (change,) = changes(put({"renewal_date": "2027-01-31"}))
    assert change.fields.contract_end == date(2027, 1, 31)


def test_what_is_not_kept_is_named_in_a_warning() -> None:
    (result,) = take([{"id": "a", "plan": "x", "favourite": 1, "ARR": float("nan")}]).results
    (warning,) = result.warnings
    assert warning.code == "unknown_trait"
    assert warning.message == "not kept: favourite, ARR"


def test_an_account_is_known_even_without_any_field() -> None:
    assert [change.account for change in changes(put({}, "a/b"))] == ["a/b"]


def test_the_body_may_not_name_another_account_than_the_address() -> None:
    assert [result.code for result in put({"id": "other"}).results] == ["conflicting_account"]
    assert [result.code for result in put({"id": "acme"}).results] == [None]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_envelope"),
        (b"null", "invalid_envelope"),
    ],
)
def test_a_put_takes_one_object(body: bytes, code: str) -> None:
    with pytest.raises(Refused) as refused:
        put(body)
    assert refused.value.code == code


def test_a_large_put_is_rejected_unread() -> None:
    assert [result.code for result in put(b"{" * 70_000).results] == ["event_too_large"]


def test_every_field_of_the_directory_can_be_told() -> None:
    fields = {field.name for field in msgspec.structs.fields(AccountFields)}
    assert set(FIELDS) == fields | {"renewal_date"}


@given(
    st.lists(
        JSON | st.dictionaries(st.sampled_from(["id", "x", *FIELDS]), JSON), min_size=1, max_size=5
    )
)
def test_any_json_gives_one_result_per_account(accounts: list[object]) -> None:
    decoded = take(accounts)
    assert [result.index for result in decoded.results] == list(range(len(accounts)))
    assert len(changes(decoded)) == len(records(decoded, DIRECTORY_CHANGES))
    msgspec.json.encode(decoded.results)
