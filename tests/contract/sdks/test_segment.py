"""The libraries of Segment and RudderStack."""

from decimal import Decimal

import pytest

from services.ingest.replies import RefusalCode
from shared.log.postgres import PostgresLog
from shared.messages import Source
from tests.contract.sdks.checks import (
    check_exports,
    check_patience,
    check_quarantine,
    check_refused,
    only,
    others,
)
from tests.contract.sdks.relay import relaying
from tests.contract.sdks.sdks import Sdk, run
from tests.contract.sdks.service import serving, user_of

SOURCE = Source(name="app")
PYTHON = Sdk(name="segment python")
NODE = Sdk(name="segment node")
RUDDER_PYTHON = Sdk(name="rudderstack python", gzip=True)
RUDDER_NODE = Sdk(name="rudderstack node", gzip=True)
EACH = [PYTHON, NODE, RUDDER_PYTHON, RUDDER_NODE]
PLAIN_AND_GZIP = [
    *EACH,
    Sdk(name="segment python", gzip=True),
    Sdk(name="rudderstack python"),
    Sdk(name="rudderstack node"),
]


def _id(sdk: Sdk) -> str:
    return f"{sdk.name}{' gzip' * sdk.gzip}"


@pytest.mark.parametrize("sdk", PLAIN_AND_GZIP, ids=_id)
async def test_every_call_of_the_script_lands(sdk: Sdk, log: PostgresLog) -> None:
    async with serving(log, SOURCE) as service, relaying(service.url) as relay:
        ran = await run(sdk, url=relay.url, key=service.key)
        events, changes = await service.events(), await service.changes()

    assert (ran.sent, ran.errors, ran.noise) == (505, [], "")
    assert {passed.path for passed in relay.passed} == {"/v1/batch"}
    assert {passed.encoding for passed in relay.passed} == {"gzip" if sdk.gzip else "none"}
    check_exports(events, ran, exports=500)
    found = others(events)
    assert [event.type for event in found] == [
        "alias",
        "group",
        "identify",
        "page_view",
        "screen_view",
    ]
    assert {event.account for event in found} == {"acct-0"}
    assert {event.user for event in found} == {user_of("user-0")}
    alias, group, identify, page, screen = (event.properties for event in found)
    assert (alias, group, identify) == ({}, {}, {})
    assert page["url"] == "/start"
    assert screen["tab"] == 2
    change = only(changes)
    assert (change.account, change.op) == ("acct-0", "patch")
    assert (change.fields.name, change.fields.plan) == ("Acme", "pro")
    assert change.fields.mrr == Decimal("120.5")


@pytest.mark.parametrize("sdk", EACH, ids=lambda sdk: sdk.name)
async def test_what_is_turned_away_comes_again_and_lands_once(sdk: Sdk, log: PostgresLog) -> None:
    refusals = [RefusalCode.OVERLOADED, RefusalCode.RATE_LIMITED]
    async with serving(log, SOURCE) as service, relaying(service.url, refusals) as relay:
        ran = await run(sdk, url=relay.url, key=service.key)
        events = await service.events()

    assert (ran.sent, ran.errors) == (505, [])
    check_exports(events, ran, exports=500)
    assert len(others(events)) == 5
    check_patience(relay)


@pytest.mark.parametrize("sdk", EACH, ids=lambda sdk: sdk.name)
async def test_one_bad_event_costs_no_other(sdk: Sdk, log: PostgresLog) -> None:
    async with serving(log, SOURCE) as service:
        ran = await run(sdk, url=service.url, key=service.key, exports=100, bad=37)
        events, kept = await service.events(), await service.rejected()

    # The answer is a success, or these libraries would throw the whole batch away.
    assert (ran.sent, ran.errors, ran.noise) == (105, [], "")
    check_exports(events, ran, exports=100, without=37)
    check_quarantine(kept)


@pytest.mark.parametrize("sdk", EACH, ids=lambda sdk: sdk.name)
async def test_a_wrong_key_is_told_and_not_tried_again(sdk: Sdk, log: PostgresLog) -> None:
    async with serving(log, SOURCE) as service, relaying(service.url) as relay:
        ran = await run(sdk, url=relay.url, key="pk_unknown", exports=20)

    check_refused(ran, relay)
