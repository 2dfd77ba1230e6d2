"""The simulated vendor does what its stories say; every comparison has its arithmetic beside it."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from services.demo.simulator import FEATURES, Simulation, simulate
from services.demo.vendor import (
    ACCOUNTS,
    COUNTS,
    LAST,
    OWNERS,
    Fields,
    Pattern,
    SimulatedAccount,
)

NOW = datetime(2026, 11, 18, 15, 30, tzinfo=UTC)  # a Wednesday
FIRST = NOW.date() - timedelta(days=LAST)
USE = {"login", "session_start", "session_end", "page_view", "feature_used"}
SIGNALS = {
    "support_ticket",
    "feedback",
    "payment_failed",
    "payment_succeeded",
    "cancellation_requested",
    "onboarding_milestone",
    "goal_metric",
}


@pytest.fixture(scope="module")
def told() -> Simulation:
    return simulate(now=NOW)


@pytest.fixture(scope="module")
def events(told: Simulation) -> list[Fields]:
    return list(told.events())


@pytest.fixture(scope="module")
def use(events: list[Fields]) -> list[Fields]:
    """The events that somebody's use of the product left."""
    return [event for event in events if event["type"] in USE]


@pytest.fixture(scope="module")
def by_day(told: Simulation, use: list[Fields]) -> dict[str, NDArray[np.int64]]:
    """Events of each account on each day of the history, `(400,)`."""
    days = {account.id: np.zeros(LAST + 1, dtype=np.int64) for account in told.accounts}
    for event in use:
        days[account_of(event)][max(0, day_of(event))] += 1
    return days


@pytest.fixture(scope="module")
def visits(told: Simulation, use: list[Fields]) -> dict[str, Counter[tuple[int, str]]]:
    """Events of each account per (day, user)."""
    counted: dict[str, Counter[tuple[int, str]]] = {
        account.id: Counter() for account in told.accounts
    }
    for event in use:
        counted[account_of(event)][day_of(event), str(event["user_id"])] += 1
    return counted


def account_of(event: Fields) -> str:
    """Whose use it is, also where the event names the user alone."""
    return str(event["user_id"]).partition(":")[0]


def day_of(event: Fields) -> int:
    assert isinstance(event["occurred_at"], int)
    return (datetime.fromtimestamp(event["occurred_at"], UTC).date() - FIRST).days


def living(told: Simulation, pattern: Pattern) -> list[SimulatedAccount]:
    return [account for account in told.accounts if account.pattern is pattern]


def test_the_same_seed_gives_the_same_bytes(told: Simulation, events: list[Fields]) -> None:
    again = simulate(now=NOW)
    assert msgspec.json.encode(list(again.events())) == msgspec.json.encode(events)
    assert [account.item() for account in again.accounts] == [
        account.item() for account in told.accounts
    ]
    assert simulate(now=NOW, seed=8).event_count != told.event_count


def test_a_later_now_only_adds_events(told: Simulation, events: list[Fields]) -> None:
    later = simulate(now=NOW + timedelta(days=3), anchor=NOW.date())
    after = list(later.events())
    assert after[: len(events)] == events
    # Three autumn weekdays of about 1/280 of the history each: between 0.5 and 2 per cent.
    assert 0.005 < (len(after) - len(events)) / len(events) < 0.02
    assert [account.item() for account in later.accounts] == [
        account.item() for account in told.accounts
    ]


def test_there_are_as_many_as_told(told: Simulation, events: list[Fields]) -> None:
    assert Counter(account.pattern for account in told.accounts) == COUNTS
    assert len({account.id for account in told.accounts}) == ACCOUNTS == 240
    assert 150_000 <= told.event_count <= 250_000
    assert len({event["id"] for event in events}) == len(events) == told.event_count
    assert {event["type"] for event in events} == USE | SIGNALS


def test_events_come_in_time_order_and_end_now(events: list[Fields]) -> None:
    times = [int(str(event["occurred_at"])) for event in events]
    assert times == sorted(times)
    last = times[-1]
    # 200 accounts work at this hour: the last event is minutes old at most.
    assert 0 <= NOW.timestamp() - last < 1_800


def test_durations_and_features_are_what_the_wire_takes(events: list[Fields]) -> None:
    for event in events:
        properties = event.get("properties", {})
        assert isinstance(properties, dict)
        if event["type"] == "session_end":
            assert 0 <= properties["duration_seconds"] <= 86_400
        elif event["type"] == "feature_used":
            assert properties["feature"] in FEATURES


