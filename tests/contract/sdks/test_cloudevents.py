"""CloudEvents as their own libraries write them, and OpenMeter's clients."""

import pytest

from services.ingest.replies import RefusalCode
from shared.log.postgres import PostgresLog
from shared.messages import Source
from tests.contract.sdks.checks import check_exports, check_patience, check_refused, only
from tests.contract.sdks.installs import CLOUDEVENTS2
from tests.contract.sdks.relay import relaying
from tests.contract.sdks.sdks import Sdk, run
from tests.contract.sdks.service import serving

SOURCE = Source(name="app")
FEW = 50
SECOND = {"PYTHONPATH": str(CLOUDEVENTS2)}
BATCHED = [
    Sdk(name="cloudevents python", mode="batch"),
    Sdk(name="openmeter python", mode="batch"),
    Sdk(name="openmeter node"),
]
ONE_BY_ONE = [
    Sdk(name="cloudevents python", mode="binary", exports=FEW),
    Sdk(name="cloudevents python", mode="structured", exports=FEW),
    Sdk(name="cloudevents2 python", mode="binary", exports=FEW, environment=SECOND),
    Sdk(name="cloudevents2 python", mode="structured", exports=FEW, environment=SECOND),
    Sdk(name="cloudevents node", mode="binary", exports=FEW),
    Sdk(name="cloudevents node", mode="structured", exports=FEW),
    Sdk(name="openmeter python", mode="single", exports=FEW),
]
PATIENT = [BATCHED[0], BATCHED[1], BATCHED[2], ONE_BY_ONE[4]]


def _id(sdk: Sdk) -> str:
    return f"{sdk.name} {sdk.mode}".strip()


@pytest.mark.parametrize("sdk", [*BATCHED, *ONE_BY_ONE], ids=_id)
async def test_every_event_of_the_script_lands(sdk: Sdk, log: PostgresLog) -> None:
    async with serving(log, SOURCE) as service, relaying(service.url) as relay:
        ran = await run(sdk, url=relay.url, key=service.key)
        events = await service.events()

    assert (ran.sent, ran.errors, ran.noise) == (sdk.exports, [], "")
    check_exports(events, ran, exports=sdk.exports)
    assert len(events) == sdk.exports
    assert {(passed.path, passed.status) for passed in relay.passed} == {("/api/v1/events", 204)}
    assert {passed.is_chunked for passed in relay.passed} == {sdk.name == "cloudevents node"}


@pytest.mark.parametrize("sdk", PATIENT, ids=_id)
async def test_what_is_turned_away_comes_again_and_lands_once(sdk: Sdk, log: PostgresLog) -> None:
    refusals = [RefusalCode.OVERLOADED, RefusalCode.RATE_LIMITED]
    async with serving(log, SOURCE) as service, relaying(service.url, refusals) as relay:
        ran = await run(sdk, url=relay.url, key=service.key)
        events = await service.events()

    assert (ran.sent, ran.errors, ran.noise) == (sdk.exports, [], "")
    check_exports(events, ran, exports=sdk.exports)
    check_patience(relay)


@pytest.mark.parametrize("sdk", [*BATCHED, ONE_BY_ONE[0], ONE_BY_ONE[4]], ids=_id)
async def test_one_bad_event_costs_no_other_and_is_explained(sdk: Sdk, log: PostgresLog) -> None:
    async with serving(log, SOURCE) as service:
        ran = await run(sdk, url=service.url, key=service.key, exports=100, bad=37)
        events, kept = await service.events(), await service.rejected()

    check_exports(events, ran, exports=100, without=37)
    (error,) = ran.errors
    assert "400" in error or "Bad Request" in error or "all_rejected" in error
    code, _ = only(kept)
    assert code == "invalid_account"


@pytest.mark.parametrize("sdk", [*BATCHED, ONE_BY_ONE[4]], ids=_id)
async def test_a_wrong_key_is_told_and_not_tried_again(sdk: Sdk, log: PostgresLog) -> None:
    async with serving(log, SOURCE) as service, relaying(service.url) as relay:
        ran = await run(sdk, url=relay.url, key="pk_unknown", exports=20)

    check_refused(ran, relay)
