"""The read API over HTTP, on rows as intake, sweep and training store them."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import Table, insert, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import model_store, peer_store
from services.scoring.api import api
from services.scoring.domain.activity import user_key
from services.scoring.domain.features import rows
from services.scoring.domain.history import versions_of
from services.scoring.domain.ledger import LifeStage
from services.scoring.domain.listing import Sort
from services.scoring.domain.model import logit, risk
from services.scoring.domain.peers import cohorts_of
from services.scoring.domain.rules import read_default
from services.scoring.domain.signals import subject_key
from services.scoring.domain.table import IndicatorTable, columns_hash
from services.scoring.domain.usage import SignalKind
from services.scoring.model_store import State
from services.scoring.openapi import EXAMPLES
from services.scoring.register import Register
from services.scoring.store import add_versions, save_accounts, shard_of
from services.scoring.tables import (
    account_day,
    account_stages,
    accounts,
    erased_accounts,
    feature_rows,
    flag_states,
    flags,
    model_health,
    outages,
    placing_hours,
    scores,
    signals,
    waiting_events,
)
from shared.credentials import KeyRing, Scope, new_key
from shared.messages import AccountFields, AccountRecord, Goal
from tests.unit.scoring.factories import history, model, table_of
from tests.unit.scoring.factories import rows as random_rows

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
OFTEN = table_of([history(range(0, 400, 2))])
RARELY = table_of([history(range(0, 400, 40))])
RULES = read_default()


class Stored:
    """Writes rows as scoring does, valid by default."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def put(self, table: Table, **values: object) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(table.insert().values(values))

    async def score(self, account: str, table: IndicatorTable = OFTEN, **changes: object) -> None:
        given: Mapping[str, object] = {
            "shard": shard_of(account),
            "account_id": account,
            "as_of": NOW,
            "state": "scored",
            "short_history": False,
            "risk": float(risk(model(), rows(table))[0]),
            "band": "healthy",
            "latched": 0,
            "band_since": NOW,
            "columns": columns_hash(),
            "indicators": table.packed()[0],
            "cohort_ratio": 1.0,
            "model_version": model().version,
        }
        await self.put(scores, **{**given, **changes})

    async def record(self, account: str, **known: Any) -> None:
        fields = AccountFields(**known)
        async with self.engine.begin() as connection:
            record = AccountRecord(account=account, updated_at=NOW, fields=fields)
            await save_accounts(connection, [record])
            await add_versions(connection, {account: versions_of(None, [(NOW, fields)])})

    async def flag(self, account: str, reason: str = "gone_silent", **changes: object) -> None:
        given: Mapping[str, object] = {
            "account_id": account,
            "reason": reason,
            "episode": 1,
            "flag_id": f"{account}-{reason}",
            "stage": "adopt",
            "raised_at": NOW,
            "updated_at": NOW,
            "band": "at_risk",
            "summary": "No use for 40 days.",
            "evidence": [{"text": "No use for 40 days."}],
            "why": "silent",
            "told_at": NOW,
        }
        await self.put(flags, **{**given, **changes})

    async def log(self, account: str, as_of: datetime, **changes: object) -> None:
        given: Mapping[str, object] = {
            "account_id": account,
            "as_of": as_of,
            "kind": "weekly",
            "columns": columns_hash(),
            "indicators": OFTEN.packed()[0],
            "risk": 0.1,
            "band": "healthy",
            "model_version": model().version,
            "directory": {},
        }
        await self.put(feature_rows, **{**given, **changes})

    async def value(self, account: str, metric: str, value: float, at: datetime) -> None:
        await self.put(
            signals,
            shard=shard_of(account),
            account_id=account,
            occurred_at=at,
            key=f"{metric} {at}".encode(),
            kind=SignalKind.GOAL_METRIC,
            subject=subject_key(metric),
            value=value,
            received_at=at,
        )

    async def fate(self, source: str, at: datetime, partition: int = 0, **events: int) -> None:
        hour = at.replace(minute=0, second=0, microsecond=0)
        await self.put(placing_hours, hour=hour, source=source, partition=partition, **events)

    async def waits(self, source: str, since: datetime, key: bytes) -> None:
        await self.put(
            waiting_events,
            partition=0,
            user_key=1,
            event_day=since.date(),
            key=key,
            log_offset=0,
            waiting_since=since,
            source=source,
            value=b"{}",
            headers=b"",
        )

    async def stage(self, account: str, stage: LifeStage, since: datetime) -> None:
        await self.put(account_stages, account_id=account, since=since, stage=stage)

    async def day(self, account: str, day: date, *users: str) -> None:
        await self.put(
            account_day,
            shard=shard_of(account),
            day=day,
            account_id=account,
            events=3,
            milliseconds=60_000,
            userless=0,
            users=sorted(user_key(user) for user in users),
            features=[],
            sources=["app"],
            first_received_at=NOW,
        )


