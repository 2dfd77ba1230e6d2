"""Who is erased belongs to no account any more, and nothing waits for one: after a replay too."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from services.scoring.domain.activity import user_key
from shared.credentials import hash_user
from shared.messages import REJECTED, UNPLACED_EVENTS, USAGE_EVENTS, Source
from tests.e2e.deployments import bearer, eventually
from tests.e2e.pipeline import USER_KEY, Pipeline, key_of_source, pipeline
from tests.e2e.traces import traces

SOURCE = Source(name="app")
CONSULTANT, STRANGER, COLLEAGUE, NEWCOMER = "consultant", "stranger", "colleague", "newcomer"
KEYS = {
    name: user_key(hash_user(USER_KEY, name))
    for name in (CONSULTANT, STRANGER, COLLEAGUE, NEWCOMER)
}
SUPPRESSION = {"scoring.erased_users"}


def item(name: str, user: str, *, hours: int, account: str | None = None) -> dict[str, Any]:
    said = {
        "id": name,
        "user_id": user,
        "type": "group" if account else "login",
        "occurred_at": (datetime.now(UTC) - timedelta(days=3, hours=hours)).isoformat(),
    }
    return said | ({"account_id": account} if account else {})


BEFORE = [
    item("c-acme", CONSULTANT, hours=9, account="acme"),
    item("c-1", CONSULTANT, hours=8),
    item("c-globex", CONSULTANT, hours=7, account="globex"),
    item("c-2", CONSULTANT, hours=6),
    item("c-3", CONSULTANT, hours=5),
    item("s-1", STRANGER, hours=8),
    item("s-2", STRANGER, hours=7),
    item("e-acme", COLLEAGUE, hours=9, account="acme"),
    item("e-1", COLLEAGUE, hours=8),
    item("n-1", NEWCOMER, hours=8),
]
AFTER = [
    item("s-acme", STRANGER, hours=4, account="acme"),
    item("s-3", STRANGER, hours=3),
    item("c-4", CONSULTANT, hours=3),
]
COUNTED = {"acme": 2, "globex": 2}
"""What had been placed before stays counted, of the erased without their names."""


async def post(client: httpx.AsyncClient, line: Pipeline, key: str, items: Sequence[Any]) -> None:
    answer = await client.post(f"{line.url}/v1/events", headers=bearer(key), json=items)
    assert answer.status_code == 200, answer.text
    assert {one["status"] for one in answer.json()["results"]} == {"accepted"}


async def users_in(line: Pipeline, table: str) -> set[int]:
    return {row[0] for row in await line.rows(f"SELECT user_key FROM scoring.{table}")}


async def is_read(line: Pipeline) -> bool:
    """Whether all that the log has is behind the stored positions."""
    rows = await line.rows("SELECT topic, partition, next_offset FROM scoring.log_positions")
    stored = {(topic, partition): offset for topic, partition, offset in rows}
    ends = await line.log.ends([UNPLACED_EVENTS, USAGE_EVENTS])
    return all(stored.get((*at,), 0) >= end for at, end in ends.items())


async def check_gone(line: Pipeline) -> None:
    """No table knows of the two but that which says that they are erased."""
    words = {
        name: word
        for user in (CONSULTANT, STRANGER)
        for name, word in (
            (f"hash of the {user}", hash_user(USER_KEY, user)),
            (f"key of the {user}", str(KEYS[user])),
        )
    }
    found = await traces(line.database_url, words)
    assert {name: found.tables_of(name) for name in words} == dict.fromkeys(words, SUPPRESSION)
    assert await users_in(line, "memberships") == {KEYS[COLLEAGUE]}
    assert await users_in(line, "group_calls") == {KEYS[COLLEAGUE]}
    assert await users_in(line, "waiting_events") == {KEYS[NEWCOMER]}
    assert await line.rows("SELECT sum(events)::int FROM scoring.waiting_counts") == [(1,)]
    assert await line.counted() == COUNTED
    assert sum((await line.log.ends([REJECTED])).values()) == 0


async def test_an_erased_user_has_no_account_and_nothing_waits_for_it_even_after_a_replay(
    database_url: str, client: httpx.AsyncClient
) -> None:
    key = key_of_source(SOURCE.name)
    async with pipeline(database_url, perennial_placing_settle_seconds=0.5) as line:
        await line.announce(key, SOURCE)
        async with line.running():
            await post(client, line, key.secret, BEFORE)

            async def is_placed() -> bool:
                return await line.counted() == COUNTED and await line.waiting() == 3

            await eventually(is_placed, what="what can be placed is, the rest waits")
            assert await users_in(line, "memberships") == {KEYS[CONSULTANT], KEYS[COLLEAGUE]}
            assert await users_in(line, "waiting_events") == {KEYS[STRANGER], KEYS[NEWCOMER]}

            for user in (CONSULTANT, STRANGER):
                url = f"{line.url}/v1/users/{user}"
                answer = await client.delete(url, headers=bearer(key.secret))
                assert answer.status_code in (200, 202), answer.text

            async def are_erased() -> bool:
                found = await users_in(line, "erased_users")
                return found == {KEYS[CONSULTANT], KEYS[STRANGER]} and await line.waiting() == 1

            await eventually(are_erased, what="both are erased")
            await post(client, line, key.secret, AFTER)
            await eventually(lambda: is_read(line), what="all is read")
            await check_gone(line)

        # From the first record on.
        await line.execute("UPDATE scoring.log_positions SET next_offset = 0")
        await line.execute("DELETE FROM log.hints")
        async with line.running():
            await eventually(lambda: is_read(line), what="all is read again")
            await check_gone(line)
