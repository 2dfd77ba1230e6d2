"""TLS to PostgreSQL by what the URL says: who is not who they should be is not spoken to."""

import asyncio
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from shared.database import is_away, open_engine
from shared.embedded_postgres import _let_through, _unprivileged_account
from tests.databases import temporary_folder
from tests.processes import free_port

_DEBIANS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_CONNECTION = "SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """A server that speaks TLS only; `files` holds authorities, certificates and keys."""

    port: int
    files: Path

    def url(self, *, host: str = "localhost", user: str = "app:secret", **options: str) -> str:
        named = {"sslmode": "verify-full", "sslrootcert": str(self.files / "ca.crt"), **options}
        query = "&".join(f"{name}={value}" for name, value in named.items())
        return f"postgresql://{user}@{host}:{self.port}/postgres?{query}"


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    """Of Debian's package `postgresql`: the wheel's is built without TLS."""
    if not _DEBIANS or shutil.which("openssl") is None:
        missing = "no PostgreSQL with TLS (Debian's packages postgresql and openssl)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"PostgreSQL with TLS cannot run here: {missing}", pytrace=False)
        pytest.skip(f"SKIPPED POSTGRESQL TLS: {missing}")
    port = free_port()
    with temporary_folder() as folder:
        files, data = folder / "files", folder / "data"
        files.mkdir()
        certify(files)
        account = _unprivileged_account()
        _let_through(files / "ca.crt")
        if account:
            for path in (folder, files, *files.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [str(_DEBIANS[0] / program), *arguments],
                check=True,
                capture_output=program == "initdb",
                stdin=subprocess.DEVNULL,
                cwd="/",
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
            )

        password = files / "password"
        password.write_text("secret")
        password.chmod(0o644)
        run(
            "initdb", "-D", str(data), "-U", "app", "--auth=scram-sha-256", "--encoding=UTF8",
            "--locale=C", "--pwfile", str(password),
        )  # fmt: skip
        (data / "pg_hba.conf").write_text(
            "hostssl all robot all cert\nhostssl all all all scram-sha-256\n"
        )
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={port} -c ssl=on"
            f" -c unix_socket_directories='' -c ssl_cert_file={files}/server.crt"
            f" -c ssl_key_file={files}/server.key -c ssl_ca_file={files}/ca.crt -c fsync=off"
        )
        log = str(folder / "postgres.log")
        run("pg_ctl", "-D", str(data), "-l", log, "-w", "-o", options, "start")
        try:
            yield Secured(port=port, files=files)
        finally:
            run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")


def certify(files: Path) -> None:
    """An authority, a server's certificate for localhost, a client's; and a foreign authority."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=files)

    for authority in ("ca", "foreign"):
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", f"/CN={authority}", "-keyout", f"{authority}.key",
            "-out", f"{authority}.crt",
        )  # fmt: skip
    for name, common in (("server", "localhost"), ("client", "robot")):
        (files / f"{name}.ext").write_text(
            "subjectAltName=DNS:localhost\n" if name == "server" else ""
        )
        openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", f"/CN={common}", "-keyout", f"{name}.key", "-out", f"{name}.csr",
        )  # fmt: skip
        openssl(
            "x509", "-req", "-days", "2", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey",
            "ca.key", "-CAcreateserial", "-extfile", f"{name}.ext", "-out", f"{name}.crt",
        )  # fmt: skip


async def connection_of(url: str) -> tuple[bool, str | None]:
    async with (
        asyncio.timeout(20),
        open_engine(url, application="test") as engine,
        engine.connect() as connection,
    ):
        encrypted, name = (await connection.execute(text(_CONNECTION))).one()
        return bool(encrypted), name


async def test_a_server_whose_certificate_is_right_is_spoken_to(secured: Secured) -> None:
    assert await connection_of(secured.url()) == (True, None)


async def test_a_certificate_of_another_authority_is_refused(secured: Secured) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self.signed|unable to get") as refused:
        await connection_of(secured.url(sslrootcert=str(secured.files / "foreign.crt")))
    assert is_away(refused.value), "an expired certificate is renewed while we wait"


async def test_a_certificate_for_another_host_is_refused(secured: Secured) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"127\.0\.0\.1"):
        await connection_of(secured.url(host="127.0.0.1"))
    # The same server, where only the authority counts.
    assert await connection_of(secured.url(host="127.0.0.1", sslmode="verify-ca")) == (True, None)


async def test_a_server_that_speaks_tls_only_refuses_plaintext(secured: Secured) -> None:
    with pytest.raises(Exception, match="no encryption"):
        await connection_of(secured.url(sslmode="disable"))


async def test_a_clients_certificate_stands_for_a_password(secured: Secured) -> None:
    async with (
        open_engine(secured.url(), application="test") as engine,
        engine.begin() as connection,
    ):
        await connection.execute(text("CREATE ROLE robot LOGIN"))
    shown = {
        "sslcert": str(secured.files / "client.crt"),
        "sslkey": str(secured.files / "client.key"),
    }
    assert await connection_of(secured.url(user="robot", **shown)) == (True, "/CN=robot")
    with pytest.raises(Exception, match="client certificate"):
        await connection_of(secured.url(user="robot"))
