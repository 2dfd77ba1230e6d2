"""How fast the console answers with 100,000 accounts: `python -m tests.benchmarks.console`.

Scoring and the notifier run as processes of their own on one PostgreSQL, with a year of use
(`console_accounts.py`) and 20,000 interventions (`console_work.py`). One client asks for each page,
again and again over one connection, and measures until the last byte has come: the console's time
and scoring's, with the way between them. Exit code 1 where a 95th percentile misses its target.
With `--folder` what was loaded is kept, and the next run begins with it.
"""

import argparse
import asyncio
import http.client
import itertools
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import asyncpg

from shared.embedded_postgres import embedded_postgres
from tests.benchmarks import console_accounts, console_work
from tests.benchmarks.ingest_figures import cpu_seconds
from tests.benchmarks.scoring_sweep import server_seconds
from tests.console_pages import PAGE_MS, PAGES
from tests.databases import DatabaseServer, temporary_folder
from tests.processes import PerennialProcess, free_port

_DATABASE = "console"
_WARM_UP = 3
_SWEEP_SECONDS = 900
_PLANS_FROM_MS = 10
_OWNERS = 40

API_LISTS = {
    "api: interventions": ("notifier", "/api/v1/interventions?limit=100", PAGE_MS),
    "api: interventions of one": ("notifier", "/api/v1/interventions?owner={owner}", PAGE_MS),
    "api: closed, by due": ("notifier", "/api/v1/interventions?show=closed&sort=due", PAGE_MS),
    "api: deliveries": ("notifier", "/api/v1/deliveries?show=suppressed", PAGE_MS),
    "api: audit of one": ("notifier", "/api/v1/audit?actor={owner}", PAGE_MS),
    "api: feedback": ("notifier", "/api/v1/feedback?days=365", PAGE_MS),
    "scoring: accounts": ("scoring", "/v1/accounts?limit=100", PAGE_MS),
    "scoring: one account": ("scoring", "/v1/accounts/{account}", PAGE_MS),
    "scoring: status": ("scoring", "/v1/status", PAGE_MS),
}
"""Lists of both APIs, measured beside the pages; for whoever reads them by program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    name: str
    service: str
    path: str
    limit_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    name: str
    path: str
    limit_ms: int
    milliseconds: Sequence[float]
    cpu_ms: float
    """Of scoring, the notifier and PostgreSQL together, a request."""
    kilobytes: float
    statuses: Sequence[int]

    def at(self, share: float) -> float:
        ranked = sorted(self.milliseconds)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))]

    @property
    def is_met(self) -> bool:
        return self.at(0.95) < self.limit_ms and set(self.statuses) == {200}

    def told(self) -> dict[str, object]:
        return {
            "name": self.name,
            "path": self.path,
            "requests": len(self.milliseconds),
            "mean_ms": round(statistics.mean(self.milliseconds), 1),
            "p50_ms": round(self.at(0.5), 1),
            "p95_ms": round(self.at(0.95), 1),
            "p99_ms": round(self.at(0.99), 1),
            "cpu_ms": round(self.cpu_ms, 1),
            "target_ms": self.limit_ms,
            "kilobytes": round(self.kilobytes, 1),
            "statuses": sorted(set(self.statuses)),
            "is_met": self.is_met,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    about: dict[str, object]
    pages: list[dict[str, object]]
    plans: list[str]


def what_is_asked() -> list[Asked]:
    pages = [
        Asked(
            name=f"{page.name}{way}",
            service="notifier",
            path=page.path + way,
            limit_ms=page.limit_ms,
        )
        for page in PAGES
        for way in ("", *page.ways)
    ]
    lists = [
        Asked(name=name, service=service, path=path, limit_ms=limit)
        for name, (service, path, limit) in API_LISTS.items()
    ]
    return pages + lists


async def run(chosen: argparse.Namespace) -> Figures:
    async with AsyncExitStack() as stack:
        folder = chosen.folder or stack.enter_context(temporary_folder())
        url = await stack.enter_async_context(embedded_postgres(folder / "postgres"))
        server = DatabaseServer(url)
        await server.execute("ALTER SYSTEM SET fsync TO off")
        await server.execute("SELECT pg_reload_conf()")
        deployment = Services(folder, server.database_url(_DATABASE))
        stack.callback(deployment.stop)
        loaded = await load(server, deployment, folder, chosen)
        if chosen.explain:
            await explain_all(server)
        log = folder / "postgres" / "postgres.log"
        before = log.stat().st_size
        await asyncio.to_thread(deployment.start)
        key = await asyncio.to_thread(deployment.key)
        names = await shown_accounts(server.database_url(_DATABASE))
        wanted = [one for one in what_is_asked() if re.search(chosen.only, one.name)]
        found = await asyncio.to_thread(
            lambda: [measure(one, deployment, key, names, chosen.requests) for one in wanted]
        )
        plans = plans_of(log, before) if chosen.explain else []
    machine = {"cores": os.cpu_count(), "load_average": [round(one, 1) for one in os.getloadavg()]}
    return Figures(
        about={**machine, **loaded},
        pages=[one.told() for one in found],
        plans=plans,
    )


class Services:
    """Scoring and the notifier on one database, in two processes."""

    def __init__(self, folder: Path, database_url: str) -> None:
        pid_file = folder / "postgres" / "data" / "postmaster.pid"
        self._postmaster = int(pid_file.read_text().split()[0])
        team = folder / "team.yaml"
        team.write_text(console_work.team(_OWNERS))
        ports = {f"{name.upper()}_PORT": str(free_port()) for name in ("scoring", "notifier")}
        common = {
            "DATABASE_URL": database_url,
            "PERENNIAL_DATA_DIR": str(folder / "data"),
            "PERENNIAL_TEAM_FILE": str(team),
            "PERENNIAL_CONSOLE_SIGN_IN": "open",
            "PERENNIAL_BACKFILL_SETTLE_SECONDS": "0",
            "PERENNIAL_RETRAIN": "off",
            **ports,
        }
        self.processes = {
            name: PerennialProcess(folder / name, "--service", name, **common)
            for name in ("scoring", "notifier")
        }

    def start(self) -> None:
        for process in self.processes.values():
            process.start(wait=False)
        for process in self.processes.values():
            process.wait_until_ready()

    def stop(self) -> None:
        for process in self.processes.values():
            process.stop()

    def key(self) -> str:
        scopes = ("accounts:read", "interventions:read", "settings:read")
        options = [option for scope in scopes for option in ("--scope", scope)]
        arguments = ("keys", "create", "--source", f"bench-{time.time_ns()}", *options, "--plain")
        key = self.processes["notifier"].run(*arguments).split()[-1]
        time.sleep(2)  # The processes read of it within a second.
        return key

    def cpu_seconds(self) -> float:
        """Of both, and of their PostgreSQL."""
        ours = sum(cpu_seconds(process.pid) for process in self.processes.values())
        return ours + server_seconds(self._postmaster)


async def load(
    server: DatabaseServer, deployment: Services, folder: Path, chosen: argparse.Namespace
) -> dict[str, object]:
    """Fill the database, unless it was kept; what stands in it."""
    kept = folder / f"loaded-{chosen.accounts}-{chosen.interventions}.json"
    if kept.exists():
        found: dict[str, object] = json.loads(kept.read_text())
        return found
    began = time.perf_counter()
    await server.execute(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
    await server.execute("DROP DATABASE IF EXISTS template_perennial WITH (FORCE)")
    await server.prepare_template()
    await server.execute(f"CREATE DATABASE {_DATABASE} TEMPLATE template_perennial")
    url = server.database_url(_DATABASE)
    now = datetime.now(UTC)
    connection = await asyncpg.connect(url, server_settings={"jit": "off"})
    try:
        days = await console_accounts.write(connection, chosen.accounts, today=now.date())
        say(f"{days} account-days written after {time.perf_counter() - began:.0f} s")
        await sweep(connection, deployment.processes["scoring"], chosen.accounts)
        say(f"all accounts scored after {time.perf_counter() - began:.0f} s")
        weeks = await console_accounts.write_weeks(url, now=now)
        await console_work.write(
            connection, accounts=chosen.accounts, interventions=chosen.interventions, now=now
        )
    finally:
        await connection.close()
    loaded = {
        "accounts": chosen.accounts,
        "account_days": days,
        "weekly_rows": weeks,
        "interventions": chosen.interventions,
        "load_seconds": round(time.perf_counter() - began),
    }
    kept.write_text(json.dumps(loaded))
    return loaded


async def sweep(connection: asyncpg.Connection, scoring: PerennialProcess, accounts: int) -> None:
    """Let scoring look at every account, as it does after a backfill, and stop it again."""
    await asyncio.to_thread(scoring.start)
    deadline = time.monotonic() + _SWEEP_SECONDS
    try:
        while True:
            scored = await connection.fetchval("SELECT count(*) FROM scoring.scores")
            waiting = await connection.fetchval("SELECT count(*) FROM scoring.dirty")
            if scored == accounts and not waiting:
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"{scored} of {accounts} accounts scored, {waiting} marks left")
            await asyncio.sleep(1)
    finally:
        await asyncio.to_thread(scoring.terminate)


async def shown_accounts(url: str) -> list[str]:
    """Those with a year of weekly rows and an intervention, the most urgent first."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT DISTINCT account_id, priority FROM notifier.interventions"
            " WHERE right(account_id, 7)::int % $1::int = 0 ORDER BY priority DESC LIMIT 200",
            console_accounts.SHOWN_EVERY,
        )
        return [row["account_id"] for row in rows]
    finally:
        await connection.close()


