"""Scoring's SQL of flags: where each rule stands, the episodes, and what leaves or waits.

Rows are written and locked in the order of account and reason, so that a sweep and a release never
wait for each other in a circle.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg
import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.domain.flags.states import (
    NEVER_RAISED,
    USAGE_FLAGS,
    Decision,
    FlagState,
    Why,
)
from services.scoring.flag_events import as_raised
from services.scoring.store import shard_of
from services.scoring.tables import outbox
from shared import outbox as outboxes
from shared import traceparent
from shared.database import driver
from shared.log import Record
from shared.messages import FLAGS, Band, Flag, FlagEvent, FlagReason, encode
from shared.traceparent import Traceparent

_ANCHOR: Final = msgspec.json.Decoder(dict[str, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagChange:
    """A decision about one account; `event` is what it says to others, None where nothing."""

    account: str
    decision: Decision
    event: FlagEvent | None
    traceparent: Traceparent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What became of the changes: `sent` as reason and change; `waiting` for the storm guard."""

    sent: Sequence[tuple[FlagReason, str]] = ()
    waiting: int = 0
    held_back: Sequence[Why] = ()


async def read_states(
    connection: AsyncConnection, shard: int | None, accounts: Sequence[str] | None = None
) -> dict[str, dict[FlagReason, FlagState]]:
    """Where the rules stand of these accounts, or of all of the shard; idle ones are absent.

    Accounts of several shards may be asked for; `shard` is needed only without any.
    """
    connected = await driver(connection)
    if accounts is None:
        rows = await connected.fetch(f"{_READ_STATES} WHERE shard = $1", shard)
    else:
        rows = await connected.fetch(
            f"{_READ_STATES} WHERE account_id = ANY($1::text[])", list(accounts)
        )
    states: dict[str, dict[FlagReason, FlagState]] = {}
    for row in rows:
        states.setdefault(row["account_id"], {})[FlagReason(row["reason"])] = _state(row)
    return states


_READ_STATES = (
    "SELECT account_id, reason, episode, raised_at, wanted_since, over_since, band,"
    " anchor::text"
    " FROM scoring.flag_states"
)


def _state(row: asyncpg.Record) -> FlagState:
    return FlagState(
        episode=row["episode"],
        raised_at=row["raised_at"],
        wanted_since=row["wanted_since"],
        over_since=row["over_since"],
        band=None if row["band"] is None else Band(row["band"]),
        anchor={} if row["anchor"] is None else _ANCHOR.decode(row["anchor"]),
    )


async def save(connection: AsyncConnection, changes: Iterable[FlagChange], now: datetime) -> Saved:
    """Write states and episodes, and let out what nobody has to wait for.

    A usage flag that is raised waits: the storm guard lets it out at the end of the round, when it
    is known how many there are. What happens meanwhile to a flag that waits changes its message;
    if it ends, nobody ever hears of it.
    """
    ordered = sorted(changes, key=lambda one: (one.account, one.decision.reason))
    await _save_states(connection, ordered)
    told = [
        _Told(one.event, one.decision.why, one.traceparent)
        for one in ordered
        if one.event is not None
    ]
    raised = [one for one in told if one.flag.change == "raised"]
    changed = [one for one in told if one.flag.change != "raised"]
    untold = await _lock_untold(connection, changed)
    await _insert_episodes(connection, raised, now)
    await _update_episodes(connection, changed, untold, now)
    leaving = [
        one
        for one in told
        if (not one.is_guarded if one.flag.change == "raised" else one.key not in untold)
    ]
    await put(connection, [(one.event, one.traceparent) for one in leaving])
    return Saved(
        sent=[(one.flag.reason, one.flag.change) for one in leaving],
        waiting=sum(one.is_guarded for one in raised),
        held_back=[one.decision.why for one in ordered if one.event is None],
    )


async def put(
    connection: AsyncConnection, events: Sequence[tuple[FlagEvent, Traceparent | None]]
) -> None:
    """Let the messages leave with the caller's transaction, each with its trace."""
    records = [
        Record(key=one.subject.encode(), value=encode(one), headers=traceparent.headers_of(trace))
        for one, trace in events
    ]
    await outboxes.put(connection, outbox, FLAGS, records)


async def _save_states(connection: AsyncConnection, ordered: Sequence[FlagChange]) -> None:
    connected = await driver(connection)
    kept = [one for one in ordered if one.decision.state != NEVER_RAISED]
    gone = [one for one in ordered if one.decision.state == NEVER_RAISED]
    if gone:
        await connected.execute(
            "DELETE FROM scoring.flag_states AS s"
            " USING unnest($1::text[], $2::text[]) AS n (account_id, reason)"
            " WHERE s.account_id = n.account_id AND s.reason = n.reason",
            [one.account for one in gone],
            [one.decision.reason for one in gone],
        )
    if kept:
        states = [one.decision.state for one in kept]
        await connected.execute(
            _SAVE_STATES,
            [one.account for one in kept],
            [one.decision.reason for one in kept],
            [shard_of(one.account) for one in kept],
            [state.episode for state in states],
            [state.raised_at for state in states],
            [state.wanted_since for state in states],
            [state.over_since for state in states],
            [state.band for state in states],
            [
                msgspec.json.encode(state.anchor).decode() if state.anchor else None
                for state in states
            ],
        )