@pytest.fixture
async def stored(engine: AsyncEngine, owner: AsyncEngine) -> Stored:
    """With one model in service, and a partition for whatever is logged."""
    async with owner.begin() as connection:
        await connection.execute(
            text("CREATE TABLE scoring.feature_rows_any PARTITION OF scoring.feature_rows DEFAULT")
        )
    async with engine.begin() as connection:
        await model_store.add(
            connection, model(), state=State.ACTIVE, reason="surveyed", accounts=1, now=NOW
        )
    return Stored(engine)


@pytest.fixture
async def client(engine: AsyncEngine) -> AsyncIterator[httpx.AsyncClient]:
    key, keys = new_key(source="t", scopes=[Scope.ACCOUNTS_READ], now=NOW), KeyRing()
    keys.put(key.record)
    register = Register(engine=engine, clock=lambda: NOW, max_age=timedelta())
    app = api(engine=engine, keys=keys, clock=lambda: NOW, rules=RULES, register=register)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://scoring",
        headers={"Authorization": f"Bearer {key.secret}"},
    ) as opened:
        yield opened


async def get(client: httpx.AsyncClient, path: str, **params: str | int) -> dict[str, Any]:
    answer = await client.get(path, params=params or None)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_an_account_is_told_with_all_that_is_known_of_it(
    stored: Stored, client: httpx.AsyncClient
) -> None:
    await stored.put(accounts, account_id="acme", fields={"name": "Acme"}, updated_at=NOW)
    await stored.score("acme", RARELY, value_at_risk=10, currency="EUR", value_basis="mrr")
    await stored.flag("acme")
    await stored.flag("acme", "seats_idle", cleared_at=NOW, told_at=None, held_at=NOW)
    found = await get(client, "/v1/accounts/acme")
    assert found["fields"] == {"name": "Acme"}
    assert found["value_at_risk"] == {"amount": "10", "currency": "EUR", "basis": "mrr"}
    assert found["indicators"]["active_days_365"] == 10  # every 40th of 365: 0, 40 ... 360
    assert found["indicators"]["state"] == "scored"
    assert found["indicators"]["nps_mean"] is None
    assert found["units"]["active_days_365"] == "days"
    silent, idle = found["flags"]
    assert (silent["why"], silent["evidence"]) == ("silent", [{"text": "No use for 40 days."}])
    assert (silent["held"], idle["held"]) == (False, True)
    assert found["as_of"] == "2026-03-01T12:00:00Z"


async def test_the_parts_of_a_risk_sum_to_its_log_odds(
    stored: Stored, client: httpx.AsyncClient
) -> None:
    """With the segment's accounts for comparison, to 1e-9."""
    await stored.put(accounts, account_id="acme", fields={"segment": "small"}, updated_at=NOW)
    await stored.score("acme", RARELY)
    cohorts = cohorts_of(model(), random_rows(40), ["small"] * 40)
    async with stored.engine.begin() as connection:
        await peer_store.save(connection, model().version, cohorts, accounts=40, now=NOW)
    found = await get(client, "/v1/accounts/acme")
    odds = found["log_odds"]
    assert odds["base"] + sum(odds["families"].values()) == pytest.approx(
        logit(found["risk"]), abs=1e-9
    )
    assert {reason["peer_segment"] for reason in found["reasons"]} == {"small"}
    assert {r["family"]: r["weight"] for r in found["reasons"]}.items() <= odds["families"].items()


