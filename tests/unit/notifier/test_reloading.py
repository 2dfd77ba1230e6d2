"""Files that change while the notifier runs: the last good ones stay in force."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from prometheus_client import Gauge

from services.notifier.domain.people import Roster
from services.notifier.domain.playbooks import Playbooks
from services.notifier.reloading import Reloaded, open_playbooks, open_team
from shared.errors import Misconfigured
from shared.lifecycle import Frame

GOOD = "fallback: {owner: desk@vendor.example}\n"
BETTER = "fallback: {owner: lena@vendor.example}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "team.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def team(file: Path) -> Reloaded[Roster]:
    return open_team(file, fallback_owner="x@vendor.example")


def owner(team: Reloaded[Roster]) -> str:
    return team.get().fallback_owner


def looks(team: Reloaded[Roster] | Reloaded[Playbooks], times: int = 2) -> list[bool]:
    return [team.look() for _ in range(times)]


def test_a_change_is_taken_once_two_looks_agree_on_it(file: Path, team: Reloaded[Roster]) -> None:
    assert looks(team) == [False, False]
    file.write_text(BETTER)
    assert looks(team, 3) == [False, True, False]
    assert owner(team) == "lena@vendor.example"


def test_a_file_that_is_being_written_is_not_taken(file: Path, team: Reloaded[Roster]) -> None:
    for half in (BETTER[:9], BETTER[:20], BETTER):
        file.write_text(half)
        assert not team.look()
        assert team.problem is None
    assert team.look()


def test_a_mistake_leaves_the_last_good_in_force(file: Path, team: Reloaded[Roster]) -> None:
    file.write_text("fallback: {owner: nobody}\n")
    assert looks(team, 3) == [False, False, False]
    assert owner(team) == "desk@vendor.example"
    assert team.problem == "team.yaml:1: 'nobody' must be an e-mail address"
    file.write_text(BETTER)
    assert looks(team) == [False, True]
    assert owner(team) == "lena@vendor.example"
    assert team.problem is None


def test_a_file_that_is_gone_leaves_the_last_good_in_force_until_it_is_back(
    file: Path, team: Reloaded[Roster]
) -> None:
    file.unlink()
    assert looks(team, 3) == [False, False, False]
    assert owner(team) == "desk@vendor.example"
    assert team.problem == "cannot be read: No such file or directory"
    file.write_text(GOOD)
    looks(team)
    assert team.problem is None


def test_a_folder_is_taken_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("playbooks:\n- {name: a, title: x, match: {type: land}}\n")
    playbooks = open_playbooks(tmp_path)
    (tmp_path / "b.yaml").write_text("playbooks:\n- {name: b, title: x}\n")
    assert looks(playbooks) == [False, True]
    assert [one.name for one in playbooks.get().ordered] == ["a", "b"]


def test_without_files_there_is_one_owner_and_our_pack() -> None:
    alone = open_team(None, fallback_owner="desk@vendor.example")
    assert looks(alone) == [False, False]
    assert alone.get() == Roster(
        fallback_owner="desk@vendor.example", fallback_lead="desk@vendor.example"
    )
    assert open_playbooks(None).get().named("business_review") is not None


def test_at_start_a_mistake_is_named_by_setting_file_and_line(tmp_path: Path) -> None:
    wrong = tmp_path / "team.yaml"
    wrong.write_text("people: []\n")
    with pytest.raises(
        Misconfigured, match=r"^PERENNIAL_TEAM_FILE: team.yaml:1: fallback is missing"
    ):
        open_team(wrong, fallback_owner="desk@vendor.example")
    with pytest.raises(Misconfigured, match=r"^PERENNIAL_PLAYBOOKS: .* cannot be read"):
        open_playbooks(tmp_path / "nowhere")


async def test_the_loop_takes_what_changes_and_shows_what_it_refuses(
    file: Path, team: Reloaded[Roster], frame: Frame, logged: Callable[[], str]
) -> None:
    rejected = Gauge("rejected", "1 while the file is refused", registry=frame.registry)

    def refused() -> bool:
        return frame.registry.get_sample_value("rejected") == 1

    async def until(holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110 - files send no events
                await asyncio.sleep(0.01)

    def write(text: str) -> Awaitable[int]:
        return asyncio.to_thread(file.write_text, text)

    stop = asyncio.Event()
    loop = frame.loop("notifier", "files")
    running = asyncio.create_task(team.run(stop, loop=loop, rejected=rejected, every_seconds=0.01))
    await write("fallback: {owner: nobody}\n")
    await until(refused)
    await write(BETTER)
    await until(lambda: owner(team) == "lena@vendor.example" and not refused())
    stop.set()
    await running
    said = logged()
    assert said.count("files.rejected") == 1
    assert "files.reloaded" in said
