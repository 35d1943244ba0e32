"""The commands ``lapwing incidents``, and ``list``, ``show`` and ``follow`` of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from lapwing.commands.options import Json, example
from lapwing.incidents.__main__ import Group, serve_incidents
from shared.operations.entry import Overrides, SettingsFile, SlotName

incidents_app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    epilog=example("lapwing incidents", "lapwing incidents list --state all"),
)


class ShownState(StrEnum):
    """Which incidents are listed."""

    OPEN = "open"
    CLOSED = "closed"
    ALL = "all"


@incidents_app.callback()
def _incidents(
    context: typer.Context, config: SettingsFile = None, group: Group = None, slot: SlotName = None
) -> None:
    """Group anomalies into incidents, in real time; without a command, run that service.

    Episodes of one entity, or of several that start together, become one incident in the
    incidents topic. A second instance is on standby.
    """
    if context.invoked_subcommand is None:
        serve_incidents(context, config, group, slot)
    elif config is not None:
        context.obj = Overrides.of(context, config)


@incidents_app.command(
    "list", epilog=example("lapwing incidents list", "lapwing incidents list --state all --max 10")
)
def list_(
    context: typer.Context,
    state: Annotated[
        ShownState, typer.Option("--state", help="Which incidents.")
    ] = ShownState.OPEN,
    limit: Annotated[
        int, typer.Option("--max", min=1, metavar="N", help="Show the N newest only.")
    ] = 100,
    as_json: Json = False,
) -> None:
    """List incidents, one per line, the newest last."""
    from lapwing.incidents.incident_list import list_incidents

    list_incidents(Overrides.of(context).load(), state=state.value, limit=limit, as_json=as_json)


@incidents_app.command(
    short_help="Show one incident, and similar past ones.",
    epilog=example("lapwing incidents show 6d1f0a"),
)
def show(
    context: typer.Context,
    incident_id: Annotated[
        str, typer.Argument(metavar="ID", help="Id of the incident, or its beginning.")
    ],
    as_json: Json = False,
) -> None:
    """Show one incident with its episodes and their reasons, and similar past ones."""
    from lapwing.incidents.incident_list import show_incident

    show_incident(Overrides.of(context).load(), incident_id, as_json=as_json)


@incidents_app.command(epilog=example("lapwing incidents follow --json"))
def follow(
    context: typer.Context,
    from_beginning: Annotated[
        bool,
        typer.Option("--from-beginning", help="Start with the records that are there already."),
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--max", min=1, metavar="N", help="Exit after N records.")
    ] = None,
    timeout_s: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0, metavar="SECONDS", help="Exit if no record comes for this long."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print each change of an incident as it is written."""
    from lapwing.incidents.incident_list import follow_incidents

    follow_incidents(
        Overrides.of(context).load(),
        from_beginning=from_beginning,
        limit=limit,
        timeout_s=timeout_s,
        as_json=as_json,
    )