async def test_a_score_keeps_the_survey_it_was_made_with(
    stored: Stored, client: httpx.AsyncClient
) -> None:
    await stored.score("acme", RARELY)
    before = (await get(client, "/v1/accounts/acme"))["reasons"]
    cohorts = cohorts_of(model(), random_rows(40) + 1, [None] * 40)
    async with stored.engine.begin() as connection:
        later = NOW + timedelta(seconds=1)
        await peer_store.save(connection, model().version, cohorts, accounts=40, now=later)
    assert (await get(client, "/v1/accounts/acme"))["reasons"] == before
    await stored.score("other", RARELY, as_of=later)
    assert (await get(client, "/v1/accounts/other"))["reasons"] != before


async def test_only_the_last_surveys_of_known_models_are_kept(stored: Stored) -> None:
    cohorts = cohorts_of(model(), random_rows(1), [None])
    async with stored.engine.begin() as connection:
        await peer_store.save(connection, "gone", cohorts, accounts=1, now=NOW)
        for number in range(peer_store.KEPT + 5):
            at = NOW + timedelta(seconds=number)
            await peer_store.save(connection, model().version, cohorts, accounts=1, now=at)
        times = await peer_store.read_times(connection, model().version)
        newest = await peer_store.read_newest(connection, model().version)
        assert await peer_store.read_times(connection, "gone") == []
    assert [at for _, at in times] == [
        NOW + timedelta(seconds=peer_store.KEPT + 4 - number) for number in range(peer_store.KEPT)
    ]
    assert newest is not None
    assert newest.cohorts[None].mean.tolist() == cohorts[None].mean.tolist()
    assert newest.cohorts[None].base_rate == cohorts[None].base_rate


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"columns": ""}, id="a row of another version"),
        pytest.param({"model_version": "gone"}, id="a model that is gone"),
        pytest.param({"risk": None, "state": "too_new", "band": None}, id="no risk"),
    ],
)
async def test_what_cannot_be_explained_has_no_reasons(
    stored: Stored, client: httpx.AsyncClient, changes: dict[str, Any]
) -> None:
    await stored.score("acme", **changes)
    found = await get(client, "/v1/accounts/acme")
    assert (found["reasons"], found["log_odds"]) == ([], None)
    assert (await get(client, "/v1/accounts"))["accounts"][0]["reasons"] == []


async def test_an_account_that_only_the_directory_knows(
    stored: Stored, client: httpx.AsyncClient
) -> None:
    await stored.put(accounts, account_id="new", fields={"name": "New"}, updated_at=NOW)
    found = await get(client, "/v1/accounts/new")
    assert (found["state"], found["risk"], found["indicators"]) == (None, None, {})
    answer = await client.get("/v1/accounts/nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_account")


async def test_rules_that_wait_say_for_what(stored: Stored, client: httpx.AsyncClient) -> None:
    await stored.score("acme")
    shard = shard_of("acme")
    wanted = {"account_id": "acme", "shard": shard, "wanted_since": NOW - DAY}
    await stored.put(flag_states, reason="usage_drop", episode=0, **wanted)
    await stored.put(
        flag_states,
        reason="seats_idle",
        episode=1,
        account_id="acme",
        shard=shard,
        raised_at=NOW - 30 * DAY,
        over_since=NOW,
    )
    await stored.put(flag_states, reason="churn_risk", episode=2, account_id="acme", shard=shard)
    found = await get(client, "/v1/accounts/acme")
    assert found["waiting"] == [
        {"reason": "seats_idle", "to": "clear", "since": "2026-03-01T12:00:00Z"},
        {"reason": "usage_drop", "to": "raise", "since": "2026-02-28T12:00:00Z"},
    ]


