"""How many names of features an account may have: 500, the others count as one.

A product that puts ids into the names would else fill the buckets with them. Exact up to the limit:
an account with 500 names or fewer keeps each, whatever the order. Beyond it, the first ones to be
stored stay. An account is looked at once a process has met a hundred of its names, so that the
others cost nothing; what came before, under earlier owners of the partition, is counted then.
"""

from collections.abc import Collection, Mapping
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.domain.activity import AccountDay, DayDelta
from services.scoring.store import shard_of
from shared.database import driver

LIMIT: Final = 500
OTHER: Final = "other"
_NOTICED: Final = 100
_REMEMBERED: Final = 100_000

Names = Mapping[str, set[str]]


class FeatureNames:
    """The names met since a partition was claimed, by account."""

    def __init__(self) -> None:
        self._met: dict[str, set[str]] = {}
        self._count = 0

    async def limit(
        self, connection: AsyncConnection, deltas: Mapping[AccountDay, DayDelta]
    ) -> Names:
        """Replace in the deltas the names that are too many; returns what to `remember`."""
        found: dict[str, set[str]] = {}
        for (account, _), delta in deltas.items():
            met = self._met.get(account, _NONE)
            if not delta.features <= met:
                found.setdefault(account, set()).update(delta.features - met)
        # In order: two transactions must never wait in a circle.
        for account in sorted(found):
            met = self._met.get(account, _NONE)
            if len(met) + len(found[account]) < _NOTICED:
                continue
            counted = await _admit(connection, account, found[account])
            refused = found[account] - counted
            found[account] = counted
            if refused:
                for (name, _), delta in deltas.items():
                    if name == account and not refused.isdisjoint(delta.features):
                        delta.features = delta.features - refused | {OTHER}
        return found

    def remember(self, found: Names) -> None:
        """The deltas are stored: call this after the commit."""
        for account, names in found.items():
            self._met.setdefault(account, set()).update(names)
            self._count += len(names)
        if self._count >= _REMEMBERED:
            self._met, self._count = {}, 0


_NONE: Final[set[str]] = set()


async def _admit(connection: AsyncConnection, account: str, names: Collection[str]) -> set[str]:
    """Those of the names that count as themselves; the account's row is locked from here on."""
    connected = await driver(connection)
    await connected.execute(_BEGIN, account, shard_of(account))
    stored = set(
        await connected.fetchval(
            "SELECT features FROM scoring.account_features WHERE account_id = $1 FOR UPDATE",
            account,
        )
    )
    room = max(0, LIMIT - len(stored))
    admitted = sorted(set(names) - stored)[:room]
    if admitted:
        await connected.execute(
            "UPDATE scoring.account_features SET features = features || $2::text[]"
            " WHERE account_id = $1",
            account,
            admitted,
        )
    return set(names) & stored | set(admitted)


_BEGIN: Final = f"""
INSERT INTO scoring.account_features (account_id, features)
SELECT $1, coalesce(array_agg(DISTINCT name) FILTER (WHERE name <> '{OTHER}'), '{{}}')
FROM scoring.account_day, unnest(features) AS name WHERE shard = $2 AND account_id = $1
ON CONFLICT DO NOTHING
"""
