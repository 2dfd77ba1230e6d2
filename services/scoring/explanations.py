"""Reasons of stored scores, computed when somebody asks: for the API, and for flags' evidence.

They are not stored: of a million accounts a few are looked at. What they are made of is: the
account's row, the row that was logged a year before, the model and its peers. So the same score
has the same reasons, whoever asks and however often.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeVar

import numpy as np
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring import peer_store
from services.scoring.domain import table
from services.scoring.domain.features import Row, rows
from services.scoring.domain.model import Model, ModelRejected, load
from services.scoring.domain.peers import Cohorts, peers_in, peers_of_training
from services.scoring.domain.reasons import Explanation, known_then, reasons_of
from services.scoring.store import shard_of
from services.scoring.tables import models
from shared.database import driver

YEAR: Final = timedelta(days=365)
SLACK: Final = timedelta(days=35)
"""How much older than a year the row may be that is called "a year ago"."""
_KEPT: Final = 16

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One account as its score knows it: the features `(features,)` as of the score."""

    account: str
    as_of: datetime
    segment: str | None
    row: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScore:
    """A score with a risk, as it is stored; `indicators` packed under `columns`."""

    account: str
    as_of: datetime
    segment: str | None
    model_version: str
    columns: str
    indicators: bytes


class Explanations:
    """Explains stored scores. Models and surveys never change, so what was read is kept."""

    def __init__(self) -> None:
        self._models: dict[str, Model | None] = {}
        self._surveys: dict[int, Cohorts] = {}

    async def read(
        self, connection: AsyncConnection, scores: Sequence[StoredScore]
    ) -> Mapping[str, Explanation]:
        """Why each account's risk is what it is.

        Absent are those whose row or model this version cannot read any more: they are scored
        anew before long.
        """
        batches: defaultdict[tuple[str, int], list[Scored]] = defaultdict(list)
        surveys: dict[str, list[tuple[int, datetime]]] = {}
        for one in scores:
            version = one.model_version
            if (
                one.columns != table.columns_hash()
                or await self._model(connection, version) is None
            ):
                continue
            if version not in surveys:
                surveys[version] = await peer_store.read_times(connection, version)
            batches[version, _in_force(surveys[version], one.as_of)].append(_scored(one))
        found: dict[str, Explanation] = {}
        for (version, survey), batch in batches.items():
            model = await self._model(connection, version)
            if model is not None:
                cohorts = await self._cohorts(connection, survey, model)
                explained = await explain(connection, batch, model, cohorts)
                found |= {one.account: why for one, why in zip(batch, explained, strict=True)}
        return found

    async def _model(self, connection: AsyncConnection, version: str) -> Model | None:
        if version not in self._models:
            document = await connection.scalar(
                select(models.c.document).where(models.c.version == version)
            )
            _make_room(self._models)
            self._models[version] = _readable(document)
        return self._models[version]

    async def _cohorts(self, connection: AsyncConnection, survey: int, model: Model) -> Cohorts:
        if survey not in self._surveys:
            found = await peer_store.read(connection, survey) if survey else None
            if found is None:
                return {None: peers_of_training(model)}
            _make_room(self._surveys)
            self._surveys[survey] = found
        return self._surveys[survey]


async def explain(
    connection: AsyncConnection, scored: Sequence[Scored], model: Model, cohorts: Cohorts
) -> list[Explanation]:
    """Why each of these risks is what it is, in order; `model` and `cohorts` gave them."""
    before = await _a_year_before(connection, scored)
    return [
        reasons_of(
            model,
            peers_in(cohorts, one.segment),
            one.row,
            as_of=last_complete_day(one.as_of),
            year_ago=before.get(one.account),
        )
        for one in scored
    ]


def last_complete_day(moment: datetime) -> date:
    """Day A of a score at `moment`."""
    return moment.astimezone(UTC).date() - timedelta(days=1)


def _in_force(surveys: Sequence[tuple[int, datetime]], moment: datetime) -> int:
    """The id of the survey that a score at `moment` was made with; 0: there was none."""
    return next((number for number, since in surveys if since <= moment), 0)


def _scored(one: StoredScore) -> Scored:
    seen = table.unpack(last_complete_day(one.as_of), [one.indicators])
    return Scored(account=one.account, as_of=one.as_of, segment=one.segment, row=rows(seen)[0])


def _readable(document: bytes | None) -> Model | None:
    try:
        return None if document is None else load(document)
    except ModelRejected:
        return None


def _make_room(kept: dict[K, V]) -> None:
    while len(kept) >= _KEPT:
        del kept[next(iter(kept))]


async def _a_year_before(connection: AsyncConnection, scored: Sequence[Scored]) -> dict[str, Row]:
    """The newest logged row of each account that is a year old, as far as it can be compared."""
    if not scored:
        return {}
    connected = await driver(connection)
    moments = [one.as_of for one in scored]
    logged = await connected.fetch(
        _LOGGED,
        [one.account for one in scored],
        moments,
        table.columns_hash(),
        YEAR,
        YEAR + SLACK,
        min(moments) - YEAR - SLACK,
        max(moments) - YEAR,
    )
    names = [row["account_id"] for row in logged]
    first = dict(await connected.fetch(_FIRST_ACTIVE, names, [shard_of(name) for name in names]))
    found = {}
    for row in logged:
        day = last_complete_day(row["as_of"])
        then = rows(table.unpack(day, [row["indicators"]]))[0]
        began = first.get(row["account_id"])
        since = np.nan if began is None else began.toordinal()
        found[row["account_id"]] = known_then(then, day, first_active=since)
    return found


# The bounds of the page stand beside those of the account, so that only a few partitions are read.
_LOGGED: Final = """
SELECT n.account_id, f.as_of, f.indicators
FROM unnest($1::text[], $2::timestamptz[]) AS n (account_id, as_of)
CROSS JOIN LATERAL (
    SELECT r.as_of, r.indicators FROM scoring.feature_rows AS r
    WHERE r.account_id = n.account_id AND r.columns = $3
        AND r.as_of <= n.as_of - $4::interval AND r.as_of >= n.as_of - $5::interval
        AND r.as_of BETWEEN $6 AND $7
    ORDER BY r.as_of DESC LIMIT 1
) AS f
"""
_FIRST_ACTIVE: Final = """
SELECT n.account_id, least(p.first_day, (
    SELECT min(d.day) FROM scoring.account_day AS d
    WHERE d.shard = n.shard AND d.account_id = n.account_id
))
FROM unnest($1::text[], $2::smallint[]) AS n (account_id, shard)
LEFT JOIN scoring.account_past AS p USING (shard, account_id)
"""
