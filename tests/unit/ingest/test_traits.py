"""What SDKs say of a group, as a patch of the directory."""

from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.directory import patch_from_traits
from services.ingest.traits import FIELDS
from shared.messages import AccountFields, DirectoryChange, decode, encode
from tests.unit.ingest.test_native_envelopes import JSON

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def patch(said: dict[str, object]) -> tuple[AccountFields, str | None]:
    change, warning = patch_from_traits("acme", said, source="app", received_at=NOW)
    assert (change.account, change.op, change.source) == ("acme", "patch", "app")
    assert (change.received_at, change.cleared) == (NOW, ())
    assert warning is None or warning.code == "unknown_trait"
    return change.fields, None if warning is None else warning.message


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"plan": "team"}, AccountFields(plan="team")),
        ({"contractEnd": "2027-01-31"}, AccountFields(contract_end=date(2027, 1, 31))),
        ({"contract_end": "2027-01-31"}, AccountFields(contract_end=date(2027, 1, 31))),
        ({"renewalDate": "2027-01-31"}, AccountFields(contract_end=date(2027, 1, 31))),
        ({"marginPerMonth": -5}, AccountFields(margin_per_month=Decimal(-5))),
        ({"monthly_spend": 99.5}, AccountFields(mrr=Decimal("99.5"))),
        ({"monthlySpend": "99.50"}, AccountFields(mrr=Decimal("99.50"))),
        ({"csm": "csm@example.com"}, AccountFields(owner="csm@example.com")),
        (
            {"status": "churned", "churnedAt": "2026-03-01"},
            AccountFields(status="churned", churned_at=date(2026, 3, 1)),
        ),
    ],
)
def test_a_trait_sets_the_field_it_means(said: dict[str, object], kept: AccountFields) -> None:
    assert patch(said) == (kept, None)


@pytest.mark.parametrize(
    "moment",
    ["2026-12-31T00:00:00.000Z", "2026-12-31T00:00:00+01:00", "2026-12-31 00:00:00"],
)
def test_midnight_is_the_day_that_an_sdk_meant(moment: str) -> None:
    assert patch({"contractEnd": moment}) == (AccountFields(contract_end=date(2026, 12, 31)), None)


def test_what_cannot_be_kept_is_named_in_one_warning_and_the_rest_is_kept() -> None:
    fields, warning = patch(
        {
            "industry": "steel",
            "plan": "team",
            "mrr": -1,
            "seats": "many",
            # Local midnight somewhere: which day that was is not said.
            "contractEnd": "2026-12-30T23:00:00Z",
        }
    )
    assert fields == AccountFields(plan="team")
    assert warning is not None
    assert warning.startswith("not kept: ")
    for named in ("industry", "mrr (must be 0 or more)", "seats (must be", "contractEnd (must be"):
        assert named in warning


def test_a_warning_names_the_first_ten_and_counts_the_rest() -> None:
    _, warning = patch({f"trait{number}": 1 for number in range(12)})
    assert warning == f"not kept: {', '.join(f'trait{n}' for n in range(10))} and 2 more"


def test_no_trait_at_all_makes_the_account_known() -> None:
    assert patch({}) == (AccountFields(), None)


def test_null_is_as_absent() -> None:
    assert patch({"plan": None, "industry": None}) == (AccountFields(), None)


def test_the_accounts_own_id_among_the_traits_is_no_news() -> None:
    assert patch({"id": "acme", "account_id": "acme"}) == (AccountFields(), None)
    assert patch({"id": "other"}) == (AccountFields(), "not kept: id")


def test_the_directorys_own_word_counts_before_any_other() -> None:
    fields, warning = patch({"monthlySpend": 1, "mrr": 2, "csm": "a@example.com"})
    assert fields == AccountFields(mrr=Decimal(2), owner="a@example.com")
    assert warning == "not kept: monthlySpend (differs from mrr)"


def test_traits_that_contradict_each_other_are_dropped_not_the_rest() -> None:
    fields, warning = patch(
        {
            "status": "churned",
            "contract_start": "2026-02-01",
            "contract_end": "2026-01-01",
            "plan": "team",
        }
    )
    assert fields == AccountFields(plan="team", contract_start=date(2026, 2, 1))
    assert warning == (
        "not kept: status (churned needs churned_at), contract_end (lies before contract_start)"
    )


SPELLED = [*FIELDS, "contractEnd", "monthlySpend", "csm", "id", "industry"]


@given(st.dictionaries(st.sampled_from(SPELLED) | st.text(), JSON))
def test_whatever_an_sdk_says_is_a_patch(said: dict[str, object]) -> None:
    change, warning = patch_from_traits("acme", said, source="app", received_at=NOW)
    assert decode(DirectoryChange, encode(change)) == change
    msgspec.json.encode(warning)
