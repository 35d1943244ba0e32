"""The command ``lapwing explain ID``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lapwing.commands.options import Json, compiling_told
from shared.operations.entry import Overrides


def explain(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="EVENT_ID|PARTITION:OFFSET",
            help="Id of an anomaly or score event, or coordinates of an input record.",
        ),
    ],
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            metavar="FILE.svg",
            help="Also draw the entity's rows around it, with expected value and band.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute a verdict again from its source records, compare it, and show what led to it.

    Reads the entity's earlier records, with the models and settings that were active, and compares
    the result byte for byte with the record in the topic. Works while the input topic holds the
    record. Needs state_dir and models_dir of the predictors; without snapshots it reads from the
    first record. Exit code 1 if the verdict differs.
    """
    with compiling_told():
        from lapwing.explain.explain_command import explain as run

        found = run(Overrides.of(context).load(), target, as_json=as_json, picture=picture)
    raise typer.Exit(found)
