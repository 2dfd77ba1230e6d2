"""A database that was restored, and restored once more before anybody released it."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.notifier import releasing
from services.notifier.settings import NotifierSettings
from shared.clock import system_clock
from shared.database import driver
from shared.messages import FlagReason
from tests.integration.notifier.rig import Rig, account
from tests.integration.notifier.test_process import urgent_flag
from tests.standins.slack import FakeSlack

HOLD = Path(__file__).resolve().parents[3] / "deploy" / "postgresql" / "hold.sql"


async def hold(rig: Rig) -> None:
    async with rig.engine.begin() as connection:
        await (await driver(connection)).execute(HOLD.read_text())


async def restored_of(rig: Rig) -> list[Any]:
    return [one for one in await rig.deliveries() if one.state == "restored"]


@pytest.mark.parametrize("as_told", [False, True], ids=["sent again", "as told"])
async def test_what_waits_of_two_restores_is_released_once(
    rig: Rig,
    slack: FakeSlack,
    as_told: bool,  # noqa: FBT001 - a parameter
) -> None:
    rig.hands.now = datetime.now(UTC)
    await rig.take(account())
    await rig.take(urgent_flag())
    await hold(rig)
    # The same is decided anew; then that is what waits in a backup, which is restored.
    again = {"reason": FlagReason.GONE_SILENT, "flag_id": "acme/gone_silent/1"}
    await rig.take(msgspec.structs.replace(urgent_flag(), **again))
    await hold(rig)
    places = Counter((one.group_key, one.destination) for one in await restored_of(rig))
    assert 2 in places.values(), "no two wait for one place: this shows nothing"
    settings = NotifierSettings(slack_webhook_url=slack.url)
    found = await releasing.release(rig.engine, settings, as_told=as_told, clock=system_clock)
    assert found is not None
    assert found.restored == places.total()
    await rig.send_all()
    # They hear of the account once, or not at all.
    assert len(slack.posted) == (0 if as_told else 1)
    assert await restored_of(rig) == []
