"""The register on real PostgreSQL: what it holds is what is stored, however it came there."""

import asyncio
import dataclasses
import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import numpy as np
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.domain.ledger import Dimension, Ledger, LifeStage
from services.scoring.register import Register
from services.scoring.store import shard_of
from tests.integration.scoring.conftest import Time
from tests.unit.scoring.ledgers import micros

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
NAMES = ["ada", "bob", "", None, "Zoë", "c\td", "\\N", "x" * 300]
STATUSES = [None, "trial", "active", "churned"]


@pytest.fixture
def register(engine: AsyncEngine, time: Time) -> Register:
    """One that reads at every question."""
    return Register(engine=engine, clock=time, max_age=timedelta())


def whole(engine: AsyncEngine, time: Time) -> Register:
    return Register(engine=engine, clock=time, max_age=timedelta())


def assert_same(one: Ledger, other: Ledger) -> None:
    assert one.accounts == other.accounts
    assert one.titles == other.titles
    assert one.names == other.names
    for part in ("versions", "stages", "today"):
        for column in dataclasses.fields(getattr(one, part)):
            np.testing.assert_array_equal(
                getattr(getattr(one, part), column.name),
                getattr(getattr(other, part), column.name),
                err_msg=f"{part}.{column.name}",
            )


async def put_version(
    connection: asyncpg.Connection, account: str, since: datetime, **known: Any
) -> None:
    columns = {"account_id": account, "since": since, **known}
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    await connection.execute(
        f"INSERT INTO scoring.account_versions ({', '.join(columns)}) VALUES ({places})",
        *columns.values(),
    )


async def put_stage(
    connection: asyncpg.Connection, account: str, since: datetime, stage: LifeStage
) -> None:
    await connection.execute(
        "INSERT INTO scoring.account_stages (account_id, since, stage) VALUES ($1, $2, $3)",
        account,
        since,
        stage,
    )


async def put_score(connection: asyncpg.Connection, account: str, **known: Any) -> None:
    columns = {
        "shard": shard_of(account),
        "account_id": account,
        "as_of": SINCE,
        "state": "scored",
        "short_history": False,
        "latched": 0,
        "band_since": SINCE,
        "columns": "",
        "indicators": b"",
        "cohort_ratio": 1.0,
        **known,
    }
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    changed = ", ".join(f"{name} = EXCLUDED.{name}" for name in columns)
    await connection.execute(
        f"INSERT INTO scoring.scores ({', '.join(columns)}) VALUES ({places})"
        f" ON CONFLICT (shard, account_id) DO UPDATE SET {changed}",
        *columns.values(),
    )


async def test_what_is_stored_of_an_account_stands_in_the_ledger(
    database_url: str, register: Register, time: Time
) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await put_version(
            connection,
            "globex",
            SINCE,
            name="Globex",
            owner="ada",
            segment="small",
            plan="pro",
            region="eu",
            reseller="Initech",
            seats=12,
            currency="EUR",
            mrr=Decimal("100.50"),
            margin_per_month=Decimal(80),
            status="active",
            contract_start=date(2025, 2, 1),
            contract_end=date(2027, 1, 31),
            churned_at=date(1999, 12, 31),
            notice_days=30,
            billing_period="month",
        )
        await put_version(connection, "globex", SINCE + MICROSECOND, name=None, owner="")
        await put_stage(connection, "globex", SINCE, LifeStage.ADOPT)
        await put_score(
            connection, "acme", risk=0.25, band="at_risk", value_at_risk=Decimal("12.5"),
            stage=LifeStage.LAND, stage_since=SINCE,
        )  # fmt: skip
    finally:
        await connection.close()
    ledger = await register.current()
    assert ledger.as_of == micros(time())
    assert ledger.accounts == ("acme", "globex")
    assert ledger.titles == ("acme", "globex")  # The newest version of globex has no name.
    versions = ledger.versions
    assert versions.account.tolist() == [1, 1]
    assert versions.since.tolist() == [micros(SINCE), micros(SINCE) + 1]
    assert [
        ledger.names[one][getattr(versions, one)[0]] for one in Dimension
    ] == ["ada", "small", "pro", "eu", "Initech", "EUR"]  # fmt: skip
    assert [getattr(versions, one)[1] for one in Dimension] == [-1] * 6
    known = [
        versions.mrr, versions.margin, versions.seats, versions.status, versions.contract_start,
        versions.contract_end, versions.churned_at, versions.notice_days,
    ]  # fmt: skip
    days = [date(2025, 2, 1), date(2027, 1, 31), date(1999, 12, 31)]
    assert [one[0] for one in known] == [100.5, 80, 12, 1, *(d.toordinal() for d in days), 30]
    assert np.isnan([one[1] for one in known]).all()
    assert versions.monthly.tolist() == [True, False]
    assert ledger.stages.stage.tolist() == [LifeStage.ADOPT]
    today = ledger.today
    assert (today.state[0], today.risk[0], today.band[0], today.value_at_risk[0]) == (
        1,
        0.25,
        2,
        12.5,
    )
    assert (today.stage[0], today.stage_since[0]) == (LifeStage.LAND, micros(SINCE))
    assert (today.state[1], today.band[1], today.stage[1]) == (-1, -1, 0)
    assert np.isnan(today.risk[1])