async def listed(client: httpx.AsyncClient, **params: str | int) -> list[str]:
    """All pages of a list, three accounts each; each page says how many there are in all."""
    found: list[str] = []
    totals = set()
    cursor: dict[str, str] = {}
    while True:
        page = await get(client, "/v1/accounts", limit=3, **cursor, **params)
        found += [one["account_id"] for one in page["accounts"]]
        totals.add(page["total"])
        if page["next_cursor"] is None:
            assert totals == {len(found)}
            return found
        cursor = {"cursor": page["next_cursor"]}


@pytest.mark.parametrize("order", ["asc", "desc", None])
@pytest.mark.parametrize("sort", list(Sort))
async def test_pages_together_hold_every_account_once_and_in_order(
    stored: Stored, client: httpx.AsyncClient, sort: Sort, order: str | None
) -> None:
    names = [f"a-{number:02}" for number in range(13)]
    values: dict[str, float | str | None] = {}
    for number, name in enumerate(names):
        # Ties, also among those that have none: the id breaks them.
        value = number % 4 or None
        end = value and date(2026, 3, 1) + value * DAY
        await stored.record(name, name=f"N{value}", mrr=value, contract_end=end)
        await stored.score(name, risk=value and value / 10, value_at_risk=value)
        values[name] = {Sort.ACCOUNT: name, Sort.NAME: f"n{value}"}.get(sort, value)
    falls = order == "desc" or (order is None and sort in ("risk", "value_at_risk", "mrr"))
    expected = sorted(name for name in names if values[name] is not None)
    expected.sort(key=lambda name: values[name], reverse=falls)  # type: ignore[arg-type,return-value]
    if falls:  # Sorting is stable: those of one value have kept their order.
        expected = [
            name
            for value in dict.fromkeys(values[name] for name in expected)
            for name in sorted(each for each in expected if values[each] == value)
        ]
    expected += sorted(name for name in names if values[name] is None)
    given = {"sort": sort} | ({"order": order} if order else {})
    assert await listed(client, **given) == expected


async def test_a_list_of_one_band(stored: Stored, client: httpx.AsyncClient) -> None:
    for name, band in (("a", "healthy"), ("b", "at_risk"), ("c", "at_risk")):
        await stored.score(name, band=band)
    await stored.flag("b")
    for sort in ("risk", "value_at_risk", "account_id"):
        page = (await get(client, "/v1/accounts", band="at_risk", sort=sort))["accounts"]
        assert [(one["account_id"], one["flags"]) for one in page] == [
            ("b", ["gone_silent"]),
            ("c", []),
        ]


async def test_a_list_is_filtered_and_searched(stored: Stored, client: httpx.AsyncClient) -> None:
    await stored.record("acme", name="ACME Größe", owner="ada", region="eu", plan="pro")
    await stored.record("globex", owner="ada", reseller="Initech", contract_end=date(2026, 3, 31))
    await stored.record("old", contract_end=date(2026, 3, 31), status="churned")
    await stored.score("acme", stage=LifeStage.ADOPT)
    await stored.score("events only", state="too_new", risk=None, band=None)
    for wanted, found in [
        ({"owner": "ada"}, ["acme", "globex"]),
        ({"owner": "ada", "region": "eu", "plan": "pro"}, ["acme"]),
        ({"owner": ""}, ["events only", "old"]),
        ({"sales": "indirect"}, ["globex"]),
        ({"reseller": "Initech", "owner": "bob"}, []),
        ({"stage": "adopt"}, ["acme"]),
        ({"state": "too_new"}, ["events only"]),
        ({"q": "größe"}, ["acme"]),
        ({"q": " GLOB"}, ["globex"]),
        ({"q": "e", "owner": "ada"}, ["acme", "globex"]),
        # 30 days from 1 March on; who has left renews nothing.
        ({"renews_within": "30"}, ["globex"]),
        ({"renews_within": "29"}, []),
    ]:
        assert await listed(client, sort="account_id", **wanted) == found, wanted


