"""Which risk model is in service: the prior, made to fit the vendor's own accounts by a survey.

The prior's weights are for standardised use: what is much for this vendor is known only from its
own accounts. So before the first score, once a day, when a history has been loaded, and whenever a
quarter more accounts are there, all accounts are surveyed, and the model that comes of it is stored
and served by all.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Final

from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import sweep_store
from services.scoring.domain.features import Rows, rows
from services.scoring.domain.indicators import Indicators, State, extract
from services.scoring.domain.model import Model, ModelRejected, dump, load, standardise_to
from services.scoring.metrics import ScoringMetrics
from services.scoring.store import fields_from
from services.scoring.tables import models, scores
from shared import logging as logs
from shared.database import driver
from shared.messages import AccountFields

_EVERY: Final = timedelta(days=1)
_GROWTH: Final = 1.25
_CHUNK: Final = 2_000
_KEPT: Final = 5

log = logs.get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    version: str
    document: bytes
    accounts: int
    created_at: datetime


def read_prior() -> Model:
    """The prior that comes with the program; made by `perennial train prior`."""
    return load(resources.files("services.scoring").joinpath("prior.json").read_bytes())


class Models:
    """The model in service, kept in memory and checked against the database every round."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        metrics: ScoringMetrics,
        yearly_churn: float,
        progressed: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._yearly_churn = yearly_churn
        self._progressed = progressed
        self._prior = read_prior()
        self._serving: Model | None = None
        self._refused: str | None = None

    async def current(self, now: datetime, *, history_loaded: bool, settle: timedelta) -> Model:
        """The model to score with at `now`; a history that was just loaded is surveyed first."""
        async with self._engine.connect() as connection:
            stored = await _read_active(connection)
            accounts = await _count_accounts(connection)
        if (
            stored is None
            or history_loaded
            or now - stored.created_at >= _EVERY
            or accounts > stored.accounts * _GROWTH
        ):
            return await self._survey(accounts, now, settle)
        return self._load(stored)

    def _load(self, stored: _Stored) -> Model:
        """The stored model; where it is refused, the one that was served before goes on."""
        if self._serving is not None and stored.version in (self._serving.version, self._refused):
            return self._serving
        try:
            model = load(stored.document)
        except ModelRejected as error:
            self._refused = stored.version
            self._metrics.model_refusals.inc()
            log.exception("model.refused", version=stored.version, detail=str(error))
            return self._serve(self._serving or self._prior)
        return self._serve(model)

    async def _survey(self, accounts: int, now: datetime, settle: timedelta) -> Model:
        features = await self._features(now, settle)
        # Two replicas that survey at once make two versions, and the last one serves.
        version = f"prior-{now.astimezone(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        model = replace(standardise_to(self._prior, features, self._yearly_churn), version=version)
        async with self._engine.begin() as connection:
            await _activate(connection, model, accounts=accounts, now=now)
        log.info("model.surveyed", accounts=accounts, scored=len(features), version=version)
        return self._serve(model)

    async def _features(self, now: datetime, settle: timedelta) -> Rows:
        """The features of all scored accounts, `(accounts, features)`."""
        seen: list[Indicators] = []
        async with self._engine.connect() as connection:
            names = await sweep_store.read_active_accounts(connection, settle=settle)
            for start in range(0, len(names), _CHUNK):
                part = names[start : start + _CHUNK]
                histories = await sweep_store.read_histories(
                    connection, part, now.astimezone(UTC).date()
                )
                fields = await _read_fields(connection, part)
                found = extract([histories[name] for name in part], fields, now)
                seen.extend(one for one in found if one.state is State.SCORED)
                self._progressed()
        return rows(seen)

    def _serve(self, model: Model) -> Model:
        self._serving = model
        self._metrics.model_info.clear()
        self._metrics.model_info.labels(model.version).set(1)
        return model


async def _read_active(connection: AsyncConnection) -> _Stored | None:
    row = (
        await connection.execute(
            select(
                models.c.version, models.c.document, models.c.accounts, models.c.created_at
            ).where(models.c.active)
        )
    ).one_or_none()
    if row is None:
        return None
    return _Stored(
        version=row.version,
        document=row.document,
        accounts=row.accounts,
        created_at=row.created_at,
    )


async def _activate(
    connection: AsyncConnection, model: Model, *, accounts: int, now: datetime
) -> None:
    """Put the model in service, keep the last few, and let every account be scored by it."""
    await connection.execute(text("LOCK TABLE scoring.models IN SHARE ROW EXCLUSIVE MODE"))
    await connection.execute(update(models).where(models.c.active).values(active=False))
    await connection.execute(
        models.insert().values(
            version=model.version,
            document=dump(model),
            accounts=accounts,
            created_at=now,
            active=True,
        )
    )
    kept = select(models.c.version).order_by(models.c.created_at.desc()).limit(_KEPT)
    await connection.execute(models.delete().where(models.c.version.not_in(kept)))
    await connection.execute(update(scores).values(next_due_at=now))


async def _count_accounts(connection: AsyncConnection) -> int:
    """Accounts with a score, and those that wait for their first one."""
    scored = await connection.scalar(select(func.count()).select_from(scores))
    waiting = await connection.scalar(
        text(
            "SELECT count(DISTINCT account_id) FROM scoring.dirty AS d WHERE NOT EXISTS"
            " (SELECT FROM scoring.scores AS s WHERE s.account_id = d.account_id)"
        )
    )
    return int(scored or 0) + int(waiting or 0)


async def _read_fields(connection: AsyncConnection, names: Sequence[str]) -> list[AccountFields]:
    rows_ = await (await driver(connection)).fetch(
        "SELECT a.account_id, d.fields::text FROM unnest($1::text[]) AS a (account_id)"
        " LEFT JOIN scoring.accounts AS d USING (account_id)",
        names,
    )
    known = {row[0]: fields_from(row[1]) for row in rows_}
    return [known[name] for name in names]
