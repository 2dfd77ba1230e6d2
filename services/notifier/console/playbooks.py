"""The page of playbooks: what is in force, and whether the files on disk are refused."""

from collections.abc import Sequence

from fastapi import FastAPI
from fastapi.responses import Response

from services.notifier.channels import wording
from services.notifier.console.pages import Pages
from services.notifier.domain.flags import STAGES, Kind
from services.notifier.domain.playbooks import DEFAULT, DUE, Match, Playbook
from shared.messages import Band


def add_playbooks(app: FastAPI, pages: Pages) -> None:
    @app.get("/playbooks")
    async def listed() -> Response:
        playbooks = pages.steps.stepping.staff.playbooks()
        return pages.page(
            "playbooks.html",
            playbooks=playbooks.ordered or (DEFAULT,),
            problem=pages.problems().get("playbooks"),
            matched=matched,
            due_days=due_days,
            repeats=repeats,
            whose=_WHO,
        )


_WHO = {
    "owner": "owner",
    "deputy": "owner's deputy",
    "manager": "owner's manager",
    "lead": "lead of the fallback queue",
    "reseller": "reseller's owner",
}


def matched(match: Match) -> Sequence[str]:
    """What it is for, in words; all of it must hold."""
    said = []
    if match.reasons:
        said.append(" or ".join(wording.name_of(one) for one in match.reasons))
    if match.type is not None:
        said.append(f"stage {STAGES[Kind(match.type)].lower()}")
    if match.severity:
        said.append(" or ".join(wording.BAND[one].lower() for one in match.severity))
    if match.segment:
        said.append(f"segment {' or '.join(match.segment)}")
    if match.sold is not None:
        said.append("sold by a reseller" if match.sold == "reseller" else "sold directly")
    if match.value is not None:
        said.append(f"at least {match.value:,} at risk")
    return said or ["all that no playbook before it takes"]


def due_days(playbook: Playbook) -> str:
    days = {**DUE, **playbook.due}
    return ", ".join(f"{wording.BAND[band].lower()} {number}" for band, number in _worst(days))


def repeats(playbook: Playbook) -> str:
    said = (f"{wording.BAND[band].lower()} {number}" for band, number in _worst(playbook.repeat))
    return ", ".join(said)


def _worst(days: dict[Band, int]) -> Sequence[tuple[Band, int]]:
    return [(band, days[band]) for band in reversed(Band) if band in days]
