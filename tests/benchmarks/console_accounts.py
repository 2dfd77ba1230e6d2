"""What scoring knows, for the benchmark of the console: a directory, its history, a year of use.

Use as in `scoring_accounts.py`: 37 active days of 400 an account in the mean, a gamma distribution
in which some come once and others every working day; one in five has stopped at some time. Every
account has a record and three versions of it: three years of renewals at a rising price; 4 % are
trials, 8 % have left. What can be computed (risk, bands, stages, flags) is computed by a sweep of
the process itself, not made up.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Final

import asyncpg

from services.scoring.feature_log import Months
from shared.database import open_engine
from tests.benchmarks import scoring_accounts

SHOWN_EVERY: Final = 50
"""Of so many accounts one has weekly feature rows of a year, and is opened by the benchmark."""

_FIELDS: Final = """
SELECT n, 'account-' || lpad(n::text, 7, '0') AS account_id,
    (ARRAY['Northwind','Fabrikam','Contoso','Tailspin','Wingtip','Litware','Adatum','Proseware',
        'Fernhill','Oakbridge'])[1 + n % 10] || ' ' || (ARRAY['Media','Logistics','Foods','Health',
        'Energy','Labs','Travel'])[1 + n / 10 % 7] || ' ' || n AS name,
    (ARRAY['smb','smb','smb','mid-market','mid-market','enterprise','public'])[1 + h % 7]
        AS segment,
    (ARRAY['starter','team','business','enterprise'])[1 + h / 7 % 4] AS plan,
    (ARRAY['DE','FR','GB','US','NL','SE','ES','IT'])[1 + h / 28 % 8] AS region,
    CASE WHEN h % 5 = 0 THEN 'Reseller ' || (h / 5 % 12) END AS reseller,
    'csm-' || h % 40 || '@example.com' AS owner,
    (ARRAY['EUR','EUR','EUR','USD','GBP'])[1 + h / 224 % 5] AS currency,
    round((40 + exp((h % 1000) / 1000.0 * 6)) * 3) AS mrr,
    CASE WHEN h % 25 = 1 THEN 'trial' WHEN h % 25 IN (2, 3) THEN 'churned' ELSE 'active' END
        AS status,
    CASE WHEN h % 10 < 7 THEN 'year' WHEN h % 10 < 9 THEN 'month' ELSE 'quarter' END
        AS billing_period,
    $2::date - (1100 + h % 365) AS contract_start,
    $2::date + h % 365 AS contract_end,
    $2::date - h % 330 AS churned_at,
    1 + h % 60 AS seats
FROM (SELECT n, ((n::bigint * 7919 + n / 13) % 1000003)::int AS h
    FROM generate_series(0, $1::int - 1) AS n) AS numbered
"""
_DIRECTORY: Final = f"""
INSERT INTO scoring.accounts (account_id, fields, updated_at)
SELECT account_id, jsonb_strip_nulls(jsonb_build_object('name', name, 'owner', owner,
    'segment', segment, 'plan', plan, 'region', region, 'reseller', reseller, 'seats', seats,
    'mrr', mrr::text, 'margin_per_month', CASE WHEN n % 5 > 0 THEN round(mrr * 0.7)::text END,
    'currency', currency, 'status', status, 'billing_period', billing_period, 'notice_days', 30,
    'contract_start', CASE WHEN status = 'trial' THEN NULL ELSE contract_start END,
    'contract_end', CASE WHEN status = 'trial' THEN NULL ELSE contract_end END,
    'churned_at', CASE WHEN status = 'churned' THEN churned_at END,
    'timezone', 'Europe/Berlin', 'goals', CASE WHEN n % 20 = 0 THEN '[{{"metric": "orders_per_week",
        "baseline": 100, "target": 115, "due": "2030-01-01"}}]'::jsonb END)), now()
FROM ({_FIELDS}) AS f
"""
_VERSIONS: Final = f"""
INSERT INTO scoring.account_versions (account_id, since, name, owner, segment, plan, region,
    reseller, seats, currency, mrr, margin_per_month, status, contract_start, contract_end,
    churned_at, notice_days, billing_period)
SELECT account_id, greatest(contract_start, $2::date - (2 - v) * 365 - n % 300)::timestamptz
        + v * interval '1 second', name,
    CASE WHEN v = 0 AND n % 3 = 0 THEN 'csm-0@example.com' ELSE owner END, segment, plan, region,
    reseller, seats, currency, round(mrr * (0.8 + 0.1 * v)),
    CASE WHEN n % 5 > 0 THEN round(mrr * 0.7 * (0.8 + 0.1 * v)) END,
    CASE WHEN v < 2 AND status = 'churned' THEN 'active' ELSE status END,
    CASE WHEN status = 'trial' THEN NULL ELSE contract_start END,
    CASE WHEN status = 'trial' THEN NULL ELSE contract_end - (2 - v) * 365 END,
    CASE WHEN v = 2 AND status = 'churned' THEN churned_at END, 30, billing_period
FROM ({_FIELDS}) AS f CROSS JOIN generate_series(0, 2) AS v
"""
_STAGES: Final = f"""
INSERT INTO scoring.account_stages (account_id, since, stage)
SELECT account_id, (contract_start + s * 60)::timestamptz, 2 + s
FROM ({_FIELDS}) AS f CROSS JOIN generate_series(0, 1) AS s WHERE status <> 'trial'
"""
_WEEKS: Final = """
INSERT INTO scoring.feature_rows
    (account_id, as_of, kind, columns, indicators, risk, band, model_version, directory)
SELECT s.account_id, $1::timestamptz - w * interval '7 days', 'weekly', s.columns, s.indicators,
    CASE WHEN s.risk IS NULL THEN NULL ELSE least(0.95, s.risk * (1.6 - w * 0.02)) END, s.band,
    s.model_version, a.fields
FROM scoring.scores AS s JOIN scoring.accounts AS a USING (account_id)
CROSS JOIN generate_series(1, 52) AS w
WHERE right(s.account_id, 7)::int % $2::int = 0
ON CONFLICT DO NOTHING
"""


async def write(connection: asyncpg.Connection, accounts: int, *, today: date) -> int:
    """All that comes before the first sweep; says how many account-days."""
    days = 0
    for shard, own in scoring_accounts.names(accounts).items():
        days += await scoring_accounts.write_shard(connection, shard, own, today=today, seed=1)
    for statement in (_DIRECTORY, _VERSIONS, _STAGES):
        await connection.execute(statement, accounts, today, timeout=600)
    await scoring_accounts.mark(connection, accounts, accounts, datetime.now(UTC))
    await connection.execute("VACUUM ANALYZE", timeout=600)
    return days


async def write_weeks(url: str, *, now: datetime) -> int:
    """A year of weekly rows of the accounts that are shown; after the sweep, whose they are."""
    monday = datetime(now.year, now.month, now.day, tzinfo=UTC) - timedelta(days=now.weekday())
    async with open_engine(url, application="benchmark") as engine:
        await Months(engine).ensure([monday - timedelta(weeks=week) for week in range(53)])
    connection = await asyncpg.connect(url)
    try:
        done: str = await connection.execute(_WEEKS, monday, SHOWN_EVERY, timeout=600)
        return int(done.rsplit(maxsplit=1)[-1])
    finally:
        await connection.close()
