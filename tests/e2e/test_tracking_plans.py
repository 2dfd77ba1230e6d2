"""The usual B2B tracking plan, by the libraries themselves: who names the account once, counts.

Each library runs once (`identify`, `group`, then 50 `track` that name a user alone, for five
users); what it sent is then sent to the services, for each user in another order.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import httpx

from services import quarantine
from services.quarantine import Outcome, Wanted
from shared.credentials import hash_user
from shared.messages import USAGE_EVENTS, PlacedBy, Source, UsageEvent
from tests.contract.sdks.recording import Recorded, Recorder, recording
from tests.contract.sdks.sdks import Sdk, run
from tests.e2e.deployments import eventually
from tests.e2e.pipeline import USER_KEY, Pipeline, key_of_source, pipeline
from tests.integration.ingest.stored import stored

AS_SENT, GROUP_LAST, SHUFFLED, A_DAY_LATER, TOO_LATE = range(5)
TRACKS = 50
EACH = [
    Sdk(name=f"{library}_plan {language}", mode=f"{library}-{language}", gzip=gzip)
    for library, gzip in (("segment", False), ("rudderstack", True))
    for language in ("python", "node")
]
A_DAY, PATIENCE = timedelta(hours=23, minutes=55), timedelta(hours=24, minutes=5)
"""Events wait for 24 hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one user's process sent by a library."""

    who: Sequence[Recorded]
    """The requests that say who the user is."""
    tracks: Sequence[Recorded]

    def as_sent(self) -> Sequence[Recorded]:
        return [*self.who, *self.tracks]

    def group_last(self) -> Sequence[Recorded]:
        return [*self.tracks, *self.who]

    def shuffled_and_repeated(self) -> Sequence[Recorded]:
        requests = [*self.who, *self.tracks] * 2
        random.Random(1).shuffle(requests)
        return requests


async def record(sdk: Sdk, key: str) -> list[Plan]:
    """By user."""
    sdk = replace(sdk, exports=TRACKS, plans=5)
    async with recording() as recorder:
        ran = await run(sdk, url=recorder.url, key=key)
    assert (ran.sent, ran.errors) == (sdk.plans * (2 + TRACKS), [])
    return [_plan(recorder, f"member-{sdk.mode}-{number}") for number in range(sdk.plans)]


def _plan(recorder: Recorder, user: str) -> Plan:
    requests = recorder.of_user(user)
    who = [one for one in requests if any(item["type"] != "track" for item in one.items)]
    tracks = [one for one in requests if one not in who]
    items = [item for one in tracks for item in one.items]
    # In its documented form: nothing but the `group` call names an account.
    assert len(items) == TRACKS
    assert "team-" not in str(items)
    assert sum(item["type"] == "group" for one in who for item in one.items) == 1
    return Plan(who=who, tracks=tracks)


async def post(client: httpx.AsyncClient, line: Pipeline, requests: Iterable[Recorded]) -> None:
    for one in requests:
        answer = await client.post(f"{line.url}{one.path}", headers=one.headers, content=one.body)
        assert (answer.status_code, answer.json()) == (200, {"success": True})


async def until_counted(line: Pipeline, *numbers: int) -> None:
    """Until all tracks of these users count for their accounts, and no others for any."""
    expected = {f"team-{sdk.mode}-{number}": TRACKS for sdk in EACH for number in numbers}

    async def is_so() -> bool:
        return await line.counted() == expected

    await eventually(is_so, what=f"{numbers} count, and nobody else")


async def until_waiting(line: Pipeline, users: int) -> None:
    async def is_so() -> bool:
        return await line.waiting() == users * len(EACH) * TRACKS

    await eventually(is_so, what=f"the tracks of {users} users wait")


async def replay(line: Pipeline) -> Outcome:
    return await quarantine.replay(
        line.log,
        Wanted(code="missing_account"),
        by="test",
        now=line.clock(),
        dry_run=False,
        on_progress=lambda _count: None,
    )


async def in_quarantine(line: Pipeline) -> list[str]:
    """The codes."""
    found = await quarantine.survey(
        line.log, Wanted(), limit=1_000, with_settled=True, on_progress=lambda _count: None
    )
    return [entry.rejected.code for entry in found.entries]


async def test_what_names_its_account_once_counts_for_it_whatever_the_order(
    database_url: str, client: httpx.AsyncClient
) -> None:
    for sdk in EACH:
        sdk.require()
    keys = [key_of_source(sdk.mode) for sdk in EACH]
    recorded = await asyncio.gather(
        *(record(sdk, key.secret) for sdk, key in zip(EACH, keys, strict=True))
    )
    by_order = list(zip(*recorded, strict=True))
    async with pipeline(database_url, perennial_placing_settle_seconds=0.5) as line:
        for sdk, key in zip(EACH, keys, strict=True):
            await line.announce(key, Source(name=sdk.mode))
        async with line.running():
            for plan in by_order[AS_SENT]:
                await post(client, line, plan.as_sent())
            for plan in by_order[GROUP_LAST]:
                await post(client, line, plan.group_last())
            for plan in by_order[SHUFFLED]:
                await post(client, line, plan.shuffled_and_repeated())
            for plan in (*by_order[A_DAY_LATER], *by_order[TOO_LATE]):
                await post(client, line, plan.tracks)
            await until_counted(line, AS_SENT, GROUP_LAST, SHUFFLED)
            await until_waiting(line, 2)

            line.ahead = A_DAY
            for plan in by_order[A_DAY_LATER]:
                await post(client, line, plan.who)
            await until_counted(line, AS_SENT, GROUP_LAST, SHUFFLED, A_DAY_LATER)
            await until_waiting(line, 1)
            assert await in_quarantine(line) == []

            line.ahead = PATIENCE
            await until_waiting(line, 0)
            line.ahead += timedelta(hours=1)
            for plan in by_order[TOO_LATE]:
                await post(client, line, plan.who)

            async def are_set_aside() -> bool:
                expected = ["missing_account"] * (TRACKS * len(EACH))
                return await in_quarantine(line) == expected

            await eventually(are_set_aside, what="those that found no account are in quarantine")
            await until_counted(line, AS_SENT, GROUP_LAST, SHUFFLED, A_DAY_LATER)
            outcome = await replay(line)
            assert (outcome.done.total(), outcome.exit_code) == (TRACKS * len(EACH), 0)
            await until_counted(line, AS_SENT, GROUP_LAST, SHUFFLED, A_DAY_LATER, TOO_LATE)
            await until_waiting(line, 0)
        await check_log(line)


async def check_log(line: Pipeline) -> None:
    """Every track stands there as it was sent, under one account, and says how that was found."""
    events = [event for _, event in await stored(line.log, USAGE_EVENTS, UsageEvent)]
    tracks = {event.id: event for event in events if event.type == "report_exported"}
    assert len(tracks) == len(EACH) * 5 * TRACKS
    assert {event.placed_by for event in tracks.values()} == {PlacedBy.ONLY_ACCOUNT}
    by_user: defaultdict[tuple[str, str | None], set[object]] = defaultdict(set)
    for event in tracks.values():
        by_user[event.account, event.user].add(event.properties["n"])
    assert by_user == {
        (f"team-{sdk.mode}-{number}", hash_user(USER_KEY, f"member-{sdk.mode}-{number}")): set(
            range(TRACKS)
        )
        for sdk in EACH
        for number in range(5)
    }
