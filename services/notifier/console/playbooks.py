"""The page of playbooks: what is in force, whether the files on disk are refused, a dry run."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import FastAPI, Form
from fastapi.responses import Response

from services.notifier import playbook_files, playbook_review
from services.notifier.channels import wording
from services.notifier.console.pages import Pages
from services.notifier.domain.access import Right
from services.notifier.domain.flags import STAGES, Kind
from services.notifier.domain.playbooks import DEFAULT, DUE, Match, Playbook
from services.notifier.playbook_review import Change, Preview
from services.notifier.yaml_files import FileRejected
from shared.messages import Band

_MAX_TEXT: Final = 60_000
_SHOWN: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What other playbooks would do to what is open now; nothing is changed."""

    problem: str | None
    previews: Sequence[Preview] = ()
    changes: Sequence[Change] = ()

    @property
    def moving(self) -> Sequence[Preview]:
        """Those that would be treated otherwise, the most valuable first."""
        return [one for one in self.previews if one.moves]

    @property
    def counts(self) -> Sequence[tuple[str, int, int]]:
        """By playbook: how many it has now, and would have."""
        now = Counter(one.before for one in self.previews)
        then = Counter(one.playbook for one in self.previews)
        return [(name, now[name], then[name]) for name in dict.fromkeys((*then, *now))]


def add_playbooks(app: FastAPI, pages: Pages) -> None:
    def show(text: str = "", tried: Tried | None = None) -> Response:
        playbooks = pages.steps.stepping.staff.playbooks()
        return pages.page(
            "playbooks.html",
            status=422 if tried is not None and tried.problem else 200,
            playbooks=playbooks.ordered or (DEFAULT,),
            problem=pages.problems().get("playbooks"),
            matched=matched,
            due_days=due_days,
            repeats=repeats,
            whose=_WHO,
            text=text,
            tried=tried,
            shown=_SHOWN,
            note=Right.NOTE,
        )

    @app.get("/playbooks")
    async def listed() -> Response:
        return show()

    @app.post("/playbooks")
    async def preview(text: Annotated[str, Form(max_length=_MAX_TEXT)] = "") -> Response:
        ours = pages.steps.stepping.staff.playbooks()
        try:
            theirs = await asyncio.to_thread(playbook_files.read, {"playbooks.yaml": text.encode()})
        except FileRejected as error:
            return show(text, Tried(problem=str(error)))
        async with pages.engine.connect() as connection:
            found = await playbook_review.preview(connection, ours=ours, theirs=theirs)
        changes = playbook_review.changes(ours, theirs)
        return show(text, Tried(problem=None, previews=found, changes=changes))


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
