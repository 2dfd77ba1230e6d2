"""Usage events become day buckets, whatever their order."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, timezone
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.activity import (
    AccountDay,
    DayDelta,
    counts_as_activity,
    user_key,
)
from services.scoring.domain.tally import tally
from shared.messages import UsageEvent
from tests.unit.scoring.factories import TODAY, usage_event

FIRST_RECEIVED = datetime(2020, 1, 1, tzinfo=UTC)

EVENTS = st.lists(
    st.builds(
        lambda account, user, kind, hours, properties: usage_event(
            account=account,
            user=user,
            type=kind,
            occurred_at=datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=hours),
            received_at=datetime(2026, 3, 5, tzinfo=UTC) - timedelta(minutes=hours * 7 % 30),
            properties=properties,
        ),
        st.sampled_from(["acme", "globex"]),
        st.sampled_from([None, "u1:ada", "u1:bob", "u1:eve"]),
        st.sampled_from(["login", "session_end", "feature_used", "payment_failed", "$group"]),
        st.integers(0, 72),
        st.fixed_dictionaries(
            {},
            optional={
                "duration_seconds": st.floats(0, 86_400),
                "feature": st.sampled_from(["export", " export ", "", "import"]),
            },
        ),
    ),
    max_size=30,
)


def fold(events: Iterable[UsageEvent]) -> dict[AccountDay, DayDelta]:
    return tally((event.id, event) for event in events).deltas


@given(EVENTS, st.randoms())
def test_any_order_gives_the_same_buckets(events: list[UsageEvent], random: Random) -> None:
    assert fold(random.sample(events, len(events))) == fold(events)


def test_a_bucket_holds_sums_and_sets() -> None:
    events = [
        usage_event(user="u1:ada"),
        usage_event(user="u1:ada", type="session_end", properties={"duration_seconds": 90.5}),
        usage_event(user="u1:bob", type="session_end", properties={"duration_seconds": 10}),
        usage_event(
            user=None,
            type="feature_used",
            properties={"feature": " export "},
            received_at=FIRST_RECEIVED,
        ),
    ]
    assert fold(events) == {
        ("acme", TODAY): DayDelta(
            events=4,
            milliseconds=100_500,  # 90.5 s + 10 s
            userless=1,
            users={user_key("u1:ada"), user_key("u1:bob")},
            features={"export"},
            sources={"app"},
            first_received_at=FIRST_RECEIVED,
        )
    }


def test_a_late_event_lands_in_its_own_day() -> None:
    late = usage_event(occurred_at=datetime(2026, 2, 1, 23, 59, tzinfo=UTC))
    assert list(fold([late])) == [("acme", date(2026, 2, 1))]


def test_the_day_is_that_of_utc() -> None:
    tokyo = timezone(timedelta(hours=9))
    # 08:00 in Tokyo is 23:00 of the day before in UTC.
    early = usage_event(occurred_at=datetime(2026, 3, 1, 8, 0, tzinfo=tokyo))
    assert list(fold([early])) == [("acme", date(2026, 2, 28))]


@pytest.mark.parametrize(
    "duration",
    [-1, 86_401, float("nan"), float("inf"), True, "90", None, [1]],
    ids=str,
)
def test_what_is_no_duration_adds_an_event_but_no_time(duration: object) -> None:
    event = usage_event(type="session_end", properties={"duration_seconds": duration})
    (delta,) = fold([event]).values()
    assert (delta.events, delta.milliseconds) == (1, 0)


def test_only_the_end_of_a_session_brings_time() -> None:
    event = usage_event(type="page_view", properties={"duration_seconds": 60})
    assert fold([event])["acme", TODAY].milliseconds == 0


@pytest.mark.parametrize("feature", ["", "   ", "x" * 101, 7, None], ids=repr)
def test_what_is_no_feature_name_is_left_out(feature: object) -> None:
    event = usage_event(properties={"feature": feature})
    assert fold([event])["acme", TODAY].features == set()


@pytest.mark.parametrize(
    "kind",
    [
        "seat_added",
        "seat_removed",
        "plan_changed",
        "support_ticket",
        "payment_failed",
        "payment_succeeded",
        "cancellation_requested",
        "cancellation_withdrawn",
        "feedback",
        "goal_metric",
        "identify",
        "alias",
        "group",
        "$pageleave",
    ],
)
def test_what_happens_without_use_wakes_no_silent_account(kind: str) -> None:
    assert not counts_as_activity(kind)
    assert fold([usage_event(type=kind)]) == {}


@pytest.mark.parametrize("kind", ["login", "session_end", "invoice_drawn", "payment_page_opened"])
def test_any_other_type_counts_as_activity(kind: str) -> None:
    assert counts_as_activity(kind)


def test_a_user_key_is_stable_and_fits_a_bigint() -> None:
    # First 8 bytes of SHA-256("u1:ada"), big-endian, signed.
    assert user_key("u1:ada") == -5543795988525144814
    assert -(2**63) <= user_key("u1:bob") < 2**63
