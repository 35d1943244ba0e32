"""Follows scores, anomalies or dead letters and prints each record as one line, or as JSON.

Invariant: a line depends only on its record; a record that cannot be decoded is reported and does
           not end the command.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TextIO

from shared.batch import Batch
from shared.encode.dead_letters import PREFIX, REASON
from shared.encode.results import Schema, decode_result
from shared.kafka import Reader
from shared.operations.telemetry import line
from shared.registry import Registry
from shared.settings import Settings
from shared.wording import iso, minute

SHOWN_BYTES = 32


@dataclass(frozen=True, slots=True)
class TailOptions:
    """The options of ``lapwing tail``.

    stream    : scores, anomalies or dlq
    limit     : end after this number of records; None = no limit
    timeout_s : end when no record came for this long; None = wait for ever
    """

    stream: str
    from_beginning: bool = False
    limit: int | None = None
    timeout_s: float | None = None
    as_json: bool = False


def follow(
    settings: Settings,
    options: TailOptions,
    out: TextIO | None = None,
    err: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Print records as they come; return how many.

    raises : TransportError, TopicMismatch
    """
    stream, timeout_s = options.stream, options.timeout_s
    topics = settings.topics
    topic_of = {"scores": topics.scores, "anomalies": topics.anomalies, "dlq": topics.dead_letters}
    topic = topic_of[stream]
    start: Literal["beginning", "end"] = "beginning" if options.from_beginning else "end"
    schemas_by_id = Registry(settings.registry)
    entity_name = "/".join(settings.input.entity_fields)
    target = out or sys.stdout
    shown = 0
    last_record_s = clock()

    def is_silent() -> bool:
        return timeout_s is not None and clock() - last_record_s >= timeout_s

    for batch in Reader(settings).follow(topic, start, stopping=is_silent):
        last_record_s = clock()
        for document in documents(batch, stream, schemas_by_id.schema):
            text = to_json(document) if options.as_json else to_line(stream, document, entity_name)
            target.write(text + "\n")
            shown += 1
            if shown == options.limit:
                target.flush()
                return shown
        target.flush()
    if not shown and timeout_s is not None:
        hint = "" if options.from_beginning else "; --from-beginning shows the existing records"
        (err or sys.stderr).write(f"no record within {timeout_s:g} s from {topic}{hint}\n")
    return shown


def documents(batch: Batch, stream: str, schema: Schema) -> Iterator[dict[str, Any]]:
    """Decode a batch, one mapping per record."""
    for row in range(len(batch)):
        yield dead_letter(batch, row) if stream == "dlq" else _decoded(batch, row, schema)


def dead_letter(batch: Batch, row: int) -> dict[str, Any]:
    """Return what a dead letter's headers contain, and the first bytes of the record."""
    headers = {name: value.decode("utf-8", "replace") for name, value in batch.headers.get(row, ())}
    value = batch.values[row]
    return {
        "reason": headers.get(REASON, "unknown"),
        "source_topic": headers.get(PREFIX + "topic", ""),
        "source_partition": _number(headers.get(PREFIX + "partition")),
        "source_offset": _number(headers.get(PREFIX + "offset")),
        "message": headers.get(PREFIX + "exception.message", ""),
        "key": batch.keys[row].decode("utf-8", "replace"),
        "size_bytes": len(value),
        "first_bytes": value[:SHOWN_BYTES].hex(" "),
    }


def to_json(document: Mapping[str, Any]) -> str:
    """Write a record as one line of JSON; its event time as ISO 8601 UTC."""
    times = ("event_time", "since", "episode_start", "peak_time")
    shown = {
        name: iso(value) if name in times and value is not None else value
        for name, value in document.items()
    }
    return json.dumps(shown, ensure_ascii=False)


def to_line(stream: str, document: Mapping[str, Any], entity_name: str) -> str:
    """Write a record as one line for a person."""
    if "undecodable" in document:
        return line("undecodable", document)
    if stream == "dlq":
        source = (
            f"{document['source_topic']}[{document['source_partition']}]"
            f"@{document['source_offset']}"
        )
        fields = {
            "source": source,
            "key": document["key"],
            "size_bytes": document["size_bytes"],
            "bytes": document["first_bytes"],
        }
        return line(f"dead letter {document['reason']}", fields | {"because": document["message"]})
    fields = {"at": minute(document["event_time"]), entity_name: document["entity"]}
    if stream == "anomalies":
        phase = document.get("phase")
        given = {
            "phase": phase if phase == "worse" else None,
            "score": document["score"],
            "severity": document["severity_class"],
            "closed": document.get("closed_because"),
        }
        fields |= {name: value for name, value in given.items() if value is not None}
        return line(document["kind"], fields | {"because": document["reason"]})
    fields |= {"state": document["state"]}
    fields |= {name: document[name] for name in ("score", "severity") if document[name] is not None}
    if document["state"] == "WARMING" and document.get("warmup_percent") is not None:
        fields |= {"warmup": f"{document['warmup_percent']:.0f}%"}
    marks = ("is_anomaly", "cold_start", "late", "ahead", "duplicate", "imputed")
    fields |= {mark: "yes" for mark in marks if document.get(mark)}
    if document.get("episode_id") and not document["is_anomaly"]:
        fields |= {"in_episode": "yes"}
    fields |= {metric["name"]: _measured(metric) for metric in document["metrics"]}
    return line("score", fields)


def _measured(metric: Mapping[str, Any]) -> str:
    value = "missing" if metric["value"] is None else f"{metric['value']:.4g}"
    if metric["lower"] is None or metric["upper"] is None:
        return value
    return f"{value}({metric['lower']:.4g}..{metric['upper']:.4g})"


def _decoded(batch: Batch, row: int, schema: Schema) -> dict[str, Any]:
    value = batch.values[row]
    place = f"{batch.topic}[{batch.partition}]@{int(batch.offsets[row])}"
    try:
        return decode_result(value, schema)
    except ValueError as error:
        return {"undecodable": place, "bytes": value[:SHOWN_BYTES].hex(" "), "because": str(error)}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.lstrip("-").isdigit() else None
