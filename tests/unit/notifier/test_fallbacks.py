"""Who is told instead, and who hears that something is broken."""

from datetime import timedelta
from uuid import UUID

import pytest

from services.notifier.composing import Claimed, DeliveryKind
from services.notifier.domain.people import Person, Roster
from services.notifier.domain.policy import NotifyReason
from services.notifier.fallbacks import Chain
from services.notifier.routes import Ways

ANNA = "anna@vendor.example"
ROSTER = Roster(
    fallback_owner="Team@vendor.example",
    fallback_lead="lead@vendor.example",
    people=(Person(address=ANNA, slack="U1"), Person(address="lead@vendor.example", slack="U9")),
)
ALL = Ways(slack_bot=True, email=True)
SLACK_ONLY = Ways(slack_bot=True)
MAIL_AND_WEBHOOK = Ways(slack_webhook=True, email=True)


def held(destination: str, *tried: str, recipient: str = ANNA) -> Claimed:
    return Claimed(
        id=UUID(int=1),
        claim=UUID(int=2),
        kind=DeliveryKind.NOTICE,
        group_key="g",
        channel=destination.partition(":")[0],
        destination=destination,
        recipient=recipient,
        reason=NotifyReason.FIRST,
        urgent=False,
        priority=0.0,
        account_id="acme",
        intervention_id=None,
        subject={},
        tried=tried,
        attempt=1,
        plain=False,
        threadless=False,
        failures=0,
        is_broken=False,
        channel_failures=0,
        lease_lost=False,
        may_be_known=False,
        waited=timedelta(0),
    )


@pytest.mark.parametrize(
    ("ways", "delivery", "instead"),
    [
        pytest.param(ALL, held("slack:U1"), f"email:{ANNA}", id="the owner's other channel"),
        pytest.param(ALL, held(f"email:{ANNA}"), "slack:U1", id="the other way round"),
        pytest.param(
            ALL,
            held(f"email:{ANNA}", "slack:U1"),
            "email:team@vendor.example",
            id="then the fallback owner's e-mail",
        ),
        pytest.param(
            ALL,
            held("email:team@vendor.example", "slack:U1", f"email:{ANNA}"),
            None,
            id="then nobody",
        ),
        pytest.param(
            ALL,
            held("slack:C1", recipient=""),
            "email:team@vendor.example",
            id="a shared channel is nobody's",
        ),
        pytest.param(SLACK_ONLY, held("slack:U1"), None, id="there is no e-mail"),
        pytest.param(
            MAIL_AND_WEBHOOK, held(f"email:{ANNA}"), "email:team@vendor.example", id="no bot"
        ),
        pytest.param(
            ALL, held("webhook:crm", recipient=""), "email:team@vendor.example", id="a webhook"
        ),
    ],
)
def test_who_is_told_instead(ways: Ways, delivery: Claimed, instead: str | None) -> None:
    found = Chain(roster=lambda: ROSTER, ways=ways).after(delivery)
    assert (found.destination if found else None) == instead


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        pytest.param("slack:C1", "slack:U9", id="the lead"),
        pytest.param("slack", "email:lead@vendor.example", id="not by what is broken itself"),
        pytest.param("slack:U9", "email:lead@vendor.example", id="nor at that very place"),
        pytest.param("email", "slack:U9", id="no e-mail leaves"),
    ],
)
def test_who_hears_that_something_is_broken(broken: str, told: str) -> None:
    found = Chain(roster=lambda: ROSTER, ways=ALL).admin(broken)
    assert found is not None
    assert found.destination == told


def test_where_all_is_broken_nobody_hears_of_it() -> None:
    assert Chain(roster=lambda: ROSTER, ways=SLACK_ONLY).admin("slack") is None
