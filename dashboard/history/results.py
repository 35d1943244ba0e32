"""Records of the topics of results, decoded for the history.

Invariant: a record that cannot be decoded is counted and skipped; it never stops the reader.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shared.batch import Batch
from shared.encode.dead_letters import PREFIX, REASON
from shared.encode.results import Schema, decode_result
from shared.incidents.feedback import complete
from shared.kernels.units import MINUTE_MS

Stream = Literal["scores", "anomalies", "dead_letters", "incidents", "activations", "feedback"]
SHOWN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Arrived:
    """Decoded records of one batch.

    next_offset : the offset after the batch's last record
    written_ms  : Kafka's timestamp of each record in the batch
    undecodable : coordinates of records that could not be decoded
    """

    topic: str
    partition: int
    next_offset: int
    written_ms: Sequence[int]
    scores: Sequence[Mapping[str, Any]] = ()
    anomalies: Sequence[Mapping[str, Any]] = ()
    dead_letters: Sequence[Mapping[str, Any]] = ()
    incidents: Sequence[Mapping[str, Any]] = ()
    activations: Sequence[Mapping[str, Any]] = ()
    feedback: Sequence[Mapping[str, Any]] = ()
    undecodable: Sequence[str] = ()

    def minutes(self) -> Mapping[int, int]:
        """Return how many records were written in each minute since 1970."""
        return Counter(written // MINUTE_MS for written in self.written_ms)


def decode(batch: Batch, stream: Stream, schema: Schema) -> Arrived:
    """Decode a batch.

    schema : id -> text of the writer schema; None = not known
    raises : what ``schema`` raises, e.g. TransportError without a registry
    """
    documents: list[Mapping[str, Any]] = []
    undecodable = []
    for row in range(len(batch)):
        if stream == "dead_letters":
            documents.append(_dead_letter(batch, row))
            continue
        value = batch.values[row]
        if stream == "feedback" and not value:
            key = batch.keys[row].decode("utf-8", "replace")
            documents.append({"incident_id": key, "was": None})
            continue
        if stream == "incidents" and not value:
            key = batch.keys[row].decode("utf-8", "replace")
            documents.append({"incident_id": key, "state": "deleted"})
            continue
        try:
            document: Mapping[str, Any] = decode_result(value, schema)
            if stream == "activations":
                document = {**document, "written_ms": int(batch.broker_ms[row])}
            documents.append(_COMPLETE[stream](document))
        except (ValueError, KeyError) as error:
            place = f"{batch.topic}[{batch.partition}]@{int(batch.offsets[row])}"
            undecodable.append(f"{place}: {error}")
    return Arrived(
        batch.topic,
        batch.partition,
        int(batch.offsets[-1]) + 1,
        batch.broker_ms.tolist(),
        undecodable=tuple(undecodable),
        **{stream: documents},
    )


def _score(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Complete a score event of an earlier version; raise KeyError for another record."""
    if not document.keys() >= _SCORE_FIELDS:
        raise KeyError(*sorted(_SCORE_FIELDS - document.keys()))
    if document.keys() >= _LATER_FIELDS:
        return document
    return {"ahead": False, "episode_id": None} | dict(document)


def _anomaly(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Complete an anomaly event of an earlier version; raise KeyError for another record."""
    for name in ("event_id", "kind", "entity", "event_time", "reason", "source_offset"):
        document[name]
    return dict.fromkeys(_EPISODE_FIELDS) | dict(document)


def _incident(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an incident; raise KeyError for another record."""
    for name in _INCIDENT_FIELDS:
        document[name]
    return document


def _activation(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an activation with its settings as an object; raise KeyError for another record."""
    for name in ("group", "source_topic", "source_partition", "source_offset", "model_sha256"):
        document[name]
    return {**document, "settings": json.loads(document.get("settings") or "{}")}


_SCORE_FIELDS = {
    "entity", "event_time", "score", "severity", "threshold", "is_anomaly", "state",
    "warmup_percent", "warmup_minutes_left", "top_metric", "late", "imputed", "model_id",
    "source_partition", "source_offset", "metrics",
}  # fmt: skip
_LATER_FIELDS = {"ahead", "episode_id"}
_EPISODE_FIELDS = (
    "episode_id", "phase", "episode_start", "peak_time", "peak_value", "peak_severity",
    "closed_because", "metric", "severity", "severity_class", "direction",
)  # fmt: skip
_INCIDENT_FIELDS = (
    "incident_id", "state", "title", "severity", "severity_class", "start", "end", "entities",
    "metrics", "episodes",
)  # fmt: skip
_COMPLETE = {
    "scores": _score,
    "anomalies": _anomaly,
    "incidents": _incident,
    "activations": _activation,
    "feedback": complete,
}


def _dead_letter(batch: Batch, row: int) -> Mapping[str, Any]:
    headers = {name: value.decode("utf-8", "replace") for name, value in batch.headers.get(row, ())}
    value = batch.values[row]
    return {
        "offset": int(batch.offsets[row]),
        "written_ms": int(batch.broker_ms[row]),
        "reason": headers.get(REASON, "unknown"),
        "message": headers.get(PREFIX + "exception.message", ""),
        "source_topic": headers.get(PREFIX + "topic", ""),
        "source_partition": headers.get(PREFIX + "partition", ""),
        "source_offset": headers.get(PREFIX + "offset", ""),
        "key": batch.keys[row].decode("utf-8", "replace"),
        "size_bytes": len(value),
        "first_bytes": value[:SHOWN_BYTES].hex(" "),
    }
