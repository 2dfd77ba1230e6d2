"""What each flag says to a person: its name, what it means, and whether it is good news."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shared.messages import FlagReason, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """`what` goes below the title: the numbers stand in the flag's own evidence.

    An opportunity is work too, but nothing is at risk.
    """

    title: str
    what: str
    is_opportunity: bool = False


# No numbers here: a vendor sets them in its rules.
MEANINGS: Final[Mapping[FlagReason, Meaning]] = {
    FlagReason.CHURN_RISK: Meaning(
        title="Churn risk",
        what="The account looks like those that left; the reasons below add up to its risk.",
    ),
    FlagReason.GONE_SILENT: Meaning(
        title="Gone silent", what="Nobody uses the product any more, and somebody did."
    ),
    FlagReason.USAGE_DROP: Meaning(
        title="Usage drop",
        what="Use has fallen far below the account's own half-year, and not because of a season"
        " that everybody shares.",
    ),
    FlagReason.SEATS_IDLE: Meaning(
        title="Seats idle", what="Many of the seats that are paid for are not used."
    ),
    FlagReason.CHAMPION_LOST: Meaning(
        title="Champion lost",
        what="The person who did most of the work no longer comes, and nobody took it over.",
    ),
    FlagReason.ONBOARDING_STALLED: Meaning(
        title="Onboarding stalled", what="A new account does not get going."
    ),
    FlagReason.CANCELLATION_INTENT: Meaning(
        title="Cancellation requested", what="The account has asked to cancel."
    ),
    FlagReason.PAYMENT_FAILED: Meaning(
        title="Payment failed", what="Payments fail again and again: often an expired card."
    ),
    FlagReason.SUPPORT_STRAIN: Meaning(
        title="Support strain",
        what="More tickets than this account usually has, or a severe one open for too long.",
    ),
    FlagReason.UNHAPPY_FEEDBACK: Meaning(
        title="Unhappy feedback", what="Somebody there has given a low score."
    ),
    FlagReason.RENEWAL_DUE: Meaning(
        title="Renewal due", what="The contract ends soon: the time to talk about the next one."
    ),
    FlagReason.EXPANSION_READY: Meaning(
        title="Ready to expand",
        what="Nearly all seats are in use, and the account is well: offer more.",
        is_opportunity=True,
    ),
}
"""One entry for every reason; a test keeps it complete."""

STAGES: Final[Mapping[Stage, str]] = {
    Stage.LAND: "Land",
    Stage.ADOPT: "Adopt",
    Stage.EXPAND: "Expand",
    Stage.RENEW: "Renew",
}


def is_opportunity(reason: FlagReason) -> bool:
    return MEANINGS[reason].is_opportunity
