"""Imports over real HTTP against a server that answers as wire.md says, and then misbehaves."""

import asyncio
import csv
import gzip
import io
import json
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from services.importing.errors import KeyRefused, Stopped, Unusable
from services.importing.imports import Order, import_accounts, import_events
from tests.integration.importing.stand_in import (
    JSON,
    Answer,
    StandIn,
    error,
    resetting_proxy,
    running,
)

ROWS = 5_000
ACCOUNTS = 17


@pytest.fixture
async def ingest() -> AsyncIterator[StandIn]:
    async with running() as stand_in:
        yield stand_in


@pytest.fixture
def shown() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def order(tmp_path: Path, ingest: StandIn, shown: io.StringIO) -> Order:
    """5,000 rows of 17 accounts; two neighbouring rows are always equal but for their place."""
    path = tmp_path / "events.csv"
    lines = [f"{1_700_000_000 + row // 2},a{row // 2 % ACCOUNTS},login" for row in range(ROWS)]
    path.write_text("\n".join(["time,account,event", *lines, ""]))
    return Order(
        path=path,
        url=ingest.url,
        key="good-key",
        data_dir=tmp_path / "data",
        console=Console(file=shown, width=200),
    )


def of_one_account(order: Order) -> None:
    rows = [f"{1_700_000_000 + row},a1,login" for row in range(ROWS)]
    order.path.write_text("\n".join(["time,account,event", *rows]))


def journals(order: Order) -> list[Path]:
    return list((order.data_dir / "imports").glob("*"))


async def test_every_row_is_one_event_and_a_second_import_adds_none(
    order: Order, ingest: StandIn
) -> None:
    first = await import_events(order)
    assert (first.rows, first.accepted, first.rejected, first.exit_code) == (ROWS, ROWS, 0, 0)
    assert len(ingest.accepted) == ROWS  # equal rows stay separate events
    assert journals(order) == []
    second = await import_events(order)
    assert second.accepted == ROWS
    assert len(ingest.accepted) == ROWS
    assert list(json.loads(second.to_json())) == [
        "rows",
        "accepted",
        "rejected",
        "warnings",
        "seconds",
    ]


async def test_the_requests_are_what_the_wire_asks_for(order: Order, ingest: StandIn) -> None:
    await import_events(order)
    request = ingest.requests[0]
    assert request.path == "/v1/events"
    assert request.headers["perennial-backfill"] == "true"
    assert request.headers["content-encoding"] == "gzip"
    assert max(len(request.items) for request in ingest.requests) <= 1_000
    item = next(item for request in ingest.requests for item in request.items)
    assert sorted(item) == ["account_id", "id", "occurred_at", "type"]
    fingerprint, _, row = item["id"].partition("-")
    assert (len(fingerprint), int(row) in range(1, ROWS + 1)) == (16, True)


async def test_one_accounts_rows_arrive_in_the_files_order(order: Order, ingest: StandIn) -> None:
    await import_events(order)
    rows: dict[str, list[int]] = {}
    for event in ingest.arrivals:
        rows.setdefault(event["account_id"], []).append(int(event["id"].split("-")[1]))
    assert len(rows) == ACCOUNTS
    assert all(numbers == sorted(numbers) for numbers in rows.values())
    assert ingest.most_at_once > 1


async def test_503_and_429_are_waited_out_as_long_as_the_server_says(
    order: Order, ingest: StandIn
) -> None:
    ingest.faults = [
        lambda _: error(503, "log_unavailable", "the log is away", retry_after="1"),
        lambda _: error(429, "rate_limited", "too many", retry_after="1"),
        lambda _: (500, {}, {"code": "internal"}),
    ]
    began = time.monotonic()
    summary = await import_events(order)
    assert summary.accepted == len(ingest.accepted) == ROWS
    assert time.monotonic() - began >= 1.0
    # 3 answers of no use are sent again with the same ids, so nothing is new in them.
    sent = Counter(item["id"] for request in ingest.requests for item in request.items)
    assert len(sent) == ROWS
    assert sum(sent.values()) > ROWS


