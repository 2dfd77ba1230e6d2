"""What an intervention is given as it begins, and what it keeps."""

from dataclasses import replace
from datetime import UTC, date, datetime

from services.notifier.domain.interventions import Assignment
from services.notifier.domain.openings import move_tasks, new_owner, opening, plan_tasks
from services.notifier.domain.people import Person, Roster
from services.notifier.domain.playbooks import Match, Playbook, Playbooks, TaskRule, Who
from services.notifier.domain.signals import of_flag
from shared.messages import AccountFields, Band
from tests.unit.notifier.factories import HOUR, NOW, flag, intervention

ANNA, BEN, LEAD = "anna@vendor.example", "ben@vendor.example", "lead@vendor.example"
ROSTER = Roster(
    fallback_owner=LEAD,
    fallback_lead=LEAD,
    people=(
        Person(address=ANNA, zone="Europe/Paris", manager=LEAD),
        Person(address=BEN, zone="America/New_York", days_off=(date(2026, 6, 2),)),
    ),
)
REVIEW = Playbook(
    name="review",
    version=4,
    title="Review",
    match=Match(type="renew"),
    due={Band.AT_RISK: 2, Band.CRITICAL: 0},
    tasks=(
        TaskRule(title="Call them", due=1),
        TaskRule(title="Approve", due=2, owner=Who.MANAGER),
    ),
)
PLAYBOOKS = Playbooks((REVIEW, Playbook(name="all", version=1, title="All")))


def opened(owner: str | None = ANNA, **changes: object) -> Assignment:
    return opening(
        of_flag(flag(**changes)),
        None,
        fields=AccountFields(owner=owner),
        roster=ROSTER,
        playbooks=PLAYBOOKS,
        open_counts={},
        now=NOW,
    )


def test_it_is_due_at_the_end_of_the_owners_nth_working_day() -> None:
    # Monday in Paris + 2 days by the playbook = Wednesday, 18:00 there = 16:00 UTC.
    annas = opened()
    assert (annas.owner, annas.playbook, annas.because) == (ANNA, REVIEW, "account")
    assert annas.due_at == datetime(2026, 6, 3, 16, tzinfo=UTC)
    # Ben is off on Tuesday: Thursday, 18:00 in New York = 22:00 UTC.
    assert opened(BEN).due_at == datetime(2026, 6, 4, 22, tzinfo=UTC)
    # Critical is due today.
    assert opened(band=Band.CRITICAL).due_at == datetime(2026, 6, 1, 16, tzinfo=UTC)


def test_without_an_owner_the_fallback_has_it_and_it_is_said_why() -> None:
    nobodys = opened(None)
    assert (nobodys.owner, nobodys.because) == (LEAD, "fallback")


def test_what_is_open_keeps_owner_and_playbook_and_worse_is_due_by_them() -> None:
    current = intervention(owner=BEN, playbook=REVIEW)
    kept = opening(
        of_flag(flag(band=Band.CRITICAL)),
        current,
        fields=AccountFields(owner=ANNA),
        roster=ROSTER,
        playbooks=Playbooks(),
        open_counts={},
        now=NOW,
    )
    # Today, 18:00 in New York.
    expected = Assignment(owner=BEN, due_at=datetime(2026, 6, 1, 22, tzinfo=UTC), playbook=REVIEW)
    assert kept == expected


def test_tasks_are_planned_for_whom_they_name_and_follow_to_a_new_owner() -> None:
    subject = intervention(owner=ANNA, playbook=REVIEW)
    call, approve = plan_tasks(subject, fields=AccountFields(), roster=ROSTER)
    assert (call.number, call.title, call.owner) == (1, "Call them", ANNA)
    assert call.due_at == datetime(2026, 6, 2, 16, tzinfo=UTC)
    assert (approve.owner, approve.due_at) == (LEAD, datetime(2026, 6, 3, 18, tzinfo=UTC))

    moved = intervention(owner=BEN, playbook=REVIEW)
    call, approve = move_tasks([call, approve], moved, fields=AccountFields(), roster=ROSTER)
    assert (call.owner, call.due_at) == (BEN, datetime(2026, 6, 3, 22, tzinfo=UTC))
    assert approve.owner == LEAD


def test_what_is_done_stays_with_whoever_did_it() -> None:
    subject = intervention(owner=ANNA, playbook=REVIEW)
    call, approve = plan_tasks(subject, fields=AccountFields(), roster=ROSTER)
    done = replace(call, done_at=NOW + HOUR, done_by=ANNA)
    moved = intervention(owner=BEN, playbook=REVIEW)
    left = move_tasks([done, approve], moved, fields=AccountFields(), roster=ROSTER)
    assert [one.number for one in left] == [2]


def test_only_another_owner_in_the_directory_takes_it_away() -> None:
    def asked(before: AccountFields, after: AccountFields) -> str | None:
        return new_owner(
            intervention(owner=BEN),
            before=before,
            after=after,
            roster=ROSTER,
            open_counts={},
            now=NOW,
        )

    by_anna = AccountFields(owner=ANNA)
    assert asked(by_anna, AccountFields(owner=LEAD)) == LEAD
    # Somebody gave it to Ben: that Anna has the account, and more seats, is no news.
    assert asked(by_anna, AccountFields(owner=ANNA, seats=9)) is None
    assert asked(AccountFields(), by_anna) == ANNA
    assert asked(by_anna, AccountFields()) == LEAD
