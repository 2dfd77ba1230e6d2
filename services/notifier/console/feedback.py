"""What came of interventions, as a page: which reasons are worth having."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from fastapi import FastAPI
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import endings
from services.notifier.console.pages import Pages
from services.notifier.domain.feedback import Feedback, by_playbook, by_reason, feedback
from services.notifier.domain.holdout import FEWEST, MEASURED_DAYS, Arm, Uplift, uplift
from shared.messages import OutcomeKind

PERIODS: Final = (30, 90, 180, 365)
_USUAL = 90
LONGEST: Final = 730
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
        found = await read(pages.engine, pages.clock(), days)
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


async def read(engine: AsyncEngine, now: datetime, days: int) -> Found:
    period = timedelta(days=min(max(days, 1), LONGEST))
    today = now.astimezone(UTC).date()
    first = today - timedelta(days=_DRAWN_DAYS)
    async with engine.connect() as connection:
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
