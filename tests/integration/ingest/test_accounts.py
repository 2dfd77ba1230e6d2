"""Accounts over HTTP into a real log."""

from datetime import date
from decimal import Decimal

import pytest

from shared.credentials import Scope
from shared.log.postgres import PostgresLog
from shared.messages import DIRECTORY_CHANGES, AccountFields, DirectoryChange
from tests.integration.ingest.stored import stored
from tests.unit.ingest.api import NOW, Api, check_error

FIELDS = {"name": "Acme", "seats": 40, "mrr": "1200.50", "contract_end": "2027-03-31"}


async def test_a_put_is_a_change_in_the_log(api: Api, log: PostgresLog) -> None:
    response = await api.client.put("/v1/accounts/acme", json=FIELDS, headers=api.key(source="crm"))

    assert response.status_code == 200
    assert response.json() == {"results": [{"index": 0, "id": "acme", "status": "accepted"}]}
    change = DirectoryChange(
        account="acme",
        op="put",
        source="crm",
        received_at=NOW,
        fields=AccountFields(
            name="Acme", seats=40, mrr=Decimal("1200.50"), contract_end=date(2027, 3, 31)
        ),
    )
    assert await stored(log, DIRECTORY_CHANGES, DirectoryChange) == [(b"acme", change)]
    assert api.metric("items_total", format="directory", status="accepted", code="") == 1


@pytest.mark.parametrize(
    ("path", "account"),
    [
        pytest.param("eu/acme", "eu/acme", id="slash"),
        pytest.param("eu%2Facme", "eu/acme", id="slash, escaped"),
        pytest.param("acme%2F", "acme/", id="slash at the end, escaped"),
        pytest.param("acme/", "acme", id="trailing slash"),
        pytest.param("a%252Fb", "a%2Fb", id="escaped twice"),
        pytest.param("caf%C3%A9", "café", id="UTF-8"),
        pytest.param("42", "42", id="digits"),
    ],
)
async def test_ids_come_as_they_were_sent(
    api: Api, log: PostgresLog, path: str, account: str
) -> None:
    response = await api.client.put(f"/v1/accounts/{path}", json={}, headers=api.key())
    assert response.status_code == 200
    changes = await stored(log, DIRECTORY_CHANGES, DirectoryChange)
    assert [change.account for _, change in changes] == [account]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("%FF", "invalid_text"),
        ("a%00", "invalid_text"),
        ("null", "invalid_account"),
        ("a" * 201, "invalid_account"),
        ("%20", "missing_account"),
    ],
)
async def test_a_bad_id_is_rejected(api: Api, path: str, code: str) -> None:
    response = await api.client.put(f"/v1/accounts/{path}", json={}, headers=api.key())
    assert code in str(check_error(response, 400, "all_rejected")["message"])


@pytest.mark.parametrize(
    ("query", "operation"), [("", "patch"), ("?mode=patch", "patch"), ("?mode=put", "put")]
)
async def test_a_batch_is_patches_or_puts(
    api: Api, log: PostgresLog, query: str, operation: str
) -> None:
    body = {"accounts": [{"id": "a", "plan": "x"}, {"id": "b", "seats": -1}, {"id": "a"}]}
    response = await api.client.post(f"/v1/accounts:batch{query}", json=body, headers=api.key())

    assert response.status_code == 200
    statuses = [result["status"] for result in response.json()["results"]]
    assert statuses == ["accepted", "rejected", "accepted"]
    changes = [change for _, change in await stored(log, DIRECTORY_CHANGES, DirectoryChange)]
    assert [change.account for change in changes] == ["a", "a"]
    assert {change.op for change in changes} == {operation}


async def test_a_wrong_mode_or_scope_or_body_is_refused(api: Api) -> None:
    key = api.key()
    path = "/v1/accounts:batch"
    response = await api.client.post(f"{path}?mode=merge", json=[], headers=key)
    check_error(response, 400, "invalid_envelope")
    response = await api.client.post(path, json={"accounts": []}, headers=key)
    check_error(response, 400, "invalid_envelope")
    response = await api.client.put("/v1/accounts/a", content=b"{", headers=key)
    check_error(response, 400, "invalid_json")
    response = await api.client.put("/v1/accounts/a", json={}, headers=api.key(Scope.EVENTS_WRITE))
    check_error(response, 403, "scope_missing")
    response = await api.client.patch("/v1/accounts/a", json={}, headers=key)
    check_error(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "PUT"


async def test_an_unknown_field_is_a_warning(api: Api) -> None:
    response = await api.client.put("/v1/accounts/a", json={"arr": 1}, headers=api.key())
    (result,) = response.json()["results"]
    assert result["warnings"] == [{"code": "unknown_trait", "message": "not kept: arr"}]
