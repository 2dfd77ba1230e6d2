"""What is remembered of a flag, what is decided about it, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Literal, TypeAlias

from shared.messages import Band, FlagReason, Reason, Stage

Change: TypeAlias = Literal["raised", "updated", "cleared"]

REASONS: Final = tuple(FlagReason)
"""Every flag, in the order in which `decide` looks at them; opportunities come last."""

STAGES: Final[Mapping[FlagReason, Stage]] = {
    FlagReason.CHURN_RISK: Stage.RENEW,
    FlagReason.GONE_SILENT: Stage.ADOPT,
    FlagReason.USAGE_DROP: Stage.ADOPT,
    FlagReason.SEATS_IDLE: Stage.ADOPT,
    FlagReason.CHAMPION_LOST: Stage.ADOPT,
    FlagReason.ONBOARDING_STALLED: Stage.LAND,
    FlagReason.CANCELLATION_INTENT: Stage.RENEW,
    FlagReason.PAYMENT_FAILED: Stage.RENEW,
    FlagReason.SUPPORT_STRAIN: Stage.ADOPT,
    FlagReason.UNHAPPY_FEEDBACK: Stage.ADOPT,
    FlagReason.RENEWAL_DUE: Stage.RENEW,
    FlagReason.GOAL_MISSED: Stage.ADOPT,
    FlagReason.EXPANSION_READY: Stage.EXPAND,
    FlagReason.GOAL_REACHED: Stage.EXPAND,
}

USAGE_FLAGS: Final = frozenset(
    {
        FlagReason.CHURN_RISK,
        FlagReason.GONE_SILENT,
        FlagReason.USAGE_DROP,
        FlagReason.SEATS_IDLE,
        FlagReason.CHAMPION_LOST,
        FlagReason.ONBOARDING_STALLED,
    }
)
"""Raised from what did not arrive: our own silence would raise them too."""

REPLACED_BY_SILENCE: Final = frozenset(
    {FlagReason.USAGE_DROP, FlagReason.SEATS_IDLE, FlagReason.CHAMPION_LOST}
)
"""What everybody's absence says already."""

OPPORTUNITIES: Final = frozenset({FlagReason.EXPANSION_READY, FlagReason.GOAL_REACHED})
"""Good news: no money is at risk."""


class Why(StrEnum):
    """Why a flag changed, or why one that would have changed did not."""

    ENTERED_BAND = "entered_band"
    BAND_CHANGED = "band_changed"
    LEFT_BAND = "left_band"
    SILENT = "silent"
    ACTIVE_AGAIN = "active_again"
    USE_FELL = "use_fell"
    USE_RECOVERED = "use_recovered"
    SEATS_UNUSED = "seats_unused"
    SEATS_USED = "seats_used"
    FEW_SEATS = "few_seats"
    CHAMPION_GONE = "champion_gone"
    CHAMPION_BACK = "champion_back"
    SUCCESSOR_FOUND = "successor_found"
    SLOW_START = "slow_start"
    NO_MILESTONE = "no_milestone"
    MILESTONE_REACHED = "milestone_reached"
    GOT_GOING = "got_going"
    NO_LONGER_NEW = "no_longer_new"
    CANCELLATION_REQUESTED = "cancellation_requested"
    CANCELLATION_WITHDRAWN = "cancellation_withdrawn"
    CONTRACT_END_MOVED = "contract_end_moved"
    PAYMENTS_FAILED = "payments_failed"
    PAYMENT_SUCCEEDED = "payment_succeeded"
    NO_FURTHER_FAILURE = "no_further_failure"
    MANY_TICKETS = "many_tickets"
    SEVERE_TICKET_OPEN = "severe_ticket_open"
    TICKETS_AS_USUAL = "tickets_as_usual"
    SCORED_LOW = "scored_low"
    NO_LOW_SCORE = "no_low_score"
    CONTRACT_ENDS = "contract_ends"
    END_COMES_CLOSER = "end_comes_closer"
    NOT_RENEWED = "not_renewed"
    GOAL_OVERDUE = "goal_overdue"
    GOAL_BEHIND = "goal_behind"
    ANOTHER_GOAL = "another_goal"
    GOALS_SETTLED = "goals_settled"
    GOAL_HELD = "goal_held"
    GOAL_NOT_KEPT = "goal_not_kept"
    SEATS_FULL = "seats_full"
    SEATS_FREE = "seats_free"
    SEATS_ADDED = "seats_added"
    RISK_FLAG_RAISED = "risk_flag_raised"
    TIME_OVER = "time_over"
    NO_LONGER_MEASURED = "no_longer_measured"
    CHURNED = "churned"

    # Held back, or still waiting:
    NOT_LONG_ENOUGH = "not_long_enough"
    INTERRUPTED = "interrupted"
    ALREADY_TOLD = "already_told"
    DATA_STALE = "data_stale"
    SHORT_HISTORY = "short_history"
    LOST_BEFORE_SEEN = "lost_before_seen"
    REPLACED_BY_SILENCE = "replaced_by_silence"
    RISK_FLAG_UP = "risk_flag_up"
    RULE_DISABLED = "rule_disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagState:
    """What is remembered of one flag of an account: its episodes are counted from 1.

    `band` is the one last told; None where the flag is not raised or has no band. `wanted_since`,
    `over_since`: since when without a break the condition to raise, or to clear, has held; None
    where it does not, or where the change has been made. `anchor` holds what the flag is compared
    with later, see `machine`.
    """

    episode: int = 0
    raised_at: datetime | None = None
    band: Band | None = None
    wanted_since: datetime | None = None
    over_since: datetime | None = None
    anchor: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_raised(self) -> bool:
        return self.raised_at is not None

    @property
    def is_idle(self) -> bool:
        """Nothing but its episodes is remembered: `decide` need not look for its sake."""
        return self.raised_at is None and self.wanted_since is None and not self.anchor


NEVER_RAISED: Final = FlagState()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One flag's change and what to remember; `change` None: `why` says why it was held back.

    `state` is what to remember from now on, whether `change` is None or not; it may be the state
    that was. `raised_at` is when the episode began, on its end too (`state` has forgotten it).
    """

    reason: FlagReason
    stage: Stage
    change: Change | None
    why: Why
    state: FlagState
    raised_at: datetime | None
    evidence: tuple[Reason, ...] = ()


def days_between(since: datetime, now: datetime) -> int:
    """Whole UTC dates from one to the other."""
    return now.astimezone(UTC).toordinal() - since.astimezone(UTC).toordinal()
