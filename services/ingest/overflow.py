"""Fairness among accounts: what one sends beyond its share takes another road to scoring.

The overflow topic is partitioned by account as the first one is, so that an account's events keep
their order there, and the events of all others do not wait behind them. An event without an account
is nobody's share: it has a topic of its own.
"""

import time
from collections.abc import Callable

from services.ingest.buckets import Buckets
from shared.messages import USAGE_EVENTS, USAGE_EVENTS_OVERFLOW


class Overflow:
    """Which topic an account's next event takes."""

    def __init__(
        self, buckets: Buckets, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._buckets = buckets
        self._monotonic = monotonic

    def topic_of(self, account: bytes) -> str:
        """Charges the account for one event."""
        is_within = self._buckets.take(account.decode(), now=self._monotonic())
        return USAGE_EVENTS if is_within else USAGE_EVENTS_OVERFLOW
