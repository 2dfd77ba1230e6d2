"""Rows to learn from and to test: what was logged of an account at a look, and what became of it.

Nothing is recomputed here: a row is what the sweep logged with what had arrived by then. The label
comes from all events, whenever they arrived: an account is lost if no day in (T, T + horizon] has
activity (`silence`), or if its contract ended then (`contract`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain import features, labels
from services.scoring.domain.activity import counts_as_activity
from services.scoring.domain.features import Rows
from services.scoring.domain.labels import RENEWAL_GRACE_DAYS, Dated, Definition, Evidence
from services.scoring.domain.table import COLUMNS, STATES, IndicatorTable
from services.scoring.evaluation.protocol import Eligible
from services.scoring.evaluation.replayed import Look
from services.scoring.measures import Lost
from shared.messages import AccountFields, UsageEvent

Labels: TypeAlias = Literal["true", "shuffled", "random"]
"""What is learnt and tested. Nothing can rank the second and third: who can has a leak."""

_SCORED: Final = STATES.index("scored")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshots:
    """Rows of all looks, in the order of T; the arrays are parallel.

    `table` holds the indicators, `features` the model's `(rows, features)`; `day` is the ordinal of
    T, `account` an index into `names`.
    """

    table: NDArray[np.float64]
    features: Rows
    lost: Lost
    day: NDArray[np.int64]
    account: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.lost)

    def column(self, name: str) -> NDArray[np.float64]:
        """One indicator `(rows,)`; NaN is "not known"."""
        values: NDArray[np.float64] = self.table[:, COLUMNS.index(name)]
        return values

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Snapshots":
        return replace(
            self,
            table=self.table[chosen],
            features=self.features[chosen],
            lost=self.lost[chosen],
            day=self.day[chosen],
            account=self.account[chosen],
        )


def take(
    looks: Sequence[Look],
    events: Iterable[UsageEvent],
    *,
    horizon_days: int,
    eligible: Eligible,
) -> Snapshots:
    """The rows of the accounts that take part, labelled by silence."""
    active = active_days(events)
    names = tuple(sorted(active))
    index = {name: number for number, name in enumerate(names)}
    tables, days, accounts = [], [], []
    for look in looks:
        chosen = _takes_part(look.table, eligible)
        tables.append(look.table.values[chosen])
        present = [one for one, takes in zip(look.accounts, chosen.tolist(), strict=True) if takes]
        day = look.day.toordinal()
        days += [day] * len(present)
        accounts += [index[name] for name in present]
    table = np.concatenate([*tables, np.empty((0, len(COLUMNS)))])
    day_of, account = np.array(days, np.int64), np.array(accounts, np.int64)
    used = Dated(
        owner=np.repeat(np.arange(len(names)), [len(active[name]) for name in names]),
        day=np.concatenate([*(active[name] for name in names), np.empty(0, np.int64)]),
    )
    found = _labels(account, day_of, horizon_days, "silence", active=used)
    return Snapshots(
        table=table,
        features=features.rows(IndicatorTable(date.min, table)),
        lost=found.lost,
        day=day_of,
        account=account,
        names=names,
    )


def active_days(events: Iterable[UsageEvent]) -> dict[str, NDArray[np.int64]]:
    """Each account's active days over the whole file, ascending ordinals."""
    days: defaultdict[str, set[int]] = defaultdict(set)
    for event in events:
        if counts_as_activity(event.type):
            days[event.account].add(event.occurred_at.toordinal())
    return {account: np.array(sorted(those), np.int64) for account, those in days.items()}


def main_features(events: Iterable[UsageEvent]) -> dict[str, str]:
    """The product feature that each account used most; accounts without any are absent."""
    used: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for event in events:
        feature = event.properties.get("feature")
        if isinstance(feature, str):
            used[event.account][feature] += 1
    return {
        account: max(sorted(counts), key=counts.__getitem__) for account, counts in used.items()
    }


def with_labels(snapshots: Snapshots, wanted: Labels) -> Snapshots:
    """The rows with outcomes that have nothing to do with them, where that is asked for."""
    generator = np.random.default_rng(0)
    match wanted:
        case "shuffled":
            return replace(snapshots, lost=generator.permutation(snapshots.lost))
        case "random":
            base = snapshots.lost.mean() if len(snapshots) else 0.0
            return replace(snapshots, lost=generator.random(len(snapshots)) < base)
        case "true":
            return snapshots


def contract_ends(directory: Mapping[str, AccountFields], last: date) -> dict[str, int | None]:
    """When each account that has contract dates was lost, an ordinal; None: it was not.

    By `churned_at`, else 30 days after a contract's end that nobody renewed until `last`.
    """
    ends: dict[str, int | None] = {}
    for account, fields in directory.items():
        if fields.churned_at is not None:
            ends[account] = fields.churned_at.toordinal()
        elif fields.contract_end is not None:
            due = fields.contract_end.toordinal() + RENEWAL_GRACE_DAYS
            ends[account] = due if due <= last.toordinal() else None
        elif fields.contract_start is not None:
            ends[account] = None
    return ends


def by_contract(
    snapshots: Snapshots, ends: Mapping[str, int | None], horizon_days: int
) -> Snapshots:
    """The rows of accounts with contract dates that were not lost yet, labelled by these."""
    known = np.array([name in ends for name in snapshots.names], np.bool_)
    lost = [(owner, day) for owner, name in enumerate(snapshots.names) if (day := ends.get(name))]
    whose, when = np.array(lost, np.int64).reshape(-1, 2).T
    found = _labels(
        snapshots.account,
        snapshots.day,
        horizon_days,
        "contract",
        churned=Dated(owner=whose, day=when),
    )
    return replace(snapshots, lost=found.lost).where(known[snapshots.account] & ~found.gone)


def _takes_part(table: IndicatorTable, eligible: Eligible) -> NDArray[np.bool_]:
    if eligible == "scored":
        scored: NDArray[np.bool_] = table.column("state") == _SCORED
        return scored
    ever: NDArray[np.bool_] = table.column("active_days_ever") > 0
    return ever


def _labels(
    account: NDArray[np.int64],
    day: NDArray[np.int64],
    horizon_days: int,
    definition: Definition,
    *,
    active: Dated = labels.NOTHING,
    churned: Dated = labels.NOTHING,
) -> labels.Labels:
    """By the rules of training; which rows are closed is the protocol's to say."""
    evidence = Evidence(
        known_until=0,
        active=active,
        churned=churned,
        terms=labels.NO_TERMS,
        cancellations=labels.NO_CANCELLATIONS,
        outcomes_churned=labels.NOTHING,
        outcomes_saved=labels.NOTHING,
    )
    return labels.label(evidence, account, day, horizon_days=horizon_days, definition=definition)
