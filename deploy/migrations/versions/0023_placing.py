"""Memberships of users, the events that wait for one, and what became of them."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"

_SCHEMA = "scoring"
_TIME = sa.DateTime(timezone=True)
_COUNTS = (
    "only_account",
    "group_call",
    "last_activity",
    "first_stated",
    "waiting",
    "late",
    "full",
    "erased",
)


def upgrade() -> None:
    _users()
    _events()
    # A queue: rows come and go, and what is dead is cleared by count.
    op.execute(
        "ALTER TABLE scoring.waiting_events SET (autovacuum_vacuum_scale_factor = 0.05,"
        " autovacuum_vacuum_threshold = 10000, autovacuum_analyze_scale_factor = 0.05)"
    )
    # Updated with each batch: a new version finds room on its page, and no index hears of it.
    for table in ("waiting_counts", "placing_hours", "memberships"):
        op.execute(f"ALTER TABLE scoring.{table} SET (fillfactor = 80)")


def _users() -> None:
    op.create_table(
        "memberships",
        sa.Column("user_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("grouped_on", sa.Date),
        sa.Column("identified_on", sa.Date),
        sa.Column("active_on", sa.Date),
        sa.Column("last_on", sa.Date, nullable=False),
        sa.Column("last_active_at", _TIME),
        sa.Column("learnt_at", _TIME, nullable=False),
        schema=_SCHEMA,
    )
    # A b-tree would cost as much with each new row as the row. What came since the last vacuum is
    # read in full: hence one after every twentieth of the table.
    op.create_index(
        "memberships_by_account",
        "memberships",
        ["account_id"],
        schema=_SCHEMA,
        postgresql_using="brin",
        postgresql_ops={"account_id": "text_bloom_ops(n_distinct_per_range = 1500)"},
        postgresql_with={"pages_per_range": 32},
    )
    op.execute("ALTER TABLE scoring.memberships SET (autovacuum_vacuum_insert_scale_factor = 0.05)")
    op.create_index(
        "memberships_by_learning",
        "memberships",
        ["learnt_at"],
        schema=_SCHEMA,
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    op.create_table(
        "group_calls",
        sa.Column("user_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("stated_at", _TIME, primary_key=True),
        sa.Column("account_id", sa.Text, primary_key=True),
        schema=_SCHEMA,
    )


def _events() -> None:
    op.create_table(
        "waiting_events",
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("user_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("event_day", sa.Date, primary_key=True),
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("log_offset", sa.BigInteger, nullable=False),
        sa.Column("waiting_since", _TIME, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("headers", sa.LargeBinary, nullable=False),
        schema=_SCHEMA,
    )
    op.create_index(
        "waiting_events_by_age", "waiting_events", ["waiting_since", "partition"], schema=_SCHEMA
    )
    op.create_table(
        "waiting_counts",
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        schema=_SCHEMA,
    )
    op.create_table(
        "placing_hours",
        sa.Column("hour", _TIME, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in _COUNTS),
        schema=_SCHEMA,
    )
