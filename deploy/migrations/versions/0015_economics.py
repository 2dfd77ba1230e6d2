"""What was known of accounts when, where they stood on their way, what is told of segments; lists
of accounts from memory, and a tally of events.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0015"
down_revision = "0014"

_TIME = sa.DateTime(timezone=True)
_SCHEMA = "scoring"


def upgrade() -> None:
    op.create_table(
        "account_versions",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("since", _TIME, primary_key=True),
        sa.Column("name", sa.Text),
        sa.Column("owner", sa.Text),
        sa.Column("segment", sa.Text),
        sa.Column("plan", sa.Text),
        sa.Column("region", sa.Text),
        sa.Column("reseller", sa.Text),
        sa.Column("seats", sa.Integer),
        sa.Column("currency", sa.Text),
        sa.Column("mrr", sa.Numeric),
        sa.Column("margin_per_month", sa.Numeric),
        sa.Column("status", sa.Text),
        sa.Column("contract_start", sa.Date),
        sa.Column("contract_end", sa.Date),
        sa.Column("churned_at", sa.Date),
        sa.Column("notice_days", sa.Integer),
        sa.Column("billing_period", sa.Text),
        schema=_SCHEMA,
    )
    op.create_table(
        "account_stages",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("since", _TIME, primary_key=True),
        sa.Column("stage", sa.SmallInteger, nullable=False),
        schema=_SCHEMA,
    )
    for table in ("account_versions", "account_stages"):
        # Who keeps a copy reads what has been written since, by transaction: times may be equal,
        # and a sequence's numbers are not committed in their order.
        op.execute(
            f"ALTER TABLE {_SCHEMA}.{table} ADD COLUMN written_in bigint NOT NULL"
            " DEFAULT pg_current_xact_id()::text::bigint"
        )
        op.create_index(f"{table}_by_writing", table, ["written_in"], schema=_SCHEMA)
    op.create_table(
        "insights",
        sa.Column("month", sa.Date, primary_key=True),
        sa.Column("document", JSONB, nullable=False),
        sa.Column("made_at", _TIME, nullable=False),
        schema=_SCHEMA,
    )
    op.execute(
        f"INSERT INTO {_SCHEMA}.account_versions (account_id, since, name, owner, segment, plan,"
        " region, reseller, seats, currency, mrr, margin_per_month, status, contract_start,"
        " contract_end, churned_at, notice_days, billing_period)"
        " SELECT account_id, updated_at, fields->>'name', fields->>'owner', fields->>'segment',"
        " fields->>'plan', fields->>'region', fields->>'reseller', (fields->>'seats')::int,"
        " fields->>'currency', (fields->>'mrr')::numeric, (fields->>'margin_per_month')::numeric,"
        " fields->>'status', (fields->>'contract_start')::date, (fields->>'contract_end')::date,"
        " (fields->>'churned_at')::date, (fields->>'notice_days')::int, fields->>'billing_period'"
        f" FROM {_SCHEMA}.accounts"
    )
    op.create_table(
        "taken_in",
        sa.Column("partition", sa.Text, primary_key=True),
        sa.Column("events", sa.BigInteger, nullable=False),
        schema=_SCHEMA,
    )
    op.execute(
        f"INSERT INTO {_SCHEMA}.taken_in (partition, events)"
        f" SELECT '', sum(events) FROM {_SCHEMA}.account_day HAVING sum(events) > 0"
    )
    # At the end, as it keeps everybody else from the scores, and what is above takes a while.
    op.add_column("scores", sa.Column("stage", sa.SmallInteger), schema=_SCHEMA)
    op.add_column("scores", sa.Column("stage_since", _TIME), schema=_SCHEMA)
    # Lists are read from memory: every sweep wrote every entry of these again. `sort_risk` stays
    # for the release before, which goes on while the new one starts.
    op.drop_index("scores_by_band", "scores", schema=_SCHEMA)
    op.drop_index("scores_by_value", "scores", schema=_SCHEMA)
    op.create_index("scores_by_band", "scores", ["band"], schema=_SCHEMA)
