"""Erasures with what became of them: until which flags, of how many rows, and whether it is done.

The release before writes neither of these columns: what it erases counts as done at once.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0020"
down_revision = "0019"

_SCHEMA = "scoring"
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    for table in ("erased_accounts", "erased_users"):
        op.add_column(table, sa.Column("counts", JSONB), schema=_SCHEMA)
        op.add_column(table, sa.Column("done_at", _TIME), schema=_SCHEMA)
        op.execute(f"UPDATE {_SCHEMA}.{table} SET done_at = erased_at")
        op.alter_column(table, "done_at", server_default=sa.func.now(), schema=_SCHEMA)
    op.add_column("erased_accounts", sa.Column("flags_until", _TIME), schema=_SCHEMA)
    # The books of all accounts begin with the first change to any (`domain/books.py`).
    op.add_column("erased_accounts", sa.Column("changed_since", _TIME), schema=_SCHEMA)
    op.add_column("erased_users", sa.Column("user_hash", sa.Text), schema=_SCHEMA)
    op.add_column("erased_users", sa.Column("asked_at", _TIME), schema=_SCHEMA)
