"""Scoring's SQL of success goals: who has some, and which values were reported."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring import score_store, usage_store
from services.scoring.domain.usage import SignalKind, Signals
from services.scoring.store import fields_from
from services.scoring.usage_store import Scope
from shared.database import driver
from shared.messages import AccountFields

_AT_ONCE: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """The accounts with goals, ascending, their records as far as goals go, and all values."""

    accounts: Sequence[str]
    fields: Sequence[AccountFields]
    values: Signals


async def read_agreed(connection: AsyncConnection, *, at_once: int = _AT_ONCE) -> Agreed:
    """All goals there are."""
    rows = await (await driver(connection)).fetch(_AGREED)
    accounts = [row[0] for row in rows]
    # Beside the loop, and part by part: of all of a large vendor it would stand still for a second.
    fields = await asyncio.to_thread(lambda: [fields_from(row[1]) for row in rows])
    found = [await read_values(connection, ())]
    for first in range(0, len(accounts), at_once):
        part = accounts[first : first + at_once]
        values = await read_values(connection, part)
        found.append(usage_store.moved(values, range(first, first + len(part))))
    return Agreed(
        accounts=accounts,
        fields=fields,
        values=await asyncio.to_thread(usage_store.together, found),
    )


async def read_one(connection: AsyncConnection, account: str) -> Agreed:
    """One account's; nothing where it has none, or is not known."""
    (fields,) = await score_store.read_fields(connection, [account])
    return Agreed(
        accounts=[account], fields=[fields], values=await read_values(connection, [account])
    )


# Only what the goals need: to read whole records costs several times as much.
_AGREED: Final = """
SELECT account_id, json_build_object('goals', fields->'goals',
    'contract_start', fields->'contract_start')::text
FROM scoring.accounts WHERE jsonb_array_length(
    CASE jsonb_typeof(fields->'goals') WHEN 'array' THEN fields->'goals' ELSE '[]' END) > 0
ORDER BY account_id COLLATE "C"
"""


async def read_values(connection: AsyncConnection, accounts: Sequence[str]) -> Signals:
    """All that was reported of the accounts' metrics; in the order in which they are given."""
    return await usage_store.read_signals(
        await driver(connection), Scope(accounts=accounts), SignalKind.GOAL_METRIC
    )


async def read_of_those_with_goals(
    connection: AsyncConnection, accounts: Sequence[str], fields: Sequence[AccountFields]
) -> Signals:
    """The same, of all accounts; only those with goals are read."""
    having = [index for index, one in enumerate(fields) if one.goals]
    found = await read_values(connection, [accounts[index] for index in having])
    return usage_store.moved(found, having)
