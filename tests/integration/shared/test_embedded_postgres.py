"""The embedded server through starts, stops and deaths; processes die for real, as children."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import asyncpg
import pytest

from shared.embedded_postgres import (
    EmbeddedPostgresFailed,
    embedded_postgres,
    immediate_stop,
)
from tests.databases import temporary_folder

_SECONDS = 60.0

_USER = """
import asyncio, sys
from pathlib import Path
from shared.embedded_postgres import embedded_postgres

async def main():
    async with embedded_postgres(Path(sys.argv[1])) as url:
        print("URL", url, flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose server, if one still runs, is ended as its data is thrown away."""
    with temporary_folder() as path:
        try:
            yield path
        finally:
            for data in path.rglob("postmaster.pid"):
                if _runs(data.parent):
                    os.kill(_pid(data.parent), signal.SIGQUIT)
                    _until(lambda data=data: not _runs(data.parent))  # type: ignore[misc]


class _User:
    """A process that uses the server of a folder until it is told to leave, or killed."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _USER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill9()

    def url(self) -> str:
        """Waits until the server is there."""
        said = []
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("URL "):
                return line.split()[1]
            said.append(line)
        raise AssertionError("".join(said))

    def leave(self) -> None:
        _said, _ = self._process.communicate("\n", timeout=_SECONDS)
        assert self._process.returncode == 0

    def kill9(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=_SECONDS)


async def test_a_second_start_finds_the_data_again(folder: Path) -> None:
    for expected in (1, 2, 3):
        async with embedded_postgres(folder) as url:
            assert await _add_row(url) == expected
            assert _runs(folder / "data")
        assert not _runs(folder / "data")


async def test_two_processes_share_the_server_and_the_last_one_stops_it(folder: Path) -> None:
    with _User(folder) as first, _User(folder) as second:
        assert first.url() == second.url()
        pid = _pid(folder / "data")
        first.leave()
        assert _runs(folder / "data")
        async with embedded_postgres(folder) as url:
            await _add_row(url)
        assert _pid(folder / "data") == pid, "it was to be the same server all along"
        second.leave()
        assert not _runs(folder / "data")


async def test_two_starts_at_the_same_moment_make_one_server(folder: Path) -> None:
    with _User(folder) as first, _User(folder) as second:
        await _add_row(first.url())
        assert await _add_row(second.url()) == 2
        second.leave()
        first.leave()
    assert not _runs(folder / "data")


async def test_the_server_of_a_killed_process_is_found_and_stopped_in_the_end(folder: Path) -> None:
    with _User(folder) as killed:
        await _add_row(killed.url())
        pid = _pid(folder / "data")
        killed.kill9()
    assert _runs(folder / "data")
    async with embedded_postgres(folder) as url:
        assert await _add_row(url) == 2
        assert _pid(folder / "data") == pid
    assert not _runs(folder / "data")


async def test_a_server_that_was_killed_recovers_at_the_next_start(folder: Path) -> None:
    async with embedded_postgres(folder) as url:
        await _add_row(url)
        pid = _pid(folder / "data")
        os.kill(pid, signal.SIGKILL)
        _until(lambda: not _is_alive(pid))
        assert (folder / "data" / "postmaster.pid").exists(), "a stale pid file was to be left"
        async with embedded_postgres(folder) as again:
            assert await _add_row(again) == 2
    assert not _runs(folder / "data")


async def test_a_start_waits_for_the_backends_of_a_killed_server(folder: Path) -> None:
    """A backend in the middle of a statement learns late that its server is gone."""
    async with embedded_postgres(folder) as url:
        await _add_row(url)
        connection = await asyncpg.connect(url)
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        await connection.execute("SET statement_timeout = '3s'")
        busy = asyncio.create_task(
            connection.execute("SELECT count(*) FROM generate_series(1, 1000000000)")
        )
        await asyncio.to_thread(_until, lambda: _state(backend) == "R")
        os.kill(_pid(folder / "data"), signal.SIGKILL)
        async with embedded_postgres(folder) as again:
            assert not _is_alive(backend)
            assert await _add_row(again) == 2
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await busy
        connection.terminate()


async def test_after_a_power_cut_everything_that_was_committed_is_there(folder: Path) -> None:
    async with embedded_postgres(folder) as url:
        await _add_row(url)
        await asyncio.to_thread(immediate_stop, folder)
        _until(lambda: not _runs(folder / "data"))
    async with embedded_postgres(folder) as url:
        assert await _add_row(url) == 2


@pytest.mark.parametrize("name", ["sleep", "postgres"])
async def test_a_stale_pid_file_that_names_another_process_does_not_block(
    folder: Path, name: str
) -> None:
    """Pids are given away again; the second one also has the name of ours."""
    async with embedded_postgres(folder) as url:
        await _add_row(url)
    with _stranger(folder, name) as pid:
        stale = f"{pid}\n{folder / 'data'}\n1700000000\n"
        (folder / "data" / "postmaster.pid").write_text(stale)
        (folder / "socket" / ".s.PGSQL.5432.lock").write_text(stale)
        started = time.monotonic()
        async with embedded_postgres(folder) as url:
            assert await _add_row(url) == 2
        assert time.monotonic() - started < 15
        assert _is_alive(pid)


@pytest.mark.parametrize("content", ["", "garbage\n"])
async def test_a_pid_file_that_was_cut_short_does_not_block(folder: Path, content: str) -> None:
    async with embedded_postgres(folder) as url:
        await _add_row(url)
    (folder / "data" / "postmaster.pid").write_text(content)
    async with embedded_postgres(folder) as url:
        assert await _add_row(url) == 2


async def test_a_folder_without_a_version_is_made_anew(folder: Path) -> None:
    rest = folder / "data" / "base"
    rest.mkdir(parents=True)
    (rest / "half").write_text("written before the power went")
    async with embedded_postgres(folder) as url:
        assert await _add_row(url) == 1
    assert not (rest / "half").exists()


async def test_an_initdb_that_was_killed_is_done_again(folder: Path) -> None:
    """It writes PG_VERSION first of all: the half-made folder looks like a whole one."""
    with _User(folder) as killed:
        await asyncio.to_thread(_until, lambda: any(folder.glob("data*/PG_VERSION")))
        killed.kill9()
    assert not (folder / "data").exists(), "it was to be killed in the middle"
    async with embedded_postgres(folder) as url:
        assert await _add_row(url) == 1
    assert _named(folder, "data*") == ["data"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("/".join(["a-long-name-of-a-folder"] * 6), id="longer than a socket's path"),
        pytest.param("it's 50% of + Müller, Söhne & Co", id="signs"),
    ],
)
async def test_any_path_will_do(folder: Path, name: str) -> None:
    for expected in (1, 2):
        async with embedded_postgres(folder / name) as url:
            assert await _add_row(url) == expected


async def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    async with embedded_postgres(folder):
        pass
    (folder / "data" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(EmbeddedPostgresFailed, match="no_such_setting"):
        async with embedded_postgres(folder):
            pass


async def _add_row(url: str) -> int:
    """One more row; how many there are."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (at timestamptz DEFAULT now())")
        await connection.execute("INSERT INTO kept DEFAULT VALUES")
        return int(await connection.fetchval("SELECT count(*) FROM kept"))
    finally:
        await connection.close()


@contextmanager
def _stranger(folder: Path, name: str) -> Iterator[int]:
    """A process with this name that is no business of ours; `postgres` is a real one, elsewhere."""
    if name != "postgres":
        process = subprocess.Popen([name, "1000"])
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait()
        return
    other = folder / "other"
    with _User(other) as user:
        user.url()
        yield _pid(other / "data")
        user.leave()


def _named(folder: Path, pattern: str) -> list[str]:
    return [path.name for path in folder.glob(pattern)]


def _pid(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().split("\n", 1)[0])


def _runs(data: Path) -> bool:
    return (data / "postmaster.pid").exists() and _is_alive(_pid(data))


def _is_alive(pid: int) -> bool:
    return _state(pid) not in {None, "Z"}


def _state(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)
