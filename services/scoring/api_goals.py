"""The read API of success goals: one account's, and what became of all of them by any cut."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from math import isnan
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from fastapi import FastAPI, Query, Response

from services.scoring import goal_store
from services.scoring.api_sources import (
    Account,
    Sources,
    Wanted,
    answer,
    filters_of,
    moment,
    refused,
)
from services.scoring.domain.cuts import Cut, Truths, matching, parts
from services.scoring.domain.goal_figures import NO_PART, figures
from services.scoring.domain.goals import STATES, Standing, standing
from services.scoring.domain.ledger import UNKNOWN, Ledger
from services.scoring.domain.usage import Floats, Integers, microseconds
from services.scoring.explanations import last_complete_day
from services.scoring.openapi import answers
from services.scoring.promises import Promises
from shared.messages import Goal

_MOST_PARTS: Final = 500

_Due = Annotated[date | None, Query(alias="from", description="goals due on that day or later")]
_DueBefore = Annotated[date | None, Query(alias="to", description="goals due before that day")]


def add_goals(app: FastAPI, sources: Sources) -> None:
    promises = Promises(lambda: sources.read(goal_store.read_agreed), sources.clock)

    @app.get("/v1/goals", responses=answers("goals"), tags=["goals"])
    async def read_goals(
        wanted: Wanted, by: Cut = Cut.WHOLE, first: _Due = None, end: _DueBefore = None
    ) -> Response:
        """What became of the customers' goals, as a whole and by a cut, as accounts are cut now.

        Each goal counts once. `mean_improvement` is the mean of what its metric is better than its
        baseline; `top_improvement` that of the best tenth; goals without values, or from a
        baseline of 0, are in neither. `success_rate` is `reached` of all that have values; null of
        fewer than 10 accounts. With `from` or `to`, goals without a day are left out.
        """
        if first is not None and end is not None and first >= end:
            raise refused(422, "invalid_range", "`from` must be before `to`")
        ledger = await sources.ledger()
        promised = await promises.current()

        def compute() -> dict[str, Any]:
            place = promises.places(promised, ledger.accounts)
            part, keys = _part(ledger, place[promised.standing.goals.owner], by, wanted)
            part[~_Span(first, end).holds(promised.standing.goals.due)] = NO_PART
            return {"as_of": moment(ledger.as_of), **_cut(promised.standing, part, keys)}

        question = ("goals", promised.read_at, by, first, end, filters_of(wanted))
        return await sources.tell(ledger, question, compute)

    # Before the account itself: an id may hold slashes.
    @app.get("/v1/accounts/{account:path}/goals", responses=answers("promises"), tags=["goals"])
    async def read_promises(account: Account) -> Response:
        """The account's goals with how each stands, and the values of its metric.

        `improvement` is by how much of the baseline the newest value is better,
        `target_improvement` what was promised; null where the baseline is 0. `attained` is the
        share of the way that has been made, `expected_now` the share that the straight line to the
        day it is due has made by now; it begins with the contract, or the first value where that
        is later. `behind`: the newest value is more than a fifth of the way behind the line of its
        own day; `missed`: the day is over. A goal that was at its target on its day stays reached.
        """
        now = sources.clock()
        agreed = await sources.read(lambda connection: goal_store.read_one(connection, account))
        found = standing(
            agreed.fields, agreed.values, as_of=last_complete_day(now), now=microseconds(now)
        )
        goals = [goal for one in agreed.fields for goal in one.goals or ()]
        return answer({"goals": [_goal(found, place, goal) for place, goal in enumerate(goals)]})


class _Span(NamedTuple):
    """The days on which goals are due, `first` included and `end` not; None: no bound."""

    first: date | None
    end: date | None

    def holds(self, due: Floats) -> Truths:
        chosen = np.ones(len(due), np.bool_)
        if self.first is not None:
            chosen &= due >= self.first.toordinal()
        if self.end is not None:
            chosen &= due < self.end.toordinal()
        return chosen


def _part(
    ledger: Ledger, account: Integers, by: Cut, wanted: Mapping[Cut, str]
) -> tuple[Integers, Sequence[str | None]]:
    """Of each goal, whose account is given, its part, and the parts' keys.

    An account may be so new that the ledger does not know it yet: -1.
    """
    version, stage = ledger.newest_version(), ledger.today.stage
    cut = parts(ledger, by, version=version, stage=stage)
    # The last part is of the accounts of which it is not known.
    code = np.where(cut.code == UNKNOWN, len(cut.names), cut.code)
    code[~matching(ledger, wanted, version=version, stage=stage)] = NO_PART
    return np.append(code, NO_PART)[account], (*cut.names, None)


def _cut(goals: Standing, part: Integers, keys: Sequence[str | None]) -> dict[str, Any]:
    found = figures(goals, part, len(keys))
    told = [(key, one) for key, one in zip(keys, found, strict=True) if one.goals]
    told.sort(key=lambda one: (-one[1].accounts, one[0] or ""))
    whole = figures(goals, np.minimum(part, 0), 1)[0]
    return {
        "whole": asdict(whole),
        "parts": [{"key": key, "goals": asdict(one)} for key, one in told[:_MOST_PARTS]],
    }


def _goal(found: Standing, index: int, goal: Goal) -> dict[str, Any]:
    of_values = slice(int(found.first[index]), int(found.first[index + 1]))
    values = zip(
        found.values.at[of_values].tolist(), found.values.value[of_values].tolist(), strict=True
    )
    told_at = float(found.value_at[index])
    return {
        "metric": goal.metric,
        "baseline": goal.baseline,
        "target": goal.target,
        "direction": goal.direction,
        "due": goal.due,
        "state": STATES[int(found.state[index])],
        "value": _known(found.value[index]),
        "value_at": None if isnan(told_at) else moment(int(told_at)),
        "improvement": _known(found.improvement[index]),
        "target_improvement": _known(found.promised[index]),
        "attained": _known(found.attained[index]),
        "expected_now": _known(found.expected_now[index]),
        "values": [{"day": moment(at).date(), "value": value} for at, value in values],
    }


def _known(number: float) -> float | None:
    return None if isnan(number) else float(number)