async def test_what_is_young_is_not_read_again(
    engine: AsyncEngine, database_url: str, time: Time
) -> None:
    register = Register(engine=engine, clock=time, max_age=timedelta(seconds=10))
    first = await register.current()
    connection = await asyncpg.connect(database_url)
    try:
        await put_version(connection, "acme", SINCE)
    finally:
        await connection.close()
    time.now += timedelta(seconds=9)
    assert await register.current() is first
    time.now += timedelta(seconds=1)
    assert (await register.current()).accounts == ("acme",)


async def test_as_long_as_somebody_asks_it_is_read_ahead(
    engine: AsyncEngine, database_url: str, time: Time
) -> None:
    """Time stands still: no question finds the ledger too old."""
    register = Register(engine=engine, clock=time, max_age=timedelta(seconds=0.1))
    assert (await register.current()).accounts == ()
    connection = await asyncpg.connect(database_url)
    stop = asyncio.Event()
    running = asyncio.create_task(register.run(stop))
    try:
        await put_version(connection, "acme", SINCE)
        async with asyncio.timeout(10):
            while (await register.current()).accounts != ("acme",):  # noqa: ASYNC110 - tells nobody
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await running
        await connection.close()


async def test_who_asks_at_once_shares_one_reading(engine: AsyncEngine, time: Time) -> None:
    register = Register(engine=engine, clock=time, max_age=timedelta(seconds=10))
    one, *others = await asyncio.gather(*(register.current() for _ in range(5)))
    assert all(other is one for other in others)


async def test_a_restored_copy_of_another_server_is_read_whole_and_then_what_is_new(
    engine: AsyncEngine, database_url: str, register: Register, time: Time
) -> None:
    """The numbers of its transactions may be ahead of ours."""
    connection = await asyncpg.connect(database_url)
    try:
        await put_version(connection, "old", SINCE, written_in=10**12)
        assert (await register.current()).accounts == ("old",)
        await put_version(connection, "new", SINCE)
        assert (await register.current()).accounts == ("new", "old")
        assert_same(await register.current(), await whole(engine, time).current())
    finally:
        await connection.close()


class Writer:
    """Writes at random, in transactions that stay open while others are read."""

    def __init__(self, connections: Sequence[asyncpg.Connection], chance: random.Random) -> None:
        self._connections = connections
        self._chance = chance
        self._open: dict[int, Any] = {}
        self._since: dict[str, datetime] = {}
        self._busy: dict[str, int] = {}

    async def write(self) -> None:
        number = self._chance.randrange(len(self._connections))
        account = f"account {self._chance.randrange(12)}"
        # An account's row is locked until the transaction that changes it ends.
        number = self._busy.get(account, number)
        connection = self._connections[number]
        if number not in self._open:
            self._open[number] = connection.transaction()
            await self._open[number].start()
        self._busy[account] = number
        since = self._since.get(account, SINCE) + MICROSECOND
        match self._chance.randrange(8):
            case 0:
                await connection.execute(
                    "INSERT INTO scoring.erased_accounts AS e VALUES ($1, $2) ON CONFLICT"
                    " (account_id) DO UPDATE SET erased_at = EXCLUDED.erased_at",
                    account,
                    since,
                )
                for table in ("account_versions", "account_stages", "scores"):
                    await connection.execute(
                        f"DELETE FROM scoring.{table} WHERE account_id = $1", account
                    )
            case 1 | 2 | 3:
                pick = self._chance.choice
                await put_version(
                    connection, account, since, name=pick(NAMES), owner=pick(NAMES),
                    segment=pick(NAMES), currency=pick(["EUR", "USD"]), status=pick(STATUSES),
                    mrr=Decimal(self._chance.randrange(100)),
                )  # fmt: skip
            case 4:
                await put_stage(connection, account, since, self._chance.choice(list(LifeStage)))
            case _:
                await put_score(connection, account, risk=self._chance.random())
        self._since[account] = since
        if self._chance.random() < 0.4:
            await self.end(number)

    async def end(self, number: int) -> None:
        opened = self._open.pop(number, None)
        if opened is not None:
            await (opened.commit() if self._chance.random() < 0.8 else opened.rollback())
        self._busy = {name: held for name, held in self._busy.items() if held != number}


@pytest.mark.parametrize("seed", range(6))
async def test_reading_what_is_new_leads_to_the_same_as_reading_all(
    engine: AsyncEngine, database_url: str, register: Register, time: Time, seed: int
) -> None:
    """After any writes, in transactions that begin and end in any order, erasures among them."""
    connections = [await asyncpg.connect(database_url) for _ in range(3)]
    writer = Writer(connections, chance := random.Random(seed))
    try:
        for _ in range(60):
            await writer.write()
            if chance.random() < 0.3:
                assert_same(await register.current(), await whole(engine, time).current())
        for number in range(3):
            await writer.end(number)
        assert_same(await register.current(), await whole(engine, time).current())
    finally:
        for connection in connections:
            await connection.close()
