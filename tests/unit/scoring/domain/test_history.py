"""Versions of an account: whatever comes, in whatever order, the newest is what is known now."""

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.history import VERSIONED, Version, versions_of
from shared.messages import AccountFields
from tests.factories import NOW

SECOND = timedelta(seconds=1)
MOMENT = timedelta(microseconds=1)
STATES = st.lists(
    st.tuples(
        st.integers(0, 4).map(lambda seconds: NOW + seconds * SECOND),
        st.sampled_from(["ada", "bob", None]).map(lambda owner: AccountFields(owner=owner)),
    ),
    min_size=1,
    max_size=8,
)


def values(fields: AccountFields) -> tuple[object, ...]:
    return tuple(getattr(fields, name) for name in VERSIONED)


def test_a_change_counts_from_when_it_was_received() -> None:
    ada, bob = AccountFields(owner="ada"), AccountFields(owner="bob", mrr=Decimal(10))
    found = versions_of(None, [(NOW, ada), (NOW + SECOND, bob)])
    assert found == [
        Version(since=NOW, values=values(ada)),
        Version(since=NOW + SECOND, values=values(bob)),
    ]


def test_of_two_states_at_one_moment_the_last_one_stays() -> None:
    ada, bob = AccountFields(owner="ada"), AccountFields(owner="bob")
    (one,) = versions_of(None, [(NOW, ada), (NOW, bob)])
    assert one == Version(since=NOW, values=values(bob))


def test_what_was_heard_before_the_newest_version_counts_right_after_it() -> None:
    newest = Version(since=NOW, values=values(AccountFields(owner="ada")))
    (one,) = versions_of(newest, [(NOW - SECOND, AccountFields(owner="bob"))])
    assert one.since == NOW + MOMENT


def test_fields_whose_past_is_not_kept_make_no_version() -> None:
    newest = Version(since=NOW, values=values(AccountFields(owner="ada")))
    known = AccountFields(owner="ada", timezone="Europe/Berlin")
    assert versions_of(newest, [(NOW + SECOND, known)]) == []


@given(states=STATES, later=STATES)
def test_versions_only_grow_and_the_newest_is_what_is_known(
    states: list[tuple[datetime, AccountFields]], later: list[tuple[datetime, AccountFields]]
) -> None:
    first = versions_of(None, states)
    second = versions_of(first[-1], later)
    found = [*first, *second]
    assert all(one.since < next_.since for one, next_ in pairwise(found))
    assert all(one.values != next_.values for one, next_ in pairwise(found))
    assert first[-1].values == values(states[-1][1])
    assert found[-1].values == values(later[-1][1])


@given(states=STATES)
def test_reading_the_log_again_adds_nothing(states: list[tuple[datetime, AccountFields]]) -> None:
    """As long as it is read in one go: the clocks' order does not matter."""
    newest = versions_of(None, states)[-1]
    again = [(min(heard, newest.since), fields) for heard, fields in states]
    assert versions_of(newest, again) == []
