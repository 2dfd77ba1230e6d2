"""What is set: variables, files that they name, the data folder, limits of this machine."""

import resource
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from services import production
from services.doctor.findings import Area, Finding, failed, ok, warning
from services.ingest.settings import IngestSettings
from services.notifier import app, reloading
from services.notifier.settings import NotifierSettings
from services.scoring.settings import ScoringSettings
from shared.errors import Misconfigured
from shared.settings import DatabaseSettings, LogSettings, ProcessSettings, Settings, read

_FILES: Final = 8_192
"""4,096 connections of requests, and as many again for the log, the database and files."""
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The settings that could be read, None where they are wrong, and what was found of them."""

    process: ProcessSettings | None
    log: LogSettings | None
    database: DatabaseSettings | None
    scoring: ScoringSettings | None
    notifier: NotifierSettings | None
    findings: list[Finding]


def look() -> Known:
    """Blocks: it reads files."""
    findings: list[Finding] = []

    def known(kind: type[S]) -> S | None:
        try:
            return read(kind)
        except Misconfigured as error:
            findings.append(_wrong(str(error)))
            return None

    process, log, database = known(ProcessSettings), known(LogSettings), known(DatabaseSettings)
    known(IngestSettings)
    scoring, notifier = known(ScoringSettings), known(NotifierSettings)
    if process is not None and log is not None and database is not None:
        findings += _look_at_production(process, log, database)
    if notifier is not None:
        findings += _look_at_files(notifier)
    if process is not None:
        findings += _look_at_secrets(process.perennial_data_dir)
    findings += _look_at_limits()
    if not findings:
        findings = [ok(Area.SETTINGS, "all variables, and the files that they name, are right")]
    return Known(
        process=process,
        log=log,
        database=database,
        scoring=scoring,
        notifier=notifier,
        findings=findings,
    )


def _look_at_production(
    process: ProcessSettings, log: LogSettings, database: DatabaseSettings
) -> list[Finding]:
    try:
        production.check(process, log, database, needs_database=True)
    except Misconfigured as error:
        return [_wrong(str(error))]
    return []


def _look_at_files(settings: NotifierSettings) -> list[Finding]:
    """The team file and the playbooks, and what goes together only in some ways."""
    fallback = settings.perennial_fallback_owner
    looks: tuple[Callable[[], object], ...] = (
        lambda: app.check(settings),
        lambda: reloading.open_team(settings.perennial_team_file, fallback_owner=fallback),
        lambda: reloading.open_playbooks(settings.perennial_playbooks),
    )
    findings = []
    for attempt in looks:
        try:
            attempt()
        except Misconfigured as error:
            findings.append(_wrong(str(error)))
    return findings


def _look_at_secrets(folder: Path) -> list[Finding]:
    """Secrets that this deployment made itself."""
    open_to_others = sorted(
        path.name for path in folder.glob("*.key") if path.stat().st_mode & _OTHERS
    )
    if not open_to_others:
        return []
    names = ", ".join(open_to_others)
    return [
        failed(
            Area.SETTINGS,
            f"others on this machine may read {names} in {folder}",
            f"chmod 600 {folder}/*.key",
        )
    ]


def _look_at_limits() -> list[Finding]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or files >= _FILES:
        return []
    return [
        warning(
            Area.SETTINGS,
            f"a process may open {files:,} files; ingest takes 4,096 connections",
            f"raise the limit to {_FILES} or more (ulimit -n, LimitNOFILE)",
        )
    ]


def _wrong(said: str) -> Finding:
    return failed(Area.SETTINGS, said, "correct it; README, Configuration, lists all variables")
