"""Portfolio, months and forecast over HTTP, on what the directory is told in its order."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.api import api
from services.scoring.domain.rules import read_default
from services.scoring.register import Register
from services.scoring.store import shard_of
from services.scoring.tables import account_versions, scores
from shared.credentials import KeyRing, Scope, new_key

NOW = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)
LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)
LEFT = datetime(2026, 1, 10, 9, 0, tzinfo=UTC)


class Told:
    """Writes versions as intake does, and scores as the sweep."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def version(self, account: str, since: datetime = LONG_AGO, **fields: object) -> None:
        known = {"status": "active", "mrr": Decimal("10.50"), "currency": "EUR", **fields}
        async with self.engine.begin() as connection:
            await connection.execute(
                account_versions.insert().values(account_id=account, since=since, **known)
            )

    async def score(self, account: str, risk: float, value: str) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(
                scores.insert().values(
                    shard=shard_of(account),
                    account_id=account,
                    as_of=NOW,
                    state="scored",
                    short_history=False,
                    risk=risk,
                    latched=0,
                    band_since=NOW,
                    columns="x",
                    indicators=b"",
                    cohort_ratio=1.0,
                    value_at_risk=Decimal(value),
                    currency="EUR",
                    value_basis="mrr",
                )
            )


@pytest.fixture
async def client(engine: AsyncEngine) -> AsyncIterator[httpx.AsyncClient]:
    key, keys = new_key(source="t", scopes=[Scope.ACCOUNTS_READ], now=NOW), KeyRing()
    keys.put(key.record)
    app = api(
        engine=engine,
        keys=keys,
        clock=lambda: NOW,
        rules=read_default(),
        register=Register(engine=engine, clock=lambda: NOW, max_age=timedelta()),
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://scoring",
        headers={"Authorization": f"Bearer {key.secret}"},
    ) as opened:
        yield opened


@pytest.fixture
async def told(engine: AsyncEngine) -> Told:
    """Ten of Ada's and two of Bob's, of which one left in January."""
    said = Told(engine)
    for number in range(10):
        end = date(2026, 3, 20) if number < 4 else date(2026, 12, 31)
        await said.version(f"a{number}", owner="ada", contract_end=end)
        await said.score(f"a{number}", 0.25, "31.50")
    for number in range(2):
        await said.version(f"b{number}", owner="bob")
    await said.version("b1", LEFT, owner="bob", status="churned", churned_at=LEFT.date())
    return said


