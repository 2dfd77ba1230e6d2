"""The horizon over intake's own positions and a real log."""

from datetime import timedelta

from services.scoring.horizon import Horizon
from services.scoring.intake import Intake
from services.scoring.metrics import ScoringMetrics
from shared.lifecycle import Frame
from shared.log import Record
from shared.log.postgres import PostgresLog
from shared.log.topics import TOPICS
from shared.messages import USAGE_EVENTS, USAGE_EVENTS_OVERFLOW, encode
from tests.factories import NOW, usage_event
from tests.integration.scoring.conftest import Time

_SOON = timedelta(seconds=10)
_SECOND = timedelta(seconds=1)


async def test_it_moves_when_the_last_of_what_was_there_is_committed(
    log: PostgresLog, intake: Intake, metrics: ScoringMetrics, frame: Frame, time: Time
) -> None:
    await log.create_topics(TOPICS)
    horizon = Horizon(
        log=log,
        positions=intake.positions,
        metrics=metrics,
        clock=time,
        loop=frame.loop("scoring", "horizon"),
    )
    await horizon.look()
    assert horizon.moment == NOW
    for topic in (USAGE_EVENTS, USAGE_EVENTS_OVERFLOW):
        events = [usage_event(id=f"{topic}-{number}") for number in range(3)]
        records = [Record(key=event.account.encode(), value=encode(event)) for event in events]
        await log.append(topic, records, deadline=_SOON)
    for topic in (USAGE_EVENTS, USAGE_EVENTS_OVERFLOW):
        time.now += _SECOND
        await horizon.look()
        assert horizon.moment == NOW, "not before both topics are taken in"
        async with log.follow(topic) as consumer:
            [batch] = await consumer.fetch(max_records=10, wait=_SOON)
        await intake.take_in(batch, await intake.claim(batch.partition))
    time.now += _SECOND
    await horizon.look()
    assert horizon.moment == time.now
