"""The events of the ingest benchmark: 400 bytes each, and each a function of its name.

A name is a load, a thread and a number; wrk's script (`ingest_wrk.py`) writes the same bytes in
Lua. So the log can be compared with what was sent although nothing that was sent is kept.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime

EVENT_BYTES = 400
ACCOUNTS = 20_000
USERS = 20
TAILS = 997
SPREAD = (7_919, 104_729, 100_003)
"""The account of an event: a few accounts have most of the events, all have some."""

_ID = "0193e5a2-7c41-7b3d-"
_TYPES = ("feature_used", "feature_used", "page_view", "page_view", "login", "session_end")
_HEX = "0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Stream:
    """The events of one load; its number makes their ids its own."""

    load: int
    batch: int
    tails: tuple[str, ...]

    @property
    def id_prefix(self) -> str:
        return f"{_ID}{self.load:04}-"

    def event(self, thread: int, number: int) -> str:
        account = account_of(thread, number)
        return (
            f'{{"id":"{self.id_prefix}{thread:02}{number:010}","account_id":"account-{account:05}",'
            f'"user_id":"user-{account:05}-{number % USERS:02}",{self.tails[number % TAILS]}'
        )

    def body(self, thread: int, request: int) -> bytes:
        """The body of a request of this thread, the first being 0."""
        first = request * self.batch
        events = [self.event(thread, number) for number in range(first, first + self.batch)]
        return f"[{','.join(events)}]".encode()


def make_tails(now: datetime) -> tuple[str, ...]:
    """What follows the names in an event; different enough that compression is no gift."""
    choose = random.Random(1)
    room = EVENT_BYTES - len(Stream(1, 1, ("",) * TAILS).event(1, 1))
    return tuple(_tail(choose, now, room) for _ in range(TAILS))


def account_of(thread: int, number: int) -> int:
    by_number, by_thread, modulus = SPREAD
    share = (number * by_number + thread * by_thread) % modulus / modulus
    return int(ACCOUNTS * (share * share * share))


def name_of(event_id: str) -> tuple[int, int, int] | None:
    """Load, thread and number of an id, or None where it is not one of ours."""
    if len(event_id) != 36 or not event_id.startswith(_ID):
        return None
    return int(event_id[19:23]), int(event_id[24:26]), int(event_id[26:])


def now_rounded() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _tail(choose: random.Random, now: datetime, length: int) -> str:
    kind = choose.choice(_TYPES)
    own = f',"duration_seconds":{choose.randrange(9_999)}' if kind == "session_end" else ""
    head = (
        f'"type":"{kind}","occurred_at":"{now.isoformat()}","properties":{{'
        f'"feature":"feature-{choose.randrange(30):02}"{own},"mobile":false,'
        f'"path":"/workspaces/{choose.randrange(10**6):06}/reports",'
        f'"app_version":"7.{choose.randrange(10)}","browser":"Firefox 128 on Linux","trace":"'
    )
    return f'{head}{_hex(choose, length - len(head) - 3)}"}}}}'


def _hex(choose: random.Random, length: int) -> str:
    return "".join(choose.choices(_HEX, k=length))
