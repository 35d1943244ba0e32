"""The commands of ``lapwing dlq``: names, options and help; what they do is imported when they are
                                 called.

Law: nothing heavy is imported here, and nothing is sent before somebody has said yes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from lapwing.commands.options import Json
from shared.entry import Overrides
from shared.errors import ConfigError

dlq_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Look at dead letters and send them back."
)

ByReason = Annotated[
    str | None, typer.Option("--reason", metavar="CODE", help="Only those, e.g. unknown_schema.")
]
ByKey = Annotated[
    str | None, typer.Option("--key", "--entity", metavar="NAME", help="Only those with this key.")
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", help="Only those written since: 12h, 7d, or 2026-03-01T12:00."
    ),
]
Partition = Annotated[
    int, typer.Argument(metavar="PARTITION", min=0, help="As in dlq[PARTITION]@OFFSET.")
]
Offset = Annotated[
    int, typer.Argument(metavar="OFFSET", min=0, help="As in dlq[PARTITION]@OFFSET.")
]


@dlq_app.command("list")
def list_dead_letters(
    context: typer.Context,
    reason: ByReason = None,
    key: ByKey = None,
    since: Since = None,
    limit: Annotated[
        int, typer.Option("--max", min=0, metavar="N", help="Show the newest N.")
    ] = 20,
    as_json: Json = False,
) -> None:
    """Count dead letters by reason; show the newest."""
    from lapwing.dlq.letters import Filters
    from lapwing.dlq.look import list_letters

    filters = Filters.of(reason, key, since, round(time.time() * 1000))
    list_letters(Overrides.of(context).load(), filters, limit=limit, as_json=as_json)


@dlq_app.command()
def show(
    context: typer.Context,
    partition: Partition,
    offset: Offset,
    raw: Annotated[
        Path | None, typer.Option("--raw", metavar="FILE", help="Write the record's bytes there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show one: why, headers, fields as far as they can be read, bytes."""
    from lapwing.dlq.look import show_letter

    show_letter(Overrides.of(context).load(), partition, offset, raw=raw, as_json=as_json)


@dlq_app.command()
def replay(
    context: typer.Context,
    partition: Annotated[
        int | None, typer.Argument(metavar="PARTITION", min=0, help="Of one dead letter.")
    ] = None,
    offset: Annotated[
        int | None, typer.Argument(metavar="OFFSET", min=0, help="As in dlq[PARTITION]@OFFSET.")
    ] = None,
    reason: ByReason = None,
    key: ByKey = None,
    since: Since = None,
    value_file: Annotated[
        Path | None,
        typer.Option(
            "--value-file", metavar="FILE", help="Send these bytes instead (schema id first)."
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json-file", metavar="FILE", help="Send this record instead; it is encoded as Avro."
        ),
    ] = None,
    schema_id: Annotated[
        int | None,
        typer.Option(
            "--schema-id", metavar="ID", help="Of --json-file; default its own, else the newest."
        ),
    ] = None,
    new_key: Annotated[
        str | None, typer.Option("--new-key", metavar="NAME", help="Send it with this key instead.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Send also what would be rejected again or lost its partition."
        ),
    ] = False,
    again: Annotated[
        bool,
        typer.Option("--again", help="Send also what was sent before; it is scored once more."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent; send nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    limit: Annotated[
        int, typer.Option("--max", min=1, metavar="N", help="Refuse to send more at once.")
    ] = 10_000,
    as_json: Json = False,
) -> None:
    """Send them back to the input topic, as they are or corrected.

    Each is decoded first; what would be rejected again is refused.  Exit code 1 when something was refused.
    """
    from lapwing.dlq.candidates import ReplayOptions
    from lapwing.dlq.letters import Filters
    from lapwing.dlq.replay import replay as send_back

    options = ReplayOptions(
        partition, offset, Filters.of(reason, key, since, round(time.time() * 1000)),
        value_file, json_file, schema_id, new_key, force, again, dry_run, limit, as_json,
    )  # fmt: skip
    raise typer.Exit(
        send_back(
            Overrides.of(context).load(), options, confirm=lambda question: yes or _agreed(question)
        )
    )


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{question} Nobody is there to answer: --yes sends, --dry-run only looks"
        )
    return typer.confirm(question, err=True)
