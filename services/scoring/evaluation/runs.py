"""One run: read the files, replay them, evaluate what was logged, and what is told of it."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from services.scoring.domain.labels import DATED_SHARE
from services.scoring.domain.model import Model
from services.scoring.evaluation import snapshots as rows
from services.scoring.evaluation.account_file import read_accounts
from services.scoring.evaluation.event_file import EventFile, UnusableFile, read_events
from services.scoring.evaluation.protocol import Plan, Wishes, plan
from services.scoring.evaluation.rankings import SERVED
from services.scoring.evaluation.replay import replay
from services.scoring.evaluation.replayed import RaisedFlag, Replayed
from services.scoring.evaluation.results import ALL, USERS3, Evaluation, Measured, evaluate
from services.scoring.evaluation.scratch import scratch_database
from services.scoring.evaluation.snapshots import Labels, Snapshots
from services.scoring.measures import RESAMPLES
from shared.messages import AccountFields

YEARLY_CHURN: Final = 0.10
"""What a vendor expects without knowing better: the program's default."""
Stage = Callable[[str, int], None]
"""Told that a stage begins, and how many steps it has (0: nobody knows)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the caller wants; `database` names a PostgreSQL server, None brings one of its own."""

    events: Path
    accounts: Path | None = None
    wishes: Wishes = field(default_factory=Wishes)
    labels: Labels = "true"
    lag: timedelta = timedelta(0)
    database: str | None = None
    resamples: int = RESAMPLES


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    file: EventFile
    directory: Mapping[str, AccountFields]
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What the file holds."""

    name: str
    sha256: str
    events: int
    accounts: int
    users: int
    first: date
    last: date
    has_arrivals: bool
    has_times: bool
    replay_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagPrecision:
    """Flags of one reason that the sweep raised in the tested time; `lost`: then lost by the label,
    of the `tested` ones: those on accounts that took part at that look.
    """

    reason: str
    flags: int
    tested: int
    lost: float | None
    base: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    data: Data
    found: Evaluation
    by_contract: Mapping[str, Measured] | None
    """The served model's table by the labels of contracts, where there are some."""
    label: str
    flags: tuple[FlagPrecision, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return self.found.passed

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is not known is None, never NaN."""
        found = self.found
        measured = found.measured
        models = {
            model: {name: asdict(measured[name][model]) for name in (ALL, USERS3)}
            for model in measured[ALL]
        }
        content: dict[str, Any] = {
            "models": models,
            "gate": {
                "passed": found.passed,
                "lines": [asdict(line) for line in found.gate],
            },
            "data": asdict(self.data)
            | {
                "first": self.data.first.isoformat(),
                "last": self.data.last.isoformat(),
                "rows": found.rows,
                "accounts_taking_part": found.accounts,
                "lost": found.lost,
                "tested": measured[ALL][SERVED].rows,
            },
            "protocol": {
                "label": self.label,
                "looks": len(found.plan.days),
                "first_look": found.plan.days[0].isoformat(),
                "last_look": found.plan.days[-1].isoformat(),
                "horizon_days": found.plan.horizon_days,
                "eligible": found.plan.eligible,
                "prior_crossed": found.ranked.prior_crossed,
            },
            "slices": {name: _by_model(measured[name]) for name in found.slices},
            "periods": {name: _by_model(measured[name]) for name in found.periods},
            "by_contract": None if self.by_contract is None else _by_model(self.by_contract),
            "reliability": [asdict(one) for one in found.bins],
            "months": [asdict(one) for one in found.months],
            "alerts": {
                name: [asdict(one) for one in rules] for name, rules in found.alerts.items()
            },
            "flags": [asdict(one) for one in self.flags],
            "weights": [asdict(one) for one in found.weights],
            "notes": list(self.notes),
        }
        known = _without_nan(content)
        assert isinstance(known, dict)  # noqa: S101 - what went in comes out
        return known


def read_inputs(order: Order) -> Inputs:
    """The files and the looks at them; raises UnusableFile."""
    file = read_events(order.events, lag=order.lag)
    directory = {} if order.accounts is None else read_accounts(order.accounts)
    return Inputs(file=file, directory=directory, plan=plan(file, order.wishes))


async def replay_inputs(
    inputs: Inputs, database: str | None, progressed: Callable[[int], None]
) -> Replayed:
    """What the sweep logs at each look, on a database that is gone afterwards."""
    async with scratch_database(database) as url:
        return await replay(
            url,
            inputs.file.events,
            inputs.directory,
            inputs.plan.days,
            progressed,
            everyone=inputs.plan.eligible == "any",
        )


def evaluate_replayed(
    order: Order,
    inputs: Inputs,
    replayed: Replayed,
    *,
    prior: Model | None = None,
    replay_seconds: float = 0.0,
) -> Report:
    """The tables; `prior` as it is shipped, None leaves it out.

    Raises UnusableFile where nothing can be tested.
    """
    file, wanted = inputs.file, inputs.plan
    last = file.events[-1].received_at.date()
    silent = rows.take(
        replayed.looks, file.events, horizon_days=wanted.horizon_days, eligible=wanted.eligible
    )
    active = rows.active_days(file.events)
    ends = rows.contract_ends(inputs.directory, last)
    dated = sum(name in ends for name in active) / max(len(active), 1)
    contract = rows.by_contract(silent, ends, wanted.horizon_days)
    labelled = rows.with_labels(silent, order.labels)

    def found_by(labels: Snapshots, resamples: int) -> Evaluation:
        return evaluate(
            labels,
            wanted,
            prior,
            main=rows.main_features(file.events),
            active=active,
            directory=inputs.directory,
            last=last,
            yearly_churn=YEARLY_CHURN,
            resamples=resamples,
        )

    found = found_by(labelled, order.resamples)
    other = None
    if dated >= DATED_SHARE and order.labels == "true":
        try:
            other = found_by(contract, order.resamples).measured[ALL]
        except UnusableFile:
            other = None
    return Report(
        data=_data(order, file, replay_seconds),
        found=found,
        by_contract=other,
        label="silence" if order.labels == "true" else order.labels,
        flags=_flag_precision(replayed.flags, found.tested),
        notes=tuple(_notes(file, found, dated=dated, contracts=other is not None)),
    )


def stopwatch() -> Callable[[], float]:
    """Seconds since it was made."""
    started = time.monotonic()
    return lambda: time.monotonic() - started


def _data(order: Order, file: EventFile, replay_seconds: float) -> Data:
    return Data(
        name=order.events.name,
        sha256=file.sha256,
        events=len(file.events),
        accounts=len({event.account for event in file.events}),
        users=len({event.user for event in file.events if event.user}),
        first=file.events[0].received_at.date(),
        last=file.events[-1].received_at.date(),
        has_arrivals=file.has_arrivals,
        has_times=file.has_times,
        replay_seconds=replay_seconds,
    )


def _notes(file: EventFile, found: Evaluation, *, dated: float, contracts: bool) -> Sequence[str]:
    notes = []
    if not file.has_arrivals:
        notes.append(
            "no arrival times: events count as received"
            f" {file.lag.days} days after they happened; compare with no file that has them"
        )
    if found.plan.eligible == "any":
        notes.append("every account that was ever active takes part, also those with no risk yet")
    if found.ranked.prior_crossed:
        notes.append(
            "the prior was fitted on this file: tested are prior weights of the other products'"
            " accounts, standardised without labels"
        )
    lost = found.lost
    if lost < 200:
        notes.append(f"{lost} losses are few: read the intervals, not the figures")
    if 0 < dated < DATED_SHARE:
        notes.append(
            f"{dated:.0%} of the accounts have contract dates: too few to say who was lost"
        )
    if dated >= DATED_SHARE and not contracts:
        notes.append("by their contracts no loss can be tested")
    return notes


def _flag_precision(raised: Sequence[RaisedFlag], tested: Snapshots) -> tuple[FlagPrecision, ...]:
    first, last = int(tested.day.min()), int(tested.day.max())
    label = {
        (tested.names[account], day): lost
        for account, day, lost in zip(
            tested.account.tolist(), tested.day.tolist(), tested.lost.tolist(), strict=True
        )
    }
    counts: Counter[str] = Counter()
    known: dict[str, list[bool]] = {}
    for flag in raised:
        # A look comes at the midnight after its day T.
        day = (flag.raised_at.astimezone(UTC) - timedelta(days=1)).date().toordinal()
        if not first <= day <= last:
            continue
        counts[flag.reason] += 1
        if (flag.account, day) in label:
            known.setdefault(flag.reason, []).append(label[flag.account, day])
    return tuple(
        FlagPrecision(
            reason=reason,
            flags=count,
            tested=len(known.get(reason, [])),
            lost=float(np.mean(known[reason])) if reason in known else None,
            base=float(tested.lost.mean()),
        )
        for reason, count in sorted(counts.items())
    )


def _by_model(measured: Mapping[str, Measured]) -> dict[str, dict[str, Any]]:
    return {model: asdict(one) for model, one in measured.items()}


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
