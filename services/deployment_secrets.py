"""All secrets of a new deployment, as files: `perennial secrets init` makes what is missing."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import URL

from services.kept_secrets import kept_secret
from services.process import CONSOLE_SCOPES, CONSOLE_SOURCE
from shared.credentials import new_key

ROLES: Final = ("owner", "scoring", "notifier", "backup")
"""Of PostgreSQL: `perennial_owner` and so on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Where the deployment's PostgreSQL is, as its services reach it."""

    host: str
    port: int
    name: str


def make_missing(folder: Path, database: Database, *, now: datetime) -> list[str]:
    """Write what is not there, one file each, mode 0600; returns the names of those made.

    A file that exists is never written, so this may run at each start. A URL is built of the
    password that is in its file: where the address changes, remove the URL and do it again.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made: list[str] = []

    def keep(name: str, make: Callable[[], str]) -> str:
        path = folder / name
        if not path.exists():
            made.append(name)
        return kept_secret(path, make)

    keep("user_hash.key", _random)
    keep("notifier.key", _random)
    keep(
        "scoring.key",
        lambda: new_key(source=CONSOLE_SOURCE, scopes=CONSOLE_SCOPES, now=now).secret,
    )
    for role in ROLES:
        password = keep(f"postgres_{role}.password", _random)
        keep(f"postgres_{role}.url", partial(_url, database, role, password))
    keep("postgres_superuser.password", _random)
    keep("grafana.password", _random)
    return made


def _url(database: Database, role: str, password: str) -> str:
    return URL.create(
        "postgresql",
        username=f"perennial_{role}",
        password=password,
        host=database.host,
        port=database.port,
        database=database.name,
    ).render_as_string(hide_password=False)


def _random() -> str:
    return secrets.token_urlsafe(36)
