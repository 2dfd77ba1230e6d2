"""What is known of users: SQL of `memberships` and `group_calls`, for reading."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.array_literals import MOMENT, integers, moments
from services.scoring.domain.placing import GroupCall, Membership, Standing
from services.scoring.unplaced import Span
from shared.database import driver


async def read_standings(
    connection: AsyncConnection, users: Mapping[int, Span]
) -> dict[int, Standing]:
    """What is known of these users; one without any account is absent.

    Of the `group` calls only those that decide about events in the user's span of time.
    """
    if not users:
        return {}
    connected = await driver(connection)
    memberships: defaultdict[int, dict[str, Membership]] = defaultdict(dict)
    for row in await connected.fetch(_MEMBERSHIPS, integers(list(users))):
        memberships[row[0]][row[1]] = Membership(
            since=row[2], last_active_at=row[3], learnt_at=row[4]
        )
    of_several = [user for user, known in memberships.items() if len(known) > 1]
    calls: defaultdict[int, list[GroupCall]] = defaultdict(list)
    if of_several:
        rows = await connected.fetch(
            _GROUP_CALLS,
            integers(of_several),
            moments([users[user][0] for user in of_several]),
            moments([users[user][1] for user in of_several]),
        )
        for user, at, account in rows:
            calls[user].append((at, account))
    return {
        user: Standing(memberships=known, group_calls=sorted(calls.get(user, ())))
        for user, known in memberships.items()
    }


# OFFSET: user by user by the index. The planner, who does not know how many they are, else reads
# the whole table, and for each row of it goes through all of them.
_MEMBERSHIPS: Final = """
SELECT m.user_key, m.account_id,
    coalesce(least(m.grouped_on, m.identified_on, m.active_on), m.last_on),
    m.last_active_at, m.learnt_at
FROM unnest($1::text::bigint[]) AS n (user_key), LATERAL (
    SELECT * FROM scoring.memberships WHERE user_key = n.user_key OFFSET 0
) AS m
"""
# The last before the first event, those between the first and the last that say another account
# than the one before, the next after that: a product that states the account with each page has
# thousands of them, and they say the same. One of an account that the user does not belong to any
# more must not stand for the one before it. OFFSET: one by one by the index; the planner takes all
# users to be alike, and of one with thousands of both each call is compared with each account else.
_CALLS: Final = """
SELECT stated_at, account_id FROM scoring.group_calls AS g WHERE user_key = n.user_key
    AND EXISTS (SELECT FROM scoring.memberships AS m
        WHERE m.user_key = g.user_key AND m.account_id = g.account_id OFFSET 0)
"""
_GROUP_CALLS: Final = f"""
SELECT n.user_key, c.stated_at, c.account_id
FROM (SELECT user_key, {MOMENT.format("first")} AS first, {MOMENT.format("last")} AS last
    FROM unnest($1::text::bigint[], $2::text::bigint[], $3::text::bigint[])
        AS n (user_key, first, last)) AS n,
LATERAL (
    ({_CALLS} AND stated_at <= n.first ORDER BY stated_at DESC, account_id DESC LIMIT 1)
    UNION ALL (SELECT stated_at, account_id FROM (
        SELECT *, lag(account_id) OVER (ORDER BY stated_at, account_id) AS before
        FROM ({_CALLS} AND stated_at > n.first AND stated_at <= n.last) AS known
    ) AS those WHERE account_id IS DISTINCT FROM before)
    UNION ALL ({_CALLS} AND stated_at > n.last ORDER BY stated_at, account_id LIMIT 1)
) AS c
"""
