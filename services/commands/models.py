"""`perennial train` and `perennial models`."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from services.commands.running import Json, configure_logging, fail, perform, read_or_fail
from shared.clock import system_clock
from shared.errors import PerennialError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from services.scoring.domain.labels import Definition
    from services.scoring.drift import Health
    from services.scoring.lifecycle import Shadowed, Trained
    from services.scoring.model_store import StoredModel

train = typer.Typer(help="Fit a risk model on the losses that were seen.")
app = typer.Typer(
    help="Which risk models there are, which one serves, and whether it still holds.",
    no_args_is_help=True,
)

T = TypeVar("T")

_HORIZONS = (28, 90, 180)
_MAX_REASON = 60

Horizon = Annotated[
    int | None,
    typer.Option(
        help="lost within so many days: 28, 90 or 180; by default that of the model in service, 90"
        " at first"
    ),
]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="as `models list` shows it")]
TrainingEvents = Annotated[
    Path,
    typer.Option(
        help="CSV, plain or .gz, with the columns event_ts and arrival_ts (epoch seconds),"
        " account_id, user_id, product (the feature), event_type"
    ),
]


class NotServed(PerennialError):
    """The model may not be put in service."""


@train.callback(invoke_without_command=True)
def train_own(
    context: typer.Context,
    horizon: Horizon = None,
    label: Annotated[
        Literal["auto", "contract", "silence"],
        typer.Option(
            help="what counts as lost: the contracts' dates, or also silence; auto: contracts"
            " where 80 % of the accounts have dates"
        ),
    ] = "auto",
    *,
    activate: Annotated[
        bool, typer.Option("--activate", help="if it passes the gate, serve it at once")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fit a model on what was logged and what became of it; exit code 1: it misses the gate.

    It needs 100 lost accounts. A model that passes the gate is compared with the one in service
    for 7 days; then it serves, unless more than a tenth of the accounts would change their band.
    """
    if context.invoked_subcommand is not None:
        return
    if horizon is not None and horizon not in _HORIZONS:
        fail(f"--horizon is one of: {', '.join(map(str, _HORIZONS))}", code=2)
    _need_training()
    configure_logging(quiet=True)
    definition = None if label == "auto" else label
    found = _train(horizon, definition, activate=activate)
    if as_json:
        typer.echo(json.dumps(_trained_json(found), default=str))
    else:
        from services.scoring.training_report import as_text  # noqa: PLC0415

        typer.echo(as_text(found))
    raise typer.Exit(0 if found.report.passed else 1)


@train.command("prior")
def train_prior(
    events: TrainingEvents,
    out: Annotated[Path, typer.Option(help="the model file to write")],
) -> None:
    """Fit the weights that are served before a vendor has losses of its own to learn from."""
    _need_training()
    from services.scoring.evaluation import runs  # noqa: PLC0415
    from services.scoring.evaluation.event_file import UnusableFile  # noqa: PLC0415
    from services.scoring.prior import fit_prior, write  # noqa: PLC0415

    configure_logging(quiet=True)
    try:
        order = runs.Order(events=events)
        inputs = runs.read_inputs(order)
        replayed = perform(runs.replay_inputs(inputs, None, lambda _: None))
        write(fit_prior(runs.evaluate_replayed(order, inputs, replayed), system_clock()), out)
    except (OSError, UnusableFile) as error:
        fail(str(error), code=2)
    typer.echo(f"Wrote {out}.")


@app.command("list")
def models_list(*, as_json: Json = False) -> None:
    """All models that are kept, the newest first."""
    from services.scoring import model_store  # noqa: PLC0415

    found = _reading(model_store.read_all)
    if as_json:
        typer.echo(json.dumps([_model_json(one) for one in found]))
        return
    header = ("VERSION", "STATE", "SINCE", "DAYS", "AUC", "REASON")
    rows = [
        (
            one.version,
            one.state.value,
            f"{one.state_since:%Y-%m-%d %H:%M}",
            str(one.horizon_days),
            _auc(one),
            one.reason[:_MAX_REASON],
        )
        for one in found
    ]
    if not rows:
        typer.echo("No model yet: the first sweep makes one of the prior weights.")
        return
    widths = [max(len(row[place]) for row in (header, *rows)) for place in range(len(header))]
    for row in (header, *rows):
        typer.echo("  ".join(f"{text:{w}}" for text, w in zip(row, widths, strict=True)).rstrip())


