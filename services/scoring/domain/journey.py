"""How accounts move on their way: how many stand at each stage, for how long, who came and went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.scoring.domain.cuts import Truths
from services.scoring.domain.ledger import Ledger, LifeStage

MOVED_DAYS: Final = 90
_DAY: Final = 86_400_000_000  # microseconds
_FIRST: Final = (LifeStage.TRIAL, LifeStage.LAND)
"""Where a way begins. Who was somewhere else when first seen has not come there then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A stage: who is at it now, their median days there, and who came and left in 90 days.

    `median_days` None: nobody is. Who moves twice counts twice.
    """

    stage: LifeStage
    accounts: int
    median_days: float | None
    entered: int
    left: Mapping[LifeStage, int]


def journey(ledger: Ledger, chosen: Truths) -> Sequence[Standing]:
    """Of the chosen accounts `(accounts,)`, stage by stage, in the order of the way."""
    stages, today = ledger.stages, ledger.today
    days = (ledger.as_of - today.stage_since) // _DAY
    follows = np.zeros(len(stages.account), np.bool_)
    follows[1:] = stages.account[1:] == stages.account[:-1]
    came_from = np.where(follows, np.roll(stages.stage, 1), 0)
    begins = ~follows & np.isin(stages.stage, _FIRST)
    recent = (stages.since > ledger.as_of - MOVED_DAYS * _DAY) & (stages.since <= ledger.as_of)
    moved = recent & chosen[stages.account] & (follows | begins) & (came_from != stages.stage)
    moves = np.zeros((len(LifeStage) + 1, len(LifeStage) + 1), np.int64)
    np.add.at(moves, (came_from[moved], stages.stage[moved]), 1)
    found = []
    for stage in LifeStage:
        here = days[chosen & (today.stage == stage)]
        left = moves[stage].tolist()
        found.append(
            Standing(
                stage=stage,
                accounts=len(here),
                median_days=float(np.median(here)) if here.size else None,
                entered=int(moves[:, stage].sum()),
                left={to: left[to] for to in LifeStage if left[to]},
            )
        )
    return found
