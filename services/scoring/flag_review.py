"""Today's accounts judged once more, for people: why a flag is up, and what other rules would do.

Reads what the sweep has stored and writes nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring import (
    flag_store,
    goal_store,
    model_store,
    outage_store,
    peer_store,
    score_store,
    surveys,
    usage_store,
)
from services.scoring.day_sets import DaySets
from services.scoring.domain import table
from services.scoring.domain.assessment import Known, base_rates
from services.scoring.domain.flags.conditions import Conditions, candidates, conditions
from services.scoring.domain.flags.facts import Bools, facts_of
from services.scoring.domain.flags.machine import decide, sight_of
from services.scoring.domain.flags.report import RuleReport, explain_flags
from services.scoring.domain.flags.states import (
    NEVER_RAISED,
    REASONS,
    USAGE_FLAGS,
    FlagState,
    Why,
)
from services.scoring.domain.goals import standing
from services.scoring.domain.peers import Cohorts, peers_of_training
from services.scoring.domain.risk import Bands, limits, next_bands
from services.scoring.domain.rules import Rules
from services.scoring.domain.staleness import freshness
from services.scoring.domain.usage import Floats, microseconds
from services.scoring.model_store import loaded
from services.scoring.store import SHARDS, shard_of
from services.scoring.usage_store import Scope
from shared.database import driver
from shared.messages import Band, FlagReason

EXAMPLES: Final = 5
_CHUNK: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFlag:
    """A flag that is up; `told_at` None: nobody has heard of it, since `held_at` if it is held."""

    account: str
    reason: FlagReason
    stage: str
    episode: int
    raised_at: datetime
    told_at: datetime | None
    held_at: datetime | None
    dropped_by: str | None
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountReview:
    """One account's rules as of its last look; `open` are its flags that are up."""

    account: str
    as_of: datetime
    band: Band | None
    risk: float | None
    data_stale: bool
    rules: tuple[RuleReport, ...]
    open: tuple[OpenFlag, ...]


@dataclass(slots=True, kw_only=True)
class Tally:
    """What rules would do to one flag over all accounts, at their last look.

    `raised_now` are up; of these `would_clear` at once, `would_clear_later` if nothing changes
    until the rule's days are over. The others `would_raise` at once, or would begin to wait.
    """

    raised_now: int = 0
    would_raise: int = 0
    would_wait: int = 0
    would_clear: int = 0
    would_clear_later: int = 0
    raised_examples: list[str] = field(default_factory=list)
    cleared_examples: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The tallies of all accounts; `storm`: what would be raised is so much that it is held."""

    accounts: int
    as_of: datetime | None
    flags: Mapping[FlagReason, Tally]
    storm: bool


async def review_account(
    connection: AsyncConnection, account: str, rules: Rules
) -> AccountReview | None:
    """How the rules see the account; None: it has not been scored."""
    judged = await _judge(connection, [account], rules, are_new=False)
    if judged is None:
        return None
    risk = float(judged.found.seen.facts.risk[0])
    sight = sight_of(judged.found, 0, judged.known.fields[0], judged.now)
    has_band = not np.isnan(risk)
    return AccountReview(
        account=account,
        as_of=judged.now,
        band=sight.band if has_band else None,
        risk=risk if has_band else None,
        data_stale=bool(judged.found.seen.facts.stale[0]),
        rules=explain_flags(judged.states.get(account, {}), judged.found, 0, sight, rules),
        open=tuple(await read_open(connection, account=account)),
    )


async def preview(connection: AsyncConnection, rules: Rules) -> Preview:
    """What the next look would do to all accounts by these rules, if nothing else had changed."""
    tallies = {reason: Tally() for reason in REASONS}
    accounts, as_of = 0, None
    async for names in _scored(connection):
        judged = await _judge(connection, names, rules, are_new=True)
        if judged is None:
            continue
        accounts += len(judged.known.accounts)
        as_of = judged.now if as_of is None else max(as_of, judged.now)
        # In a thread: the read API, and perhaps all else of this process, goes on meanwhile.
        await asyncio.to_thread(_count, tallies, judged, rules)
    raised = sum(tallies[reason].would_raise for reason in USAGE_FLAGS)
    guard = rules.storm_guard
    return Preview(
        accounts=accounts,
        as_of=as_of,
        flags=tallies,
        storm=raised > guard.accounts_over and raised > guard.share_over * accounts,
    )


async def read_open(
    connection: AsyncConnection,
    *,
    account: str | None = None,
    held: bool = False,
    limit: int | None = None,
) -> list[OpenFlag]:
    """Flags that are up, the newest first."""
    rows = await (await driver(connection)).fetch(_READ_OPEN, account, held, limit)
    return [
        OpenFlag(
            account=row["account_id"],
            reason=FlagReason(row["reason"]),
            stage=row["stage"],
            episode=row["episode"],
            raised_at=row["raised_at"],
            told_at=row["told_at"],
            held_at=row["held_at"] if row["is_waiting"] else None,
            dropped_by=None if row["told_at"] or row["is_waiting"] else row["released_by"],
            summary=row["summary"],
        )
        for row in rows
    ]


_READ_OPEN: Final = """
SELECT account_id, reason, stage, episode, raised_at, told_at, held_at, released_by, summary,
    message IS NOT NULL AS is_waiting
