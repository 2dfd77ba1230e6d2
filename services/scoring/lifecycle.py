"""What becomes of a model: trained, judged by the gate, compared in shadow, put in service.

A model that passes the gate waits in shadow for 7 days. Then it serves, unless it would change the
bands of more than a tenth of the accounts: that is for an admin to decide.
"""

import asyncio
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Final

import numpy as np
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import model_store, training_store
from services.scoring.domain import features
from services.scoring.domain.features import FEATURES
from services.scoring.domain.labels import Definition
from services.scoring.domain.model import Model, risk
from services.scoring.domain.peers import cohorts_of
from services.scoring.domain.risk import limits
from services.scoring.domain.rules import Rules
from services.scoring.domain.table import columns_hash, unpack
from services.scoring.domain.usage import Floats, Integers
from services.scoring.model_store import State, loaded
from services.scoring.store import SHARDS
from services.scoring.tables import accounts, scores
from services.scoring.training import Report, train

DEFAULT_HORIZON: Final = 90
"""Days; that of the prior weights too."""

SHADOW_FOR: Final = timedelta(days=7)
CHANGED_AT_MOST: Final = 0.10

_OWN = re.compile(r"own(\d+)-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A training's result as it was stored."""

    model: Model
    report: Report
    state: State
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadowed:
    """How many of the scored accounts the model in shadow would put into another band."""

    version: str
    accounts: int
    changed: int
    activated: bool

    @property
    def share(self) -> float:
        return self.changed / self.accounts if self.accounts else 0.0


async def train_and_store(
    engine: AsyncEngine,
    now: datetime,
    *,
    horizon_days: int | None = None,
    definition: Definition | None = None,
    activate: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Trained:
    """Train on what is logged and store the model; raises NotEnoughToLearnFrom.

    Without `horizon_days` it looks as far ahead as the model in service. `activate` puts a model
    that passes the gate in service at once instead of into shadow.
    """
    on_progress("reading what was logged")
    async with engine.connect() as connection:
        logged = await training_store.read_logged(connection, now)
        active = loaded(await model_store.read_active(connection))
        previous = loaded(await model_store.read_last_own(connection))
    served = DEFAULT_HORIZON if active is None else active.horizon_days
    horizon = served if horizon_days is None else horizon_days
    model, report = await asyncio.to_thread(
        partial(
            train,
            logged.rows,
            logged.evidence,
            horizon_days=horizon,
            version=own_version(horizon, now),
            now=now,
            definition=definition,
            active=active if served == horizon else None,
            previous=previous if previous and previous.horizon_days == horizon else None,
            on_progress=on_progress,
        )
    )
    state, reason = _verdict(report, active, activate=activate)
    async with engine.begin() as connection:
        await _store(connection, model, report, state, reason, now)
    return Trained(model=model, report=report, state=state, reason=reason)


def own_version(horizon_days: int, now: datetime) -> str:
    return f"own{horizon_days}-{now.astimezone(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def horizon_of(version: str) -> int:
    """How many days ahead the model of this name looked, also when it is stored no more."""
    found = _OWN.match(version)
    return int(found[1]) if found else DEFAULT_HORIZON


async def read_scored(connection: AsyncConnection) -> tuple[Floats, list[str | None]]:
    """Features `(accounts, features)` of all scored accounts as last seen, and their segments."""
    rows, segments = [np.empty((0, len(FEATURES)))], []
    for shard in range(SHARDS):
        found = await connection.execute(
            select(scores.c.indicators, accounts.c.fields["segment"].astext)
            .join(accounts, accounts.c.account_id == scores.c.account_id, isouter=True)
            .where(
                scores.c.shard == shard,
                scores.c.state == "scored",
                scores.c.columns == columns_hash(),
            )
        )
        stored = found.all()
        rows.append(features.rows(unpack(date.min, [row[0] for row in stored])))
        segments += [row[1] for row in stored]
    return np.concatenate(rows), segments


async def look_at_shadow(engine: AsyncEngine, now: datetime, rules: Rules) -> Shadowed | None:
    """Compare the model in shadow with the one in service, and put it in service in its time."""
    async with engine.connect() as connection:
        stored = await model_store.read_shadow(connection)
        active = loaded(await model_store.read_active(connection))
        shadow = loaded(stored)
        if stored is None or shadow is None or active is None:
            return None
        rows, segments = await read_scored(connection)
    ours, theirs = (_bands(model, rows, segments, rules) for model in (shadow, active))
    count, changed = len(rows), int((ours != theirs).sum())
    share = changed / count if count else 0.0
    is_due = now - stored.state_since >= SHADOW_FOR
    agrees = share <= CHANGED_AT_MOST
    said = f"{changed:,} of {count:,} accounts would change their band"
    reason = f"{said}: an admin decides" if is_due and not agrees else said
    async with engine.begin() as connection:
        await model_store.hold(connection)
        still = await model_store.read_one(connection, stored.version)
        if still.state is not State.SHADOW:
            return None
        if is_due and agrees:
            await model_store.activate(connection, stored.version, reason=said, now=now)
        else:
            await model_store.set_state(
                connection, stored.version, State.SHADOW, reason=reason, now=now
            )
    return Shadowed(
        version=stored.version, accounts=count, changed=changed, activated=is_due and agrees
    )


def _verdict(report: Report, active: Model | None, *, activate: bool) -> tuple[State, str]:
    failed = [line.name for line in report.gate if not line.passed]
    if failed:
        return State.REFUSED, f"the gate: {', '.join(failed)}"
    if activate:
        return State.ACTIVE, "passed the gate; put in service at once"
    if active is not None and active.horizon_days != report.horizon_days:
        return State.CANDIDATE, f"the model in service looks {active.horizon_days} days ahead"
    return State.SHADOW, f"passed the gate; compared for {SHADOW_FOR.days} days"


async def _store(
    connection: AsyncConnection,
    model: Model,
    report: Report,
    state: State,
    reason: str,
    now: datetime,
) -> None:
    at_first = State.CANDIDATE if state is State.ACTIVE else state
    if state is State.SHADOW and (before := await model_store.read_shadow(connection)) is not None:
        await model_store.set_state(
            connection,
            before.version,
            State.REFUSED,
            reason=f"{model.version} followed before it was put in service",
            now=now,
        )
    await model_store.add(
        connection,
        model,
        state=at_first,
        reason=reason,
        accounts=model.training.accounts,
        now=now,
        metrics=without_nan(report.as_json()),
    )
    if state is State.ACTIVE:
        await model_store.activate(connection, model.version, reason=reason, now=now)


def _bands(model: Model, rows: Floats, segments: Sequence[str | None], rules: Rules) -> Integers:
    """0 healthy to 3 critical, of each account `(accounts,)`, as if nobody had had a band before.

    What holds an account in its band is left out: it would hide for two weeks what changes.
    """
    cohorts = cohorts_of(model, rows, segments)
    rates = [
        cohorts[segment].base_rate if segment and segment in cohorts else model.base_rate
        for segment in segments
    ]
    begin = limits(rules, segments, np.array(rates, np.float64)).begin
    severity: Integers = (risk(model, rows)[:, None] >= begin).sum(axis=1)
    return severity


def without_nan(content: Mapping[str, object]) -> dict[str, object]:
    """As JSON holds it: what is not a number is null."""
    plain = json.dumps(content, default=str)
    found: dict[str, object] = json.loads(plain, parse_constant=lambda _: None)
    return found
