"""Scoring: positions, dedupe, day buckets, directory, scores, flags, outbox, models."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _intake()
    _queues()
    _results()


def _intake() -> None:
    op.create_table(
        "log_positions",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        schema="scoring",
    )
    op.create_table(
        "seen_events",
        sa.Column("event_day", sa.Date, primary_key=True),
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("key", sa.LargeBinary, primary_key=True),
        schema="scoring",
        postgresql_partition_by="RANGE (event_day)",
    )
    op.create_table(
        "account_day",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("events", sa.Integer, nullable=False),
        sa.Column("milliseconds", sa.BigInteger, nullable=False),
        sa.Column("userless", sa.Integer, nullable=False),
        sa.Column("users", sa.ARRAY(sa.BigInteger), nullable=False),
        sa.Column("features", sa.ARRAY(sa.Text), nullable=False),
        schema="scoring",
    )
    op.create_index(
        "account_day_by_account", "account_day", ["account_id", "day"], schema="scoring"
    )
    op.create_table(
        "account_past",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("first_day", sa.Date, nullable=False),
        sa.Column("last_day", sa.Date, nullable=False),
        sa.Column("active_days", sa.Integer, nullable=False),
        schema="scoring",
    )
    op.create_table(
        "accounts",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("fields", JSONB, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        schema="scoring",
    )


def _queues() -> None:
    op.create_table(
        "dirty",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("shard", sa.SmallInteger, nullable=False),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("backfill", sa.Boolean, nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        sa.Column("marked_at", _TIME, nullable=False, server_default=sa.func.clock_timestamp()),
        schema="scoring",
    )
    op.create_index("dirty_by_shard", "dirty", ["shard", "id"], schema="scoring")
    for name, column in (("dirty_backfill", "account_id"), ("dirty_loading", "marked_at")):
        op.create_index(
            name, "dirty", [column], schema="scoring", postgresql_where=sa.text("backfill")
        )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("value", sa.LargeBinary),
        sa.Column("headers", sa.LargeBinary, nullable=False),
        sa.Column("created_at", _TIME, nullable=False, server_default=sa.func.now()),
        schema="scoring",
    )
    # Rows come and go by the thousand while the tables stay small: vacuum by count, not by share.
    for table in ("dirty", "outbox"):
        op.execute(
            f"ALTER TABLE scoring.{table} SET (autovacuum_vacuum_scale_factor = 0,"
            " autovacuum_vacuum_threshold = 1000, autovacuum_analyze_scale_factor = 0,"
            " autovacuum_analyze_threshold = 1000)"
        )


def _results() -> None:
    op.create_table(
        "scores",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("shard", sa.SmallInteger, nullable=False),
        sa.Column("as_of", _TIME, nullable=False),
        sa.Column("next_due_at", _TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("short_history", sa.Boolean, nullable=False),
        sa.Column("risk", sa.Double),
        sa.Column("band", sa.Text),
        sa.Column("band_state", JSONB),
        sa.Column("last_risk", sa.Double),
        sa.Column("value_at_risk", sa.Numeric),
        sa.Column("currency", sa.Text),
        sa.Column("value_basis", sa.Text),
        sa.Column("indicators", JSONB, nullable=False),
        sa.Column("reasons", JSONB, nullable=False),
        sa.Column("model_version", sa.Text),
        sa.Column(
            "sort_risk",
            sa.Double,
            sa.Computed("coalesce(risk, -1)", persisted=True),
            nullable=False,
        ),
        sa.Column(
            "sort_value",
            sa.Numeric,
            sa.Computed("coalesce(value_at_risk, -1)", persisted=True),
            nullable=False,
        ),
        schema="scoring",
        postgresql_with={"fillfactor": 70},
    )
    risk, value = sa.text("sort_risk DESC"), sa.text("sort_value DESC")
    op.create_index("scores_due", "scores", ["shard", "next_due_at"], schema="scoring")
    op.create_index("scores_by_risk", "scores", [risk, "account_id"], schema="scoring")
    op.create_index("scores_by_value", "scores", [value, "account_id"], schema="scoring")
    op.create_index("scores_by_band", "scores", ["band", risk, "account_id"], schema="scoring")
    op.create_table(
        "flags",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, primary_key=True),
        sa.Column("episode", sa.Integer, primary_key=True),
        sa.Column("flag_id", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("raised_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("cleared_at", _TIME),
        sa.Column("band", sa.Text),
        sa.Column("risk", sa.Double),
        sa.Column("summary", sa.Text, nullable=False),
        schema="scoring",
    )
    op.create_index(
        "flags_one_open",
        "flags",
        ["account_id", "reason"],
        unique=True,
        schema="scoring",
        postgresql_where=sa.text("cleared_at IS NULL"),
    )
    op.create_table(
        "models",
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("accounts", sa.Integer, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        schema="scoring",
    )
    op.create_index(
        "models_one_active",
        "models",
        ["active"],
        unique=True,
        schema="scoring",
        postgresql_where=sa.text("active"),
    )
