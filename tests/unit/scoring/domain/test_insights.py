"""What the month's document says of customers made by hand; counts are those of drawn accounts."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from services.scoring.domain.insight_document import Document, Insight
from services.scoring.domain.insights import (
    Beginnings,
    Customers,
    Fates,
    Growth,
    InUse,
    insights_of,
)
from services.scoring.domain.publication import told

RETAIL, BANKS, TINY, NOWHERE = 0, 1, 2, -1
SEGMENTS = ("Retail", "Banks", "Tiny")
NO_NUMBERS = np.empty(0)
NOBODY = np.empty(0, np.int64)

IN_USE = InUse(
    # 24 in Retail with 5 to 12 users on 16 of 28 days, 12 banks, and 8 who are told of nowhere.
    group=np.array([RETAIL] * 24 + [BANKS] * 12 + [TINY] * 4 + [NOWHERE] * 4, np.int64),
    users=np.array([*([5.0] * 9 + [8.0] * 6 + [12.0] * 9), *[30.0] * 12, *[1.0] * 8]),
    days=np.array([16.0] * 24 + [20.0] * 12 + [4.0] * 8),
    hours=np.array([2.5] * 24 + [np.nan] * 12 + [1.0] * 8),
)


def uses(**by_feature: list[tuple[int, int]]) -> Beginnings:
    """20 newcomers in Retail, 10 banks, first value on day 9; features by (account, day)."""
    flat = [
        (account, code, day)
        for code, pairs in enumerate(by_feature.values())
        for account, day in pairs
    ]
    account, feature, day = np.array(flat, np.int64).reshape(-1, 3).T
    return Beginnings(
        group=np.array([RETAIL] * 20 + [BANKS] * 10, np.int64),
        value_days=np.array([9.0] * 15 + [np.inf] * 5 + [40.0] * 10),
        value="milestone",
        features=list(by_feature),
        user=account,
        feature=feature,
        day=day,
    )


# 14 of Retail's 20 in week 1 and one more in week 2; 5 of the 10 banks in week 1.
CONNECTED = [(n, 0) for n in range(14)] + [(14, 9)] + [(20 + n, 6) for n in range(5)]
CUSTOMERS = Customers(
    segments=SEGMENTS,
    in_use=IN_USE,
    beginnings=uses(connect=CONNECTED),
    growth=Growth(
        # 6 of 18 in Retail doubled from 5 users.
        group=np.zeros(18, np.int64),
        users_before=np.full(18, 5.0),
        users_after=np.array([10.0] * 6 + [5.0] * 12),
        features_before=np.full(18, 3.0),
        features_after=np.full(18, 4.0),
    ),
    fates=Fates(
        group=np.zeros(30, np.int64),
        left=np.arange(30) >= 20,
        indicators=np.repeat(
            [[12.0, 12.0, 5.0, 0.8, 0.5, 1.0], [3.0, 3.0, 4.0, 0.6, 0.4, 1.0]], [20, 10], axis=0
        ),
    ),
)


def by_segment(customers: Customers) -> dict[str | None, Insight]:
    return {one.segment: one for one in insights_of(customers)}


def test_teams_and_rhythm_of_a_segment() -> None:
    """16 active days in four weeks are 4 a week; 24 / 0.8 = 30 accounts.

    Nine of 24 teams have 5 users, nine 12: five around each quartile have the same.
    """
    retail = by_segment(CUSTOMERS)["Retail"]
    assert retail.accounts == 30
    assert (retail.size.median_users, retail.size.quartiles) == (8.0, (5.0, 12.0))
    assert (retail.rhythm.days_per_week, retail.rhythm.hours_per_user_week) == (4.0, 2.5)


def test_the_whole_comes_first_and_small_segments_only_in_it() -> None:
    """44 / 0.8 = 55 accounts; Tiny's four stay with those of no segment: eight, so both are told.

    Without a ninth of them nothing changes, without four of them the banks would hide too: 44 less
    Retail less the banks would be the four of Tiny.
    """
    found = insights_of(CUSTOMERS)
    assert [(one.segment, one.accounts) for one in found] == [
        (None, 55),
        ("Retail", 30),
        ("Banks", 15),
    ]
    keep = IN_USE.group != NOWHERE
    fewer = replace(
        CUSTOMERS,
        in_use=InUse(
            group=IN_USE.group[keep],
            users=IN_USE.users[keep],
            days=IN_USE.days[keep],
            hours=IN_USE.hours[keep],
        ),
    )
    assert [one.segment for one in insights_of(fewer)] == [None, "Retail"]


def test_adoption_by_week_of_life() -> None:
    """15 of Retail's 20 by week 12 = 0.75; the one of them who came after week 1 would be found
    between the weeks, so of week 1 nothing is told.

    If 14 used it, all of them in week 1, 14 of 20 = 0.7.
    """
    found = by_segment(CUSTOMERS)
    (use,) = found["Retail"].features
    assert (use.name, use.share, use.first_week) == ("connect", 0.75, 12)
    assert [week.week for week in found["Retail"].by_week] == [12]
    early = replace(
        CUSTOMERS,
        beginnings=uses(connect=[*((n, 0) for n in range(14)), *((20 + n, 0) for n in range(5))]),
    )
    retail = by_segment(early)["Retail"]
    assert retail.features[0].share == 0.7


def test_the_curve_is_told_where_enough_begin_between_two_weeks() -> None:
    """All 30 in Retail: 7 of them in week 1 = 0.23, 5 more in week 3, 12 = 0.4; 18 never.

    The grid of 0.05 makes 0.25 of 0.23; of weeks 2, 4 and 8 nothing is told: between them and week
    1 or 12 is nobody.
    """
    slow = uses(connect=[(n, 0) for n in range(7)] + [(7 + n, 14) for n in range(5)])
    retail = replace(slow, group=np.zeros(30, np.int64))
    found = by_segment(replace(CUSTOMERS, beginnings=retail))["Retail"]
    told_by = {week.week: week.adopted[0].share for week in found.by_week}
    assert told_by == {1: 0.25, 12: 0.4}
    # Half of the 0.4 had begun in the first week.
    assert found.features[0].first_week == 1


def test_features_of_few_are_not_named() -> None:
    rare = uses(connect=CONNECTED, secret_project=[(n, 0) for n in range(4)])
    content = msgspec.json.encode(insights_of(replace(CUSTOMERS, beginnings=rare)))
    assert b"connect" in content
    assert b"secret_project" not in content


def test_time_to_value() -> None:
    """15 of 20 after 9 days, 5 not yet: the median is 9 and 0.75 are there within 30 days.

    The banks' ten are after 40 days: of them all is told but how many are in time, for none is.
    """
    found = by_segment(CUSTOMERS)
    assert found["Retail"].time_to_value.median_days == 9.0
    assert found["Banks"].time_to_value.median_days == 40.0
    assert found["Banks"].time_to_value.share_in_30 is None
    # 15 of all 30; but the banks' none would be the rest of it, so Retail's is not told.
    assert found[None].time_to_value.share_in_30 == 0.5
    assert found["Retail"].time_to_value.share_in_30 is None


def test_those_who_renew_and_those_who_leave() -> None:
    """20 / 0.8 = 25 stayed, 10 / 0.8 = 12.5 left, told as 10: Python rounds halves to even."""
    retail = by_segment(CUSTOMERS)["Retail"]
    assert (retail.renewing, retail.leaving) == (25, 10)
    users = next(one for one in retail.renewing_vs_leaving if one.indicator == "active_users_28")
    assert (users.renewing, users.leaving) == (12.0, 3.0)
    kept = next(one for one in retail.renewing_vs_leaving if one.indicator.startswith("share"))
    assert (kept.renewing, kept.leaving) == (80.0, 60.0)


def test_those_who_grew() -> None:
    """6 of 18 doubled: 0.33 is told as 0.35; of six no median is told."""
    growth = by_segment(CUSTOMERS)["Retail"].growth
    assert (growth.share, growth.users_before) == (0.35, None)


def test_too_few_customers_have_no_insights() -> None:
    nothing = InUse(group=NOBODY, users=NO_NUMBERS, days=NO_NUMBERS, hours=NO_NUMBERS)
    assert insights_of(replace(CUSTOMERS, in_use=nothing)) == []


def document(segments: list[Insight]) -> Document:
    return Document(month="2026-10", made_at="2026-11-03", k=5, basis="", segments=segments)


def test_what_is_made_passes_the_look_before_it_is_told() -> None:
    made = insights_of(CUSTOMERS)
    shown = told(document(made)).segments
    assert [msgspec.structs.replace(one, stories=[]) for one in shown] == made


def test_what_someone_else_wrote_into_a_document_is_not_told() -> None:
    """Counts that are exact or small, shares and values off the grid; a name is not even read."""
    retail = insights_of(CUSTOMERS)[1]
    changed = msgspec.structs.replace(
        retail,
        newcomers=3,
        size=msgspec.structs.replace(retail.size, median_users=8.13),
        leaving=11,
    )
    (shown,) = told(document([changed])).segments
    assert (shown.newcomers, shown.features, shown.by_week) == (None, [], [])
    assert shown.size.median_users is None
    assert (shown.renewing, shown.leaving, shown.renewing_vs_leaving) == (None, None, [])
    assert told(document([msgspec.structs.replace(retail, accounts=4)])).segments == []
    weaker = msgspec.structs.replace(document([retail]), k=4)
    assert told(weaker).segments == []
    content = msgspec.to_builtins(document([retail]))
    content["segments"][0]["examples"] = ["fernhill-media"]
    with pytest.raises(msgspec.ValidationError, match="unknown field `examples`"):
        msgspec.convert(content, Document)


def test_stories_are_told_with_their_figures() -> None:
    stories = {one.title: one for one in told(document(insights_of(CUSTOMERS))).segments[1].stories}
    rhythm = stories["Who uses it, and how often"]
    assert rhythm.text == (
        "Teams of 5 to 12 in Retail use it on 4 days a week, each user for about 2.5 hours a week."
    )
    assert {one.what: one.value for one in rhythm.figures} == {
        "accounts": 30,
        "lower quartile of users": 5.0,
        "upper quartile of users": 12.0,
        "active days a week, median": 4.0,
        "hours per user and week, median": 2.5,
    }
    assert stories["How soon it pays"].text == (
        "Of new customers in Retail: after 9 days half of them have their first milestone."
    )
    assert stories["What those who renew do"].text == (
        "Three months before, those who renew in Retail came on 12 of 28 days (those who left: 3)"
        " and had 12 active users (those who left: 3)."
    )


def test_the_first_week_is_a_story() -> None:
    """Of 30, 18 in week 1 = 0.6 and 6 more by week 12 = 0.8; six never."""
    first = uses(connect=[(n, 0) for n in range(18)] + [(18 + n, 60) for n in range(6)])
    born = replace(first, group=np.zeros(30, np.int64))
    (whole, *_) = told(document(insights_of(replace(CUSTOMERS, beginnings=born)))).segments
    text = next(one.text for one in whole.stories if one.title == "How customers begin")
    assert text == (
        "In the first week 6 of 10 use connect among all customers. By week 12 it is 8 of 10 for"
        " connect."
    )
