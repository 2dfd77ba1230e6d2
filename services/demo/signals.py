"""What happens to the simulated accounts beside use: tickets, payments, feedback, milestones.

What the generator assumes, and real accounts need not follow:

* Whoever uses the product opens a ticket every two months, and it is closed within three days; a
  quarterly survey asks one person, who is content (8-10).
* Some stories have more to tell, so that every rule has its case: among the declining, one in
  nine asks to cancel; among the seasonal, one in seven has a wave of tickets or a severe one
  that stays open; among the growing, one in ten finds that its card expired; among the stable,
  one in fifteen has a user who is unhappy; of the newcomers, half reach a first milestone.
* The metric of a success goal (`goals.py`) is reported every 30 days.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np

from services.demo.goals import reports
from services.demo.vendor import LAST, Fields, Pattern, SimulatedAccount

_DAY_SECONDS: Final = 86_400
_TICKET_EVERY: Final = 61
_SURVEY_EVERY: Final = 91
_AT_WORK: Final = 10 * 3_600


def signals_of(account: SimulatedAccount, *, anchor: date, days: int, seed: int) -> list[Fields]:
    """The account's signals of `days` days of the story, as `POST /v1/events` takes them."""
    ends = days if account.turns is None else min(account.turns + 1, days)
    span = range(account.begins, ends)
    told = _Told(account=account, anchor=anchor)
    random = np.random.default_rng((seed, 4, account.index))
    found = [
        *_tickets(told, span, random),
        *_surveys(told, span, random),
        *_stories(told),
        *_reports(told),
    ]
    midnight = told.midnight
    return [one for one in found if _second(one) < midnight + days * _DAY_SECONDS]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """An account, and where its days lie."""

    account: SimulatedAccount
    anchor: date

    @property
    def midnight(self) -> int:
        """Of day 0, UTC, in epoch seconds."""
        first = self.anchor - timedelta(days=LAST)
        return (first - date(1970, 1, 1)).days * _DAY_SECONDS

    def event(
        self, kind: str, day: int, name: str, *, user: int | None = None, **properties: object
    ) -> Fields:
        """`name` tells the account's events of one day and kind apart."""
        one: Fields = {
            "id": f"demo-{self.anchor:%Y%m%d}-{self.account.index}-{kind}-{day}-{name}",
            "account_id": self.account.id,
            "type": kind,
            "occurred_at": self.midnight + day * _DAY_SECONDS + _AT_WORK,
        }
        if user is not None:
            one["user_id"] = f"{self.account.id}:{user}"
        return one | ({"properties": properties} if properties else {})

    def ticket(
        self, day: int, name: str, *, severity: str = "normal", open_days: int
    ) -> list[Fields]:
        opened, closed = (
            self.event("support_ticket", at, name, ticket_id=name, severity=severity, state=state)
            for at, state in ((day, "open"), (day + open_days, "closed"))
        )
        return [opened, closed]


def _tickets(told: _Told, span: range, random: np.random.Generator) -> Iterator[Fields]:
    first = int(random.integers(_TICKET_EVERY))
    for number, day in enumerate(range(span.start + first, span.stop, _TICKET_EVERY)):
        yield from told.ticket(day, f"T-{number}", open_days=1 + number % 3)


def _surveys(told: _Told, span: range, random: np.random.Generator) -> Iterator[Fields]:
    first = int(random.integers(_SURVEY_EVERY))
    for number, day in enumerate(range(span.start + first, span.stop, _SURVEY_EVERY)):
        score = 8 + (told.account.index + number) % 3
        yield told.event("feedback", day, "nps", user=1, scale="nps", score=score)


def _reports(told: _Told) -> Iterator[Fields]:
    for day, metric, value in reports(told.account):
        yield told.event("goal_metric", day, "g", metric=metric, value=value)


def _stories(told: _Told) -> Iterator[Fields]:
    """The cases of the rules; days counted back from the day the story is told on."""
    index = told.account.index
    match told.account.pattern:
        case Pattern.DECLINING if index % 9 == 0:
            leaves = told.anchor + timedelta(days=54)
            yield told.event(
                "cancellation_requested", LAST - 6, "c", effective_on=leaves.isoformat()
            )
        case Pattern.SEASONAL if index % 14 == 3:
            for number in range(6):
                yield from told.ticket(LAST - 20 + 3 * number, f"W-{number}", open_days=2)
        case Pattern.SEASONAL if index % 14 == 10:
            severe = told.ticket(LAST - 12, "S", severity="critical", open_days=60)
            yield severe[0]
        case Pattern.GROWING if index % 10 == 4:
            for day in (LAST - 9, LAST - 4):
                yield told.event("payment_failed", day, "p", amount="490.00", currency="EUR")
            if index % 20 == 4:
                yield told.event("payment_succeeded", LAST - 2, "p")
        case Pattern.STABLE if index % 15 == 2:
            yield told.event("feedback", LAST - 5, "low", user=0, scale="nps", score=3)
        case Pattern.ONBOARDING if index % 2 == 0:
            yield told.event(
                "onboarding_milestone", told.account.begins + 6, "m", milestone="first_report"
            )
        case _:
            pass


def _second(event: Fields) -> int:
    return int(str(event["occurred_at"]))
