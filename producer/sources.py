"""Opens the source of a replay: a folder of CSV files, a generated fleet, or downloaded NAB.

Invariant: reading files is the only I/O here; a note tells what was shifted, joined, skipped or
           generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producer.catalogue import load_catalogue, read_folder
from producer.fetch import DEFAULT_DIR, is_complete
from producer.files.columns import NO_CHOICE, ColumnChoice
from producer.files.series import Series
from producer.generated.fleet import generate, label_document
from producer.replay import Stream, align, merge, rebase
from shared.errors import ConfigError, DataError
from shared.kernels.units import DAY_MS
from shared.settings import InputSettings
from shared.wording import second

DEFAULT_FLEET = 20


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Which series to replay, and at which times.

    data, catalogue : folder or file of series; catalogue file, None = the shipped one
    fleet           : number of hosts to generate instead
    columns         : which columns of files are time and entity
    original_times  : do not shift series to a common start
    last_ms         : time to which the last event is moved, ms since 1970 UTC; None = not moved
    """

    data: Path | None = None
    catalogue: Path | None = None
    skip_bad: bool = False
    fleet: int | None = None
    days: float = 14.0
    seed: int = 0
    step_s: int = 300
    original_times: bool = False
    last_ms: int | None = None
    columns: ColumnChoice = NO_CHOICE


@dataclass(frozen=True, slots=True)
class Source:
    """A stream and its origin.

    labels  : the anomalies of a generated fleet at the stream's times, as JSON; None for files
    skipped : {source: number of bad rows skipped}, only sources that have some
    """

    stream: Stream
    name: str
    notes: tuple[str, ...]
    skipped: dict[str, int]
    labels: dict[str, Any] | None = None


def open_source(options: SourceOptions, fetched: Path = DEFAULT_DIR) -> Source:
    """Read or generate the series and merge them.

    fetched : folder of `lapwing data fetch`; used when neither a folder nor a fleet is given
    raises  : ConfigError, DataError
    """
    if options.data is not None and options.fleet is not None:
        raise ConfigError("--data and --fleet exclude each other")
    options.columns.check(options.data is not None)
    folder = options.data
    notes = []
    if folder is None and options.fleet is None:
        if is_complete(fetched):
            folder = fetched
        else:
            notes.append(
                f"no series were given and {fetched} does not contain NAB (`lapwing data fetch`"
                f" downloads it): a fleet of {DEFAULT_FLEET} hosts is generated instead"
            )
    if folder is None:
        return _fleet(options, notes)
    series, file_notes = read_folder(
        folder, load_catalogue(options.catalogue), options.columns, skip_bad=options.skip_bad
    )
    stream, moved = _stream(series, options)
    skipped = {part.source: part.skipped for part in series if part.skipped}
    return Source(stream, str(folder), (*notes, *file_notes, *moved), skipped)


def _fleet(options: SourceOptions, notes: Sequence[str]) -> Source:
    hosts = DEFAULT_FLEET if options.fleet is None else options.fleet
    series, labels = generate(hosts, options.days, options.seed, options.step_s)
    stream, moved = _stream([series], options)
    note = (
        f"generated fleet: {hosts} hosts, {options.days:g} days every {options.step_s} s, seed"
        f" {options.seed}"
    )
    shift_ms = int(stream.time_ms[0]) - int(series.time_ms[0])
    return Source(
        stream,
        "fleet",
        (*notes, note, *moved),
        {},
        label_document(labels, series.entities, shift_ms),
    )


def _stream(series: Sequence[Series], options: SourceOptions) -> tuple[Stream, list[str]]:
    notes = []
    if not options.original_times:
        series, weeks = align(series)
        if any(weeks):
            moved = sorted(week for week in weeks if week)
            notes.append(
                f"{len(moved)} of {len(weeks)} series were shifted by whole weeks ({moved[0]} to"
                f" {moved[-1]}), so that all begin within one week; hour and weekday do not change"
                " (--original-times disables this)"
            )
    stream = merge(series)
    if options.last_ms is not None:
        last_ms = int(stream.time_ms[-1])
        stream = rebase(stream, options.last_ms)
        days = (options.last_ms - last_ms) / DAY_MS
        notes.append(
            f"all times were shifted by {days:+.3f} days, so that the last event is at"
            f" {second(options.last_ms)}; this is not a whole number of weeks, so hour and"
            " weekday change"
        )
    return stream, notes


def check_times(source: Source, settings: InputSettings) -> int:
    """Return the number of events outside the time range that predictors accept.

    raises : DataError when all events are outside
    """
    times = source.stream.time_ms
    outside = int(((times < settings.min_time_ms) | (times > settings.max_time_ms)).sum())
    if outside == len(times):
        raise DataError(
            f"{source.name}: all {outside:,} event times, {second(int(times[0]))} to"
            f" {second(int(times[-1]))}, are outside input.min_time..input.max_time"
            f" ({second(settings.min_time_ms)} to {second(settings.max_time_ms)}),"
            " so no event could be scored; --time and --time-format say how files are read"
        )
    return outside
