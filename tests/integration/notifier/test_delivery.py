"""A flag reaches Slack exactly once and mail exactly once, whatever happens on the way."""

import asyncio
import dataclasses
import json
import time
from datetime import timedelta

import pytest
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier.channels import Message, Receipt
from services.notifier.domain.attempts import Class
from services.notifier.routes import Ways
from shared.messages import Band
from tests.integration.notifier.queue_rig import Post, failing
from tests.integration.notifier.rig import ANNA, FALLBACK, NOW, OWNER, Rig, account, flag, open_rig
from tests.standins.mail import FakeMail
from tests.standins.slack import Answer, FakeSlack, Hang, Reset, Slow, rate_limited

WORSE = NOW + timedelta(hours=1)


async def until_quiet(rig: Rig, *, seconds: float = 8) -> None:
    """Send until no delivery waits any more."""
    end = time.monotonic() + seconds
    while any(row.state in ("pending", "sending") for row in await rig.deliveries()):
        assert time.monotonic() < end, [
            (row.destination, row.state, row.last_detail) for row in await rig.deliveries()
        ]
        if not await rig.sender.send_one():
            await asyncio.sleep(0.02)


async def test_a_flag_is_heard_once_in_each_channel(
    rig: Rig, slack: FakeSlack, mail: FakeMail
) -> None:
    await rig.take(account())
    await rig.take(flag())
    assert await rig.send_all() == 2
    assert len(slack.posted) == 1
    assert mail.recipients == [OWNER]
    assert await rig.send_all() == 0


@pytest.mark.parametrize(
    "turn",
    [
        pytest.param(rate_limited("1"), id="rate limited"),
        pytest.param(Answer(status=500, body="<html>oops</html>"), id="internal error"),
        pytest.param(Answer(status=302, headers=(("Location", "/other"),)), id="redirect"),
        pytest.param(Reset(), id="connection reset"),
        pytest.param(Hang(seconds=30), id="hang"),
        pytest.param(Answer(status=200, body="<html>sign in</html>"), id="captive portal"),
    ],
)
async def test_slack_hears_once_after_a_failure(
    engine: AsyncEngine, slack: FakeSlack, mail: FakeMail, turn: Answer | Reset | Hang
) -> None:
    slack.script.append(turn)
    async with open_rig(engine, slack=slack, mail=mail, limit=timedelta(seconds=0.5)) as rig:
        await rig.take(account())
        await rig.take(flag())
        await until_quiet(rig)
    assert len(slack.posted) == 1
    assert len(mail.taken) == 1
    assert len(slack.asked_at) == 2


async def test_all_faults_in_a_row_still_mean_one_message(
    rig: Rig, slack: FakeSlack, mail: FakeMail
) -> None:
    slack.script.extend([rate_limited("1"), Answer(status=500), Reset()])
    mail.at_recipient.append("451 4.7.1 greylisted")
    mail.at_data.append("452 4.3.1 no room")
    await rig.take(account())
    await rig.take(flag())
    await until_quiet(rig)
    assert len(slack.posted) == 1
    assert mail.recipients == [OWNER]
    assert mail.attempts == 3


async def test_nothing_is_sent_before_retry_after(rig: Rig, slack: FakeSlack) -> None:
    slack.script.append(rate_limited("1.5"))
    await rig.take(account())
    await rig.take(flag())
    await rig.take(account(account_id="other", name="other"))
    await rig.take(flag(account="other", flag_id="other/1"))
    await until_quiet(rig)
    assert len(slack.posted) == 2
    assert slack.asked_at[1] - slack.asked_at[0] >= 1.5


async def test_order_is_kept_while_a_destination_rests(rig: Rig, slack: FakeSlack) -> None:
    slack.script.extend([Answer(status=503), Answer(status=503)])
    for number in range(4):
        await rig.take(account(account_id=f"a{number}", name=f"a{number}"))
        await rig.take(flag(account=f"a{number}", flag_id=f"a{number}"))
    await until_quiet(rig)
    names = [payload["text"].split(":")[0] for payload in slack.posted]
    assert names == ["a0", "a1", "a2", "a3"]


