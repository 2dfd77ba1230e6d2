"""Who may sign in to the console, who is signed in, and what people have done."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0016"
down_revision = "0015"

_TIME = sa.DateTime(timezone=True)
_SCHEMA = "notifier"


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("password", sa.Text),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("disabled_at", _TIME),
        sa.Column("last_seen_at", _TIME),
        schema=_SCHEMA,
    )
    op.create_table(
        "invitations",
        sa.Column("token_sha256", sa.Text, primary_key=True),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        schema=_SCHEMA,
    )
    op.create_table(
        "sign_ins",
        sa.Column("token_sha256", sa.Text, primary_key=True),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("began_at", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False),
        sa.Column("ends_at", _TIME, nullable=False),
        schema=_SCHEMA,
    )
    op.create_index("sign_ins_by_address", "sign_ins", ["address"], schema=_SCHEMA)
    op.create_index("sign_ins_by_end", "sign_ins", ["ends_at"], schema=_SCHEMA)
    op.create_table(
        "sign_in_attempts",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("next_at", _TIME, nullable=False),
        schema=_SCHEMA,
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("way", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("account_id", sa.Text),
        sa.Column("detail", JSONB, nullable=False),
        schema=_SCHEMA,
    )
    op.create_index("audit_by_account", "audit", ["account_id", "id"], schema=_SCHEMA)
    op.create_index("audit_by_actor", "audit", ["actor", "id"], schema=_SCHEMA)
