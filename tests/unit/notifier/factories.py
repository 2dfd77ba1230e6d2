"""Interventions and messages that are valid by default; a test states what matters."""

from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from services.notifier.channels import Item, Message
from services.notifier.domain.flags import Kind
from services.notifier.domain.interventions import (
    Assignment,
    Intervention,
    Status,
    Taken,
    take,
)
from services.notifier.domain.policy import NotifyReason
from services.notifier.domain.signals import of_flag
from shared.messages import Band, Flag, FlagReason, Reason, Stage, ValueAtRisk

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ID = UUID("00000000-0000-4000-8000-000000000001")
OTHER_ID = UUID("00000000-0000-4000-8000-000000000002")
ASSIGNMENT = Assignment(owner="anna@vendor.example", due_at=NOW + 3 * DAY)


def flag(**changes: Any) -> Flag:
    values: dict[str, Any] = {
        "flag_id": "acme/churn_risk/1",
        "account": "acme",
        "reason": FlagReason.CHURN_RISK,
        "stage": Stage.RENEW,
        "change": "raised",
        "episode": 1,
        "as_of": NOW,
        "raised_at": NOW,
        "band": Band.AT_RISK,
        "risk": 0.31,
        "value_at_risk": ValueAtRisk(amount=Decimal(12340), currency="EUR", basis="margin"),
        "renewal_date": date(2026, 9, 1),
        "summary": "Churn risk 31 % (at risk).",
        "reasons": (reason(),),
    }
    return Flag(**(values | changes))


def next_episode(**changes: Any) -> Flag:
    later = {"flag_id": "acme/churn_risk/2", "episode": 2, "as_of": NOW + DAY}
    return flag(**(later | {"raised_at": NOW + DAY} | changes))


def reason(text: str = "Active on 9 of 90 days; others 41: +0.8.", **changes: Any) -> Reason:
    values: dict[str, Any] = {
        "family": "regularity",
        "indicator": "active_days_90",
        "text": text,
        "value": 9,
        "unit": "days",
        "baseline": 41,
        "baseline_of": "segment",
        "change": -0.78,
        "window_days": 90,
        "weight": 0.8,
        "as_of": date(2026, 5, 31),
    }
    return Reason(**(values | changes))


def intervention(**changes: Any) -> Intervention:
    taken, opened = take(
        None, of_flag(flag()), new_id=ID, assignment=ASSIGNMENT, account_lost=False, now=NOW
    )
    assert taken is Taken.OPENED
    assert opened is not None
    return replace(opened, **changes)


def item(**changes: Any) -> Item:
    usual = Item(
        intervention_id=OTHER_ID,
        version=1,
        account_id="acme",
        account_name="Acme Ltd",
        type=Kind.RENEW,
        reason=FlagReason.CHURN_RISK,
        severity=Band.AT_RISK,
        status=Status.OPEN,
        summary="Churn risk 31 % (at risk).",
        owner="anna@vendor.example",
        due_at=datetime(2026, 6, 4, 16, tzinfo=UTC),
        zone=UTC,
        url="http://localhost:8082/interventions/1",
        risk=0.31,
        value_at_risk=ValueAtRisk(amount=Decimal("12340.50"), currency="EUR", basis="margin"),
        renewal_date=date(2026, 9, 1),
        reasons=(reason(),),
    )
    return replace(usual, **changes)


def message(**changes: Any) -> Message:
    """A message about one item; changes of the item's own fields go to it."""
    of_item = {name: changes.pop(name) for name in _ITEM_FIELDS & changes.keys()}
    usual = Message(
        delivery_id=ID,
        created_at=NOW,
        to="anna@vendor.example",
        why=NotifyReason.FIRST,
        items=(item(**of_item),),
        url="http://localhost:8082/interventions/1",
        root=OTHER_ID,
    )
    return replace(usual, **changes)


_ITEM_FIELDS = {one.name for one in fields(Item)} - {one.name for one in fields(Message)}
