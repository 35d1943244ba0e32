"""Runs recorded data through the live predictor's code and reports the alarms it would raise.

One configuration is run alone, or two are compared.

Invariant: nothing is written to Kafka and no model is published; the same records, configuration
           and labels give the same summary.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from lapwing import __version__
from lapwing.backtest.feeds import Feed, InputOptions, open_feed, open_labels
from lapwing.backtest.figures import (
    TOLERANCE_INTERVALS,
    Change,
    Entity,
    alarm_fields,
    compare,
    count,
    figures,
    top,
)
from lapwing.backtest.files import check_folder, write_files
from lapwing.backtest.layers import Report
from lapwing.backtest.models import Trainer, check_fit, find_model, notes_on
from lapwing.backtest.rows import open_rows
from lapwing.backtest.run import BacktestResult, Variant, run
from lapwing.backtest.text import to_text
from shared.errors import ConfigError, DataError
from shared.events import Reason
from shared.incidents.grouping import Rules
from shared.labels import Window, Windows, find
from shared.models.model import Model
from shared.operations.telemetry import line
from shared.scoring.configuration import Configuration
from shared.settings import DetectionSettings, QualitySettings, Section, Settings

LINE_EVERY_S = 5.0
ALARMS_LISTED = 25
_SECTIONS: dict[str, type[Section]] = {"detection": DetectionSettings, "quality": QualitySettings}

Flags = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BacktestOptions:
    """The options of ``lapwing backtest``.

    model         : an artefact's SHA-256 (or its first digits), or CURRENT
    fit           : train a model first, on the first part of each entity's time
    compared      : ``KEY=VALUE[,KEY=VALUE]`` of a second configuration
    tolerance_min : two alarms so close are the same one; None = some of the entity's usual
                    intervals
    rows          : file that gets a JSON line for each record; None = not written
    """

    input: InputOptions = field(default_factory=InputOptions)
    detector: str | None = None
    threshold: float | None = None
    alarms_per_day: float | None = None
    model: str | None = None
    fit: bool = False
    labels: Path | None = None
    compared: str | None = None
    tolerance_min: float | None = None
    out: Path | None = None
    as_json: bool = False
    rows: Path | None = None

    def flags(self) -> dict[str, Any]:
        """Return the settings that the options are short for."""
        detection = {"threshold": self.threshold, "alarms_per_day": self.alarms_per_day}
        given: dict[str, Any] = {
            "detection": {name: value for name, value in detection.items() if value is not None}
        }
        return given | ({} if self.detector is None else {"detector": self.detector})

    def check(self) -> None:
        """Raise ConfigError when options contradict each other."""
        if self.model is not None and self.fit:
            raise ConfigError("--model and --train exclude each other")
        if self.tolerance_min is not None and (
            self.compared is None or not self.tolerance_min >= 0
        ):
            raise ConfigError(
                f"--tolerance {self.tolerance_min:g}: minutes, 0 or more, and only with --compare"
            )
        if self.out is not None:
            check_folder(self.out)


def backtest(
    load: Callable[[Flags], Settings], options: BacktestOptions, out: TextIO | None = None
) -> dict[str, Any]:
    """Run it, print and write the result, return the summary.

    load   : settings from flags, e.g. ``load_settings``
    raises : ConfigError, DataError, TransportError, TopicMismatch, HistoryGone, ArtifactMissing,
             ArtifactRefused
    """
    options.check()
    settings = load(options.flags())
    other = None if options.compared is None else parse_changes(options.compared)
    changed = None if other is None else load(merged(options.flags(), other.flags))
    labels = None if options.labels is None else open_labels(options.labels)
    feed = open_feed(settings, options.input)
    labels = feed.labels if labels is None else labels
    trainer = Trainer(feed, settings) if options.fit else None
    variants: list[Variant] = []
    published: dict[str, tuple[Path, Model]] = {}
    for chosen, requested in (
        (settings, options.model),
        (changed, other.model if other and other.model else options.model),
    ):
        if chosen is not None:
            model = (
                trainer.fit(chosen)
                if trainer and requested == options.model
                else find_model(chosen.models_dir, requested, chosen.models)
            )
            if model is not None and not (trainer and requested == options.model):
                published[model.sha256] = chosen.models_dir, model
            configuration = Configuration.from_settings(chosen)
            check_fit(configuration, model)
            variants.append(Variant("first" if not variants else "second", configuration, model))
    since = trainer.since if trainer else {}
    began_s = time.monotonic()
    with progress(feed.rows) as report_progress, ExitStack() as files:
        writer = None if options.rows is None else files.enter_context(open_rows(options.rows))
        observe = None if writer is None else writer.write
        results = run(feed, variants, report_progress, observe)
    check_scored(feed, results[0])
    windows, notes = place_labels(feed, labels, results[0])
    notes += in_several_partitions(results[0])
    topic = settings.topics.input if options.input.topic_range else ""
    for folder, model in published.values():
        notes += notes_on(folder, model, results[0], topic)
    if since:
        notes.append(
            "the model was trained on the first part of each entity's records; only later records"
            " are counted"
        )
    rules = Rules.of(settings.incidents)
    summary, entities, change = summarise(feed, results, windows, since, notes, options, rules)
    report = Report(summary, entities, results[0], change, since)
    seconds = time.monotonic() - began_s
    target = out or sys.stdout
    target.write(
        json.dumps(summary, ensure_ascii=False) + "\n" if options.as_json else to_text(summary)
    )
    message = f"{results[0].rows:,} records scored in {seconds:.1f} s"
    if options.out is not None:
        written = write_files(options.out, report, windows or {}, results[1] if change else None)
        message += f"; {', '.join(path.name for path in written)} and results/ are in {options.out}"
    print(message, file=sys.stderr)  # noqa: T201 - not part of the result
    return summary


def in_several_partitions(result: BacktestResult) -> list[str]:
    """Return a note on entities that lie in several partitions, each scored by itself."""
    partitions = Counter(series.entity for series in result.series)
    spread = [entity for entity, number in partitions.items() if number > 1]
    if not spread:
        return []
    example = f"{spread[0]!r} in {partitions[spread[0]]} of them"
    finding = f"{len(spread):,} of {len(partitions):,} entities lie in several partitions"
    why = "each has a history of its own, so use the entity as the record's key"
    return [f"{finding}, e.g. {example}: {why}"]


def check_scored(feed: Feed, result: BacktestResult) -> None:
    """Raise DataError when no record could be scored."""
    if result.rows:
        return
    if not result.rejected:
        raise DataError(f"{feed.name}: there is no record to score")
    reasons = (
        f"{count:,} because {Reason[code.upper()].sentence}"
        for code, count in result.rejected.items()
    )
    total = sum(result.rejected.values())
    raise DataError(
        f"{feed.name}: none of its {total:,} records can be scored: {', '.join(reasons)}"
    )


def summarise(
    feed: Feed,
    results: Sequence[BacktestResult],
    windows: Mapping[str, Sequence[Window]] | None,
    since: Mapping[tuple[str, int], int],
    notes: Sequence[str],
    options: BacktestOptions,
    rules: Rules,
) -> tuple[dict[str, Any], list[Entity], Change | None]:
    """Gather all figures, the first configuration's entities and what the second changes."""
    counted = [count(result, windows, since) for result in results]
    variant_figures = [
        figures(result, entities, rules) for result, entities in zip(results, counted, strict=True)
    ]
    summary: dict[str, Any] = {
        "version": __version__,
        "source": feed.name,
        "notes": [*feed.notes, *notes],
        "configuration": json.loads(results[0].variant.configuration.text),
        "first": variant_figures[0],
        "compare": None,
    }
    if len(results) == 1:
        return summary, counted[0], None
    tolerance_ms = None if options.tolerance_min is None else options.tolerance_min * 60_000
    change = compare(counted[0], counted[1], tolerance_ms)
    within = (
        f"{options.tolerance_min:g} min"
        if tolerance_ms is not None
        else f"{TOLERANCE_INTERVALS} of its usual intervals"
    )
    summary["compare"] = {
        "changes": options.compared,
        "tolerance": f"two alarms of an entity within {within} are the same one",
        "kept": len(change.kept),
        "added": len(change.added),
        "removed": len(change.removed),
        "alarms_added": [alarm_fields(alarm) for alarm in top(change.added, ALARMS_LISTED)],
        "alarms_removed": [alarm_fields(alarm) for alarm in top(change.removed, ALARMS_LISTED)],
        "configuration": json.loads(results[1].variant.configuration.text),
        "second": variant_figures[1],
    }
    return summary, counted[0], change


