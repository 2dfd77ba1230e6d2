"""What each reason for work says to a person: its name, what it means, and whether it is good news.

Most reasons are flags of scoring; of two the notifier knows by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from shared.messages import FlagReason


class OwnReason(StrEnum):
    """Why the notifier opens an intervention without a flag."""

    SENTIMENT = "sentiment"
    ACCOUNT_LOST = "account_lost"


WorkReason: TypeAlias = FlagReason | OwnReason


class Kind(StrEnum):
    """The type of an intervention: the stage of the LAER cycle, or winning a lost account back."""

    LAND = "land"
    ADOPT = "adopt"
    EXPAND = "expand"
    RENEW = "renew"
    WIN_BACK = "win_back"


def reason_of(text: str) -> WorkReason:
    """The reason of that name; raises ValueError where there is none."""
    try:
        return FlagReason(text)
    except ValueError:
        return OwnReason(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """`what` goes below the title: the numbers stand in the flag's own evidence.

    An opportunity is work too, but nothing is at risk.
    """

    title: str
    what: str
    is_opportunity: bool = False


# No numbers here: a vendor sets them in its rules.
MEANINGS: Final[Mapping[WorkReason, Meaning]] = {
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
    FlagReason.GOAL_MISSED: Meaning(
        title="Goal off track",
        what="A goal that was agreed with the customer is far behind its line, or was not reached"
        " in time.",
    ),
    FlagReason.EXPANSION_READY: Meaning(
        title="Ready to expand",
        what="Nearly all seats are in use, and the account is well: offer more.",
        is_opportunity=True,
    ),
    FlagReason.GOAL_REACHED: Meaning(
        title="Goal reached",
        what="What was promised to the customer has come true and lasts: tell it, and agree on"
        " the next goal.",
        is_opportunity=True,
    ),
    OwnReason.SENTIMENT: Meaning(
        title="Bad sentiment", what="Somebody of ours says that the relationship is bad."
    ),
    OwnReason.ACCOUNT_LOST: Meaning(
        title="Account lost", what="The account has left: ask why, and when to call again."
    ),
}
"""One entry for every reason; a test keeps it complete."""

STAGES: Final[Mapping[Kind, str]] = {
    Kind.LAND: "Land",
    Kind.ADOPT: "Adopt",
    Kind.EXPAND: "Expand",
    Kind.RENEW: "Renew",
    Kind.WIN_BACK: "Win back",
}


def is_opportunity(reason: WorkReason) -> bool:
    return MEANINGS[reason].is_opportunity
