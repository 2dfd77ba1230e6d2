"""The embedded log: topics, heads of partitions, records, groups and their members."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "topics",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("partitions", sa.Integer, nullable=False),
        sa.Column("retention", sa.Interval),
        sa.Column("compacted", sa.Boolean, nullable=False),
        schema="log",
    )
    op.create_table(
        "heads",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        schema="log",
        # Updated by every append: room for the new version on the same page.
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "records",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("offset", sa.BigInteger, primary_key=True),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("value", sa.LargeBinary),
        sa.Column("headers", sa.LargeBinary),
        sa.Column("appended_at", sa.DateTime(timezone=True), nullable=False),
        schema="log",
    )
    op.create_table(
        "groups",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("members", sa.ARRAY(sa.Text), nullable=False),
        schema="log",
    )
    op.create_table(
        "members",
        sa.Column("group_name", sa.Text, primary_key=True),
        sa.Column("member", sa.Text, primary_key=True),
        sa.Column("topics", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        schema="log",
    )
    op.create_table(
        "hints",
        sa.Column("group_name", sa.Text, primary_key=True),
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        schema="log",
    )
