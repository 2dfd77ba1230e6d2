"""How the system stands: scoring's state and its model, the notifier's queue and channels."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote

import msgspec
from fastapi import FastAPI
from fastapi.responses import Response
from sqlalchemy import func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.console import charts, queries
from services.notifier.console.charts import Calibration, Seen, Series, Sized
from services.notifier.console.pages import Pages
from services.notifier.console.portfolio import is_missing
from services.notifier.console.scoring import Missing
from services.notifier.intervention_rows import AnyRow
from services.notifier.tables import deliveries

ACTIVE: Final = "active"
_WEIGHTS: Final = 12
_DAY: Final = timedelta(days=1)


class Stale(msgspec.Struct, frozen=True, kw_only=True):
    """A source that sends too little."""

    source: str
    began_at: datetime
    why: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    accounts: int
    dirty: int
    outbox: int
    flags_open: int
    events_taken_in: int | None = None
    backfill_settling: int | bool = 0
    staleness: tuple[Stale, ...] = ()
    mass_flags: dict[str, int] = {}


class Model(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    kind: str
    horizon_days: int
    state: str
    state_since: datetime
    why: str | None = None
    created_at: datetime | None = None
    activated_at: datetime | None = None
    accounts: int | None = None


class Models(msgspec.Struct, frozen=True):
    models: tuple[Model, ...]


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    rows: int
    predicted: float
    observed: float


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    rows: int
    base: float | None = None
    auc: float | None = None
    average_precision: float | None = None
    lift_at_10_percent: float | None = None
    brier: float | None = None
    ece: float | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How good it was on what it had not seen; empty for weights that came with the product."""

    served: Quality | None = None
    reliability: tuple[Bin, ...] = ()
    periods: tuple[str, ...] = ()


class Weight(msgspec.Struct, frozen=True, kw_only=True):
    feature: str
    means: str
    weight: float
    effect: str


class MonthSeen(msgspec.Struct, frozen=True, kw_only=True):
    month: str
    rows: int
    expected: float
    observed: int


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """One weekly look at the model in service."""

    psi_max: float | None = None
    calibration_ratio: float | None = None
    quarter_auc: float | None = None
    months: tuple[MonthSeen, ...] = ()
    alarms: tuple[str, ...] = ()


class Look(msgspec.Struct, frozen=True, kw_only=True):
    looked_at: datetime
    findings: Findings


class Card(Model, frozen=True, kw_only=True):
    """A model and all that it says of itself."""

    label: str | None = None
    base_rate: float | None = None
    report: Report | None = None
    weights: tuple[Weight, ...] = ()
    health: tuple[Look, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The notifier's own: messages by state, and how long the oldest that is due waits."""

    states: Mapping[str, int]
    oldest: datetime | None
    given_up: int
    channels: Sequence[AnyRow]
    destinations: Sequence[AnyRow]


def add_system(app: FastAPI, pages: Pages) -> None:
    @app.get("/system")
    async def page() -> Response:
        now = pages.clock()
        status, models, queue = await asyncio.gather(
            pages.scoring.ask(Status, "/v1/status"),
            pages.scoring.ask(Models, "/v1/models"),
            _queue(pages, now),
        )
        card: Card | Missing | None = None
        if not isinstance(models, Missing):
            active = next((one for one in models.models if one.state == ACTIVE), None)
            if active is not None:
                card = await pages.scoring.ask(Card, f"/v1/models/{quote(active.version, safe='')}")
        known = card if isinstance(card, Card) else None
        return pages.page(
            "system.html",
            scored=status,
            models=models,
            card=card,
            queue=queue,
            calibration=calibration(known),
            health=health(known),
            weights=known.weights[:_WEIGHTS] if known else (),
            is_missing=is_missing,
            now=now,
        )


def calibration(card: Card | None) -> Calibration | None:
    """What the model predicted of accounts that it had not seen, in tenths, and what happened."""
    if card is None or card.report is None or not card.report.reliability:
        return None
    return charts.calibration(
        [
            Seen(predicted=one.predicted, observed=one.observed, rows=one.rows)
            for one in card.report.reliability
        ]
    )


def health(card: Card | None) -> Sized | None:
    """Expected against lost, month by month, as the last look found them."""
    months = card.health[-1].findings.months if card is not None and card.health else ()
    shown = [one for one in months if one.rows][-12:]
    if len(shown) < 2:
        return None
    return charts.sized(
        "Share of risks that came true, by month",
        [
            Series(name="Predicted", kind="two", values=[one.expected / one.rows for one in shown]),
            Series(name="Lost", kind="one", values=[one.observed / one.rows for one in shown]),
        ],
        [one.month for one in shown],
        least=0.0,
    )


async def _queue(pages: Pages, now: datetime) -> Queue:
    async with pages.engine.connect() as connection:
        return Queue(
            states=await _states(connection),
            oldest=await connection.scalar(
                select(func.min(deliveries.c.due_at)).where(
                    deliveries.c.state.in_(("pending", "sending")), deliveries.c.due_at <= now
                )
            ),
            given_up=await queries.count_given_up(connection, since=now - _DAY),
            channels=await queries.troubled_channels(connection),
            destinations=await queries.troubled_destinations(connection),
        )


async def _states(connection: AsyncConnection) -> Mapping[str, int]:
    """Of what still waits; what is over is counted on the page of deliveries."""
    # Two, so that each is counted in an index of its own: what is over are ever more.
    counts = [
        select(deliveries.c.state, func.count()).where(which).group_by(deliveries.c.state)
        for which in (deliveries.c.state.in_(("pending", "sending")), deliveries.c.state == "held")
    ]
    rows = await connection.execute(union_all(*counts))
    return {str(row[0]): int(row[1]) for row in rows}
