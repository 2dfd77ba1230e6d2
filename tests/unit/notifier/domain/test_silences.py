"""What a silence keeps quiet, and for how long."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from services.notifier.domain.silences import (
    Matchers,
    Refused,
    Silence,
    State,
    expired,
    silenced_until,
    why_not,
)
from shared.messages import AccountFields
from tests.unit.notifier.factories import DAY, HOUR, NOW, intervention

FIELDS = AccountFields(segment="Enterprise", reseller="Contoso")


def silence(**changes: object) -> Silence:
    usual = Silence(
        id=UUID(int=1),
        matchers=Matchers(account="acme"),
        starts_at=NOW,
        ends_at=NOW + DAY,
        author="anna@vendor.example",
        comment="They move to another office.",
        created_at=NOW,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("matchers", "matches"),
    [
        pytest.param(Matchers(account="acme"), True, id="its account"),
        pytest.param(Matchers(account="acme2"), False, id="another account"),
        pytest.param(
            Matchers(owner="ANNA@vendor.example"), True, id="its owner, whatever the case"
        ),
        pytest.param(Matchers(owner="ben@vendor.example"), False, id="another owner"),
        pytest.param(Matchers(segment=" enterprise"), True, id="its segment, as people write it"),
        pytest.param(Matchers(segment="smb"), False, id="another segment"),
        pytest.param(Matchers(reseller="contoso"), True, id="its reseller"),
        pytest.param(Matchers(type="renew"), True, id="its type"),
        pytest.param(Matchers(type="adopt"), False, id="another type"),
        pytest.param(Matchers(reason="churn_risk"), True, id="its reason"),
        pytest.param(Matchers(reason="usage_drop"), False, id="another reason"),
        pytest.param(Matchers(account="acme", reason="usage_drop"), False, id="one of two holds"),
        pytest.param(Matchers(account="acme", reason="churn_risk"), True, id="both hold"),
    ],
)
def test_all_that_is_named_must_hold(matchers: Matchers, matches: bool) -> None:  # noqa: FBT001
    assert matchers.match(intervention(), FIELDS) is matches


def test_an_account_without_a_segment_is_in_none() -> None:
    assert not Matchers(segment="Enterprise").match(intervention(), AccountFields())


@pytest.mark.parametrize(
    ("after", "state"),
    [
        pytest.param(-HOUR, State.PENDING, id="before it starts"),
        pytest.param(timedelta(0), State.ACTIVE, id="as it starts"),
        pytest.param(DAY - timedelta(microseconds=1), State.ACTIVE, id="just before its end"),
        pytest.param(DAY, State.EXPIRED, id="at its end"),
    ],
)
def test_its_state_follows_from_its_times(after: timedelta, state: State) -> None:
    assert silence().state(NOW + after) is state


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        pytest.param({}, None, id="a good one"),
        pytest.param({"matchers": Matchers()}, Refused.MATCHES_ALL, id="of everything"),
        pytest.param({"comment": " \n"}, Refused.NO_COMMENT, id="without a word why"),
        pytest.param({"ends_at": NOW}, Refused.BACKWARDS, id="of no length"),
        pytest.param(
            {"starts_at": NOW - DAY, "ends_at": NOW - HOUR}, Refused.PAST, id="over already"
        ),
        pytest.param({"ends_at": NOW + 181 * DAY}, Refused.TOO_LONG, id="for half a year"),
    ],
)
def test_what_is_taken(changes: dict[str, object], refused: Refused | None) -> None:
    assert why_not(silence(**changes), now=NOW) is refused


def test_expiring_moves_a_future_end_only() -> None:
    halfway = NOW + HOUR
    ended = expired(silence(), now=halfway)
    assert ended is not None
    assert (ended.starts_at, ended.ends_at) == (NOW, halfway)
    assert ended.state(halfway) is State.EXPIRED
    assert expired(silence(), now=NOW + DAY) is None
    before = expired(silence(), now=NOW - HOUR)
    assert before is not None
    assert before.state(NOW) is State.EXPIRED  # It never held.


def test_the_longest_silence_that_holds_says_until_when() -> None:
    longer = silence(ends_at=NOW + 2 * DAY)
    later = silence(starts_at=NOW + HOUR, ends_at=NOW + 3 * DAY)
    of_others = silence(matchers=Matchers(account="other"), ends_at=NOW + 9 * DAY)
    subject = intervention()
    found = silenced_until((silence(), longer, later, of_others), subject, FIELDS, now=NOW)
    assert found == NOW + 2 * DAY
    assert silenced_until((later, of_others), subject, FIELDS, now=NOW) is None