async def test_a_page_says_of_each_account_what_is_known(
    stored: Stored, client: httpx.AsyncClient
) -> None:
    await stored.record(
        "acme", mrr="480.00", currency="EUR", plan="pro", region="eu", reseller="Initech",
        contract_start=date(2025, 1, 15), contract_end=date(2026, 1, 15), billing_period="month",
    )  # fmt: skip
    await stored.score("acme", stage=LifeStage.RENEW)
    page = await get(client, "/v1/accounts")
    assert (page["total"], page["as_of"]) == (1, "2026-03-01T12:00:00Z")
    (one,) = page["accounts"]
    assert (one["mrr"], one["currency"], one["plan"]) == ("480.00", "EUR", "pro")
    assert (one["region"], one["reseller"], one["stage"]) == ("eu", "Initech", "renew")
    # The month that runs on 1 March ends on the 15th.
    assert (one["contract_end"], one["renewal_date"]) == ("2026-01-15", "2026-03-15")


async def test_leafing_goes_on_where_it_was_though_the_list_has_changed(
    stored: Stored, client: httpx.AsyncClient
) -> None:
    for number in range(4):
        await stored.score(f"a-{number}", risk=(8 - number) / 10)
    first = await get(client, "/v1/accounts", limit=2)
    assert [one["account_id"] for one in first["accounts"]] == ["a-0", "a-1"]
    async with stored.engine.begin() as connection:
        await connection.execute(text("DELETE FROM scoring.scores WHERE account_id = 'a-1'"))
        await connection.execute(insert(erased_accounts).values(account_id="a-1", erased_at=NOW))
    await stored.score("above", risk=0.9)
    rest = await get(client, "/v1/accounts", limit=2, cursor=first["next_cursor"])
    assert [one["account_id"] for one in rest["accounts"]] == ["a-2", "a-3"]


async def test_facets_say_what_one_could_choose(stored: Stored, client: httpx.AsyncClient) -> None:
    await stored.record("acme", owner="ada", segment="small")
    await stored.record("globex", owner="bob", segment="small", reseller="Initech")
    await stored.record("initech", owner="ada", segment="large")
    await stored.score("acme", band="at_risk")
    found = await get(client, "/v1/facets", owner="ada", segment="small")
    # By owner: those of segment small. By segment: those of ada. By all else: acme alone.
    assert found["owner"] == [{"value": "ada", "accounts": 1}, {"value": "bob", "accounts": 1}]
    assert found["segment"] == [
        {"value": "large", "accounts": 1},
        {"value": "small", "accounts": 1},
    ]
    assert found["reseller"] == [{"value": None, "accounts": 1}]
    assert found["sales"] == [{"value": "direct", "accounts": 1}]
    assert found["band"] == [{"value": "at_risk", "accounts": 1}]


async def test_the_history_is_what_was_logged(stored: Stored, client: httpx.AsyncClient) -> None:
    await stored.log("acme", NOW - 21 * DAY, risk=0.1)
    await stored.log("acme", NOW - 14 * DAY, risk=0.3, kind="band_change", band="watch")
    await stored.log("acme", NOW - 7 * DAY, kind="recomputed")
    await stored.log("acme", NOW - 400 * DAY)
    await stored.log("other", NOW - DAY)
    found = (await get(client, "/v1/accounts/acme/history"))["history"]
    assert [(one["kind"], one["risk"], one["band"]) for one in found] == [
        ("weekly", 0.1, "healthy"),
        ("band_change", 0.3, "watch"),
    ]
    newest = (await get(client, "/v1/accounts/acme/history", limit=1))["history"]
    assert newest == found[1:]
    long = (await get(client, "/v1/accounts/acme/history", **{"from": "2024-01-01"}))["history"]
    assert len(long) == 3


