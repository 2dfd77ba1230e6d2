"""What every script is told and what it says at its end: one line of JSON each way.

The script itself is the same for all SDKs: a user and an account make themselves known, a page, a
screen, an alias where the SDK has them, then many exports of reports. Every text has half an emoji
at its end, as careless cutting leaves it.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

ACCOUNTS = 5
USERS = 7
NO_ACCOUNT = "[object Object]"
"""An account id as broken callers send it; it is refused."""
CUT = "caf\u00e9 \ud83d"
TRAITS = {"name": "Acme", "plan": "pro", "monthly_spend": 120.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    url: str
    key: str
    first: datetime
    """When the first report was exported; each further one a second later."""
    exports: int = 500
    bad: int | None = None
    """Which of them has a placeholder for its account."""
    plans: int = 0
    """Users who follow the usual plan: `identify`, `group` once, then exports without account."""
    gzip: bool = False
    mode: str = ""

    def account(self, number: int) -> str:
        return NO_ACCOUNT if number == self.bad else f"acct-{number % ACCOUNTS}"

    def user(self, number: int) -> str:
        return f"user-{number % USERS}"

    def time(self, number: int) -> datetime:
        return self.first + timedelta(seconds=number)

    def planned(self, number: int) -> tuple[str, str]:
        return f"member-{self.mode}-{number}", f"team-{self.mode}-{number}"


@dataclass(slots=True, kw_only=True)
class Report:
    sent: int = 0
    """Calls that the SDK took."""
    errors: list[str] = field(default_factory=list)

    def failed(self, error: Exception, _events: object = None) -> None:
        """The SDKs' error callback."""
        self.errors.append(f"{type(error).__name__}: {error}")


def play(send: Callable[[Script, Report], None]) -> None:
    told = json.loads(sys.argv[1])
    script = Script(**{**told, "first": datetime.fromisoformat(told["first"])})
    report = Report()
    send(script, report)
    sys.stdout.write(json.dumps({"sent": report.sent, "errors": report.errors}) + "\n")
