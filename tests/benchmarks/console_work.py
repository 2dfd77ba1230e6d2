"""What the notifier knows, for the benchmark of the console: work, its history, messages, notes.

Of the interventions three in ten are open, one in six of those acknowledged, some snoozed or
overdue; each has six entries in its timeline, two tasks and two messages, of which one in five was
suppressed. Half of the accounts with work have notes.
"""

from datetime import datetime
from typing import Final

import asyncpg
import msgspec

from services.notifier.domain.playbooks import DEFAULT

OPEN_SHARE: Final = 0.3
_REASONS: Final = """[
    {"family": "regularity", "indicator": "active_days_90", "text": "Active on 9 of 90 days.",
     "value": 9, "unit": "days", "baseline": 38, "baseline_of": "own", "change": -0.76,
     "window_days": 90, "weight": 0.81, "as_of": "2026-11-21"},
    {"family": "recency", "indicator": "recency_days", "text": "No use for 24 days.",
     "value": 24, "unit": "days", "baseline": 2, "baseline_of": "own", "change": 11.0,
     "window_days": null, "weight": 0.6, "as_of": "2026-11-21"}]"""

_ACCOUNTS: Final = """
INSERT INTO notifier.accounts (account_id, name, owner, timezone, status, fields, updated_at)
SELECT account_id, fields->>'name', fields->>'owner', fields->>'timezone', fields->>'status',
    fields, updated_at
FROM scoring.accounts
"""
_INTERVENTIONS: Final = """
INSERT INTO notifier.interventions (id, account_id, type, reason, status, version, episode,
    severity, owner, due_at, opened_at, last_seen_at, flag_id, flag_episode, flag_raised_at,
    flag_as_of, flag_change, risk_at_open, risk, value_amount, value_currency, value_basis,
    renewal_date, summary, reasons, acknowledged_at, acknowledged_by, closed_at, closed_by,
    outcome, note, revision, round, acted_at, snoozed_until, snooze_reason, snoozed_by, snoozed_at,
    held_out, priority, notice_by, playbook)
SELECT md5('work' || n)::uuid, a.account_id,
    (ARRAY['renew','adopt','adopt','land','expand'])[1 + n % 5],
    (ARRAY['churn_risk','usage_drop','seats_idle','onboarding_stalled','expansion_ready'])
        [1 + n % 5],
    CASE WHEN NOT is_open THEN 'closed' WHEN n % 6 = 0 THEN 'acknowledged' ELSE 'open' END,
    1 + n % 4, 1, (ARRAY['watch','at_risk','at_risk','critical'])[1 + n % 4], a.owner,
    $3::timestamptz + (n % 200 - 40) * interval '2 hours',
    $3::timestamptz - (CASE WHEN is_open THEN n % 400 ELSE 400 + n % 8000 END) * interval '1 hour',
    $3, 'flag-' || n, 1, $3, $3, 'raised', 0.3, 0.35,
    round((a.fields->>'mrr')::numeric * 0.35 * 12, 2), a.fields->>'currency', 'margin',
    (a.fields->>'contract_end')::date, 'Churn risk 35 % (at risk).', $4::jsonb,
    CASE WHEN n % 6 = 0 THEN $3::timestamptz - interval '1 hour' END,
    CASE WHEN n % 6 = 0 THEN a.owner END,
    CASE WHEN NOT is_open THEN $3::timestamptz - (n % 8000) * interval '1 hour' END,
    CASE WHEN NOT is_open THEN CASE WHEN n % 4 = 0 THEN 'system' ELSE a.owner END END,
    CASE WHEN NOT is_open THEN (ARRAY['saved','churned','false_alarm','no_action_needed','downsold']
        )[1 + n / 5 % 5] END,
    CASE WHEN is_open THEN '' ELSE 'They told us why.' END, 0, 1, NULL,
    CASE WHEN is_open AND n % 20 = 1 THEN $3::timestamptz + interval '3 days' END,
    CASE WHEN is_open AND n % 20 = 1 THEN 'On holiday' END,
    CASE WHEN is_open AND n % 20 = 1 THEN a.owner END,
    CASE WHEN is_open AND n % 20 = 1 THEN $3::timestamptz - interval '1 day' END,
    false, round((a.fields->>'mrr')::numeric * 4.2)::float8 + n % 100,
    (a.fields->>'contract_end')::date - 30, $5::jsonb
FROM (SELECT n, n < $1::int * $6::float8 AS is_open,
        'account-' || lpad((n * ($2::int / $1::int))::text, 7, '0') AS account_id
    FROM generate_series(0, $1::int - 1) AS n) AS chosen
JOIN notifier.accounts AS a USING (account_id)
"""
_TIMELINE: Final = """
INSERT INTO notifier.timeline (account_id, intervention_id, at, kind, by, detail)
SELECT i.account_id, i.id, i.opened_at + k * interval '1 hour',
    (ARRAY['opened','notified','suppressed','acknowledged','task_done','notified'])[k],
    CASE WHEN k IN (4, 5) THEN i.owner ELSE 'system' END,
    CASE k WHEN 1 THEN jsonb_build_object('owner', i.owner, 'playbook', 'default')
        WHEN 3 THEN '{"channel": "slack", "reason": "quiet_hours"}'
        WHEN 5 THEN '{"task": "Read the reasons"}'
        ELSE '{"channel": "email", "to": "csm@example.com", "reason": "first"}' END
FROM notifier.interventions AS i CROSS JOIN generate_series(1, 6) AS k
ORDER BY i.opened_at + k * interval '1 hour'
"""
_TASKS: Final = """
INSERT INTO notifier.tasks (intervention_id, episode, number, title, who, owner, due_at, done_at,
    done_by)
SELECT id, episode, k, (ARRAY['Read the reasons','Talk to the account'])[k], 'owner', owner,
    due_at, CASE WHEN k = 1 AND status <> 'open' THEN opened_at + interval '1 hour' END,
    CASE WHEN k = 1 AND status <> 'open' THEN owner END
FROM notifier.interventions CROSS JOIN generate_series(1, 2) AS k
"""
_DELIVERIES: Final = """
INSERT INTO notifier.deliveries (id, dedupe_key, kind, group_key, intervention_id, account_id,
    channel, destination, recipient, reason, subject, urgent, priority, state, suppress_reason,
    created_at, due_at, attempts, last_class, ended_at)
SELECT md5('sent' || k || i.id::text)::uuid, 'notice:' || i.id || ':' || k, 'notice',
    i.account_id, i.id, i.account_id, c.name, c.name || ':' || i.owner, i.owner,
    (ARRAY['first','repeat'])[1 + k % 2], '{}', false, i.priority,
    CASE WHEN d % 5 = 0 THEN 'cancelled' WHEN d % 97 = 0 THEN 'dead' ELSE 'sent' END,
    CASE WHEN d % 5 = 0 THEN 'quiet_hours' END, i.opened_at, i.opened_at, 1,
    CASE WHEN d % 97 = 0 THEN 'transient' END, i.opened_at + interval '1 minute'
FROM (SELECT *, row_number() OVER (ORDER BY opened_at) AS d FROM notifier.interventions) AS i
CROSS JOIN generate_series(1, 2) AS k
CROSS JOIN LATERAL (SELECT (ARRAY['slack','email'])[k] AS name) AS c
ORDER BY i.opened_at, k
"""
_DESTINATIONS: Final = """
INSERT INTO notifier.destinations (destination, channel, failures, broken_since)
SELECT DISTINCT destination, channel, 0, NULL::timestamptz FROM notifier.deliveries
"""
_ENDINGS: Final = """
INSERT INTO notifier.endings (intervention_id, episode, account_id, reason, playbook, owner,
    outcome, by_system, held_out, opened_at, closed_at, acknowledged_at, first_action_at)
SELECT id, episode, account_id, reason, 'default', owner, outcome, closed_by = 'system', false,
    opened_at, closed_at, acknowledged_at, closed_at
FROM notifier.interventions WHERE status = 'closed'
"""
_NOTES: Final = """
INSERT INTO notifier.account_notes (id, account_id, text, author, at)
SELECT md5('note' || k || id::text)::uuid, account_id,
    'Called them: they want to talk about prices before the summer.', owner,
    opened_at + k * interval '1 day'
FROM notifier.interventions CROSS JOIN generate_series(1, 2) AS k WHERE hashtext(account_id) % 2 = 0
"""
_SENTIMENTS: Final = """
INSERT INTO notifier.sentiments (id, account_id, mood, note, by, at, expires_at)
SELECT md5('mood' || id::text)::uuid, account_id, 'bad', 'A new manager looks around.', owner,
    opened_at, $1::timestamptz + interval '30 days'
FROM notifier.interventions WHERE hashtext(account_id) % 10 = 0
"""
_AUDIT: Final = """
INSERT INTO notifier.audit (at, actor, role, way, action, subject, account_id, detail)
SELECT opened_at, owner, 'csm', 'local', 'work.acknowledged', id::text, account_id, '{}'
FROM notifier.interventions ORDER BY opened_at
"""
_SILENCES: Final = """
INSERT INTO notifier.silences (id, matchers, starts_at, ends_at, author, comment, created_at)
SELECT md5('quiet' || n)::uuid, jsonb_build_object('reseller', 'Nobody ' || n),
    $1::timestamptz - interval '20 days', $1::timestamptz + (n - 30) * interval '1 day',
    'csm-1@example.com', 'They share seats', $1::timestamptz - interval '20 days'
FROM generate_series(1, 60) AS n
"""
_VIEWS: Final = """
INSERT INTO notifier.saved_views (id, owner, name, page, query, shared, created_at)
SELECT md5('view' || n)::uuid, 'csm-' || n || '@example.com', 'My critical ones', '/accounts',
    'band=critical', true, $1::timestamptz FROM generate_series(1, 20) AS n
"""
_USERS: Final = """
INSERT INTO notifier.users (address, role, created_at, created_by)
SELECT 'csm-' || n || '@example.com', 'csm', $1::timestamptz, 'setup'
FROM generate_series(0, 39) AS n
"""
_OLD_FLAGS: Final = "DELETE FROM log.records WHERE topic IN ('flags', 'accounts')"


