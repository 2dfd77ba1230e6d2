"""`perennial evaluate` as an operator runs it: tables, JSON, a report, or one clear sentence."""

import csv
import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from services.__main__ import app
from services.scoring.evaluation.results import MODELS
from tests.databases import DatabaseServer

COLUMNS = ("event_ts", "arrival_ts", "account_id", "user_id", "product", "event_type")
MEASURES = {"auc", "auc_low", "auc_high", "ap", "lift10", "brier", "ece", "rows", "base"}
Row = tuple[object, ...]


def write(path: Path, header: tuple[str, ...], rows: list[Row]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def used(
    *, accounts: int = 40, years: float = 2.2, users: int = 4, product: str = "app", seed: int = 1
) -> list[Row]:
    """Accounts used the more rarely the sooner they leave; half of them leave."""
    generator = np.random.default_rng(seed)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    rows: list[Row] = []
    for number in range(accounts):
        stays = number % 2 == 0
        until = years * 365 if stays else generator.uniform(120, years * 330)
        day = float(generator.uniform(0, 60))
        while day < until:
            at = start + timedelta(days=day)
            late = at + timedelta(days=float(generator.exponential(3)))
            user = f"user-{number}-{generator.integers(0, users)}" if users else ""
            rows.append(
                (
                    int(at.timestamp()),
                    int(late.timestamp()),
                    f"account-{number}",
                    user,
                    product,
                    "x",
                )
            )
            day += float(generator.exponential(8 if stays else 16))
    return rows


def run(server: DatabaseServer, *arguments: str | Path) -> Result:
    said = CliRunner().invoke(
        app,
        ["evaluate", *map(str, arguments), "--database", server.url],
        env={
            "COLUMNS": "200",
            "NO_COLOR": "1",
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x",
        },
    )
    assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    assert "Traceback" not in said.output
    return said


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def no_nan(constant: str) -> Any:
    raise AssertionError(constant)


def test_a_file_gives_tables_a_report_and_the_keys_that_scripts_read(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    events = write(tmp_path / "events.csv", COLUMNS, used())
    plans = [(f"account-{number}", ("free", "pro")[number % 3 > 0]) for number in range(40)]
    accounts = write(tmp_path / "accounts.csv", ("account_id", "plan"), list(plans))
    page = tmp_path / "report.html"
    said = run(
        database_server, "--events", events, "--accounts", accounts, "--json", "--report", page
    )
    found = json.loads(said.stdout, parse_constant=no_nan)
    assert tuple(found["models"]) == MODELS
    for model in MODELS:
        for name in ("all", "users3"):
            assert set(found["models"][model][name]) >= MEASURES
    assert found["models"]["served"]["all"]["rows"] == found["data"]["tested"] > 100
    assert {"plan free", "plan pro"} <= set(found["slices"])
    gate = found["gate"]
    assert gate["passed"] == all(line["passed"] for line in gate["lines"])
    assert said.exit_code == (0 if gate["passed"] else 1)

    tags = Tags()
    tags.feed(page.read_text())
    assert [name for name, _ in tags.tags].count("svg") >= 6
    # One file: no script, and nothing is fetched.
    assert not {"script", "link", "img", "iframe"} & {name for name, _ in tags.tags}
    assert not [at for _, at in tags.tags if {"src", "href"} & at.keys()]
    assert "url(" not in page.read_text()


def test_without_options_it_is_tables_for_a_person(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    events = write(tmp_path / "events.csv", COLUMNS, used(accounts=12, years=2.1))
    said = run(database_server, "--events", events)
    assert re.search(r"served +0\.\d{3} \([01]\.\d{3}-[01]\.\d{3}\)", said.stdout)
    verdict = {0: "pass", 1: "fail"}[said.exit_code]
    assert said.stdout.splitlines()[-1] == f"GATE {verdict}"


def test_random_labels_cannot_be_ranked(database_server: DatabaseServer, tmp_path: Path) -> None:
    events = write(tmp_path / "events.csv", COLUMNS, used(accounts=60))
    said = run(database_server, "--events", events, "--labels", "random", "--json")
    found = json.loads(said.stdout)
    assert found["protocol"]["label"] == "random"
    served = found["models"]["served"]["all"]
    assert served["rows"] > 500
    assert 0.42 < served["auc"] < 0.58, "a leak"
    assert said.exit_code == 1


def test_a_ledger_of_days_is_reported_apart(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    rows: list[Row] = [
        (number, datetime.fromtimestamp(int(str(row[0])), UTC).strftime("%Y%m%d"), row[2])
        for number, row in enumerate(used(years=1.5))
    ]
    events = write(tmp_path / "ledger.csv", ("id", "date", "account_id"), rows)
    found = json.loads(run(database_server, "--events", events, "--json").stdout)
    assert found["protocol"]["eligible"] == "any"
    assert not found["data"]["has_arrivals"]
    assert any(note.startswith("no arrival times") for note in found["notes"])
    assert found["models"]["served"]["users3"]["rows"] == 0
    assert found["models"]["served"]["users3"]["auc"] is None
    assert found["alerts"] == {}


def test_contracts_are_a_second_label_where_there_are_some(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    rows = used()
    events = write(tmp_path / "events.csv", COLUMNS, rows)
    last: dict[object, int] = {}
    for row in rows:
        last[row[2]] = max(last.get(row[2], 0), int(str(row[0])))
    dates: list[Row] = [
        (name, "2020-01-01", datetime.fromtimestamp(at + 86_400, UTC).date() if at < 1.62e9 else "")
        for name, at in last.items()
    ]
    header = ("account_id", "contract_start", "churned_at")
    accounts = write(tmp_path / "accounts.csv", header, dates)
    said = run(database_server, "--events", events, "--accounts", accounts, "--json")
    found = json.loads(said.stdout)
    assert found["by_contract"]["served"]["auc"] > 0.6


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(used(accounts=1), id="one account"),
        pytest.param(used(accounts=6), id="few losses"),
        pytest.param(used(accounts=30, users=0, product=""), id="no users and no product"),
        pytest.param(used(accounts=30, users=1), id="one user each"),
        pytest.param(used(accounts=20, years=0.5), id="half a year"),
        pytest.param(used(accounts=20, years=1.1), id="a year"),
        pytest.param([(1.6e9, 1.6e9, "a", "u", "p", "x")], id="one row, not whole seconds"),
        pytest.param([(1_600_000_000, 1_600_000_000, "a", "u", "p", "x")], id="one row"),
        pytest.param([(1_600_000_000, 1_600_000_000, "a", "", "", "identify")], id="no activity"),
        pytest.param([], id="no row"),
    ],
)
def test_any_file_ends_in_a_table_or_in_one_sentence(
    database_server: DatabaseServer, tmp_path: Path, rows: list[Row]
) -> None:
    events = write(tmp_path / "events.csv", COLUMNS, rows)
    page = tmp_path / "report.html"
    said = run(database_server, "--events", events, "--json", "--report", page)
    if said.exit_code == 2:
        assert said.stdout == ""
        (line,) = said.stderr.strip().splitlines()
        assert line.startswith("perennial: ")
        assert not page.exists()
    else:
        json.loads(said.stdout, parse_constant=no_nan)
        assert page.exists()


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        (["--from", "2300"], "nothing can be tested"),
        (["--as-of", "2020-06-01"], "--as-of is needed twice"),
        (["--report", "/nowhere/at/all.html"], "--report: the folder"),
        (["--accounts", "/nowhere.csv"], "--accounts: /nowhere.csv cannot be read"),
        (["--horizon", "700"], "too short"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    database_server: DatabaseServer, tmp_path: Path, options: list[str], detail: str
) -> None:
    events = write(tmp_path / "events.csv", COLUMNS, used(accounts=8, years=1.2))
    said = run(database_server, "--events", events, *options)
    assert said.exit_code == 2
    (line,) = said.stderr.strip().splitlines()
    assert detail in line


def test_a_server_that_is_away_or_refuses_is_one_line(tmp_path: Path) -> None:
    events = write(tmp_path / "events.csv", COLUMNS, used(accounts=8, years=1.2))
    for url in ("postgresql://nobody@127.0.0.1:1/x", "not a url"):
        said = CliRunner().invoke(app, ["evaluate", "--events", str(events), "--database", url])
        assert said.exit_code in {1, 2}
        assert len(said.stderr.strip().splitlines()) == 1


def test_the_scratch_database_is_gone_afterwards(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    import asyncio  # noqa: PLC0415

    import asyncpg  # noqa: PLC0415

    async def left() -> int:
        connection = await asyncpg.connect(database_server.url)
        try:
            count: int = await connection.fetchval(
                "SELECT count(*) FROM pg_database WHERE datname LIKE 'perennial_evaluate_%'"
            )
        finally:
            await connection.close()
        return count

    events = write(tmp_path / "events.csv", COLUMNS, used(accounts=4))
    run(database_server, "--events", events)
    assert asyncio.run(left()) == 0
