"""Which account an event of a user belongs to: each rule, each tie, whatever the order."""

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.placing import GroupCall, Membership, Standing, place
from shared.messages import PlacedBy
from tests.factories import NOW

HOUR = timedelta(hours=1)
TODAY = NOW.date()


def member(
    *, since: date = TODAY, active: datetime | None = None, learnt: datetime = NOW
) -> Membership:
    return Membership(since=since, last_active_at=active, learnt_at=learnt)


def standing(calls: Sequence[GroupCall] = (), **memberships: Membership) -> Standing:
    return Standing(memberships=memberships, group_calls=sorted(calls))


@pytest.mark.parametrize(
    ("known", "account", "by"),
    [
        pytest.param(
            standing([(NOW + HOUR, "acme")], acme=member()),
            "acme",
            PlacedBy.ONLY_ACCOUNT,
            id="of one account, whenever it was stated",
        ),
        pytest.param(
            standing(
                [(NOW - 2 * HOUR, "acme"), (NOW - HOUR, "globex"), (NOW + HOUR, "acme")],
                acme=member(active=NOW),
                globex=member(),
            ),
            "globex",
            PlacedBy.GROUP_CALL,
            id="the latest call before the event, not the later one, nor the last activity",
        ),
        pytest.param(
            standing([(NOW, "acme")], acme=member(), globex=member(active=NOW)),
            "acme",
            PlacedBy.GROUP_CALL,
            id="a call at the very moment counts",
        ),
        pytest.param(
            standing([(NOW, "globex"), (NOW, "acme")], acme=member(), globex=member()),
            "globex",
            PlacedBy.GROUP_CALL,
            id="of calls at one moment the last by name",
        ),
        pytest.param(
            standing(
                [(NOW + HOUR, "acme")],
                acme=member(active=NOW - 2 * HOUR),
                globex=member(active=NOW - HOUR),
                initech=member(),
            ),
            "globex",
            PlacedBy.LAST_ACTIVITY,
            id="without a call before it, where the user was active last",
        ),
        pytest.param(
            standing(globex=member(active=NOW), acme=member(active=NOW)),
            "acme",
            PlacedBy.LAST_ACTIVITY,
            id="of two at one moment the first by name",
        ),
        pytest.param(
            standing(
                [(NOW + HOUR, "globex"), (NOW + 2 * HOUR, "acme")],
                acme=member(since=TODAY - timedelta(days=9)),
                globex=member(),
            ),
            "globex",
            PlacedBy.FIRST_STATED,
            id="without activity, what the next call says",
        ),
        pytest.param(
            standing(acme=member(), globex=member(since=TODAY - timedelta(days=1))),
            "globex",
            PlacedBy.FIRST_STATED,
            id="without any call, what was known first",
        ),
        pytest.param(
            standing(globex=member(), acme=member()),
            "acme",
            PlacedBy.FIRST_STATED,
            id="of two known since one day the first by name",
        ),
    ],
)
def test_the_account_of_an_event(known: Standing, account: str, by: PlacedBy) -> None:
    assert place(NOW, known) == (account, by)


def test_a_user_is_known_since_the_first_account_was_heard_of() -> None:
    known = standing(acme=member(learnt=NOW), globex=member(learnt=NOW - HOUR))
    assert known.known_since == NOW - HOUR


_NAMES = st.sampled_from(["acme", "globex", "initech"])
_MOMENTS = st.integers(-5, 5).map(lambda hours: NOW + hours * HOUR)
_MEMBERS = st.builds(
    lambda days, active: member(since=TODAY - timedelta(days=days), active=active),
    st.integers(0, 3),
    st.none() | _MOMENTS,
)


@given(
    st.dictionaries(_NAMES, _MEMBERS, min_size=1),
    st.lists(st.tuples(_MOMENTS, _NAMES), max_size=6),
    _MOMENTS,
    st.randoms(use_true_random=False),
)
def test_the_order_in_which_it_was_learnt_decides_nothing(
    memberships: dict[str, Membership],
    calls: list[GroupCall],
    at: datetime,
    chance: random.Random,
) -> None:
    calls = [call for call in calls if call[1] in memberships]
    shuffled, items = calls[:], list(memberships.items())
    chance.shuffle(shuffled)
    chance.shuffle(items)
    account, by = place(at, standing(calls, **memberships))
    assert (account, by) == place(at, standing(shuffled, **dict(items)))
    assert account in memberships
    before = [call for call in calls if call[0] <= at]
    if len(memberships) > 1:
        assert (by is PlacedBy.GROUP_CALL) == bool(before)


class _Walked(Mapping[str, Membership]):
    """Memberships that count how often somebody goes through all of them."""

    def __init__(self, memberships: Mapping[str, Membership]) -> None:
        self._memberships = memberships
        self.walks = 0

    def __getitem__(self, account: str) -> Membership:
        return self._memberships[account]

    def __iter__(self) -> Iterator[str]:
        self.walks += 1
        return iter(self._memberships)

    def __len__(self) -> int:
        return len(self._memberships)


@pytest.mark.parametrize("active", [NOW, None])
def test_the_accounts_of_a_user_are_gone_through_once_not_with_each_event(
    active: datetime | None,
) -> None:
    walked = _Walked({f"a-{number}": member(active=active) for number in range(50)})
    known = Standing(memberships=walked)
    assert {place(NOW, known)[0] for _ in range(100)} == {"a-0"}
    # Who was active last, and where nobody was, who was known first.
    assert walked.walks <= 2