def test_weekdays_are_busier_than_weekends_and_holidays_quieter(
    by_day: dict[str, NDArray[np.int64]],
) -> None:
    total = np.sum(list(by_day.values()), axis=0)
    days = [FIRST + timedelta(days=index) for index in range(LAST + 1)]
    weekday = np.array([day.weekday() < 5 for day in days])
    # Weekdays have a factor of about 1, weekends of 0.07 and 0.04; Friday evening in America is
    # Saturday in UTC.
    assert total[weekday].mean() > 5 * total[~weekday].mean()
    holiday = np.array([day.month == 12 and day.day >= 24 for day in days])
    before = np.array([day.month == 12 and 1 <= day.day <= 20 for day in days])
    # Their factor is 0.15.
    assert total[holiday & weekday].mean() < 0.3 * total[before & weekday].mean()


def test_a_growing_account_grows(told: Simulation, by_day: dict[str, NDArray[np.int64]]) -> None:
    for account in living(told, Pattern.GROWING):
        start = account.begins
        middle = (start + LAST) // 2
        # The rate at the middle of each half: of 0.45 + 0.75 x / 399 at least 0.92 / 0.73 = 1.26
        # times more in the second half, even for who begins on day 150; noise leaves a gain.
        assert by_day[account.id][middle:].mean() > by_day[account.id][start:middle].mean()


def test_stable_accounts_stay_as_they_are(
    told: Simulation, by_day: dict[str, NDArray[np.int64]]
) -> None:
    ratios = [
        by_day[account.id][-91:-1].sum() / by_day[account.id][-182:-91].sum()
        for account in living(told, Pattern.STABLE)
    ]
    # 18 Aug-17 Nov against 19 May-17 Aug: 14 and 17 August days at 0.8, so 1.0 +- some noise.
    assert 0.9 < np.median(ratios) < 1.15
    assert min(ratios) > 0.5


def test_nobody_but_the_silent_and_lost_is_quiet_for_28_days(
    told: Simulation, by_day: dict[str, NDArray[np.int64]]
) -> None:
    quiet = {account.pattern for account in told.accounts if not by_day[account.id][-28:].any()}
    assert {Pattern.SILENT, Pattern.CHURNED} <= quiet
    assert quiet <= {Pattern.SILENT, Pattern.CHURNED, Pattern.DECLINING, Pattern.CHAMPION_LEFT}


def test_a_declining_account_loses_most_of_its_use(
    told: Simulation, by_day: dict[str, NDArray[np.int64]]
) -> None:
    for account in living(told, Pattern.DECLINING):
        assert account.turns is not None
        assert 90 <= LAST - account.turns <= 170
        before = by_day[account.id][account.turns - 180 : account.turns].mean()
        # At most 0.1 is left at the end; 28 days before, at the slowest, 0.1^(142/170) = 0.15.
        # A starter account's month then has two visits instead of fifteen, give or take.
        assert by_day[account.id][-28:].mean() < 0.4 * before


def test_a_silent_account_works_as_ever_and_then_stops(
    told: Simulation, by_day: dict[str, NDArray[np.int64]]
) -> None:
    for account in living(told, Pattern.SILENT):
        assert account.turns is not None
        last = int(np.flatnonzero(by_day[account.id])[-1])
        assert last in {account.turns, account.turns + 1}  # American evenings are the next day
        assert 28 <= LAST - last <= 60
        month = by_day[account.id][account.turns - 27 : account.turns + 1].mean()
        year = by_day[account.id][: account.turns + 1].mean()
        assert month > 0.5 * year


def test_the_champion_had_most_of_the_use_and_is_gone(
    told: Simulation, visits: dict[str, Counter[tuple[int, str]]]
) -> None:
    for account in living(told, Pattern.CHAMPION_LEFT):
        champion = f"{account.id}:0"
        days = visits[account.id]
        # scoring.md, champion_lost: days 29-118 before, half of the user-days and ten at least.
        window = [user for day, user in days if LAST - 118 <= day <= LAST - 29]
        assert window.count(champion) >= max(10, len(window) / 2)
        assert len(set(window)) >= 3
        recent = [user for day, user in days if day > LAST - 28]
        assert champion not in recent


def test_newcomers_have_begun_lately(
    told: Simulation, by_day: dict[str, NDArray[np.int64]]
) -> None:
    for account in living(told, Pattern.ONBOARDING):
        first = int(np.flatnonzero(by_day[account.id])[0])
        assert account.begins - 1 <= first  # Asian mornings are the day before
        assert LAST - 50 <= first <= LAST - 5


def test_a_churned_account_is_marked_so_after_its_last_use(
    told: Simulation, by_day: dict[str, NDArray[np.int64]]
) -> None:
    for account in living(told, Pattern.CHURNED):
        last = FIRST + timedelta(days=int(np.flatnonzero(by_day[account.id])[-1]))
        assert account.fields["status"] == "churned"
        assert last < date.fromisoformat(str(account.fields["churned_at"])) <= NOW.date()


