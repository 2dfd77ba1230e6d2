"""The tables of scoring, all in its own schema; nobody else writes here.

Every table of state has the account in its key, so that a distributed PostgreSQL can shard by it.
"""

from typing import Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Date,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.log.positions import positions_table
from shared.outbox import outbox_table

metadata = MetaData(schema="scoring")

log_positions: Final = positions_table(metadata)
outbox: Final = outbox_table(metadata)

# Which events have been counted. Partitioned by the day that the client stated (`partitions.py`):
# a retry names the same day, whatever was corrected since. `key` is 128 bits of (source, id).
seen_events: Final = Table(
    "seen_events",
    metadata,
    Column("event_day", Date, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    postgresql_partition_by="RANGE (event_day)",
)

# The day first: the rows that intake writes lie together, whatever the number of accounts
# (measured, scoring.md section 2). The index serves the sweep and the account page.
account_day: Final = Table(
    "account_day",
    metadata,
    Column("day", Date, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("events", Integer, nullable=False),
    Column("milliseconds", BigInteger, nullable=False),
    Column("userless", Integer, nullable=False),
    Column("users", ARRAY(BigInteger), nullable=False),
    Column("features", ARRAY(Text), nullable=False),
    # Of the day's events, the first that was received: an erasure leaves what came after it.
    Column("first_received_at", DateTime(timezone=True), nullable=False),
    Index("account_day_by_account", "account_id", "day"),
)

# What retention has deleted of `account_day`, so that tenure and "ever active" stay true.
account_past: Final = Table(
    "account_past",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("first_day", Date, nullable=False),
    Column("last_day", Date, nullable=False),
    Column("active_days", Integer, nullable=False),
)

# Accounts to be scored again. Rows are only inserted and deleted: intake never waits for a sweep.
dirty: Final = Table(
    "dirty",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("shard", SmallInteger, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("backfill", Boolean, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column(
        "marked_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()
    ),
    Index("dirty_by_shard", "shard", "id"),
    Index("dirty_backfill", "account_id", postgresql_where=text("backfill")),
    Index("dirty_loading", "marked_at", postgresql_where=text("backfill")),
)

accounts: Final = Table(
    "accounts",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("fields", JSONB, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)

# What was erased stays so: what an account sent before the moment is skipped, whoever replays it.
erased_accounts: Final = Table(
    "erased_accounts",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("erased_at", DateTime(timezone=True), nullable=False),
)

# People whose events count without a user; an empty account means all accounts.
erased_users: Final = Table(
    "erased_users",
    metadata,
    Column("user_key", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", Text, primary_key=True),
    Column("erased_at", DateTime(timezone=True), nullable=False),
)

scores: Final = Table(
    "scores",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("shard", SmallInteger, nullable=False),
    Column("as_of", DateTime(timezone=True), nullable=False),
    Column("next_due_at", DateTime(timezone=True), nullable=False),
    Column("state", Text, nullable=False),
    Column("short_history", Boolean, nullable=False),
    Column("risk", Double),
    Column("band", Text),
    Column("band_state", JSONB),
    Column("last_risk", Double),
    Column("value_at_risk", Numeric),
    Column("currency", Text),
    Column("value_basis", Text),
    Column("indicators", JSONB, nullable=False),
    Column("reasons", JSONB, nullable=False),
    Column("model_version", Text),
    # NULLs sort as 0 in the lists, and an index can serve them.
    Column("sort_risk", Double, Computed("coalesce(risk, -1)", persisted=True), nullable=False),
    Column(
        "sort_value",
        Numeric,
        Computed("coalesce(value_at_risk, -1)", persisted=True),
        nullable=False,
    ),
    Index("scores_due", "shard", "next_due_at"),
    Index("scores_by_risk", text("sort_risk DESC"), "account_id"),
    Index("scores_by_value", text("sort_value DESC"), "account_id"),
    Index("scores_by_band", "band", text("sort_risk DESC"), "account_id"),
)

flags: Final = Table(
    "flags",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("episode", Integer, primary_key=True),
    Column("flag_id", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("raised_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("cleared_at", DateTime(timezone=True)),
    Column("band", Text),
    Column("risk", Double),
    Column("summary", Text, nullable=False),
    Index(
        "flags_one_open",
        "account_id",
        "reason",
        unique=True,
        postgresql_where=text("cleared_at IS NULL"),
    ),
)

models: Final = Table(
    "models",
    metadata,
    Column("version", Text, primary_key=True),
    Column("document", LargeBinary, nullable=False),
    Column("accounts", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("active", Boolean, nullable=False),
    Index("models_one_active", "active", unique=True, postgresql_where=text("active")),
)
