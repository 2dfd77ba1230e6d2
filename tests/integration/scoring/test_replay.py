"""What the sweep logs in a replay is what a plain recomputation of the file says, bit for bit."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from services.scoring.domain.features import FEATURES
from services.scoring.domain.table import STATES
from services.scoring.evaluation import replay as replays
from services.scoring.evaluation.replay import replay
from services.scoring.evaluation.replayed import Replayed
from services.scoring.evaluation.snapshots import Snapshots, take
from shared.messages import AccountFields, UsageEvent
from tests.unit.scoring.factories import usage_event

START = datetime(2012, 1, 1, tzinfo=UTC)


def at(day: float, *, late_days: float = 0, **changes: object) -> UsageEvent:
    """An event `day` days after 1 January 2012, received `late_days` later."""
    happened = START + timedelta(days=day)
    received = happened + timedelta(days=late_days)
    return usage_event(**({"occurred_at": happened, "received_at": received} | changes))


def arrived(*events: UsageEvent) -> list[UsageEvent]:
    """In the order of their arrival, each with an id of its own."""
    ordered = sorted(events, key=lambda event: event.received_at)
    return [msgspec.structs.replace(event, id=str(number)) for number, event in enumerate(ordered)]


def looks_every_28_days(count: int) -> list[date]:
    return [START.date() + timedelta(days=28 * number) for number in range(count)]


def random_events(count: int) -> list[UsageEvent]:
    generator = np.random.default_rng(3)
    return arrived(
        *(
            at(
                float(generator.uniform(0, 700)),
                late_days=float(generator.exponential(20)),
                account=f"account-{generator.integers(0, 6)}",
                user=f"u1:{generator.integers(0, 9)}" if generator.random() < 0.9 else None,
                properties={"feature": f"f{generator.integers(0, 4)}"},
                type="commit" if generator.random() < 0.95 else "support_ticket",
            )
            for _ in range(count)
        )
    )


async def snapshots_of(url: str, events: Sequence[UsageEvent], days: Sequence[date]) -> Snapshots:
    replayed = await replay(url, events, {}, days)
    return take(replayed.looks, events, horizon_days=90, eligible="scored")


def recomputed(events: Sequence[UsageEvent], account: str, day: int) -> list[float]:
    """The 16 features of an account as of a day, from the events alone, one loop for each."""
    seen = [
        event
        for event in events
        if event.account == account
        and event.type == "commit"
        and event.received_at.toordinal() <= day
        and event.occurred_at.toordinal() <= day
    ]
    days = sorted({event.occurred_at.toordinal() for event in seen})

    def within(window: int) -> list[UsageEvent]:
        return [event for event in seen if event.occurred_at.toordinal() > day - window]

    def users(window: int) -> set[str]:
        return {event.user for event in within(window) if event.user}

    def user_days(window: int) -> set[tuple[str, int]]:
        return {(e.user, e.occurred_at.toordinal()) for e in within(window) if e.user}

    kept = [one for one in days if one > day - 400][-60:]
    gaps = [later - sooner for sooner, later in pairwise(kept)]
    per_user = [sum(one == user for one, _ in user_days(90)) for user in users(90)]
    values = {
        "recency_days": day - days[-1],
        "tenure_days": day - days[0],
        "mean_gap_days": sum(gaps) / len(gaps) if gaps else day - days[0],
        "breadth_365": len({event.properties["feature"] for event in within(365)}),
        "share_of_known_users": len(users(28)) / max(len(users(365)), 1),
        "stickiness": len(user_days(28)) / (28 * max(len(users(28)), 1)),
        "champion_share": max(per_user, default=0) / sum(per_user) if per_user else np.nan,
    }
    for window in (28, 90, 180, 365):
        values[f"active_days_{window}"] = sum(one > day - window for one in days)
        values[f"events_{window}"] = len(within(window))
        values[f"active_users_{window}"] = len(users(window))
    row = []
    for feature in FEATURES:
        value = values[feature.name]
        match feature.transform:
            case "log1p":
                row.append(float(np.log1p(value)))
            case "per_window":
                row.append(value / (feature.window_days or 1))
            case "identity":
                row.append(value)
    return row


async def test_streamed_equals_recomputed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "BATCH", 37)  # Batches end anywhere.
    events = random_events(1_500)
    found = await snapshots_of(database_url, events, looks_every_28_days(21))
    assert len(found) > 90
    expected = [
        recomputed(events, found.names[account], day)
        for account, day in zip(found.account.tolist(), found.day.tolist(), strict=True)
    ]
    assert np.array_equal(found.features, np.array(expected), equal_nan=True)


async def test_what_comes_later_changes_no_row(database_url: str) -> None:
    events = random_events(600)
    days = looks_every_28_days(12)
    cut = [event for event in events if event.received_at.date() <= days[-1]]
    assert len(cut) < len(events)
    whole = await snapshots_of(database_url, events, days)
    assert len(whole) > 30
    expected = [
        recomputed(cut, whole.names[account], day)
        for account, day in zip(whole.account.tolist(), whole.day.tolist(), strict=True)
    ]
    assert np.array_equal(whole.features, np.array(expected), equal_nan=True)


async def test_an_account_takes_part_from_its_28th_day_until_it_lapses(database_url: str) -> None:
    events = arrived(*(at(day + 0.5) for day in range(100)))
    found = await snapshots_of(database_url, events, looks_every_28_days(9))
    # Day 0 is a look, and day 28, where the tenure is 28; lapsed 90 days after day 99.
    first = START.toordinal()
    assert (found.day - first).tolist() == [28, 56, 84, 112, 140, 168]
    # No use in (T, T+90] from T = 99 on.
    assert found.lost.tolist() == [False, False, False, True, True, True]


async def test_a_look_sees_what_had_arrived_by_its_end(database_url: str) -> None:
    known = [at(day) for day in (0, 10, 20, 28.99)]
    late = at(27, late_days=2, user="u1:late")  # Arrives on day 29.
    on_time = at(26, late_days=2.9, user="u1:on-time")  # Arrives in the last hours of day 28.
    events = arrived(*known, late, on_time)
    found = await snapshots_of(database_url, events, looks_every_28_days(2))
    assert found.column("active_users_28").tolist() == [2]
    assert found.column("events_28").tolist() == [4]  # Day 0 lies before the 28 days.


@pytest.mark.parametrize(("day", "lost"), [(28 + 90, False), (28 + 91, True)])
async def test_the_day_after_the_horizon_is_too_late(
    database_url: str,
    day: int,
    lost: bool,  # noqa: FBT001
) -> None:
    # Whenever it becomes known that there was use.
    events = arrived(at(0), at(10), at(20), at(day, late_days=200))
    found = await snapshots_of(database_url, events, looks_every_28_days(2))
    assert found.lost.tolist() == [lost]


async def test_equal_rows_of_a_file_are_counted_apart(database_url: str) -> None:
    events = arrived(at(0), at(10), at(20), at(20), at(20))
    found = await snapshots_of(database_url, events, looks_every_28_days(2))
    assert found.column("events_90").tolist() == [5]


async def test_everyone_is_looked_at_where_everyone_takes_part(database_url: str) -> None:
    events = arrived(at(0, account="once"), *(at(day, account="often") for day in range(60)))
    replayed = await replay(database_url, events, {}, [date(2012, 6, 1)], everyone=True)
    (look,) = replayed.looks
    states = [STATES[int(state)] for state in look.table.column("state").tolist()]
    assert dict(zip(look.accounts, states, strict=True)) == {"once": "too_new", "often": "lapsed"}
    found = take(replayed.looks, events, horizon_days=30, eligible="any")
    assert sorted(found.names[account] for account in found.account.tolist()) == ["often", "once"]


async def test_the_directory_is_known_but_not_how_it_ends(database_url: str) -> None:
    fields = AccountFields(
        plan="pro",
        contract_start=date(2011, 12, 1),
        status="churned",
        churned_at=date(2012, 12, 1),
    )
    events = arrived(at(0), at(10), at(20))
    replayed = await replay(database_url, events, {"acme": fields}, looks_every_28_days(2))
    # By the contract's start it is 59 days old on 29 January, and nothing says that it will leave.
    assert replayed.looks[1].table.column("tenure_days").tolist() == [59]


async def test_the_flags_of_the_replay_are_told(database_url: str) -> None:
    events = arrived(*(at(day + 0.5) for day in range(100)))
    replayed: Replayed = await replay(database_url, events, {}, looks_every_28_days(8))
    silent = [flag for flag in replayed.flags if flag.reason == "gone_silent"]
    # Last use on day 99, silent for 28 days on day 127: seen at the look of day 140.
    assert [flag.raised_at for flag in silent] == [START + timedelta(days=141)]
