"""Notifier: positions, outbox, directory snapshot, interventions, timeline, delivery queue."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

_TIME = sa.DateTime(timezone=True)
_SCHEMA = "notifier"


def upgrade() -> None:
    _log_and_directory()
    _interventions()
    _history()
    _deliveries()


def _log_and_directory() -> None:
    op.create_table(
        "log_positions",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        schema=_SCHEMA,
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("value", sa.LargeBinary),
        sa.Column("headers", sa.LargeBinary, nullable=False),
        sa.Column("created_at", _TIME, nullable=False, server_default=sa.func.now()),
        schema=_SCHEMA,
    )
    op.create_table(
        "accounts",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text),
        sa.Column("owner", sa.Text),
        sa.Column("timezone", sa.Text),
        sa.Column("status", sa.Text),
        sa.Column("fields", JSONB, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        schema=_SCHEMA,
    )


def _interventions() -> None:
    op.create_table(
        "interventions",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("episode", sa.Integer, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("due_at", _TIME, nullable=False),
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("last_seen_at", _TIME, nullable=False),
        sa.Column("flag_id", sa.Text, nullable=False),
        sa.Column("flag_episode", sa.BigInteger, nullable=False),
        sa.Column("flag_raised_at", _TIME, nullable=False),
        sa.Column("flag_as_of", _TIME, nullable=False),
        sa.Column("flag_change", sa.Text, nullable=False),
        sa.Column("risk_at_open", sa.Float),
        sa.Column("risk", sa.Float),
        sa.Column("value_amount", sa.Numeric),
        sa.Column("value_currency", sa.Text),
        sa.Column("value_basis", sa.Text),
        sa.Column("renewal_date", sa.Date),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("reasons", JSONB, nullable=False),
        sa.Column("acknowledged_at", _TIME),
        sa.Column("acknowledged_by", sa.Text),
        sa.Column("recovered_at", _TIME),
        sa.Column("closed_at", _TIME),
        sa.Column("closed_by", sa.Text),
        sa.Column("outcome", sa.Text),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.CheckConstraint(
            "(status = 'closed') = (outcome IS NOT NULL)", name="closed_has_outcome"
        ),
        schema=_SCHEMA,
    )
    is_open = sa.text("status <> 'closed'")
    op.create_index(
        "one_open_intervention",
        "interventions",
        ["account_id", "type", "reason"],
        unique=True,
        schema=_SCHEMA,
        postgresql_where=is_open,
    )
    op.create_index(
        "interventions_by_account", "interventions", ["account_id", "opened_at"], schema=_SCHEMA
    )
    op.create_index(
        "open_interventions_by_value",
        "interventions",
        [sa.text("COALESCE(value_amount, -1) DESC"), "id"],
        schema=_SCHEMA,
        postgresql_where=is_open,
    )


def _history() -> None:
    op.create_table(
        "timeline",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column(
            "intervention_id",
            sa.Uuid,
            sa.ForeignKey("notifier.interventions.id", name="timeline_intervention"),
            nullable=False,
        ),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("detail", JSONB, nullable=False),
        schema=_SCHEMA,
    )
    op.create_index("timeline_by_account", "timeline", ["account_id", "id"], schema=_SCHEMA)
    op.create_table(
        "notices",
        sa.Column(
            "intervention_id",
            sa.Uuid,
            sa.ForeignKey("notifier.interventions.id", name="notices_intervention"),
            primary_key=True,
        ),
        sa.Column("destination", sa.Text, primary_key=True),
        sa.Column("flag_id", sa.Text, nullable=False),
        sa.Column("flag_episode", sa.BigInteger, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("told_at", _TIME, nullable=False),
        schema=_SCHEMA,
    )


def _deliveries() -> None:
    op.create_table(
        "destinations",
        sa.Column("destination", sa.Text, primary_key=True),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("next_allowed_at", _TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("claim", sa.Uuid),
        sa.Column("lease_until", _TIME),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("broken_since", _TIME),
        sa.Column("last_failure", sa.Text),
        schema=_SCHEMA,
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("dedupe_key", sa.Text, nullable=False),
        sa.Column(
            "intervention_id",
            sa.Uuid,
            sa.ForeignKey("notifier.interventions.id", name="deliveries_intervention"),
            nullable=False,
        ),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("destination", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("suppress_reason", sa.Text),
        sa.Column("created_at", _TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("due_at", _TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("plain", sa.Boolean, nullable=False, server_default="false"),
        sa.Column("ambiguous", sa.Integer, nullable=False, server_default="0"),
        sa.Column("claim", sa.Uuid),
        sa.Column("last_class", sa.Text),
        sa.Column("last_detail", sa.Text),
        sa.Column("provider_id", sa.Text),
        sa.Column("ended_at", _TIME),
        sa.UniqueConstraint("dedupe_key", name="deliveries_dedupe_key"),
        schema=_SCHEMA,
    )
    waits = sa.text("state IN ('pending', 'sending')")
    op.create_index(
        "one_waiting_delivery",
        "deliveries",
        ["intervention_id", "destination"],
        unique=True,
        schema=_SCHEMA,
        postgresql_where=waits,
    )
    op.create_index(
        "waiting_deliveries",
        "deliveries",
        ["destination", "number"],
        schema=_SCHEMA,
        postgresql_where=waits,
    )
    op.create_index("deliveries_by_number", "deliveries", ["number"], schema=_SCHEMA)
    # Queues fill and drain faster than statistics of a share of the rows would notice.
    for table in ("outbox", "deliveries"):
        op.execute(
            f"ALTER TABLE notifier.{table} SET (autovacuum_vacuum_scale_factor = 0,"
            " autovacuum_vacuum_threshold = 1000, autovacuum_analyze_scale_factor = 0,"
            " autovacuum_analyze_threshold = 1000)"
        )
