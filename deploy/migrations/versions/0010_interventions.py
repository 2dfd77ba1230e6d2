"""Interventions: rounds, snoozes, playbooks, priority, tasks, sentiment, requests done."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"

_TIME = sa.DateTime(timezone=True)
_SCHEMA = "notifier"


def upgrade() -> None:
    _interventions()
    _tasks()
    _sentiments()
    _requests()


def _interventions() -> None:
    for column in (
        sa.Column("round", sa.Integer, nullable=False, server_default="1"),
        sa.Column("round_began_at", _TIME),
        sa.Column("acted_at", _TIME),
        sa.Column("snoozed_until", _TIME),
        sa.Column("snooze_reason", sa.Text),
        sa.Column("snoozed_by", sa.Text),
        sa.Column("snoozed_at", _TIME),
        sa.Column("snooze_broken_at", _TIME),
        sa.Column("snooze_ended_at", _TIME),
        sa.Column("ends_at", _TIME),
        sa.Column("held_out", sa.Boolean, nullable=False, server_default="false"),
        # Of what is open now it is computed at the first look.
        sa.Column("priority", sa.Double, nullable=False, server_default="0"),
        sa.Column("notice_by", sa.Date),
        sa.Column("playbook", JSONB),
    ):
        op.add_column("interventions", column, schema=_SCHEMA)
    for name in ("round", "held_out", "priority"):
        op.alter_column("interventions", name, server_default=None, schema=_SCHEMA)
    is_open = sa.text("status <> 'closed'")
    indexes: tuple[tuple[str, list[str | sa.TextClause]], ...] = (
        ("open_interventions_by_owner", ["owner", sa.text("priority DESC"), "id"]),
        ("open_interventions_by_priority", [sa.text("priority DESC"), "id"]),
    )
    for name, columns in indexes:
        op.create_index(name, "interventions", columns, schema=_SCHEMA, postgresql_where=is_open)
    # What is said of an account need not be about an intervention.
    op.alter_column("timeline", "intervention_id", nullable=True, schema=_SCHEMA)


def _tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column(
            "intervention_id",
            sa.Uuid,
            sa.ForeignKey("notifier.interventions.id", name="tasks_intervention"),
            primary_key=True,
        ),
        sa.Column("episode", sa.Integer, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("due_at", _TIME, nullable=False),
        sa.Column("done_at", _TIME),
        sa.Column("done_by", sa.Text),
        schema=_SCHEMA,
    )
    op.create_index(
        "tasks_to_do",
        "tasks",
        ["owner", "due_at"],
        schema=_SCHEMA,
        postgresql_where=sa.text("done_at IS NULL"),
    )


def _sentiments() -> None:
    op.create_table(
        "sentiments",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("mood", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        schema=_SCHEMA,
    )
    op.create_index("sentiments_by_account", "sentiments", ["account_id", "at"], schema=_SCHEMA)


def _requests() -> None:
    op.create_table(
        "requests",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("subject", sa.Uuid, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        schema=_SCHEMA,
    )
    op.create_index("requests_by_time", "requests", ["at"], schema=_SCHEMA)
