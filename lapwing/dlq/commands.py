"""The commands of ``lapwing dlq``: names, options and help texts.

Invariant: this module imports no command's implementation, and nothing is sent without a
confirmation or ``--yes``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from lapwing.commands.options import Json, example
from shared.errors import ConfigError
from shared.operations.entry import Overrides

dlq_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, show and replay dead letters.",
    epilog=example("lapwing dlq list"),
)

ByReason = Annotated[
    str | None,
    typer.Option("--reason", metavar="CODE", help="Only this reason, e.g. unknown_schema."),
]
ByKey = Annotated[
    str | None, typer.Option("--key", "--entity", metavar="NAME", help="Only this key.")
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Only those written since then: 12h, 7d, or 2026-03-01T12:00.",
    ),
]
Partition = Annotated[
    int,
    typer.Argument(
        metavar="PARTITION",
        min=0,
        help="Partition, as in dlq[PARTITION]@OFFSET of `lapwing dlq list`.",
    ),
]
Offset = Annotated[
    int,
    typer.Argument(metavar="OFFSET", min=0, help="Offset, as in dlq[PARTITION]@OFFSET."),
]


@dlq_app.command(
    "list",
    epilog=example("lapwing dlq list", "lapwing dlq list --reason unknown_schema --since 12h"),
)
def list_dead_letters(
    context: typer.Context,
    reason: ByReason = None,
    key: ByKey = None,
    since: Since = None,
    limit: Annotated[
        int,
        typer.Option("--max", min=0, metavar="N", help="Number of newest dead letters to show."),
    ] = 20,
    as_json: Json = False,
) -> None:
    """Count dead letters by reason and show the newest."""
    from lapwing.dlq.letters import Filters
    from lapwing.dlq.show import list_letters

    filters = Filters.of(reason, key, since, round(time.time() * 1000))
    list_letters(Overrides.of(context).load(), filters, limit=limit, as_json=as_json)


@dlq_app.command(epilog=example("lapwing dlq show 2 1041"))
def show(
    context: typer.Context,
    partition: Partition,
    offset: Offset,
    raw: Annotated[
        Path | None,
        typer.Option("--raw", metavar="FILE", help="Write the record's bytes to this file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show one dead letter: reason, headers, readable fields, bytes."""
    from lapwing.dlq.show import show_letter

    show_letter(Overrides.of(context).load(), partition, offset, raw=raw, as_json=as_json)


@dlq_app.command(
    epilog=example(
        "lapwing dlq replay --reason unknown_schema --dry-run",
        "lapwing dlq replay 2 1041 --json-file corrected.json",
    )
)
def replay(
    context: typer.Context,
    partition: Annotated[
        int | None, typer.Argument(metavar="PARTITION", min=0, help="Partition of one dead letter.")
    ] = None,
    offset: Annotated[
        int | None, typer.Argument(metavar="OFFSET", min=0, help="Offset of one dead letter.")
    ] = None,
    reason: ByReason = None,
    key: ByKey = None,
    since: Since = None,
    value_file: Annotated[
        Path | None,
        typer.Option(
            "--value-file",
            metavar="FILE",
            help="Send the bytes of this file instead (schema id first).",
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json-file",
            metavar="FILE",
            help="Send the record in this JSON file instead; it is encoded as Avro.",
        ),
    ] = None,
    schema_id: Annotated[
        int | None,
        typer.Option(
            "--schema-id",
            metavar="ID",
            help="Writer schema of --json-file; default: the record's own, else the newest.",
        ),
    ] = None,
    new_key: Annotated[
        str | None,
        typer.Option("--new-key", metavar="NAME", help="Send the record with this key instead."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also send records that would be rejected again or have no partition."
        ),
    ] = False,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Also send records that were sent before; they are scored once more."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent; send nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Send without asking.")] = False,
    limit: Annotated[
        int, typer.Option("--max", min=1, metavar="N", help="Refuse to send more than N.")
    ] = 10_000,
    as_json: Json = False,
) -> None:
    """Send dead letters back to the input topic, unchanged or corrected.

    Each record is decoded first; a record that would be rejected again is refused. Exit code 1 if
    a record was refused.
    """
    from lapwing.dlq.candidates import ReplayOptions
    from lapwing.dlq.letters import Filters
    from lapwing.dlq.replay import replay as send_back

    options = ReplayOptions(
        partition=partition,
        offset=offset,
        filters=Filters.of(reason, key, since, round(time.time() * 1000)),
        value_file=value_file,
        json_file=json_file,
        schema_id=schema_id,
        key=new_key,
        force=force,
        again=again,
        dry_run=dry_run,
        limit=limit,
        as_json=as_json,
    )
    raise typer.Exit(
        send_back(
            Overrides.of(context).load(), options, confirm=lambda question: yes or _agreed(question)
        )
    )


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{question} There is no terminal to answer: use --yes to send, or --dry-run"
        )
    return typer.confirm(question, err=True)