def measure(
    asked: Asked, deployment: Services, key: str, accounts: Sequence[str], requests: int
) -> Measured:
    process = deployment.processes[asked.service]
    host = f"127.0.0.1:{process.ports[f'{asked.service.upper()}_PORT']}"
    headers = {"Authorization": f"Bearer {key}"} if asked.name.startswith(("api", "scor")) else {}
    took: list[float] = []
    statuses: list[int] = []
    size = 0
    busy = 0.0
    with connected(host) as client:
        for number, path in enumerate(
            itertools.islice(filled(asked.path, accounts), _WARM_UP + requests)
        ):
            if number == _WARM_UP:
                busy = deployment.cpu_seconds()
            began = time.perf_counter()
            client.request("GET", path, headers=headers)
            answer = client.getresponse()
            body = answer.read()
            took.append((time.perf_counter() - began) * 1_000)
            statuses.append(answer.status)
            size += len(body)
    return Measured(
        name=asked.name,
        path=asked.path,
        limit_ms=asked.limit_ms,
        milliseconds=took[_WARM_UP:],
        cpu_ms=(deployment.cpu_seconds() - busy) / requests * 1_000,
        kilobytes=size / len(took) / 1_024,
        statuses=statuses,
    )


@contextmanager
def connected(host: str) -> Iterator[http.client.HTTPConnection]:
    client = http.client.HTTPConnection(host, timeout=30)
    try:
        yield client
    finally:
        client.close()


