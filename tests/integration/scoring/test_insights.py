"""A month's insights from what is stored of accounts, as they are made, kept and told."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import httpx
import numpy as np
import pytest
from sqlalchemy import Table, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from services.__main__ import app as command_line
from services.scoring import erasure, insight_store, insights
from services.scoring.api import api
from services.scoring.api_insights import EXAMPLE
from services.scoring.domain.anonymity import drawn, rounded
from services.scoring.domain.insight_document import Document, Insight
from services.scoring.domain.rules import read_default
from services.scoring.domain.table import COLUMNS, columns_hash
from services.scoring.domain.usage import SignalKind
from services.scoring.insights import Made, MonthRefused, last_month, span_of
from services.scoring.register import Register
from services.scoring.store import shard_of
from services.scoring.tables import (
    account_day,
    account_past,
    account_versions,
    feature_rows,
    signals,
)
from services.scoring.tables import insights as stored_insights
from shared.credentials import KeyRing, Scope, new_key

NOW = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)
MONTH, END = date(2026, 2, 1), date(2026, 3, 1)
KEY = b"a key that nobody keeps"
DAY = timedelta(days=1)

RETAIL = [f"retail-{n}" for n in range(40)]
NEW = [f"new-{n}" for n in range(40)]
LOST = [f"lost-{n}" for n in range(20)]
TRIALS = [f"trial-{n}" for n in range(20)]
TINY = [f"tiny-{n}" for n in range(3)]
BEGAN = END - 100 * DAY


def days(
    account: str, when: Iterable[date], *, users: int = 8, features: Sequence[str] = ()
) -> list[dict[str, object]]:
    """On each day all users for half an hour each."""
    return [
        {
            "shard": shard_of(account),
            "day": day,
            "account_id": account,
            "events": 3,
            "milliseconds": users * 1_800_000,
            "userless": 0,
            "users": list(range(users)),
            "features": list(features),
            "sources": ["app"],
            "first_received_at": NOW,
        }
        for day in when
    ]


def version(account: str, segment: str | None, **changes: object) -> dict[str, object]:
    given: Mapping[str, object] = {
        "account_id": account,
        "since": NOW - 400 * DAY,
        "segment": segment,
        "status": "active",
        "contract_start": None,
        "churned_at": None,
    }
    return {**given, **changes}


def row_of(account: str, as_of: date, **indicators: float) -> dict[str, object]:
    values = [indicators.get(name, np.nan) for name in COLUMNS]
    return {
        "account_id": account,
        "as_of": datetime(as_of.year, as_of.month, as_of.day, tzinfo=UTC),
        "kind": "weekly",
        "columns": columns_hash(),
        "indicators": np.array(values, np.float64).tobytes(),
        "directory": {},
    }


async def put(engine: AsyncEngine, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    async with engine.begin() as connection:
        await connection.execute(insert(table), rows)


@pytest.fixture
async def customers(engine: AsyncEngine, owner: AsyncEngine) -> AsyncEngine:
    """40 in Retail that have been there for long, 40 that began 100 days before the month's end,
    20 lost, 20 trials, and 3 in a segment of their own.

    Retail comes on 16 of the last 28 days, each of 8 users for half an hour a day.
    """
    async with owner.begin() as connection:
        await connection.execute(
            text("CREATE TABLE scoring.feature_rows_any PARTITION OF scoring.feature_rows DEFAULT")
        )
    every = [END - n * DAY for n in range(1, 29)]
    used = [one for name in RETAIL for one in days(name, every[:16], features=["report"])]
    for n, name in enumerate(NEW):
        first = ["connect"] if n % 2 else []
        used += days(name, [BEGAN], features=first, users=4)
        used += days(name, [BEGAN + 20 * DAY, BEGAN + 40 * DAY, *every[:8]], users=4)
    used += [one for name in LOST for one in days(name, [END - 150 * DAY])]
    used += [one for name in [*TRIALS, *TINY] for one in days(name, every)]
    await put(engine, account_day, used)
    past = {"first_day": date(2024, 1, 1), "last_day": date(2024, 12, 1), "active_days": 9}
    await put(
        engine,
        account_past,
        [{"shard": shard_of(one), "account_id": one, **past} for one in [*RETAIL, *LOST]],
    )
    gone = END - 40 * DAY
    said = [version(name, "Retail") for name in RETAIL]
    said += [version(name, "New") for name in NEW]
    said += [version(name, "Retail", status="churned", churned_at=gone) for name in LOST]
    said += [version(name, "Retail", status="trial") for name in TRIALS]
    said += [version(name, "Tiny") for name in TINY]
    await put(engine, account_versions, said)
    kept = [row_of(name, END - 92 * DAY, active_users_28=8) for name in RETAIL]
    left = [row_of(name, gone - 92 * DAY, active_users_28=3) for name in LOST]
    # What was later, or much earlier, is not what they did three months before.
    left += [row_of(name, gone - 20 * DAY, active_users_28=1) for name in LOST]
    left += [row_of(name, gone - 98 * DAY, active_users_28=30) for name in LOST]
    await put(engine, feature_rows, kept + left)
    return engine


async def make(engine: AsyncEngine, now: datetime = NOW, key: bytes = KEY) -> Made:
    async with engine.begin() as connection:
        return await insights.make(connection, last_month(now), now=now, key=key)


async def read(engine: AsyncEngine) -> Document:
    async with engine.connect() as connection:
        found = await insight_store.read(connection)
    assert found is not None
    return found


async def segments(engine: AsyncEngine) -> dict[str | None, Insight]:
    return {one.segment: one for one in (await read(engine)).segments}


def count(names: Sequence[str]) -> int:
    """How many of these are drawn, as it is told."""
    return rounded(int(drawn(names, KEY).sum()))


async def test_a_month_as_it_is_stored(customers: AsyncEngine) -> None:
    assert await make(customers) is Made.MADE
    found = await read(customers)
    assert (found.month, found.k) == ("2026-02", 5)
    told = {one.segment: one for one in found.segments}
    # Tiny's three (at most) are in no segment of their own: they hide in the smaller of the others.
    assert set(told) in ({None, "Retail"}, {None, "New"})
    assert told[None].accounts == count([*RETAIL, *NEW, *TINY])


async def test_what_is_told_of_a_segment(customers: AsyncEngine) -> None:
    """16 active days in 4 weeks: 4 a week. 8 users x 16 days x 0.5 h / (8 users x 4 weeks) = 2 h.

    New accounts' third active day is day 40 of their life; half of them connect on day 0.
    """
    async with customers.begin() as connection:
        await connection.execute(
            update(account_versions)
            .where(account_versions.c.segment == "Tiny")
            .values(segment="New")
        )
    await make(customers)
    told = await segments(customers)
    assert set(told) == {None, "Retail", "New"}
    retail, new = told["Retail"], told["New"]
    assert retail.accounts == count(RETAIL)
    assert (retail.size.median_users, retail.rhythm.days_per_week) == (8.0, 4.0)
    assert retail.rhythm.hours_per_user_week == 2.0
    assert (retail.renewing, retail.leaving) == (count(RETAIL), count(LOST))
    assert [(one.indicator, one.renewing, one.leaving) for one in retail.renewing_vs_leaving] == [
        ("active_users_28", 8.0, 3.0)
    ]
    assert retail.newcomers is None
    # Tiny's began 28 days before the end: too short a life to be told of.
    assert new.newcomers == count(NEW)
    assert (new.time_to_value.to, new.time_to_value.median_days) == ("third_active_day", 40.0)
    those, of = drawn(NEW[1::2], KEY).sum(), drawn(NEW, KEY).sum()
    (connect,) = new.features
    assert connect.name == "connect"
    assert connect.share == pytest.approx(those / of, abs=0.026)
    assert connect.first_week in {1, 12}


async def test_where_milestones_are_reported_they_are_the_first_value(
    customers: AsyncEngine,
) -> None:
    await put(
        customers,
        signals,
        [
            {
                "shard": shard_of(name),
                "account_id": name,
                "occurred_at": datetime(2025, 11, 21, tzinfo=UTC) + after * DAY,
                "key": bytes([after]),
                "kind": int(SignalKind.MILESTONE),
                "subject": after,
                "received_at": NOW,
            }
            for name in NEW
            for after in (12, 30)
        ],
    )
    assert date(2025, 11, 21) == BEGAN
    await make(customers)
    found = (await segments(customers))[None].time_to_value
    assert (found.to, found.median_days) == ("milestone", 12.0)


async def test_a_month_is_made_once_and_stays_as_it_is(customers: AsyncEngine) -> None:
    """Another draw of the same month would let two documents be compared."""
    await make(customers)
    before = await read(customers)
    assert await make(customers, NOW + 10 * DAY, b"another key") is Made.THERE_ALREADY
    assert await read(customers) == before


async def test_nothing_in_it_names_an_account_a_user_or_a_reseller(customers: AsyncEngine) -> None:
    """So an erasure has nothing to do there: what is stored is the same without the account."""
    async with customers.begin() as connection:
        await connection.execute(update(account_versions).values(reseller="Somebody & Sons"))
    await make(customers)
    async with customers.connect() as connection:
        content = json.dumps(await connection.scalar(select(stored_insights.c.document)))
    names = [*RETAIL, *NEW, *LOST, *TRIALS, *TINY, "Somebody"]
    assert [name for name in names if name in content] == []
    before = await read(customers)
    async with customers.begin() as connection:
        await erasure.erase_accounts(connection, {NEW[0]: NOW}, now=NOW)
    assert await read(customers) == before


async def test_too_few_accounts_make_no_document(engine: AsyncEngine) -> None:
    await put(engine, account_day, [one for n in range(4) for one in days(f"a{n}", [END - DAY])])
    assert await make(engine) is Made.TOO_FEW
    async with engine.connect() as connection:
        assert await insight_store.read(connection) is None


def test_the_last_month_is_one_that_is_settled() -> None:
    assert last_month(datetime(2026, 3, 2, 23, tzinfo=UTC)).month == date(2026, 1, 1)
    assert last_month(datetime(2026, 3, 3, tzinfo=UTC)).month == MONTH
    assert span_of(MONTH, NOW).end == END
    with pytest.raises(MonthRefused, match="2026-03 is not over"):
        span_of(date(2026, 3, 1), NOW)
    # 400 days are kept, 365 before the month's end are needed.
    assert span_of(date(2026, 1, 1), NOW).end == MONTH
    with pytest.raises(MonthRefused, match="2025-12 not all days"):
        span_of(date(2025, 12, 1), NOW)


@pytest.fixture
async def client(engine: AsyncEngine) -> AsyncIterator[httpx.AsyncClient]:
    key, keys = new_key(source="t", scopes=[Scope.ACCOUNTS_READ], now=NOW), KeyRing()
    keys.put(key.record)
    register = Register(engine=engine, clock=lambda: NOW, max_age=timedelta(0))
    app = api(engine=engine, keys=keys, clock=lambda: NOW, rules=read_default(), register=register)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://scoring",
        headers={"Authorization": f"Bearer {key.secret}"},
    ) as opened:
        yield opened


async def test_the_api_tells_the_newest_month_or_one(
    customers: AsyncEngine, client: httpx.AsyncClient
) -> None:
    none = await client.get("/v1/insights")
    assert (none.status_code, none.json()["code"]) == (404, "no_insights")
    await make(customers)
    newest = (await client.get("/v1/insights")).json()
    assert newest == (await client.get("/v1/insights/2026-02")).json()
    assert newest["months"] == ["2026-02"]
    assert newest["segments"][0]["segment"] is None
    assert newest["segments"][0]["stories"][0]["figures"]
    assert newest.keys() == EXAMPLE.keys()
    assert newest["segments"][0].keys() == EXAMPLE["segments"][0].keys()
    assert (await client.get("/v1/insights/2026-01")).status_code == 404
    assert (await client.get("/v1/insights/2026-13")).status_code == 422
    assert (await client.get("/v1/insights/0000-01")).status_code == 422


async def test_a_number_that_may_not_be_told_is_left_out_when_it_is_asked_for(
    customers: AsyncEngine, client: httpx.AsyncClient
) -> None:
    await make(customers)
    async with customers.begin() as connection:
        document = (await connection.execute(select(stored_insights.c.document))).scalar_one()
        document["segments"][0]["newcomers"] = 3
        document["segments"][1]["accounts"] = 4
        await connection.execute(update(stored_insights).values(document=document))
    told = (await client.get("/v1/insights")).json()["segments"]
    assert len(told) == 1
    assert (told[0]["newcomers"], told[0]["features"]) == (None, [])


async def test_the_command_makes_and_shows_a_month(
    customers: AsyncEngine, database_url: str
) -> None:
    async def run(*arguments: str) -> Result:
        result = await asyncio.to_thread(
            CliRunner().invoke,
            command_line,
            ("insights", *arguments),
            env={"DATABASE_URL": database_url, "COLUMNS": "200", "NO_COLOR": "1"},
        )
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    none = await run("show")
    assert (none.exit_code, none.stdout) == (1, "")
    assert "no insights yet" in none.stderr
    # The command's clock is the real one: months that long ago are refused, or empty.
    refused = await run("make", "--month", "2020-01")
    assert refused.exit_code == 1
    assert "not all days that are needed are kept" in refused.stderr
    assert (await run("make", "--month", "soon")).exit_code == 2
    assert "nothing can be told: too few accounts" in (await run("make")).stdout
    await make(customers)
    shown = await run("show")
    assert "2026-02, " in shown.stdout
    assert "All customers (about " in shown.stdout
    told = json.loads((await run("show", "--month", "2026-02", "--json")).stdout)
    assert told["segments"][0]["stories"][0]["title"] == "Who uses it, and how often"
    unknown = await run("show", "--segment", "Tiny")
    assert unknown.exit_code == 1
    assert "nothing is told of Tiny" in unknown.stderr
