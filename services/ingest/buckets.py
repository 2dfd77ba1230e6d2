"""How many events a key may send: one token bucket per key, in this process alone."""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class _Bucket:
    tokens: float
    at: float


class Buckets:
    """Buckets that fill with `rate` events a second up to `burst`; a rate of 0 limits nothing.

    A request is admitted while its bucket holds anything and charged once its items are counted,
    so a bucket may go below zero: the next request waits for that too.
    """

    def __init__(self, *, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[str, _Bucket] = {}

    def wait_seconds(self, key_id: str, *, now: float) -> float:
        """0 where the key may send now, else the time until it may."""
        if not self._rate:
            return 0.0
        tokens = self._filled(key_id, now).tokens
        return 0.0 if tokens > 0 else (1.0 - tokens) / self._rate

    def charge(self, key_id: str, events: int, *, now: float) -> None:
        if self._rate:
            self._filled(key_id, now).tokens -= events

    def _filled(self, key_id: str, now: float) -> _Bucket:
        bucket = self._buckets.get(key_id)
        if bucket is None:
            # Only keys that passed the check get here: as many buckets as keys.
            bucket = self._buckets[key_id] = _Bucket(tokens=self._burst, at=now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        return bucket
