"""The team file: what is accepted, and what is refused by file and line."""

from datetime import date, time
from pathlib import Path

import pytest

from services.notifier import team
from services.notifier.domain.assignment import Because, assign
from services.notifier.domain.calendar import calendar_of
from services.notifier.domain.people import Assignment, Away, Mode, Roster, Team, Webhook
from services.notifier.playbook_files import of_file
from services.notifier.yaml_files import FileRejected
from shared.messages import AccountFields
from tests.unit.notifier.factories import NOW

EXAMPLE = Path(__file__).resolve().parents[3] / "deploy" / "team.example.yaml"
FALLBACK = "fallback:\n  owner: desk@vendor.example\n"


def read(text: str) -> Roster:
    return team.read({"team.yaml": text.encode()})


def test_the_example_says_what_its_comments_say() -> None:
    roster = team.read(of_file(EXAMPLE))
    anna = roster.person("Anna@vendor.example")
    assert (anna.opens, anna.closes, anna.digest_at) == (time(8, 30), time(17), time(8, 30))
    assert anna.away == (Away(first=date(2026, 8, 3), last=date(2026, 8, 21)),)
    assert (anna.slack, anna.channels, anna.mode) == (
        "U012AB3CD",
        ("slack", "email"),
        Mode.REAL_TIME,
    )
    assert not calendar_of(anna).is_working_day(date(2026, 1, 6))  # Epiphany, in Bavaria.
    bilal = roster.person("bilal@vendor.example")
    assert not calendar_of(bilal).is_working_day(date(2026, 6, 5))  # A Friday.
    assert roster.team("americas") == Team(
        name="americas", lead="lena@vendor.example", members=("chris@vendor.example",)
    )
    assert roster.assignments[0] == Assignment(to="americas", region=("us", "ca", "br"))
    assert roster.webhooks == (
        Webhook(name="crm", url="https://crm.vendor.example/hooks/perennial"),
    )
    assert (roster.fallback_owner, roster.fallback_lead) == (
        "cs-desk@vendor.example",
        "lena@vendor.example",
    )
    assert roster.slack_channel == "C012AB3CD"
    assert team.strangers(roster) == ["cs-desk@vendor.example"]


@pytest.mark.parametrize(
    ("fields", "owner", "because"),
    [
        (AccountFields(owner="bilal@vendor.example"), "bilal@vendor.example", Because.ACCOUNT),
        (AccountFields(reseller="delta partners, inc."), "chris@vendor.example", Because.RESELLER),
        (AccountFields(region="US", segment="smb"), "chris@vendor.example", Because.TEAM),
        (AccountFields(segment="Enterprise"), "anna@vendor.example", Because.RULE),
        (AccountFields(segment="smb"), "anna@vendor.example", Because.TEAM),
        (AccountFields(segment="public"), "cs-desk@vendor.example", Because.FALLBACK),
    ],
)
def test_the_example_assigns(fields: AccountFields, owner: str, because: Because) -> None:
    found = assign(fields, team.read(of_file(EXAMPLE)), now=NOW, open_counts={})
    assert (found.owner, found.because) == (owner, because)


def test_the_fallback_is_enough_and_its_owner_is_its_lead() -> None:
    roster = read(FALLBACK)
    assert roster == Roster(
        fallback_owner="desk@vendor.example", fallback_lead="desk@vendor.example"
    )


def test_a_day_away_may_stand_alone() -> None:
    roster = read(f"{FALLBACK}people:\n- address: a@b.example\n  away: 2026-12-24\n")
    assert roster.people[0].away == (Away(first=date(2026, 12, 24), last=date(2026, 12, 24)),)


def test_norway_is_a_country_and_six_in_the_evening_a_time() -> None:
    """YAML takes NO for false and 18:00 for 1080."""
    person = "address: a@b.example, country: NO, opens: 9:30, closes: 18:00"
    [found] = read(f"{FALLBACK}people:\n- {{{person}}}\n").people
    assert (found.country, found.opens, found.closes) == ("NO", time(9, 30), time(18))