@app.command("show")
def models_show(version: Version, *, as_json: Json = False) -> None:
    """One model: what became of it, and all that its training reported."""
    from services.scoring import model_store  # noqa: PLC0415

    one = _reading(lambda connection: model_store.read_one(connection, version))
    content = _model_json(one) | {
        "metrics": one.metrics,
        "model": json.loads(one.document)["model"],
    }
    typer.echo(json.dumps(content, indent=None if as_json else 2, default=str))


@app.command("activate")
def models_activate(
    version: Version,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="also one that was refused: it missed the gate")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a model in service now, without waiting for its days in shadow."""
    from services.scoring import model_store  # noqa: PLC0415
    from services.scoring.domain.model import ModelRejected, load  # noqa: PLC0415
    from services.scoring.model_store import State  # noqa: PLC0415

    async def change(connection: "AsyncConnection") -> None:
        await model_store.hold(connection)
        one = await model_store.read_one(connection, version)
        if one.state is State.ACTIVE:
            raise NotServed(f"{version} is in service already")
        if one.state is State.REFUSED and not force:
            raise NotServed(f"{version} was refused ({one.reason}): --force serves it all the same")
        try:
            load(one.document)
        except ModelRejected as error:
            raise NotServed(f"{version}: {error}") from error
        await model_store.activate(connection, version, reason="by an operator", now=system_clock())

    forced = {"forced": "true"} if force else {}
    _changing(change, lambda _: ("model.activated", version, forced))
    _tell(
        {"version": version, "state": "active"},
        f"{version} is in service: the next sweep scores every account by it.",
        as_json=as_json,
    )


@app.command("rollback")
def models_rollback(*, as_json: Json = False) -> None:
    """Put the model that served before in service again."""
    from services.scoring import model_store  # noqa: PLC0415

    was, to = _changing(
        lambda connection: model_store.roll_back(connection, now=system_clock()),
        lambda found: ("model.rolled_back", found[1], {"instead_of": found[0] or ""}),
    )
    _tell(
        {"version": to, "state": "active", "instead_of": was or None},
        f"{to} is in service again, instead of {was or 'none'}.",
        as_json=as_json,
    )


@app.command("export")
def models_export(version: Version, file: Annotated[Path, typer.Argument(metavar="FILE")]) -> None:
    """Write a model's file: coefficients and measures, nothing of any account."""
    from services.scoring import model_store  # noqa: PLC0415

    one = _reading(lambda connection: model_store.read_one(connection, version))
    try:
        file.write_bytes(one.document)
    except OSError as error:
        fail(str(error), code=2)
    typer.echo(f"Wrote {file}.")


@app.command("import")
def models_import(
    file: Annotated[Path, typer.Argument(metavar="FILE")], *, as_json: Json = False
) -> None:
    """Store a model's file as a candidate; it serves when it is activated."""
    from services.scoring import model_store  # noqa: PLC0415
    from services.scoring.domain.model import ModelRejected, load  # noqa: PLC0415
    from services.scoring.model_store import NoSuchModel, State  # noqa: PLC0415

    try:
        model = load(file.read_bytes())
    except OSError as error:
        fail(str(error), code=2)
    except ModelRejected as error:
        fail(f"{file}: {error}", code=2)

    async def change(connection: "AsyncConnection") -> None:
        await model_store.hold(connection)
        try:
            await model_store.read_one(connection, model.version)
        except NoSuchModel:
            await model_store.add(
                connection,
                model,
                state=State.CANDIDATE,
                reason=f"imported from {file.name}",
                accounts=model.training.accounts,
                now=system_clock(),
            )
        else:
            raise NotServed(f"{model.version} is stored already")

    _changing(change, lambda _: ("model.imported", model.version, {}))
    _tell(
        {"version": model.version, "state": "candidate"},
        f"{model.version} is a candidate: `perennial models activate {model.version}`.",
        as_json=as_json,
    )


