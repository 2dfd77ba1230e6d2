"""Lists of accounts: an index less for every sweep to write, and one only of who has a value."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.drop_index("scores_by_risk", "scores", schema="scoring")
    op.drop_index("scores_by_value", "scores", schema="scoring")
    op.drop_column("scores", "sort_value", schema="scoring")
    op.create_index(
        "scores_by_value",
        "scores",
        [sa.text("value_at_risk DESC"), "account_id"],
        schema="scoring",
        postgresql_where=sa.text("value_at_risk IS NOT NULL"),
    )
