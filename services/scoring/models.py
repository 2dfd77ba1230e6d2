"""What accounts are judged by: the risk model in service, and a survey of the accounts themselves.

The prior's weights are for standardised use: what is much for this vendor is known only from its
own accounts. And of any model, a person wants to know what is usual among an account's peers. So
before the first score, once a day, when a history has been loaded, and whenever a quarter more
accounts are there, the accounts are surveyed. While the prior serves, a model of its own comes of
every survey; all replicas serve what is stored.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import model_store, peer_store, surveys
from services.scoring.domain.assessment import Standard
from services.scoring.domain.indicators import usual_ratio
from services.scoring.domain.model import Model, ModelRefusal, ModelRejected, load, standardise_to
from services.scoring.domain.peers import Cohorts, cohorts_of, peers_of_training
from services.scoring.domain.rules import Rules
from services.scoring.metrics import ScoringMetrics
from services.scoring.model_store import State, StoredModel
from services.scoring.surveys import Sample
from shared import logging as logs

_EVERY: Final = timedelta(days=1)
_GROWTH: Final = 1.25

log = logs.get(__name__)


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
        rules: Rules,
        yearly_churn: float,
        progressed: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._rules = rules
        self._yearly_churn = yearly_churn
        self._progressed = progressed
        self._prior = read_prior()
        self.is_loaded = False
        self._serving: Model | None = None
        self._refused: str | None = None
        self._standard: tuple[int, Standard] | None = None

    def why_not_loaded(self) -> str | None:
        return None if self.is_loaded else "the model is not loaded yet"

    async def load_active(self) -> None:
        """The model in service, before there is anything to judge; without one, the prior is."""
        async with self._engine.connect() as connection:
            stored = await model_store.read_active(connection)
        if stored is not None:
            await self._load(stored)
        self.is_loaded = True

    async def current(
        self, now: datetime, *, accounts: int, history_loaded: bool, settle: timedelta
    ) -> Standard:
        """What to judge by at `now`, when there are `accounts`."""
        async with self._engine.connect() as connection:
            stored = await model_store.read_active(connection)
        serving = None if stored is None else await self._load(stored)
        async with self._engine.connect() as connection:
            # Of what serves: a model that was refused has no survey, and needs none each round.
            survey = (
                None
                if serving is None
                else await peer_store.read_newest(connection, serving.version)
            )
        is_due = (
            survey is None
            or history_loaded
            or now - survey.created_at >= _EVERY
            or accounts > survey.accounts * _GROWTH
        )
        if not is_due and serving is not None:
            return await self._in_force(serving)
        sample = await surveys.take(
            self._engine, now, accounts=accounts, settle=settle, progressed=self._progressed
        )
        model = await self._surveyed(stored, sample, accounts, now)
        return await self._in_force(model)

    async def _in_force(self, model: Model) -> Standard:
        """The model with the newest survey under it; without one, with what it was fitted on."""
        async with self._engine.connect() as connection:
            survey = await peer_store.read_newest(connection, model.version)
            if survey is not None and self._standard is not None:
                number, standard = self._standard
                if number == survey.id:
                    return standard
            milestones_used = await surveys.has_milestones(connection)
        if survey is None:
            return Standard(
                model=model,
                cohorts={None: peers_of_training(model)},
                rules=self._rules,
                milestones_used=milestones_used,
            )
        standard = Standard(
            model=model,
            cohorts=survey.cohorts,
            cohort_ratio=survey.cohort_ratio,
            rules=self._rules,
            milestones_used=milestones_used,
        )
        self._standard = (survey.id, standard)
        return standard

    async def _load(self, stored: StoredModel) -> Model:
        """The stored model; where it is refused, the one that was served before goes on."""
        if self._serving is not None and stored.version in (self._serving.version, self._refused):
            return self._serving
        if (model := self._accepted(stored)) is not None:
            return self._serve(model)
        self._refused = stored.version
        if self._serving is not None:
            return self._serve(self._serving)
        # This process has served none yet: what served before it stands in the table.
        async with self._engine.connect() as connection:
            retired = await model_store.read_retired(connection)
        for one in retired:
            if (model := self._accepted(one)) is not None:
                return self._serve(model)
        return self._serve(self._prior)

    def _accepted(self, stored: StoredModel) -> Model | None:
        try:
            model = load(stored.document)
        except ModelRejected as error:
            reason, detail = error.reason, str(error)
        else:
            if model.version == stored.version:
                return model
            reason = ModelRefusal.OTHER_VERSION
            detail = f"the document is that of {model.version}"
        self._metrics.model_refusals.labels(reason).inc()
        log.error("model.refused", version=stored.version, detail=detail)
        return None

    async def _surveyed(
        self, stored: StoredModel | None, sample: Sample, accounts: int, now: datetime
    ) -> Model:
        """The model to serve after a survey, which is stored under it."""
        own = None if stored is None or stored.kind == "prior" else await self._load(stored)
        if own is not None and own.version != self._prior.version:
            cohorts = await self._cohorts(own, sample)
            async with self._engine.begin() as connection:
                await self._save_survey(connection, own, cohorts, sample, accounts, now)
            return own
        # Two replicas that survey at once make two versions, and the last one serves.
        version = f"prior-{now.astimezone(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        fitted = await asyncio.to_thread(
            standardise_to, self._prior, sample.rows, self._yearly_churn
        )
        model = replace(fitted, version=version, created_at=now)
        # Before the transaction: a server ends those that are idle while we compute.
        cohorts = await self._cohorts(model, sample)
        async with self._engine.begin() as connection:
            await model_store.hold(connection)
            active = await model_store.read_active(connection)
            state, reason = State.CANDIDATE, ""
            if active is not None and active.kind == "own":
                if active.version != self._refused:
                    # Put in service while this survey ran.
                    return await self._load(active)
                # Not in its place: it stands in for it, and another replica's stand-in is as good.
                for one in await model_store.read_retired(connection):
                    if (other := self._accepted(one)) is not None:
                        return self._serve(other)
                state, reason = State.RETIRED, f"stands in for {active.version}, which was refused"
            await model_store.add(
                connection, model, state=state, reason=reason, accounts=accounts, now=now
            )
            if state is State.CANDIDATE:
                await model_store.activate(
                    connection, version, reason=f"a survey of {len(sample.rows)} accounts", now=now
                )
            await self._save_survey(connection, model, cohorts, sample, accounts, now)
        log.info("model.surveyed", accounts=accounts, scored=len(sample.rows), version=version)
        return self._serve(model)

    async def _cohorts(self, model: Model, sample: Sample) -> Cohorts:
        return await asyncio.to_thread(cohorts_of, model, sample.rows, sample.segments)

    async def _save_survey(
        self,
        connection: AsyncConnection,
        model: Model,
        cohorts: Cohorts,
        sample: Sample,
        accounts: int,
        now: datetime,
    ) -> None:
        await peer_store.save(
            connection,
            model.version,
            cohorts,
            accounts=accounts,
            cohort_ratio=usual_ratio(sample.trends),
            now=now,
        )

    def _serve(self, model: Model) -> Model:
        self._serving = model
        self._metrics.model_info.clear()
        self._metrics.model_info.labels(model.version).set(1)
        return model