async def write(
    connection: asyncpg.Connection, *, accounts: int, interventions: int, now: datetime
) -> None:
    """Once the directory is there. The sweep's flags are dropped: the work is what is made here."""
    await connection.execute(_OLD_FLAGS, timeout=600)
    await connection.execute(_ACCOUNTS, timeout=600)
    playbook = msgspec.json.encode(DEFAULT).decode()
    await connection.execute(
        _INTERVENTIONS, interventions, accounts, now, _REASONS, playbook, OPEN_SHARE, timeout=600
    )
    for statement in (_TIMELINE, _TASKS, _DELIVERIES, _DESTINATIONS, _ENDINGS, _NOTES, _AUDIT):
        await connection.execute(statement, timeout=600)
    for statement in (_SENTIMENTS, _SILENCES, _VIEWS, _USERS):
        await connection.execute(statement, now, timeout=600)
    await connection.execute("VACUUM ANALYZE", timeout=600)


def team(people: int) -> str:
    """The team file of the owners that the directory names."""
    lines = ["fallback: {owner: csm-0@example.com, lead: csm-0@example.com}", "people:"]
    for number in range(people):
        lines.append(f"  - address: csm-{number}@example.com")
        lines.append("    zone: Europe/Berlin")
        if number:
            lines.append("    manager: csm-0@example.com")
    return "\n".join(lines) + "\n"
