"""Whose an account's work is, and why theirs."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.domain.assignment import (
    Because,
    assign,
    is_in_fallback_queue,
    whom,
)
from services.notifier.domain.calendar import known_zones
from services.notifier.domain.people import (
    Assignment,
    Away,
    Person,
    Roster,
    Team,
    alone,
    is_mail_address,
)
from services.notifier.domain.playbooks import Who
from shared.messages import AccountFields

known_zones()

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
JUNE = (Away(first=date(2026, 6, 1), last=date(2026, 6, 30)),)
ANNA, BEN, CARO, DAN, LENA = (
    f"{name}@vendor.example" for name in ("anna", "ben", "caro", "dan", "lena")
)
DESK = "desk@vendor.example"


def roster(*people: Person, **changes: object) -> Roster:
    usual: dict[str, object] = {
        "teams": (Team(name="smb", lead=LENA, members=(CARO, DAN)),),
        "assignments": (
            Assignment(to=BEN, region=("DACH",), segment=("enterprise", "large")),
            Assignment(to="smb", segment=("smb",)),
        ),
        "resellers": {"Nordwind": BEN},
    }
    return Roster(fallback_owner=DESK, fallback_lead=LENA, people=people, **(usual | changes))  # type: ignore[arg-type]


def fields(**changes: str) -> AccountFields:
    return AccountFields(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("account", "people", "owner", "because"),
    [
        pytest.param(fields(owner=ANNA), (), ANNA, Because.ACCOUNT, id="the account names them"),
        pytest.param(
            fields(owner="Anna@Vendor.Example"),
            (Person(address=ANNA),),
            ANNA,
            Because.ACCOUNT,
            id="in other letters, written as the team file writes them",
        ),
        pytest.param(
            fields(owner=ANNA, reseller="Nordwind"),
            (),
            ANNA,
            Because.ACCOUNT,
            id="the account's owner comes before the reseller's",
        ),
        pytest.param(
            fields(owner=ANNA),
            (Person(address=ANNA, away=JUNE, deputy=DAN),),
            DAN,
            Because.ACCOUNT,
            id="away: the deputy",
        ),
        pytest.param(
            fields(owner=ANNA),
            (
                Person(address=ANNA, away=JUNE, deputy=DAN),
                Person(address=DAN, away=JUNE, deputy=CARO),
            ),
            CARO,
            Because.ACCOUNT,
            id="the deputy is away too: theirs",
        ),
        pytest.param(
            fields(owner=ANNA, segment="smb"),
            (
                Person(address=ANNA, away=JUNE, deputy=DAN),
                Person(address=DAN, away=JUNE, deputy=ANNA),
            ),
            CARO,
            Because.TEAM,
            id="two away that stand in for each other: the rule, and there who is not away",
        ),
        pytest.param(
            fields(owner=ANNA),
            (Person(address=ANNA, away=JUNE),),
            DESK,
            Because.FALLBACK,
            id="away without a deputy: work does not wait",
        ),
        pytest.param(
            fields(owner="anna smith", reseller="nordwind "),
            (),
            BEN,
            Because.RESELLER,
            id="an owner that is no address counts as none; resellers by name in any case",
        ),
        pytest.param(
            fields(owner="a@b\r\nBcc: x@y.example", segment="smb"),
            (),
            CARO,
            Because.TEAM,
            id="a hostile owner counts as none",
        ),
        pytest.param(
            fields(segment="Enterprise", region="dach"),
            (),
            BEN,
            Because.RULE,
            id="a rule by segment and region",
        ),
        pytest.param(
            fields(segment="enterprise", region="apac"),
            (),
            DESK,
            Because.FALLBACK,
            id="all entries of a rule must match",
        ),
        pytest.param(
            fields(segment="enterprise"),
            (),
            DESK,
            Because.FALLBACK,
            id="what is not known matches no rule that asks for it",
        ),
        pytest.param(
            fields(segment="smb"),
            (Person(address=CARO, away=JUNE), Person(address=DAN, away=JUNE)),
            LENA,
            Because.TEAM,
            id="the whole team is away: its lead",
        ),
        pytest.param(fields(), (), DESK, Because.FALLBACK, id="nobody's"),
        pytest.param(
            fields(),
            (Person(address=DESK, away=JUNE, deputy=CARO),),
            CARO,
            Because.FALLBACK,
            id="the fallback owner is away",
        ),
        pytest.param(
            fields(),
            (Person(address=DESK, away=JUNE),),
            DESK,
            Because.FALLBACK,
            id="the fallback owner is away without a deputy: theirs all the same",
        ),
    ],
)
def test_the_first_who_is_there_has_it(
    account: AccountFields, people: tuple[Person, ...], owner: str, because: Because
) -> None:
    found = assign(account, roster(*people), now=NOW, open_counts={})
    assert (found.owner, found.because) == (owner, because)


def test_the_timeline_can_tell_whom_somebody_stands_in_for() -> None:
    people = (Person(address=ANNA, away=JUNE, deputy=DAN),)
    found = assign(fields(owner=ANNA), roster(*people), now=NOW, open_counts={})
    assert found.stands_in_for == ANNA
    of_team = assign(fields(segment="smb"), roster(), now=NOW, open_counts={})
    assert (of_team.team, of_team.stands_in_for) == ("smb", None)


def test_whether_somebody_is_away_is_asked_in_their_own_zone() -> None:
    """Friday 19:00 UTC is Saturday in Brisbane, the first day away."""
    saturday = (Away(first=date(2026, 6, 6), last=date(2026, 6, 6)),)
    friday = datetime(2026, 6, 5, 19, tzinfo=UTC)
    for zone, owner in (("Australia/Brisbane", DAN), ("UTC", ANNA)):
        anna = Person(address=ANNA, zone=zone, away=saturday, deputy=DAN)
        assert assign(fields(owner=ANNA), roster(anna), now=friday, open_counts={}).owner == owner


@pytest.mark.parametrize(
    ("counts", "owner"),
    [({}, CARO), ({CARO: 1}, DAN), ({CARO: 1, DAN: 2}, CARO), ({CARO: 2, DAN: 2}, CARO)],
)
def test_of_a_team_it_is_who_has_the_fewest_open(counts: dict[str, int], owner: str) -> None:
    assert assign(fields(segment="smb"), roster(), now=NOW, open_counts=counts).owner == owner


@pytest.mark.parametrize(
    ("who", "owner", "means"),
    [
        pytest.param(Who.OWNER, ANNA, ANNA, id="the owner"),
        pytest.param(Who.DEPUTY, ANNA, DAN, id="their deputy"),
        pytest.param(Who.DEPUTY, BEN, BEN, id="who has no deputy"),
        pytest.param(Who.MANAGER, ANNA, BEN, id="their manager"),
        pytest.param(Who.MANAGER, CARO, LENA, id="without one: the lead of their team"),
        pytest.param(Who.MANAGER, BEN, LENA, id="without a team: the lead of the fallback queue"),
        pytest.param(Who.LEAD, ANNA, LENA, id="the lead"),
        pytest.param(Who.RESELLER, ANNA, BEN, id="the reseller's owner"),
    ],
)
def test_whom_a_playbook_means(who: Who, owner: str, means: str) -> None:
    known = roster(Person(address=ANNA, deputy=DAN, manager=BEN))
    assert whom(who, owner=owner, reseller="Nordwind", roster=known, now=NOW) == means


def test_an_escalation_goes_to_who_stands_in_for_a_manager_that_is_away() -> None:
    known = roster(Person(address=ANNA, manager=BEN), Person(address=BEN, away=JUNE, deputy=CARO))
    assert whom(Who.MANAGER, owner=ANNA, reseller=None, roster=known, now=NOW) == CARO
    nobody = roster(Person(address=ANNA, manager=BEN), Person(address=BEN, away=JUNE))
    assert whom(Who.MANAGER, owner=ANNA, reseller=None, roster=nobody, now=NOW) == BEN


def test_a_playbook_led_by_the_reseller_goes_to_the_reseller_s_owner() -> None:
    account = fields(owner=ANNA, reseller="Nordwind")
    found = assign(account, roster(), now=NOW, open_counts={}, rule=Who.RESELLER)
    assert (found.owner, found.because) == (BEN, Because.RESELLER)
    unknown = fields(owner=ANNA, reseller="Nobody Ltd")
    found = assign(unknown, roster(), now=NOW, open_counts={}, rule=Who.RESELLER)
    assert (found.owner, found.because) == (ANNA, Because.ACCOUNT)


@pytest.mark.parametrize(
    ("account", "owner", "is_in"),
    [
        pytest.param(fields(), DESK, True, id="nobody is named"),
        pytest.param(fields(owner=DESK), DESK, False, id="the account names the fallback owner"),
        pytest.param(fields(), ANNA, False, id="somebody has taken it"),
        pytest.param(fields(owner=ANNA), DESK, True, id="whom the account names was away"),
    ],
)
def test_what_is_in_the_fallback_queue(account: AccountFields, owner: str, *, is_in: bool) -> None:
    assert is_in_fallback_queue(owner, account, roster()) is is_in


texts = st.none() | st.sampled_from([ANNA, "smb", "DACH", "Nordwind", ""]) | st.text(max_size=20)


@given(
    st.builds(AccountFields, owner=texts, segment=texts, region=texts, reseller=texts),
    st.sampled_from(Who),
)
def test_there_is_always_an_owner_with_a_usable_address(account: AccountFields, rule: Who) -> None:
    for known in (roster(), alone(DESK), roster(Person(address=ANNA, away=JUNE, deputy=ANNA))):
        found = assign(account, known, now=NOW, open_counts={}, rule=rule)
        assert is_mail_address(found.owner)
