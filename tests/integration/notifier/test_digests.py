"""Digests against the real queue: one per person, kind and local date, whoever asks."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import preferences
from services.notifier.digests import Rounds
from services.notifier.domain.people import Mode, Person, Preference
from services.notifier.tables import digests, interventions, notices
from shared.messages import Band, FlagReason, Stage
from tests.integration.notifier.rig import (
    FALLBACK,
    NOW,
    OWNER,
    Rig,
    account,
    boss,
    flag,
    open_rig,
)
from tests.standins.mail import FakeMail

# NOW is a Monday, 14:00 in Paris: the digest of half past eight is late, and still of the day.
ANNA = Person(address=OWNER, zone="Europe/Paris", manager=FALLBACK)
QUIET = Person(address=OWNER, zone="Europe/Paris", mode=Mode.DAILY)


@pytest.fixture
async def rig(engine: AsyncEngine, mail: FakeMail) -> AsyncIterator[Rig]:
    async with open_rig(engine, mail=mail, people=(ANNA,)) as opened:
        yield opened


@pytest.fixture
async def quiet(engine: AsyncEngine, mail: FakeMail) -> AsyncIterator[Rig]:
    async with open_rig(engine, mail=mail, people=(QUIET,)) as opened:
        yield opened


def texts(mail: FakeMail, to: str) -> list[str]:
    """The plain text of each message to this address."""
    found = [one.get_body(("plain",)) for one in mail.taken if one["To"] == to]
    return [part.get_content() for part in found if part is not None]


def rounds(rig: Rig) -> Rounds:
    return Rounds(
        engine=rig.engine,
        desk=rig.desk,
        metrics=rig.metrics,
        clock=rig.hands,
        wake=lambda: None,
    )


async def test_the_owner_gets_the_day_and_the_manager_the_week(rig: Rig, mail: FakeMail) -> None:
    await rig.take(account())
    await rig.take(flag())
    await rig.send_all()
    mail.taken.clear()

    assert await rounds(rig).look_once() == 2
    await rig.send_all()
    assert sorted(str(one["To"]) for one in mail.taken) == sorted([OWNER, FALLBACK])
    [mine] = texts(mail, OWNER)
    assert "1 open, 1 at risk; EUR 12,340 at risk." in mine
    assert "Acme Ltd" in mine


async def test_however_often_and_by_however_many_it_is_asked_one_is_sent(rig: Rig) -> None:
    await rig.take(account())
    await rig.take(flag())
    found = await asyncio.gather(*(rounds(rig).look_once() for _ in range(4)))
    assert sum(found) == 2
    assert await rounds(rig).look_once() == 0
    await rig.send_all()
    rig.hands.now += timedelta(days=1)
    assert await rounds(rig).look_once() == 1  # The next day's, and no second week's.


async def test_an_empty_digest_is_recorded_and_not_sent(rig: Rig, mail: FakeMail) -> None:
    assert await rounds(rig).look_once() == 0
    await rig.send_all()
    assert mail.taken == []
    async with rig.engine.connect() as connection:
        rows = (await connection.execute(select(digests))).all()
    assert [(row.recipient, row.items) for row in rows if row.kind == "daily"] == [(FALLBACK, 0)]


async def test_who_wants_a_digest_only_learns_of_it_there_and_it_counts_as_told(
    quiet: Rig, mail: FakeMail
) -> None:
    await quiet.take(account())
    await quiet.take(flag())
    assert await quiet.send_all() == 0
    rows = await quiet.deliveries()
    assert [row.suppress_reason for row in rows] == ["preference"]

    await rounds(quiet).look_once()
    await quiet.send_all()
    assert len(texts(mail, OWNER)) == 1
    async with quiet.engine.connect() as connection:
        told = (await connection.execute(select(notices.c.told))).scalars().all()
    assert [len(one) for one in told] == [1]


async def test_an_overview_changes_nothing_of_what_was_told(rig: Rig) -> None:
    await rig.take(account())
    await rig.take(flag())
    async with rig.engine.connect() as connection:
        before = (await connection.execute(select(notices))).all()
    await rounds(rig).look_once()
    held = [row for row in await rig.deliveries() if row.kind == "digest"]
    assert len(held) == 2
    async with rig.engine.connect() as connection:
        assert (await connection.execute(select(notices))).all() == before


async def test_what_ended_before_the_digest_is_sent_is_not_in_it(
    quiet: Rig, mail: FakeMail
) -> None:
    await quiet.take(account())
    await quiet.take(flag())
    drop = flag(
        flag_id="acme/usage_drop/1",
        reason=FlagReason.USAGE_DROP,
        stage=Stage.ADOPT,
        band=Band.WATCH,
    )
    await quiet.take(drop)
    await rounds(quiet).look_once()
    later = NOW + timedelta(minutes=1)
    await quiet.take(flag(change="cleared", as_of=later))
    await quiet.send_all()
    [text] = texts(mail, OWNER)
    assert "Usage drop" in text
    assert "Churn risk" not in text


async def test_unsubscribing_means_the_digest_by_mail_and_nothing_else(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        chosen = Preference(digest_at=ANNA.digest_at)
        await preferences.save(connection, OWNER, chosen, by=boss(OWNER), at=NOW)
        await preferences.prefer_digest(connection, OWNER.upper(), NOW)
    async with engine.connect() as connection:
        [(address, wanted)] = (await preferences.read_all(connection)).items()
    assert (address, wanted.email, wanted.mode) == (OWNER, Mode.DAILY, None)
    assert wanted.digest_at == ANNA.digest_at


async def test_what_is_held_out_and_critical_is_in_the_digest(quiet: Rig, mail: FakeMail) -> None:
    await quiet.take(account())
    await quiet.take(flag(band=Band.CRITICAL))
    async with quiet.engine.begin() as connection:
        await connection.execute(update(interventions).values(held_out=True))
    await rounds(quiet).look_once()
    await quiet.send_all()
    assert len(texts(mail, OWNER)) == 1
