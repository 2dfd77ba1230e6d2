"""Flags as they leave: what a decision says to others, in its envelope."""

import hashlib
from datetime import UTC, date, datetime, timedelta

import msgspec

from services.scoring.domain.flags.states import Decision
from shared.messages import Band, Flag, FlagEvent, FlagReason, ValueAtRisk


def flag_id(account: str, reason: FlagReason, episode: int) -> str:
    """The same for every message of one episode."""
    name = f"{account}\0{reason}\0{episode}"
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def flag_event(
    account: str,
    decision: Decision,
    *,
    as_of: datetime,
    band: Band | None,
    risk: float | None,
    value: ValueAtRisk | None,
    renewal: date | None,
    summary: str,
    received_at: datetime | None = None,
) -> FlagEvent:
    """The message of a decision that changes a flag."""
    if decision.change is None:
        raise ValueError("a decision that changes nothing is no message")
    episode = decision.state.episode
    return envelope(
        Flag(
            flag_id=flag_id(account, decision.reason, episode),
            account=account,
            reason=decision.reason,
            stage=decision.stage,
            change=decision.change,
            episode=episode,
            as_of=as_of,
            raised_at=decision.raised_at or as_of,
            received_at=received_at,
            band=band,
            risk=risk,
            value_at_risk=value,
            renewal_date=renewal,
            summary=summary,
            reasons=decision.evidence,
        )
    )


def without_hold(event: FlagEvent, held: timedelta) -> FlagEvent:
    """What was held on purpose counts for no latency."""
    if event.data.received_at is None:
        return event
    received_at = event.data.received_at + held
    data = msgspec.structs.replace(event.data, received_at=received_at)
    return msgspec.structs.replace(event, data=data)


def as_raised(event: FlagEvent) -> FlagEvent:
    """An update of a flag of which nobody has heard yet: to the others it is news."""
    return envelope(msgspec.structs.replace(event.data, change="raised"))


def envelope(flag: Flag) -> FlagEvent:
    """A change of a flag as a CloudEvent: the same change at the same moment has the same id."""
    return FlagEvent(
        id=f"{flag.flag_id}-{flag.change}-{flag.as_of.astimezone(UTC):%Y%m%dT%H%M%S.%f}",
        source="perennial/scoring",
        type=f"perennial.flag.{flag.change}",
        subject=flag.account,
        time=flag.as_of,
        data=flag,
    )
