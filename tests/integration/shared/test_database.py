"""What counts as away, transient or the data's fault, asked of PostgreSQL itself."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database import (
    BATCH_SECONDS,
    READ_SECONDS,
    SILENCE_SECONDS,
    driver,
    is_away,
    is_data_error,
    is_transient,
    open_engine,
    ping,
)
from shared.errors import DependencyAway
from shared.tracebacks import formatted
from tests.databases import DatabaseServer
from tests.faults.proxy import Network, Proxy, running_proxy
from tests.processes import free_port

Fault = Callable[["Faults"], Awaitable[object]]


class Faults:
    """Each method brings about one real error."""

    def __init__(self, engine: AsyncEngine, server: DatabaseServer, url: str) -> None:
        self._engine = engine
        self._server = server
        self._url = url

    async def terminated(self) -> None:
        async with self._engine.connect() as connection:
            pid = await connection.scalar(text("SELECT pg_backend_pid()"))
            await self._server.execute(f"SELECT pg_terminate_backend({pid})")
            await connection.execute(text("SELECT 1"))

    async def terminated_in_a_statement(self) -> None:
        async with self._engine.connect() as connection:
            pid = await connection.scalar(text("SELECT pg_backend_pid()"))
            statement = asyncio.create_task(connection.execute(text("SELECT pg_sleep(60)")))
            await asyncio.sleep(0.1)
            await self._server.execute(f"SELECT pg_terminate_backend({pid})")
            await statement

    async def terminated_under_the_driver(self) -> None:
        connection = await asyncpg.connect(self._url)
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        await self._server.execute(f"SELECT pg_terminate_backend({pid})")
        try:
            await connection.execute("SELECT 1")
        finally:
            connection.terminate()

    async def idle_in_transaction(self) -> None:
        async with self._engine.connect() as connection:
            await connection.execute(text("SET idle_in_transaction_session_timeout = 50"))
            await asyncio.sleep(0.5)
            await connection.execute(text("SELECT 1"))

    async def closed(self) -> None:
        connection = await asyncpg.connect(self._url)
        await connection.close()
        await connection.execute("SELECT 1")

    async def no_socket(self) -> None:
        await _connect("postgresql://nobody@/nothing?host=/no/such/folder")

    async def no_port(self) -> None:
        await _connect(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")

    async def no_connection_left(self) -> None:
        """As with a server that hangs: everything that the pool has waits for an answer."""
        async with open_engine(self._url, application="pool", pool_size=1) as small:
            small.pool._timeout = 0.1  # type: ignore[attr-defined]  # 5 s are long for a test
            async with small.connect(), small.connect():
                pass

    async def too_many_connections(self) -> None:
        await self._server.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 0")
        try:
            await _connect(make_url(self._url).set(username="few").render_as_string())
        finally:
            await self._server.execute("DROP ROLE few")

    async def no_such_database(self) -> None:
        await _connect(self._server.database_url("no_such"))

    async def no_such_role(self) -> None:
        await _connect(make_url(self._url).set(username="stranger").render_as_string())

    async def serialization(self) -> None:
        async with self._both() as (one, other):
            for connection in (one, other):
                await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
                await connection.execute(text("SELECT * FROM t"))
            await one.execute(text("UPDATE t SET n = 2"))
            await one.commit()
            await other.execute(text("UPDATE t SET n = 3"))

    async def deadlock(self) -> None:
        async with self._both() as (one, other):
            for connection, row in ((one, 1), (other, 2)):
                await connection.execute(text("SET deadlock_timeout = 50"))
                await connection.execute(text(f"UPDATE t SET n = n WHERE id = {row}"))
            crossing = asyncio.gather(
                one.execute(text("UPDATE t SET n = n WHERE id = 2")),
                other.execute(text("UPDATE t SET n = n WHERE id = 1")),
                return_exceptions=True,
            )
            async with asyncio.timeout(20):
                results = await crossing
            [error] = [one for one in results if isinstance(one, BaseException)]
            raise error

    async def lock_timeout(self) -> None:
        async with self._both() as (one, other):
            await one.execute(text("UPDATE t SET n = 2"))
            await other.execute(text("SET lock_timeout = 50"))
            await other.execute(text("UPDATE t SET n = 3"))

    async def statement_timeout(self) -> None:
        await self._execute("SET statement_timeout = 50", "SELECT pg_sleep(60)")

    async def not_null(self) -> None:
        await self._execute("INSERT INTO t (id, n) VALUES (3, NULL)")

    async def unique(self) -> None:
        await self._execute("INSERT INTO t (id, n) VALUES (1, 1)")

    async def check(self) -> None:
        await self._execute("INSERT INTO t (id, n) VALUES (3, -1)")

    async def number_out_of_range(self) -> None:
        async with self._engine.connect() as connection:
            await connection.execute(text("UPDATE t SET n = :n"), {"n": 2**40})

    async def infinity_as_a_number(self) -> None:
        await self._execute("SELECT 'infinity'::float8::bigint")

    async def zero_byte_in_text(self) -> None:
        async with self._engine.connect() as connection:
            await connection.execute(text("UPDATE t SET word = :w"), {"w": "a\x00b"})

    async def lone_surrogate(self) -> None:
        async with self._engine.connect() as connection:
            await connection.execute(text("UPDATE t SET word = :w"), {"w": "a\ud800"})

    async def lone_surrogate_in_a_copy(self) -> None:
        await self._copy((3, 1, "\ud800"))

    async def number_out_of_range_in_a_copy(self) -> None:
        await self._copy((3, 2**40, "w"))

    async def no_such_table(self) -> None:
        await self._execute("SELECT * FROM no_such_table")

    async def bad_syntax(self) -> None:
        await self._execute("SELEKT 1")

    async def _execute(self, *statements: str) -> None:
        async with self._engine.connect() as connection:
            for statement in statements:
                await connection.execute(text(statement))

    async def _copy(self, row: tuple[object, ...]) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(text("SELECT 1"))
            raw = await driver(connection)
            await raw.copy_records_to_table("t", records=[row], columns=["id", "n", "word"])

    def _both(self) -> "_Both":
        return _Both(self._engine)


class _Both:
    def __init__(self, engine: AsyncEngine) -> None:
        self._one, self._other = engine.connect(), engine.connect()

    async def __aenter__(self) -> tuple[AsyncConnection, AsyncConnection]:
        return await self._one.__aenter__(), await self._other.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        await self._other.__aexit__(*error)
        await self._one.__aexit__(*error)


@pytest.fixture
async def faults(engine: AsyncEngine, database_server: DatabaseServer, database_url: str) -> Faults:
    async with engine.begin() as connection:
        await connection.execute(
            text("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL CHECK (n >= 0), word text)")
        )
        await connection.execute(text("INSERT INTO t VALUES (1, 1), (2, 1)"))
    return Faults(engine, database_server, database_url)


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (Faults.terminated, "away"),
        (Faults.terminated_in_a_statement, "away"),
        (Faults.terminated_under_the_driver, "away"),
        (Faults.idle_in_transaction, "away"),
        (Faults.closed, "away"),
        (Faults.no_socket, "away"),
        (Faults.no_port, "away"),
        (Faults.no_connection_left, "away"),
        (Faults.too_many_connections, "away"),
        (Faults.serialization, "transient"),
        (Faults.deadlock, "transient"),
        (Faults.lock_timeout, "transient"),
        (Faults.statement_timeout, "transient"),
        (Faults.not_null, "data"),
        (Faults.unique, "data"),
        (Faults.check, "data"),
        (Faults.number_out_of_range, "data"),
        (Faults.infinity_as_a_number, "data"),
        (Faults.zero_byte_in_text, "data"),
        (Faults.lone_surrogate, "data"),
        (Faults.lone_surrogate_in_a_copy, "data"),
        (Faults.number_out_of_range_in_a_copy, "data"),
        (Faults.no_such_table, None),
        (Faults.bad_syntax, None),
        (Faults.no_such_database, None),
        (Faults.no_such_role, None),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)).replace("_", " "),
)
async def test_an_error_has_one_verdict(faults: Faults, fault: Fault, verdict: str | None) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - any; the verdict is what is tested
        await fault(faults)
    error = raised.value
    assert not isinstance(error, AssertionError | AttributeError), error
    verdicts = {"away": is_away(error), "transient": is_transient(error)}
    verdicts["data"] = is_data_error(error)
    assert [name for name, holds in verdicts.items() if holds] == [verdict] * (verdict is not None)


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), RuntimeError("x")])
def test_a_bug_has_none(error: Exception) -> None:
    assert not is_away(error)
    assert not is_transient(error)
    assert not is_data_error(error)


def test_what_says_that_it_is_away_is() -> None:
    assert is_away(DependencyAway("PostgreSQL"))
    assert is_away(ConnectionResetError())
    # What asyncpg sometimes makes of a connection that ends just as we send on it.
    assert is_away(asyncpg.InternalClientError("cannot switch to state 15"))


async def test_every_connection_has_our_limits(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        limits = {
            name: await connection.scalar(text(f"SHOW {name}"))
            for name in ("idle_in_transaction_session_timeout", "lock_timeout", "timezone", "jit")
        }
    assert limits == {
        "idle_in_transaction_session_timeout": "4s",
        "lock_timeout": "6s",
        "timezone": "UTC",
        "jit": "off",
    }


async def test_ping_says_whether_it_answers(engine: AsyncEngine) -> None:
    assert await ping(engine)
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    async with open_engine(nowhere, application="test") as away:
        assert not await ping(away)


async def _connect(url: str) -> None:
    async with open_engine(url, application="test") as engine, engine.connect():
        pass


async def test_what_the_driver_does_first_is_part_of_the_transaction_too(
    engine: AsyncEngine,
) -> None:
    async with engine.begin() as one, engine.begin() as another:
        lead = "SELECT pg_try_advisory_xact_lock(7)"
        assert await (await driver(one)).fetchval(lead)
        assert not await (await driver(another)).fetchval(lead)
    async with engine.connect() as connection:
        assert not (await driver(connection)).is_in_transaction()  # nobody has asked for one


async def test_an_error_of_a_statement_tells_no_value(database_url: str) -> None:
    canary = "ada@acme.example"
    async with open_engine(database_url, application="test") as engine:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE people (name text PRIMARY KEY)"))
        insert = text("INSERT INTO people VALUES (:name)")
        async with engine.begin() as connection:
            await connection.execute(insert, {"name": canary})
            with pytest.raises(DBAPIError) as raised:
                await connection.execute(insert, {"name": canary})
    told = formatted((type(raised.value), raised.value, raised.value.__traceback__))
    assert canary not in told
    # Which rule it was, PostgreSQL says beside.
    assert "constraint_name=people_pkey" in told
    assert "sqlstate=23505" in told


@pytest.mark.parametrize(("seconds", "within"), [(READ_SECONDS, 9), (BATCH_SECONDS, 41)])
def test_the_client_waits_longer_than_the_server_and_not_for_ever(
    seconds: int, within: int
) -> None:
    assert seconds < SILENCE_SECONDS[seconds] < within


async def test_a_connection_that_falls_silent_ends_within_the_limit(
    reachable: tuple[str, Proxy],
) -> None:
    url, proxy = reachable
    async with (
        open_engine(url, application="test", statement_seconds=READ_SECONDS) as engine,
        engine.connect() as connection,
    ):
        assert await connection.scalar(text("SELECT 1")) == 1
        proxy.switch(Network.BLACKHOLE)
        began = time.monotonic()
        with pytest.raises(Exception) as ended:  # noqa: PT011 - what matters is its verdict
            await connection.scalar(text("SELECT 2"))
        assert is_away(ended.value)
        # 8 s, and not before the server would have answered.
        assert READ_SECONDS < time.monotonic() - began < 2 * SILENCE_SECONDS[READ_SECONDS]
        await connection.invalidate()


async def test_a_server_that_does_not_answer_a_greeting_is_away_within_five_seconds(
    reachable: tuple[str, Proxy],
) -> None:
    url, proxy = reachable
    proxy.switch(Network.BLACKHOLE)
    began = time.monotonic()
    with pytest.raises(TimeoutError) as ended:
        await _connect(url)
    assert is_away(ended.value)
    assert time.monotonic() - began < 10


@pytest.fixture
async def reachable(database_url: str) -> AsyncIterator[tuple[str, Proxy]]:
    """The database by TCP, through a proxy that can fall silent."""
    host = parse_qs(urlsplit(database_url).query)["host"][0]
    port, behind = free_port(), free_port()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.5432")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.close()

        leading.append(asyncio.current_task())
        try:
            await asyncio.gather(
                pump(reader, to_server), pump(from_server, writer), return_exceptions=True
            )
        finally:
            for end in (to_server, writer):
                end.transport.abort()

    leading: list[asyncio.Task[None] | None] = []
    server = await asyncio.start_server(lead, "127.0.0.1", behind)
    name = urlsplit(database_url).path
    async with server, running_proxy(port, behind) as proxy:
        yield f"postgresql://perennial@127.0.0.1:{port}{name}", proxy
    # Who fell silent never hangs up.
    for task in filter(None, leading):
        task.cancel()
    await asyncio.gather(*filter(None, leading), return_exceptions=True)


_QUEUES = ("scoring.dirty", "scoring.outbox", "notifier.outbox", "notifier.deliveries")


async def test_queue_tables_leave_room_and_are_cleared_by_count(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT oid::regclass::text, reloptions FROM pg_class WHERE reloptions IS NOT NULL"
            )
        )
        found = {row[0]: dict(one.split("=") for one in row[1]) for row in rows}
    by_count = {
        f"autovacuum_{what}_{how}": value
        for what in ("vacuum", "analyze", "vacuum_insert")
        for how, value in (("scale_factor", "0"), ("threshold", "1000"))
    }
    for queue in _QUEUES:
        assert found[queue] == {"fillfactor": "70", **by_count}
    assert found["notifier.destinations"].items() >= {
        ("autovacuum_vacuum_scale_factor", "0"),
        ("autovacuum_vacuum_threshold", "1000"),
    }
