"""What makes an intervention: a flag of scoring, a bad sentiment, or an account that has left.

All three are raised and cleared, and repeat themselves; an intervention sees no difference.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

from services.notifier.domain.flags import Kind, OwnReason, WorkReason, is_opportunity
from services.notifier.domain.sentiments import Mood, Sentiment
from shared.messages import AccountFields, Band, Flag, Reason, ValueAtRisk

_CHANGE_ORDER = {"raised": 0, "updated": 1, "cleared": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The newest message that an intervention has taken in."""

    flag_id: str
    episode: int
    raised_at: datetime
    as_of: datetime
    change: str
    traceparent: str | None = field(default=None, compare=False)
    """Where it came from."""

    def covers(self, other: "Seen") -> bool:
        """Whether `other` is a repetition, or older than what was taken in."""
        return (other.raised_at, other.as_of, _CHANGE_ORDER[other.change]) <= (
            self.raised_at,
            self.as_of,
            _CHANGE_ORDER[self.change],
        )

    def is_same_flag(self, other: "Seen") -> bool:
        return (self.flag_id, self.episode) == (other.flag_id, other.episode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One message about one account, for one reason."""

    account_id: str
    type: Kind
    reason: WorkReason
    seen: Seen
    severity: Band
    risk: float | None = None
    value_at_risk: ValueAtRisk | None = None
    renewal_date: date | None = None
    summary: str = ""
    reasons: tuple[Reason, ...] = ()
    ends_at: datetime | None = None
    """From then on it holds no more, unless it is said again; None: until it is cleared."""

    @property
    def is_cleared(self) -> bool:
        return self.seen.change == "cleared"


def of_flag(flag: Flag, *, traceparent: str | None = None) -> Signal:
    return Signal(
        account_id=flag.account,
        type=Kind(flag.stage.value),
        reason=flag.reason,
        seen=Seen(
            flag_id=flag.flag_id,
            episode=flag.episode,
            raised_at=flag.raised_at,
            as_of=flag.as_of,
            change=flag.change,
            traceparent=traceparent,
        ),
        severity=severity_of(flag),
        risk=flag.risk,
        value_at_risk=None if is_opportunity(flag.reason) else flag.value_at_risk,
        renewal_date=flag.renewal_date,
        summary=flag.summary,
        reasons=flag.reasons,
    )


def of_sentiment(
    said: Sentiment, fields: AccountFields, *, traceparent: str | None = None
) -> Signal:
    """Raised by a bad one, cleared by any other."""
    return Signal(
        account_id=said.account_id,
        type=Kind.ADOPT,
        reason=OwnReason.SENTIMENT,
        seen=_own(said.id, said.at, traceparent, is_raised=said.mood is Mood.BAD),
        # As a flag without a band: somebody says that it is bad, nobody says how bad.
        severity=Band.AT_RISK,
        renewal_date=fields.contract_end,
        summary=said.note,
        ends_at=said.expires_at if said.mood is Mood.BAD else None,
    )


def of_loss(
    account_id: str,
    fields: AccountFields,
    *,
    change_id: UUID,
    is_lost: bool,
    at: datetime,
    traceparent: str | None = None,
) -> Signal:
    """Raised when the directory says that the account has left, cleared when it is back."""
    left = f"Left on {fields.churned_at:%Y-%m-%d}." if fields.churned_at else "The account left."
    return Signal(
        account_id=account_id,
        type=Kind.WIN_BACK,
        reason=OwnReason.ACCOUNT_LOST,
        seen=_own(change_id, at, traceparent, is_raised=is_lost),
        # As an opportunity: it can only get better.
        severity=Band.WATCH,
        summary=left if is_lost else "",
    )


def severity_of(flag: Flag) -> Band:
    """The band, at least `watch`; a flag that states no band (no risk is known) is `at_risk`.

    An opportunity is never worse than `watch`: nothing is lost where nobody acts.
    """
    if is_opportunity(flag.reason):
        return Band.WATCH
    if flag.band is None:
        return Band.AT_RISK
    return Band.WATCH if flag.band is Band.HEALTHY else flag.band


def _own(change_id: UUID, at: datetime, traceparent: str | None, *, is_raised: bool) -> Seen:
    change = "raised" if is_raised else "cleared"
    return Seen(
        flag_id=str(change_id),
        episode=1,
        raised_at=at,
        as_of=at,
        change=change,
        traceparent=traceparent,
    )
