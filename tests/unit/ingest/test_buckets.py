"""How many events a key may send."""

from services.ingest.buckets import Buckets


def test_a_key_may_send_a_burst_and_then_waits() -> None:
    buckets = Buckets(rate=10, burst=100)
    assert buckets.wait_seconds("k", now=0) == 0
    buckets.charge("k", 100, now=0)
    # Empty: one token more takes a tenth of a second.
    assert buckets.wait_seconds("k", now=0) == 0.1
    assert buckets.wait_seconds("k", now=0.2) == 0


def test_a_large_request_is_paid_by_the_next_one() -> None:
    buckets = Buckets(rate=10, burst=100)
    buckets.charge("k", 150, now=0)
    # 50 below zero and one to be above: 51 at 10 a second.
    assert buckets.wait_seconds("k", now=0) == 5.1


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    buckets = Buckets(rate=10, burst=20)
    buckets.charge("k", 0, now=0)
    buckets.charge("k", 20, now=1_000_000)
    assert buckets.wait_seconds("k", now=1_000_000) == 0.1


def test_keys_do_not_pay_for_each_other() -> None:
    buckets = Buckets(rate=10, burst=20)
    buckets.charge("a", 100, now=0)
    assert buckets.wait_seconds("b", now=0) == 0


def test_a_rate_of_zero_limits_nothing() -> None:
    buckets = Buckets(rate=0, burst=1)
    buckets.charge("k", 10**9, now=0)
    assert buckets.wait_seconds("k", now=0) == 0
