"""What came of interventions, as a page and as JSON: which reasons are worth having."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from services.notifier import endings
from services.notifier.console.pages import Pages
from services.notifier.domain.feedback import Feedback, Share, by_playbook, by_reason, feedback
from services.notifier.domain.holdout import FEWEST, MEASURED_DAYS, Arm, Uplift, uplift
from shared.messages import OutcomeKind

PERIODS: Final = (30, 90, 180, 365)
_USUAL = 90
_LONGEST = 730
# Accounts are measured half a year after they were drawn: the page's period holds none of them.
_DRAWN_DAYS = 2 * 365
# From so many false alarms on, of so large a share, silencing the reason is offered.
_MANY = 3
_MANY_SHARE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """The two arms of the hold-out, and the period in which their accounts were drawn."""

    first: date
    held_out: Arm
    treated: Arm
    uplift: Uplift | None
    """None: an arm has fewer than `FEWEST` accounts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    days: int
    total: Feedback
    reasons: Mapping[str, Feedback]
    playbooks: Mapping[str, Feedback]
    held_out: HeldOut


def add_feedback(app: FastAPI, pages: Pages) -> None:
    @app.get("/feedback")
    async def page(days: int = _USUAL) -> Response:
        found = await read(pages, days)
        return pages.page(
            "feedback.html",
            found=found,
            tables=(("Reason", found.reasons), ("Playbook", found.playbooks)),
            periods=sorted({*PERIODS, found.days}),
            outcome_kinds=list(OutcomeKind),
            fewest=FEWEST,
            measured_days=MEASURED_DAYS,
            has_many_false_alarms=has_many_false_alarms,
            silence_url=silence_url,
        )

    @app.get("/v1/feedback")
    async def as_json(days: int = _USUAL) -> JSONResponse:
        return JSONResponse(_json(await read(pages, days)))


async def read(pages: Pages, days: int) -> Found:
    now = pages.clock()
    period = timedelta(days=min(max(days, 1), _LONGEST))
    today = now.astimezone(UTC).date()
    first = today - timedelta(days=_DRAWN_DAYS)
    async with pages.engine.connect() as connection:
        ended = await endings.between(connection, now - period, now)
        arms = await endings.arms(connection, first, today, today=today)
    return Found(
        days=period.days,
        total=feedback(ended, period=period),
        reasons=by_reason(ended, period=period),
        playbooks=by_playbook(ended, period=period),
        held_out=HeldOut(first=first, held_out=arms[0], treated=arms[1], uplift=uplift(*arms)),
    )


def has_many_false_alarms(one: Feedback) -> bool:
    false = one.outcomes[OutcomeKind.FALSE_ALARM]
    return false >= _MANY and false >= _MANY_SHARE * one.precision.of


def silence_url(reason: str, one: Feedback) -> str:
    """To the form, with all that is known."""
    comment = f"{one.outcomes[OutcomeKind.FALSE_ALARM]} of {one.precision.of} were false alarms"
    return f"/silences?{urlencode({'reason': reason, 'comment': comment})}#add"


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
