"""PostHog's libraries, with both of their protocols."""

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

SOURCE = Source(name="app", default_account="everybody")
"""What the libraries say of a person (`$set`, `$identify`, `$create_alias`) names no account."""
STRICT = Source(name="app")

V1 = {"POSTHOG_CAPTURE_MODE": "v1"}
PYTHON_V0 = Sdk(name="posthog python", mode="v0", gzip=True)
PYTHON_V1 = Sdk(name="posthog python", mode="v1 gzip")
NODE_V0 = Sdk(name="posthog node", mode="v0", gzip=True)
NODE_V1 = Sdk(name="posthog node", mode="v1", gzip=True, environment=V1)
EACH = [PYTHON_V0, PYTHON_V1, NODE_V0, NODE_V1]
EACH_ENCODING = [
    *EACH,
    Sdk(name="posthog python", mode="v0"),
    Sdk(name="posthog python", mode="v1 none"),
    Sdk(name="posthog python", mode="v1 deflate"),
    Sdk(name="posthog python", mode="v1 zstd"),
    Sdk(name="posthog node", mode="v0"),
]
PATHS = {"v0": "/batch/", "v1": "/i/v1/analytics/events"}


def _id(sdk: Sdk) -> str:
    return f"{sdk.name} {sdk.mode}{' gzip' * sdk.gzip}"


@pytest.mark.parametrize("sdk", EACH_ENCODING, ids=_id)
async def test_every_call_of_the_script_lands(sdk: Sdk, log: PostgresLog) -> None:
    async with serving(log, SOURCE) as service, relaying(service.url) as relay:
        ran = await run(sdk, url=relay.url, key=service.key)
        events, changes = await service.events(), await service.changes()

    assert (ran.sent, ran.errors, ran.noise) == (505, [], "")
    protocol, _, encoding = sdk.mode.partition(" ")
    assert {passed.path for passed in relay.passed} == {PATHS[protocol]}
    encoding = encoding or ("gzip" if sdk.gzip else "none")
    assert {passed.encoding for passed in relay.passed} == {encoding}
    check_exports(events, ran, exports=500)
    is_python = not sdk.is_node
    person = user_of("user-0")
    assert [(each.type, each.account, each.user, each.properties) for each in others(events)] == [
        ("$create_alias", "everybody", user_of("before") if is_python else person, {}),
        ("$groupidentify", "acct-0", person, {}),
        ("$set" if is_python else "$identify", "everybody", person, {}),
        ("page_view", "acct-0", person, {"url": "/start"}),
        ("screen_view", "acct-0", person, {"tab": 2}),
    ]
    change = only(changes)
    assert (change.account, change.op) == ("acct-0", "patch")
    assert (change.fields.name, change.fields.plan) == ("Acme", "pro")
    assert change.fields.mrr == Decimal("120.5")


@pytest.mark.parametrize("sdk", EACH, ids=_id)
async def test_what_can_name_no_account_is_taken_in_by_its_person(
    sdk: Sdk, log: PostgresLog
) -> None:
    async with serving(log, STRICT) as service:
        ran = await run(sdk, url=service.url, key=service.key, exports=20)
        events, kept = await service.events(), await service.rejected()
        alone = await service.unplaced()

    assert (ran.sent, ran.errors, ran.noise) == (25, [], "")
    check_exports(events, ran, exports=20)
    types = [event.type for event in others(events)]
    assert types == ["$groupidentify", "page_view", "screen_view"]
    said = "$identify" if sdk.is_node else "$set"
    assert sorted((event.type, event.user) for event in alone) == [
        ("$create_alias", user_of("user-0" if sdk.is_node else "before")),
        (said, user_of("user-0")),
    ]
    assert kept == []


@pytest.mark.parametrize("sdk", EACH, ids=_id)
async def test_what_is_turned_away_comes_again_and_lands_once(sdk: Sdk, log: PostgresLog) -> None:
    # One of the two: these libraries wait two and three seconds, and longer, for the next one.
    is_v1 = sdk.mode.startswith("v1")
    refusals = [RefusalCode.OVERLOADED if is_v1 else RefusalCode.RATE_LIMITED]
    async with serving(log, SOURCE) as service, relaying(service.url, refusals) as relay:
        ran = await run(sdk, url=relay.url, key=service.key)
        events = await service.events()

    assert (ran.sent, ran.errors, ran.noise) == (505, [], "")
    check_exports(events, ran, exports=500)
    assert len(others(events)) == 5
    check_patience(relay)


@pytest.mark.parametrize("sdk", EACH, ids=_id)
async def test_one_bad_event_costs_no_other(sdk: Sdk, log: PostgresLog) -> None:
    async with serving(log, SOURCE) as service:
        ran = await run(sdk, url=service.url, key=service.key, exports=100, bad=37)
        events, kept = await service.events(), await service.rejected()

    assert ran.sent == 105
    check_exports(events, ran, exports=100, without=37)
    check_quarantine(kept)
    if sdk.mode.startswith("v1"):
        assert "1 event(s) dropped" in only(ran.errors) or "1 dropped" in only(ran.errors)
    else:  # The answer is a success, or the whole batch would be thrown away.
        assert (ran.errors, ran.noise) == ([], "")


@pytest.mark.parametrize("sdk", EACH, ids=_id)
async def test_a_wrong_key_is_told_and_not_tried_again(sdk: Sdk, log: PostgresLog) -> None:
    async with serving(log, SOURCE) as service, relaying(service.url) as relay:
        ran = await run(sdk, url=relay.url, key="pk_unknown", exports=20)

    check_refused(ran, relay)


@pytest.mark.parametrize("sdk", [NODE_V0], ids=_id)  # The others throw such a batch away.
async def test_a_batch_that_is_too_large_is_halved(sdk: Sdk, log: PostgresLog) -> None:
    async with serving(log, SOURCE, ingest_max_items=60) as service:
        ran = await run(sdk, url=service.url, key=service.key, exports=200)
        events = await service.events()

    assert (ran.sent, ran.errors) == (205, [])
    check_exports(events, ran, exports=200)
