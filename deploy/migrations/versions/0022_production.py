"""Partitions by functions, so that services own no table; queue tables tuned; restored databases.

The functions run as the owner of the schema, and their names and bounds are made here, of dates: a
service that may call them can neither drop a table of its choice nor make one elsewhere.
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"

_TIME = sa.DateTime(timezone=True)

# Rows that are updated many times find room on their page; what is dead is cleared by count.
QUEUES = ("scoring.dirty", "scoring.outbox", "notifier.outbox", "notifier.deliveries")

_AS_OWNER = "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp"

_FUNCTIONS = {
    "add_seen_events_partition(first date, until date)": """
DECLARE
    name text := 'seen_events_' || to_char(first, 'YYYYMMDD');
BEGIN
    IF (first >= '0001-01-01' AND first < until
            AND until <= (date_trunc('year', first::timestamp) + '1 year')::date) IS NOT TRUE THEN
        RAISE EXCEPTION 'no days of one year: from % until %', first, until
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF until - first > 1 THEN
        name := name || '_' || to_char(until, 'YYYYMMDD');
    END IF;
    EXECUTE format('CREATE TABLE scoring.%I PARTITION OF scoring.seen_events'
        ' FOR VALUES FROM (%L) TO (%L)',
        name, to_char(first, 'YYYY-MM-DD'), to_char(until, 'YYYY-MM-DD'));
END""",
    "drop_seen_events_partition(day date)": """
BEGIN
    -- Only what holds a single day: a year's is dropped by hand.
    PERFORM scoring.drop_partition('scoring.seen_events',
        'seen_events_' || to_char(day, 'YYYYMMDD'),
        format('FOR VALUES FROM (%L) TO (%L)',
            to_char(day, 'YYYY-MM-DD'), to_char(day + 1, 'YYYY-MM-DD')));
END""",
    "add_feature_rows_partition(month date)": """
BEGIN
    IF (month >= '0001-01-01' AND month = date_trunc('month', month::timestamp)) IS NOT TRUE THEN
        RAISE EXCEPTION 'no first day of a month: %', month
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('CREATE TABLE IF NOT EXISTS scoring.%I PARTITION OF scoring.feature_rows'
        ' FOR VALUES FROM (%L) TO (%L)', 'feature_rows_' || to_char(month, 'YYYYMM'),
        to_char(month, 'YYYY-MM-DD 00:00+00'),
        to_char(month + interval '1 month', 'YYYY-MM-DD 00:00+00'));
END""",
    "drop_feature_rows_partition(month date)": """
BEGIN
    PERFORM scoring.drop_partition('scoring.feature_rows',
        'feature_rows_' || to_char(month, 'YYYYMM'), NULL);
END""",
}
# Nobody but the others, as their owner, may call it.
_DROP_PARTITION = """
CREATE FUNCTION scoring.drop_partition(parent regclass, name text, bounds text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = parent AND c.relname = name
            AND (bounds IS NULL OR pg_get_expr(c.relpartbound, c.oid) = bounds)
    ) THEN
        RAISE EXCEPTION '% has no such partition: %', parent, name
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('DROP TABLE scoring.%I', name);
END $$
"""


def upgrade() -> None:
    _partitions()
    _queues()
    _restores()


def _partitions() -> None:
    op.execute(_DROP_PARTITION)
    op.execute("REVOKE ALL ON FUNCTION scoring.drop_partition(regclass, text, text) FROM PUBLIC")
    for signature, body in _FUNCTIONS.items():
        op.execute(f"CREATE FUNCTION scoring.{signature} RETURNS void {_AS_OWNER} AS $${body} $$")
        op.execute(f"REVOKE ALL ON FUNCTION scoring.{signature} FROM PUBLIC")


def _queues() -> None:
    for table in QUEUES:
        op.execute(
            f"ALTER TABLE {table} SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0,"
            " autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_insert_scale_factor = 0,"
            " autovacuum_vacuum_insert_threshold = 1000, autovacuum_analyze_scale_factor = 0,"
            " autovacuum_analyze_threshold = 1000)"
        )


def _restores() -> None:
    op.create_table(
        "restores",
        sa.Column("restored_at", _TIME, primary_key=True),
        sa.Column("released_at", _TIME),
        schema="notifier",
    )
