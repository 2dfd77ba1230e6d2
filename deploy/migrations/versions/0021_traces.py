"""Of which trace is what waits: marks, flags, interventions, deliveries. Null: nobody knows."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '2s'")
    for schema, table in (
        ("scoring", "dirty"),
        ("scoring", "flags"),
        ("notifier", "interventions"),
        ("notifier", "deliveries"),
    ):
        op.add_column(table, sa.Column("traceparent", sa.Text()), schema=schema)
    op.add_column(
        "deliveries",
        sa.Column("trace_links", sa.ARRAY(sa.Text()), nullable=False, server_default="{}"),
        schema="notifier",
    )
