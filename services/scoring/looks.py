"""One look at a chunk of accounts, in the caller's transaction: read, assess, write.

Computing is done in a thread: it must not stop the event loop, which reads for another chunk and
takes events in meanwhile.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, TypeAlias

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring import explanations, feature_log, flag_store, score_store, usage_store
from services.scoring.day_sets import DaySets
from services.scoring.domain.assessment import (
    Assessed,
    FlagChange,
    Known,
    Standard,
    assess,
    changes,
    staged,
)
from services.scoring.domain.flags.conditions import candidates
from services.scoring.domain.flags.states import USAGE_FLAGS, FlagState, Why
from services.scoring.domain.indicators import measure
from services.scoring.domain.risk import BANDS
from services.scoring.domain.staleness import Freshness
from services.scoring.domain.table import STATES
from services.scoring.domain.usage import Floats, Integers, Usage, directory_of, microseconds
from services.scoring.explanations import Scored
from services.scoring.feature_log import Kind, LoggedRow
from services.scoring.flag_events import flag_event
from services.scoring.usage_store import Scope, Stored, Truths
from shared import traceparent
from shared.database import driver
from shared.messages import FlagEvent, FlagReason, Reason
from shared.traceparent import Traceparent

States: TypeAlias = Mapping[str, Mapping[FlagReason, FlagState]]

_SCORED: Final = STATES.index("scored")
_CLOCKS_DIFFER: Final = 5 * 60 * 10**6  # microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When accounts are looked at, by what they are judged, and which data can be trusted.

    `log_at`: this is a day on which every account is logged; the rows are as of that moment.
    """

    now: datetime
    standard: Standard
    freshness: Freshness
    log_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a look has done; `raised` are the accounts of which a flag was raised."""

    assessed: Assessed
    new: Collection[str]
    sent: Sequence[tuple[FlagReason, str]]
    raised: Collection[str]
    stale: int


class Looks:
    """Looks at accounts; remembers which sets of sources and features their days have."""

    def __init__(self) -> None:
        self._sets = DaySets()

    async def look(
        self,
        connection: AsyncConnection,
        scope: Scope,
        moment: Moment,
        traces: Mapping[str, Traceparent],
        received: Mapping[str, datetime],
    ) -> Seen:
        """Score the accounts of the scope and write what was found.

        `traces`, `received`: of the events that are why, by account; what time alone changes has a
        trace of ours, and was due at midnight.
        """
        connected = await driver(connection)
        known = await score_store.read_known(connection, scope, moment.now)
        stored = await usage_store.read_stored(
            connected, scope, moment.now.astimezone(UTC).date(), self._sets
        )
        states = await flag_store.read_states(
            connection, scope.shard, None if scope.shard is not None else scope.accounts
        )
        usage, assessed, found = await asyncio.to_thread(_assess, stored, known, states, moment)
        version = moment.standard.model.version
        # Before anybody is told why: the reasons compare with them, now and whenever asked again.
        before = await self._a_year_before(connection, usage, assessed, moment)
        await feature_log.log_rows(connection, before, model_version=version)
        reasons = await _explain(connection, assessed, found, moment)
        found |= {
            index: changes(
                assessed,
                index,
                states.get(known.accounts[index], {}),
                why,
                moment.standard.rules,
                moment.now,
            )
            for index, why in reasons.items()
        }
        saved = await _save_flags(connection, assessed, found, traces, received, moment.now)
        stage, stage_since = staged(assessed, _expanding(known.accounts, states, found), moment.now)
        await score_store.save_scores(
            connection,
            assessed,
            stage,
            stage_since,
            model_version=version,
            cohort_ratio=moment.standard.cohort_ratio,
            now=moment.now,
        )
        rows = await asyncio.to_thread(_rows_to_log, assessed, moment)
        await feature_log.log_rows(connection, rows, model_version=version)
        never = np.flatnonzero(np.isnat(known.looked_at)).tolist()
        held = assessed.conditions.held_count
        return Seen(
            assessed=assessed,
            new=[known.accounts[index] for index in never],
            sent=saved,
            raised=[
                known.accounts[index]
                for index, each in found.items()
                for one in each
                if one.decision.change == "raised"
            ],
            stale=sum(held(reason).get(Why.DATA_STALE, 0) for reason in USAGE_FLAGS),
        )

    async def _a_year_before(
        self, connection: AsyncConnection, usage: Usage, assessed: Assessed, moment: Moment
    ) -> list[LoggedRow]:
        """What accounts with loaded history looked like a year before their first score."""
        now = moment.now - feature_log.YEAR
        first = np.fmin(_first_days(usage), usage.first_deleted)
        is_scored = assessed.table.column("state") == _SCORED
        old = np.isnat(assessed.known.looked_at) & is_scored & (first < now.toordinal())
        chosen = np.flatnonzero(old).tolist()
        if not chosen:
            return []
        names = [assessed.known.accounts[index] for index in chosen]
        fields = [assessed.known.fields[index] for index in chosen]
        stored = await usage_store.read_stored(
            await driver(connection),
            Scope(accounts=names),
            now.astimezone(UTC).date(),
            self._sets,
        )
        table = await asyncio.to_thread(
            lambda: measure(usage_store.usage_of(stored), directory_of(fields), now)
        )
        as_of = datetime(now.year, now.month, now.day, tzinfo=UTC)
        return [
            LoggedRow(
                account=name,
                as_of=as_of,
                kind=Kind.RECOMPUTED,
                indicators=packed,
                risk=None,
                band=None,
                fields=its_fields,
            )
            for name, packed, its_fields in zip(names, table.packed(), fields, strict=True)
        ]


def _assess(
    stored: Stored, known: Known, states: States, moment: Moment
) -> tuple[Usage, Assessed, dict[int, tuple[FlagChange, ...]]]:
    """What is found, and what becomes of the flags of the accounts that rules point at."""
    usage = _by_our_clock(usage_store.usage_of(stored), moment.now)
    rules = moment.standard.rules
    assessed = assess(
        usage,
        known,
        moment.standard,
        moment.now,
        outages=moment.freshness.outages,
        stale=moment.freshness.stale(usage, rules.staleness),
    )
    has_state = np.fromiter(
        (name in states for name in known.accounts), np.bool_, len(known.accounts)
    )
    found = {}
    for index in candidates(assessed.conditions, has_state).tolist():
        own = states.get(known.accounts[index], {})
        decided = changes(assessed, index, own, (), rules, moment.now)
        if decided:
            found[index] = decided
    return usage, assessed, found


def _expanding(
    accounts: Sequence[str], states: States, found: Mapping[int, tuple[FlagChange, ...]]
) -> Truths:
    """The accounts `(accounts,)` whose flag `expansion_ready` is up after the look."""
    reason = FlagReason.EXPANSION_READY
    ready = {account for account, own in states.items() if reason in own and own[reason].is_raised}
    is_up = np.fromiter((name in ready for name in accounts), np.bool_, len(accounts))
    for index, each in found.items():
        for one in each:
            if one.decision.reason is reason:
                is_up[index] = one.decision.state.is_raised
    return is_up


def _by_our_clock(usage: Usage, now: datetime) -> Usage:
    """Signals that a faster clock dates a little after now, as of now.

    Nobody would look again before midnight, and a request to cancel cannot wait.
    """
    signals, moment = usage.signals, microseconds(now)
    is_ahead = (signals.at > moment) & (signals.at <= moment + _CLOCKS_DIFFER)
    if not is_ahead.any():
        return usage
    return replace(usage, signals=replace(signals, at=np.where(is_ahead, moment, signals.at)))


async def _explain(
    connection: AsyncConnection,
    assessed: Assessed,
    found: Mapping[int, tuple[FlagChange, ...]],
    moment: Moment,
) -> dict[int, tuple[Reason, ...]]:
    """The reasons of the risks that flags are about to tell of."""
    told = [
        index
        for index, each in found.items()
        if not np.isnan(assessed.risk[index])
        and any(
            one.decision.reason is FlagReason.CHURN_RISK and one.decision.change is not None
            for one in each
        )
    ]
    known = assessed.known
    explained = await explanations.explain(
        connection,
        [
            Scored(
                account=known.accounts[index],
                as_of=moment.now,
                segment=known.fields[index].segment,
                row=assessed.features[index],
            )
            for index in told
        ],
        moment.standard.model,
        moment.standard.cohorts,
    )
    return {index: why.reasons for index, why in zip(told, explained, strict=True)}


async def _save_flags(
    connection: AsyncConnection,
    assessed: Assessed,
    found: Mapping[int, tuple[FlagChange, ...]],
    traces: Mapping[str, Traceparent],
    received: Mapping[str, datetime],
    now: datetime,
) -> Sequence[tuple[FlagReason, str]]:
    by_time = traceparent.begun()
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    stated = [
        flag_store.FlagChange(
            account=assessed.known.accounts[index],
            decision=one.decision,
            event=_event(
                assessed,
                index,
                one,
                now,
                received_at=received.get(assessed.known.accounts[index], midnight),
            ),
            traceparent=traces.get(assessed.known.accounts[index], by_time),
        )
        for index, each in found.items()
        for one in each
    ]
    return (await flag_store.save(connection, stated, now)).sent


def _event(
    assessed: Assessed, index: int, change: FlagChange, now: datetime, *, received_at: datetime
) -> FlagEvent | None:
    if change.decision.change is None:
        return None
    risk = float(assessed.risk[index])
    return flag_event(
        assessed.known.accounts[index],
        change.decision,
        as_of=now,
        received_at=received_at,
        band=change.band,
        risk=None if np.isnan(risk) else risk,
        value=change.value,
        renewal=change.renewal,
        summary=change.summary,
    )


def _rows_to_log(assessed: Assessed, moment: Moment) -> list[LoggedRow]:
    """Every scored account on the first look of a day of the log; whose band has changed, now."""
    known, now = assessed.known, moment.now
    scored = assessed.table.column("state") == _SCORED
    changed = scored & ~np.isnat(known.looked_at) & (assessed.bands.code != known.bands.code)
    chosen = [(Kind.BAND_CHANGE, now, changed)]
    if moment.log_at is not None:
        start = np.datetime64(moment.log_at.replace(tzinfo=None), "us")
        is_first = np.isnat(known.looked_at) | (known.looked_at < start)
        chosen.append((Kind.WEEKLY, moment.log_at, scored & is_first))
    rows = []
    for kind, as_of, mask in chosen:
        places: Integers = np.flatnonzero(mask)
        packed = assessed.table.where(places).packed()
        risks, codes = assessed.risk[places].tolist(), assessed.bands.code[places].tolist()
        rows += [
            LoggedRow(
                account=known.accounts[index],
                as_of=as_of,
                kind=kind,
                indicators=row,
                risk=risk,
                band=BANDS[code],
                fields=known.fields[index],
            )
            for index, row, risk, code in zip(places.tolist(), packed, risks, codes, strict=True)
        ]
    return rows


def _first_days(usage: Usage) -> Floats:
    """Each account's first day of those that are kept `(accounts,)`; NaN: none."""
    first = np.full(usage.accounts, np.nan)
    owner, place = np.unique(usage.days.owner, return_index=True)
    first[owner] = usage.days.day[place]
    return first
