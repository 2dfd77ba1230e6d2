"""What came of interventions, as JSON."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Response

from services.notifier.api.desk import ApiDesk
from services.notifier.api.fields import Wanted
from services.notifier.api.openapi import answers
from services.notifier.api.refusals import answer
from services.notifier.console import work
from services.notifier.console.feedback import LONGEST, Found, read
from services.notifier.console.today import day_of
from services.notifier.domain.feedback import Feedback, Share
from services.notifier.domain.holdout import FEWEST, MEASURED_DAYS
from shared.credentials import Scope


def add_feedback(app: FastAPI, desk: ApiDesk) -> None:
    reads = [Depends(desk.callers.needs(Scope.INTERVENTIONS_READ))]

    @app.get(
        "/api/v1/feedback", responses=answers("feedback"), tags=["figures"], dependencies=reads
    )
    async def read_feedback(days: Annotated[int, Query(ge=1, le=LONGEST)] = 90) -> Response:
        """Which reasons and playbooks are worth having: precision, save rate, time to act."""
        return answer(_json(await read(desk.engine, desk.clock(), days)))

    @app.get("/api/v1/today", responses=answers("today"), tags=["figures"], dependencies=reads)
    async def read_today(owner: Wanted = None) -> Response:
        """What of everybody's work, or of one owner's, is for today, by that owner's clock."""
        roster = desk.roster()
        day = day_of(owner or roster.fallback_owner, roster, desk.clock())
        by = work.pile_of(now=day.now, today_ends=day.ends, new_since=day.new_since)
        wanted = work.Wanted(owner=owner)
        async with desk.engine.connect() as connection:
            piles = await work.counted(connection, wanted, by)
            found = await work.totals(connection, wanted)
        return answer(
            {
                "open": found.open,
                "held_out": found.held_out,
                "piles": {pile.value: piles.get(pile, 0) for pile in work.Pile},
                "value_at_risk": [
                    {"currency": currency, "amount": amount} for currency, amount in found.values
                ],
            }
        )


def _json(found: Found) -> dict[str, Any]:
    held = found.held_out
    return {
        "days": found.days,
        "total": _figures(found.total),
        "reasons": {name: _figures(one) for name, one in found.reasons.items()},
        "playbooks": {name: _figures(one) for name, one in found.playbooks.items()},
        "hold_out": {
            "drawn_from": held.first.isoformat(),
            "measured_days": MEASURED_DAYS,
            "fewest_accounts": FEWEST,
            "held_out": {"accounts": held.held_out.accounts, "lost": held.held_out.lost},
            "treated": {"accounts": held.treated.accounts, "lost": held.treated.lost},
            "uplift": None
            if held.uplift is None
            else {
                "difference": held.uplift.difference,
                "low": held.uplift.low,
                "high": held.uplift.high,
            },
        },
    }


def _figures(one: Feedback) -> dict[str, Any]:
    return {
        "endings": one.endings,
        "by_system": one.by_system,
        "outcomes": {kind.value: number for kind, number in one.outcomes.items()},
        "precision": _share(one.precision),
        "save_rate": _share(one.save_rate),
        "acknowledge_seconds": _seconds(one.to_acknowledge),
        "first_action_seconds": _seconds(one.to_first_action),
        "false_alarms_per_person_week": one.false_alarms_per_week,
    }


def _share(share: Share) -> dict[str, Any]:
    return {"part": share.part, "of": share.of, "value": share.value}


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()
