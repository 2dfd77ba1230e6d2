"""The sweep: scores as rows of floats, where each shard stands, and the log of what was known when.

Reasons and indicators of before are not carried over: the first sweep writes them anew. Bands and
last risks are: nobody's band starts afresh.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.log.partitioner import partition_of

revision = "0007"
down_revision = "0006"

_TIME = sa.DateTime(timezone=True)
_SHARDS = 32
# Before any score: every shard is due.
_LONG_AGO = "2000-01-01 00:00:00+00"
_LATCHED = (
    "coalesce(array_position(ARRAY['healthy', 'watch', 'at_risk', 'critical'],"
    " band_state->>'band') - 1, 0)"
)


def upgrade() -> None:
    _scores()
    _account_past()
    _shard_sweeps()
    _feature_rows()
    _peers()


def _scores() -> None:
    op.execute("ALTER TABLE scoring.scores RENAME TO scores_before")
    op.execute("ALTER INDEX scoring.scores_pkey RENAME TO scores_before_pkey")
    for name in ("due", "by_risk", "by_value", "by_band"):
        op.execute(f"DROP INDEX scoring.scores_{name}")
    op.create_table(
        "scores",
        sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("as_of", _TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("short_history", sa.Boolean, nullable=False),
        sa.Column("risk", sa.Double),
        sa.Column("last_risk", sa.Double),
        sa.Column("band", sa.Text),
        sa.Column("latched", sa.SmallInteger, nullable=False),
        sa.Column("band_since", _TIME, nullable=False),
        sa.Column("watch_low_since", _TIME),
        sa.Column("at_risk_low_since", _TIME),
        sa.Column("critical_low_since", _TIME),
        sa.Column("value_at_risk", sa.Numeric),
        sa.Column("currency", sa.Text),
        sa.Column("value_basis", sa.Text),
        sa.Column("columns", sa.Text, nullable=False),
        sa.Column("indicators", sa.LargeBinary, nullable=False),
        sa.Column("cohort_ratio", sa.Double, nullable=False),
        sa.Column("model_version", sa.Text),
        sa.Column(
            "sort_risk",
            sa.Double,
            sa.Computed("coalesce(risk, -1)", persisted=True),
            nullable=False,
        ),
        sa.Column(
            "sort_value",
            sa.Numeric,
            sa.Computed("coalesce(value_at_risk, -1)", persisted=True),
            nullable=False,
        ),
        schema="scoring",
    )
    op.execute(
        "INSERT INTO scoring.scores (shard, account_id, as_of, state, short_history, risk,"
        " last_risk, band, latched, band_since, watch_low_since, at_risk_low_since,"
        " critical_low_since, value_at_risk, currency, value_basis, columns, indicators,"
        " cohort_ratio, model_version)"
        " SELECT shard, account_id, as_of, state, short_history, risk, last_risk, band,"
        f" {_LATCHED},"
        " coalesce((band_state->>'since')::timestamptz, as_of),"
        " (band_state->>'watch_low_since')::timestamptz,"
        " (band_state->>'at_risk_low_since')::timestamptz,"
        " (band_state->>'critical_low_since')::timestamptz,"
        " value_at_risk, currency, value_basis, '', '', 1, model_version"
        " FROM scoring.scores_before"
    )
    op.drop_table("scores_before", schema="scoring")
    indexes = {
        "by_risk": ["sort_risk DESC", "account_id"],
        "by_value": ["sort_value DESC", "account_id"],
        "by_band": ["band", "sort_risk DESC", "account_id"],
    }
    for name, columns in indexes.items():
        op.create_index(
            f"scores_{name}", "scores", [sa.text(one) for one in columns], schema="scoring"
        )


def _account_past() -> None:
    connection = op.get_bind()
    names = list(connection.scalars(sa.text("SELECT account_id FROM scoring.account_past")))
    op.add_column("account_past", sa.Column("shard", sa.SmallInteger), schema="scoring")
    for shard in range(_SHARDS):
        own = [name for name in names if partition_of(name.encode(), _SHARDS) == shard]
        connection.execute(
            sa.text(
                "UPDATE scoring.account_past SET shard = :shard"
                " WHERE account_id = ANY(CAST(:names AS text[]))"
            ),
            {"shard": shard, "names": own},
        )
    op.alter_column("account_past", "shard", nullable=False, schema="scoring")
    op.drop_constraint("account_past_pkey", "account_past", schema="scoring")
    op.create_primary_key(
        "account_past_pkey", "account_past", ["shard", "account_id"], schema="scoring"
    )


def _shard_sweeps() -> None:
    op.create_table(
        "shard_sweeps",
        sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("swept_at", _TIME, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("columns", sa.Text, nullable=False),
        sa.Column("accounts", sa.Integer, nullable=False),
        schema="scoring",
    )
    op.execute(
        "INSERT INTO scoring.shard_sweeps"
        f" SELECT shard, '{_LONG_AGO}', '', '', count(*) FROM scoring.scores GROUP BY shard"
    )


def _feature_rows() -> None:
    op.create_table(
        "feature_rows",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("as_of", _TIME, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("columns", sa.Text, nullable=False),
        sa.Column("indicators", sa.LargeBinary, nullable=False),
        sa.Column("risk", sa.Double),
        sa.Column("band", sa.Text),
        sa.Column("model_version", sa.Text),
        sa.Column("directory", JSONB, nullable=False),
        schema="scoring",
        postgresql_partition_by="RANGE (as_of)",
    )


def _peers() -> None:
    op.create_table(
        "peers",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("accounts", sa.Integer, nullable=False),
        sa.Column("cohort_ratio", sa.Double, nullable=False),
        sa.Column("document", JSONB, nullable=False),
        schema="scoring",
    )
