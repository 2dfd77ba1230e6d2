"""Who may act on whose work; how long failures wait; what an identity provider makes of people."""

import itertools
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.domain.access import Right, Role, Viewer
from services.notifier.domain.identity import (
    NotLetIn,
    Registration,
    address_of,
    role_of,
    roles_of,
)
from services.notifier.domain.throttle import ADDRESS, CLIENT, KNOWN, Throttle

ANNA, BEN, QUEUE = "anna@vendor.example", "ben@vendor.example", "queue@vendor.example"


def viewer(role: Role) -> Viewer:
    return Viewer(address=ANNA, role=role, way="local")


@pytest.mark.parametrize(
    ("role", "own", "fallbacks", "others"),
    [
        (Role.VIEWER, False, False, False),
        (Role.CSM, True, True, False),
        (Role.MANAGER, True, True, True),
        (Role.ADMIN, True, True, True),
    ],
)
def test_whose_work_a_role_acts_on(role: Role, own: bool, fallbacks: bool, others: bool) -> None:  # noqa: FBT001 - columns of the table
    found = [viewer(role).may_act_on(one, fallback={QUEUE}) for one in (ANNA.upper(), QUEUE, BEN)]
    assert found == [own, fallbacks, others]


def test_each_role_may_what_the_one_before_it_may() -> None:
    rights = [{one for one in Right if viewer(role).may(one)} for role in Role]
    assert all(less < more for less, more in itertools.pairwise(rights))


def test_waits_double_after_the_free_failures_and_end() -> None:
    throttle = Throttle(free=3, longest=timedelta(seconds=10))
    waits = [throttle.wait(failures).total_seconds() for failures in range(9)]
    # 0 to 3 are free; then 1, 2, 4, 8, and no more than 10.
    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 10]


@given(st.integers(min_value=0, max_value=2**31 - 1), st.sampled_from([ADDRESS, CLIENT, KNOWN]))
def test_no_number_of_failures_locks_anybody_out(failures: int, throttle: Throttle) -> None:
    assert throttle.wait(failures) <= throttle.wait(failures + 1) <= timedelta(minutes=15)


def registration(**changes: Any) -> Registration:
    usual: dict[str, Any] = {
        "issuer": "https://id.example",
        "client_id": "perennial",
        "scope": "openid email",
        "role_claim": None,
        "roles": {},
        "default_role": None,
        "takes_unverified": False,
    }
    return Registration(**usual | changes)


@pytest.mark.parametrize(
    ("claims", "changes", "found"),
    [
        ({"email": "Anna@Vendor.example", "email_verified": True}, {}, ANNA),
        ({"email": ANNA, "email_verified": "true"}, {}, ANNA),
        ({"email": ANNA}, {}, NotLetIn.UNVERIFIED),
        ({"email": ANNA, "email_verified": False}, {}, NotLetIn.UNVERIFIED),
        ({"email": ANNA, "email_verified": 1.5}, {}, NotLetIn.UNVERIFIED),
        ({"email": ANNA}, {"takes_unverified": True}, ANNA),
        ({"email_verified": True}, {}, NotLetIn.NO_ADDRESS),
        ({"email": 7, "email_verified": True}, {}, NotLetIn.NO_ADDRESS),
        ({"email": "anna\n@x", "email_verified": True}, {}, NotLetIn.NO_ADDRESS),
    ],
)
def test_whose_address_is_taken(
    claims: dict[str, object], changes: dict[str, Any], found: str
) -> None:
    assert address_of(claims, registration(**changes)) == found


MAPPED = {"role_claim": "groups", "roles": {"cs": Role.CSM, "leads": Role.MANAGER}}


@pytest.mark.parametrize(
    ("claims", "changes", "known_as", "found"),
    [
        pytest.param({"groups": ["cs", "leads"]}, MAPPED, None, Role.MANAGER, id="the highest"),
        pytest.param({"groups": "cs"}, MAPPED, None, Role.CSM, id="a text"),
        pytest.param({"groups": ["it"]}, MAPPED, None, None, id="not mapped"),
        pytest.param({"groups": ["it"]}, MAPPED, Role.ADMIN, None, id="not what it once was"),
        pytest.param({}, MAPPED | {"default_role": Role.VIEWER}, None, Role.VIEWER, id="default"),
        pytest.param({"groups": [["cs"]]}, MAPPED, None, None, id="no list of lists"),
        pytest.param({"groups": {"cs": 1}}, MAPPED, None, None, id="no object"),
        pytest.param({}, {}, Role.MANAGER, Role.MANAGER, id="as an admin said"),
        pytest.param({}, {}, None, None, id="nobody said"),
        pytest.param(
            {"realm_access": {"roles": ["cs"]}},
            MAPPED | {"role_claim": "realm_access.roles"},
            None,
            Role.CSM,
            id="within another",
        ),
        pytest.param(
            {"https://x.example/groups": ["cs"]},
            MAPPED | {"role_claim": "https://x.example/groups"},
            None,
            Role.CSM,
            id="a name with dots",
        ),
    ],
)
def test_which_role_claims_give(
    claims: dict[str, object], changes: dict[str, Any], known_as: Role | None, found: Role | None
) -> None:
    assert role_of(claims, registration(**changes), known_as=known_as) is found


@pytest.mark.parametrize("text", ["[]", "{", '{"a": "root"}', '{"a": 1}', "null", "7"])
def test_a_mapping_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|JSON object|is not a valid Role"):
        roles_of(text)
