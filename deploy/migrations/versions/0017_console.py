"""What people keep in the console: views of lists, notes on accounts, targets of success."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

_TIME = sa.DateTime(timezone=True)
_SCHEMA = "notifier"


def upgrade() -> None:
    op.create_table(
        "saved_views",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("page", sa.Text, nullable=False),
        sa.Column("query", sa.Text, nullable=False),
        sa.Column("shared", sa.Boolean, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        schema=_SCHEMA,
    )
    op.create_index(
        "saved_views_of_owner",
        "saved_views",
        ["owner", "page", "name"],
        unique=True,
        schema=_SCHEMA,
    )
    op.create_table(
        "account_notes",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        schema=_SCHEMA,
    )
    op.create_index(
        "account_notes_of_account", "account_notes", ["account_id", "at"], schema=_SCHEMA
    )
    op.create_table(
        "targets",
        sa.Column("year", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("measure", sa.Text, primary_key=True),
        # Empty: the department's; else a person's address.
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("plan", sa.Numeric, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        schema=_SCHEMA,
    )
