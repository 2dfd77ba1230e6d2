"""Consultants who work for three customers each: what is sent of them, and where it must count.

Written as plainly as can be: an event goes where the latest `group` call at or before it says.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from services.scoring.domain.activity import user_key
from shared.log import Record
from shared.messages import UNPLACED_EVENTS, USAGE_EVENTS, UnplacedEvent, UsageEvent, encode

ACCOUNTS: Final = 3
SCENES: Final = 8
"""Of each consultant: one `group` call, and what is done for that customer until the next."""
TRACKS: Final = 6
NEW_EACH_ROUND: Final = 8
EARLY: Final = 0.25
"""Of the tracks: sent some rounds before the call that says for whom they were."""
REPEATED: Final = 0.05
LATE: Final = 0.25
"""Of the consultants: all their calls come together, when all else has been sent."""
_SCENE: Final = timedelta(hours=5)
_REPEATED_WITHIN: Final = 10

Sent: TypeAlias = dict[str, list[Record]]
"""By topic."""
AccountDay: TypeAlias = tuple[str, str]


@dataclass(slots=True)
class Bucket:
    """One account's day; who was counted instead of whom, the milliseconds tell."""

    events: int = 0
    milliseconds: int = 0
    users: frozenset[int] = frozenset()


@dataclass(slots=True)
class Consultants:
    """Sent in rounds, one after the other: each round has new consultants, and the next scene of
    those who are there already.
    """

    seed: int
    early_rounds: int = 2
    round: int = 0
    users: int = 0
    unplaced: int = 0
    expected: dict[AccountDay, Bucket] = field(default_factory=dict)
    memberships: set[tuple[int, str]] = field(default_factory=set)
    """The user's key, and the account."""
    _choose: random.Random = field(init=False)
    _due: defaultdict[int, list[tuple[str, Record]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """What is to be sent, by the round."""
    _began: datetime = field(init=False)

    def __post_init__(self) -> None:
        self._choose = random.Random(self.seed)
        self._began = datetime.now(UTC).replace(microsecond=0) - timedelta(days=4)

    def next_round(self, *, new: int = NEW_EACH_ROUND) -> Sent:
        """What goes out now, in no order."""
        for number in range(new):
            self._story(f"{self.seed}-{self.round}-{number}")
        due = self._due.pop(self.round, [])
        self.round += 1
        self._choose.shuffle(due)
        sent: Sent = {USAGE_EVENTS: [], UNPLACED_EVENTS: []}
        for topic, record in due:
            sent[topic].append(record)
        return sent

    @property
    def has_more(self) -> bool:
        return bool(self._due)

    def _story(self, name: str) -> None:
        choose = self._choose
        self.users += 1
        user = f"u1:{choose.getrandbits(128):032x}"
        accounts = [f"customer-{name}-{number}" for number in range(ACCOUNTS)]
        is_late = choose.random() < LATE
        first = self.round + self.early_rounds
        last = first + SCENES + choose.randrange(SCENES)
        for scene in range(SCENES):
            account = choose.choice(accounts)
            called_at = self._began + scene * _SCENE
            sent_in = first + scene
            call = self._group(f"{name}-{scene}", user, account, called_at)
            self._send(last if is_late else sent_in, USAGE_EVENTS, call)
            for number in range(TRACKS):
                # The first is of the very moment of the call.
                moment = called_at + _SCENE * number / TRACKS
                record = self._track(f"{name}-{scene}-{number}", user, account, moment)
                early = self.early_rounds if choose.random() < EARLY else 0
                self._send(sent_in - early, UNPLACED_EVENTS, record)

    def _send(self, number: int, topic: str, record: Record) -> None:
        self._due[number].append((topic, record))
        if self._choose.random() < REPEATED:
            later = number + self._choose.randrange(_REPEATED_WITHIN)
            self._due[later].append((topic, record))

    def _group(self, name: str, user: str, account: str, moment: datetime) -> Record:
        self.memberships.add((user_key(user), account))
        event = UsageEvent(
            id=name,
            source="app",
            account=account,
            user=user,
            type="group",
            occurred_at=moment,
            client_at=moment,
            received_at=datetime.now(UTC),
        )
        return Record(key=account.encode(), value=encode(event))

    def _track(self, name: str, user: str, account: str, moment: datetime) -> Record:
        seconds = self._choose.randrange(60_000) / 1000
        self.unplaced += 1
        bucket = self.expected.setdefault((account, moment.date().isoformat()), Bucket())
        bucket.events += 1
        bucket.milliseconds += round(seconds * 1000)
        bucket.users |= {user_key(user)}
        event = UnplacedEvent(
            id=name,
            source="app",
            user=user,
            type="session_end",
            properties={"duration_seconds": seconds},
            occurred_at=moment,
            client_at=moment,
            received_at=datetime.now(UTC),
        )
        return Record(key=user.encode(), value=encode(event))


def misplaced(
    expected: dict[AccountDay, Bucket], counted: dict[AccountDay, Bucket]
) -> tuple[int, int, Sequence[str]]:
    """Events that are missing where they belong, events too many where they do not, and some of
    the account-days that differ in any way.
    """
    missing = Counter({key: one.events for key, one in expected.items()})
    found = Counter({key: one.events for key, one in counted.items()})
    differing = sorted(
        f"{key}: {expected.get(key)} became {counted.get(key)}"
        for key in expected.keys() | counted.keys()
        if expected.get(key) != counted.get(key)
    )
    return (missing - found).total(), (found - missing).total(), differing[:5]