FROM scoring.flags
WHERE cleared_at IS NULL AND ($1::text IS NULL OR account_id = $1)
    AND (NOT $2::boolean OR (message IS NOT NULL AND held_at IS NOT NULL))
ORDER BY raised_at DESC, account_id, reason LIMIT $3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    known: Known
    now: datetime
    found: Conditions
    states: Mapping[str, Mapping[FlagReason, FlagState]]


async def _judge(
    connection: AsyncConnection, names: Sequence[str], rules: Rules, *, are_new: bool
) -> _Judged | None:
    """The accounts as of their last look; `are_new`: the rules have not been in force yet.

    Then the bands are those that these rules would give, with what the bands remember.
    """
    rows = await (await driver(connection)).fetch(
        _READ_SCORES, [shard_of(name) for name in names], names, table.columns_hash()
    )
    if not rows:
        return None
    accounts = [row["account_id"] for row in rows]
    now = max(row["as_of"] for row in rows)
    known = await score_store.read_known(connection, Scope(accounts=accounts), now)
    seen = table.unpack(
        now.astimezone(UTC).date() - timedelta(days=1), [row["indicators"] for row in rows]
    )
    risk = np.array([row["risk"] for row in rows], np.float64)  # None becomes NaN
    bands = known.bands
    if are_new:
        bands = await _bands(connection, known, risk, rules, now)
    facts = facts_of(
        known.fields,
        seen.as_of,
        severity=bands.code,
        risk=risk,
        stale=await _stale(connection, accounts, rules, now),
        goals=standing(
            known.fields,
            await goal_store.read_of_those_with_goals(connection, accounts, known.fields),
            as_of=seen.as_of,
            now=microseconds(now),
        ),
        milestones_used=await surveys.has_milestones(connection),
    )
    return _Judged(
        known=known,
        now=now,
        found=await asyncio.to_thread(conditions, seen, facts, rules),
        states=await flag_store.read_states(connection, None, accounts),
    )


_READ_SCORES: Final = """
SELECT account_id, as_of, risk, indicators FROM scoring.scores
JOIN unnest($1::smallint[], $2::text[]) AS n (shard, account_id) USING (shard, account_id)
WHERE columns = $3 ORDER BY account_id
"""


async def _bands(
    connection: AsyncConnection, known: Known, risk: Floats, rules: Rules, now: datetime
) -> Bands:
    model = loaded(await model_store.read_active(connection))
    if model is None:
        return known.bands
    survey = await peer_store.read_newest(connection, model.version)
    cohorts: Cohorts = {None: peers_of_training(model)}
    if survey is not None:
        cohorts = survey.cohorts
    segments = [one.segment for one in known.fields]
    bounds = limits(rules, segments, base_rates(model, cohorts, segments))
    return next_bands(known.bands, risk, bounds, now)


async def _stale(
    connection: AsyncConnection, accounts: Sequence[str], rules: Rules, now: datetime
) -> Bools | None:
    found = freshness(await outage_store.read_outages(connection), now, rules.staleness)
    if not found.is_stale:
        return None
    connected = await driver(connection)
    stored = await usage_store.read_stored(
        connected, Scope(accounts=accounts), now.astimezone(UTC).date(), DaySets()
    )
    return found.stale(usage_store.usage_of(stored), rules.staleness)


async def _scored(connection: AsyncConnection) -> AsyncIterator[list[str]]:
    connected = await driver(connection)
    for shard in range(SHARDS):
        after = ""
        while names := [
            row[0]
            for row in await connected.fetch(
                "SELECT account_id FROM scoring.scores WHERE shard = $1 AND account_id > $2"
                " ORDER BY account_id LIMIT $3",
                shard,
                after,
                _CHUNK,
            )
        ]:
            yield names
            after = names[-1]


def _count(tallies: Mapping[FlagReason, Tally], judged: _Judged, rules: Rules) -> None:
    accounts = judged.known.accounts
    has_state = np.array([name in judged.states for name in accounts], np.bool_)
    for index in candidates(judged.found, has_state).tolist():
        account = accounts[index]
        states = judged.states.get(account, {})
        for reason, state in states.items():
            tallies[reason].raised_now += state.is_raised
        sight = sight_of(judged.found, index, judged.known.fields[index], judged.now)
        for decision in decide(states, judged.found, index, sight, rules):
            tally = tallies[decision.reason]
            was_raised = states.get(decision.reason, NEVER_RAISED).is_raised
            waits = decision.change is None and decision.why is Why.NOT_LONG_ENOUGH
            tally.would_wait += waits and not was_raised
            tally.would_clear_later += waits and was_raised
            if decision.change == "raised":
                tally.would_raise += 1
                _add(tally.raised_examples, account)
            elif decision.change == "cleared":
                tally.would_clear += 1
                _add(tally.cleared_examples, account)


def _add(examples: list[str], account: str) -> None:
    if len(examples) < EXAMPLES:
        examples.append(account)