async def get(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.usefixtures("told")
async def test_a_portfolio_by_owner(client: httpx.AsyncClient) -> None:
    found = await get(client, "/v1/portfolio?by=owner")
    # A year, today included.
    assert (found["from"], found["to"], found["state"]) == (
        "2025-03-06",
        "2026-03-06",
        "provisional",
    )
    assert (found["by"], found["target"], found["others"]) == ("owner", 0.9, None)
    whole = found["whole"]
    assert whole["accounts"] == {
        "start": 12,
        "new": 0,
        "lost": 1,
        "end": 11,
        "trials": 0,
        "without_record": 0,
    }
    assert whole["churn"]["rate"] == pytest.approx(1 / 12)
    (euro,) = whole["money"]
    # 12 x 10.50 - 10.50 = 115.50
    assert (euro["mrr_start"], euro["lost"], euro["mrr_end"]) == ("126.00", "10.50", "115.50")
    assert euro["grr"] == pytest.approx(11 / 12)
    # 10 x 0.25 x 12 x 10.50
    assert (euro["value_at_risk"], euro["value_basis"]) == ("315.00", {"margin": 0, "mrr": 10})
    assert [(one["key"], one["figures"]["accounts"]["start"]) for one in found["parts"]] == [
        ("ada", 10),
        ("bob", 2),
    ]
    bob = found["parts"][1]["figures"]
    assert (bob["churn"]["rate"], bob["churn"]["n"]) == (None, 2)


@pytest.mark.usefixtures("told")
async def test_a_portfolio_of_the_past_is_final_and_has_no_value_at_risk(
    client: httpx.AsyncClient,
) -> None:
    found = await get(client, "/v1/portfolio?from=2026-01-01&to=2026-02-01&owner=bob")
    assert (found["state"], found["parts"]) == ("final", [])
    assert found["whole"]["accounts"]["lost"] == 1
    assert "without_record" not in found["whole"]["accounts"]
    assert found["whole"]["money"][0]["value_at_risk"] is None


async def test_accounts_that_only_events_know_are_no_customers(
    client: httpx.AsyncClient, told: Told
) -> None:
    await told.score("stranger", 0.5, "1.00")
    whole = (await get(client, "/v1/portfolio"))["whole"]
    assert (whole["accounts"]["without_record"], whole["accounts"]["end"]) == (1, 11)


async def test_months_stay_when_news_of_them_come_late(
    client: httpx.AsyncClient, told: Told
) -> None:
    shown = (await get(client, "/v1/portfolio/months?months=4"))["months"]
    assert [(one["month"], one["state"]) for one in shown] == [
        ("2025-12", "final"),
        ("2026-01", "final"),
        ("2026-02", "provisional"),
        ("2026-03", "provisional"),
    ]
    assert [one["figures"]["accounts"]["lost"] for one in shown] == [0, 1, 0, 0]
    # Today we learn that another one left in December, at another price, under another owner.
    left = {"status": "churned", "churned_at": date(2025, 12, 5), "mrr": Decimal(99)}
    await told.version("b0", NOW - timedelta(hours=1), owner="cyd", **left)
    again = (await get(client, "/v1/portfolio/months?months=4"))["months"]
    assert again[:2] == shown[:2]
    # 5 March - 7 = 26 February
    assert [one["figures"]["accounts"]["lost"] for one in again] == [0, 1, 1, 0]


@pytest.mark.usefixtures("told")
async def test_renewals_that_come_up(client: httpx.AsyncClient) -> None:
    found = await get(client, "/v1/renewals?by=owner")
    assert found["horizons"] == [30, 90, 180]
    thirty = found["whole"][0]
    # 4 x 0.25; a year's price 4 x 126
    assert (thirty["days"], thirty["due"], thirty["without_risk"]) == (30, 4, 0)
    assert thirty["expected_lost"] == pytest.approx(1)
    assert thirty["money"] == [{"currency": "EUR", "due": "504.00", "expected_lost": "126.00"}]
    assert [one["key"] for one in found["parts"]] == ["ada"]
    none = await get(client, "/v1/renewals?owner=bob")
    assert [one["due"] for one in none["whole"]] == [0, 0, 0]


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("from=2026-02-01&to=2026-02-01", id="no day"),
        pytest.param("from=2026-02-02&to=2026-02-01", id="backwards"),
        pytest.param("from=2026-03-06&to=2026-04-01", id="all of it is to come"),
        pytest.param("from=1990-01-01&to=2026-01-01", id="more than thirty years"),
        pytest.param("from=2026-01-01&to=9999-12-31", id="the calendar's last days"),
        pytest.param("by=colour", id="no such cut"),
        pytest.param("stage=gone", id="no such stage"),
        pytest.param("from=0001-01-02&to=0001-01-09", id="the calendar's first days"),
    ],
)
async def test_a_period_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, query: str
) -> None:
    answer = await client.get(f"/v1/portfolio?{query}")
    assert answer.status_code == 422
    assert answer.json()["code"] in {"invalid_range", "invalid_request"}


async def test_a_portfolio_of_nobody(client: httpx.AsyncClient) -> None:
    found = await get(client, "/v1/portfolio?by=stage")
    assert found["whole"]["accounts"]["start"] == 0
    assert (found["whole"]["money"], found["parts"]) == ([], [])
    assert found["whole"]["churn"] == {
        "rate": None,
        "retention": None,
        "per_month": None,
        "per_year": None,
        "n": 0,
    }
    assert len((await get(client, "/v1/portfolio/months"))["months"]) == 12
