"""The notifier's tables; nobody else writes to them."""

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Double,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    any_,
    cast,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.log.positions import positions_table
from shared.outbox import outbox_table

metadata = MetaData(schema="notifier")

ROWS_AT_ONCE = 500
"""Of one INSERT: PostgreSQL takes 32,767 parameters with a statement, and a row has up to 20."""

_MOMENT = DateTime(timezone=True)

log_positions = positions_table(metadata)
outbox = outbox_table(metadata)


def among(column: ColumnElement[Any], values: Collection[object]) -> ColumnElement[bool]:
    """Whether it is one of them, however many: as one parameter, where IN has one for each."""
    return column == any_(cast(list(values), ARRAY(column.type)))


# A snapshot of the directory: the console and the messages must not wait for scoring.
accounts = Table(
    "accounts",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("name", Text),
    Column("owner", Text),
    Column("timezone", Text),
    Column("status", Text),
    Column("fields", JSONB, nullable=False),
    Column("updated_at", _MOMENT, nullable=False),
    # The account was erased: flags as of this moment or before were raised from what is gone.
    Column("erased_until", _MOMENT),
)

interventions = Table(
    "interventions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("episode", Integer, nullable=False),
    Column("severity", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("due_at", _MOMENT, nullable=False),
    Column("opened_at", _MOMENT, nullable=False),
    Column("last_seen_at", _MOMENT, nullable=False),
    Column("flag_id", Text, nullable=False),
    Column("flag_episode", BigInteger, nullable=False),
    Column("flag_raised_at", _MOMENT, nullable=False),
    Column("flag_as_of", _MOMENT, nullable=False),
    Column("flag_change", Text, nullable=False),
    # Of what it took in last.
    Column("traceparent", Text),
    Column("risk_at_open", Float),
    Column("risk", Float),
    Column("value_amount", Numeric),
    Column("value_currency", Text),
    Column("value_basis", Text),
    Column("renewal_date", Date),
    Column("summary", Text, nullable=False),
    Column("reasons", JSONB, nullable=False),
    Column("acknowledged_at", _MOMENT),
    Column("acknowledged_by", Text),
    Column("recovered_at", _MOMENT),
    Column("closed_at", _MOMENT),
    Column("closed_by", Text),
    Column("outcome", Text),
    Column("note", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("round_began_at", _MOMENT),
    Column("acted_at", _MOMENT),
    Column("snoozed_until", _MOMENT),
    Column("snooze_reason", Text),
    Column("snoozed_by", Text),
    Column("snoozed_at", _MOMENT),
    Column("snooze_broken_at", _MOMENT),
    Column("snooze_ended_at", _MOMENT),
    Column("ends_at", _MOMENT),
    Column("held_out", Boolean, nullable=False),
    Column("priority", Double, nullable=False),
    Column("notice_by", Date),
    Column("playbook", JSONB),
    CheckConstraint("(status = 'closed') = (outcome IS NOT NULL)", name="closed_has_outcome"),
    # One open intervention per account, type and reason: two flags at once meet here.
    Index(
        "one_open_intervention",
        "account_id",
        "type",
        "reason",
        unique=True,
        # What all accounts with open work are worth, each counted once.
        postgresql_include=["severity", "held_out", "value_amount", "value_currency"],
        postgresql_where=text("status <> 'closed'"),
    ),
    Index("interventions_by_account", "account_id", "opened_at"),
    Index("interventions_by_owner_opened", "owner", "opened_at"),
    Index("interventions_by_opened", "opened_at"),
    # Pages of the console begin after the last row of the page before.
    Index(
        "open_interventions_by_owner",
        "owner",
        text("priority DESC"),
        "id",
        # What the piles and counts of a day's work are made of: no row is read for them.
        postgresql_include=[
            "type",
            "reason",
            "status",
            "severity",
            "due_at",
            "opened_at",
            "recovered_at",
            "snoozed_until",
            "snooze_ended_at",
            "held_out",
        ],
        postgresql_where=text("status <> 'closed'"),
    ),
    Index(
        "open_interventions_by_priority",
        text("priority DESC"),
        "id",
        postgresql_where=text("status <> 'closed'"),
    ),
    Index(
        "open_interventions_by_value",
        text("COALESCE(value_amount, -1) DESC"),
        "id",
        postgresql_where=text("status <> 'closed'"),
    ),
)

timeline = Table(
    "timeline",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("account_id", Text, nullable=False),
    Column(
        "intervention_id",
        Uuid,
        ForeignKey("notifier.interventions.id", name="timeline_intervention"),
    ),
    Column("at", _MOMENT, nullable=False),
    Column("kind", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("detail", JSONB, nullable=False),
    Index("timeline_by_account", "account_id", "id"),
)

# Of the playbook that an intervention was opened with; each episode has its own.
tasks = Table(
    "tasks",
    metadata,
    Column(
        "intervention_id",
        Uuid,
        ForeignKey("notifier.interventions.id", name="tasks_intervention"),
        primary_key=True,
    ),
    Column("episode", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("title", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("due_at", _MOMENT, nullable=False),
    Column("done_at", _MOMENT),
    Column("done_by", Text),
    Index("tasks_to_do", "owner", "due_at", postgresql_where=text("done_at IS NULL")),
)

# The newest that has not expired holds.
sentiments = Table(
    "sentiments",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("mood", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", _MOMENT, nullable=False),
    Column("expires_at", _MOMENT, nullable=False),
    Index("sentiments_by_account", "account_id", "at"),
)

# What people have chosen for themselves, over what the team file says.
preferences = Table(
    "preferences",
    metadata,
    Column("address", Text, primary_key=True),
    Column("wanted", JSONB, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", _MOMENT, nullable=False),
)

silences = Table(
    "silences",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("matchers", JSONB, nullable=False),
    Column("starts_at", _MOMENT, nullable=False),
    Column("ends_at", _MOMENT, nullable=False),
    Column("author", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("created_at", _MOMENT, nullable=False),
    Index("silences_by_end", "ends_at"),
)

# One digest per person, kind and their own day; the empty ones are recorded only.
digests = Table(
    "digests",
    metadata,
    Column("recipient", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("local_date", Date, primary_key=True),
    Column("items", Integer, nullable=False),
    Column("at", _MOMENT, nullable=False),
)

# How each episode of an intervention ended, for what is counted of them.
endings = Table(
    "endings",
    metadata,
    Column(
        "intervention_id",
        Uuid,
        ForeignKey("notifier.interventions.id", name="endings_intervention"),
        primary_key=True,
    ),
    Column("episode", Integer, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("playbook", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("by_system", Boolean, nullable=False),
    Column("held_out", Boolean, nullable=False),
    Column("opened_at", _MOMENT, nullable=False),
    Column("closed_at", _MOMENT, nullable=False),
    Column("acknowledged_at", _MOMENT),
    Column("first_action_at", _MOMENT),
    Index("endings_by_time", "closed_at"),
    Index("endings_by_account", "account_id"),
)

# How each account was drawn for the hold-out, once a quarter.
draws = Table(
    "draws",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("quarter", Text, primary_key=True),
    Column("held_out", Boolean, nullable=False),
    Column("drawn_on", Date, nullable=False),
)

# Steps of people that were taken, so that one which comes again is not taken twice.
requests = Table(
    "requests",
    metadata,
    Column("key", Text, primary_key=True),
    Column("step", Text, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("subject", Uuid, nullable=False),
    Column("at", _MOMENT, nullable=False),
    Index("requests_by_time", "at"),
)

# A whole way out, such as `slack`: what holds for all its destinations at once.
channels = Table(
    "channels",
    metadata,
    Column("channel", Text, primary_key=True),
    # Nothing is sent before: the other side asked for it, or refuses all of us.
    Column("paused_until", _MOMENT, nullable=False, server_default=func.now()),
    # Refusals in a row; while there are any, one message at a time tries whether they are over.
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("broken_since", _MOMENT),
    Column("last_failure", Text),
)

# When a destination may be claimed: something is due, it does not rest, and nobody sends to it.
_CLAIMABLE_AT = "GREATEST(due_at, next_allowed_at, lease_until)"

# One row per place that messages go to; at most one message to it is under way.
destinations = Table(
    "destinations",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    # Since when something may be due; NULL: nothing is. Too early costs one look in vain.
    Column("due_at", _MOMENT),
    Column("next_allowed_at", _MOMENT, nullable=False, server_default=func.now()),
    Column("claim", Uuid),
    Column("lease_until", _MOMENT),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("broken_since", _MOMENT),
    # When a broken one is tried again with a message; NULL: not before somebody tests it.
    Column("probe_at", _MOMENT),
    # Until when the other side has asked not to be asked; no mending shortens that.
    Column("asked_until", _MOMENT),
    Column("last_failure", Text),
    Index(
        "claimable_destinations",
        "channel",
        text(_CLAIMABLE_AT),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
)

# What each destination was told of an account; all but `known` and `bundled` after acceptance.
notices = Table(
    "notices",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("destination", Text, primary_key=True),
    Column("episode", Integer, nullable=False),
    # Of the deliveries that ended; it makes the key of the next.
    Column("seq", BigInteger, nullable=False),
    Column("known", JSONB, nullable=False),
    Column("told", JSONB, nullable=False),
    Column("shown", JSONB, nullable=False),
    Column("told_at", _MOMENT),
    Column("repeats", Integer, nullable=False),
    Column("thread_channel", Text),
    Column("thread_ts", Text),
    Column("gave_up", Text),
    Column("bundled", Text),
    Index(
        "notices_bundled",
        "destination",
        "account_id",
        postgresql_where=text("bundled IS NOT NULL"),
    ),
)

# One row per account; locking it is the lock for all that is decided about the account.
agenda = Table(
    "agenda",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("look_at", _MOMENT),
    Index("agenda_by_time", "look_at", postgresql_where=text("look_at IS NOT NULL")),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("number", BigInteger, Identity(always=True), nullable=False),
    Column("dedupe_key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("group_key", Text, nullable=False),
    Column(
        "intervention_id",
        Uuid,
        ForeignKey("notifier.interventions.id", name="deliveries_intervention"),
    ),
    Column("account_id", Text),
    Column("channel", Text, nullable=False),
    Column("destination", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("subject", JSONB, nullable=False),
    Column("urgent", Boolean, nullable=False),
    Column("priority", Float, nullable=False),
    Column("state", Text, nullable=False),
    Column("suppress_reason", Text),
    Column("created_at", _MOMENT, nullable=False, server_default=func.now()),
    Column("due_at", _MOMENT, nullable=False, server_default=func.now()),
    # Its time has come, and its destination knows.
    Column("is_due", Boolean, nullable=False, server_default="false"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("plain", Boolean, nullable=False, server_default="false"),
    # The conversation it belonged to is gone: it begins one.
    Column("threadless", Boolean, nullable=False, server_default="false"),
    # Where this was sent in vain before it came here.
    Column("tried", JSONB, nullable=False, server_default="[]"),
    Column("ambiguous", Integer, nullable=False, server_default="0"),
    Column("claim", Uuid),
    Column("last_class", Text),
    Column("last_detail", Text),
    Column("provider_id", Text),
    Column("ended_at", _MOMENT),
    # When what caused it arrived: latencies begin there.
    Column("received_at", _MOMENT),
    Column("traceparent", Text),
    # Of what joined it while it waited.
    Column("trace_links", ARRAY(Text), nullable=False, server_default="{}"),
    UniqueConstraint("dedupe_key", name="deliveries_dedupe_key"),
    # A newer decision joins the message that waits: it is composed when it is sent.
    Index(
        "one_waiting_delivery",
        "group_key",
        "destination",
        unique=True,
        postgresql_where=text("state IN ('pending', 'sending')"),
    ),
    # What is not due yet, so that the senders find what becomes due.
    Index(
        "coming_deliveries",
        "due_at",
        postgresql_where=text("state = 'pending' AND NOT is_due"),
    ),
    # In the order in which a destination hears of it.
    Index(
        "due_deliveries",
        "destination",
        text("urgent DESC"),
        text("priority DESC"),
        "number",
        postgresql_where=text("state IN ('pending', 'sending') AND is_due"),
    ),
    Index("deliveries_by_number", "number"),
    Index("deliveries_by_account", "account_id", "number"),
    Index("deliveries_given_up", "number", postgresql_where=text("state IN ('dead', 'held')")),
)

# Each time that this database was restored from a backup; nothing is sent until it is released.
restores: Final = Table(
    "restores",
    metadata,
    Column("restored_at", _MOMENT, primary_key=True),
    Column("released_at", _MOMENT),
)

# Who may sign in. A password is scrypt's, None where they come in by the identity provider only.
users: Final = Table(
    "users",
    metadata,
    Column("address", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("password", Text),
    Column("created_at", _MOMENT, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("disabled_at", _MOMENT),
    Column("last_seen_at", _MOMENT),
)

# Links that work once, to choose a password by.
invitations: Final = Table(
    "invitations",
    metadata,
    Column("token_sha256", Text, primary_key=True),
    Column("address", Text, nullable=False),
    Column("expires_at", _MOMENT, nullable=False),
)

# Who is signed in: the cookie's token is random, so a plain hash of it is enough.
sign_ins: Final = Table(
    "sign_ins",
    metadata,
    Column("token_sha256", Text, primary_key=True),
    Column("address", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("began_at", _MOMENT, nullable=False),
    Column("seen_at", _MOMENT, nullable=False),
    Column("ends_at", _MOMENT, nullable=False),
    Index("sign_ins_by_address", "address"),
    Index("sign_ins_by_end", "ends_at"),
)

# Sign-ins that failed, by address and by where they came from: each waits longer than the last.
sign_in_attempts: Final = Table(
    "sign_in_attempts",
    metadata,
    Column("key", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("next_at", _MOMENT, nullable=False),
)

audit: Final = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", _MOMENT, nullable=False),
    Column("actor", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("way", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("account_id", Text),
    Column("detail", JSONB, nullable=False),
    Index("audit_by_account", "account_id", "id"),
    Index("audit_by_actor", "actor", "id"),
)

# What a list is narrowed to and sorted by, under a name; `query` as it stands in the address.
saved_views: Final = Table(
    "saved_views",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("page", Text, nullable=False),
    Column("query", Text, nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("created_at", _MOMENT, nullable=False),
    Index("saved_views_of_owner", "owner", "page", "name", unique=True),
)

account_notes: Final = Table(
    "account_notes",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("at", _MOMENT, nullable=False),
    Index("account_notes_of_account", "account_id", "at"),
)

# What a year is to bring: of the department (`owner` is empty), and of each person.
targets: Final = Table(
    "targets",
    metadata,
    Column("year", SmallInteger, primary_key=True, autoincrement=False),
    Column("measure", Text, primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("plan", Numeric, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("changed_at", _MOMENT, nullable=False),
    Column("version", Integer, nullable=False),
)
