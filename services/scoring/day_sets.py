"""The sets of names that days have: they travel as hashes, and what these stand for is remembered.

Most days share a few sets (which sources an account has, which features one uses together), so a
hash per day costs a tenth of its names. A set that is met for the first time is asked for by name,
on one of its days.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal, TypeAlias

import asyncpg
import numpy as np
from numpy.typing import NDArray

from services.scoring.copied import Rows
from services.scoring.domain.usage import Integers, Members, code_of
from services.scoring.store import shard_of

Column: TypeAlias = Literal["sources", "features"]

MOST_SETS: Final = 1 << 17
"""Sets that are remembered; a vendor whose days have more of them asks for all of them anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """Sets by their hash, ascending `(sets,)`; the members of each are a slice of `codes`."""

    hashes: Integers
    starts: Integers
    sizes: Integers
    codes: Integers

    def __len__(self) -> int:
        return len(self.hashes)

    def places(self, hashes: Integers) -> tuple[Integers, NDArray[np.bool_]]:
        """Where each hash stands, and whether it does."""
        if not len(self):
            return np.zeros(len(hashes), np.int64), np.zeros(len(hashes), np.bool_)
        place = np.minimum(np.searchsorted(self.hashes, hashes), len(self) - 1)
        return place, self.hashes[place] == hashes

    def members(self, owner: Integers, day: Integers, hashes: Integers) -> Members:
        """The members of each day's set `(days,)`, flat; codes are those of `code_of`.

        Intake may have changed a day before its set was asked for: then the day has none, and is
        looked at again at once.
        """
        place, is_known = self.places(hashes)
        place, owner, day = place[is_known], owner[is_known], day[is_known]
        size = self.sizes[place]
        within = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
        return Members(
            owner=np.repeat(owner, size),
            day=np.repeat(day, size),
            code=self.codes[np.repeat(self.starts[place], size) + within],
        )


def sets_of(known: Mapping[int, list[int]]) -> Sets:
    """The sets, each as the codes of its members."""
    ordered = sorted(known)
    sizes = np.array([len(known[one]) for one in ordered], np.int64)
    return Sets(
        hashes=np.array(ordered, np.int64),
        starts=np.cumsum(sizes) - sizes,
        sizes=sizes,
        codes=np.array([code for one in ordered for code in known[one]], np.int64),
    )


class DaySets:
    """Remembers the sets of days; several may learn at once."""

    def __init__(self) -> None:
        self._known: dict[Column, _Known] = {"sources": _NONE, "features": _NONE}

    async def learn(
        self,
        connection: asyncpg.Connection,
        column: Column,
        names: Sequence[str],
        owner: Integers,
        days: Rows,
    ) -> Sets:
        """The sets of these days, and others; `owner` indexes `names`, `(days,)`.

        Of those not known yet one day each is asked.
        """
        known = self._known[column]
        unknown = await asyncio.to_thread(_unknown, known.sets, days[column])
        if not len(unknown):
            return known.sets
        asked = [names[place] for place in owner[unknown].tolist()]
        rows = await connection.fetch(
            _SETS.format(column=column),
            [shard_of(name) for name in asked],
            [_FIRST + timedelta(days=one) for one in days["day"][unknown].tolist()],
            asked,
        )
        found = {row[0]: [code_of(name) for name in row[1]] for row in rows}
        # Others may have learned, or forgotten, meanwhile.
        codes = self._known[column].codes | known.codes | found
        sets = await asyncio.to_thread(sets_of, codes)
        self._known[column] = _NONE if len(codes) > MOST_SETS else _Known(codes, sets)
        return sets


@dataclass(frozen=True, slots=True)
class _Known:
    codes: dict[int, list[int]]
    sets: Sets


_NONE: Final = _Known({}, sets_of({}))
_FIRST: Final = date(2000, 1, 1)

_SETS: Final = """
SELECT hash_array_extended(d.{column}, 0), d.{column}
FROM unnest($1::smallint[], $2::date[], $3::text[]) AS n (shard, day, account_id),
LATERAL (SELECT a.{column} FROM scoring.account_day AS a
    WHERE a.shard = n.shard AND a.day = n.day AND a.account_id = n.account_id OFFSET 0) AS d
"""


def _unknown(sets: Sets, hashes: Integers) -> Integers:
    """Of each hash that is not known one place where it stands."""
    _, is_known = sets.places(hashes)
    unknown = np.flatnonzero(~is_known)
    _, first = np.unique(hashes[unknown], return_index=True)
    places: Integers = unknown[first]
    return places