async def test_people_are_told_by_a_code(stored: Stored, client: httpx.AsyncClient) -> None:
    for age, users in ((1, ["u1:ada"]), (2, ["u1:ada", "u1:bo"]), (100, ["u1:bo"])):
        await stored.day("acme", (NOW - age * DAY).date(), *users)
    await stored.day("acme", NOW.date(), "u1:late")  # The running day is not complete.
    found = await get(client, "/v1/accounts/acme/people")
    assert found["total"] == 2
    ada, bo = found["people"]
    assert ada["user"] == f"{user_key('u1:ada') & (1 << 64) - 1:016x}"
    assert (ada["first_day"], ada["last_day"]) == ("2026-02-27", "2026-02-28")
    assert [bo[f"active_days_{window}"] for window in (28, 90, 365)] == [1, 1, 2]
    assert len((await get(client, "/v1/accounts/acme/people", limit=1))["people"]) == 1


async def test_days_of_use(stored: Stored, client: httpx.AsyncClient) -> None:
    await stored.day("a/b", date(2026, 2, 20), "u1:ada")
    found = await get(client, "/v1/accounts/a%2Fb/daily")
    assert found["days"] == [
        {"day": "2026-02-20", "events": 3, "active_users": 1, "session_seconds": 60}
    ]


async def test_a_model_says_what_it_weighs_and_how_it_did(
    stored: Stored, client: httpx.AsyncClient
) -> None:
    await stored.put(
        model_health, looked_at=NOW, version=model().version, findings={"months": [1, 2]}
    )
    (listed,) = (await get(client, "/v1/models"))["models"]
    assert (listed["version"], listed["state"], listed["why"]) == ("test-1", "active", "surveyed")
    card = await get(client, "/v1/models/test-1")
    assert card.items() >= listed.items()
    recency = next(one for one in card["weights"] if one["feature"] == "recency_days")
    assert recency["effect"] == "more of it raises the risk"
    assert recency["means"] == "days from the last active day to the last complete day"
    assert card["health"] == [{"looked_at": "2026-03-01T12:00:00Z", "findings": {"months": [1, 2]}}]
    answer = await client.get("/v1/models/unheard-of")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")


async def test_a_model_that_cannot_be_read_is_said_so(
    stored: Stored, client: httpx.AsyncClient
) -> None:
    async with stored.engine.begin() as connection:
        await connection.execute(text("UPDATE scoring.models SET document = '{}'"))
    answer = await client.get("/v1/models/test-1")
    assert (answer.status_code, answer.json()["code"]) == (409, "model_refused")


async def test_the_rules_in_force(client: httpx.AsyncClient) -> None:
    found = await get(client, "/v1/rules")
    assert found["digest"] == RULES.digest
    assert found["rules"]["gone_silent"]["silent_days"] == 28
    assert found["rules"]["bands"]["at_risk"] == {"times_base": 3.0, "at_most": 0.3}


async def test_the_status_says_what_is_stale_and_what_is_held(
    stored: Stored, client: httpx.AsyncClient
) -> None:
    assert (await get(client, "/v1/status"))["staleness"] == []
    since = {"began_at": NOW - DAY, "noticed_at": NOW, "seen_at": NOW, "missing_days": []}
    await stored.put(outages, source="app", why="silent", **since)
    await stored.put(outages, source="crm", why="silent", ended_at=NOW, **since)
    await stored.flag("a")
    await stored.flag("b", message=b"{}", held_at=NOW, told_at=None)
    found = await get(client, "/v1/status")
    assert [(one["source"], one["why"]) for one in found["staleness"]] == [("app", "silent")]
    assert found["mass_flags"] == {"gone_silent": 1}
    assert (found["flags_open"], found["flags"]) == (2, {"gone_silent": 2})


