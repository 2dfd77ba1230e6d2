"""The simulated goals show every state, as scoring sees them."""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import msgspec

from services.demo.simulator import simulate
from services.scoring.domain.goals import STATES, GoalState, standing
from services.scoring.domain.signals import subject_key
from services.scoring.domain.usage import History, Signal, SignalKind, microseconds, usage_of
from shared.messages import AccountFields

NOW = datetime(2026, 11, 18, 15, 30, tzinfo=UTC)


def test_goals_are_reached_on_track_behind_missed_and_unreported() -> None:
    told = simulate(now=NOW)
    values: dict[str, list[Signal]] = defaultdict(list)
    for event in told.events():
        if event["type"] == "goal_metric":
            said = event["properties"]
            assert isinstance(said, dict)
            values[str(event["account_id"])].append(
                Signal(
                    at=datetime.fromtimestamp(int(str(event["occurred_at"])), UTC),
                    kind=SignalKind.GOAL_METRIC,
                    subject=subject_key(said["metric"]),
                    value=said["value"],
                )
            )
    found = standing(
        [msgspec.convert(account.fields, AccountFields) for account in told.accounts],
        usage_of([History(signals=values[account.id]) for account in told.accounts]).signals,
        as_of=NOW.date() - timedelta(days=1),
        now=microseconds(NOW),
    )
    states = Counter(STATES[state] for state in found.state.tolist())
    assert set(states) == set(GoalState)
    assert min(states.values()) >= 3
    assert 30 <= len(found.goals) <= 70
    # Held for four weeks: what raises the flag.
    assert (found.days_at_target >= 28).any()
