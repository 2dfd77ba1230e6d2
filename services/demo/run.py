"""The demo's story: a vendor's history goes in through the HTTP API, and a CSM is told.

It uses nothing but the public APIs, so what it shows is what any vendor would see.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Final

import httpx
import msgspec
from rich.console import Console
from rich.progress import Progress, TaskID

from services.demo.catchers import Catchers
from services.demo.readings import (
    Intake,
    NotifierStatus,
    ScoredAccounts,
    ScoringStatus,
    read,
    read_intake,
)
from services.demo.showing import show_accounts, show_flags, show_messages
from services.demo.simulator import Simulation, simulate
from services.demo.vendor import Fields
from services.importing.client import Client, Kind, Settled, Target, open_http
from services.importing.errors import KeyRefused, Stopped
from services.importing.lanes import IN_FLIGHT, deliver
from services.importing.report import progress_bar
from services.importing.rows import Item
from services.importing.threads import undisturbed

PATIENCE: Final = timedelta(minutes=5)

_CHUNK_ITEMS = 1_000
_POLL_SECONDS = 0.5
_KEY_SECONDS = 10.0  # a new key is known to ingest within a second while it runs
_SETTLED_SECONDS = 1.5  # longer than the services' looks at the log are apart
_STILL_SECONDS = 20.0  # of no progress, where nobody can tell what is still to come
_TOP_ACCOUNTS = 5

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demo brought about; `is_complete` if there is something of everything."""

    events: int
    accounts: int
    at_risk: int
    interventions: int
    deliveries: int
    seconds: float

    @property
    def is_complete(self) -> bool:
        return all((self.events, self.accounts, self.at_risk, self.interventions, self.deliveries))

    def to_json(self) -> str:
        """One line with the figures by their names."""
        return msgspec.json.encode(
            {
                "events": self.events,
                "accounts": self.accounts,
                "at_risk": self.at_risk,
                "interventions": self.interventions,
                "deliveries": self.deliveries,
                "seconds": round(self.seconds, 1),
            }
        ).decode()


async def run_demo(
    *,
    ingest_url: str,
    scoring_url: str,
    console_url: str,
    admin_url: str,
    key: str,
    scoring_key: str,
    catchers: Catchers | None,
    now: datetime,
    console: Console,
    data_dir: Path,
    patience: timedelta = PATIENCE,
) -> DemoResult:
    """Tell the story against running services; raises Stopped if ingest takes nothing more.

    The first run's day is kept in `data_dir`, so that a later run on the same data continues the
    same history instead of inventing a second one.
    """
    started = time.monotonic()
    anchor = await undisturbed(_anchor, data_dir, now)
    told = await undisturbed(simulate, now=now, anchor=anchor)
    console.print(
        f"{len(told.accounts)} accounts of a simulated vendor, {told.event_count:,} events of"
        " 400 days. [dim]Synthetic, with a fixed seed.[/]"
    )
    async with open_http(scoring_url, in_flight=2) as http:
        with progress_bar(console) as bar:
            accounts, events = await _send(told, bar, url=ingest_url, key=key)
            wait = _Wait(
                http=http,
                scoring_url=scoring_url,
                console_url=console_url,
                admin_url=admin_url,
                key=scoring_key,
                deadline=time.monotonic() + patience.total_seconds(),
            )
            scored = await wait.until_scored(bar, events)
            notified = await wait.until_notified(bar, flags=scored.flags_open if scored else 0)
        url = f"{scoring_url}/v1/accounts?sort=risk&limit=10"
        top = await read(http, url, ScoredAccounts, key=scoring_key)
    ranked = top.accounts if top else []
    show_accounts(console, ranked[:_TOP_ACCOUNTS])
    show_flags(console, scored.flags if scored else {})
    if catchers is not None:
        show_messages(console, catchers, ranked)
    return DemoResult(
        events=events,
        accounts=accounts,
        at_risk=scored.at_risk if scored else 0,
        interventions=notified.interventions_open if notified else 0,
        deliveries=notified.deliveries.sent if notified else 0,
        seconds=time.monotonic() - started,
    )


