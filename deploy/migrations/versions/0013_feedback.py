"""Feedback: how interventions ended, and how accounts were drawn for the hold-out."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_TIME = sa.DateTime(timezone=True)
_SCHEMA = "notifier"


def upgrade() -> None:
    op.create_table(
        "endings",
        sa.Column(
            "intervention_id",
            sa.Uuid,
            sa.ForeignKey("notifier.interventions.id", name="endings_intervention"),
            primary_key=True,
        ),
        sa.Column("episode", sa.Integer, primary_key=True),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("playbook", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("by_system", sa.Boolean, nullable=False),
        sa.Column("held_out", sa.Boolean, nullable=False),
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("closed_at", _TIME, nullable=False),
        sa.Column("acknowledged_at", _TIME),
        sa.Column("first_action_at", _TIME),
        schema=_SCHEMA,
    )
    op.create_index("endings_by_time", "endings", ["closed_at"], schema=_SCHEMA)
    op.create_index("endings_by_account", "endings", ["account_id"], schema=_SCHEMA)
    # Of what has ended before, the last episode of each is known; without an owner it was erased.
    op.execute(
        """
        INSERT INTO notifier.endings (intervention_id, episode, account_id, reason, playbook, owner,
            outcome, by_system, held_out, opened_at, closed_at, acknowledged_at, first_action_at)
        SELECT id, episode, CASE WHEN owner = '' THEN '' ELSE account_id END, reason, '', owner,
            outcome, COALESCE(closed_by = 'system', true), held_out, opened_at, closed_at,
            acknowledged_at,
            COALESCE(acknowledged_at, CASE WHEN closed_by <> 'system' THEN closed_at END)
        FROM notifier.interventions WHERE status = 'closed' AND closed_at IS NOT NULL
        """
    )
    op.create_table(
        "draws",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("quarter", sa.Text, primary_key=True),
        sa.Column("held_out", sa.Boolean, nullable=False),
        sa.Column("drawn_on", sa.Date, nullable=False),
        schema=_SCHEMA,
    )
