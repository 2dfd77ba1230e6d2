"""Playbooks as people write them: what is accepted, and what is refused by file and line."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.domain.playbooks import (
    DEFAULT,
    DUE,
    ESCALATION,
    REPEAT,
    EscalationStep,
    Match,
    Sold,
    TaskRule,
    Who,
)
from services.notifier.playbook_files import built_in, of_folder, read
from services.notifier.yaml_files import LARGEST, FileRejected
from shared.messages import Band

FULL = """\
playbooks:
  - name: review
    version: 3
    title: Review - with 18:00 and NO trap
    match:
      type: renew
      reasons: [renewal_due, churn_risk]
      severity: at_risk
      segment: [NO, smb]
      sold: direct
      value: 5000
    owner: manager
    due: {at_risk: 2}
    tasks:
      - title: Call
        due: 0
      - {title: Review, due: 5, owner: reseller, before_notice: 90}
    channels: [email, webhook]
    repeat: {}
    escalation:
      - {after: 0, to: manager}
      - {after: 4, to: lead}
"""


def one(body: str, *, name: str = "a.yaml") -> dict[str, bytes]:
    """A file with one playbook, `body` from its third line on."""
    return {name: f"playbooks:\n  - name: one\n{body}".encode()}


def problems(files: dict[str, bytes]) -> list[str]:
    with pytest.raises(FileRejected) as refused:
        read(files)
    return str(refused.value).split("\n")


def test_all_that_can_be_said_is_read() -> None:
    review, default = read({"a.yaml": FULL.encode()}).ordered
    assert review.match == Match(
        type="renew",
        reasons=("renewal_due", "churn_risk"),
        severity=(Band.AT_RISK,),
        segment=("NO", "smb"),
        sold=Sold.DIRECT,
        value=5000,
    )
    assert (review.name, review.version, review.owner) == ("review", 3, Who.MANAGER)
    assert review.title == "Review - with 18:00 and NO trap"
    assert review.due == {**DUE, Band.AT_RISK: 2}
    assert review.tasks == (
        TaskRule(title="Call", due=0),
        TaskRule(title="Review", due=5, owner=Who.RESELLER, before_notice=90),
    )
    assert review.channels == ("email", "webhook")
    assert review.repeat == {}
    assert review.escalation == (
        EscalationStep(after=0, to=Who.MANAGER),
        EscalationStep(after=4, to=Who.LEAD),
    )
    assert default is DEFAULT


def test_what_is_left_out_is_as_usual() -> None:
    [only] = read(one("    title: One\n")).ordered
    assert only.match == Match()
    assert (only.version, only.owner, only.tasks) == (1, Who.OWNER, ())
    assert (only.due, only.repeat, only.escalation) == (DUE, REPEAT, ESCALATION)
    assert only.channels == ("slack", "email")


def test_an_empty_plan_is_no_plan() -> None:
    [only] = read(one("    title: One\n    escalation: []\n")).ordered
    assert only.escalation == ()


def test_files_stand_in_the_order_of_their_names_and_ours_closes_the_list() -> None:
    files = {
        "b.yaml": b"playbooks:\n- {name: second, title: x, match: {type: adopt}}\n",
        "a.yaml": b"playbooks:\n- {name: first, title: x, match: {type: land}}\n",
    }
    assert [found.name for found in read(files).ordered] == ["first", "second", "default"]
    files["z.yaml"] = b"playbooks:\n- {name: rest, title: x}\n"
    assert [found.name for found in read(files).ordered] == ["first", "second", "rest"]


@pytest.mark.parametrize(
    ("body", "line", "says"),
    [
        pytest.param(
            "    titel: x\n    title: x\n", 3, "unknown key 'titel'; known: name, ver", id="key"
        ),
        pytest.param(
            "    title: x\n    match:\n      typ: land\n", 5, "unknown key 'typ'", id="in match"
        ),
        pytest.param("    steps:\n      - a\n    title: x\n", 3, "'steps'", id="a key with a list"),
        pytest.param("    match: {}\n", 2, "title is missing", id="no title"),
        pytest.param(
            "    title: x\n    title: y\n", 4, "'title' stands there twice", id="a key twice"
        ),
        pytest.param(
            "    title: x\n    match:\n      reasons:\n        - usage_drop\n        - boredom\n",
            7,
            "unknown reason 'boredom'; known: churn_risk,",
            id="reason",
        ),
        pytest.param(
            "    title: x\n    match: {severity: [healthy]}\n",
            4,
            "unknown severity 'healthy'; known: critical, at_risk, watch",
            id="band",
        ),
        pytest.param(
            "    title: x\n    match: {type: grow}\n", 4, "unknown type 'grow'", id="type"
        ),
        pytest.param(
            "    title: x\n    match: {sold: partner}\n",
            4,
            "unknown way of sale 'partner'",
            id="sold",
        ),
        pytest.param(
            "    title: x\n    match: [usage_drop]\n", 4, "must be keys", id="match is a list"
        ),
        pytest.param(
            "    title: x\n    channels: [slack,\n      pigeon]\n", 5, "'pigeon'", id="channel"
        ),
        pytest.param("    title: x\n    channels: []\n", 4, "at least one", id="no channel"),
        pytest.param(
            "    title: x\n    owner: boss\n", 4, "unknown owner rule 'boss'", id="owner rule"
        ),
        pytest.param("    title: x\n    version: one\n", 4, "'one' must be a whole", id="version"),
        pytest.param(
            "    title: x\n    due: {critical: -1}\n", 4, "'-1' must be a whole", id="negative"
        ),
        pytest.param(
            "    title: x\n    due: {critical: 400}\n", 4, "from 0 to 366", id="too many days"
        ),
        pytest.param(
            "    title: x\n    due: {critical: 1.5}\n", 4, "'1.5' must be", id="half a day"
        ),
        pytest.param(
            "    title: x\n    due: {severe: 1}\n", 4, "unknown key 'severe'", id="due of a band"
        ),
        pytest.param(
            "    title: x\n    due: 3\n", 4, "must be days by severity", id="one due for all"
        ),
        pytest.param(
            "    title: x\n    repeat: {critical: 0}\n", 4, "at least 1 day", id="repeat at once"
        ),
        pytest.param(
            "    title: x\n    tasks:\n      - due: 1\n", 5, "title is missing", id="task title"
        ),
        pytest.param(
            "    title: x\n    tasks:\n      - title: y\n", 5, "due is missing", id="task due"
        ),
        pytest.param(
            "    title: x\n    tasks:\n      - title: y\n        due: soon\n",
            6,
            "'soon'",
            id="bad due",
        ),
        pytest.param(
            "    title: x\n    tasks: [call]\n", 4, "must be keys with values", id="task a text"
        ),
        pytest.param(
            "    title: x\n    escalation: [{after: 2, to: lead}, {after: 1, to: owner}]\n",
            4,
            "forward in time",
            id="escalation goes back",
        ),
        pytest.param(
            "    title: x\n    escalation:\n      - {after: 1, to: ceo}\n", 5, "'ceo'", id="to whom"
        ),
        pytest.param(
            "    title: x\n    escalation: [{after: 1}]\n", 4, "to is missing", id="to nobody"
        ),
        pytest.param("    title: ''\n    due: [\n", 5, "is not YAML: ", id="not YAML"),
        pytest.param("    title: \n", 3, "must be a text", id="an empty title"),
        pytest.param(f"    title: {'x' * 201}\n", 3, "at most 200", id="a long title"),
        pytest.param('    title: "a\\nb"\n', 3, "one line", id="a title of two lines"),
        pytest.param('    title: "a\\u202eb"\n', 3, "one line", id="a title that runs backwards"),
        pytest.param("    title: x\n    tasks: &t []\n", 4, "anchors", id="an anchor"),
        pytest.param("    title: !!python/name:os.system x\n", 3, "tags", id="a tag"),
        pytest.param(f"    title: {'[' * 13}{']' * 13}\n", 3, "12 deep", id="deep"),
        pytest.param("    title: x\n---\nplaybooks: []\n", 4, "is not YAML: ", id="two documents"),
    ],
)
def test_a_mistake_is_told_with_its_file_and_line(body: str, line: int, says: str) -> None:
    told = problems(one(body))
    assert told[0].startswith(f"a.yaml:{line}: "), told
    assert says in told[0]


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (b"", 1, "is empty"),
        (b"# nothing\n", 1, "is empty"),
        (b"playbooks:\n- name: \xff\n", 2, "not UTF-8"),
        (b"playbooks:\n- name: \x07\n", 2, "control character"),
        (b"- name: x\n", 1, "must be keys"),
        (b"plays: []\n", 1, "unknown key 'plays'; known: playbooks"),
        (b"playbooks:\n- Review\n", 2, "must be keys"),
        (b"playbooks:\n- {name: Review It, title: x}\n", 2, "'Review It' must be a name"),
        (b"playbooks:\n- ? [a]\n  : b\n", 2, "must be one word"),
        (b"#" * (LARGEST + 1), 1, "larger than 512 KiB"),
    ],
)
def test_a_file_that_is_none_is_told_too(content: bytes, line: int, says: str) -> None:
    told = problems({"a.yaml": content})
    assert told[0].startswith(f"a.yaml:{line}: "), told
    assert says in told[0]


def test_all_mistakes_of_all_files_are_told_at_once() -> None:
    files = one("    title: x\n    owner: boss\n    version: x\n") | {"b.yaml": b"x"}
    assert [told.split(": ")[0] for told in problems(files)] == ["a.yaml:4", "a.yaml:5", "b.yaml:1"]


def test_a_name_that_is_taken_is_told_with_where() -> None:
    files = one("    title: x\n    match: {type: land}\n") | one("    title: y\n", name="b.yaml")
    assert problems(files) == ["b.yaml:2: 'one' is the name of a.yaml:2 already"]


def test_a_playbook_that_nothing_would_get_is_told_with_what_stands_before_it() -> None:
    files = {
        "a.yaml": b"playbooks:\n- {name: all, title: x, match: {type: adopt}}\n",
        "b.yaml": b"playbooks:\n\n- {name: silent, title: x, match: {reasons: gone_silent}}\n"
        b"- {name: odd, title: x, match: {type: land, reasons: gone_silent}}\n",
    }
    assert problems(files) == [
        "b.yaml:3: nothing would ever get 'silent': 'all' (a.yaml:2) takes its work before it",
        "b.yaml:4: nothing would ever get 'odd': what it asks for does not occur together",
    ]


def test_a_bomb_of_aliases_is_refused_before_it_is_built() -> None:
    bomb = b"a: &a [x, x]\nb: &b [*a, *a]\nplaybooks: [*b, *b]\n"
    assert problems({"a.yaml": bomb}) == ["a.yaml:1: anchors and aliases (& and *) are not allowed"]


def test_a_folder_is_read_by_the_files_of_that_kind(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("playbooks:\n- {name: one, title: x}\n")
    (tmp_path / "README.md").write_text("no playbook\n")
    os.mkfifo(tmp_path / "endless.yaml")
    assert [found.name for found in read(of_folder(tmp_path)).ordered] == ["one"]
    assert problems({}) == [".:1: there is no *.yaml in the folder"]


def test_the_pack_is_a_folder_like_any_other(tmp_path: Path) -> None:
    for name, content in built_in().items():
        (tmp_path / name).write_bytes(content)
    assert read(of_folder(tmp_path)) == read(built_in())


def test_the_example_of_the_readme_is_accepted() -> None:
    page = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```yaml\n(playbooks:.*?)```", page, re.DOTALL)
    assert read({"readme.yaml": example.encode()}).named("rescue_large") is not None


@given(
    st.binary(max_size=200) | st.text("-:[]{}&*!|>'\"#%@ \n\tab01?,", max_size=80).map(str.encode)
)
def test_hostile_bytes_are_refused_and_nothing_else(content: bytes) -> None:
    with pytest.raises(FileRejected) as refused:
        read({"a.yaml": content})
    assert all(told.startswith("a.yaml:") for told in str(refused.value).split("\n"))