async def test_what_became_of_events_without_an_account_is_told_by_source(
    stored: Stored, client: httpx.AsyncClient
) -> None:
    assert (await get(client, "/v1/sources/placing"))["sources"] == []
    hour = timedelta(hours=1)
    # Of the same hour in two partitions; two days ago; too long ago.
    await stored.fate("shop", NOW, 0, only_account=4, group_call=1, waiting=3)
    await stored.fate("shop", NOW, 1, only_account=2, late=1, full=1, erased=1)
    await stored.fate("shop", NOW - 48 * hour, last_activity=5, first_stated=2)
    await stored.fate("shop", NOW - 7 * DAY, only_account=1000)
    await stored.waits("crm", NOW - 90 * hour / 60, b"1")
    await stored.waits("crm", NOW - 10 * hour / 60, b"2")
    await stored.waits("crm", NOW - 50 * hour / 60, b"3")
    crm, shop = (await get(client, "/v1/sources/placing"))["sources"]
    none = dict.fromkeys(("only_account", "group_call", "last_activity", "first_stated"), 0)
    ends = {"began_to_wait": 3, "late": 1, "full": 1, "erased": 1}
    assert shop["day"] == {"placed": none | {"only_account": 6, "group_call": 1}, **ends}
    assert shop["week"]["placed"] == {
        "only_account": 6, "group_call": 1, "last_activity": 5, "first_stated": 2,
    }  # fmt: skip
    assert (shop["waiting"], shop["waiting_since"], shop["trouble"]) == (0, None, None)
    assert crm == {
        "source": "crm",
        "day": {"placed": none, **dict.fromkeys(ends, 0)},
        "week": {"placed": none, **dict.fromkeys(ends, 0)},
        "waiting": 3,
        "waiting_over_an_hour": 1,
        "waiting_since": "2026-03-01T10:30:00Z",
        "trouble": None,
    }
    await stored.fate("crm", NOW - 4 * DAY, late=20)
    crm, _ = (await get(client, "/v1/sources/placing"))["sources"]
    assert crm["trouble"] == "mostly_lost"  # 20 late and 1 long, of 23


PATHS = {
    "list": "/v1/accounts",
    "facets": "/v1/facets",
    "account": "/v1/accounts/acme",
    "daily": "/v1/accounts/acme/daily",
    "history": "/v1/accounts/acme/history",
    "people": "/v1/accounts/acme/people",
    "models": "/v1/models",
    "model": "/v1/models/test-1",
    "rules": "/v1/rules",
    "status": "/v1/status",
    "placing": "/v1/sources/placing",
    "portfolio": "/v1/portfolio?by=owner",
    "months": "/v1/portfolio/months",
    "renewals": "/v1/renewals?by=owner",
    "journey": "/v1/journey",
    "way": "/v1/accounts/acme/journey",
    "goals": "/v1/goals",
    "promises": "/v1/accounts/acme/goals",
}


CONTRACT: Mapping[str, Any] = {
    "mrr": Decimal(100),
    "currency": "EUR",
    "contract_start": NOW.date() - 700 * DAY,
    "contract_end": NOW.date() + 20 * DAY,
}