async def test_two_senders_are_as_one(rig: Rig, slack: FakeSlack, mail: FakeMail) -> None:
    for number in range(20):
        await rig.take(account(account_id=f"a{number}", name=f"a{number}"))
        await rig.take(flag(account=f"a{number}", flag_id=f"a{number}"))

    async def drain() -> None:
        sender = rig.another_sender()
        idle = 0
        while idle < 20:
            idle = 0 if await sender.send_one() else idle + 1
            await asyncio.sleep(0.005)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(drain())
    assert len(slack.posted) == 20
    assert len({payload["text"] for payload in slack.posted}) == 20
    assert len({message["Message-ID"] for message in mail.taken}) == len(mail.taken) == 20


async def test_a_flag_cleared_before_sending_is_not_told(rig: Rig, slack: FakeSlack) -> None:
    await rig.take(account())
    await rig.take(flag())
    await rig.take(flag(change="cleared", as_of=WORSE))
    await rig.send_all()
    rows = await rig.deliveries()
    assert slack.posted == []
    assert {(row.state, row.suppress_reason) for row in rows} == {("cancelled", "no_longer_wanted")}


async def test_a_worse_flag_while_one_waits_is_one_message_with_the_news(
    rig: Rig, slack: FakeSlack
) -> None:
    await rig.take(account())
    await rig.take(flag())
    await rig.take(flag(change="updated", band=Band.CRITICAL, as_of=WORSE))
    await rig.send_all()
    assert len(slack.posted) == 1
    assert "Critical" in slack.posted[0]["text"]


async def test_a_worse_flag_during_sending_is_told_afterwards(
    engine: AsyncEngine, slack: FakeSlack
) -> None:
    slack.script.append(Slow(seconds=0.4))
    async with open_rig(engine, slack=slack) as rig:
        await rig.take(account())
        await rig.take(flag())
        slow = asyncio.create_task(rig.sender.send_one())
        await asyncio.sleep(0.2)
        await rig.take(flag(change="updated", band=Band.CRITICAL, as_of=WORSE))
        await slow
        await until_quiet(rig)
    assert ["Critical" in payload["text"] for payload in slack.posted] == [False, True]


async def test_a_worse_flag_after_acceptance_is_a_second_message(
    rig: Rig, slack: FakeSlack
) -> None:
    await rig.take(account())
    await rig.take(flag())
    await rig.send_all()
    await rig.take(flag(change="updated", as_of=WORSE))
    assert await rig.send_all() == 0
    await rig.take(flag(change="updated", band=Band.CRITICAL, as_of=WORSE + timedelta(hours=1)))
    await rig.send_all()
    assert [row.reason for row in await rig.deliveries()][-2:] == ["severity_raised"] * 2
    assert len(slack.posted) == 2


async def test_who_may_have_heard_of_an_end_hears_that_it_goes_on(
    engine: AsyncEngine, slack: FakeSlack
) -> None:
    async with open_rig(engine, slack=slack) as rig:
        await rig.take(account())
        await rig.take(flag())
        await rig.send_all()
        slack.script.append(Reset(posted=True))
        await rig.take(flag(change="cleared", as_of=WORSE))
        await rig.sender.send_one()
        again = WORSE + timedelta(hours=1)
        await rig.take(flag(episode=2, raised_at=again, as_of=again))
        await until_quiet(rig)
    said = [json.dumps(payload) for payload in slack.posted]
    assert ["has recovered" in one for one in said] == [False, True, False]
    assert "New intervention" in said[-1]
    # Another message than the one that may be known: a mail server drops what has the same id.
    assert [row.state for row in await rig.deliveries()] == ["sent", "cancelled", "sent"]


async def test_a_refused_owner_means_that_the_fallback_is_told(
    engine: AsyncEngine, mail: FakeMail
) -> None:
    mail.at_recipient.append("550 5.1.1 no such user")
    async with open_rig(engine, mail=mail) as rig:
        await rig.take(account())
        await rig.take(flag())
        await rig.send_all()
        first, second, third = await rig.deliveries()
    assert (first.state, first.last_class) == ("dead", "destination_broken")
    assert (second.kind, second.state, second.reason) == ("notice", "sent", "undelivered")
    assert (third.kind, third.state) == ("outage", "sent")  # Somebody must mend it.
    assert mail.recipients == [FALLBACK, FALLBACK]


