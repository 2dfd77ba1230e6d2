"""A real PgBouncer before the tests' PostgreSQL, in transaction mode."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from shared import grants
from shared.embedded_postgres import _unprivileged_account
from tests.databases import DatabaseServer
from tests.processes import at_our_end, free_port

_START_SECONDS = 20.0
# Fewer servers than clients: sessions are shared, or nothing gets on.
SERVERS = 3


def binary() -> str:
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if found is None:
        missing = "no `pgbouncer` on the PATH (Debian's package pgbouncer)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"PgBouncer cannot run here: {missing}", pytrace=False)
        pytest.skip(f"SKIPPED PGBOUNCER: {missing}")
    return found


@contextmanager
def running_pgbouncer(server: DatabaseServer) -> Iterator[int]:
    """Its port on loopback; it leads to every database of the server, for our roles."""
    host = parse_qs(urlsplit(server.url).query)["host"][0]
    port = free_port()
    program = binary()
    with tempfile.TemporaryDirectory(prefix="perennial-test-bouncer-") as name:
        folder = Path(name)
        users = "".join(f'"{role}" ""\n' for role in (*grants.RIGHTS, grants.OWNER))
        (folder / "users.txt").write_text(users)
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={host}\n[pgbouncer]\npool_mode = transaction\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {folder}/users.txt\n"
            f"default_pool_size = {SERVERS}\nmax_client_conn = 200\nserver_round_robin = 1\n"
        )
        # It refuses to be root, and the server's socket is for the server's account alone.
        account = _unprivileged_account()
        command = [
            program,
            *(["-u", account.pw_name] if account else []),
            str(folder / "pgbouncer.ini"),
        ]
        if account:
            for path in (folder, *folder.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
        output = folder / "output.log"
        with output.open("wb") as file:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        watchdog = at_our_end('kill "$1"', process.pid)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _answers(port):
                assert process.poll() is None, output.read_text()
                assert time.monotonic() < deadline, output.read_text()
                time.sleep(0.02)
            yield port
        finally:
            process.kill()
            process.wait()
            watchdog.kill()
            watchdog.communicate()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
