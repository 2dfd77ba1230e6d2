"""What events add beside the day buckets, whatever their order; the buckets: `test_activity.py`."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.activity import counts_as_activity, user_key
from services.scoring.domain.evidence import Evidence
from services.scoring.domain.signals import signal_of
from services.scoring.domain.tally import Tally, tally
from shared.messages import PlacedBy, UsageEvent
from tests.unit.scoring.factories import usage_event

BEGIN = datetime(2026, 3, 1, 22, tzinfo=UTC)
LATER = BEGIN + timedelta(days=1)

EVENTS = st.lists(
    st.builds(
        lambda number, account, user, kind, minutes, backfill, placed_by: usage_event(
            id=number,
            account=account,
            user=user,
            type=kind,
            source="app" if minutes % 2 else "billing",
            occurred_at=BEGIN + timedelta(minutes=minutes),
            received_at=BEGIN + timedelta(minutes=minutes),
            backfill=backfill,
            placed_by=placed_by,
        ),
        st.uuids(version=4).map(str),
        st.sampled_from(["acme", "globex"]),
        st.sampled_from([None, "u1:ada", "u1:bob"]),
        # Use, use that says more, and what happens without use.
        st.sampled_from(["login", "onboarding_milestone", "payment_failed", "identify", "group"]),
        st.integers(0, 240),
        st.booleans(),
        st.sampled_from([None, PlacedBy.ONLY_ACCOUNT]),
    ),
    max_size=30,
)


def tallied(events: Sequence[UsageEvent]) -> Tally[str]:
    return tally((event.id, event) for event in events)


@given(EVENTS, st.randoms())
def test_any_order_adds_the_same(events: list[UsageEvent], random: Random) -> None:
    one, other = tallied(events), tallied(random.sample(events, len(events)))
    one.signals.sort(key=lambda signal: signal[0])
    other.signals.sort(key=lambda signal: signal[0])
    assert one == other


@given(EVENTS)
def test_a_tally_says_what_plain_counting_says(events: list[UsageEvent]) -> None:
    found = tallied(events)
    live = [event for event in events if not event.backfill]
    assert found.source_hours == Counter(
        (event.source, event.received_at.replace(minute=0)) for event in live
    )
    assert found.signals == [
        (event.id, signal) for event in events if (signal := signal_of(event)) is not None
    ]
    assert found.all_users() == {user_key(event.user) for event in events if event.user}
    assert found.backfilled_since == _first([event for event in events if event.backfill])
    assert found.accounts() == {event.account for event in events}
    itself = [event for event in events if event.placed_by is None]
    since = dict.fromkeys(found.accounts(), LATER) | _first(itself)
    assert found.received_since(["acme", "globex", "nobody"], LATER) == since
    assert found.received_since(["acme"], LATER).keys() <= {"acme"}
    assert sum(delta.events for delta in found.deltas.values()) == sum(
        counts_as_activity(event.type) for event in events
    )


@given(EVENTS)
def test_who_belongs_where_is_learnt_from_what_names_both_itself(events: list[UsageEvent]) -> None:
    found = tallied(events)
    named = [
        (event, event.account, user_key(event.user), event.occurred_at)
        for event in events
        if event.user and event.placed_by is None
    ]
    active: dict[tuple[str, date], dict[int, datetime]] = {}
    for _, account, user, at in (one for one in named if counts_as_activity(one[0].type)):
        last = active.setdefault((account, at.date()), {})
        last[user] = max(at, last.get(user, at))
    assert found.active == active
    stated: dict[tuple[str, date], set[tuple[int, Evidence]]] = {}
    for event, account, user, at in named:
        if not counts_as_activity(event.type):
            said = {"group": Evidence.GROUPED, "identify": Evidence.IDENTIFIED}
            evidence = said.get(event.type, Evidence.ACTIVE)
            stated.setdefault((account, at.date()), set()).add((user, evidence))
    assert found.stated == stated
    assert found.group_calls == {
        (user, at, account) for event, account, user, at in named if event.type == "group"
    }


@pytest.mark.parametrize("kind", ["group", "$groupidentify"])
def test_a_group_call_says_from_when_on_by_utc(kind: str) -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    found = tallied([usage_event(type=kind, occurred_at=datetime(2026, 3, 2, 5, 29, tzinfo=india))])
    at = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)
    assert [(user, moment.isoformat(), name) for user, moment, name in found.group_calls] == [
        (user_key("u1:ada"), at.isoformat(), "acme")
    ]
    assert list(found.stated) == [("acme", at.date())]


def test_what_was_placed_waited_for_nobodys_slowness_but_is_as_old_as_it_is() -> None:
    """An erasure goes by the bucket's first arrival, the delay until a score by when it came."""
    waited = usage_event(id="1", received_at=BEGIN, placed_by=PlacedBy.ONLY_ACCOUNT)
    direct = usage_event(id="2", received_at=BEGIN + timedelta(hours=5))
    found = tallied([waited, direct])
    assert [delta.first_received_at for delta in found.deltas.values()] == [BEGIN]
    assert found.received_since(["acme"], LATER) == {"acme": direct.received_at}
    assert tallied([waited]).received_since(["acme"], LATER) == {"acme": LATER}


def test_a_milestone_is_both_use_and_a_signal() -> None:
    found = tallied([usage_event(type="onboarding_milestone", properties={"milestone": "import"})])
    assert (len(found.signals), len(found.deltas)) == (1, 1)


def test_an_hour_is_that_of_utc() -> None:
    # 05:30 in India is midnight in UTC: the hour before it began at 23:00 of the day before.
    india = timezone(timedelta(hours=5, minutes=30))
    received = datetime(2026, 3, 2, 5, 29, tzinfo=india)
    assert tallied([usage_event(received_at=received)]).source_hours == {
        ("app", datetime(2026, 3, 1, 23, tzinfo=UTC)): 1
    }


def _first(events: Sequence[UsageEvent]) -> dict[str, datetime]:
    return {
        name: min(event.received_at for event in events if event.account == name)
        for name in {event.account for event in events}
    }
