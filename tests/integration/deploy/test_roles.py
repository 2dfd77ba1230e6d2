"""Who may do what in PostgreSQL: every table, every role, both ways, as the server decides."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from shared import grants
from shared.grants import BACKUP, NOTIFIER, SCORING
from tests.databases import DatabaseServer
from tests.integration.deploy.production import Production

ROWS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
READS = frozenset({"SELECT"})
NOTHING: frozenset[str] = frozenset()
# By schema; a table that differs by its name.
STATED: dict[str, dict[str, frozenset[str]]] = {
    SCORING: {
        "scoring": ROWS,
        "scoring.backups": READS,
        "notifier": NOTHING,
        "log": ROWS,
        "public": READS,
    },
    NOTIFIER: {"scoring": NOTHING, "notifier": ROWS, "log": ROWS, "public": READS},
    BACKUP: {
        "scoring": READS,
        "scoring.backups": READS | {"INSERT"},
        "notifier": READS,
        "log": READS,
        "public": READS,
    },
}
# What each privilege is needed for, done to no row.
DEEDS = {
    "SELECT": "SELECT FROM {0} WHERE false",
    "INSERT": "INSERT INTO {0} DEFAULT VALUES",
    "UPDATE": "UPDATE {0} SET {1} = {1} WHERE false",
    "DELETE": "DELETE FROM {0} WHERE false",
    "TRUNCATE": "TRUNCATE {0}",
}
FORBIDDEN = (
    "CREATE TABLE scoring.mine (id int)",
    "CREATE TABLE notifier.mine (id int)",
    "CREATE TABLE public.mine (id int)",
    "CREATE SCHEMA mine",
    "ALTER TABLE scoring.flags ADD COLUMN mine int",
    "ALTER TABLE notifier.deliveries DISABLE TRIGGER ALL",
    "DROP TABLE scoring.flags",
    "DROP TABLE notifier.audit",
    "CREATE INDEX ON notifier.audit (at)",
    "UPDATE public.alembic_version SET version_num = 'x'",
    "SELECT scoring.drop_partition('scoring.seen_events', 'x', NULL)",
    "CREATE ROLE mine",
    "ALTER ROLE perennial_owner PASSWORD 'x'",
    "SET ROLE perennial_owner",
    "COPY scoring.flags TO PROGRAM 'cat'",
    "SELECT pg_read_file('/etc/passwd')",
)


@pytest.mark.parametrize("role", STATED)
async def test_every_table_takes_from_each_role_what_is_stated_and_nothing_else(
    production: Production, role: str
) -> None:
    tables = await every_table(production)
    assert len(tables) > 50
    found, expected = {}, {}
    async with connected(production, role) as connection:
        for table, column in tables:
            rights = STATED[role]
            expected[table] = set(rights.get(table, rights[table.partition(".")[0]]))
            found[table] = {
                name
                for name, deed in DEEDS.items()
                if not await refused(connection, deed.format(table, column))
            }
    assert found == expected


@pytest.mark.parametrize("role", STATED)
async def test_no_role_makes_changes_or_drops_what_it_does_not_own(
    production: Production, role: str
) -> None:
    async with connected(production, role) as connection:
        done = [one for one in FORBIDDEN if not await refused(connection, one)]
    assert done == []


async def test_only_scoring_makes_tables_of_its_session_and_partitions(
    production: Production,
) -> None:
    for role in STATED:
        async with connected(production, role) as connection:
            for statement in (
                "CREATE TEMPORARY TABLE mine (id int)",
                "SELECT scoring.add_seen_events_partition('2020-03-01', '2020-03-02')",
                "SELECT scoring.drop_seen_events_partition('2020-03-01')",
                "SELECT scoring.add_feature_rows_partition('2020-03-01')",
                "SELECT scoring.drop_feature_rows_partition('2020-03-01')",
            ):
                is_refused = await refused(connection, statement, undo=role != SCORING)
                assert is_refused == (role != SCORING), (role, statement)


async def test_partition_functions_take_days_and_months_only(production: Production) -> None:
    async with connected(production, SCORING) as connection:
        await connection.execute(
            "SELECT scoring.add_seen_events_partition('2019-01-01', '2020-01-01')"
        )
        calls = {
            "backwards": "add_seen_events_partition('2020-03-02', '2020-03-01')",
            "no day": "add_seen_events_partition('2020-03-01', '2020-03-01')",
            "two years": "add_seen_events_partition('2020-03-01', '2021-01-02')",
            "null": "add_seen_events_partition(NULL, '2020-03-01')",
            "for ever": "add_seen_events_partition('-infinity', '2020-03-01')",
            "Caesar": "add_seen_events_partition('0044-03-15 BC', '0043-01-01 BC')",
            "a year's": "drop_seen_events_partition('2019-01-01')",
            "one that is not there": "drop_seen_events_partition('2018-01-01')",
            "drop null": "drop_seen_events_partition(NULL)",
            "no month": "add_feature_rows_partition('2020-03-02')",
            "no such month": "drop_feature_rows_partition('2018-01-01')",
        }
        for call in calls.values():
            with pytest.raises(asyncpg.InvalidParameterValueError):
                await connection.execute(f"SELECT scoring.{call}")


async def test_a_partition_of_the_service_is_the_owners_and_is_read_by_a_dump(
    production: Production,
) -> None:
    async with connected(production, SCORING) as connection:
        await connection.execute(
            "SELECT scoring.add_seen_events_partition('2020-03-01', '2020-03-02')"
        )
        owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'seen_events_20200301'"
        assert await connection.fetchval(owner) == grants.OWNER
    async with connected(production, BACKUP) as connection:
        assert not await refused(connection, "SELECT FROM scoring.seen_events_20200301")


async def test_functions_of_the_owner_look_nowhere_for_what_they_call(
    production: Production,
) -> None:
    """Whoever can make something in a schema that is looked at first would be the owner."""
    owned = await production.connect()
    try:
        rows = await owned.fetch(
            "SELECT proname, prosecdef, proconfig, proacl::text FROM pg_proc"
            " WHERE pronamespace = 'scoring'::regnamespace"
        )
    finally:
        await owned.close()
    assert {row["proname"] for row in rows if row["prosecdef"]} == {
        f"{deed}_{what}_partition"
        for deed in ("add", "drop")
        for what in ("seen_events", "feature_rows")
    }
    for row in rows:
        assert row["proconfig"] == ["search_path=pg_catalog, pg_temp"]
        assert not re.search(r"[{,]=X", row["proacl"]), "everybody may call it"


async def test_a_table_made_later_is_granted_by_itself(production: Production) -> None:
    owned = await production.connect()
    try:
        for schema in ("scoring", "notifier"):
            await owned.execute(f"CREATE TABLE {schema}.later (id int)")
    finally:
        await owned.close()
    for role, own in ((SCORING, "scoring"), (NOTIFIER, "notifier")):
        async with connected(production, role) as connection:
            for schema in ("scoring", "notifier"):
                deed = f"INSERT INTO {schema}.later DEFAULT VALUES"
                assert await refused(connection, deed) == (schema != own)


async def test_where_the_log_is_kafka_its_tables_here_are_nobodys(production: Production) -> None:
    await grants.grant(production.url(), has_log=False)
    for role in (SCORING, NOTIFIER):
        async with connected(production, role) as connection:
            assert await refused(connection, "SELECT FROM log.records")
            assert not await refused(connection, "SELECT FROM public.alembic_version")


async def test_a_right_too_many_goes_with_the_next_upgrade(production: Production) -> None:
    owned = await production.connect()
    try:
        await owned.execute(f"GRANT ALL ON notifier.deliveries TO {SCORING}")
        await owned.execute(f"GRANT TRUNCATE ON scoring.flags TO {SCORING}")
    finally:
        await owned.close()
    assert await grants.grant(production.url(), has_log=True) == (BACKUP, NOTIFIER, SCORING)
    async with connected(production, SCORING) as connection:
        assert await refused(connection, "DELETE FROM notifier.deliveries WHERE false")
        assert await refused(connection, "TRUNCATE scoring.flags")
        assert not await refused(connection, "DELETE FROM scoring.flags WHERE false")


async def test_who_has_no_role_here_may_not_connect(
    production: Production, database_server: DatabaseServer
) -> None:
    await database_server.execute("CREATE ROLE stranger LOGIN")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await production.connect("stranger")
    finally:
        await database_server.execute("DROP ROLE stranger")


async def test_an_operator_who_is_in_both_roles_may_do_what_both_may(
    production: Production, database_server: DatabaseServer
) -> None:
    await database_server.execute(f"CREATE ROLE ada LOGIN IN ROLE {SCORING}, {NOTIFIER}")
    try:
        async with connected(production, "ada") as connection:
            assert not await refused(connection, "DELETE FROM scoring.flags WHERE false")
            assert not await refused(connection, "DELETE FROM notifier.users WHERE false")
            assert await refused(connection, "TRUNCATE scoring.flags")
    finally:
        await database_server.execute("DROP ROLE ada")


async def test_the_script_makes_roles_that_are_nothing_special_and_renews_passwords(
    production: Production, database_server: DatabaseServer
) -> None:
    password = production.folder / "scoring.password"
    for secret in ("first it's $1", "second"):
        password.write_text(f"{secret}\n")
        made = production.make_roles(POSTGRES_SCORING_PASSWORD_FILE=str(password))
        assert made.returncode == 0, made.stderr
        assert secret not in made.stdout + made.stderr
    admin = await asyncpg.connect(database_server.url)
    try:
        rows = await admin.fetch(
            "SELECT rolname, rolpassword LIKE 'SCRAM-SHA-256$%' AS has_password FROM pg_authid"
            " WHERE rolname LIKE 'perennial\\_%' AND rolcanlogin AND NOT (rolsuper OR rolcreatedb"
            " OR rolcreaterole OR rolreplication OR rolbypassrls) ORDER BY rolname"
        )
        owner = await admin.fetchval(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", production.name
        )
    finally:
        await admin.close()
    assert {row["rolname"]: row["has_password"] for row in rows} == {
        BACKUP: None,
        NOTIFIER: None,
        grants.OWNER: None,
        SCORING: True,
    }
    assert owner == grants.OWNER


async def test_an_empty_password_file_stops_the_script(production: Production) -> None:
    empty = production.folder / "empty"
    empty.write_text("\n")
    made = production.make_roles(POSTGRES_OWNER_PASSWORD_FILE=str(empty))
    assert made.returncode == 1
    assert "is empty" in made.stderr


@asynccontextmanager
async def connected(production: Production, role: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await production.connect(role)
    try:
        yield connection
    finally:
        await connection.close()


async def refused(connection: asyncpg.Connection, statement: str, *, undo: bool = True) -> bool:
    """Whether the role lacks the right; what else is wrong with the statement does not count."""
    deed = connection.transaction()
    await deed.start()
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        await deed.rollback()
        return True
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.FeatureNotSupportedError):
        await deed.rollback()
        return False
    await (deed.rollback() if undo else deed.commit())
    return False


async def every_table(production: Production) -> list[tuple[str, str]]:
    """With its first column that may be written."""
    owned = await production.connect()
    try:
        rows = await owned.fetch(
            "SELECT n.nspname || '.' || c.relname, (SELECT quote_ident(attname) FROM pg_attribute"
            " WHERE attrelid = c.oid AND attnum > 0 AND attidentity <> 'a' AND attgenerated = ''"
            " ORDER BY attnum LIMIT 1) FROM pg_class AS c"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname = ANY($1) ORDER BY 1",
            [*grants.SCHEMAS, "public"],
        )
    finally:
        await owned.close()
    return [(row[0], row[1]) for row in rows]