@pytest.mark.parametrize(
    ("body", "line", "says"),
    [
        ("people:\n- name: Anna\n", 4, "address is missing"),
        ("people:\n- address: anna\n", 4, "'anna' must be an e-mail address"),
        ('people:\n- address: "a@b.example\\nBcc: x@y.example"\n', 4, "one line"),
        ("people:\n- address: a@b.example\n  zone: Berlin\n", 5, "a time zone of IANA"),
        ("people:\n- address: a@b.example\n  opens: 25:00\n", 5, "'25:00' must be a time"),
        ("people:\n- {address: a@b.example, opens: 18:00, closes: 09:00}\n", 4, "after opens"),
        ("people:\n- address: a@b.example\n  country: Germany\n", 5, "ISO 3166-1"),
        ("people:\n- address: a@b.example\n  country: DEU\n", 5, "ISO 3166-1"),
        ("people:\n- address: a@b.example\n  country: DE\n  region: XX\n", 6, "a region of DE"),
        ("people:\n- address: a@b.example\n  region: BY\n", 5, "needs its country"),
        ("people:\n- address: a@b.example\n  days_off: [2026-02-30]\n", 5, "must be a day"),
        ("people:\n- address: a@b.example\n  away: {first: 2026-02-01}\n", 5, "last is missing"),
        (
            "people:\n- address: a@b.example\n  away: [{first: 2026-02-02, last: 2026-02-01}]\n",
            5,
            "not be before first",
        ),
        ("people:\n- address: a@b.example\n  deputy: A@b.example\n", 5, "their own deputy"),
        ("people:\n- address: a@b.example\n  slack: '#general'\n", 5, "Slack's user id"),
        ("people:\n- address: a@b.example\n  channels: [pigeon]\n", 5, "unknown channel 'pigeon'"),
        ("people:\n- address: a@b.example\n  mode: hourly\n", 5, "unknown mode 'hourly'"),
        ("people:\n- address: a@b.example\n  hours: 9\n", 5, "unknown key 'hours'"),
        ("people:\n- address: a@b.example\n- address: A@b.example\n", 5, "stands there twice"),
        ("teams:\n- name: smb\n", 4, "lead is missing"),
        ("teams:\n- {name: x, lead: a@b.example}\n- {name: x, lead: a@b.example}\n", 5, "twice"),
        ("assignments:\n- segment: smb\n", 4, "to is missing"),
        ("assignments:\n- {to: smb, segment: smb}\n", 4, "an address or a team's name, not 'smb'"),
        ("assignments:\n- {to: a@b@c, segment: smb}\n", 4, "must be an e-mail address"),
        (
            "assignments:\n- to: a@b.example\n- {to: a@b.example, segment: smb}\n",
            5,
            "never used: the rule of line 4",
        ),
        ("resellers:\n  Nordwind: somebody\n", 4, "must be an e-mail address"),
        ("resellers:\n  Nordwind: a@b.example\n  nordwind : a@b.example\n", 5, "twice"),
        ("webhooks:\n- {name: crm, url: http://crm.example}\n", 4, "https://"),
        ("webhooks:\n- {name: crm, url: 'https://[::1'}\n", 4, "https://"),
        ("webhooks:\n- {name: crm, url: 'https://me:pass@crm.example'}\n", 4, "https://"),
        ("channel: general\n", 3, "unknown key 'channel'; known: fallback, people"),
    ],
)
def test_a_mistake_is_told_with_its_line(body: str, line: int, says: str) -> None:
    with pytest.raises(FileRejected) as refused:
        read(FALLBACK + body)
    assert str(refused.value).startswith(f"team.yaml:{line}: ")
    assert says in str(refused.value)


def test_somebody_must_have_what_is_nobody_s() -> None:
    for text, line in (("people: []\n", 1), ("fallback: {}\n", 1), ("\nfallback:\n", 2)):
        with pytest.raises(FileRejected, match=rf"team.yaml:{line}: "):
            read(text)
