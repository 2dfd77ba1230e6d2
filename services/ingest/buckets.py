"""How many events a key may send, or an account: a token bucket each, in this process alone."""

from dataclasses import dataclass

_MOST = 100_000
"""Buckets held; beyond, those that are full are forgotten: they are as good as new."""


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

    def take(self, key_id: str, *, now: float) -> bool:
        """One token, if there is one; always where nothing is limited."""
        if not self._rate:
            return True
        bucket = self._filled(key_id, now)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

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
            if len(self._buckets) >= _MOST:
                self._forget_full(now)
            bucket = self._buckets[key_id] = _Bucket(tokens=self._burst, at=now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        return bucket

    def _forget_full(self, now: float) -> None:
        kept = [
            (key_id, bucket)
            for key_id, bucket in self._buckets.items()
            if bucket.tokens + (now - bucket.at) * self._rate < self._burst
        ]
        # Where too many are in use, the oldest begin anew: else each new one would come here.
        self._buckets = dict(kept[-_MOST // 2 :])