async def test_items_to_retry_go_again_and_their_accounts_stay_in_order(
    order: Order, ingest: StandIn
) -> None:
    def every_fifth_later(items: list[JSON]) -> Answer:
        now = [item for index, item in enumerate(items) if index % 5]
        _, _, answer = ingest.take(now)
        assert isinstance(answer, dict)
        results = iter(answer["results"])
        return (
            200,
            {},
            {
                "results": [
                    {**next(results), "index": index}
                    if index % 5
                    else {"index": index, "status": "retry", "code": "not_durable"}
                    for index in range(len(items))
                ]
            },
        )

    ingest.faults = [every_fifth_later] * 3
    summary = await import_events(order)
    assert summary.accepted == len(ingest.accepted) == ROWS
    last: dict[str, int] = {}
    for event in ingest.arrivals:
        last[event["account_id"]] = int(event["id"].split("-")[1])
    # The last arrival of an account is its last row: row 5,000 is of account (4999 // 2) % 17 = 0.
    assert last["a0"] == ROWS
    assert sorted(last.values(), reverse=True) == [ROWS - 2 * place for place in range(ACCOUNTS)]


async def test_an_answer_without_all_results_leaves_the_others_to_be_sent_again(
    order: Order, ingest: StandIn
) -> None:
    ingest.faults = [lambda items: (200, {}, {"results": ingest.take(items)[2]["results"][:10]})]  # type: ignore[index]
    assert (await import_events(order)).accepted == len(ingest.accepted) == ROWS


async def test_reset_connections_lose_nothing_and_change_no_id(
    order: Order, ingest: StandIn
) -> None:
    async with resetting_proxy(ingest.url, resets=6) as url:
        summary = await import_events(replace(order, url=url))
    assert summary.accepted == len(ingest.accepted) == ROWS


async def test_a_server_that_takes_less_at_once_gets_smaller_requests(
    order: Order, ingest: StandIn
) -> None:
    def small(items: list[JSON]) -> Answer | None:
        return error(413, "too_many_items", "300 items") if len(items) > 300 else None

    ingest.faults = [small] * 40
    assert (await import_events(order)).accepted == len(ingest.accepted) == ROWS


