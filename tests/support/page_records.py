"""Score and anomaly events as batches of a topic, for tests of the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

import schemas
from dashboard.history.results import Arrived, Stream, decode
from shared.batch import Batch, Blob
from shared.encode.records import encode_records
from shared.incidents.embedding import embedding_of
from shared.incidents.incident import Change, Ended, Episode, EpisodeKind, Incident

START_MS = 1_397_606_400_000
STEP_MS = 300_000
WRITTEN_MS = 1_700_000_000_000
SCHEMAS = {
    1: schemas.text(schemas.SCORE_EVENT),
    2: schemas.text(schemas.ANOMALY_EVENT),
    3: schemas.text(schemas.INCIDENT),
    4: schemas.text(schemas.MODEL_ACTIVATION),
}
SCHEMA_OF = {"scores": 1, "anomalies": 2, "incidents": 3, "activations": 4}


def event_id(number: int) -> str:
    return f"{number:032x}"


def score(row: int, entity: str = "web-1", **given: Any) -> dict[str, Any]:
    """The score event of row ``row``: cpu is 10 + row % 5."""
    value = given.pop("value", 10.0 + row % 5)
    metric = {"name": "cpu", "value": value, "expected": 12.0, "lower": 8.0, "upper": 16.0}
    return {
        "event_id": event_id(row),
        "detector_id": "ensemble",
        "entity": entity,
        "event_time": START_MS + row * STEP_MS,
        "score": 0.25,
        "severity": 0.2,
        "threshold": 1.0,
        "state": "READY",
        "top_metric": "cpu",
        "source_topic": "metrics.cloudwatch.raw",
        "source_partition": 0,
        "source_offset": row,
        "metrics": [metric | {"severity": 0.2}],
        **given,
    }


def anomaly(row: int, entity: str = "web-1", **given: Any) -> dict[str, Any]:
    """The alarm that opens an episode at row ``row``."""
    time_ms = START_MS + row * STEP_MS
    return {
        "event_id": event_id(1_000_000 + row),
        "detector_id": "ensemble",
        "kind": "anomaly",
        "entity": entity,
        "metric": "cpu",
        "event_time": time_ms,
        "value": 98.0,
        "expected": 12.0,
        "severity": 0.9,
        "severity_class": "critical",
        "score": 3.5,
        "threshold": 1.0,
        "is_anomaly": True,
        "state": "READY",
        "reason": "cpu is 98, usually about 12",
        "attributions": {"cpu.value": 1.0},
        "episode_id": event_id(1_000_000 + row),
        "phase": "open",
        "episode_start": time_ms,
        "peak_time": time_ms,
        "peak_value": 98.0,
        "peak_severity": 0.9,
        "source_topic": "metrics.cloudwatch.raw",
        "source_partition": 0,
        "source_offset": row,
        **given,
    }


def closed(opened: dict[str, Any], row: int, because: str = "recovered") -> dict[str, Any]:
    """The end of an episode at row ``row``."""
    return opened | {
        "event_id": event_id(2_000_000 + row),
        "kind": "episode_closed",
        "event_time": START_MS + row * STEP_MS,
        "is_anomaly": False,
        "severity": None,
        "severity_class": None,
        "score": None,
        "threshold": None,
        "attributions": {},
        "phase": "closed",
        "closed_because": because,
    }


def incident(opened: Sequence[dict[str, Any]], revision: int = 1, end_row: int | None = None):
    """The incident of some opening anomalies; it is closed where an end is given."""
    episodes = tuple(_episode(event, end_row) for event in opened)
    change = Change.OPENED if revision == 1 else Change.UPDATED
    return Incident(
        incident_id=opened[0]["event_id"],
        revision=revision,
        change=change if end_row is None else Change.CLOSED,
        opened_offset=0,
        offset=revision,
        recorded_ms=WRITTEN_MS,
        window_start=opened[0]["event_time"],
        episodes=episodes,
    ).record()


def _episode(event: dict[str, Any], end_row: int | None) -> Episode:
    return Episode(
        episode_id=event["episode_id"],
        kind=EpisodeKind.ANOMALY,
        entity=event["entity"],
        metric=event["metric"],
        metrics=(event["metric"],),
        direction="up",
        reason=event["reason"],
        start=event["event_time"],
        end=None if end_row is None else START_MS + end_row * STEP_MS,
        closed_because=None if end_row is None else Ended.RECOVERED,
        severity=event["severity"],
        peak_time=event["peak_time"],
        peak_value=event["peak_value"],
        embedding=embedding_of(event),
    )


def activation(partition: int, offset: int, sha256: str = "", **detection: Any) -> dict[str, Any]:
    """What scores a partition from an offset on; ``detection`` are settings of the detector."""
    return {
        "group": "lapwing-prediction",
        "source_topic": "metrics.cloudwatch.raw",
        "source_partition": partition,
        "source_offset": offset,
        "detector_id": "ensemble",
        "model_sha256": sha256,
        "model_version": "2014-04-16T00:00:00Z" if sha256 else "",
        "state_version": 7,
        "settings": json.dumps({"detection": detection}),
    }


def batch(stream: Stream, records: Sequence[dict[str, Any]], first_offset: int = 0) -> Batch:
    """Records as they lie in their topic."""
    schema_id = SCHEMA_OF[stream]
    values = encode_records(SCHEMAS[schema_id], schema_id, records)
    count = len(records)
    return Batch(
        f"{stream}.topic",
        0,
        values,
        Blob.join([b"key"] * count),
        np.arange(count, dtype=np.int64) + first_offset,
        np.full(count, WRITTEN_MS, np.int64),
    )


def arrived(stream: Stream, records: Sequence[dict[str, Any]], first_offset: int = 0) -> Arrived:
    """Records as the readers hand them to the writer."""
    return decode(batch(stream, records, first_offset), stream, SCHEMAS.get)