def place_labels(
    feed: Feed, labels: Windows | None, result: BacktestResult
) -> tuple[dict[str, list[Window]] | None, list[str]]:
    """Give each entity its windows; say which labels found none.

    raises : DataError when no label is about anything here
    """
    if labels is None:
        return None, []
    entities = sorted({series.entity for series in result.series})
    known = [*entities, *(part.file for part in feed.joined)]
    if entities and not any(find(labels, name) is not None for name in known):
        raise DataError(
            f"labels: none of their {len(labels)} keys ({', '.join(list(labels)[:3])}, ...) names"
            f" an entity ({', '.join(entities[:3])}, ...)"
        )
    windows = feed.windows(labels, entities)
    placed = {window.name for of_entity in windows.values() for window in of_entity}
    left = [
        key
        for key, of_key in labels.items()
        if of_key and not {window.name for window in of_key} & placed
    ]
    return windows, (
        [f"keys of the labels that match no entity: {len(left)}, e.g. {left[0]}"] if left else []
    )


# -- a second configuration ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Changes:
    """Settings and, where it was named, the model of a second configuration."""

    flags: dict[str, Any]
    model: str | None


def parse_changes(text: str) -> Changes:
    """Read ``KEY=VALUE[,KEY=VALUE]``.

    A key is detector, model, window, or any setting of detection and quality, with or without its
    section.

    raises : ConfigError that says what is allowed
    """
    flags: dict[str, Any] = {}
    model = None
    for part in re.split(r",(?=\s*[a-z][a-z_.]*=)", text):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        section, _, name = key.rpartition(".")
        owner = next(
            (
                owner
                for owner, of in _SECTIONS.items()
                if name in of.model_fields and section in ("", owner)
            ),
            None,
        )
        if not equals or not value:
            raise ConfigError(f"--compare {part}: write KEY=VALUE, e.g. threshold=1.5")
        if key == "model":
            model = value
        elif key == "detector":
            flags["detector"] = value
        elif key in ("window", "features.window"):
            flags.setdefault("features", {})["window"] = _value(value)
        elif owner is not None:
            flags.setdefault(owner, {})[name] = _value(value)
        else:
            named = [name for of in _SECTIONS.values() for name in of.model_fields]
            raise ConfigError(
                f"--compare {key}: no such key; allowed are detector, model, window,"
                f" {', '.join(named)}"
            )
    return Changes(flags, model)


def merged(flags: Flags, others: Flags) -> dict[str, Any]:
    """Lay flags over others, section by section."""
    joined = dict(flags)
    for name, value in others.items():
        joined[name] = {**joined.get(name, {}), **value} if isinstance(value, Mapping) else value
    return joined


def _value(text: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


# -- how far it is ---------------------------------------------------------------------------------


@contextmanager
def progress(total: int) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error if it is a terminal, else a line every few seconds."""
    began_s = reported_s = time.monotonic()
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("scoring"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[alarms]:,} alarms"),
            TimeElapsedColumn(), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("scoring", total=total, alarms=0)
            yield lambda rows, alarms: bar.update(task, completed=rows, alarms=alarms)
        return

    def report(rows: int, alarms: int) -> None:
        nonlocal reported_s
        now_s = time.monotonic()
        if now_s - reported_s >= LINE_EVERY_S:
            reported_s = now_s
            share = round(100 * rows / max(total, 1), 1)
            fields = {
                "records": rows,
                "percent": share,
                "alarms": alarms,
                "per_s": round(rows / (now_s - began_s)),
            }
            # not part of the result
            print(line("scored", fields), file=sys.stderr, flush=True)  # noqa: T201

    yield report