# A state that stays as it is (a rule that is held back, day after day) is not written again.
_SAVE_STATES = """
INSERT INTO scoring.flag_states AS s
    (account_id, reason, shard, episode, raised_at, wanted_since, over_since, band, anchor)
SELECT account_id, reason, shard, episode, raised_at, wanted_since, over_since, band, anchor::jsonb
FROM unnest($1::text[], $2::text[], $3::smallint[], $4::int[], $5::timestamptz[], $6::timestamptz[],
    $7::timestamptz[], $8::text[], $9::text[])
    AS n (account_id, reason, shard, episode, raised_at, wanted_since, over_since, band, anchor)
ON CONFLICT (account_id, reason) DO UPDATE SET
    (episode, raised_at, wanted_since, over_since, band, anchor) = (EXCLUDED.episode,
        EXCLUDED.raised_at, EXCLUDED.wanted_since, EXCLUDED.over_since, EXCLUDED.band,
        EXCLUDED.anchor)
WHERE (s.episode, s.raised_at, s.wanted_since, s.over_since, s.band, s.anchor)
    IS DISTINCT FROM (EXCLUDED.episode, EXCLUDED.raised_at, EXCLUDED.wanted_since,
        EXCLUDED.over_since, EXCLUDED.band, EXCLUDED.anchor)
"""


async def _lock_untold(
    connection: AsyncConnection, changed: Sequence["_Told"]
) -> set[tuple[str, str]]:
    """Of these flags, those of which nobody has heard; a release waits until the transaction ends.

    They wait for the storm guard, are held by it, or were dropped by an admin.
    """
    if not changed:
        return set()
    rows = await (await driver(connection)).fetch(_LOCK_UNTOLD, *_keys(changed))
    return {(row["account_id"], row["reason"]) for row in rows if row["told_at"] is None}


_LOCK_UNTOLD = """
SELECT f.account_id, f.reason, f.told_at FROM scoring.flags AS f
JOIN unnest($1::text[], $2::text[], $3::int[]) AS n (account_id, reason, episode)
    USING (account_id, reason, episode)
ORDER BY f.account_id, f.reason FOR UPDATE OF f
"""


async def _insert_episodes(
    connection: AsyncConnection, raised: Sequence["_Told"], now: datetime
) -> None:
    if raised:
        await (await driver(connection)).execute(
            _INSERT_EPISODES,
            *_keys(raised),
            *_contents(raised),
            now,
            [one.flag.flag_id for one in raised],
            [one.flag.stage for one in raised],
            [encode(one.event) if one.is_guarded else None for one in raised],
            [one.traceparent for one in raised],
        )


_INSERT_EPISODES = """
INSERT INTO scoring.flags (account_id, reason, episode, flag_id, stage, raised_at, updated_at, band,
    risk, summary, evidence, why, told_at, message, traceparent)
SELECT account_id, reason, episode, flag_id, stage, $9::timestamptz, $9::timestamptz, band,
    risk, summary, evidence::jsonb, why, CASE WHEN message IS NULL THEN $9::timestamptz END,
    message, traceparent
FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::float8[], $6::text[], $7::text[],
    $8::text[], $10::text[], $11::text[], $12::bytea[], $13::text[])
    AS n (account_id, reason, episode, band, risk, summary, evidence, why, flag_id, stage, message,
        traceparent)
"""


async def _update_episodes(
    connection: AsyncConnection,
    changed: Sequence["_Told"],
    untold: set[tuple[str, str]],
    now: datetime,
) -> None:
    if changed:
        await (await driver(connection)).execute(
            _UPDATE_EPISODES,
            *_keys(changed),
            *_contents(changed),
            now,
            [one.flag.change == "cleared" for one in changed],
            [encode(as_raised(one.event)) if one.key in untold else None for one in changed],
        )


# What is still to be told once it is released is the newest: the message that waits is replaced.
_UPDATE_EPISODES = """
UPDATE scoring.flags AS f SET
    updated_at = $9::timestamptz,
    cleared_at = CASE WHEN n.is_over THEN $9::timestamptz END,
    band = n.band, risk = n.risk, summary = n.summary, evidence = n.evidence::jsonb, why = n.why,
    message = CASE WHEN f.message IS NOT NULL AND NOT n.is_over THEN n.message END
FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::float8[], $6::text[], $7::text[],
    $8::text[], $10::boolean[], $11::bytea[])
    AS n (account_id, reason, episode, band, risk, summary, evidence, why, is_over, message)
WHERE f.account_id = n.account_id AND f.reason = n.reason AND f.episode = n.episode
"""


@dataclass(frozen=True, slots=True)
class _Told:
    """A message and why its flag changed."""

    event: FlagEvent
    why: Why
    traceparent: Traceparent | None

    @property
    def flag(self) -> Flag:
        return self.event.data

    @property
    def key(self) -> tuple[str, str]:
        return self.flag.account, self.flag.reason

    @property
    def is_guarded(self) -> bool:
        return self.flag.reason in USAGE_FLAGS


def _keys(told: Sequence[_Told]) -> list[list[object]]:
    """The columns account, reason and episode."""
    flags = [one.flag for one in told]
    return [[f.account for f in flags], [f.reason for f in flags], [f.episode for f in flags]]


def _contents(told: Sequence[_Told]) -> list[list[object]]:
    """The columns band, risk, summary, evidence (as JSON) and why."""
    flags = [one.flag for one in told]
    return [
        [flag.band for flag in flags],
        [flag.risk for flag in flags],
        [flag.summary for flag in flags],
        [msgspec.json.encode(flag.reasons).decode() for flag in flags],
        [one.why for one in told],
    ]