async def test_a_server_that_stays_away_stops_the_import_and_it_goes_on_from_there(
    order: Order, ingest: StandIn, shown: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.importing.client._TOLD_AFTER_SECONDS", 0.1)
    of_one_account(order)  # one lane, so one batch of 1,000 after the other
    away = [lambda _: error(503, "log_unavailable", "the log is away", retry_after="1")] * 99
    ingest.faults = [lambda _: None, lambda _: None, *away]
    with pytest.raises(Stopped, match=r"took nothing for .*log_unavailable.*2,000 rows of .* done"):
        await import_events(replace(order, silence_limit=timedelta(seconds=0.5)))
    assert shown.getvalue().count(f"waiting for {order.url}: log_unavailable: the log is away") == 1
    (journal,) = journals(order)
    assert json.loads(journal.read_bytes())["done"] == len(ingest.accepted) == 2_000
    ingest.faults = []
    ingest.requests.clear()
    summary = await import_events(order)
    assert (summary.rows, summary.accepted) == (ROWS, ROWS)
    assert len(ingest.accepted) == ROWS
    assert sum(len(request.items) for request in ingest.requests) == ROWS - 2_000
    assert "going on after row 2,000" in shown.getvalue()
    assert journals(order) == []


async def test_an_address_where_nobody_answers_is_given_up_soon(
    order: Order, shown: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.importing.client._FIRST_ANSWER_SECONDS", 0.6)
    with socket.socket() as bound:  # bound but not listening: connections are refused
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(Stopped, match=f"nothing answered at {url} for 1 s: start `perennial"):
            await import_events(replace(order, url=url))
    assert (
        shown.getvalue().count(
            f"nothing answers at {url}: is `perennial up` running? Trying for 1 s\n"
        )
        == 1
    )


async def test_an_import_that_is_interrupted_goes_on(order: Order, ingest: StandIn) -> None:
    of_one_account(order)
    waiting = asyncio.Event()

    def away(_: list[JSON]) -> Answer:
        waiting.set()
        return error(503, "overloaded", "later", retry_after="30")

    ingest.faults = [lambda _: None, lambda _: None, away]
    task = asyncio.create_task(import_events(order))
    await asyncio.wait_for(waiting.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (journal,) = journals(order)
    assert json.loads(journal.read_bytes())["done"] == 2_000
    summary = await import_events(order)
    assert summary.accepted == len(ingest.accepted) == ROWS
    assert journals(order) == []


async def test_another_key_or_another_reading_begins_anew(order: Order, ingest: StandIn) -> None:
    of_one_account(order)
    ingest.faults = [lambda _: None, lambda _: None, *[lambda _: error(400, "odd", "odd")] * 9]
    with pytest.raises(Stopped, match="odd"):
        await import_events(order)
    ingest.faults = []
    ingest.requests.clear()
    await import_events(replace(order, mapping={"feature": "event"}))
    assert sum(len(request.items) for request in ingest.requests) == ROWS
    assert len(journals(order)) == 1


async def test_rejected_rows_are_listed_and_the_good_ones_kept(
    order: Order, ingest: StandIn, shown: io.StringIO, tmp_path: Path
) -> None:
    content = order.path.read_text().splitlines()
    content[2] = "soon,a1,login"
    content[3] = "1700000000,a1"
    content[4] = "1700000000,,login"
    content[9] = '1700000000,"a2,login'
    order.path.write_bytes("\n".join(content).encode() + b"\n1700000001,b\xe9,login")
    ingest.reject = lambda item: (
        ("invalid_account", "a placeholder") if item["account_id"] == "a3" else None
    )
    ingest.warn = lambda item: ["clock_ahead"] if item["account_id"] == "a4" else []
    rejects = tmp_path / "rejects.csv"
    summary = await import_events(replace(order, rejects=rejects))
    # Rows 1 and 2 are pair 0. Pair n is of account n % 17: a3 has the pairs 3, 20, ..., 2485,
    # that is 147. Broken are the rows 2 (pair 0), 3 and 4 (pair 1), 9 (pair 4) and the last.
    assert summary.rejected == 2 * 147 + 5
    assert summary.accepted == len(ingest.accepted) == ROWS + 1 - summary.rejected
    assert summary.exit_code == 1
    # a4 has the pairs 4, 21, ..., 2486, that is 147, of which one row is broken.
    assert summary.warnings == 2 * 147 - 1
    with rejects.open(encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == summary.rejected
    assert [(row["perennial_row"], row["perennial_code"]) for row in rows[:5]] == [
        ("2", "invalid_time"),
        ("3", "broken_row"),
        ("4", "missing_account"),
        ("7", "invalid_account"),
        ("8", "invalid_account"),
    ]
    assert (rows[0]["time"], rows[0]["account"], rows[0]["perennial_field"]) == (
        "soon",
        "a1",
        "occurred_at",
    )
    assert rows[-1]["account"] == "b\udce9"
    said = shown.getvalue()
    assert "rejected row 2 (line 3): occurred_at: invalid_time: 'soon' is not" in said
    assert said.count("rejected row") == 10
    assert "warning clock_ahead: 293" in said
    assert "rows/s)" in said
    assert "would count its good rows twice" in said


async def test_a_file_of_rejects_can_be_corrected_and_imported(
    order: Order, ingest: StandIn, tmp_path: Path
) -> None:
    rejects = tmp_path / "rejects.csv"
    ingest.reject = lambda item: (
        ("invalid_account", "not yet") if item["account_id"] == "a3" else None
    )
    first = await import_events(replace(order, rejects=rejects))
    ingest.reject = lambda _: None
    second = await import_events(replace(order, path=rejects))
    assert (second.rows, second.accepted) == (first.rejected, first.rejected)
    assert len(ingest.accepted) == ROWS
    assert "properties" not in ingest.arrivals[-1]


async def test_the_file_of_rejects_is_exact_after_going_on(
    order: Order, ingest: StandIn, tmp_path: Path
) -> None:
    rejects = tmp_path / "rejects.csv"
    of_one_account(order)
    ingest.reject = lambda item: ("invalid_time", "no") if item["occurred_at"] % 7 == 0 else None
    ingest.faults = [lambda _: None] * 3 + [lambda _: error(418, "teapot", "short and stout")] * 9
    with pytest.raises(Stopped):
        await import_events(replace(order, rejects=rejects))
    with rejects.open("a") as file:
        file.write("what a killed import wrote after its journal\n")
    ingest.faults = []
    summary = await import_events(replace(order, rejects=rejects))
    with rejects.open() as file:
        numbers = [int(row["perennial_row"]) for row in csv.DictReader(file)]
    # 1,700,000,000 % 7 is 6, and row n is n - 1 seconds later: rows 2, 9, 16, ... are rejected.
    assert numbers == list(range(2, ROWS + 1, 7))
    assert summary.rejected == len(numbers)


async def test_a_wrong_key_stops_at_once_and_says_so(order: Order, ingest: StandIn) -> None:
    with pytest.raises(KeyRefused, match=r"key is not accepted.*perennial keys create"):
        await import_events(replace(order, key="wrong"))
    assert len(ingest.requests) <= 4


async def test_a_key_without_the_scope_stops_instead_of_rejecting_every_row(
    order: Order, ingest: StandIn
) -> None:
    ingest.reject = lambda _: ("scope_missing", "needs the scope backfill")
    with pytest.raises(KeyRefused, match="needs the scope backfill"):
        await import_events(order)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": "ftp://x"}, "no address of ingest"),
        ({"url": "localhost:8080"}, "no address of ingest"),
        ({"url": "http://[::1"}, "no address"),
        ({"key": "schlüssel"}, "the whole key"),
        ({"mapping": {"type": "kind"}}, "no column kind"),
        ({"path": Path("none.csv")}, "cannot read"),
    ],
)
async def test_what_cannot_be_used_is_refused_before_anything_is_sent(
    order: Order, ingest: StandIn, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(Unusable, match=message):
        await import_events(replace(order, **changes))  # type: ignore[arg-type]
    assert ingest.requests == []


async def test_a_column_called_id_that_repeats_is_not_taken_as_the_events_id(
    order: Order, ingest: StandIn, shown: io.StringIO
) -> None:
    order.path.write_text(
        "id,date,qty,account_id\n1,19970101,1,1\n2,19970112,1,2\n2,19970112,5,2\n"
    )
    assert (await import_events(order)).accepted == len(ingest.accepted) == 3
    assert "column id repeats in different rows" in shown.getvalue()
    assert {event["occurred_at"] for event in ingest.arrivals} == {
        "1997-01-01T00:00:00+00:00",
        "1997-01-12T00:00:00+00:00",
    }


async def test_an_id_column_names_the_events(order: Order, ingest: StandIn) -> None:
    order.path.write_text("id,date,account\nx1,2024-01-01,a\nx2,2024-01-01,a\nx2,2024-01-01,a\n")
    assert (await import_events(order)).accepted == 3
    assert sorted(ingest.accepted) == ["x1", "x2"]


async def test_a_header_without_rows_is_an_import_of_nothing(order: Order, ingest: StandIn) -> None:
    order.path.write_text("date,account\n")
    summary = await import_events(order)
    assert (summary.rows, summary.exit_code, ingest.requests) == (0, 0, [])


async def test_accounts_are_patched(order: Order, ingest: StandIn, shown: io.StringIO) -> None:
    order.path.write_bytes(
        gzip.compress(
            b"account_id;name;seats;mrr;renewal_date;colour\n"
            b"a1;Acme;12;99,50;2025-01-31;red\na2;;x;;;\na1;Acme & Co;;;;\n"
        )
    )
    summary = await import_accounts(order)
    assert (summary.accepted, summary.rejected) == (2, 1)
    (request,) = ingest.requests
    assert request.path == "/v1/accounts:batch?mode=patch"
    assert "perennial-backfill" not in request.headers
    assert request.items == [
        {
            "id": "a1",
            "name": "Acme",
            "seats": 12,
            "mrr": "99.50",
            "contract_end": "2025-01-31",
        },
        {"id": "a1", "name": "Acme & Co"},
    ]
    said = shown.getvalue()
    assert "not used, no account field: colour" in said
    assert "with --rejects FILE all are written to a file" in said
    assert "twice" not in said  # a patch again changes nothing
    assert "rows/s" not in said  # of three rows, it would say nothing


async def test_a_folder_that_cannot_be_written_is_named(order: Order, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unusable, match="cannot keep the import's progress"):
        await import_events(replace(order, data_dir=tmp_path / "file"))


@pytest.mark.skipif(
    "PERENNIAL_TEST_DATA" not in os.environ, reason="REAL DATA: PERENNIAL_TEST_DATA is not set"
)
async def test_the_real_events_are_accepted_in_full_twice(order: Order, ingest: StandIn) -> None:
    path = Path(os.environ["PERENNIAL_TEST_DATA"]) / "contributor_activity.csv.gz"
    for _ in range(2):
        summary = await import_events(replace(order, path=path))
        assert (summary.accepted, summary.rejected) == (96_558, 0)
        assert len(ingest.accepted) == 96_558
    with gzip.open(path, "rt") as file:
        expected = Counter(
            (row["account_id"], int(row["event_ts"]), row["event_type"], row["product"])
            for row in csv.DictReader(file)
        )
    assert expected == Counter(
        (
            event["account_id"],
            event["occurred_at"],
            event["type"],
            event["properties"]["feature"],
        )
        for event in ingest.accepted.values()
    )
