"""Models: their life cycle, and the outcomes that become labels."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _models()
    _outcomes()
    _health()


def _models() -> None:
    # All of them came of a survey, which makes another before the next score.
    op.execute("DELETE FROM scoring.models")
    op.drop_index("models_one_active", "models", schema="scoring")
    op.drop_column("models", "active", schema="scoring")
    for column in (
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("horizon_days", sa.SmallInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("state_since", _TIME, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("activated_at", _TIME),
        sa.Column("metrics", JSONB, nullable=False),
    ):
        op.add_column("models", column, schema="scoring")
    op.create_index(
        "models_one_active",
        "models",
        ["state"],
        unique=True,
        schema="scoring",
        postgresql_where=sa.text("state = 'active'"),
    )


def _outcomes() -> None:
    op.create_table(
        "outcomes",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("intervention_id", sa.Text, primary_key=True),
        sa.Column("episode", sa.Integer, primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("closed_by", sa.Text, nullable=False),
        sa.Column("closed_at", _TIME, nullable=False),
        sa.Column("risk_at_open", sa.Double),
        schema="scoring",
    )


def _health() -> None:
    op.create_table(
        "model_health",
        sa.Column("looked_at", _TIME, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("findings", JSONB, nullable=False),
        schema="scoring",
    )
    op.create_table(
        "upkeep",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("due_at", _TIME, nullable=False),
        sa.Column("done_at", _TIME),
        sa.Column("result", sa.Text, nullable=False),
        schema="scoring",
    )
