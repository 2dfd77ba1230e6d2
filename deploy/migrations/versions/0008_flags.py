"""Flags: the state of each rule per account, held flags, and outages of sources."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.log.partitioner import partition_of

revision = "0008"
down_revision = "0007"

_TIME = sa.DateTime(timezone=True)
_SHARDS = 32
_WAITING = "message IS NOT NULL AND held_at IS NULL"
_HELD = "message IS NOT NULL AND held_at IS NOT NULL"


def upgrade() -> None:
    _states()
    _episodes()
    _outages()


def _states() -> None:
    op.create_table(
        "flag_states",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, primary_key=True),
        sa.Column("shard", sa.SmallInteger, nullable=False),
        sa.Column("episode", sa.Integer, nullable=False),
        sa.Column("raised_at", _TIME),
        sa.Column("wanted_since", _TIME),
        sa.Column("over_since", _TIME),
        sa.Column("band", sa.Text),
        sa.Column("anchor", JSONB),
        schema="scoring",
    )
    op.create_index(
        "flag_states_by_shard", "flag_states", ["shard", "account_id"], schema="scoring"
    )
    _carry_over()


def _carry_over() -> None:
    """The last episode of each flag, open or not: its number goes on from there."""
    connection = op.get_bind()
    last = connection.execute(
        sa.text(
            "SELECT DISTINCT ON (account_id, reason) account_id, reason, episode, band,"
            " CASE WHEN cleared_at IS NULL THEN raised_at END AS raised_at"
            " FROM scoring.flags ORDER BY account_id, reason, episode DESC"
        )
    )
    insert = sa.text(
        "INSERT INTO scoring.flag_states (account_id, reason, shard, episode, raised_at, band)"
        " VALUES (:account_id, :reason, :shard, :episode, :raised_at, :band)"
    )
    rows = [
        {
            "account_id": row.account_id,
            "reason": row.reason,
            "shard": partition_of(row.account_id.encode(), _SHARDS),
            "episode": row.episode,
            "raised_at": row.raised_at,
            "band": None if row.raised_at is None else row.band,
        }
        for row in last
    ]
    if rows:
        connection.execute(insert, rows)


def _episodes() -> None:
    for column in (
        sa.Column("told_at", _TIME),
        sa.Column("held_at", _TIME),
        sa.Column("released_at", _TIME),
        sa.Column("released_by", sa.Text),
        sa.Column("message", sa.LargeBinary),
        sa.Column("evidence", JSONB),
        sa.Column("why", sa.Text),
    ):
        op.add_column("flags", column, schema="scoring")
    op.execute("UPDATE scoring.flags SET told_at = raised_at")
    for name, where in (("flags_waiting", _WAITING), ("flags_held", _HELD)):
        op.create_index(
            name,
            "flags",
            ["account_id", "reason"],
            schema="scoring",
            postgresql_where=sa.text(where),
        )
    op.create_index("flags_by_raised", "flags", ["raised_at"], schema="scoring")


def _outages() -> None:
    op.create_table(
        "outages",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("began_at", _TIME, nullable=False),
        sa.Column("noticed_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("missing_days", sa.ARRAY(sa.Date), nullable=False),
        schema="scoring",
    )
    op.create_index(
        "outages_one_open",
        "outages",
        ["source", "why"],
        unique=True,
        schema="scoring",
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "pulse",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("at", _TIME, nullable=False),
        schema="scoring",
    )
