"""What became of the records that scoring has passed, and when a backup ended."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"

_COUNTS = ("passed", "counted", "duplicate", "erased", "quarantined")


def upgrade() -> None:
    # A constant default is kept in the catalogue: no row is written. The release before moves
    # positions without counting, which adds to neither side.
    for name in _COUNTS:
        op.add_column(
            "log_positions",
            sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"),
            schema="scoring",
        )
    op.create_table(
        "backups",
        sa.Column("finished_at", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        schema="scoring",
    )
    op.add_column(
        "deliveries",
        sa.Column("received_at", sa.DateTime(timezone=True)),
        schema="notifier",
    )
