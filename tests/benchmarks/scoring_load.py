"""What the benchmark of intake sends, and what the tables must say after it: plain Python.

Zipf-like accounts, of which one has 35 % of its partition's events; 3 % are sent twice, 10 % come
late (up to 28 days); every type that scoring reads is there.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from typing import Final

from services.scoring.domain.activity import NEVER, user_key
from services.scoring.domain.signals import subject_key
from services.scoring.domain.usage import SignalKind
from shared.log import Record
from shared.log.partitioner import partition_of
from shared.messages import UsageEvent, encode

PARTITIONS: Final = 12
HOT_SHARE: Final = 0.35
DUPLICATES: Final = 0.03
LATE: Final = 0.10
LATE_DAYS: Final = 28
FEATURES: Final = 40
_CHUNK = 10_000
_RETRY_WITHIN = 5_000
# Of 1,000 events.
_TYPES: Final = {
    "feature_used": 600,
    "login": 150,
    "session_end": 150,
    "page_view": 80,
    "support_ticket": 6,
    "payment_failed": 3,
    "payment_succeeded": 5,
    "feedback": 5,
    "cancellation_requested": 1,
}


@dataclass(slots=True)
class Bucket:
    """One account's day, as the plainest code counts it."""

    events: int = 0
    milliseconds: int = 0
    userless: int = 0
    users: set[str] = field(default_factory=set)
    features: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)
    first_received_at: datetime = NEVER


SignalRow = tuple[str, datetime, int, int | None, int | None, float | None, datetime]
"""Account, moment, kind, user's key, subject's key, value, arrival: as the table has them."""


@dataclass(slots=True)
class Load:
    """Makes the records, and counts what it makes."""

    events: int
    accounts: int
    seed: int = 1
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    days: dict[tuple[str, str], Bucket] = field(default_factory=dict)
    signals: list[SignalRow] = field(default_factory=list)
    hours: Counter[tuple[str, datetime]] = field(default_factory=Counter)
    sent: int = 0

    def chunks(self) -> Iterator[list[Record]]:
        """The records in the order of sending, the retries some way behind their first try."""
        choose = random.Random(self.seed)
        names = [f"account-{number:06}" for number in range(self.accounts)]
        weights = list(accumulate(self._weights(names)))
        types, shares = list(_TYPES), list(accumulate(_TYPES.values()))
        retries: list[tuple[int, Record]] = []
        chunk: list[Record] = []
        for number in range(self.events):
            rank = choose.choices(range(self.accounts), cum_weights=weights)[0]
            name = choose.choices(types, cum_weights=shares)[0]
            record = self._one(choose, number, names[rank], rank, name)
            chunk.append(record)
            if choose.random() < DUPLICATES:
                retries.append((number + choose.randrange(1, _RETRY_WITHIN), record))
            if len(chunk) >= _CHUNK:
                chunk += [record for due, record in retries if due <= number]
                retries = [one for one in retries if one[0] > number]
                self.sent += len(chunk)
                yield chunk
                chunk = []
        chunk += [record for _, record in retries]
        self.sent += len(chunk)
        yield chunk

    def _weights(self, names: list[str]) -> list[float]:
        weights = [1 / (rank + 10) for rank in range(len(names))]
        partitions = [partition_of(name.encode(), PARTITIONS) for name in names]
        beside = sum(
            weight
            for weight, partition in zip(weights[1:], partitions[1:], strict=True)
            if partition == partitions[0]
        )
        weights[0] = beside * HOT_SHARE / (1 - HOT_SHARE)
        return weights

    def _one(
        self, choose: random.Random, number: int, account: str, rank: int, name: str
    ) -> Record:
        late = choose.random() < LATE
        moment = self.now - timedelta(
            days=choose.randrange(1, LATE_DAYS + 1) if late else 0, seconds=choose.randrange(3_600)
        )
        users = 3 + 2_000 // (rank + 1)
        user = None if choose.random() < 0.02 else f"u1:{rank:016x}{choose.randrange(users):016x}"
        source = "app" if choose.random() < 0.9 else "billing"
        properties = _properties(choose, name)
        event = UsageEvent(
            id=f"0191f0e2-77c1-7d6b-{self.seed:04x}-{number:012x}",
            source=source,
            account=account,
            user=user,
            type=name,
            occurred_at=moment,
            client_at=moment,
            # Over six hours, as if ingest had been that slow.
            received_at=self.now + timedelta(seconds=number * 21_600 // self.events),
            properties=properties,
        )
        self._count(event)
        return Record(key=account.encode(), value=encode(event))

    def _count(self, event: UsageEvent) -> None:
        hour = event.received_at.replace(minute=0, second=0, microsecond=0)
        self.hours[event.source, hour] += 1
        if event.type in _SAID:
            self.signals.append(_signal(event))
            return
        key = (event.account, event.occurred_at.date().isoformat())
        bucket = self.days.setdefault(key, Bucket())
        bucket.events += 1
        bucket.sources.add(event.source)
        bucket.first_received_at = min(bucket.first_received_at, event.received_at)
        if event.user is None:
            bucket.userless += 1
        else:
            bucket.users.add(event.user)
        seconds = event.properties.get("duration_seconds")
        if isinstance(seconds, float):
            bucket.milliseconds += round(seconds * 1000)
        if "feature" in event.properties:
            bucket.features.add(str(event.properties["feature"]))


_SAID: Final = {
    "support_ticket": SignalKind.TICKET_OPENED,
    "payment_failed": SignalKind.PAYMENT_FAILED,
    "payment_succeeded": SignalKind.PAYMENT_SUCCEEDED,
    "feedback": SignalKind.FEEDBACK_NPS,
    "cancellation_requested": SignalKind.CANCELLATION_REQUESTED,
}


def _signal(event: UsageEvent) -> SignalRow:
    said = event.properties
    subject, value = None, None
    if event.type == "support_ticket":
        subject, value = subject_key(str(said["ticket_id"])), 3.0  # high
    elif event.type == "feedback":
        value = float(str(said["score"]))
    elif event.type == "cancellation_requested":
        value = float(date.fromisoformat(str(said["effective_on"])).toordinal())
    user = user_key(event.user) if event.user else None
    kind = int(_SAID[event.type])
    return (event.account, event.occurred_at, kind, user, subject, value, event.received_at)


def _properties(choose: random.Random, name: str) -> dict[str, object]:
    feature = f"feature-{int(FEATURES * choose.random() ** 2):02}"
    path = f"/projects/{choose.randrange(1_000)}/board"
    said: dict[str, dict[str, object]] = {
        "feature_used": {"feature": feature, "plan": "team", "path": path},
        "session_end": {"duration_seconds": round(choose.uniform(1, 7_200), 3)},
        "page_view": {"path": path, "referrer": "/home"},
        "support_ticket": {"ticket_id": f"T-{choose.randrange(10_000)}", "severity": "high"},
        "feedback": {"scale": "nps", "score": choose.randrange(11)},
        "payment_failed": {"amount": 49, "currency": "EUR"},
        "payment_succeeded": {"amount": 49, "currency": "EUR"},
        "cancellation_requested": {"reason": "price", "effective_on": "2030-01-31"},
    }
    return said.get(name, {})
