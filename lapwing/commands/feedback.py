"""The commands ``lapwing feedback``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lapwing.commands.options import Json, example
from shared.operations.entry import Overrides

feedback_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Say which incidents were real, and use it in training.",
    epilog=example('lapwing feedback add 6d1f0a --was noise --note "load test"'),
)
IncidentId = Annotated[
    str, typer.Argument(metavar="INCIDENT", help="Id of the incident, or its beginning.")
]


@feedback_app.command(
    short_help="Say whether an incident was real or noise.",
    epilog=example(
        "lapwing feedback add 6d1f0a --was real",
        'lapwing feedback add 6d1f0a --was noise --note "load test"',
    ),
)
def add(
    context: typer.Context,
    incident_id: IncidentId,
    was: Annotated[str, typer.Option("--was", metavar="real|noise", help="What it was.")],
    note: Annotated[
        str, typer.Option("--note", metavar="TEXT", help="Why, or what it was; 1000 characters.")
    ] = "",
    author: Annotated[str, typer.Option("--by", metavar="NAME", help="Who says so.")] = "",
) -> None:
    """Say whether an incident was real; it replaces earlier feedback on it."""
    from lapwing.feedback.feedback_list import add_feedback
    from shared.errors import ConfigError
    from shared.incidents.feedback import Was

    if was not in set(Was):
        raise ConfigError(f"--was {was}: allowed are {', '.join(Was)}")
    add_feedback(Overrides.of(context).load(), incident_id, Was(was), note, author)


@feedback_app.command(epilog=example("lapwing feedback undo 6d1f0a"))
def undo(context: typer.Context, incident_id: IncidentId) -> None:
    """Take the feedback on an incident back."""
    from lapwing.feedback.feedback_list import undo_feedback

    undo_feedback(Overrides.of(context).load(), incident_id)


@feedback_app.command("list", epilog=example("lapwing feedback list --json"))
def list_(context: typer.Context, as_json: Json = False) -> None:
    """List feedback, one line per incident, the newest last."""
    from lapwing.feedback.feedback_list import list_feedback

    list_feedback(Overrides.of(context).load(), as_json=as_json)


@feedback_app.command(
    short_help="Write real incidents as labels for training.",
    epilog=example("lapwing feedback export labels.json"),
)
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File that is written.")],
) -> None:
    """Write the incidents that were real as labels for `lapwing train --labels`."""
    from lapwing.feedback.feedback_list import export_feedback

    export_feedback(Overrides.of(context).load(), file)
