"""Erasure: what was erased for good, and what it takes to tell later events from earlier ones."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "erased_accounts",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("erased_at", _TIME, nullable=False),
        schema="scoring",
    )
    op.create_table(
        "erased_users",
        sa.Column("user_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("erased_at", _TIME, nullable=False),
        schema="scoring",
    )
    # Of days that were counted before this column it is not known: an erasure takes them.
    op.add_column(
        "account_day",
        sa.Column("first_received_at", _TIME, nullable=False, server_default="-infinity"),
        schema="scoring",
    )
    op.alter_column("account_day", "first_received_at", server_default=None, schema="scoring")
    op.add_column("accounts", sa.Column("erased_until", _TIME), schema="notifier")
