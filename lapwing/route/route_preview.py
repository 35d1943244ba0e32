"""``lapwing route --dry-run``: what records would give, without writing or registering anything.

Invariant: events, refusals and left out rows are those of the service with the same settings.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from lapwing.route.formats.choice import formats_that_read, open_row_decoder
from lapwing.route.label_template import NAME
from lapwing.route.route_letters import sentence
from lapwing.route.row_records import TIME_FIELD, long_schema, wide_schema
from lapwing.route.row_router import RecordRefusals, Routed, RouteRules, RowRouter
from lapwing.route.rows import RecordRefused, Sample
from shared.encode.records import decode_records, schema_id_of
from shared.errors import ConfigError
from shared.kafka import Reader, topic_bounds
from shared.settings import RouteSettings, Settings
from shared.wording import iso

ROUTE_PAGE = "docs/route.md lists the formats"

EVENTS_SHOWN = 5
"""Events of one record in the text; JSON has all."""


@dataclass(slots=True)
class Shown:
    """One record and what it gives.

    events  : (entity, time_ms, {metric: value})
    unused  : labels that no template names
    is_read : a row of it was found, whether it is written or refused
    """

    place: str
    routed: Routed
    refusals: RecordRefusals | None
    why: str
    events: list[tuple[str, int, dict[str, float | None]]]
    unused: set[str] = field(default_factory=set)
    is_read: bool = True

    @property
    def alike(self) -> list[tuple[str, int, str]]:
        """(entity, time, metric) that several rows have: they would be one series."""
        seen: dict[tuple[str, int, str], int] = {}
        for entity, time_ms, metrics in self.events:
            for metric, value in metrics.items():
                if value is not None:
                    key = (entity, time_ms, metric)
                    seen[key] = seen.get(key, 0) + 1
        return [key for key, count in seen.items() if count > 1]


class Previewer:
    """Routes records into values instead of a topic."""

    def __init__(self, settings: Settings) -> None:
        self._rules = RouteRules.of(settings)
        self._decoder = open_row_decoder(settings.route)
        self._texts: list[str] = []
        self._router = RowRouter(self._decoder, self._rules, self._schema_id)

    def show(self, place: str, value: bytes) -> Shown:
        """Return what a record gives."""
        routed = Routed()
        refusals = self._router.route(value, routed)
        texts = [self._texts[schema_id_of(one) or 0] for one in routed.values]
        events = [self._event(record) for record in decode_records(routed.values, texts)]
        why = "" if refusals is None else sentence(refusals, self._decoder)
        samples = self._samples(value)
        used = {NAME, *self._rules.entity.labels, *self._rules.metric.labels}
        unused = {name for sample in samples for name in sample.labels} - used
        return Shown(place, routed, refusals, why, events, unused, bool(samples))

    def _schema_id(self, metrics: Sequence[str]) -> int:
        rules = self._rules
        self._texts.append(
            wide_schema(rules.entity_field, metrics)
            if metrics
            else long_schema(rules.entity_field, rules.metric_field, rules.value_field)
        )
        return len(self._texts) - 1

    def _event(self, record: dict[str, Any]) -> tuple[str, int, dict[str, float | None]]:
        entity, time_ms = record.pop(self._rules.entity_field), record.pop(TIME_FIELD)
        if self._rules.metric_field:
            metrics = {record[self._rules.metric_field]: record[self._rules.value_field]}
        else:
            metrics = record
        return entity, time_ms, metrics

    def _samples(self, value: bytes) -> list[Sample]:
        try:
            return [row for row in self._decoder.rows(value) if isinstance(row, Sample)]
        except RecordRefused:
            return []


def preview(
    settings: Settings,
    files: Sequence[Path],
    limit: int,
    *,
    as_json: bool,
    out: TextIO | None = None,
) -> int:
    """Show what the newest records of the source, or files, would give; return how many.

    raises : ConfigError, TopicMismatch, TransportError
    """
    previewer = Previewer(settings)
    target = out or sys.stdout
    unused: set[str] = set()
    alike: list[tuple[str, int, str]] = []
    count = n_read = 0
    unread = b""
    for place, value in _records(settings, files, limit):
        shown = previewer.show(place, value)
        count += 1
        n_read += shown.is_read
        unread = unread if shown.is_read else value
        unused |= shown.unused
        alike += shown.alike
        lines = [_json(shown)] if as_json else _lines(shown)
        target.writelines(f"{line}\n" for line in lines)
    if as_json:
        return count
    if not count:
        target.write(f"{settings.route.source}: no records\n")
    if count and not n_read:
        target.write(_other_formats(settings.route, unread))
    if unused:
        target.write(f"labels that no template names: {', '.join(sorted(unused))}\n")
    if alike:
        entity, time_ms, metric = alike[0]
        target.write(
            f"! rows of one record have the same entity, time and metric, in"
            f" {_count(len(alike), 'case')} (the first: {entity}, {iso(time_ms)}, {metric}): name"
            " a label that tells them apart in route.entity or route.metric\n"
        )
    return count


def _records(settings: Settings, files: Sequence[Path], limit: int) -> Iterator[tuple[str, bytes]]:
    """Yield (where it is, value) of each record."""
    for path in files:
        yield str(path), path.read_bytes()
    if files:
        return
    topic = settings.route.source
    if not topic:
        raise ConfigError(
            "route.source (LAPWING_ROUTE__SOURCE, --source) is empty: name the topic to read, or"
            " files with --file"
        )
    low, high = topic_bounds(settings, topic)
    filled = max(1, sum(high[p] > low[p] for p in high))
    start = {p: max(low[p], high[p] - -(-limit // filled)) for p in high}
    for batch in Reader(settings).read(topic, start, high):
        for row in range(len(batch)):
            yield f"{topic}[{batch.partition}]@{int(batch.offsets[row])}", batch.values[row]


def _other_formats(route: RouteSettings, value: bytes) -> str:
    """Return a line about records that route.format does not read."""
    found = formats_that_read(route, value)
    advice = f"set route.format={' or '.join(found)}, which reads them" if found else ROUTE_PAGE
    return f"! route.format is {route.format}, which reads no row of these records: {advice}\n"


def _json(shown: Shown) -> str:
    return json.dumps(
        {
            "record": shown.place,
            "rows": shown.routed.rows,
            "left_out": shown.routed.left_out,
            "refused": shown.routed.refused,
            "because": shown.why or None,
            "events": [
                {"entity": entity, "time": iso(time_ms), "metrics": metrics}
                for entity, time_ms, metrics in shown.events
            ],
        },
        ensure_ascii=False,
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _lines(shown: Shown) -> list[str]:
    routed = shown.routed
    more = [f"{routed.left_out} without a number"] if routed.left_out else []
    more += [f"{routed.refused} refused"] if routed.refused else []
    counts = [_count(routed.rows, "row"), _count(len(shown.events), "event")]
    lines = [f"{shown.place}: {', '.join([*counts, *more])}"]
    for entity, time_ms, metrics in shown.events[:EVENTS_SHOWN]:
        cells = "  ".join(
            f"{name}={'null' if value is None else format(value, 'g')}"
            for name, value in metrics.items()
        )
        lines.append(f"  {entity}  {iso(time_ms)}  {cells}")
    if len(shown.events) > EVENTS_SHOWN:
        lines.append(f"  and {len(shown.events) - EVENTS_SHOWN} more")
    if shown.why:
        lines.append(f"  ! {shown.why}")
    return lines
