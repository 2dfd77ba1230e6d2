"""`perennial demo`: the three services in this process, a simulated vendor, and what a CSM sees."""

import asyncio
import os
import shlex
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import typer
from rich.console import Console

from services import keys
from services.demo.catchers import Catchers, open_catchers
from services.demo.run import DemoResult, run_demo
from services.demo.showing import show_where_to_look
from services.process import (
    Backends,
    Service,
    open_admin,
    open_backends,
    read_settings,
    run_services,
    stop_on_signals,
)
from shared.clock import system_clock
from shared.credentials import Scope, Secret
from shared.lifecycle import new_frame
from shared.secret_files import is_given
from shared.settings import ProcessSettings, read

_SOURCE: Final = "demo"
_WIDTH_OF_FILES: Final = 120
_SCOPES: Final = (
    Scope.EVENTS_WRITE,
    Scope.ACCOUNTS_WRITE,
    Scope.BACKFILL,
    Scope.ACCOUNTS_READ,
)
# The demo's history comes through one key in one go: no vendor's source behaves like that, so
# what protects a real deployment would only make the newcomer wait.
_DEFAULTS: Final = {
    "PERENNIAL_DATA_DIR": ".perennial/demo",
    # Shorter than usual; at 3, a busy machine's pause was taken for the end of the history, and
    # half a history looks like silence.
    "PERENNIAL_BACKFILL_SETTLE_SECONDS": "6",
    # No user here works for two accounts: what comes later changes nothing.
    "PERENNIAL_PLACING_SETTLE_SECONDS": "1",
    "INGEST_RATE_PER_SECOND": "0",
    "PERENNIAL_RULES_FILE": str(Path(__file__).with_name("rules.toml")),
    "PERENNIAL_SLACK_PACE_SECONDS": "0.05",
    # Two years arrive at once: a real vendor's owners would get one summary, after half a minute.
    "PERENNIAL_GROUP_WAIT_SECONDS": "1",
    "PERENNIAL_STORM_INTERVENTIONS": "1000",
    "PERENNIAL_FALLBACK_OWNER": "customer-success@example.com",
}


async def run(*, once: bool) -> None:
    """Tell the story, then stay until Ctrl-C; with `once` end with a line of JSON instead."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    is_seen = (sys.stderr if once else sys.stdout).isatty()
    console = Console(stderr=once, width=None if is_seen else _WIDTH_OF_FILES)
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with AsyncExitStack() as stack:
        catchers = await _catch_messages(stack)
        settings = read(ProcessSettings)
        console.print("Starting PostgreSQL and the three services ...")
        backends = await stack.enter_async_context(
            open_backends(needs_database=True, settings=settings)
        )
        frame = new_frame()
        await stack.enter_async_context(open_admin(frame, settings))
        services = read_settings(list(Service))
        async with asyncio.TaskGroup() as group:
            group.create_task(run_services(services, backends, settings, frame, stop))
            told = group.create_task(_tell(backends, catchers, console, settings, stop))
            await asyncio.wait({told})
            if not once and not told.cancelled() and told.exception() is None:
                show_where_to_look(
                    console,
                    console_url=_url("NOTIFIER_PORT", 8082),
                    scoring_url=_url("SCORING_PORT", 8081),
                    perennial=_command_line(settings.perennial_data_dir),
                )
                console.print("\nIt stays up until you press Ctrl-C.")
                await stop.wait()
            stop.set()
    result = told.result()
    if once and result is not None:
        console.print(
            "The services have stopped; without --once they stay up, with the console at"
            f" {_url('NOTIFIER_PORT', 8082)}."
        )
        typer.echo(result.to_json())
        raise typer.Exit(0 if result.is_complete else 1)


async def _tell(
    backends: Backends,
    catchers: Catchers | None,
    console: Console,
    settings: ProcessSettings,
    stop: asyncio.Event,
) -> DemoResult | None:
    """The story; None where Ctrl-C came first."""
    key = await _demo_key(backends)
    story = asyncio.create_task(
        run_demo(
            ingest_url=_url("INGEST_PORT", 8080),
            scoring_url=_url("SCORING_PORT", 8081),
            console_url=_url("NOTIFIER_PORT", 8082),
            admin_url=f"http://127.0.0.1:{settings.admin_port}",
            key=key,
            scoring_key=key,
            catchers=catchers,
            now=system_clock(),
            console=console,
            data_dir=settings.perennial_data_dir,
        )
    )
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({story, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not story.done():
        story.cancel()
        await asyncio.wait({story})
        return None
    return story.result()


async def _catch_messages(stack: AsyncExitStack) -> Catchers | None:
    """Stand-ins for whatever the environment does not name; None if it names both."""
    absent = [name for name in ("SLACK_WEBHOOK_URL", "SMTP_URL") if not is_given(name, os.environ)]
    if not absent:
        return None
    catchers = await stack.enter_async_context(open_catchers())
    caught = {"SLACK_WEBHOOK_URL": catchers.slack_url, "SMTP_URL": catchers.smtp_url}
    os.environ.update({name: caught[name] for name in absent})
    return catchers


async def _demo_key(backends: Backends) -> Secret:
    """A fresh key for each run; the ones of earlier runs are revoked."""
    now = system_clock()
    for old in await keys.read_all(backends.log):
        if old.source == _SOURCE and keys.is_live(old, now):
            await keys.revoke(backends.log, key_id=old.key_id, now=now)
    made = await keys.create(backends.log, source=_SOURCE, scopes=_SCOPES, now=now, valid=None)
    return made.secret


def _url(port: str, default: int) -> str:
    return f"http://127.0.0.1:{os.environ.get(port) or default}"


def _command_line(data_dir: Path) -> str:
    """How to call `perennial` for the data of this demo, from the same folder in another shell."""
    program = Path(sys.argv[0])
    if program.name == "perennial":
        here = program.absolute()
        if here.is_relative_to(Path.cwd()):
            here = here.relative_to(Path.cwd())
        call = shlex.quote(str(here))
    else:
        call = f"{shlex.quote(sys.executable)} -m services"
    if data_dir == ProcessSettings.model_fields["perennial_data_dir"].default:
        return call
    return f"PERENNIAL_DATA_DIR={shlex.quote(str(data_dir))} {call}"
