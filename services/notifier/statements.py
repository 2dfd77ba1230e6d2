"""The statements of the delivery queue that are more than a table's own: SQL, for `queue.py`."""

from sqlalchemy import ARRAY, Boolean, Interval, Text, Uuid, bindparam, text

from services.notifier.tables import deliveries

# Of one message.
_MOST_LINKS = 16
_PLANNED = (
    "id",
    "dedupe_key",
    "kind",
    "group_key",
    "intervention_id",
    "account_id",
    "channel",
    "destination",
    "recipient",
    "reason",
    "subject",
    "urgent",
    "priority",
    "due_at",
    "tried",
    "traceparent",
    "received_at",
)
# Known already, joined, or new: one statement, as there is one for every decision.
PUT = text(
    f"""
    WITH known AS (
        SELECT FROM notifier.deliveries WHERE dedupe_key = :dedupe_key
    ), joined AS (
        UPDATE notifier.deliveries AS one
        SET due_at = LEAST(one.due_at, :due_at), urgent = one.urgent OR :urgent,
            priority = GREATEST(one.priority, :priority), reason = :reason,
            subject = one.subject || :subject,
            trace_links = CASE WHEN one.traceparent IS DISTINCT FROM :traceparent
                AND cardinality(one.trace_links) < {_MOST_LINKS}
                AND NOT :traceparent = ANY(one.trace_links)
                THEN array_append(one.trace_links, CAST(:traceparent AS text))
                ELSE one.trace_links END
        WHERE one.group_key = :group_key AND one.destination = :destination
            AND one.state IN ('pending', 'sending') AND NOT EXISTS (SELECT FROM known)
        RETURNING one.id
    )
    INSERT INTO notifier.deliveries ({", ".join(_PLANNED)}, state)
    SELECT {", ".join(f":{name}" for name in _PLANNED)}, 'pending'
    WHERE NOT EXISTS (SELECT FROM known) AND NOT EXISTS (SELECT FROM joined)
    ON CONFLICT DO NOTHING
    """
).bindparams(*(bindparam(name, type_=deliveries.c[name].type) for name in _PLANNED))

ANNOUNCE = text(
    """
    WITH due AS (
        SELECT id FROM notifier.deliveries
        WHERE state = 'pending' AND NOT is_due AND due_at <= now()
        ORDER BY due_at LIMIT :most FOR UPDATE SKIP LOCKED
    ), announced AS (
        UPDATE notifier.deliveries AS one SET is_due = true FROM due WHERE one.id = due.id
        RETURNING one.destination, one.channel, one.due_at
    )
    INSERT INTO notifier.destinations AS place (destination, channel, due_at)
    SELECT destination, min(channel), min(due_at) FROM announced
    GROUP BY destination ORDER BY destination
    ON CONFLICT (destination) DO UPDATE SET due_at = LEAST(place.due_at, excluded.due_at)
    """
)

# Per channel the destination that could have been claimed for the longest time; one look into
# the index each, however many there are.
CLAIMABLE = text(
    """
    SELECT place.*, way.failures AS channel_failures
    FROM unnest(:channels) AS mine (channel)
    LEFT JOIN notifier.channels AS way ON way.channel = mine.channel
    CROSS JOIN LATERAL (
        SELECT destination, channel, failures,
            broken_since IS NOT NULL AND (probe_at IS NULL OR probe_at > now()) AS is_broken,
            GREATEST(due_at, next_allowed_at, lease_until) AS since
        FROM notifier.destinations
        WHERE channel = mine.channel AND due_at IS NOT NULL
            AND GREATEST(due_at, next_allowed_at, lease_until) <= now()
        ORDER BY GREATEST(due_at, next_allowed_at, lease_until)
        LIMIT 1 FOR UPDATE SKIP LOCKED
    ) AS place
    WHERE (way.channel IS NULL OR way.paused_until <= now())
        AND (:despite_hold
            OR NOT EXISTS (SELECT FROM notifier.restores WHERE released_at IS NULL))
    ORDER BY place.since LIMIT 1
    """
).bindparams(bindparam("channels", type_=ARRAY(Text)), bindparam("despite_hold", type_=Boolean))

FIRST_OF_DESTINATION = text(
    """
    SELECT *, now() - GREATEST(due_at, created_at) AS waited
    FROM notifier.deliveries
    WHERE destination = :destination AND state IN ('pending', 'sending') AND is_due
    ORDER BY urgent DESC, priority DESC, number
    LIMIT 1 FOR UPDATE SKIP LOCKED
    """
)

# Both in one: they are made with every message.
TAKE = text(
    """
    WITH place AS (
        UPDATE notifier.destinations SET claim = :claim, lease_until = now() + :lease
        WHERE destination = :destination
    )
    UPDATE notifier.deliveries
    SET state = 'sending', claim = :claim, attempts = attempts + 1, ambiguous = ambiguous + :lost
    WHERE id = :id
    """
).bindparams(
    bindparam("id", type_=Uuid), bindparam("claim", type_=Uuid), bindparam("lease", type_=Interval)
)

OVERDUE = text(
    """
    SELECT one.*, now() - GREATEST(one.due_at, one.created_at) AS waited
    FROM notifier.deliveries AS one
    JOIN unnest(:channels, :urgent, :usual) AS mine (channel, urgent, usual)
        ON mine.channel = one.channel
    JOIN notifier.destinations AS place ON place.destination = one.destination
    LEFT JOIN notifier.channels AS way ON way.channel = one.channel
    WHERE one.state = 'pending' AND one.is_due AND one.number > :beyond
        AND GREATEST(one.due_at, one.created_at)
            < now() - CASE WHEN one.urgent THEN mine.urgent ELSE mine.usual END
        AND (place.failures > 0 OR way.failures > 0 OR way.paused_until > now())
        AND NOT EXISTS (SELECT FROM notifier.restores WHERE released_at IS NULL)
    ORDER BY one.number LIMIT :most
    """
).bindparams(
    bindparam("channels", type_=ARRAY(Text)),
    bindparam("urgent", type_=ARRAY(Interval)),
    bindparam("usual", type_=ARRAY(Interval)),
)