def filled(path: str, accounts: Sequence[str]) -> Iterator[str]:
    """The path for one account and owner after the other."""
    for number in itertools.count():
        account = quote(accounts[number % len(accounts)], safe="")
        owner = f"csm-{number % _OWNERS}%40example.com"
        yield path.replace("{account}", account).replace("{owner}", owner)


async def explain_all(server: DatabaseServer) -> None:
    """Let PostgreSQL write down what it did for each statement that took a while."""
    database = await asyncpg.connect(server.url)
    try:
        for name, value in (
            ("session_preload_libraries", "auto_explain"),
            ("auto_explain.log_min_duration", str(_PLANS_FROM_MS)),
            ("auto_explain.log_analyze", "on"),
            ("auto_explain.log_buffers", "on"),
            # Reading the clock for each row costs more than the row.
            ("auto_explain.log_timing", "off"),
        ):
            await database.execute(f"ALTER DATABASE {_DATABASE} SET {name} = '{value}'")
    finally:
        await database.close()


def plans_of(log: Path, beyond: int) -> list[str]:
    """Of each statement the slowest plan, the slowest first."""
    with log.open("rb") as file:
        file.seek(beyond)
        text = file.read().decode(errors="replace")
    worst: dict[str, tuple[float, str]] = {}
    for took, plan in re.findall(r"duration: ([\d.]+) ms  plan:\n((?:\t.*\n)+)", text):
        statement = plan.partition("\tQuery Parameters")[0]
        if float(took) > worst.get(statement, (0.0, ""))[0]:
            worst[statement] = (float(took), f"{took} ms\n{plan.replace(chr(9), '')}")
    return [plan for _, plan in sorted(worst.values(), reverse=True)]


def table(figures: Figures) -> str:
    pages = figures.pages
    width = max(len(str(one["name"])) for one in pages)
    head = f"{'page':{width}}     p50     p95     p99  target     cpu     kB"
    lines = [", ".join(f"{name} {value}" for name, value in figures.about.items()), "", head]
    for one in pages:
        verdict = "" if one["is_met"] else f"  MISSED {one['statuses']}"
        lines.append(
            f"{one['name']:{width}} {one['p50_ms']:7} {one['p95_ms']:7} {one['p99_ms']:7}"
            f" {one['target_ms']:7} {one['cpu_ms']:7} {one['kilobytes']:6}{verdict}"
        )
    return "\n".join(lines) + "\n"


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--accounts", type=int, default=100_000)
    options.add_argument("--interventions", type=int, default=20_000)
    options.add_argument("--requests", type=int, default=100, help="of each page")
    options.add_argument("--only", default="", help="pages whose name matches (a regex)")
    options.add_argument("--folder", type=Path, help="keep what was loaded here")
    options.add_argument("--explain", action="store_true", help="plans of the slow statements")
    options.add_argument("--json", action="store_true", help="one line of JSON")
    chosen = options.parse_args()
    figures = asyncio.run(run(chosen))
    if chosen.json:
        whole = {**figures.about, "pages": figures.pages, "plans": figures.plans}
        sys.stdout.write(json.dumps(whole) + "\n")
    else:
        sys.stdout.write(table(figures) + "\n" + "\n".join(figures.plans))
    raise SystemExit(0 if all(one["is_met"] for one in figures.pages) else 1)


if __name__ == "__main__":
    main()
