import pytest

from services.importing.errors import Unusable
from services.importing.mapping import map_accounts, map_events, parse_mapping

CONTRIBUTORS = ["event_ts", "arrival_ts", "account_id", "user_id", "product", "event_type"]


def test_well_known_names_are_recognised_and_the_rest_become_properties() -> None:
    columns = map_events(CONTRIBUTORS, {})
    assert (columns.occurred_at, columns.account_id, columns.user_id, columns.type) == (0, 2, 3, 5)
    assert columns.id is None
    assert columns.properties == (("feature", 4), ("arrival_ts", 1))


@pytest.mark.parametrize("column", ["accountId", "Account ID", "account-id", "TENANT_ID"])
def test_spelling_does_not_matter(column: str) -> None:
    assert map_events(["date", column], {}).account_id == 1


def test_what_the_caller_says_comes_first() -> None:
    asked = parse_mapping(
        ["occurred_at=arrival_ts", "feature=event_type", "properties.team=product", "type="]
    )
    columns = map_events(CONTRIBUTORS, asked)
    assert columns.occurred_at == 1
    assert columns.type is None
    assert dict(columns.properties) == {"feature": 5, "team": 4, "event_ts": 0}


def test_an_id_that_was_only_recognised_is_marked_as_a_guess() -> None:
    header = ["id", "date", "account_id"]
    assert map_events(header, {}).id_is_guessed
    assert not map_events(header, {"id": "id"}).id_is_guessed
    assert map_events(header, {"id": ""}).id is None


def test_our_own_columns_of_a_file_of_rejects_are_no_properties() -> None:
    assert map_events(["date", "account", "perennial_code"], {}).properties == ()


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["occurred_at"], "write field=column"),
        (["=x"], "write field=column"),
        (["type=a", "type=b"], "twice"),
        (["type=kind"], "the file has no column kind; it has event_ts, arrival_ts"),
        (["account_id="], "recognised as account_id"),
    ],
)
def test_a_mapping_that_cannot_be_followed_is_refused(pairs: list[str], message: str) -> None:
    with pytest.raises(Unusable, match=message):
        map_events(CONTRIBUTORS, parse_mapping(pairs))


def test_a_missing_column_names_the_field_and_the_columns_there_are() -> None:
    with pytest.raises(Unusable, match=r"as occurred_at; the file has account, n: .*--map"):
        map_events(["account", "n"], {})


def test_accounts_take_their_aliases_and_tell_what_is_left() -> None:
    columns = map_accounts(["tenant_id", "renewal_date", "monthlySpend", "csm", "saets"], {})
    assert columns.id == 0
    assert dict(columns.fields) == {"contract_end": 1, "mrr": 2, "owner": 3}
    assert columns.unused == ("saets",)


def test_accounts_have_no_fields_of_the_callers_making() -> None:
    with pytest.raises(Unusable, match=r"--map height.*no such field"):
        map_accounts(["id", "h"], {"height": "h"})
