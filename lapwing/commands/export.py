"""The command ``lapwing export scores --to FILE`` and its like."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from shared.operations.entry import Overrides, Stopping, given, serve

if TYPE_CHECKING:
    from shared.settings import Settings


class Results(StrEnum):
    """What can be exported, and OpenSearch, which takes several of them."""

    ANOMALIES = "anomalies"
    SCORES = "scores"
    INCIDENTS = "incidents"
    OPENSEARCH = "opensearch"


def export(
    context: typer.Context,
    name: Annotated[Results, typer.Argument(help="Which results, or opensearch.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="FILE|URL",
            help="FILE.parquet or FILE.csv, replaced when done; for opensearch its URL.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Event times from here on, UTC; for files."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="Event times before this, UTC; for files."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="For opensearch: stay, and write what arrives.")
    ] = False,
) -> None:
    """Write results that are in Kafka into a file, or as documents into OpenSearch.

    Scores have a row for each metric of a record; of incidents the newest record is written. Only
    committed records are read, and the file appears when it is complete. OpenSearch gets anomalies
    and incidents, or what opensearch.results names.
    """
    from shared.errors import ConfigError

    if name is Results.OPENSEARCH:
        if since or until:
            raise ConfigError("--since and --until are for files, not for opensearch")
        _to_opensearch(context, to, follow=follow)
        return
    if to is None:
        raise ConfigError("--to FILE is missing: FILE.parquet or FILE.csv")
    if follow:
        raise ConfigError("--follow is for opensearch, not for files")
    from pathlib import Path

    from lapwing.export.export_command import ExportOptions
    from lapwing.export.export_command import export as run

    run(Overrides.of(context).load(), ExportOptions(name.value, Path(to), since, until))


def _to_opensearch(context: typer.Context, url: str | None, *, follow: bool) -> None:
    flags = given(opensearch=given(url=url))
    overrides = Overrides.of(context)
    if follow:
        raise typer.Exit(serve("export", overrides, flags, _follow))
    from lapwing.export.opensearch_export import export_once

    raise typer.Exit(1 if export_once(overrides.load(flags)).refused else 0)


def _follow(settings: Settings, stopping: Stopping) -> None:
    from lapwing.export.opensearch_export import follow

    follow(settings, stopping)
