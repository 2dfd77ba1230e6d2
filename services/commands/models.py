"""`perennial train` and `perennial evaluate`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from services.commands.running import Json, fail
from shared.errors import InvalidMessage

train = typer.Typer(help="Fit models.", no_args_is_help=True)

TrainingEvents = Annotated[
    Path,
    typer.Option(
        help="CSV, plain or .gz, with the columns event_ts and arrival_ts (epoch seconds),"
        " account_id, user_id, product (the feature), event_type"
    ),
]


@train.command("prior")
def train_prior(
    events: TrainingEvents,
    out: Annotated[Path, typer.Option(help="the model file to write")],
) -> None:
    """Fit the weights that are served before a vendor has losses of its own to learn from."""
    from services.scoring.training import fit_prior, write  # noqa: PLC0415

    try:
        write(fit_prior(events), out)
    except (OSError, InvalidMessage) as error:
        fail(str(error), code=2)
    typer.echo(f"Wrote {out}.")


def evaluate(
    events: TrainingEvents,
    *,
    as_json: Json = False,
) -> None:
    """How good the risk would have been, walk-forward; exit code 1 where it misses the gate.

    The gate is what the model that is served must reach. Over all accounts: AUC at least 0.85,
    average precision 0.63, lift in the top tenth 2.8, and a calibration error of at most 0.03.
    Over those with 3 users and more: AUC at least 0.82, average precision 0.31.
    """
    from services.scoring.evaluation import evaluate_served  # noqa: PLC0415
    from services.scoring.report import as_text  # noqa: PLC0415

    try:
        found = evaluate_served(events)
    except (OSError, InvalidMessage) as error:
        fail(str(error), code=2)
    typer.echo(json.dumps(found.as_json()) if as_json else as_text(found))
    raise typer.Exit(0 if found.passed else 1)
