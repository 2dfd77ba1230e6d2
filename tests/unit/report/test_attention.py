"""What a review says of a month: sentences, each with the number that it rests on."""

from datetime import UTC, date, datetime

import msgspec

from services.notifier.console.economics_api import (
    Figures,
    Forecast,
    Goals,
    Horizon,
    Part,
    Portfolio,
)
from services.report import attention
from tests.standins import economics

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NO_GOALS = Goals(
    accounts=0, goals=0, reached=0, on_track=0, behind=0, missed=0, no_values=0,
    mean_improvement=None, top_improvement=None, success_rate=None,
)  # fmt: skip
NOTHING_DUE = Forecast(as_of=NOW, horizons=(), whole=())


def figures(start: int, *, lost: int, due: int, renewed: int, pending: int = 0) -> Figures:
    one = economics.figures(start, lost=lost, due=due, renewed=renewed, pending=pending)
    return msgspec.convert(one, Figures, strict=False)


def portfolio(by: str, whole: Figures, *parts: tuple[str | None, Figures]) -> Portfolio:
    return Portfolio(
        first=date(2026, 5, 1), until=date(2026, 6, 1), as_of=NOW, state="final", by=by,
        target=0.9, whole=whole, parts=tuple(Part(key=key, figures=one) for key, one in parts),
    )  # fmt: skip


WHOLE = figures(200, lost=4, due=40, renewed=36)


def test_who_is_below_the_target_comes_first_the_furthest_first() -> None:
    found = attention.points(
        {"owner": portfolio(
            "owner", WHOLE,
            ("anna", figures(100, lost=2, due=20, renewed=19)),  # 95 %: above
            ("ben", figures(60, lost=1, due=12, renewed=10)),  # 83.3 %
            ("chloe", figures(40, lost=1, due=10, renewed=7)),  # 70 %
        )},
        NOTHING_DUE, NO_GOALS,
    )  # fmt: skip
    assert [one.what for one in found] == [
        "chloe: renewals at 70.0 %",
        "ben: renewals at 83.3 %",
    ]
    assert found[0].because == "3 of 10 decided contracts were lost; the target is 90 %"


def test_a_part_that_loses_more_than_half_as_much_again_is_named() -> None:
    # The whole loses 4 / 200 = 2 %; 4 / 100 = 4 % is twice that, 2 / 80 = 2.5 % is not 1.5 times.
    found = attention.points(
        {"segment": portfolio(
            "segment", WHOLE,
            ("small", figures(100, lost=4, due=0, renewed=0)),
            ("large", figures(80, lost=2, due=0, renewed=0)),
        )},
        NOTHING_DUE, NO_GOALS,
    )  # fmt: skip
    assert [one.what for one in found] == ["Segment small: 4.0 % left in the month"]
    assert found[0].because == "4 of 100 accounts, 2.0 times the whole's 2.0 %"


def test_nothing_is_said_of_fewer_than_ten() -> None:
    small = figures(9, lost=4, due=9, renewed=1)
    found = attention.points(
        {"owner": portfolio("owner", WHOLE, ("anna", small))}, NOTHING_DUE, NO_GOALS
    )
    assert found == ()


def test_the_nearest_renewals_and_goals_that_are_behind_are_named() -> None:
    soon = Horizon(days=30, due=12, without_risk=2, expected_lost=1.44, expected_rate=0.88)
    goals = msgspec.structs.replace(NO_GOALS, goals=9, behind=3, no_values=1)
    forecast = Forecast(as_of=NOW, horizons=(30,), whole=(soon,))
    found = attention.points({}, forecast, goals)
    assert [one.what for one in found] == [
        "12 contracts end within 30 days",
        "3 goals of customers are behind",
        "1 goal has no values",
    ]


def test_the_month_in_sentences() -> None:
    before = portfolio("whole", figures(200, lost=3, due=40, renewed=36))
    month = portfolio("whole", figures(200, lost=4, due=40, renewed=31, pending=5))
    # 31 of 35 are 88.6 %, 1.4 points below 90 %; 4 of 200 are 2 %, 3 of 200 were 1.5 %.
    assert attention.narrative(month, before) == [
        (
            "88.6 % of the contracts that were decided were renewed, 1.4 points below the target of"
            " 90 %: 31 renewed, 4 lost, 5 still open."
        ),
        (
            "4 of 200 accounts left, 2.0 %, after 1.5 % the month before; 12 came, so that 208 are"
            " under contract."
        ),
    ]
