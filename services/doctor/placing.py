"""Events that name no account: sources whose tracking plan leaves most of them without one."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from services.doctor.findings import Area, Finding, ok, warning
from services.scoring.domain.placing_figures import SourcePlacing, Trouble, trouble
from services.scoring.placing_figures import read_sources

_CALL: Final = "call group(userId, groupId), with a key that has accounts:write, after each sign-in"
_LATER: Final = "; or, if they are known later, let more wait (PERENNIAL_WAITING_EVENTS)"


async def look(
    connection: AsyncConnection, now: datetime, *, served: Collection[str]
) -> list[Finding]:
    """`served`: the sources whose events without an account have one by now, by their settings."""
    found = await read_sources(connection, now)
    findings = [
        finding for one in found if one.source not in served and (finding := _of(one)) is not None
    ]
    if findings:
        return findings
    if not any(one.all for one in found):
        return [ok(Area.SCORING, "in 7 days every event named its account")]
    placed = sum(one.week.placed for one in found)
    every = sum(one.all for one in found)
    return [
        ok(
            Area.SCORING,
            f"of {every:,} events without an account in 7 days {placed:,} found theirs",
        )
    ]


def _of(found: SourcePlacing) -> Finding | None:
    match trouble(found):
        case Trouble.MOSTLY_LOST:
            week = found.week
            later = _LATER if week.full else ""
            return warning(
                Area.SCORING,
                f"{found.source}: {found.lost:,} of {found.all:,} events without an account in 7"
                f" days found none ({found.waiting_long:,} wait for over an hour, {week.late:,}"
                f" waited in vain, {week.full:,} were too many)",
                f"its users are known in no account: in the product app, {_CALL}, or give groupId"
                " in the context, or the company's id in identify; with PostHog, give $groups, and"
                f" perennial sources set {found.source} --account-group TYPE where it has several"
                f" types; or, if it serves one account, perennial sources set {found.source}"
                f" --default-account ACCOUNT{later}. Then perennial quarantine replay"
                f" --code missing_account --source {found.source}",
            )
        case Trouble.MOSTLY_GUESSED:
            return warning(
                Area.SCORING,
                f"{found.source}: {found.week.guessed:,} of {found.all:,} events without an account"
                " in 7 days are of users of several accounts, and no group call before them says"
                " which: they count where the user was active last, a guess",
                f"in the product app, {_CALL} and each change of account, or give groupId in the"
                " context",
            )
        case None:
            return None