def test_a_season_is_a_wave_of_a_year(
    told: Simulation, by_day: dict[str, NDArray[np.int64]]
) -> None:
    swings = []
    for account in living(told, Pattern.SEASONAL):
        days = by_day[account.id]
        peak = (account.index * 29 % 365 + 91) % 365
        trough = (peak + 182) % 365
        if account.begins == 0 and min(peak, trough) >= 40:
            swings.append(
                days[peak - 40 : peak + 40].mean() / days[trough - 40 : trough + 40].mean()
            )
    assert len(swings) >= 10
    # 1.35 / 0.65 = 2.1 at the extremes, 1.3 / 0.7 = 1.9 over 80 days around them.
    assert 1.5 < np.median(swings) < 2.6


def test_those_who_may_leave_are_of_every_plan(told: Simulation) -> None:
    leaving = {Pattern.DECLINING, Pattern.SILENT, Pattern.CHAMPION_LEFT}
    prices: dict[str, list[float]] = {}
    for account in told.accounts:
        if account.pattern in leaving:
            prices.setdefault(str(account.fields["plan"]), []).append(
                float(str(account.fields["mrr"]))
            )
    assert set(prices) == {"starter", "team", "business", "enterprise"}
    assert max(prices["enterprise"]) > 10 * min(prices["starter"])


def test_every_account_has_what_the_directory_knows(told: Simulation) -> None:
    assert {account.fields["owner"] for account in told.accounts} == set(OWNERS)
    resold = sum("reseller" in account.fields for account in told.accounts)
    assert 15 <= resold <= 60  # 15 % of 240 are 36
    for account in told.accounts:
        fields = account.fields
        if fields["plan"] == "starter" and account.pattern is not Pattern.CHURNED:
            assert "contract_end" not in fields  # It runs from month to month.
        else:
            assert str(fields["contract_start"]) < str(fields["contract_end"])
        begun = FIRST + timedelta(days=account.begins)
        signed = date.fromisoformat(str(fields["contract_start"]))
        # Newcomers signed days before; the others, whose first days are not told, before the story.
        assert (begun - signed).days == 3 if account.begins else signed < FIRST
        assert isinstance(fields["seats"], int)
        assert fields["seats"] >= account.users
        assert (fields["status"] == "trial") == ("mrr" not in fields)


def test_every_rule_about_signals_has_its_case(told: Simulation, events: list[Fields]) -> None:
    of_type: dict[str, list[Fields]] = {kind: [] for kind in SIGNALS}
    for event in events:
        if (kind := str(event["type"])) in SIGNALS:
            of_type[kind].append(event)
    failed = Counter(str(event["account_id"]) for event in of_type["payment_failed"])
    paid = {str(event["account_id"]) for event in of_type["payment_succeeded"]}
    assert set(failed.values()) == {2}  # within 14 days; see scoring.md, payment_failed
    assert paid < set(failed)
    low = [one for one in of_type["feedback"] if properties(one)["score"] == 3]
    assert 1 <= len(low) <= 10
    assert len(of_type["cancellation_requested"]) >= 2
    milestones = {str(event["account_id"]) for event in of_type["onboarding_milestone"]}
    newcomers = {account.id for account in living(told, Pattern.ONBOARDING)}
    assert milestones < newcomers
    tickets = Counter(
        (str(one["account_id"]), properties(one)["state"])
        for one in of_type["support_ticket"]
        if day_of(one) > LAST - 28
    )
    assert max(tickets.values()) >= 6
    severe = [one for one in of_type["support_ticket"] if properties(one)["severity"] == "critical"]
    assert all(day_of(one) == LAST - 12 and properties(one)["state"] == "open" for one in severe)
    assert severe


def test_what_happens_beside_use_stays_rare(events: list[Fields], use: list[Fields]) -> None:
    assert 0.005 < (len(events) - len(use)) / len(events) < 0.05


def properties(event: Fields) -> Fields:
    found = event["properties"]
    assert isinstance(found, dict)
    return found


def test_one_app_of_four_names_the_account_only_where_a_visit_begins(
    told: Simulation, use: list[Fields]
) -> None:
    sparing = {account.id for account in told.accounts if account.index % 4 == 0}
    named: set[tuple[str, int]] = set()
    unplaced = 0
    for event in use:
        user, day = str(event["user_id"]), day_of(event)
        if "account_id" in event:
            assert event["account_id"] == account_of(event)
            named.add((user, day))
        else:
            unplaced += 1
            assert account_of(event) in sparing
            # A visit may end after midnight.
            assert named & {(user, day), (user, day - 1)}, "who reads in order knows them by now"
    # More than half of what a quarter of the accounts send.
    assert 0.08 < unplaced / len(use) < 0.25
