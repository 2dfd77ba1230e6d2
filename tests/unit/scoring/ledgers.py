"""Ledgers made by hand: accounts in plain values, a test states what matters.

ledger_of(
    account("acme", {"2025-01-10": {"mrr": 100, "currency": "EUR", "owner": "ada"},
                     "2026-01-01": {"mrr": 120, "currency": "EUR", "owner": "bob"}},
            stages={"2025-01-10": LifeStage.LAND}, risk=0.3),
    as_of="2026-03-01",
)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from services.scoring.domain.indicators import State
from services.scoring.domain.ledger import (
    UNKNOWN,
    Dimension,
    Ledger,
    LifeStage,
    Stages,
    Today,
    Versions,
)
from services.scoring.domain.risk import BANDS
from services.scoring.domain.table import STATES
from services.scoring.domain.usage import Integers, directory_of
from shared.messages import AccountFields, Band

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATES = ("contract_start", "contract_end", "churned_at")
_AMOUNTS = ("mrr", "margin_per_month")


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerAccount:
    """One account: what the directory said and since when, its stages, how it stands now."""

    name: str
    versions: Sequence[tuple[int, AccountFields]] = ()
    stages: Sequence[tuple[int, LifeStage]] = ()
    state: State | None = State.SCORED
    risk: float | None = None
    band: Band | None = None
    value_at_risk: float | None = None
    stage: LifeStage | None = None
    stage_since: int = field(default=0)


def account(
    name: str,
    versions: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    stages: Mapping[str, LifeStage] | None = None,
    **today: Any,
) -> LedgerAccount:
    """`versions` are fields of the directory by the moment (ISO, UTC) since which they hold.

    Dates are ISO strings too. `today` is state, risk, band, value_at_risk; the stage of now is the
    last one of `stages`.
    """
    reached = sorted((micros(since), stage) for since, stage in (stages or {}).items())
    if reached and "stage" not in today:
        today |= {"stage": reached[-1][1], "stage_since": reached[-1][0]}
    return LedgerAccount(
        name=name,
        versions=sorted(
            ((micros(since), _fields(known)) for since, known in (versions or {}).items()),
            key=lambda one: one[0],
        ),
        stages=reached,
        **today,
    )


def micros(moment: str | datetime) -> int:
    """Epoch microseconds of an ISO date or moment, UTC where it names no zone."""
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    since = aware - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds


def ledger_of(*accounts: LedgerAccount, as_of: str | datetime) -> Ledger:
    ordered = sorted(accounts, key=lambda one: one.name)
    entries = [
        (number, since, known)
        for number, one in enumerate(ordered)
        for since, known in one.versions
    ]
    reached = [
        (number, since, stage) for number, one in enumerate(ordered) for since, stage in one.stages
    ]
    fields = [known for _, _, known in entries]
    names = {dimension: _names(dimension, fields) for dimension in Dimension}
    known = directory_of(fields)
    return Ledger(
        as_of=micros(as_of),
        accounts=tuple(one.name for one in ordered),
        titles=tuple((one.versions and one.versions[-1][1].name) or one.name for one in ordered),
        names=names,
        versions=Versions(
            account=_integers([number for number, _, _ in entries]),
            since=_integers([since for _, since, _ in entries]),
            mrr=known.mrr,
            margin=known.margin,
            seats=known.seats,
            status=known.status,
            contract_start=known.contract_start,
            contract_end=known.contract_end,
            churned_at=known.churned_at,
            notice_days=np.array([_number(one.notice_days) for one in fields], np.float64),
            monthly=known.monthly,
            **{
                dimension.value: _codes(dimension, fields, names[dimension])
                for dimension in Dimension
            },
        ),
        stages=Stages(
            account=_integers([number for number, _, _ in reached]),
            since=_integers([since for _, since, _ in reached]),
            stage=_integers([stage for _, _, stage in reached]),
        ),
        today=Today(
            state=_integers(
                [UNKNOWN if one.state is None else STATES.index(one.state) for one in ordered]
            ),
            risk=np.array([_number(one.risk) for one in ordered], np.float64),
            band=_integers(
                [UNKNOWN if one.band is None else BANDS.index(one.band) for one in ordered]
            ),
            value_at_risk=np.array([_number(one.value_at_risk) for one in ordered], np.float64),
            stage=_integers([one.stage or 0 for one in ordered]),
            stage_since=_integers([one.stage_since for one in ordered]),
        ),
    )


def _fields(known: Mapping[str, Any]) -> AccountFields:
    dates = {name: date.fromisoformat(known[name]) for name in _DATES if known.get(name)}
    amounts = {name: Decimal(str(known[name])) for name in _AMOUNTS if known.get(name) is not None}
    return AccountFields(**({**known} | dates | amounts))


def _names(dimension: Dimension, fields: Sequence[AccountFields]) -> tuple[str, ...]:
    known = {getattr(one, dimension) for one in fields}
    return tuple(sorted(name for name in known if name))


def _codes(dimension: Dimension, fields: Sequence[AccountFields], names: Sequence[str]) -> Integers:
    found = (getattr(one, dimension) for one in fields)
    return _integers([names.index(name) if name else UNKNOWN for name in found])


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _integers(values: Sequence[int]) -> Integers:
    return np.array(values, np.int64)
