"""Accounts over HTTP into a real log."""

from datetime import date
from decimal import Decimal

import pytest

from shared.credentials import Scope, hash_user
from shared.log.postgres import PostgresLog
from shared.messages import DIRECTORY_CHANGES, AccountFields, DirectoryChange
from tests.integration.ingest.stored import stored
from tests.unit.ingest.api import NOW, USER_KEY, Api, check_error

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
    response = await api.client.post("/v1/accounts/a", json={}, headers=key)
    check_error(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "PUT, PATCH, DELETE"
    response = await api.client.put("/v1/users/u", json={}, headers=key)
    check_error(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "DELETE"


async def test_an_unknown_field_is_a_warning(api: Api) -> None:
    response = await api.client.put("/v1/accounts/a", json={"arr": 1}, headers=api.key())
    (result,) = response.json()["results"]
    assert result["warnings"] == [{"code": "unknown_trait", "message": "not kept: arr"}]


async def test_a_patch_sets_what_it_says_and_clears_what_is_null(
    api: Api, log: PostgresLog
) -> None:
    body = {"plan": "team", "owner": None}
    response = await api.client.patch("/v1/accounts/eu%2Facme", json=body, headers=api.key())
    assert response.status_code == 200
    ((key, change),) = await stored(log, DIRECTORY_CHANGES, DirectoryChange)
    assert (key, change.account, change.op) == (b"eu/acme", "eu/acme", "patch")
    assert (change.fields, change.cleared) == (AccountFields(plan="team"), ("owner",))


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        pytest.param(
            "text/csv; charset=utf-8",
            "\ufeffid;mrr;Industry\nacme;1200,50;steel\nglobex;viel;\n",
            id="French CSV",
        ),
        pytest.param(
            "application/x-ndjson",
            '{"id":"acme","mrr":"1200.50","Industry":1}\n{"id":"globex","mrr":"viel"}\n',
            id="NDJSON",
        ),
    ],
)
async def test_a_file_is_patches(
    api: Api, log: PostgresLog, content_type: str, content: str
) -> None:
    response = await api.client.post(
        "/v1/accounts:batch",
        content=content.encode(),
        headers={**api.key(), "content-type": content_type},
    )
    assert response.status_code == 200
    good, bad = response.json()["results"]
    assert (good["id"], good["status"]) == ("acme", "accepted")
    assert good["warnings"] == [{"code": "unknown_trait", "message": "not kept: Industry"}]
    assert (bad["status"], bad["code"]) == ("rejected", "invalid_field")
    assert "mrr: " in bad["message"]
    ((_, change),) = await stored(log, DIRECTORY_CHANGES, DirectoryChange)
    assert change.fields == AccountFields(mrr=Decimal("1200.50"))


async def test_an_account_is_erased(api: Api, log: PostgresLog) -> None:
    response = await api.client.delete("/v1/accounts/eu/acme", headers=api.key(Scope.ERASE))
    assert response.status_code == 200
    assert response.json() == {"results": [{"index": 0, "id": "eu/acme", "status": "accepted"}]}
    change = DirectoryChange(account="eu/acme", op="erase", source="app", received_at=NOW)
    assert await stored(log, DIRECTORY_CHANGES, DirectoryChange) == [(b"eu/acme", change)]


@pytest.mark.parametrize(
    ("query", "account"), [("", ""), ("?account_id=eu%2Facme", "eu/acme")], ids=["in all", "in one"]
)
async def test_a_person_is_erased(api: Api, log: PostgresLog, query: str, account: str) -> None:
    path = f"/v1/users/ann%40example.com{query}"
    response = await api.client.delete(path, headers=api.key(Scope.ERASE))
    assert response.status_code == 200
    (result,) = response.json()["results"]
    assert (result["id"], result["status"]) == ("ann@example.com", "accepted")
    hashed = hash_user(USER_KEY, "ann@example.com")
    ((key, change),) = await stored(log, DIRECTORY_CHANGES, DirectoryChange)
    assert (key.decode(), change.account) == (account or hashed, account)
    assert (change.op, change.user) == ("erase", hashed)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("users/null", "invalid_field"),
        ("users/%FF", "invalid_text"),
        ("users/ann?account_id=", "missing_account"),
        ("accounts/undefined", "invalid_account"),
    ],
)
async def test_nothing_is_erased_by_a_placeholder(
    api: Api, log: PostgresLog, path: str, code: str
) -> None:
    response = await api.client.delete(f"/v1/{path}", headers=api.key(Scope.ERASE))
    assert code in str(check_error(response, 400, "all_rejected")["message"])
    assert await stored(log, DIRECTORY_CHANGES, DirectoryChange) == []


async def test_erasing_takes_its_own_scope_and_no_unknown_word(api: Api) -> None:
    for path in ("accounts/a", "users/u"):
        response = await api.client.delete(f"/v1/{path}", headers=api.key())
        check_error(response, 403, "scope_missing")
    for query in ("account=acme", "account_id=a&account_id=b", "account_id=%FF"):
        response = await api.client.delete(f"/v1/users/u?{query}", headers=api.key(Scope.ERASE))
        check_error(response, 400, "invalid_envelope")