@app.command("shadow")
def models_shadow(*, as_json: Json = False) -> None:
    """Compare the model in shadow with the one in service; after 7 days it takes its place."""
    from services.scoring import lifecycle  # noqa: PLC0415
    from services.scoring.settings import ScoringSettings  # noqa: PLC0415

    rules = read_or_fail(ScoringSettings).rules
    found = _on_database(lambda engine: lifecycle.look_at_shadow(engine, system_clock(), rules))
    if as_json:
        typer.echo(json.dumps(_shadow_json(found)))
    elif found is None:
        typer.echo("No model is in shadow.")
    else:
        said = f"{found.changed:,} of {found.accounts:,} accounts would change their band"
        state = "it is in service now" if found.activated else "it stays in shadow"
        typer.echo(f"{found.version}: {said}; {state}.")


@app.command("drift")
def models_drift(*, as_json: Json = False) -> None:
    """Whether accounts still look as in training, and leave as often as was said; stores it."""
    from services.scoring import drift  # noqa: PLC0415
    from services.scoring.training_report import health_as_text  # noqa: PLC0415

    async def look(engine: "AsyncEngine") -> "Health | None":
        return await drift.look(engine, system_clock())

    found = _on_database(look)
    if found is None:
        fail("no model is in service yet", code=1)
    typer.echo(json.dumps(found.as_json()) if as_json else health_as_text(found))


def _train(horizon: int | None, definition: "Definition | None", *, activate: bool) -> "Trained":
    from rich.console import Console  # noqa: PLC0415

    from services.scoring import lifecycle  # noqa: PLC0415

    # Steps of unknown length: a line that says which one it is at.
    with Console(stderr=True).status("starting") as status:
        return _on_database(
            lambda engine: lifecycle.train_and_store(
                engine,
                system_clock(),
                horizon_days=horizon,
                definition=definition,
                activate=activate,
                on_progress=status.update,
            )
        )


def _need_training() -> None:
    from importlib.util import find_spec  # noqa: PLC0415

    if not (find_spec("sklearn") and find_spec("scipy")):
        fail("this needs the extra `training`: scikit-learn and scipy", code=2)


def _reading(work: "Callable[[AsyncConnection], Awaitable[T]]") -> T:
    async def run(engine: "AsyncEngine") -> T:
        async with engine.connect() as connection:
            return await work(connection)

    return _on_database(run)


def _changing(
    work: "Callable[[AsyncConnection], Awaitable[T]]",
    audited: Callable[[T], tuple[str, str, dict[str, str]]],
) -> T:
    """`audited`: the action, its subject and detail, as the audit log has them."""

    async def run(engine: "AsyncEngine") -> T:
        from services.commands.auditing import audit  # noqa: PLC0415

        async with engine.begin() as connection:
            found = await work(connection)
        action, subject, detail = audited(found)
        await audit(engine, action, subject, at=system_clock(), **detail)
        return found

    return _on_database(run)


def _on_database(work: "Callable[[AsyncEngine], Awaitable[T]]") -> T:
    configure_logging(quiet=True)

    async def run() -> T:
        async with _engine() as engine:
            return await work(engine)

    return perform(run())


@asynccontextmanager
async def _engine() -> "AsyncIterator[AsyncEngine]":
    from services.process import open_backends  # noqa: PLC0415
    from shared.database import open_engine  # noqa: PLC0415

    async with (
        open_backends(needs_database=True) as backends,
        open_engine(
            backends.database, application="perennial-models", pool_size=2, pooling=backends.pooling
        ) as engine,
    ):
        yield engine


def _tell(said: dict[str, object], sentence: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(said) if as_json else sentence)


def _auc(one: "StoredModel") -> str:
    served = one.metrics.get("served")
    return f"{served['auc']:.3f}" if isinstance(served, dict) else "-"


def _model_json(one: "StoredModel") -> dict[str, object]:
    return {
        "version": one.version,
        "kind": one.kind,
        "horizon_days": one.horizon_days,
        "state": one.state.value,
        "state_since": one.state_since.isoformat(),
        "reason": one.reason,
        "created_at": one.created_at.isoformat(),
        "activated_at": _iso(one.activated_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _trained_json(found: "Trained") -> dict[str, object]:
    from services.scoring.lifecycle import without_nan  # noqa: PLC0415

    content = without_nan(found.report.as_json())
    return content | {"state": found.state.value, "reason": found.reason}


def _shadow_json(found: "Shadowed | None") -> dict[str, object] | None:
    if found is None:
        return None
    return {
        "version": found.version,
        "accounts": found.accounts,
        "changed": found.changed,
        "share": found.share,
        "activated": found.activated,
    }
