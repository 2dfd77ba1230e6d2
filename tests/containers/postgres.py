"""What the image `postgres` does with its variables, done with PostgreSQL from the wheel."""

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.embedded_postgres import _binaries, _let_through, _unprivileged_account
from tests.containers.processes import Container, ContainerFailed

_SECONDS = 60


class PostgresContainer:
    """A server on `address`:5432 whose database is made as the image's entry point makes it.

    `environment`: the service's; `scripts`: those of /docker-entrypoint-initdb.d; `command`: the
    service's, `postgres` and its options.
    """

    def __init__(
        self,
        folder: Path,
        *,
        environment: Mapping[str, str],
        scripts: Sequence[Path],
        command: Sequence[str],
        address: str,
    ) -> None:
        self._folder, self._address = folder, address
        self._environment, self._scripts = dict(environment), scripts
        self._data, self._sockets = folder / "data", folder / "run"
        self._options = list(command[1:])
        account = _unprivileged_account()
        self._account = (account.pw_uid, account.pw_gid) if account else None
        self.container: Container | None = None
        for path in (folder, self._sockets):
            path.mkdir(parents=True, exist_ok=True)
            if self._account:
                os.chown(path, *self._account)
        _let_through(self._sockets)
        _let_through(_binaries())

    def start(self) -> Container:
        if not (self._data / "PG_VERSION").exists():
            self._make_database()
        self.container = Container(
            self._folder,
            [*self._server(), "-c", f"listen_addresses={self._address}", *self._options],
            self._clean(),
            account=self._account,
            stop_signal="SIGINT",  # the image's STOPSIGNAL
        )
        return self.container

    def execute(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """As `docker compose exec`: beside the server, by its socket."""
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env={**self._clean(), **self._environment, "PGHOST": str(self._sockets)},
            timeout=_SECONDS,
        )

    def _make_database(self) -> None:
        password = Path(self._environment["POSTGRES_PASSWORD_FILE"]).read_text()
        user = self._environment.get("POSTGRES_USER", "postgres")
        with tempfile.NamedTemporaryFile("w", dir=self._folder) as file:
            file.write(password)
            file.flush()
            if self._account:
                os.chown(file.name, *self._account)
            self._run(
                "initdb", "-D", str(self._data), f"--username={user}", f"--pwfile={file.name}",
                *self._environment.get("POSTGRES_INITDB_ARGS", "").split(),
            )  # fmt: skip
        # By its socket alone, until the scripts have ended.
        served = ("-D", str(self._data), "-w", "-l", str(self._folder / "making.log"))
        options = f"-c listen_addresses='' -c unix_socket_directories='{self._sockets}' -p 5432"
        self._run("pg_ctl", *served, "-o", options, "start")
        try:
            self._psql("postgres", f"CREATE DATABASE {self._environment['POSTGRES_DB']}", user)
            for script in self._scripts:
                done = self.execute(["sh", "-eu", str(script)])
                if done.returncode != 0:
                    raise ContainerFailed(f"{script.name}:\n{done.stdout}{done.stderr}")
        finally:
            self._run("pg_ctl", *served, "-m", "fast", "stop")

    def _server(self) -> list[str]:
        where = ["-D", str(self._data), "-k", str(self._sockets), "-p", "5432"]
        return [str(_binaries() / "postgres"), *where, "-c", "fsync=off"]

    def _psql(self, database: str, statement: str, user: str) -> None:
        self._run(
            "psql", "-h", str(self._sockets), "-U", user, "-d", database, "-v", "ON_ERROR_STOP=1",
            "-c", statement,
        )  # fmt: skip

    def _run(self, program: str, *arguments: str) -> None:
        # To a file: the server inherits it and would keep a pipe open.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(_binaries() / program), *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                timeout=_SECONDS,
                user=self._account[0] if self._account else None,
                group=self._account[1] if self._account else None,
                extra_groups=[] if self._account else None,
                start_new_session=True,
            )
            output.seek(0)
            if done.returncode != 0:
                raise ContainerFailed(f"{program}: {output.read().decode(errors='replace')}")

    def _clean(self) -> dict[str, str]:
        return {"PATH": f"{_binaries()}:{os.environ['PATH']}", "LANG": "C.UTF-8"}


def tools() -> str:
    """The folder of psql, pg_isready and the like."""
    return str(_binaries())