async def test_the_examples_show_what_is_answered(
    stored: Stored, client: httpx.AsyncClient
) -> None:
    """Field by field; only what is open by nature (names of indicators, rules ...) may be more."""
    goal = Goal(metric="m", baseline=12, target=10.2, direction="down", due=date(2027, 3, 1))
    # Of fewer than ten accounts no rate is told.
    for name in ("acme", *(f"other-{number}" for number in range(10))):
        owner = "ada" if name == "acme" else None
        await stored.record(name, segment="s", owner=owner, goals=(goal,), **CONTRACT)
        await stored.value(name, "m", 10.6, NOW)
    await stored.stage("acme", LifeStage.LAND, NOW - DAY)
    await stored.stage("acme", LifeStage.ADOPT, NOW)
    await stored.score(
        "acme", RARELY, value_at_risk=1, currency="EUR", value_basis="mrr", stage=3, stage_since=NOW
    )
    await stored.flag("acme", evidence=[EXAMPLES["account"]["reasons"][0]])
    await stored.put(
        flag_states,
        account_id="acme",
        shard=shard_of("acme"),
        reason="usage_drop",
        episode=0,
        wanted_since=NOW,
    )
    await stored.log("acme", NOW)
    await stored.day("acme", (NOW - DAY).date(), "u1:ada")
    await stored.put(model_health, looked_at=NOW, version=model().version, findings={})
    since = {"began_at": NOW, "noticed_at": NOW, "seen_at": NOW, "missing_days": []}
    await stored.put(outages, source="app", why="silent", **since)
    await stored.fate("app", NOW, only_account=1)
    assert set(PATHS) == set(EXAMPLES)
    for name, path in PATHS.items():
        assert shape(await get(client, path)) == shape(EXAMPLES[name]), name


OPEN = frozenset(
    {"fields", "indicators", "units", "families", "metrics", "challenger", "report", "findings"}
    | {"rules", "bands", "flags_by_reason", "mass_flags", "left_90"}
)


def shape(value: object, name: str = "") -> object:
    """Names and nesting; of a list, of its first entry."""
    if isinstance(value, dict):
        by_reason = name == "flags"
        return {} if name in OPEN or by_reason else {k: shape(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None


async def test_every_route_describes_itself(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json", headers={"Authorization": ""})).json()
    routes = [
        (path, route) for path, methods in document["paths"].items() for route in methods.values()
    ]
    # Insights and questions about rules have tests of their own.
    others = {"insights", "rules"}
    assert sum(route["tags"][0] not in others for _, route in routes) == len(PATHS)
    for path, route in routes:
        assert route["description"], path
        assert route["security"] == [{"HTTPBearer": []}], path
        assert {"200", "401", "403", "422", "503"} <= set(route["responses"]), path


async def test_without_the_scope_nothing_is_told(engine: AsyncEngine) -> None:
    key, keys = new_key(source="t", scopes=[Scope.EVENTS_WRITE], now=NOW), KeyRing()
    keys.put(key.record)
    register = Register(engine=engine, clock=lambda: NOW, max_age=timedelta())
    app = api(engine=engine, keys=keys, clock=lambda: NOW, rules=RULES, register=register)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://scoring"
    ) as other:
        for path in PATHS.values():
            assert (await other.get(path)).status_code == 401, path
            headers = {"Authorization": f"Bearer {key.secret}"}
            answer = await other.get(path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), path


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/accounts?cursor=x", "invalid_cursor"),
        # [0.5, "acme"] and ["acme", "acme"]: of lists that are sorted in another way.
        ("/v1/accounts?sort=name&cursor=WzAuNSwiYWNtZSJd", "invalid_cursor"),
        ("/v1/accounts?sort=risk&cursor=WyJhY21lIiwiYWNtZSJd", "invalid_cursor"),
        ("/v1/accounts?band=purple", "invalid_request"),
        ("/v1/accounts?sort=purple", "invalid_request"),
        ("/v1/accounts?renews_within=-1", "invalid_request"),
        ("/v1/accounts/a/daily?from=2026-02-02&to=2026-02-01", "invalid_range"),
        ("/v1/accounts/a/history?from=1900-01-01", "invalid_range"),
        ("/v1/accounts/a/people?limit=0", "invalid_request"),
        ("/v1/accounts/a%00", "invalid_request"),
        ("/v1/accounts/a%00/journey", "invalid_request"),
        ("/v1/accounts/a%00/goals", "invalid_request"),
    ],
)
async def test_what_is_asked_wrongly_is_refused(
    client: httpx.AsyncClient, path: str, code: str
) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_the_rows_of_these_tests_have_a_risk() -> None:
    assert np.isfinite(risk(model(), rows(RARELY))).all()
