"""Silences against the real queue: nobody is told while one holds, all is decided after."""

from datetime import timedelta
from uuid import uuid4

from services.notifier import erasure, silences
from services.notifier.domain.silences import Matchers, Refused, Silence
from shared.messages import Erasure
from tests.integration.notifier.rig import NOW, OWNER, Rig, account, boss, flag
from tests.standins.slack import FakeSlack

HOUR = timedelta(hours=1)


def silence(**matchers: str) -> Silence:
    return Silence(
        id=uuid4(),
        matchers=Matchers(**matchers),
        starts_at=NOW - HOUR,
        ends_at=NOW + HOUR,
        author=OWNER,
        comment="They move to another office.",
        created_at=NOW - HOUR,
    )


async def add(rig: Rig, one: Silence) -> Refused | None:
    async with rig.engine.begin() as connection:
        return await silences.add(connection, one, by=boss(OWNER), now=NOW)


async def test_what_is_silenced_is_told_once_it_is_over_and_stored_until_then(
    rig: Rig, slack: FakeSlack
) -> None:
    assert await add(rig, silence(reason="churn_risk")) is None
    await rig.take(account())
    await rig.take(flag())
    assert await rig.send_all() == 0
    rows = await rig.deliveries()
    assert {(row.state, row.suppress_reason) for row in rows} == {("cancelled", "silenced")}

    await rig.pass_time(HOUR)
    await rig.send_all()
    assert len(slack.posted) == 1


async def test_expiring_a_silence_lets_the_clock_look_at_once(rig: Rig, slack: FakeSlack) -> None:
    one = silence(account="acme")
    await add(rig, one)
    await rig.take(account())
    await rig.take(flag())
    async with rig.engine.begin() as connection:
        assert await silences.expire(connection, one.id, by=boss(OWNER), now=NOW)
    await rig.pass_time(timedelta(0))
    await rig.send_all()
    assert len(slack.posted) == 1
    async with rig.engine.begin() as connection:
        assert not await silences.expire(connection, one.id, by=boss(OWNER), now=NOW)
        assert not await silences.expire(connection, uuid4(), by=boss(OWNER), now=NOW)


async def test_a_silence_of_another_account_keeps_nothing_quiet(rig: Rig, slack: FakeSlack) -> None:
    await add(rig, silence(account="other"))
    await rig.take(account())
    await rig.take(flag())
    await rig.send_all()
    assert len(slack.posted) == 1


async def test_a_silence_that_comes_between_decision_and_sending_holds(
    rig: Rig, slack: FakeSlack
) -> None:
    await rig.take(account())
    await rig.take(flag())
    await add(rig, silence(account="acme"))
    await rig.send_all()
    assert slack.posted == []


async def test_an_erased_account_is_named_by_no_silence(rig: Rig) -> None:
    await add(rig, silence(account="acme"))
    await add(rig, silence(segment="smb"))
    async with rig.engine.begin() as connection:
        gone = Erasure(erased_at=NOW, flags_until=NOW)
        await erasure.erase_accounts(connection, {"acme": gone}, now=NOW)
        left = await silences.history(connection)
    assert [one.matchers for one in left] == [Matchers(segment="smb")]
