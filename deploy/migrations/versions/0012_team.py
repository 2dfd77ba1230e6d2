"""What people want for themselves, what nobody wants to hear of, and digests."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"

_TIME = sa.DateTime(timezone=True)
_SCHEMA = "notifier"


def upgrade() -> None:
    op.create_table(
        "preferences",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("wanted", JSONB, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        schema=_SCHEMA,
    )
    op.create_table(
        "silences",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("matchers", JSONB, nullable=False),
        sa.Column("starts_at", _TIME, nullable=False),
        sa.Column("ends_at", _TIME, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        schema=_SCHEMA,
    )
    op.create_index("silences_by_end", "silences", ["ends_at"], schema=_SCHEMA)
    op.create_table(
        "digests",
        sa.Column("recipient", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("local_date", sa.Date, primary_key=True),
        sa.Column("items", sa.Integer, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        schema=_SCHEMA,
    )
