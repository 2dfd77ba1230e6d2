"""The notifier's tables; nobody else writes to them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.log.positions import positions_table
from shared.outbox import outbox_table

metadata = MetaData(schema="notifier")

_MOMENT = DateTime(timezone=True)

log_positions = positions_table(metadata)
outbox = outbox_table(metadata)

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
    CheckConstraint("(status = 'closed') = (outcome IS NOT NULL)", name="closed_has_outcome"),
    # One open intervention per account, type and reason: two flags at once meet here.
    Index(
        "one_open_intervention",
        "account_id",
        "type",
        "reason",
        unique=True,
        postgresql_where=text("status <> 'closed'"),
    ),
    Index("interventions_by_account", "account_id", "opened_at"),
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
        nullable=False,
    ),
    Column("at", _MOMENT, nullable=False),
    Column("kind", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("detail", JSONB, nullable=False),
    Index("timeline_by_account", "account_id", "id"),
)

# One row per place that messages go to; at most one message to it is under way.
destinations = Table(
    "destinations",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("next_allowed_at", _MOMENT, nullable=False, server_default=func.now()),
    Column("claim", Uuid),
    Column("lease_until", _MOMENT),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("broken_since", _MOMENT),
    Column("last_failure", Text),
)

# What each destination was told last about an intervention; written after acceptance.
notices = Table(
    "notices",
    metadata,
    Column(
        "intervention_id",
        Uuid,
        ForeignKey("notifier.interventions.id", name="notices_intervention"),
        primary_key=True,
    ),
    Column("destination", Text, primary_key=True),
    Column("flag_id", Text, nullable=False),
    Column("flag_episode", BigInteger, nullable=False),
    Column("severity", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("told_at", _MOMENT, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("number", BigInteger, Identity(always=True), nullable=False),
    Column("dedupe_key", Text, nullable=False),
    Column(
        "intervention_id",
        Uuid,
        ForeignKey("notifier.interventions.id", name="deliveries_intervention"),
        nullable=False,
    ),
    Column("account_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("destination", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("suppress_reason", Text),
    Column("created_at", _MOMENT, nullable=False, server_default=func.now()),
    Column("due_at", _MOMENT, nullable=False, server_default=func.now()),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("plain", Boolean, nullable=False, server_default="false"),
    Column("ambiguous", Integer, nullable=False, server_default="0"),
    Column("claim", Uuid),
    Column("last_class", Text),
    Column("last_detail", Text),
    Column("provider_id", Text),
    Column("ended_at", _MOMENT),
    UniqueConstraint("dedupe_key", name="deliveries_dedupe_key"),
    # A newer decision joins the message that waits: it is rendered when it is sent.
    Index(
        "one_waiting_delivery",
        "intervention_id",
        "destination",
        unique=True,
        postgresql_where=text("state IN ('pending', 'sending')"),
    ),
    Index(
        "waiting_deliveries",
        "destination",
        "number",
        postgresql_where=text("state IN ('pending', 'sending')"),
    ),
    Index("deliveries_by_number", "number"),
)
