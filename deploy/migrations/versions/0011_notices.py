"""Notices per account and destination, the agenda, deliveries of every kind."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0011"
down_revision = "0010"

_TIME = sa.DateTime(timezone=True)
_SCHEMA = "notifier"
_WAITS = sa.text("state IN ('pending', 'sending')")


def upgrade() -> None:
    _notices()
    _agenda()
    _deliveries()


def _notices() -> None:
    """One row per account and destination, in place of one per intervention and destination."""
    op.rename_table("notices", "old_notices", schema=_SCHEMA)
    op.execute("ALTER TABLE notifier.old_notices RENAME CONSTRAINT notices_pkey TO old_pkey")
    op.create_table(
        "notices",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("destination", sa.Text, primary_key=True),
        sa.Column("episode", sa.Integer, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("known", JSONB, nullable=False),
        sa.Column("told", JSONB, nullable=False),
        sa.Column("shown", JSONB, nullable=False),
        sa.Column("told_at", _TIME),
        sa.Column("repeats", sa.Integer, nullable=False),
        sa.Column("thread_channel", sa.Text),
        sa.Column("thread_ts", sa.Text),
        sa.Column("gave_up", sa.Text),
        sa.Column("bundled", sa.Text),
        schema=_SCHEMA,
    )
    op.create_index(
        "notices_bundled",
        "notices",
        ["destination", "account_id"],
        schema=_SCHEMA,
        postgresql_where=sa.text("bundled IS NOT NULL"),
    )
    # What was told goes on: only the number of their messages begins anew.
    op.execute(
        "INSERT INTO notifier.notices (account_id, destination, episode, seq, known, told, shown,"
        " told_at, repeats)"
        " SELECT work.account_id, old.destination, 1, 0,"
        "  jsonb_agg(work.id),"
        "  jsonb_object_agg(work.id, jsonb_build_object('severity', old.severity,"
        "   'owner', old.owner, 'due_at', to_char(work.due_at AT TIME ZONE 'UTC',"
        '   \'YYYY-MM-DD"T"HH24:MI:SS"Z"\'))),'
        "  '{}', max(old.told_at), 0"
        " FROM notifier.old_notices AS old"
        " JOIN notifier.interventions AS work ON work.id = old.intervention_id"
        " WHERE work.status <> 'closed'"
        " GROUP BY work.account_id, old.destination"
    )
    op.drop_table("old_notices", schema=_SCHEMA)


def _agenda() -> None:
    op.create_table(
        "agenda",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("look_at", _TIME),
        schema=_SCHEMA,
    )
    op.create_index(
        "agenda_by_time",
        "agenda",
        ["look_at"],
        schema=_SCHEMA,
        postgresql_where=sa.text("look_at IS NOT NULL"),
    )
    op.execute(
        "INSERT INTO notifier.agenda (account_id, look_at)"
        " SELECT DISTINCT account_id, now() FROM notifier.interventions WHERE status <> 'closed'"
    )
    for name, columns in (
        ("interventions_by_owner_opened", ["owner", "opened_at"]),
        ("interventions_by_opened", ["opened_at"]),
    ):
        op.create_index(name, "interventions", columns, schema=_SCHEMA)


def _deliveries() -> None:
    for index in ("one_waiting_delivery", "waiting_deliveries"):
        op.drop_index(index, "deliveries", schema=_SCHEMA)
    for name in ("intervention_id", "account_id"):
        op.alter_column("deliveries", name, nullable=True, schema=_SCHEMA)
    _add("deliveries", "kind", sa.Text, of_old_rows="'notice'")
    # A message is about an account now: of two that wait for one destination the first says all.
    _add(
        "deliveries",
        "group_key",
        sa.Text,
        of_old_rows="'notice:' || account_id || ':' || destination",
    )
    op.execute(
        "UPDATE notifier.deliveries AS later SET state = 'cancelled',"
        " suppress_reason = 'already_told', ended_at = now(), claim = NULL"
        " FROM notifier.deliveries AS first"
        " WHERE later.state IN ('pending', 'sending') AND first.state IN ('pending', 'sending')"
        " AND first.group_key = later.group_key AND first.number < later.number"
    )
    _add("deliveries", "recipient", sa.Text, of_old_rows="''")
    _add("deliveries", "subject", JSONB, of_old_rows="'{}'")
    _add("deliveries", "urgent", sa.Boolean, of_old_rows="false")
    _add("deliveries", "priority", sa.Float, of_old_rows="0")
    for column in (
        sa.Column("is_due", sa.Boolean, nullable=False, server_default="false"),
        sa.Column("threadless", sa.Boolean, nullable=False, server_default="false"),
        sa.Column("tried", JSONB, nullable=False, server_default="[]"),
    ):
        op.add_column("deliveries", column, schema=_SCHEMA)
    # What was being sent when the old version stopped is sent, as ever, when its lease is over.
    op.execute("UPDATE notifier.deliveries SET is_due = true WHERE state = 'sending'")
    _delivery_indexes()
    _places()


def _delivery_indexes() -> None:
    op.create_index(
        "one_waiting_delivery",
        "deliveries",
        ["group_key", "destination"],
        unique=True,
        schema=_SCHEMA,
        postgresql_where=_WAITS,
    )
    op.create_index(
        "coming_deliveries",
        "deliveries",
        ["due_at"],
        schema=_SCHEMA,
        postgresql_where=sa.text("state = 'pending' AND NOT is_due"),
    )
    op.create_index(
        "due_deliveries",
        "deliveries",
        ["destination", sa.text("urgent DESC"), sa.text("priority DESC"), "number"],
        schema=_SCHEMA,
        postgresql_where=sa.text("state IN ('pending', 'sending') AND is_due"),
    )
    op.create_index("deliveries_by_account", "deliveries", ["account_id", "number"], schema=_SCHEMA)
    op.create_index(
        "deliveries_given_up",
        "deliveries",
        ["number"],
        schema=_SCHEMA,
        postgresql_where=sa.text("state IN ('dead', 'held')"),
    )


def _places() -> None:
    op.create_table(
        "channels",
        sa.Column("channel", sa.Text, primary_key=True),
        sa.Column("paused_until", _TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("broken_since", _TIME),
        sa.Column("last_failure", sa.Text),
        schema=_SCHEMA,
    )
    for name in ("due_at", "probe_at", "asked_until"):
        op.add_column("destinations", sa.Column(name, _TIME), schema=_SCHEMA)
    op.execute(
        "UPDATE notifier.destinations AS place SET due_at = now() WHERE EXISTS (SELECT FROM"
        " notifier.deliveries AS one WHERE one.destination = place.destination AND one.is_due)"
    )
    op.create_index(
        "claimable_destinations",
        "destinations",
        ["channel", sa.text("GREATEST(due_at, next_allowed_at, lease_until)")],
        schema=_SCHEMA,
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    # A few rows that change with every message: dead versions must not pile up in the index.
    op.execute(
        "ALTER TABLE notifier.destinations SET (autovacuum_vacuum_scale_factor = 0,"
        " autovacuum_vacuum_threshold = 1000, autovacuum_analyze_scale_factor = 0,"
        " autovacuum_analyze_threshold = 1000)"
    )


def _add(
    table: str, name: str, kind: "type[sa.types.TypeEngine[Any]]", *, of_old_rows: str
) -> None:
    """A column that must be stated; what stands in the rows of before is `of_old_rows` (SQL)."""
    op.add_column(table, sa.Column(name, kind), schema=_SCHEMA)
    op.execute(f"UPDATE notifier.{table} SET {name} = {of_old_rows}")
    op.alter_column(table, name, nullable=False, schema=_SCHEMA)
