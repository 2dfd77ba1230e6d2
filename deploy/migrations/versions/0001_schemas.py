"""One schema per owner: the embedded log and each service that keeps state."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    for schema in ("log", "scoring", "notifier"):
        op.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
