"""Plain histories and fields become flat columns, and nothing unknown becomes a number."""

from datetime import date, datetime, timedelta
from decimal import Decimal

import numpy as np

from services.scoring.domain.activity import user_key
from services.scoring.domain.usage import (
    STATUSES,
    History,
    Signal,
    SignalKind,
    code_of,
    directory_of,
    microseconds,
    usage_of,
)
from shared.messages import AccountFields
from tests.unit.scoring.factories import NOW


def test_histories_lie_one_behind_the_other() -> None:
    requested = Signal(at=NOW, kind=SignalKind.CANCELLATION_REQUESTED, user=7)
    usage = usage_of(
        [
            History(days=[10, 12], events=[1, 2], milliseconds=[0, 5], users=[(1, 2), (1,)]),
            History(),
            History(
                days=[11],
                events=[3],
                milliseconds=[0],
                users=[()],
                features=[("export",)],
                sources=[("app",)],
                signals=[requested],
                first_deleted=4,
                last_deleted=6,
                deleted_days=2,
            ),
        ]
    )
    assert usage.accounts == 3
    assert usage.days.owner.tolist() == [0, 0, 2]
    assert usage.days.day.tolist() == [10, 12, 11]
    assert usage.days.events.tolist() == [1, 2, 3]
    assert usage.days.milliseconds.tolist() == [0, 5, 0]
    assert usage.users.owner.tolist() == [0, 0, 0]
    assert usage.users.day.tolist() == [10, 10, 12]
    assert usage.users.code.tolist() == [1, 2, 1]
    assert usage.features.code.tolist() == [code_of("export")]
    assert usage.sources.code.tolist() == [code_of("app")]
    assert (usage.sources.owner.tolist(), usage.sources.day.tolist()) == ([2], [11])
    assert usage.signals.at.tolist() == [microseconds(NOW)]
    assert (usage.signals.owner.tolist(), usage.signals.user.tolist()) == ([2], [7])
    assert np.isnan(usage.signals.value).all()
    assert np.array_equal(usage.first_deleted, [np.nan, np.nan, 4], equal_nan=True)
    assert np.array_equal(usage.last_deleted, [np.nan, np.nan, 6], equal_nan=True)
    assert usage.deleted_days.tolist() == [0, 0, 2]


def test_a_directory_holds_numbers_where_something_is_known() -> None:
    known = AccountFields(
        seats=0,
        contract_start=date(2026, 1, 1),
        contract_end=date(2026, 12, 31),
        churned_at=date(2026, 6, 30),
        billing_period="month",
        status="churned",
        mrr=Decimal("99.50"),
        margin_per_month=Decimal(50),
    )
    directory = directory_of([AccountFields(), known])
    nothing, something = (
        [
            column[index]
            for column in (
                directory.seats,
                directory.contract_start,
                directory.contract_end,
                directory.churned_at,
                directory.status,
                directory.mrr,
                directory.margin,
            )
        ]
        for index in (0, 1)
    )
    assert np.isnan(nothing).all()
    assert something == [
        0,
        date(2026, 1, 1).toordinal(),
        date(2026, 12, 31).toordinal(),
        date(2026, 6, 30).toordinal(),
        STATUSES.index("churned"),
        99.5,
        50,
    ]
    assert directory.monthly.tolist() == [False, True]
    assert len(directory) == 2
    assert len(directory_of([])) == 0


def test_a_name_has_the_code_that_a_user_of_that_name_would_have() -> None:
    assert code_of("app") == user_key("app")
    assert code_of("app") != code_of("web")


def test_a_moment_keeps_its_last_microsecond() -> None:
    later = NOW + timedelta(microseconds=1)
    assert microseconds(later) - microseconds(NOW) == 1
    assert microseconds(datetime.fromisoformat("1970-01-01T01:00:00+00:00")) == 3_600_000_000
