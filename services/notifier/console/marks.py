"""What happened to an account, to be marked in its plots: flags, work on them, its contract."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final

from services.notifier.domain.interventions import Intervention
from shared.messages import AccountFields

_LETTER: Final = 6.1
"""Width of a letter of a label, about, in the units of a drawing."""
_GAP: Final = 8


class MarkKind(StrEnum):
    FLAG = "flag"
    ACT = "act"
    CONTRACT = "contract"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    day: date
    what: str
    kind: MarkKind

    @property
    def text(self) -> str:
        return f"{self.what} {self.day.day} {self.day:%b}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A mark where it is drawn; without a text where it would overlap another one's."""

    at: float
    text: str
    kind: MarkKind
    ends: bool
    """The text ends at the mark, for there is no room on its right."""


def marks_of(
    raised: Iterable[datetime], work: Iterable[Intervention], fields: AccountFields | None
) -> tuple[Mark, ...]:
    """In the order of time; what happened on one day and is called the same is one mark."""
    found = {*_work(raised, work), *_contract(fields)}
    return tuple(sorted(found, key=lambda one: (one.day, one.kind, one.what)))


def notice_by(fields: AccountFields) -> date | None:
    if fields.contract_end is None or not fields.notice_days:
        return None
    return fields.contract_end - timedelta(days=fields.notice_days)


def placed(
    marks: Sequence[Mark], place: Callable[[date], float], *, left: float, right: float
) -> tuple[Placed, ...]:
    """Of texts that would overlap the newest is written; `left`: where texts may begin."""
    found: list[Placed] = []
    free_until = right
    for one in sorted(marks, key=lambda mark: mark.day, reverse=True):
        at = place(one.day)
        width = len(one.text) * _LETTER + _GAP
        ends = at + width > right
        begins = at - width if ends else at
        is_free = begins >= left and begins + width <= free_until
        if is_free:
            free_until = begins
        text = one.text if is_free else ""
        found.append(Placed(at=round(at, 1), text=text, kind=one.kind, ends=ends))
    return tuple(reversed(found))


def _work(raised: Iterable[datetime], work: Iterable[Intervention]) -> Iterator[Mark]:
    flagged = {one.date() for one in raised}
    for day in flagged:
        yield Mark(day=day, what="Flag", kind=MarkKind.FLAG)
    for one in work:
        if one.opened_at.date() not in flagged:
            yield Mark(day=one.opened_at.date(), what="Opened", kind=MarkKind.ACT)
        if one.acknowledged_at is not None:
            yield Mark(day=one.acknowledged_at.date(), what="Acknowledged", kind=MarkKind.ACT)
        if one.closed_at is not None:
            yield Mark(day=one.closed_at.date(), what="Closed", kind=MarkKind.ACT)


def _contract(fields: AccountFields | None) -> Iterator[Mark]:
    if fields is None:
        return
    dates = (
        ("Contract began", fields.contract_start),
        ("Notice by", notice_by(fields)),
        ("Contract ends", fields.contract_end),
    )
    for what, day in dates:
        if day is not None:
            yield Mark(day=day, what=what, kind=MarkKind.CONTRACT)
