"""How interventions ended (topic `outcomes`), kept as labels: the highest revision counts."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring import erasure_store
from shared.database import driver
from shared.messages import Outcome


async def save(connection: AsyncConnection, outcomes: Sequence[Outcome]) -> None:
    """Take the outcomes in, in any order and as often as they come.

    What was closed before its account was erased stays erased.
    """
    # Else an erasure could end between this look and our writing.
    await erasure_store.hold_off_erasures(connection)
    erased = await erasure_store.read_erased_accounts(
        connection, {outcome.account for outcome in outcomes}
    )
    newest: dict[tuple[str, str, int], Outcome] = {}
    for outcome in outcomes:
        if outcome.account in erased and outcome.closed_at <= erased[outcome.account]:
            continue
        key = (outcome.account, outcome.intervention_id, outcome.episode)
        if key not in newest or newest[key].revision < outcome.revision:
            newest[key] = outcome
    ordered = [newest[key] for key in sorted(newest)]
    await (await driver(connection)).execute(
        _SAVE,
        [one.account for one in ordered],
        [one.intervention_id for one in ordered],
        [one.episode for one in ordered],
        [one.revision for one in ordered],
        [one.reason for one in ordered],
        [one.outcome.value for one in ordered],
        [one.by for one in ordered],
        [one.closed_at for one in ordered],
        [one.risk_at_open for one in ordered],
    )


_SAVE = """
INSERT INTO scoring.outcomes AS o (account_id, intervention_id, episode, revision, reason, outcome,
    closed_by, closed_at, risk_at_open)
SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::int[], $5::text[], $6::text[],
    $7::text[], $8::timestamptz[], $9::float8[])
ON CONFLICT (account_id, intervention_id, episode) DO UPDATE SET
    revision = EXCLUDED.revision, reason = EXCLUDED.reason, outcome = EXCLUDED.outcome,
    closed_by = EXCLUDED.closed_by, closed_at = EXCLUDED.closed_at,
    risk_at_open = EXCLUDED.risk_at_open
WHERE o.revision < EXCLUDED.revision
"""
