"""Intake: day buckets by shard, signals, and what each source sends per hour."""

import sqlalchemy as sa
from alembic import op

from shared.log.partitioner import partition_of

revision = "0006"
down_revision = "0005"

_TIME = sa.DateTime(timezone=True)
_SHARDS = 32
_ACCOUNTS_AT_ONCE = 10_000


def upgrade() -> None:
    _shards_of_accounts()
    _account_day()
    for table in ("dirty", "scores"):
        op.execute(
            f"UPDATE scoring.{table} AS t SET shard = s.shard FROM shards AS s"
            " WHERE s.account_id = t.account_id AND s.shard <> t.shard"
        )
    _signals()


def _shards_of_accounts() -> None:
    """Each account's shard: the hash is Kafka's, which PostgreSQL does not have."""
    op.execute(
        "CREATE TEMPORARY TABLE shards (account_id text PRIMARY KEY, shard smallint NOT NULL)"
        " ON COMMIT DROP"
    )
    connection = op.get_bind()
    names = list(
        connection.scalars(
            sa.text(
                "SELECT account_id FROM scoring.account_day"
                " UNION SELECT account_id FROM scoring.dirty"
                " UNION SELECT account_id FROM scoring.scores"
            )
        )
    )
    for start in range(0, len(names), _ACCOUNTS_AT_ONCE):
        some = names[start : start + _ACCOUNTS_AT_ONCE]
        connection.execute(
            sa.text(
                "INSERT INTO shards"
                " SELECT * FROM unnest(CAST(:names AS text[]), CAST(:shards AS smallint[]))"
            ),
            {"names": some, "shards": [partition_of(name.encode(), _SHARDS) for name in some]},
        )
    op.execute("ANALYZE shards")


def _account_day() -> None:
    op.execute("ALTER TABLE scoring.account_day RENAME TO account_day_whole")
    op.execute("ALTER INDEX scoring.account_day_pkey RENAME TO account_day_whole_pkey")
    op.drop_index("account_day_by_account", "account_day_whole", schema="scoring")
    op.create_table(
        "account_day",
        sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("events", sa.Integer, nullable=False),
        sa.Column("milliseconds", sa.BigInteger, nullable=False),
        sa.Column("userless", sa.Integer, nullable=False),
        sa.Column("users", sa.ARRAY(sa.BigInteger), nullable=False),
        sa.Column("features", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("sources", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("first_received_at", _TIME, nullable=False),
        schema="scoring",
        postgresql_partition_by="LIST (shard)",
    )
    for shard in range(_SHARDS):
        op.execute(
            f"CREATE TABLE scoring.account_day_{shard:02}"
            f" PARTITION OF scoring.account_day FOR VALUES IN ({shard})"
        )
    columns = "day, account_id, events, milliseconds, userless, users, features, first_received_at"
    # Of what was counted before, the sources are not known.
    op.execute(
        f"INSERT INTO scoring.account_day (shard, sources, {columns})"
        f" SELECT s.shard, '{{}}', {columns} FROM scoring.account_day_whole JOIN shards AS s"
        " USING (account_id) ORDER BY s.shard, day, account_id"
    )
    op.drop_table("account_day_whole", schema="scoring")
    # After the rows: filling an index that is there costs twice what building it does.
    op.create_index(
        "account_day_by_account", "account_day", ["account_id", "day"], schema="scoring"
    )


def _signals() -> None:
    op.create_table(
        "signals",
        sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("occurred_at", _TIME, primary_key=True),
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("user_key", sa.BigInteger),
        sa.Column("subject", sa.BigInteger),
        sa.Column("value", sa.Double),
        sa.Column("received_at", _TIME, nullable=False),
        schema="scoring",
    )
    op.create_index(
        "signals_by_time", "signals", ["occurred_at"], schema="scoring", postgresql_using="brin"
    )
    op.create_table(
        "source_hours",
        sa.Column("hour", _TIME, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("partition", sa.Text, primary_key=True),
        sa.Column("events", sa.BigInteger, nullable=False),
        schema="scoring",
    )
    op.create_table(
        "account_features",
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("features", sa.ARRAY(sa.Text), nullable=False),
        schema="scoring",
    )