async def _send(told: Simulation, bar: Progress, *, url: str, key: str) -> tuple[int, int]:
    """Events, then accounts; returns how many of each were accepted.

    In this order, because an account that is known by its contract alone, of years perhaps, looks
    like one that nobody has ever used.
    """
    async with open_http(url, in_flight=IN_FLIGHT) as http:
        task = bar.add_task("sending events", total=told.event_count)
        client = Client(http, Target(url=url, key=key, kind=Kind.EVENTS))
        events = 0

        def settled(batch: Sequence[Settled]) -> None:
            nonlocal events
            events += _accepted(batch)
            bar.advance(task, len(batch))

        chunks = _chunks(told.events())
        settled(await _once_the_key_is_known(client, await anext(chunks)))
        await deliver(chunks, client, on_settled=settled)
        directory = Client(http, Target(url=url, key=key, kind=Kind.ACCOUNTS))
        items = [_item(number, account.item()) for number, account in enumerate(told.accounts, 1)]
        accounts = _accepted(await directory.send(items))
    return accounts, events


async def _once_the_key_is_known(client: Client, items: Sequence[Item]) -> list[Settled]:
    """The key may be a second old: ingest hears of it through the log."""
    deadline = time.monotonic() + _KEY_SECONDS
    while True:
        try:
            return await client.send(items)
        except KeyRefused:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_POLL_SECONDS)


def _accepted(answers: Sequence[Settled]) -> int:
    """How many; the demo's own data is never at fault, so a rejected item is a bug."""
    for answer in answers:
        if answer.code:
            raise Stopped(
                f"ingest rejected item {answer.item.number} of the demo:"
                f" {answer.code}: {answer.message}"
            )
    return len(answers)


async def _chunks(events: Iterator[Fields]) -> AsyncIterator[list[Item]]:
    number = 0
    while chunk := await undisturbed(_take, events, number):
        number += len(chunk)
        yield chunk


def _take(events: Iterator[Fields], number: int) -> list[Item]:
    chunk = islice(events, _CHUNK_ITEMS)
    return [_item(place, event) for place, event in enumerate(chunk, number + 1)]


def _item(number: int, fields: Fields) -> Item:
    account = fields.get("account_id") or fields["id"]
    return Item(number=number, line=number, account=str(account), body=_encode(fields), cells=[])


@dataclass(slots=True, kw_only=True)
class _Wait:
    """Polls until the services have done their part; gives up quietly, the figures then tell."""

    http: httpx.AsyncClient
    scoring_url: str
    console_url: str
    admin_url: str
    key: str
    deadline: float

    async def until_scored(self, bar: Progress, events: int) -> ScoringStatus | None:
        """Everything that was sent is taken in, and nothing waits to be scored or passed on."""
        task = bar.add_task("scoring", total=events)
        latest: tuple[ScoringStatus | None, Intake | None] = (None, None)
        moved = time.monotonic()
        while time.monotonic() < self.deadline:
            url = f"{self.scoring_url}/v1/status"
            status = await read(self.http, url, ScoringStatus, key=self.key)
            intake = await read_intake(self.http, self.admin_url)
            if (status, intake) != latest:
                latest, moved = (status, intake), time.monotonic()
            calm = time.monotonic() - moved
            if intake is not None:
                bar.update(task, completed=min(events, intake.events))
            if status is not None and status.is_idle:
                all_came = intake is not None and intake.events >= events and not intake.waiting
                if calm > (_SETTLED_SECONDS if all_came else _STILL_SECONDS):
                    break
            await asyncio.sleep(_POLL_SECONDS)
        bar.update(task, completed=events)
        return latest[0]

    async def until_notified(self, bar: Progress, *, flags: int) -> NotifierStatus | None:
        """Every flag is known and its message sent; what waits for its hour is left waiting."""
        task: TaskID = bar.add_task("messages to owners", total=None)
        latest: tuple[NotifierStatus | None, Intake | None] = (None, None)
        moved = time.monotonic()
        while time.monotonic() < self.deadline:
            status = await read(self.http, f"{self.console_url}/v1/status", NotifierStatus)
            intake = await read_intake(self.http, self.admin_url)
            if (status, intake) != latest:
                latest, moved = (status, intake), time.monotonic()
            calm = time.monotonic() - moved
            if status is not None:
                sent, pending = status.deliveries.sent, status.deliveries.pending
                bar.update(task, completed=sent, total=sent + pending)
                waiting = pending or intake is None or intake.waiting
                told = bool(sent or not flags)
                if calm > (_SETTLED_SECONDS if told and not waiting else _STILL_SECONDS):
                    break
            await asyncio.sleep(_POLL_SECONDS)
        return latest[0]


def _anchor(data_dir: Path, now: datetime) -> date:
    """The day on which the demo was first run with this data."""
    path = data_dir / "demo.json"
    try:
        return date.fromisoformat(msgspec.json.decode(path.read_bytes(), type=_Kept).anchor)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError, ValueError):
        today = now.date()
        data_dir.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_encode(_Kept(anchor=today.isoformat())))
        return today


class _Kept(msgspec.Struct):
    anchor: str
