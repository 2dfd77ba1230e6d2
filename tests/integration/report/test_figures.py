"""A review of real accounts: scoring counts, in this process, and the page says it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier.domain import periods
from services.report import page, readings
from services.report.readings import Readings
from services.scoring.api import api
from services.scoring.domain.history import versions_of
from services.scoring.domain.rules import read_default
from services.scoring.register import Register
from services.scoring.store import add_versions, save_accounts
from shared.credentials import KeyRing, Scope, new_key
from shared.messages import AccountFields, AccountRecord

NOW = datetime(2026, 6, 20, 12, tzinfo=UTC)
MAY = periods.month(2026, 5)
DAY = timedelta(days=1)


@pytest.fixture
async def customers(engine: AsyncEngine) -> AsyncEngine:
    """Fifteen of Anna's accounts, five of Ben's; of May's twelve contracts ten are renewed."""
    for number in range(20):
        ends = date(2026, 5, 15) if number < 12 else date(2026, 12, 31)
        fields = AccountFields(
            name=f"Customer {number}", owner="anna@vendor.example" if number < 15 else "ben@v.e",
            status="active", contract_start=date(2025, 5, 15), contract_end=ends,
            mrr=Decimal(100), margin_per_month=Decimal(80), currency="EUR", segment="small",
            billing_period="year",
        )  # fmt: skip
        told = [(datetime(2026, 1, 1, tzinfo=UTC), fields)]
        if number < 10:
            renewed = {"contract_end": date(2027, 5, 15)}
            told.append((datetime(2026, 5, 10, tzinfo=UTC), _with(fields, **renewed)))
        elif number < 12:
            lost = {"status": "churned", "churned_at": date(2026, 5, 15)}
            told.append((datetime(2026, 5, 16, tzinfo=UTC), _with(fields, **lost)))
        name = f"customer-{number:02}"
        async with engine.begin() as connection:
            at, last = told[-1]
            record = AccountRecord(account=name, updated_at=at, fields=last)
            await save_accounts(connection, [record])
            await add_versions(connection, {name: versions_of(None, told)})
    return engine


def _with(fields: AccountFields, **changes: object) -> AccountFields:
    known = {name: getattr(fields, name) for name in fields.__struct_fields__}
    return AccountFields(**{**known, **changes})


@pytest.fixture
async def found(customers: AsyncEngine) -> AsyncIterator[Readings]:
    rules = await asyncio.to_thread(read_default)
    async with readings.open_scoring(customers, rules=rules, clock=lambda: NOW) as scoring:
        yield await readings.read(scoring, customers, MAY, NOW)


async def test_what_is_counted_is_what_happened(found: Readings) -> None:
    month = found.month.whole
    # 2 of 20 left: 10 %; 10 of 12 renewed: 83.3 %; 18 x 100 of 20 x 100 stay: 90 %.
    assert (month.accounts.start, month.accounts.lost, month.accounts.end) == (20, 2, 18)
    assert month.churn.rate == pytest.approx(2 / 20)
    assert (month.renewals.due, month.renewals.renewed, month.renewals.lost) == (12, 10, 2)
    (money,) = month.money
    assert (int(money.mrr_start), int(money.mrr_end)) == (2000, 1800)
    assert money.grr == pytest.approx(0.9)
    html = await asyncio.to_thread(page.render, found)
    for said in ("10.0 %", "83.3 %", "90.0 %", "1,800", "6.7 points below the target"):
        assert said in html, said


async def test_parts_sum_to_the_whole(found: Readings) -> None:
    for name, cut in found.cuts.items():
        parts = [one.figures for one in cut.parts]
        for count in ("start", "new", "lost", "end"):
            total = sum(getattr(one.accounts, count) for one in parts)
            assert total == getattr(cut.whole.accounts, count), name
        assert sum(one.renewals.due for one in parts) == cut.whole.renewals.due


async def test_it_says_what_the_api_says(customers: AsyncEngine, found: Readings) -> None:
    key = new_key(source="crm", scopes=[Scope.ACCOUNTS_READ], now=NOW)
    ring = KeyRing()
    ring.put(key.record)
    register = Register(engine=customers, clock=lambda: NOW, max_age=DAY)
    rules = await asyncio.to_thread(read_default)
    app = api(engine=customers, keys=ring, clock=lambda: NOW, rules=rules, register=register)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://scoring",
        headers={"Authorization": f"Bearer {key.secret}"},
    ) as client:
        asked = {"from": "2026-05-01", "to": "2026-06-01", "by": "owner"}
        told = (await client.get("/v1/portfolio", params=asked)).json()
    ours = found.cuts["owner"]
    assert told["state"] == ours.state == "final"
    assert {one["key"]: one["figures"]["renewals"]["rate"] for one in told["parts"]} == {
        one.key: one.figures.renewals.rate for one in ours.parts
    }
    assert told["whole"]["churn"]["rate"] == found.month.whole.churn.rate
