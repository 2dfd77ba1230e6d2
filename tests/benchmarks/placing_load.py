"""What the benchmark of placing sends, and what the day buckets must say after it: plain Python.

Four users in five work for one account, the others for three, whose `group` calls are hours apart.
Nine events in ten are of the last hour, the others come late, between the calls.
"""

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.log import Record
from shared.messages import UnplacedEvent, UsageEvent, encode

_CHUNK: Final = 10_000
_OF_SEVERAL: Final = 0.2
_HOURS: Final = 72
_LATE: Final = 0.1
_FEATURES: Final = 40


@dataclass(slots=True)
class Load:
    """Makes the records in chunks, and counts what it makes."""

    events: int
    users: int
    accounts: int
    seed: int = 1
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    days: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Events by account and day."""
    _calls: list[list[tuple[datetime, str]]] = field(init=False)
    """Of each user, in the order of their times."""

    def __post_init__(self) -> None:
        choose = random.Random(self.seed)
        began = self.now - timedelta(hours=_HOURS + 1)
        self._calls = [
            sorted(
                (began + timedelta(hours=choose.randrange(_HOURS)), self._account(choose))
                for _ in range(3 if choose.random() < _OF_SEVERAL else 1)
            )
            for _ in range(self.users)
        ]

    @property
    def calls(self) -> int:
        return sum(map(len, self._calls))

    def group_calls(self) -> Iterator[list[Record]]:
        made = (
            self._stated(f"group-{number}-{turn}", self._user(number), account, moment)
            for number, calls in enumerate(self._calls)
            for turn, (moment, account) in enumerate(calls)
        )
        return _chunked(made)

    def unplaced(self) -> Iterator[list[Record]]:
        """Events that name a user alone."""
        return _chunked(self._events(is_placed=False))

    def placed(self) -> Iterator[list[Record]]:
        """The same events as if each named its account."""
        return _chunked(self._events(is_placed=True))

    def _events(self, *, is_placed: bool) -> Iterator[Record]:
        choose = random.Random(self.seed + 1)
        for number in range(self.events):
            who = choose.randrange(self.users)
            calls = self._calls[who]
            # After the first call, as what comes before it is a guess.
            late = choose.random() < _LATE
            since = calls[0][0] if late else self.now - timedelta(hours=1)
            moment = since + (self.now - since) * choose.random()
            account = calls[bisect_right(calls, moment, key=_moment) - 1][1]
            self.days[account, moment.date().isoformat()] += 1
            user = self._user(who)
            said: dict[str, object] = {
                "feature": f"feature-{choose.randrange(_FEATURES):02}",
                "path": f"/projects/{choose.randrange(1_000)}/board",
            }
            event = UnplacedEvent(
                id=f"0191f0e2-77c1-7d6b-{self.seed:04x}-{number:012x}",
                source="app",
                user=user,
                type="feature_used",
                occurred_at=moment,
                client_at=moment,
                received_at=self.now,
                properties=said,
            )
            if is_placed:
                yield Record(key=account.encode(), value=encode(_naming(event, account)))
            else:
                yield Record(key=user.encode(), value=encode(event))

    def _stated(self, name: str, user: str, account: str, moment: datetime) -> Record:
        event = UsageEvent(
            id=name,
            source="app",
            account=account,
            user=user,
            type="group",
            occurred_at=moment,
            client_at=moment,
            received_at=self.now,
        )
        return Record(key=account.encode(), value=encode(event))

    def _account(self, choose: random.Random) -> str:
        return f"account-{int(self.accounts * choose.random() ** 2):05}"

    def _user(self, number: int) -> str:
        return f"u1:{number * 0x9E3779B97F4A7C15 % (1 << 64):016x}{number:016x}"


def _naming(event: UnplacedEvent, account: str) -> UsageEvent:
    return UsageEvent(
        id=event.id,
        source=event.source,
        account=account,
        user=event.user,
        type=event.type,
        occurred_at=event.occurred_at,
        client_at=event.client_at,
        received_at=event.received_at,
        properties=event.properties,
    )


def _chunked(records: Iterator[Record]) -> Iterator[list[Record]]:
    chunk: list[Record] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _moment(call: tuple[datetime, str]) -> datetime:
    return call[0]


def shares(records: Sequence[int], bound: int) -> list[int]:
    """How many may wait of each partition: `records` by partition, `bound` for all together."""
    share = -(-bound // len(records))
    return [min(count, share) for count in records]