@pytest.mark.parametrize("first", ["slack", "email"])
async def test_somebody_else_is_told_where_all_ways_to_the_owner_refuse(
    engine: AsyncEngine, first: str
) -> None:
    posts = {name: Post(name) for name in ("slack", "email")}
    posts["slack"].will(*[failing(Class.DESTINATION_BROKEN)] * 9, to="U0ANNA")
    posts["email"].will(*[failing(Class.DESTINATION_BROKEN)] * 9, to=OWNER)
    async with open_rig(
        engine,
        people=[replace(ANNA, slack="U0ANNA", any_hour=True)],
        more=posts,
        ways=Ways(slack_bot=True, email=True),
    ) as rig:
        await rig.take(account())
        await rig.take(flag())
        alone = dataclasses.replace(rig.sender, channels={first: posts[first]})
        while await alone.send_one():
            pass
        await rig.send_all()
    # Once for each way that failed: neither knows of the other.
    assert {one.to for one in posts["email"].taken if one.items} == {FALLBACK}


async def test_a_refused_form_is_sent_once_more_as_plain_text_then_dead(
    rig: Rig, slack: FakeSlack
) -> None:
    slack.script.extend([Answer(status=400, body="invalid_blocks")] * 2)
    await rig.take(account())
    await rig.take(flag())
    await rig.take(account(account_id="next", name="next"))
    await rig.take(flag(account="next", flag_id="next"))
    await rig.send_all()
    states = [row.state for row in await rig.deliveries() if row.channel == "slack"]
    assert states == ["dead", "sent"]
    assert len(slack.asked_at) == 3


async def test_no_channel_at_all_is_stored_and_counted(engine: AsyncEngine) -> None:
    async with open_rig(engine) as rig:
        await rig.take(account())
        await rig.take(flag())
        await rig.take(flag(change="updated", as_of=WORSE))
        (row,) = await rig.deliveries()
        assert (row.state, row.suppress_reason) == ("cancelled", "no_destination")
        assert rig.metrics.suppressed.labels("no_destination")._value.get() == 1


async def test_a_new_owner_is_told_and_the_old_one_not_any_more(rig: Rig, mail: FakeMail) -> None:
    await rig.take(account())
    await rig.take(flag())
    await rig.take(account(owner="Ben@vendor.example"))
    await rig.send_all()
    assert mail.recipients == ["ben@vendor.example"]
    rows = {row.destination: row for row in await rig.deliveries()}
    assert rows[f"email:{OWNER}"].suppress_reason == "reassigned"


async def test_a_mail_cut_after_data_is_ambiguous_and_keeps_its_id(
    engine: AsyncEngine, mail: FakeMail
) -> None:
    mail.at_data.append("hang")
    async with open_rig(engine, mail=mail, limit=timedelta(seconds=0.5)) as rig:
        await rig.take(account())
        await rig.take(flag())
        await until_quiet(rig)
        (row,) = await rig.deliveries()
    assert (row.state, row.ambiguous) == ("sent", 1)
    assert len(mail.taken) == 2  # The one duplicate that cannot be avoided ...
    assert len({message["Message-ID"] for message in mail.taken}) == 1  # ... is recognisable.


async def test_a_fault_of_ours_costs_one_message_and_not_the_process(
    engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """What no channel expects: once more as plain text, then given up, and the sender goes on."""

    class Faulty(Post):
        async def send(self, message: Message) -> Receipt:
            if message.items and message.items[0].account_id == "acme":
                raise ValueError("https://hooks.example/secret")
            return await super().send(message)

    post = Faulty("slack")
    ways = Ways(slack_webhook=True)
    async with open_rig(engine, more={"slack": post}, ways=ways) as rig:
        for name in ("acme", "globex"):
            await rig.take(account(account_id=name))
            await rig.take(flag(account=name, flag_id=f"{name}/churn_risk/1"))
        await rig.send_all()
        found = {row.account_id: row for row in await rig.deliveries() if row.kind == "notice"}
    assert (found["acme"].state, found["acme"].attempts) == ("dead", 2)
    assert found["acme"].last_detail == "ValueError"
    assert found["globex"].state == "sent"
    assert "secret" not in caplog.text
