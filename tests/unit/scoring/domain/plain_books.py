"""The books in the plainest words, day by day: what the fast ones must agree with."""

from collections.abc import Sequence
from datetime import date, timedelta

from services.scoring.domain.periods import midnight
from tests.unit.scoring.ledgers import LedgerAccount

DAY = timedelta(days=1)


class PlainAccount:
    """One account; `opening` is the last day of the directory's beginning, None without end."""

    def __init__(self, account: LedgerAccount, opening: date | None) -> None:
        self.versions = list(account.versions)
        self.is_opening = bool(self.versions) and (opening is None or self.told(0) <= opening)

    def told(self, index: int) -> date:
        days = self.versions[index][0] // midnight(date(1970, 1, 2))
        return date(1970, 1, 1) + days * DAY

    def is_booked(self, index: int, day: date) -> bool:
        """Whether the books of the day know the version: it came before they closed."""
        is_early = index == 0 and self.is_opening
        return is_early or self.versions[index][0] < midnight(day + 7 * DAY)

    def in_force(self, day: date) -> int:
        held = [i for i, (since, _) in enumerate(self.versions) if since <= midnight(day)]
        return held[-1] if held else 0

    def customer_on(self, days: Sequence[date]) -> list[bool]:
        """Of each of the days, one after the other from long before the first version."""
        gone, returned_on, seen, found = False, date.min, 0, []
        for day in days:
            while seen < len(self.versions) and self.is_booked(seen, day):
                if not self.says_lost(seen):
                    if gone:
                        start = self.versions[seen][1].contract_start
                        returned_on = date.min if start is None else start
                    gone = False
                seen += 1
            known = seen - 1
            if known >= 0 and self.says_lost(known) and self.left_on(known) < day:
                gone = True
            found.append(not gone and returned_on < day and self.is_under_contract(day))
        return found

    def left_on(self, index: int) -> date:
        left = self.versions[index][1].churned_at
        if left is not None:
            return left
        return date.min if index == 0 and self.is_opening else self.told(index)

    def says_lost(self, index: int) -> bool:
        fields = self.versions[index][1]
        if fields.status == "churned":
            return True
        if fields.churned_at is None:
            return False
        # Its date may be the one that was left standing when the account came back.
        for here in range(index, 0, -1):
            before, at = self.versions[here - 1][1], self.versions[here][1]
            if at.churned_at != before.churned_at:
                return True
            if (before.status, at.status) == ("churned", "active"):
                return False
        return True

    def is_under_contract(self, day: date) -> bool:
        if not self.versions or not self.is_booked(0, day):
            return False
        now = self.in_force(day)
        if self.versions[now][1].status == "trial":
            return False
        return any(
            self.start_of(index) < day
            for index in self.life(now)
            if self.versions[index][1].status != "trial"
        )

    def life(self, now: int) -> list[int]:
        """The versions up to this one since the account was won or won back."""
        first = now
        while first > 0 and not (self.says_lost(first - 1) and not self.says_lost(first)):
            first -= 1
        return list(range(first, now + 1))

    def start_of(self, index: int) -> date:
        start = self.versions[index][1].contract_start
        if start is not None:
            return start
        return date.min if self.is_opening else self.told(0)


def opening_of(accounts: Sequence[LedgerAccount]) -> date | None:
    """The last day of the directory's beginning: 30 days after its first change."""
    changes = [since for one in accounts for since, _ in one.versions[1:]]
    if not changes:
        return None
    days = min(changes) // midnight(date(1970, 1, 2))
    return date(1970, 1, 1) + (days + 30) * DAY
