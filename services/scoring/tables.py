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

_TRANSACTION: Final = "pg_current_xact_id()::text::bigint"

log_positions: Final = positions_table(metadata, counts=True)
outbox: Final = outbox_table(metadata)

# Which events have been counted. Partitioned by the day that the client stated (`partitions.py`):
# a retry names the same day, whatever was corrected since. `key` is 128 bits of (source, id). Those
# that we have found the account of stand under an empty one: such an event counts once, even where
# its account was found twice, and differently.
seen_events: Final = Table(
    "seen_events",
    metadata,
    Column("event_day", Date, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    postgresql_partition_by="RANGE (event_day)",
)

# Partitioned by shard: a sweep reads a shard's rows in one piece. Within, the day comes first: the
# rows that intake writes lie together, whatever the number of accounts (measured, scoring.md
# section 2). The index serves the account page.
account_day: Final = Table(
    "account_day",
    metadata,
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("day", Date, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("events", Integer, nullable=False),
    Column("milliseconds", BigInteger, nullable=False),
    Column("userless", Integer, nullable=False),
    Column("users", ARRAY(BigInteger), nullable=False),
    Column("features", ARRAY(Text), nullable=False),
    Column("sources", ARRAY(Text), nullable=False),
    # Of the day's events, the first that was received: an erasure leaves what came after it.
    Column("first_received_at", DateTime(timezone=True), nullable=False),
    Index("account_day_by_account", "account_id", "day"),
    postgresql_partition_by="LIST (shard)",
)

# What happened to an account without anybody using the product (`domain/usage.py: SignalKind`);
# `key` is that of the event in `seen_events`. No user: NULL, also where a person was erased.
signals: Final = Table(
    "signals",
    metadata,
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("account_id", Text, primary_key=True),
    Column("occurred_at", DateTime(timezone=True), primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("kind", SmallInteger, nullable=False),
    Column("user_key", BigInteger),
    Column("subject", BigInteger),
    Column("value", Double),
    Column("received_at", DateTime(timezone=True), nullable=False),
    # They come roughly in the order of time: a few pages say which blocks are past the retention.
    Index("signals_by_time", "occurred_at", postgresql_using="brin"),
)

# Events by the hour they were received in: how a source that has gone silent is seen. One row for
# each partition of the log, so that two transactions never wait for each other.
source_hours: Final = Table(
    "source_hours",
    metadata,
    Column("hour", DateTime(timezone=True), primary_key=True),
    Column("source", Text, primary_key=True),
    Column("partition", Text, primary_key=True),
    Column("events", BigInteger, nullable=False),
)

# How many events of use intake has counted, of each partition of the log (as in `source_hours`).
taken_in: Final = Table(
    "taken_in",
    metadata,
    Column("partition", Text, primary_key=True),
    Column("events", BigInteger, nullable=False),
)

# The names that count as themselves, of accounts that have many (`feature_names.py`).
account_features: Final = Table(
    "account_features",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("features", ARRAY(Text), nullable=False),
)

# What retention has deleted of `account_day`, so that tenure and "ever active" stay true.
account_past: Final = Table(
    "account_past",
    metadata,
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("account_id", Text, primary_key=True),
    Column("first_day", Date, nullable=False),
    Column("last_day", Date, nullable=False),
    Column("active_days", Integer, nullable=False),
)

# Which accounts a user belongs to, by the user's key (`domain/activity.py: user_key`): the first
# UTC day that a `group` call, an `identify` call or any other event said so; the last that anything
# did. `learnt_at` is when intake first heard of it, by our clock; `last_active_at` may be up to a
# quarter of an hour behind (`memberships.py`). An event that was placed teaches nothing.
memberships: Final = Table(
    "memberships",
    metadata,
    Column("user_key", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", Text, primary_key=True),
    Column("grouped_on", Date),
    Column("identified_on", Date),
    Column("active_on", Date),
    Column("last_on", Date, nullable=False),
    Column("last_active_at", DateTime(timezone=True)),
    Column("learnt_at", DateTime(timezone=True), nullable=False),
    # For erasing an account: next to free to write, and reads a few pages in a hundred beside those
    # that hold the account.
    Index(
        "memberships_by_account",
        "account_id",
        postgresql_using="brin",
        postgresql_ops={"account_id": "text_bloom_ops(n_distinct_per_range = 1500)"},
        postgresql_with={"pages_per_range": 32},
    ),
    # They come in the order of time, and `learnt_at` stays: a few pages tell which are new.
    Index(
        "memberships_by_learning",
        "learnt_at",
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    ),
)

# When which user was said to work for which account: each `group` call, at the event's own time.
group_calls: Final = Table(
    "group_calls",
    metadata,
    Column("user_key", BigInteger, primary_key=True, autoincrement=False),
    Column("stated_at", DateTime(timezone=True), primary_key=True),
    Column("account_id", Text, primary_key=True),
)

# Events that name no account, until their user is known in one; `partition` and `log_offset` are
# where they came from, `event_day` and `key` as in `seen_events`, `waiting_since` the log's clock.
waiting_events: Final = Table(
    "waiting_events",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("user_key", BigInteger, primary_key=True, autoincrement=False),
    Column("event_day", Date, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("log_offset", BigInteger, nullable=False),
    Column("waiting_since", DateTime(timezone=True), nullable=False),
    Column("source", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("headers", LargeBinary, nullable=False),
    # Not the partition first: no plan may take it for the way to a user's events.
    Index("waiting_events_by_age", "waiting_since", "partition"),
)

# How many rows of each partition `waiting_events` has: written in the transactions that change it.
waiting_counts: Final = Table(
    "waiting_counts",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("events", BigInteger, nullable=False),
)

# What became of the events without an account, by source and by the hour of its happening; one row
# for each partition, as in `source_hours`. An event that has waited stands under two of them.
placing_hours: Final = Table(
    "placing_hours",
    metadata,
    Column("hour", DateTime(timezone=True), primary_key=True),
    Column("source", Text, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    *(
        Column(name, BigInteger, nullable=False, server_default="0")
        for name in (
            "only_account",
            "group_call",
            "last_activity",
            "first_stated",
            "waiting",
            "late",
            "full",
            "erased",
        )
    ),
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
    Column("traceparent", Text),
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

# What the directory said of each account and when: a row for each change of these fields. In
# `written_in` is the transaction: who keeps a copy asks for what has been written since.
account_versions: Final = Table(
    "account_versions",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("since", DateTime(timezone=True), primary_key=True),
    Column("name", Text),
    Column("owner", Text),
    Column("segment", Text),
    Column("plan", Text),
    Column("region", Text),
    Column("reseller", Text),
    Column("seats", Integer),
    Column("currency", Text),
    Column("mrr", Numeric),
    Column("margin_per_month", Numeric),
    Column("status", Text),
    Column("contract_start", Date),
    Column("contract_end", Date),
    Column("churned_at", Date),
    Column("notice_days", Integer),
    Column("billing_period", Text),
    Column("written_in", BigInteger, nullable=False, server_default=text(_TRANSACTION)),
    Index("account_versions_by_writing", "written_in"),
)

# When an account came to a stage of its way (`domain/ledger.py: LifeStage`).
account_stages: Final = Table(
    "account_stages",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("since", DateTime(timezone=True), primary_key=True),
    Column("stage", SmallInteger, nullable=False),
    Column("written_in", BigInteger, nullable=False, server_default=text(_TRANSACTION)),
    Index("account_stages_by_writing", "written_in"),
)

# What is told of how customers use the product, once a month (`domain/insights.py`).
insights: Final = Table(
    "insights",
    metadata,
    Column("month", Date, primary_key=True),
    Column("document", JSONB, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False),
)

# What was erased stays so: what an account sent before the moment is skipped, whoever replays it.
# Kept for ever. `flags_until` as in `messages.Erasure`, `counts` the rows that went, by table.
# NULL in `done_at`: under way; the release before leaves it to the server.
erased_accounts: Final = Table(
    "erased_accounts",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("erased_at", DateTime(timezone=True), nullable=False),
    Column("flags_until", DateTime(timezone=True)),
    Column("counts", JSONB),
    Column("done_at", DateTime(timezone=True), server_default=func.now()),
    # When its record changed first: the books of all accounts begin with the first change to any.
    Column("changed_since", DateTime(timezone=True)),
)

# People whose events count without a user; an empty account means all accounts. Kept for ever.
# `asked_at`: when the last request came in, `erased_at` the first; `user_hash` as ingest made it.
erased_users: Final = Table(
    "erased_users",
    metadata,
    Column("user_key", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", Text, primary_key=True),
    Column("erased_at", DateTime(timezone=True), nullable=False),
    Column("user_hash", Text),
    Column("asked_at", DateTime(timezone=True)),
    Column("counts", JSONB),
    Column("done_at", DateTime(timezone=True), server_default=func.now()),
)

# The last look at each account. `band` is the one shown, NULL without a risk; `latched` the code of
# the one the latches stand at. `indicators` as `domain/table.py` packs them, under `columns`.
scores: Final = Table(
    "scores",
    metadata,
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("account_id", Text, primary_key=True),
    Column("as_of", DateTime(timezone=True), nullable=False),
    Column("state", Text, nullable=False),
    Column("short_history", Boolean, nullable=False),
    Column("risk", Double),
    Column("last_risk", Double),
    Column("band", Text),
    Column("latched", SmallInteger, nullable=False),
    Column("band_since", DateTime(timezone=True), nullable=False),
    Column("watch_low_since", DateTime(timezone=True)),
    Column("at_risk_low_since", DateTime(timezone=True)),
    Column("critical_low_since", DateTime(timezone=True)),
    Column("value_at_risk", Numeric),
    Column("currency", Text),
    Column("value_basis", Text),
    Column("columns", Text, nullable=False),
    Column("indicators", LargeBinary, nullable=False),
    # What the trend was divided by: the next survey needs it as it was before.
    Column("cohort_ratio", Double, nullable=False),
    Column("model_version", Text),
    # Read by the release before only, which may go on while this one starts; gone with the next.
    Column("sort_risk", Double, Computed("coalesce(risk, -1)", persisted=True), nullable=False),
    # Where the account stands on its way (`domain/ledger.py: LifeStage`), and since when.
    Column("stage", SmallInteger),
    Column("stage_since", DateTime(timezone=True)),
    # They are counted by band without a look at the rows. None on what every sweep changes: it
    # would write every entry again.
    Index("scores_by_band", "band"),
)

# When all accounts of a shard had last been looked at, and with what: what is due by time is known
# from 32 rows. A shard without scores has no row.
shard_sweeps: Final = Table(
    "shard_sweeps",
    metadata,
    Column("shard", SmallInteger, primary_key=True, autoincrement=False),
    Column("swept_at", DateTime(timezone=True), nullable=False),
    Column("model_version", Text, nullable=False),
    Column("columns", Text, nullable=False),
    Column("accounts", Integer, nullable=False),
)

# What is usual among the accounts of each segment (`domain/peers.py`), under the model it was
# surveyed with; the newest of a version counts.
peers: Final = Table(
    "peers",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("model_version", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("accounts", Integer, nullable=False),
    Column("cohort_ratio", Double, nullable=False),
    Column("document", JSONB, nullable=False),
)

# What was known of an account when: the rows that models are trained on, never recomputed.
# Partitioned by month; `indicators` as `domain/table.py` packs them, `columns` its `columns_hash`.
# `kind`: weekly, band_change, or recomputed (an account's year before its first score, from
# loaded history: a baseline for reasons, never a training row).
feature_rows: Final = Table(
    "feature_rows",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("as_of", DateTime(timezone=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("columns", Text, nullable=False),
    Column("indicators", LargeBinary, nullable=False),
    Column("risk", Double),
    Column("band", Text),
    Column("model_version", Text),
    Column("directory", JSONB, nullable=False),
    postgresql_partition_by="RANGE (as_of)",
)

# Where each rule stands; a row exists only where it is not idle, or has had an episode.
flag_states: Final = Table(
    "flag_states",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("shard", SmallInteger, nullable=False),
    Column("episode", Integer, nullable=False),
    Column("raised_at", DateTime(timezone=True)),
    Column("wanted_since", DateTime(timezone=True)),
    Column("over_since", DateTime(timezone=True)),
    Column("band", Text),
    Column("anchor", JSONB),
    Index("flag_states_by_shard", "shard", "account_id"),
)

# The episodes. `told_at`: when the first message left; until then `message` waits here, unless an
# admin dropped it. `held_at`: the storm guard keeps it. `released_*`: what an admin did about it.
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
    Column("told_at", DateTime(timezone=True)),
    Column("held_at", DateTime(timezone=True)),
    Column("released_at", DateTime(timezone=True)),
    Column("released_by", Text),
    Column("message", LargeBinary),
    Column("evidence", JSONB),
    Column("why", Text),
    Column("traceparent", Text),
    Index(
        "flags_one_open",
        "account_id",
        "reason",
        unique=True,
        postgresql_where=text("cleared_at IS NULL"),
    ),
    Index(
        "flags_waiting",
        "account_id",
        "reason",
        postgresql_where=text("message IS NOT NULL AND held_at IS NULL"),
    ),
    Index(
        "flags_held",
        "account_id",
        "reason",
        postgresql_where=text("message IS NOT NULL AND held_at IS NOT NULL"),
    ),
    Index("flags_by_raised", "raised_at"),
)

# When a source sent too little, or nothing could be seen of all of them (`source` is empty then).
# `missing_days` are the whole days of which nothing came later either.
outages: Final = Table(
    "outages",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("source", Text, nullable=False),
    Column("began_at", DateTime(timezone=True), nullable=False),
    Column("noticed_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("seen_at", DateTime(timezone=True), nullable=False),
    Column("why", Text, nullable=False),
    Column("missing_days", ARRAY(Date), nullable=False),
    Index(
        "outages_one_open",
        "source",
        "why",
        unique=True,
        postgresql_where=text("ended_at IS NULL"),
    ),
)

# When scoring was last seen at work: a gap in it is an outage of its own.
pulse: Final = Table(
    "pulse",
    metadata,
    Column("name", Text, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
)

# Every fitted model with what became of it (`model_store.py`): one is active, and those that are
# retired or refused say why. `metrics` is the report of its training.
models: Final = Table(
    "models",
    metadata,
    Column("version", Text, primary_key=True),
    Column("document", LargeBinary, nullable=False),
    Column("accounts", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("kind", Text, nullable=False),
    Column("horizon_days", SmallInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("state_since", DateTime(timezone=True), nullable=False),
    Column("reason", Text, nullable=False),
    Column("activated_at", DateTime(timezone=True)),
    Column("metrics", JSONB, nullable=False),
    Index("models_one_active", "state", unique=True, postgresql_where=text("state = 'active'")),
)

# How interventions ended (topic `outcomes`): the highest revision of each episode.
outcomes: Final = Table(
    "outcomes",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("intervention_id", Text, primary_key=True),
    Column("episode", Integer, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("closed_by", Text, nullable=False),
    Column("closed_at", DateTime(timezone=True), nullable=False),
    Column("risk_at_open", Double),
)

# What each weekly look at the model in service has found (`drift.py`).
model_health: Final = Table(
    "model_health",
    metadata,
    Column("looked_at", DateTime(timezone=True), primary_key=True),
    Column("version", Text, nullable=False),
    Column("findings", JSONB, nullable=False),
)

# Backups that ended well; whoever makes one says so.
backups: Final = Table(
    "backups",
    metadata,
    Column("finished_at", DateTime(timezone=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)

# When the models are to be looked after next, by whichever replica, and what came of the last time.
upkeep: Final = Table(
    "upkeep",
    metadata,
    Column("task", Text, primary_key=True),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("done_at", DateTime(timezone=True)),
    Column("result", Text, nullable=False),
)
