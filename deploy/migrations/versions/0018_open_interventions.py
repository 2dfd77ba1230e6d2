"""Indexes that hold what piles and sums of open work are made of: no row is read for them."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

_SCHEMA = "notifier"
_TABLE = "interventions"
_BY_OWNER = "open_interventions_by_owner"
_BY_ACCOUNT = "one_open_intervention"
_IS_OPEN = sa.text("status <> 'closed'")


def upgrade() -> None:
    op.drop_index(_BY_OWNER, table_name=_TABLE, schema=_SCHEMA)
    op.create_index(
        _BY_OWNER,
        _TABLE,
        ["owner", sa.text("priority DESC"), "id"],
        schema=_SCHEMA,
        postgresql_include=[
            "type",
            "reason",
            "status",
            "severity",
            "due_at",
            "opened_at",
            "recovered_at",
            "snoozed_until",
            "snooze_ended_at",
            "held_out",
        ],
        postgresql_where=_IS_OPEN,
    )
    op.drop_index(_BY_ACCOUNT, table_name=_TABLE, schema=_SCHEMA)
    op.create_index(
        _BY_ACCOUNT,
        _TABLE,
        ["account_id", "type", "reason"],
        unique=True,
        schema=_SCHEMA,
        postgresql_include=["severity", "held_out", "value_amount", "value_currency"],
        postgresql_where=_IS_OPEN,
    )
